"""Log-densities, means and variances in single precision, held to scipy's in double precision for
parameters where the textbook formulas difference large numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special, stats

from tests.contracts.libraries import PyroLibrary


def raw_of(value: Any, floor: float) -> np.ndarray:
    """The real number that `positive(raw, floor)` maps to `value`."""
    x = np.asarray(value, float) - floor
    return np.where(x > 30, x, np.log(np.expm1(np.minimum(x, 30)))) - np.log(np.expm1(1 - floor))


def found(
    lib: Any, name: str, raw: Any, **functions: Callable[[Any], Any]
) -> dict[str, np.ndarray]:
    """Of distributions of single numbers in single precision: parameters as they were rounded,
    draws, log-densities and what else is asked, all in double precision now.
    """
    module = lib.build("conditionals", name, 1)
    columns = np.stack(np.broadcast_arrays(*raw), -1).astype(np.float32)

    def run(raw: Any) -> dict[str, Any]:
        p = module.build(raw).base_dist
        x = lib.draw(p, (20,))
        parts = {name: getattr(p, name) for name in p.arg_constraints}
        others = {name: function(p) for name, function in functions.items()}
        return {"x": x, "log_prob": p.log_prob(x), **parts, **others}

    arrays = lib.call(run, lib.array(columns))
    return {name: lib.numpy(array).astype(float)[..., 0] for name, array in arrays.items()}


def mean(p: Any) -> Any:
    return p.mean


def variance(p: Any) -> Any:
    return p.variance


def entropy(p: Any) -> Any:
    return p.entropy()


WIDE = 10.0 ** np.arange(-1, 8)
PAIRS = [grid.ravel() for grid in np.meshgrid(WIDE, WIDE)]


def test_student_t_with_many_degrees_of_freedom(lib: Any) -> None:
    raw = 0.3, 0.0, raw_of(10.0 ** np.arange(0.5, 9), 1e-4)
    ours = found(lib, "StudentT", raw, entropy=entropy)
    assert ours["df"].max() > 1e8
    exact = stats.t(ours["df"], ours["loc"], ours["scale"])
    np.testing.assert_allclose(ours["log_prob"], exact.logpdf(ours["x"]), atol=1e-5)
    np.testing.assert_allclose(ours["entropy"], exact.entropy(), atol=1e-4)


def test_beta_with_large_concentrations(lib: Any) -> None:
    ours = found(lib, "Beta", [raw_of(x, 1e-2) for x in PAIRS], variance=variance)
    exact = stats.beta(ours["concentration1"], ours["concentration0"])
    np.testing.assert_allclose(ours["log_prob"], exact.logpdf(ours["x"]), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours["variance"], exact.var(), rtol=1e-5)


def test_kumaraswamy_with_large_concentrations(lib: Any) -> None:
    raw = [raw_of(x, 1e-2) for x in PAIRS]
    ours = found(lib, "Kumaraswamy", raw, mean=mean, variance=variance)
    a, b, log_x = ours["concentration1"], ours["concentration0"], np.log(ours["x"])
    exact = np.log(a * b) + (a - 1) * log_x + (b - 1) * np.log(-np.expm1(a * log_x))
    safe = ours["x"] ** a > 1e-12  # of the reference
    np.testing.assert_allclose(ours["log_prob"][safe], exact[safe], rtol=1e-3, atol=1e-3)
    first, second = (np.log(b) + special.betaln(1 + k / a, b) for k in (1, 2))
    np.testing.assert_allclose(ours["mean"], np.exp(first), rtol=1e-4, atol=1e-30)
    spread, safe = np.exp(second) * -np.expm1(2 * first - second), (a < 1e4) & (b < 1e4)
    np.testing.assert_allclose(ours["variance"][safe], spread[safe], rtol=1e-3, atol=1e-30)


def test_variance_of_kumaraswamy_with_small_concentrations(lib: Any) -> None:
    """Down to the smallest b, where logarithms of numbers near 1 were differenced."""
    grid = np.meshgrid(10.0 ** np.arange(-1.5, 3.1, 0.5), 0.01 + 10.0 ** np.arange(-4, 0.1, 0.5))
    raw = [raw_of(x.ravel(), 1e-2) for x in grid]
    ours = found(lib, "Kumaraswamy", raw, variance=variance)
    a, b = ours["concentration1"], ours["concentration0"]
    assert b.min() < 0.0102
    first, second = (np.log(b) + special.betaln(1 + k / a, b) for k in (1, 2))
    exact = np.exp(second) * -np.expm1(2 * first - second)
    np.testing.assert_allclose(ours["variance"], exact, rtol=1e-3)


def test_kumaraswamy_where_a_power_vanishes(lib: Any) -> None:
    """x^6 = 1.6e-8 times 1e7: the smaller factor may not be rounded away."""
    raw = raw_of([6.0], 1e-2), raw_of([1e7], 1e-2)
    score = {"at": lambda p: p.log_prob(lib.array([[0.05]]))}
    ours = found(lib, "Kumaraswamy", raw, mean=mean, **score)
    np.testing.assert_allclose(ours["mean"], 0.0632, atol=5e-5)
    np.testing.assert_allclose(ours["at"], 2.775, atol=1e-3)


@pytest.mark.parametrize(
    ("noise", "loading", "dim", "rank"), [(1e-3, 10.0, 10, 2), (1e-2, 30.0, 6, 4)]
)
def test_low_rank_normal_with_little_noise(
    lib: Any, noise: float, loading: float, dim: int, rank: int
) -> None:
    """Of data from the model itself the error stays below 2e-2 nats."""
    columns = np.random.default_rng(0).standard_normal((rank, dim)) * loading / noise
    raw = np.concatenate([np.zeros(dim), np.full(dim, raw_of(noise, 1e-4)), columns.ravel()])
    module = lib.build("conditionals", "LowRankNormal", dim, rank)

    def run(raw: Any) -> list[Any]:
        p = module.build(raw)
        x = lib.draw(p, (2000,))
        parts = [p.scale, p.factor, p.covariance_matrix, p.variance, p.entropy()]
        return [x, p.log_prob(x), *parts]

    arrays = lib.call(run, lib.array(raw.astype(np.float32)))
    x, log_prob, scale, factor, *described = (lib.numpy(a).astype(float) for a in arrays)
    root = np.linalg.cholesky(np.eye(dim) + factor @ factor.T)
    standard = np.linalg.solve(root, (x / scale).T)
    exact = -0.5 * (standard**2).sum(0) - np.log(scale * np.diag(root) * np.sqrt(2 * np.pi)).sum()
    np.testing.assert_allclose(log_prob, exact, atol=2e-2)
    covariance = scale[:, None] * (np.eye(dim) + factor @ factor.T) * scale
    np.testing.assert_allclose(described[0], covariance, rtol=1e-3)
    np.testing.assert_allclose(described[1], np.diag(covariance), rtol=1e-5)
    theirs = stats.multivariate_normal(cov=covariance).entropy()
    np.testing.assert_allclose(described[2], theirs, rtol=1e-3)


def test_continuous_bernoulli_at_any_logit(lib: Any) -> None:
    """Draws stay inside and have a density, also where the uniform number rounds to 0 or 1."""
    size = np.concatenate([10.0 ** np.arange(-3, 7), [0.09, 0.11, 0.45, 0.55, 16.0, 17.0, 90.0]])
    u = np.array([0.0, 1e-38, 1e-7, 0.3, 1 - 6e-8, 1.0], np.float32)[:, None, None]

    def at(p: Any) -> Any:
        return p.icdf(lib.array(u))

    ours = found(
        lib,
        "ContinuousBernoulli",
        [np.concatenate([-size, size])],
        mean=mean,
        variance=variance,
        at=at,
        score=lambda p: p.log_prob(at(p)),
    )
    l, x = ours["logits"], ours["at"]
    assert ((x >= 0) & (x <= 1)).all()
    away = np.where(l < 0, x, 1 - x)  # from the end with the mass
    exact = np.log(abs(l) / -np.expm1(-abs(l))) - abs(l) * away
    np.testing.assert_allclose(ours["score"], exact, rtol=1e-4, atol=1e-5)
    below = 1 / abs(l) - 1 / np.expm1(np.minimum(abs(l), 700))
    np.testing.assert_allclose(ours["mean"], np.where(l < 0, below, 1 - below), rtol=1e-4)
    big = abs(l) > 0.4
    spread = l**-2 - 0.25 / np.sinh(np.minimum(abs(l), 100) / 2) ** 2
    np.testing.assert_allclose(ours["variance"][big], spread[big], rtol=1e-4)
    np.testing.assert_allclose(ours["variance"][~big], 1 / 12 - l[~big] ** 2 / 240, rtol=1e-3)


@pytest.mark.parametrize("number", [0.0, 1.0])
def test_continuous_bernoulli_draws_at_the_ends(
    lib: Any, number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A uniform number that rounds to 0 or 1 gives a draw that is rare, not one of density zero."""
    module = lib.build("conditionals", "ContinuousBernoulli", 1)
    l = np.array([-1e6, -800.0, -20.0, -3.0, 3.0, 20.0, 800.0, 1e6])[:, None]
    if isinstance(lib, PyroLibrary):
        monkeypatch.setattr(
            lib.torch, "rand", lambda *shape, **kw: lib.torch.full(*shape, number, **kw)
        )
    else:
        monkeypatch.setattr(
            lib.jax.random, "uniform", lambda key, shape, dtype: lib.jnp.full(shape, number, dtype)
        )
    x = lib.numpy(lib.draw(module.build(lib.array(l)))).astype(float)
    from_mass = abs(l) * np.where(l < 0, x, 1 - x)
    assert ((from_mass >= 0) & (from_mass < 20)).all()


