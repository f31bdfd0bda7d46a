"""Likelihoods of some observed sites given others, of multimodal models and of any other pair."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.multimodal.pairs import data_of, exact
from tests.multimodal.toys import C2, OTHER


@pytest.mark.slow("numpyro-other")
@pytest.mark.parametrize("toy", [C2, OTHER], ids=["C2", "other"])
def test_conditional_likelihoods(lib: Any, toy: Any, x64: None) -> None:
    """With exact guides log p(b | a) comes out without noise, from weights and from sums."""
    wanted = toy.evidence((0, 1)) - toy.evidence((0,))
    log_weights, data = lib.package.evaluation.log_weights, data_of(toy, 3)
    mvae = exact(lib, "MVAE", toy)
    log_w = np.asarray(log_weights(mvae, data, num_particles=4, given="a"))
    np.testing.assert_allclose(log_w, np.full((4, 3), wanted), rtol=1e-10)
    if toy is C2:
        assert np.allclose(np.round(log_w, 8), -1.86963239, atol=1e-12)
        report = lib.package.evaluation.log_likelihood(
            mvae, data, num_particles=4, given="b", progress=False
        )
        np.testing.assert_allclose(report["IWAE"], C2.evidence((0, 1)) - C2.evidence((1,)))
        np.testing.assert_allclose(report["IWAE error"], 0.0, atol=1e-7)


def test_any_pair(lib: Any, x64: None) -> None:
    """A guide that knows nothing of it draws from all data: the estimate is still consistent."""
    dist = lib.dist

    def model(a: Any, b: Any) -> None:
        with lib.plate("data", len(a)):
            z = lib.sample("z", dist.Normal(lib.array(np.array(0.0)), 1.0))
            lib.sample("a", dist.Normal(z, 0.5**0.5), obs=a)
            lib.sample("b", dist.Normal(0.5 * z + 0.2, 0.5), obs=b)

    def guide(a: Any, b: Any) -> None:
        with lib.plate("data", len(a)):
            lib.sample("z", dist.Normal(0.25 * a + 0.0 * b, 1.0))

    run = SimpleNamespace(model=model, guide=guide)
    data = tuple(x[:, 0] for x in data_of(C2, 2).values())
    evaluation = lib.package.evaluation
    report = evaluation.log_likelihood(
        run, *data, num_particles=40000, given="a", progress=False, chunk_size=80000
    )
    wanted = C2.evidence((0, 1)) - C2.evidence((0,))
    assert (abs(report["IWAE"] - wanted) < 5 * report["IWAE error"]).all()
    assert (report["IWAE error"] < 0.02).all()
    for given, message in (
        ("c", r"given names \['c'\], but the observed sites are \['a', 'b'\]"),
        (("a", "b"), "given names all observed sites"),
        (3, "given must be the name of an observed site"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.log_weights(run, *data, num_particles=2, given=given)


def test_a_guide_that_tells_without_dropping_arguments(lib: Any, x64: None) -> None:
    """Its `given` puts None in the place of the others, or says so by a flag: each is the evidence
    of what is given.
    """
    dist = lib.dist

    def model(a: Any, b: Any, both: bool = True) -> None:
        with lib.plate("data", len(a)):
            z = lib.sample("z", dist.Normal(lib.array(np.array(0.0)), 1.0))
            lib.sample("a", dist.Normal(z, 0.5**0.5), obs=a)
            if both and b is not None:
                lib.sample("b", dist.Normal(0.5 * z + 0.2, 0.5), obs=b)

    def guide(a: Any, b: Any, both: bool = True) -> None:
        precision, mean = 1 + 2.0, 2 * a
        if both and b is not None:
            precision, mean = precision + 1, mean + 2 * (b - 0.2)
        with lib.plate("data", len(a)):
            lib.sample("z", dist.Normal(mean / precision, precision**-0.5))

    data = tuple(x[:, 0] for x in data_of(C2, 2).values())
    wanted = np.full((3, 2), C2.evidence((0, 1)) - C2.evidence((0,)))
    for given in (
        lambda names, args, kwargs: ((args[0], None), kwargs),
        lambda names, args, kwargs: (args, {"both": False}),
    ):
        guide.given = given  # type: ignore[attr-defined]
        run = SimpleNamespace(model=model, guide=guide)
        log_w = lib.package.evaluation.log_weights(run, *data, num_particles=3, given="a")
        np.testing.assert_allclose(np.asarray(log_w), wanted, rtol=1e-10)
