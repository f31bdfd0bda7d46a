"""Calibration: posteriors that are right are not rejected, and others are found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

SIZE = 4


def conjugate(b: Any, factor: float = 1.0, shift: float = 0.0) -> tuple[Callable, Callable]:
    """mu ~ N(0.5, 1), x_n ~ N(mu, 1): the posterior of mu with its sd multiplied, and shifted."""
    d = b.dist

    def model(inputs: Any, x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.5), 1.0))
        with b.plate("data", len(inputs)):
            b.sample("x", d.Normal(mu, 1.0), obs=x)

    def guide(inputs: Any, x: Any) -> None:
        total = SIZE + 1
        b.sample("mu", d.Normal((0.5 + x.sum()) / total + shift, factor / total**0.5))

    return model, guide


def calibrated(b: Any, factor: float = 1.0, shift: float = 0.0, num: int = 600) -> Any:
    run = b.run(*conjugate(b, factor, shift))
    data = np.arange(SIZE, dtype=float), np.zeros(SIZE)
    return b.evaluation.calibrate(run, run, *data, num_simulations=num, progress=False)


def test_the_exact_posterior_is_not_rejected(backend: Any) -> None:
    found = calibrated(backend)
    assert found.ranks["mu"].shape == (600,) and found.labels == ["mu"]
    assert found.p_value > 0.01
    levels = (0.5, 0.9)
    for level, share in zip(levels, found.coverage(levels)["mu"], strict=True):
        assert share == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 600))
    assert found.contraction()["mu"] == pytest.approx(1 - 1 / 5, abs=0.04)
    z = found.z_scores()["mu"]
    assert z.mean() == pytest.approx(0, abs=0.16) and z.std() == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(("factor", "shift"), [(0.8, 0.0), (1.0, 0.12)])
def test_what_is_wrong_is_found(backend: Any, factor: float, shift: float) -> None:
    """A posterior that is 20 % too narrow; and one that is shifted by a quarter of its sd."""
    found = calibrated(backend, factor, shift)
    assert found.p_value < 0.01
    if factor < 1:  # ranks at both ends: 95 % intervals hold the truth in 88 %
        assert found.coverage(0.95)["mu"][0] < 0.92
    else:  # most truths lie below
        assert found.ranks["mu"].mean() < 45


def test_local_latents_are_pooled(backend: Any) -> None:
    """One data set of many data; the second entry is too narrow, the first is right."""
    b, d = backend, backend.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(b.array(np.zeros(2)), 1.0).to_event(1))
            b.sample("x", d.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("z", d.Normal(x / 2, b.array([0.5, 0.3]) ** 0.5).to_event(1))

    run = b.run(model, guide)
    found = b.evaluation.calibrate(
        model, run, np.zeros((600, 2)), num_simulations=1, num_draws=99, progress=False
    )
    assert found.ranks["z"].shape == (600, 2)
    p = found.p_values()["z"]
    assert p[0] > 0.01 > p[1]
    assert repr(found).endswith("worst z[1])")


@pytest.mark.filterwarnings("ignore:Model or guide does not broadcast")
@pytest.mark.slow("numpyro")
def test_a_posterior_that_is_made_for_each_data_set(backend: Any) -> None:
    """Draws, and runs; two sites are observed, one of them an integer, under a mask."""
    b, d = backend, backend.dist
    rng = np.random.default_rng(0)

    def model(x: Any, y: Any = None) -> None:
        p = b.sample("p", d.Beta(b.array(2.0), 1.0))
        with b.plate("coins", 6):
            b.sample("y", d.Bernoulli(p), obs=y)
        with b.plate("more", 3):
            b.sample("x", d.Bernoulli(p), obs=x)

    def exact(x: Any, y: Any) -> dict[str, np.ndarray]:
        assert y.dtype == np.int64 and x.dtype == np.float64
        heads = x.sum() + y.sum()
        return {"p": rng.beta(2 + heads, 1 + 9 - heads, size=200)}

    data = {"x": np.array([0.0, 1.0, 0.0]), "y": np.array([1, 1, 0, 1, 1, 0])}
    options: dict[str, Any] = {"num_simulations": 400, "num_draws": 19, "progress": False}
    found = b.evaluation.calibrate(model, exact, data, **options)
    assert found.ranks["p"].shape == (400,) and found.p_value > 0.01
    wrong = b.evaluation.calibrate(
        model, lambda x, y: {"p": rng.beta(2 + x.sum(), 1 + y.sum(), size=19)}, data, **options
    )
    assert wrong.p_value < 1e-6

    def made(x: Any, y: Any) -> Any:
        def guide(x: Any, y: Any) -> None:
            b.sample("p", d.Beta(b.array(2.0), 1.0))

        return b.run(model, guide)

    options |= {"num_simulations": 3}
    assert b.evaluation.calibrate(model, made, data, **options).ranks["p"].shape == (3,)


def test_what_is_refused(backend: Any) -> None:
    b, d = backend, backend.dist
    model, guide = conjugate(b)

    def blind(inputs: Any, x: Any) -> None:
        b.sample("mu", d.Normal(b.array(0.5), 1.0))

    run, data = b.run(model, guide), (np.arange(SIZE, dtype=float), np.zeros(SIZE))
    same = (np.zeros(SIZE), np.zeros(SIZE))
    few, wide = {"mu": np.zeros(5)}, {"mu": np.zeros((99, SIZE))}
    for arguments, options, words in (
        ((model, b.run(model, blind), *data), {}, "The guide does not look at its data"),
        ((model, run, *same), {}, "More than one argument equals what site 'x' observes"),
        ((model, "run", *data), {}, "posterior must be a run, or a function of the simulated"),
        ((model, lambda i, x: few, *data), {}, "must have 99 draws or more, got 5 of site 'mu'"),
        ((model, lambda i, x: {"mu": 3.0}, *data), {}, "99 draws or more, got 1 of site 'mu'"),
        (
            (model, lambda i, x: wide, *data),
            {},
            r"draws of site 'mu' must have the shape \(99,\), .* got \(99, 4\)",
        ),
        ((None, run, *data), {}, "model must be callable, or a run, got None"),
        ((model, run, *data), {"arguments": 0}, "arguments must be a dict of observed sites"),
        ((model, run, *data), {"arguments": {"x": True}}, "arguments must map observed sites"),
        ((model, lambda i, x: 3, *data), {}, "must be a run, chains, or draws by site, got 3"),
        ((model, run, *data), {"num_draws": 0}, "num_draws must be an integer of at least 1"),
        ((model, run, *data), {"arguments": {"x": "nosuch"}}, "arguments must map observed sites"),
    ):
        with pytest.raises(ValueError, match=words):
            b.evaluation.calibrate(*arguments, num_simulations=2, progress=False, **options)
    options = {"num_simulations": 2, "progress": False, "arguments": {"x": 1}}
    assert b.evaluation.calibrate(model, run, *same, **options).num_simulations == 2
