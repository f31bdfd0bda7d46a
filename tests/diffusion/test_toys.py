"""Exact values of diffusions whose network is the best one, in both libraries."""

from typing import Any

import numpy as np
import pytest

from dgm_core.diffusion import VE, VP, Cosine, Linear, SubVP
from dgm_core.diffusion_steps import ddim
from tests.diffusion.toys import (
    drawn,
    log_normal,
    of_mixture,
    of_normal,
    parts_of,
    sampled,
)

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(3)  # exact for squares
WEIGHTS = WEIGHTS / WEIGHTS.sum()
SHARES, MEANS, VARIANCES = (0.3, 0.7), (-2.0, 1.0), (0.25, 0.64)

# schedule, s2 -> the bounds with variances "large", "small", "optimal"
BOUNDS = [
    (Linear(1000), 0.25, -0.726884, -1.295717, -0.72579135),
    (Linear(100), 0.25, -0.736752, -1.997991, -0.72579135),
    (VP(10), 0.25, -0.819457, -0.932018, -0.72579135),
    (VP(100), 0.25, -0.736575, -1.544908, -0.72579135),
    (VP(10), 1.0, -1.418939, -2.114473, -1.41893853),
    (VP(10), 4.0, -2.203851, -3.412781, -2.11208572),
    (VP(7, beta_max=12.0), 0.5, None, None, -1.0723649),
]


def expected_bound(backend: Any, schedule: Any, s2: float, variance: str, predict: str) -> Any:
    """The bound of the chain on average over data, times and noise: its parts are squares in data
    and noise, so that a few nodes have their exact means."""
    parts, net = parts_of(backend), of_normal(backend, schedule, s2, predict)
    net = backend.conditionals.Diffusion(
        1, net, schedule=schedule, variance=variance, data_variance=s2, predict=predict
    )
    steps = net.steps(None, backend.array(0.0))
    x, noise, index = map(
        np.ravel, np.meshgrid(NODES * s2**0.5, NODES, np.arange(schedule.num_steps))
    )
    weights = np.prod([w.ravel() for w in np.meshgrid(WEIGHTS, WEIGHTS, np.ones(len(steps.t)))], 0)
    x, noise = backend.array(x[:, None]), backend.array(noise[:, None])
    losses = parts.step_loss(net, x, None, steps.at(index), noise, None)
    top = [backend.array(NODES[:, None] * s2**0.5)]
    ends = [part[-1] + backend.array(np.zeros(3)) for part in (steps.alpha, steps.sigma)]
    first = parts.prior_loss(net, *top, *ends, None)
    return -(losses @ backend.array(weights)) - first @ backend.array(WEIGHTS)


def test_the_bounds_of_chains_of_a_normal(backend: Any) -> None:
    """DDPM on Normal(0, s2): with the best variance the bound is E log p(x) at every T."""
    wanted, found = [], []
    predictions = ("noise", "data", "velocity", "score")

    def run(_: Any) -> list[Any]:
        return [
            expected_bound(backend, case[0], case[1], kind, predictions[i % 4])
            for i, case in enumerate(BOUNDS)
            for kind, value in zip(("large", "small", "optimal"), case[2:])
            if value is not None
        ]

    wanted = [value for case in BOUNDS for value in case[2:] if value is not None]
    found = drawn(backend, run)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.slow("numpyro")
