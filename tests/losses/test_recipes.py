"""Recipes are the sums that their papers write, and the total correlation is what a Gaussian says
it is.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.arrays import assert_within_three_errors
from tests.losses.test_ratio import as_critic
from tests.losses.toys import Q, conjugate, ones
from tests.losses.training import build, fit, package, parameter

X = np.linspace(-1.0, 2.0, 40)


def evaluated(backend: Any, loss: Any) -> tuple[float, dict[str, np.ndarray]]:
    total, _, gradients = backend.evaluate(loss, *conjugate(backend), X, params=Q)
    return total, gradients


def test_info_vae(backend: Any) -> None:
    """alpha = 0, lambda = 1 is the VAE, alpha = lambda = 1 the adversarial autoencoder; between
    them the objective of the paper, term by term.
    """
    losses = backend.losses
    assert repr(losses.info_vae(0.0, 1.0)) == repr(losses.ELBO())
    critic = as_critic(backend, lambda z: 0.3 * z - 0.1)
    aae = losses.info_vae(1.0, 1.0, losses.JensenShannon("z", critic))
    assert repr(aae) == repr(losses.aae()) == "Reconstruction() + JensenShannon('z')"
    assert repr(losses.info_vae(-3.0, 4.0)) == repr(losses.ELBO(beta=4.0))

    alpha, lambda_ = 0.4, 2.0
    by_hand = (
        alpha * losses.Reconstruction()
        + (1 - alpha) * losses.ELBO()
        + (alpha + lambda_ - 1) * losses.MMD("z")
    )
    pairs = [(losses.info_vae(alpha, lambda_), by_hand)]
    if backend.name == "pyro":  # nothing to compile
        pairs += [
            (losses.info_vae(0.0, 1.0), losses.ELBO()),
            (aae, losses.Reconstruction() + losses.JensenShannon("z", critic)),
        ]
    for recipe, expected in pairs:
        (value, gradients), (other, other_gradients) = (
            evaluated(backend, recipe),
            evaluated(backend, expected),
        )
        assert value == pytest.approx(other, rel=1e-10)
        for name in Q:
            np.testing.assert_allclose(gradients[name], other_gradients[name], rtol=1e-9)


def test_other_recipes(backend: Any) -> None:
    losses = backend.losses
    assert repr(losses.wae()) == "Reconstruction() + 10.0 * MMD('z', IMQ((1.0,)))"
    assert (
        repr(losses.wae(2.0, losses.JensenShannon("z")))
        == "Reconstruction() + 2.0 * JensenShannon('z')"
    )
    assert repr(losses.vae_gan(0.5)) == "ELBO() + 0.5 * JensenShannon('x')"
    assert repr(losses.factor_vae()) == "ELBO() + 10.0 * TotalCorrelation('z')"
    for make, message in [
        (lambda: losses.info_vae(1.5, 1.0), "alpha must be a number .* got 1.5"),
        (lambda: losses.info_vae(0.0, 0.5), "lambda_ must be a number of at least 1, got 0.5"),
        (lambda: losses.wae(0.0), "must be a positive number, got 0.0"),
        (lambda: losses.aae(1.0, "mmd"), "divergence must be a term"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


RHO = 0.8
TC = -0.5 * math.log(1 - RHO**2)


def correlated(backend: Any) -> tuple[Callable, Callable]:
    """A guide that draws two dimensions with correlation RHO and different scales for
    every datum.
    """
    dist, array = backend.dist, backend.array
    factor = np.array([[2.0, 0.0], [0.5 * RHO, 0.5 * math.sqrt(1 - RHO**2)]])

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(array(np.zeros(2)), array(1.0)).to_event(1))
            backend.sample("x", dist.Normal(backend.param("mean", array(0.0)), array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample(
                "z",
                dist.MultivariateNormal(
                    backend.param("loc", array(np.zeros(2))), scale_tril=array(factor)
                ),
            )

    return model, guide


def log_ratio(z: Any) -> Any:
    """log q(z) - sum_j log q(z_j) of the guide."""
    a, b = z[:, 0] / 2.0, z[:, 1] / 0.5
    return -(RHO**2 * (a**2 + b**2) - 2 * RHO * a * b) / (2 * (1 - RHO**2)) + TC


@pytest.mark.slow("numpyro")
def test_total_correlation_of_a_gaussian(backend: Any) -> None:
    """With the exact log-ratio it is -log det(correlations) / 2 on average."""
    losses = backend.losses
    loss = losses.TotalCorrelation("z", as_critic(backend, log_ratio), num_particles=2)
    found = np.array(
        [
            backend.evaluate(loss, *correlated(backend), ones(500), seed=seed)[1][
                "TotalCorrelation(z)"
            ]
            for seed in range(10)
        ]
    )
    assert_within_three_errors(found, TC)
    assert (
        repr(losses.TotalCorrelation("z", num_particles=2))
        == "TotalCorrelation('z', num_particles=2)"
    )
    with pytest.raises(
        ValueError, match=r"latent sites inside the data plates, \['z'\], but \['x'\] are not"
    ):
        backend.evaluate(
            losses.TotalCorrelation("x", as_critic(backend, log_ratio)),
            *correlated(backend),
            ones(5),
        )


@pytest.mark.slow
def test_total_correlation_is_learned(backend: Any) -> None:
    """The permuted draws are draws of the product: a critic that is trained on them finds the total
    correlation.
    """
    dgm = package(backend)
    critic = build(backend, dgm.losses.Critic, 2, hidden=(32,), activation="tanh")
    term = dgm.losses.TotalCorrelation("z", critic, optim=dgm.Adam(0.01))
    settings = {"num_epochs": 30, "batch_size": 512, "lr_schedule": lambda step: 0.0}
    run = fit(
        backend,
        *correlated(backend),
        ones(4096),
        loss=dgm.losses.ELBO() + term,
        optim=dgm.Adam(0.01),
        **settings,
    )
    assert run.history.column("TotalCorrelation(z)")[-10:].mean() == pytest.approx(TC, rel=0.08)


CENTERS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.5]])
PRIOR_MEANS, PRIOR_SCALE = np.array([-2.0, 0.0, 2.0]), 0.5


def labeled(backend: Any) -> tuple[Callable, Callable]:
    """y_n of three classes, z_n ~ Normal(m(y_n), 1/2), x_n in the plane; the guide's mean is affine
    in x_n, so that it can reach each p(z | y) exactly.
    """
    dist, array, param = backend.dist, backend.array, backend.param
    constraints = dist.constraints

    def model(x: Any, y: Any) -> None:
        with backend.plate("data", len(x)):
            labels = backend.sample("y", dist.Categorical(probs=array(np.ones(3) / 3)), obs=y)
            z = backend.sample("z", dist.Normal(array(PRIOR_MEANS)[labels], array(PRIOR_SCALE)))
            mean = param("slope", array(np.zeros(2))) * z[..., None] + param(
                "offset", array(np.zeros(2))
            )
            backend.sample("x", dist.Normal(mean, array(1.0)).to_event(1), obs=x)

    def guide(x: Any, y: Any) -> None:
        loc = (x * param("weight", array(np.array([0.1, 0.1])))).sum(-1) + param("bias", array(0.0))
        scale = param("scale", array(1.0), constraint=constraints.positive)
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(loc, scale))

    return model, guide


@pytest.mark.slow
def test_aae_with_labels(backend: Any) -> None:
    """Makhzani et al. (2016), section 2.3: a critic of code and label gives each class its part of
    the prior, in an order that x does not suggest.
    """
    dgm, rng = package(backend), np.random.default_rng(0)
    y = rng.integers(3, size=3000)
    x = CENTERS[y] + 0.2 * rng.standard_normal((3000, 2))
    critic = build(backend, dgm.losses.Critic, 4, hidden=(32, 32))
    adam = dgm.Adam(5e-3, betas=(0.5, 0.99))
    loss = dgm.losses.aae(
        20.0,
        dgm.losses.JensenShannon(("z", "y"), critic, optim=adam, regularizer=dgm.losses.R1(0.1)),
    )
    run = fit(
        backend,
        *labeled(backend),
        (x, y),
        loss=loss,
        optim=adam,
        num_epochs=50,
        batch_size=300,
        average=0.98,
        seed=0,
    )
    weight, bias, scale = (parameter(run, name) for name in ("weight", "bias", "scale"))
    assert CENTERS @ weight + bias == pytest.approx(PRIOR_MEANS, abs=0.2)
    assert math.sqrt(scale**2 + 0.2**2 * (weight**2).sum()) == pytest.approx(PRIOR_SCALE, rel=0.2)
