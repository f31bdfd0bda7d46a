"""Terms that distributions bring themselves, and the commitment of vectors to codes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

CODES = np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
BATCH = np.array([[0.2, -0.1], [0.4, 0.3], [0.9, 1.2], [1.5, 0.7]])
X = np.array([[0.3, -1.2], [1.1, 0.4], [2.0, 0.1], [-0.7, 0.9], [0.2, 0.8]])


def register(backend: Any, name: str, module: Any) -> Any:
    package = __import__(f"{backend.name}_dgm.nn", fromlist=["register"])
    return package.register(name, module)


def quantizer(backend: Any, decay: float | None) -> Any:
    made = backend.conditionals.VectorQuantizer
    if backend.name == "pyro":
        module = made(2, 3, decay=decay)
        for part in ("codes", "used") if decay is not None else ("codes",):
            getattr(module, part).data.copy_(backend.array(CODES))
        return module
    import equinox as eqx

    from numpyro_dgm.conditionals.quantized import Untrained

    module = made(2, 3, decay=decay, key=backend.jax.random.key(0))
    if decay is None:
        return eqx.tree_at(lambda q: q.codes, module, backend.array(CODES))
    return eqx.tree_at(lambda q: q.initial, module, Untrained(backend.array(CODES)))


def coded(backend: Any, decay: float | None) -> tuple[Callable, Callable]:
    """z ~ uniform over codes;  x ~ Normal(z, 0.5);  q(z | x) the code nearest to x + shift."""
    codes, dist = quantizer(backend, decay), backend.dist

    def model(x: Any) -> None:
        own = register(backend, "quantizer", codes)
        with backend.plate("data", len(x)):
            z = backend.sample("z", own.prior())
            backend.sample("x", dist.Normal(z, backend.array(0.5)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        own = register(backend, "quantizer", codes)
        with backend.plate("data", len(x)):
            backend.sample("z", own(x + backend.param("shift")))

    return model, guide


@pytest.mark.parametrize("decay", [0.9, None])
def test_commitment_in_a_loss(backend: Any, decay: float | None) -> None:
    """The toy of `tests/twins/test_quantizers.py` as a model and guide: the bound has log 1/K for
    each code, gradients pass straight through it, and a guide that is run again in the same step
    finds the same codes.
    """
    losses = backend.losses
    model, guide = coded(backend, decay)
    params = {"shift": np.zeros((4, 2))}
    z = CODES[[0, 0, 1, 1]]
    fit = -0.5 * ((BATCH - z) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi))
    bound = fit.sum() / 4 - np.log(3)
    through = -(BATCH - z) / 0.25  # -d fit / dz
    if backend.name == "pyro":  # each run moves the codes
        one = backend.evaluate(losses.ELBO(), *coded(backend, decay), BATCH, params=params)
        assert one[1]["ELBO"] == pytest.approx(bound)
    loss = losses.ELBO() + losses.Commitment("z")
    total, terms, gradients = backend.evaluate(loss, model, guide, BATCH, params=params)
    expected = 0.25 * 0.08625 + (0.08625 if decay is None else 0.0)
    assert terms["Commitment(z)"] == pytest.approx(expected, abs=1e-12)
    assert terms["ELBO"] == pytest.approx(bound)
    assert total == pytest.approx(4 * (expected - bound))
    commitment = 4 * np.array(
        [[0.0125, -0.00625], [0.025, 0.01875], [-0.00625, 0.0125], [0.03125, -0.01875]]
    )
    np.testing.assert_allclose(gradients["shift"], through + commitment, atol=1e-9)
    loss = losses.IWAE(2, estimator="dreg") + losses.ELBO(estimator="stl")
    _, terms, gradients = backend.evaluate(loss, *coded(backend, decay), BATCH, params=params)
    assert terms["IWAE"] == pytest.approx(bound) and terms["ELBO"] == pytest.approx(bound)
    np.testing.assert_allclose(gradients["shift"], 2 * through, atol=1e-9)


def matched(backend: Any) -> tuple[Callable, Callable]:
    """x ~ Normal(m, s) entry by entry, whose objective is that of score matching, some rows masked,
    others beyond the batch; w ~ Normal(m, 1), one for all, likewise.
    """
    dist, array, np_ = backend.dist, backend.array, backend.np

    class Matched(dist.Normal):  # type: ignore[misc, name-defined]
        def objective(self, value: Any) -> Any:
            score = (self.loc - value) / self.scale**2
            return score**2 / 2 - 1 / self.scale**2

    def model(x: Any, size: int) -> None:
        m, s = backend.param("m"), backend.param("s")
        backend.sample("w", Matched(m, array(1.0)))
        mask = backend.array([1, 1, 0, 1, 1]) > 0
        with backend.plate("data", size, subsample_size=len(x)), backend.mask(mask):
            backend.sample("x", Matched(m + np_.zeros_like(x), s).to_event(1), obs=x)

    def guide(x: Any, size: int) -> None:
        backend.sample("w", dist.Normal(array(0.3), array(1e-9)))

    return model, guide


def test_an_objective_of_ones_own(backend: Any) -> None:
    """Score matching of a normal distribution: per datum, scaled, masked, and summed over the event
    as its log-density is; a global site counts once.
    """
    model, guide = matched(backend)
    params = {"m": np.array(0.4), "s": np.array(1.5)}
    loss = backend.losses.Objective("x") + 2.0 * backend.losses.Objective("w")
    total, terms, gradients = backend.evaluate(loss, model, guide, X, params=params, size=20)
    seen, variance = X[[0, 1, 3, 4]], 1.5**2
    per_entry = (seen - 0.4) ** 2 / variance**2 / 2 - 1 / variance
    local, shared = per_entry.sum() / 5, ((0.3 - 0.4) ** 2 / 2 - 1) / 20
    assert terms["Objective(x)"] == pytest.approx(local)
    assert terms["Objective(w)"] == pytest.approx(shared, abs=1e-8)
    assert total == pytest.approx(20 * (local + 2 * shared))
    slope = 20 * (0.4 - seen).sum() / variance**2 / 5 + 2 * (0.4 - 0.3)
    assert gradients["m"] == pytest.approx(slope, rel=1e-6)


def test_what_is_refused(backend: Any) -> None:
    losses, dist, array = backend.losses, backend.dist, backend.array

    class Wrong(dist.Normal):  # type: ignore[misc, name-defined]
        def objective(self, value: Any) -> Any:
            return value[..., None] * backend.np.ones_like(array([1.0, 2.0]))

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array(0.0), array(1.0)))
            backend.sample("x", Wrong(z, array(1.0)), obs=x[:, 0])

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(array(0.0), array(1.0)))

    for loss, program, message in (
        (losses.Objective("x"), model, r"objective of site 'x' .* 1 dim.* got .*5, 2.*'objective'"),
        (losses.Objective("y"), model, r"no sample site \['y'\]; it has \['x', 'z'\]"),
        (losses.Objective("z"), guide, r"method objective\(value\), and those of site 'z' have"),
        (losses.Commitment("z"), guide, r"draws from a quantizer, and 'z' is drawn from Normal"),
    ):
        with pytest.raises(ValueError, match=message):
            backend.evaluate(loss, program, guide, X, params={})
    with pytest.raises(ValueError, match="weight must be a number of at least 0 or a schedule"):
        losses.Commitment("z", -0.25)
    assert repr(losses.Commitment("z", 1.0)) == "Commitment('z', 1.0)"
