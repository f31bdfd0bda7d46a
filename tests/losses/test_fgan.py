"""The f-GAN experiment (Nowozin et al. 2016, section 3.3): one Gaussian is fitted to a mixture of
two by a critic's bound on each of five divergences.

Protocol: generator x = mu + sigma z, critic of 2 x 64 tanh units, one step of both players per
iteration, learning rate 0.01, batches of 1024.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from tests.losses.test_divergences import FITS
from tests.losses.training import build, fit, package, parameter, trained_critic

pytestmark = pytest.mark.slow

AS_USERS_COMPILE = True

BATCH, STEPS = 1024, 768
GRID = np.linspace(-16.0, 17.0, 6001)
LOG_P = np.logaddexp(
    math.log(0.33) + norm.logpdf(GRID, -1.0, 0.255), math.log(0.67) + norm.logpdf(GRID, 2.0, 1.415)
)


def draws(num: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.where(
        rng.random(num) < 0.33, rng.normal(-1.0, 0.255, num), rng.normal(2.0, 1.415, num)
    )


def generator(backend: Any) -> Callable:
    """z_n ~ Normal(0, 1), x_n = mu + sigma z_n: a model like any other."""
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        mu, log_sigma = backend.param("mu", array(0.0)), backend.param("log_sigma", array(0.0))
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array(0.0), array(1.0)))
            backend.sample("x", dist.Delta(mu + backend.np.exp(log_sigma) * z), obs=x)

    return model


def integral(log_density: np.ndarray, values: np.ndarray) -> float:
    return float(np.trapezoid(np.exp(log_density) * values, GRID))


@pytest.mark.parametrize("name", FITS)
def test_the_learned_gaussian_is_the_best_one(backend: Any, name: str) -> None:
    """mu and sigma are near the exact optimum; the critic's bound F is at most 10 % below the
    divergence, and below that of the learned Gaussian in truth.

    F is integrated over the true densities, so that no sampling noise can lift it.
    """
    losses, dgm = package(backend).losses, package(backend)
    critic = build(backend, losses.Critic, 1, hidden=(64, 64), activation="tanh")
    optim = dgm.Adam(0.01, betas=(0.5, 0.99))
    term = losses.FDivergence("x", critic, f=name, optim=optim)
    run = fit(
        backend,
        generator(backend),
        None,
        draws(64 * BATCH),
        loss=term,
        optim=optim,
        batch_size=BATCH,
        num_epochs=STEPS // 64,
        average=0.99,
    )
    mu, sigma = float(parameter(run, "mu")), math.exp(parameter(run, "log_sigma"))
    least, _, best_mu, best_sigma = FITS[name]
    tolerance = 0.15 if name == "jeffrey" else 0.1
    assert mu == pytest.approx(best_mu, abs=tolerance)
    assert sigma == pytest.approx(best_sigma, abs=tolerance)

    f, log_q = losses.divergence(name), norm.logpdf(GRID, mu, sigma)
    outputs = trained_critic(backend, term, run)(backend.array(GRID[:, None]))
    on_real, on_fake = (
        np.asarray(part(outputs).detach() if backend.name == "pyro" else part(outputs))
        for part in (f.activation, f.conjugate_of_activation)
    )
    bound = integral(LOG_P, on_real) - integral(log_q, on_fake)
    ratio = np.exp(LOG_P - log_q)
    truth = integral(log_q, np.asarray(f.generator(backend.array(ratio))))
    assert 0.9 * least < bound < truth
    assert truth < 1.05 * least
    last = run.history.column("FDivergence(x)")[
        -3:
    ].mean()  # averages over epochs, that is over 65,536 draws each
    assert 0.9 * least < last < 1.1 * least