def test_logit_normal_moments(lib: Any) -> None:
    grid = np.meshgrid([-8.0, 0.0, 3.0], [0.05, 1.0, 1.9, 2.1, 6.0, 100.0])
    raw = grid[0].ravel(), raw_of(grid[1].ravel(), 1e-2)
    ours = found(lib, "LogitNormal", raw, mean=mean, variance=variance)
    for index, (m, s) in enumerate(zip(ours["loc"], ours["scale"])):
        middle = sorted(np.clip([-m / s, (-m - 5) / s, (-m + 5) / s], -11, 11))

        def power(n: float, k: int, m: float = m, s: float = s) -> float:
            return special.expit(m + s * n) ** k * stats.norm.pdf(n)

        first, second = (
            integrate.quad(power, -12, 12, (k,), points=middle, limit=400, epsabs=1e-12)[0]
            for k in (1, 2)
        )
        np.testing.assert_allclose(ours["mean"][index], first, rtol=1e-4)
        np.testing.assert_allclose(ours["variance"][index], second - first**2, rtol=1e-3)


def test_logit_normal_far_from_the_middle(lib: Any) -> None:
    """Gradients of log q at its own draws, by the value, the parameters and along the draws."""
    module = lib.build("conditionals", "LogitNormal", 1)
    loc = np.array([-1e4, -300.0, -100.0, -88.0, -85.0, -72.0, -71.0, -60.0, 17.0, 90.0, 1e4])
    raw = np.stack(np.broadcast_arrays(loc[:, None], raw_of([0.011, 0.3, 5.0], 1e-2)), -1)

    def score(raw: Any, x: Any) -> Any:
        return module.build(raw).log_prob(x)

    def run(raw: Any) -> list[Any]:
        x = lib.draw(module.build(raw), (50,))
        x = x.detach() if isinstance(lib, PyroLibrary) else x
        along = lib.slopes(lambda raw: score(raw, lib.draw(module.build(raw), (50,))), raw)
        return [x, score(raw, x), *lib.slopes(score, raw, x), *along]

    for array in lib.call(run, lib.array(raw.astype(np.float32))):
        assert np.isfinite(lib.numpy(array)).all()


