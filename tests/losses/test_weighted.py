"""Renyi's bound, the jackknife, tail-adaptive weights, VIMCO and reweighted wake-sleep against
exact values, of x = 1, z ~ Normal(0, 1), x | z ~ Normal(z, 1) and of a binary latent.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from dgm_core.diagnostics import jvi_bound
from tests.losses.arrays import value
from tests.losses.toys import (
    ELBO_AT_Q,
    LOG_EVIDENCE,
    Q,
    conjugate,
    conjugate_per_datum,
    mixture_model,
    ones,
)

NUM = 20_000
WIDE = {"loc": 0.2, "log_scale": 0.1}  # whose weights are bounded; the posterior is (0.5, var 0.5)
GRID = np.linspace(-9.0, 10.0, 4001)


def log_w(loc: float, log_scale: float, z: np.ndarray = GRID) -> tuple[np.ndarray, np.ndarray]:
    """log p(x, z) - log q(z), and log q(z)."""
    log_q = -0.5 * ((z - loc) / math.exp(log_scale)) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)
    return -0.5 * z**2 - 0.5 * (1 - z) ** 2 - math.log(2 * math.pi) - log_q, log_q


def renyi(alpha: float, loc: float, log_scale: float) -> float:
    """1 / (1 - alpha) log E_q [w^(1 - alpha)], by quadrature."""
    ratio, log_q = log_w(loc, log_scale)
    step = GRID[1] - GRID[0]
    if alpha == 1:
        return float((np.exp(log_q) * ratio).sum() * step)
    return math.log(np.exp(log_q + (1 - alpha) * ratio).sum() * step) / (1 - alpha)


NARROW = {"loc": 0.4, "log_scale": -0.4}


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.5, 1.0, 1.5])
def test_renyi_bound_of_many_particles(backend: Any, alpha: float) -> None:
    """The value and, by differences of the closed integral, the gradient; they fall with alpha."""
    model, guide = conjugate_per_datum(backend)
    num, data, at = 500, 300, WIDE if alpha <= 1 else NARROW
    params = {name: np.full(data, value) for name, value in at.items()}
    loss = backend.losses.Renyi(alpha, num)
    _, terms, gradients = backend.evaluate(loss, model, guide, ones(data), params=params)
    exact = renyi(alpha, **at)
    assert terms["Renyi"] == pytest.approx(exact, abs=0.006)
    assert exact < renyi(alpha - 0.1, **at) - 1e-4 or alpha == 0.0
    for name in at:
        ends = [renyi(alpha, **{**at, name: at[name] + d}) for d in (1e-4, -1e-4)]
        slope = -(ends[0] - ends[1]) / 2e-4
        draws = gradients[name]
        error = draws.std() / math.sqrt(data)
        assert abs(draws.mean() - slope) < 4 * error + 0.01, (name, draws.mean(), slope)


def test_renyi_is_elbo_and_iwae_at_its_ends(backend: Any) -> None:
    model, guide = conjugate(backend)
    losses, x = backend.losses, ones(50)
    for loss, other, name in (
        (losses.Renyi(1.0, 5), losses.ELBO(num_particles=5), "ELBO"),
        (losses.Renyi(0.0, 5), losses.IWAE(5), "IWAE"),
    ):
        _, ours, slopes = backend.evaluate(loss, model, guide, x, params=Q)
        _, theirs, others = backend.evaluate(other, model, guide, x, params=Q)
        assert ours["Renyi"] == pytest.approx(theirs[name], abs=1e-12)
        for parameter, slope in slopes.items():
            np.testing.assert_allclose(slope, others[parameter], rtol=1e-10, atol=1e-10)
    _, terms, _ = backend.evaluate(losses.Renyi(1.0, 1), model, guide, ones(NUM), params=Q)
    assert terms["Renyi"] == pytest.approx(ELBO_AT_Q, abs=0.04)


def binary(logit: float) -> tuple[np.ndarray, np.ndarray]:
    """q and log w of the values of c, x = 1."""
    q = np.array([1 / (1 + math.exp(logit)), 1 / (1 + math.exp(-logit))])
    density = -0.5 * (1.0 - np.array([0.0, 2.0])) ** 2 - 0.5 * math.log(2 * math.pi)
    return q, np.log([0.7, 0.3]) + density - np.log(q)


@pytest.mark.parametrize("written", ["Renyi(0.5)", "Renyi(1.0)", "Renyi(2.0)", "JVI", "vimco"])
def test_score_functions_of_a_binary_latent(backend: Any, written: str) -> None:
    """The mean gradient of three particles is that of the exact mean of the objective."""
    losses, (model, guide) = backend.losses, mixture_model(backend)
    loss, logit = {
        "Renyi(0.5)": (losses.Renyi(0.5, 3), 0.4),
        "Renyi(1.0)": (losses.Renyi(1.0, 3), 0.4),
        "Renyi(2.0)": (losses.Renyi(2.0, 3), 0.4),
        "JVI": (losses.JVI(1, 3), 0.4),
        "vimco": (losses.IWAE(3, estimator="vimco"), -0.6),
    }[written]

    def value(weights: np.ndarray) -> float:
        mean = np.logaddexp.reduce(weights) - math.log(3)
        if written == "JVI":
            left = [np.logaddexp.reduce(np.delete(weights, k)) - math.log(2) for k in range(3)]
            return float(3 * mean - 2 * np.mean(left))
        if written == "vimco":
            return float(mean)
        alpha = float(written[6:-1])
        if alpha == 1:
            return float(weights.mean())
        power = (1 - alpha) * weights
        return float((np.logaddexp.reduce(power) - math.log(3)) / (1 - alpha))

    def exact(logit: float) -> float:
        q, weights = binary(logit)
        triples = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T
        return sum(float(q[c].prod()) * value(weights[c]) for c in triples)

    params = {"logits": np.full(NUM, logit)}
    _, terms, gradients = backend.evaluate(loss, model, guide, ones(NUM), params=params)
    slope = -(exact(logit + 1e-5) - exact(logit - 1e-5)) / 2e-5
    draws = gradients["logits"]
    assert abs(draws.mean() - slope) < 4 * draws.std() / math.sqrt(NUM)
    assert terms[loss.name] == pytest.approx(exact(logit), abs=0.01)


@cache
def jackknife_bias() -> dict[tuple[int, int], float]:
    """By order and number of particles, from many draws."""
    draws = np.random.default_rng(0).standard_normal((16, 200_000))
    scale = math.exp(WIDE["log_scale"])
    weights = log_w(WIDE["loc"], WIDE["log_scale"], WIDE["loc"] + scale * draws)[0]
    return {
        (order, num): jvi_bound(weights[:num], order).mean() - LOG_EVIDENCE
        for order in (0, 1, 2)
        for num in (8, 16)
    }


def test_jackknife_takes_out_the_bias(backend: Any) -> None:
    """That of order m falls as K^-(m + 1); the estimate is the formula of the evaluation."""
    bias = jackknife_bias()
    assert abs(bias[1, 8]) < 0.3 * abs(bias[0, 8]) and abs(bias[2, 8]) < 0.6 * abs(bias[1, 8])
    assert 0.4 < bias[0, 16] / bias[0, 8] < 0.6 and bias[1, 16] / bias[1, 8] < 0.4
    model, guide = conjugate(backend)
    for order in (1, 2):
        loss = backend.losses.JVI(order, 8)
        _, terms, _ = backend.evaluate(loss, model, guide, ones(100_000), params=WIDE)
        expected = LOG_EVIDENCE + bias[order, 8]
        assert terms["JVI"] == pytest.approx(expected, abs=4e-3)


def test_formulas(backend: Any) -> None:
    """Of the weights without one particle, of the jackknife, of ranks."""
    formulas = __import__(f"{'' if backend.name == 'pyro' else 'num'}pyro_dgm.losses.formulas")
    formulas = formulas.losses.formulas
    rng = np.random.default_rng(1)
    weights, tied = 30 * rng.standard_normal((7, 3)), np.array([0.3, -1.0, 0.3, 2.0])

    def of_each(weights: Any, tied: Any) -> Any:
        return (
            formulas.leave_one_out_logsumexp(weights),
            formulas.vimco_signal(weights),
            *(formulas.jackknife_bound(weights, order) for order in (1, 2)),
            formulas.tail_weights(tied, -0.7),
        )

    found_left, found_signal, *bounds, shares = value(backend, of_each, weights, tied)
    left = np.stack([np.logaddexp.reduce(np.delete(weights, k, 0)) for k in range(7)])
    np.testing.assert_allclose(found_left, left, rtol=1e-12)
    mean = np.stack([np.delete(weights, k, 0).mean(0) for k in range(7)])
    total = np.logaddexp.reduce(weights)
    signal = total - np.logaddexp(left, mean)
    np.testing.assert_allclose(found_signal, signal, rtol=1e-10, atol=1e-12)
    for order, found in zip((1, 2), bounds, strict=True):
        np.testing.assert_allclose(found, jvi_bound(weights, order), rtol=1e-9, atol=1e-9)
    share = np.array([3, 4, 3, 1]) / 4
    expected = share**-0.7 / (share**-0.7).sum()
    np.testing.assert_allclose(shares, expected)


def test_vimco_of_a_thousand_particles_in_single_precision(backend: Any) -> None:
    """Also where one weight is nearly all there is."""
    formulas = __import__(f"{'' if backend.name == 'pyro' else 'num'}pyro_dgm.losses.formulas")
    formulas = formulas.losses.formulas
    weights = np.random.default_rng(2).standard_normal(1000)
    weights[417] = 40.0
    mean = np.array([np.delete(weights, k).mean() for k in range(1000)])
    left = np.array([np.logaddexp.reduce(np.delete(weights, k)) for k in range(1000)])
    exact = np.logaddexp.reduce(weights) - np.logaddexp(left, mean)

    def signal(weights: Any) -> Any:
        single = weights.float() if backend.name == "pyro" else weights.astype("float32")
        return formulas.vimco_signal(single)

    found = value(backend, signal, weights)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
    assert exact[417] > 30


def test_tail_adaptive_gradient(backend: Any) -> None:
    """It is the weighted path derivative, and with beta = 0 that of the ELBO's stl."""
    model, guide = conjugate_per_datum(backend)
    losses, data = backend.losses, 200
    params = {name: np.full(data, value) for name, value in WIDE.items()}
    x = ones(data)
    plain = backend.evaluate(losses.TailAdaptive(0.0, 4), model, guide, x, params=params)
    stl = losses.ELBO(num_particles=4, estimator="stl")
    other = backend.evaluate(stl, model, guide, x, params=params)
    assert plain[0] == pytest.approx(other[0], rel=1e-12)
    for name, gradient in plain[2].items():
        np.testing.assert_allclose(gradient, other[2][name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_particles", [5, 50])
def test_tail_adaptive_rests_at_the_posterior(backend: Any, num_particles: int) -> None:
    """The weights are equal there, and the path derivative is zero."""
    model, guide = conjugate_per_datum(backend)
    posterior = {"loc": np.full(20, 0.5), "log_scale": np.full(20, 0.5 * math.log(0.5))}
    loss = backend.losses.TailAdaptive(num_particles=num_particles)
    _, terms, gradients = backend.evaluate(loss, model, guide, ones(20), params=posterior)
    assert terms["TailAdaptive"] == pytest.approx(LOG_EVIDENCE, abs=1e-6)
    for gradient in gradients.values():
        assert np.abs(gradient).max() < 1e-9


def test_wake_phase_follows_the_inclusive_divergence(backend: Any) -> None:
    """d KL(p(z | x), q) at many particles: -E_p [d log q], with the moments of Normal(0.5, 0.5)."""
    model, guide = conjugate_per_datum(backend)
    data = 300
    params = {name: np.full(data, value) for name, value in WIDE.items()}
    loss = backend.losses.WakeSleep(400)
    _, terms, gradients = backend.evaluate(loss, model, guide, ones(data), params=params)
    variance = math.exp(2 * WIDE["log_scale"])
    distance = 0.5 - WIDE["loc"]
    exact = {
        "loc": -distance / variance,
        "log_scale": 1 - (0.5 + distance**2) / variance,
    }
    for name, draws in gradients.items():
        error = draws.std() / math.sqrt(data)
        assert abs(draws.mean() - exact[name]) < 4 * error + 0.005, name
    log_q = -0.5 * (0.5 + distance**2) / variance - WIDE["log_scale"] - 0.5 * math.log(2 * math.pi)
    assert terms["WakeSleep/log_q"] == pytest.approx(log_q, abs=0.01)
    assert terms["WakeSleep"] == pytest.approx(LOG_EVIDENCE, abs=0.002)


def linear(backend: Any) -> Any:
    """z ~ Normal(m, 1), x | z ~ Normal(w z, 0.5); the guide is Normal(a x + b, exp(s))."""
    dist, array, param = backend.dist, backend.array, backend.param

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(param("m"), array(1.0)))
            backend.sample("x", dist.Normal(param("w") * z, array(0.5)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            scale = backend.np.exp(param("s"))
            backend.sample("z", dist.Normal(param("a") * x + param("b"), scale))

    return model, guide


LINEAR = {"m": 0.4, "w": 0.7, "a": 0.5, "b": -0.2, "s": 0.1}


def test_sleep_phase_follows_the_model_s_own_data(backend: Any) -> None:
    """d E_p(x, z) [-log q(z | x)], from the moments of the joint normal; the model learns by the
    wake phase alone.
    """
    x = np.full(NUM, 1.3)
    loss = backend.losses.WakeSleep(3, guide="sleep")
    _, terms, found = backend.evaluate(loss, *linear(backend), x, params=LINEAR)
    m, w, a, b, s = LINEAR.values()
    variance = w**2 + 0.25  # of x, and w is its covariance with z
    mean = m - a * w * m - b
    rest = 1 - 2 * a * w + a**2 * variance
    precision = math.exp(-2 * s)
    exact = {
        "a": -precision * (w - a * variance + mean * w * m),
        "b": -precision * mean,
        "s": 1 - precision * (rest + mean**2),
    }
    for name, slope in exact.items():
        assert found[name] / NUM == pytest.approx(slope, abs=0.03), name
    log_q = -0.5 * precision * (rest + mean**2) - s - 0.5 * math.log(2 * math.pi)
    assert terms["WakeSleep/log_q"] == pytest.approx(log_q, abs=0.03)
    wake = backend.evaluate(backend.losses.WakeSleep(3), *linear(backend), x, params=LINEAR)[2]
    both = backend.losses.WakeSleep(3, guide="both")
    halves = backend.evaluate(both, *linear(backend), x, params=LINEAR)[2]
    for name in ("m", "w"):
        assert found[name] == pytest.approx(wake[name], rel=1e-9)
    for name in ("a", "b", "s"):
        assert halves[name] == pytest.approx((found[name] + wake[name]) / 2, rel=1e-9)


def test_wake_sleep_refuses_what_follows_from_other_draws(backend: Any) -> None:
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        w = backend.sample("w", dist.Normal(array(0.0), array(1.0)))
        with backend.plate("data", len(x)):
            backend.sample("x", dist.Normal(w, array(1.0)), obs=x)

    extra = {} if backend.name == "pyro" else {"key": backend.jax.random.key(1)}
    guide = backend.guides.JointGuide(model, name=f"held_{backend.name}", **extra)
    params: dict[str, Any] = {}
    if backend.name == "numpyro":
        params = backend.parameters(guide, ones(3))
        args = (backend.jax.random.key(0), params)
    else:
        args = ()
    with pytest.raises(ValueError, match=r"its values of \['w'\] follow from other draws"):
        backend.losses.WakeSleep(2).evaluate(*args, model, guide, (backend.array(ones(3)),))


def test_arguments_of_the_sleep_phase(backend: Any) -> None:
    dist, array, losses = backend.dist, backend.array, backend.losses

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array(0.0), array(1.0)))
            backend.sample("x", dist.Normal(z, array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(x, array(1.0)))

    for build, match in (
        (lambda: losses.WakeSleep(arguments={"x": 0}), "guide='wake' has none"),
        (lambda: losses.WakeSleep(guide="sleep", arguments=3), "arguments must be {observed site"),
        (
            lambda: losses.MutualInformation("z", arguments={"x": 0.5}),
            "arguments must be {observed",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            build()
    loss = losses.WakeSleep(2, "sleep", {"y": 0})
    with pytest.raises(ValueError, match=r"arguments names \['y'\], .* it observes \['x'\]"):
        backend.evaluate(loss, model, guide, np.ones(3))