def test_no_variance_at_the_best_variances(backend: Any) -> None:
    """The log-ratio along a path is log p(x) itself; single times have it on average; the error of
    the noise that no network can avoid."""
    made, s2, num = backend.conditionals.Diffusion, 0.25, 1600
    x = np.random.default_rng(0).standard_normal((num, 2)) * s2**0.5
    best = {"variance": "optimal", "data_variance": s2}
    nets = [
        made(2, of_normal(backend, schedule, s2), schedule=schedule, **best)
        for schedule in (Linear(100), VP(10), Linear(1000))
    ]

    def run(how: Any) -> Any:
        p, values = [net() for net in nets], backend.array(x)
        paths = [q.bound(values, num_times=None, kl="sampled", **how) for q in p[:2]]
        times = [
            p[1].bound(values, num_times=m, kl=kl, **how)
            for m, kl in ((8, "closed"), (None, "closed"), (1, "sampled"))
        ]
        return [*paths, *times, p[2].denoising(values, num_times=25, **how)]

    *found, error = drawn(backend, run)
    wanted = log_normal(x, s2)
    for path in found[:2]:
        np.testing.assert_allclose(path, wanted, atol=2e-3)
    for estimate in found[2:]:
        noise = estimate - wanted
        assert abs(noise.mean()) < 4 * noise.std() / num**0.5 < 0.75
    assert abs(error.mean() - 0.17305341) < 0.015


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize(
    ("s2", "low", "high", "integral"),
    [(0.25, -10.0, 6.0, 4.30663386), (1.5, -7.0, 4.0, 3.6894850)],
)
def test_the_limit_of_many_steps(
    backend: Any, s2: float, low: float, high: float, integral: float
) -> None:
    """In continuous time the integral is that of the ends of gamma, whatever the schedule between
    them; a decoder and the prior are added."""
    made, num = backend.conditionals, 2000
    schedule = made.LearnedSchedule(gamma_min=low, gamma_max=high)
    net = made.Diffusion(1, of_normal(backend, schedule, s2), schedule=schedule)
    x = np.random.default_rng(1).standard_normal((num, 1)) * s2**0.5
    found = drawn(backend, lambda how: net().bound(backend.array(x), num_times=32, **how))
    first, last = 1 / (1 + np.exp(-low)), 1 / (1 + np.exp(-high))
    others = np.log(2 * np.pi * first / (1 - first)) + last - np.log(last) + (1 - last) * x**2
    assert np.log((1 + s2 * np.exp(-low)) / (1 + s2 * np.exp(-high))) / 2 == pytest.approx(integral)
    losses = -found - others[:, 0] / 2
    assert abs(losses.mean() - integral) < 4 * losses.std() / num**0.5 < 0.2


@pytest.mark.slow("numpyro")
def test_scores_flow_and_densities_of_a_mixture(backend: Any) -> None:
    """In one dimension the flow is the monotone transport: its ends and densities are known."""
    schedule = VP()
    net = of_mixture(backend, schedule, SHARES, MEANS, VARIANCES)
    p = backend.conditionals.Diffusion(1, net, schedule=schedule, predict="score", ode_steps=10)()
    values = np.array([[-2.0], [0.0], [1.5]])
    x = backend.array(values)
    ends = np.array([-1.03554244, -0.32077450, 0.89270900])[:, None]

    def run(_: Any) -> list[Any]:
        grown, far = backend.array(ends), p.encode(backend.array([[3.0]]), num_steps=30)
        return [
            p.score(x, 1e-13),
            p.score(x, 0.3),
            p.encode(x, num_steps=30),
            p.decode(grown, num_steps=30),
            p.log_prob(x),
            p.estimate_log_prob(x, num_steps=30)[0],
            p.estimate_log_prob(x, num_probes=2)[1],
            *(p.decode(far, method="ddim", num_steps=n) for n in (10, 50, 100)),
        ]

    first, later, up, down, coarse, fine, error, *steps = drawn(backend, run)
    close = np.testing.assert_allclose
    close(first[:, 0], [0.006034, 1.55769788, -0.78125], atol=1e-6)
    close(later[:, 0], [1.15984540, 0.32554804, -1.02480863], atol=1e-8)
    close(up, ends, atol=1e-5)
    close(down, values, atol=1e-5)
    exact = np.array([-1.42779745, -1.83297918, -1.24836277])
    close(fine, exact, atol=5e-6)
    assert abs(coarse - exact).max() < 1e-3  # 40 calls
    close(error, 0.0, atol=1e-12)  # one entry: every probe is exact
    close([abs(found - 3).item() for found in steps], [0.411, 0.0883, 0.0447], atol=5e-4)