def test_discretized_logistic_mixture_moments(lib: Any) -> None:
    module = lib.build("conditionals", "DiscretizedLogisticMixture", 1, 2, num_levels=9)
    raw = np.random.default_rng(0).uniform(-3, 3, (20, 6))
    levels = np.arange(9) / 8

    def run(raw: Any) -> list[Any]:
        p = module.build(raw)
        return [p.mean, p.variance, p.log_prob(lib.array(levels[:, None, None]))]

    mean, variance, log_prob = map(lib.numpy, lib.call(run, lib.array(raw)))
    probabilities = np.exp(log_prob.astype(float))
    np.testing.assert_allclose(mean[:, 0], levels @ probabilities, rtol=1e-5)
    spread = (levels**2) @ probabilities - (levels @ probabilities) ** 2
    np.testing.assert_allclose(variance[:, 0], spread, rtol=1e-4, atol=1e-7)


def test_bernoulli_moments_far_from_even(lib: Any) -> None:
    l = np.array([-40.0, -3.0, 0.0, 10.0, 40.0])
    ours = found(lib, "Bernoulli", [l], variance=variance, entropy=entropy)
    odd, even = special.expit(l), special.expit(-l)
    np.testing.assert_allclose(ours["variance"], odd * even, rtol=1e-5)
    exact = odd * np.logaddexp(0, -l) + even * np.logaddexp(0, l)
    np.testing.assert_allclose(ours["entropy"], exact, rtol=1e-5)
