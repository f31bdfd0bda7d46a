"""Gradient estimators: equal in expectation, zero variance where theory says so, signal-to-noise in
the number of particles.

Every datum has the same value and its own variational parameters, so that one evaluation holds
thousands of independent gradient draws.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.toys import conjugate_per_datum, mixture_model, ones

NUM = 20_000
OFF = {"loc": 0.7, "log_scale": -0.2}  # away from the posterior Normal(0.5, var 0.5)


def gradient_draws(
    backend: Any, loss: Any, num: int = NUM, seed: int = 0, at: dict[str, float] = OFF
) -> dict[str, np.ndarray]:
    model, guide = conjugate_per_datum(backend)
    params = {name: np.full(num, value) for name, value in at.items()}
    return backend.evaluate(loss, model, guide, ones(num), params=params, seed=seed)[2]


def elbo_gradient(at: dict[str, float]) -> dict[str, float]:
    """Of -ELBO: E_q[(x - z)^2 + z^2] / 2 - log scale, with x = 1."""
    return {"loc": 2 * at["loc"] - 1.0, "log_scale": 2 * math.exp(2 * at["log_scale"]) - 1.0}


@pytest.mark.parametrize("make", ["reparam", "stl", "score", "score, three particles", "analytic"])
def test_elbo_gradients_have_the_exact_mean(backend: Any, make: str) -> None:
    ELBO = backend.losses.ELBO
    loss = {
        "reparam": lambda: ELBO(),
        "stl": lambda: ELBO(estimator="stl"),
        "score": lambda: ELBO(estimator="score"),
        "score, three particles": lambda: ELBO(num_particles=3, estimator="score"),
        "analytic": lambda: ELBO(analytic_kl=True),
    }[make]()
    for name, draws in gradient_draws(backend, loss).items():
        z = (draws.mean() - elbo_gradient(OFF)[name]) / (draws.std() / math.sqrt(NUM))
        assert abs(z) < 4, (name, draws.mean(), elbo_gradient(OFF)[name])


def test_stl_has_no_variance_at_the_posterior(backend: Any) -> None:
    posterior = {"loc": 0.5, "log_scale": 0.5 * math.log(0.5)}
    for draws in gradient_draws(
        backend, backend.losses.ELBO(estimator="stl"), 1000, at=posterior
    ).values():
        assert np.var(draws) < 1e-12 and abs(draws.mean()) < 1e-12
    plain = gradient_draws(backend, backend.losses.ELBO(), 1000, at=posterior)
    assert np.var(plain["loc"]) > 0.1


def test_baseline_lowers_the_variance_of_the_score_function(backend: Any) -> None:
    draws = gradient_draws(backend, backend.losses.ELBO(estimator="score"))[
        "loc"
    ]  # baseline: the other data
    scale, eps = math.exp(OFF["log_scale"]), np.random.default_rng(0).normal(size=NUM)
    z = OFF["loc"] + scale * eps
    log_w = (
        -0.5 * ((1 - z) ** 2 + z**2) - 0.5 * math.log(2 * math.pi) + 0.5 * eps**2 + math.log(scale)
    )
    without_baseline = -log_w * eps / scale
    assert np.var(draws) < 0.9 * np.var(without_baseline)


@pytest.mark.parametrize("num_particles", [1, 2, 10])
def test_dreg_equals_the_plain_gradient_in_expectation(backend: Any, num_particles: int) -> None:
    IWAE = backend.losses.IWAE
    plain = gradient_draws(backend, IWAE(num_particles))
    dreg = gradient_draws(backend, IWAE(num_particles, estimator="dreg"), seed=1)
    for name in plain:
        error = math.hypot(plain[name].std(), dreg[name].std()) / math.sqrt(NUM)
        assert abs(plain[name].mean() - dreg[name].mean()) < 4 * error
        if num_particles > 1:
            assert dreg[name].std() < plain[name].std()


def test_signal_to_noise_of_the_encoder(backend: Any) -> None:
    """Plain IWAE falls as K^(-1/2) (Rainforth et al. 2018); DReG rises."""

    def signal_to_noise(estimator: str, num_particles: int) -> float:
        draws = gradient_draws(
            backend,
            backend.losses.IWAE(num_particles, estimator=estimator),
            2000 if num_particles > 50 else NUM,
        )["loc"]
        return abs(draws.mean()) / draws.std()

    plain = [signal_to_noise("reparam", k) for k in (2, 16, 128)]
    dreg = [signal_to_noise("dreg", k) for k in (2, 16, 128)]
    assert plain[2] < 0.5 * plain[0]
    assert dreg[0] < dreg[1] < dreg[2]
    assert dreg[2] > 5 * plain[2]


@pytest.mark.parametrize("make", ["elbo", "elbo, two particles", "iwae"])
def test_discrete_latents_take_the_score_function(backend: Any, make: str) -> None:
    """c ~ Bernoulli(0.3), x | c ~ Normal(2 c, 1), guide Bernoulli(logits): the exact gradient by
    enumeration.
    """
    model, guide = mixture_model(backend)
    losses = backend.losses
    loss = {
        "elbo": losses.ELBO(),
        "elbo, two particles": losses.ELBO(num_particles=2),
        "iwae": losses.IWAE(2),
    }[make]
    logit = 0.4
    draws = backend.evaluate(loss, model, guide, ones(NUM), params={"logits": np.full(NUM, logit)})[
        2
    ]["logits"]

    def bound(logit: float) -> float:
        q = np.array([1 / (1 + math.exp(logit)), 1 / (1 + math.exp(-logit))])
        log_w = (
            np.log([0.7, 0.3])
            - 0.5 * (1.0 - np.array([0.0, 2.0])) ** 2
            - 0.5 * math.log(2 * math.pi)
            - np.log(q)
        )
        if make != "iwae":
            return float(q @ log_w)
        return float(
            sum(q[i] * q[j] * np.logaddexp(log_w[i], log_w[j]) for i in (0, 1) for j in (0, 1))
            - math.log(2)
        )

    exact = -(bound(logit + 1e-5) - bound(logit - 1e-5)) / 2e-5
    assert abs(draws.mean() - exact) < 4 * draws.std() / math.sqrt(NUM)


def test_dreg_refuses_discrete_sites(backend: Any) -> None:
    model, guide = mixture_model(backend)
    with pytest.raises(ValueError, match=r"'c'.*not reparameterized"):
        backend.evaluate(
            backend.losses.IWAE(3, estimator="dreg"),
            model,
            guide,
            ones(4),
            params={"logits": np.zeros(4)},
        )


def chain(backend: Any) -> tuple[Callable, Callable]:
    """z1 ~ Normal(0, 1), z2 ~ Normal(z1, 1), x ~ Normal(z2, 1); the exact posterior as a chain z2,
    then z1 given z2.
    """
    dist, np_ = backend.dist, backend.np

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z1 = backend.sample("z1", dist.Normal(backend.array(0.0), backend.array(1.0)))
            z2 = backend.sample("z2", dist.Normal(z1, backend.array(1.0)))
            backend.sample("x", dist.Normal(z2, backend.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            z2 = backend.sample(
                "z2", dist.Normal(backend.param("slope2") * x, np_.exp(backend.param("log_scale2")))
            )
            backend.sample(
                "z1",
                dist.Normal(backend.param("slope1") * z2, np_.exp(backend.param("log_scale1"))),
            )

    return model, guide


def test_stl_is_exact_for_guides_with_dependent_latents(backend: Any) -> None:
    """x has variance 3: z2 | x = Normal(2x/3, 2/3), z1 | z2 = Normal(z2/2, 1/2). The path
    derivative through z2 into q(z1 | z2) must stay.
    """
    model, guide = chain(backend)
    posterior = {
        "slope2": 2 / 3,
        "log_scale2": 0.5 * math.log(2 / 3),
        "slope1": 0.5,
        "log_scale1": 0.5 * math.log(0.5),
    }
    params = {name: np.full(100, value) for name, value in posterior.items()}
    gradients = backend.evaluate(
        backend.losses.ELBO(estimator="stl"), model, guide, np.linspace(-1, 1, 100), params=params
    )[2]
    for draws in gradients.values():
        assert np.abs(draws).max() < 1e-9


def test_analytic_kl_refuses_another_order_of_sites(backend: Any) -> None:
    model, guide = chain(backend)
    params = dict.fromkeys(("slope2", "log_scale2", "slope1", "log_scale1"), np.zeros(3))
    with pytest.raises(ValueError, match="same order"):
        backend.evaluate(
            backend.losses.ELBO(analytic_kl=True), model, guide, ones(3), params=params
        )