@pytest.mark.slow("numpyro")
def test_steps_of_samplers(backend: Any) -> None:
    """DDIM shrinks Normal(0, 1/4) to known deviations, ancestral draws to known variances; the
    coefficients at eta = 1."""
    schedule, made = VP(), backend.conditionals.Diffusion
    net = made(1, of_normal(backend, schedule, 0.25), schedule=schedule, data_variance=0.25)
    chain = VP(10)
    ancestral = [
        made(1, of_normal(backend, chain, 0.25), schedule=chain, variance=v, data_variance=0.25)
        for v in ("large", "small", "optimal")
    ]
    other = made(1, of_normal(backend, SubVP(40), 0.5), schedule=SubVP(40))
    numbers, num = (1, 2, 5, 10, 50, 100), 40_000

    def run(how: Any) -> list[Any]:
        one = backend.array([[1.0]])
        return [
            *(net().decode(one, method="ddim", num_steps=n) for n in numbers),
            *(sampled(q(), how, (num,)) for q in ancestral),
            sampled(ancestral[0](), how, (num,), method="ddim", eta=1.0),
            sampled(other(), how, (num,), method="ode"),
            sampled(other(), how, (num,), method="ddim", eta=0.5),
        ]

    found = drawn(backend, run)
    wanted = [0.00164, 0.07175, 0.26238, 0.36973, 0.47131, 0.48538]
    np.testing.assert_allclose(np.ravel(found[:6]), wanted, atol=1.2e-5)
    for draws, exact in zip(found[6:], (0.243133, 0.111178, 0.170896, 0.111178)):
        assert abs(draws.var() - exact) < 4 * exact * (2 / num) ** 0.5
    assert abs(found[-2].var() - 0.5) < 0.02
    assert 0.3 < found[-1].var() < 0.52
    steps = ancestral[0].steps(None, backend.array(0.0)).at(4)
    direction, deviation = (float(part) for part in ddim(steps, 1.0))
    assert deviation**2 == pytest.approx(0.52032491, abs=1e-8)
    assert direction == pytest.approx(0.53304501, abs=1e-8)


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize(
    ("schedule", "error"),
    [(SubVP(), 1e-3), (VE(sigma_max=8.0), 4e-2), (Linear(1000), 2e-3), (Cosine(500), 2e-3)],
    ids=repr,
)
def test_densities_under_every_schedule(backend: Any, schedule: Any, error: float) -> None:
    """Up to the difference of p_1 and the noise that draws begin with."""
    net = of_normal(backend, schedule, 0.5, "velocity")
    p = backend.conditionals.Diffusion(2, net, schedule=schedule, predict="velocity")()
    x = np.array([[0.0, 0.3], [-0.8, 1.1]])
    found = drawn(backend, lambda _: p.log_prob(backend.array(x)))
    np.testing.assert_allclose(found, log_normal(x, 0.5), atol=error)


def test_guidance(backend: Any) -> None:
    """Both conventions, on Normal(+-1, 1/4) given the sign."""
    schedule = VP()
    net = of_mixture(backend, schedule, (0.5, 0.5), (-1.0, 1.0), (0.25, 0.25))
    diffusion = backend.conditionals.Diffusion(
        1, net, schedule=schedule, predict="score", context_shape=2, drop_context=0.1
    )
    x, y = backend.array([[0.2]]), backend.array([[0.0, 1.0]])

    def run(_: Any) -> list[Any]:
        given = (diffusion(y), diffusion.unconditional())
        guided = (diffusion.guided(y, 2.0), diffusion.guided(y, scale=2.0))
        return [p.score(x, 0.3) for p in (*given, *guided)]

    wanted = [0.61124147, -0.12578686, 2.08529811, 1.34826979]
    np.testing.assert_allclose(np.ravel(drawn(backend, run)), wanted, atol=1e-8)
    for p in (diffusion.guided(y, 2.0), diffusion.guided(y, scale=0.5)):
        with pytest.raises(backend.conditionals.NoDensityError, match="Under guidance"):
            p.log_prob(x)
