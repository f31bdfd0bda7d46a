"""Draws given what a linear operator lets through, beside the closed form of normal data."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from dgm_core.restoration import linear_restorer
from dgm_core.restoration.sampled import as_restored

rng = np.random.default_rng(0)
W, SCALES, MEAN = rng.standard_normal((4, 2)), np.array([0.3, 0.5, 0.2, 0.4]), np.arange(4.0)
COVARIANCE = W @ W.T + np.diag(SCALES**2)
DENSE, MASK, NOISE = rng.standard_normal((3, 4)), np.eye(4)[[0, 2]], 0.3


def factor_model(backend: Any) -> Callable:
    """x = W z + mean + scales e."""
    d = backend.dist

    def model(x: Any = None, size: int = 1) -> None:
        with backend.plate("data", size if x is None else len(x)):
            z = backend.sample("z", d.Normal(backend.array(np.zeros(2)), 1.0).to_event(1))
            mean = z @ backend.array(W).T + backend.array(MEAN)
            backend.sample("x", d.Normal(mean, backend.array(SCALES)).to_event(1), obs=x)

    return model


def density(backend: Any) -> Callable:
    """The same distribution of x, without a latent."""
    d = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            root = backend.array(np.linalg.cholesky(COVARIANCE))
            fn = d.MultivariateNormal(backend.array(MEAN), scale_tril=root)
            backend.sample("x", fn, obs=x)

    return model


def check(found: Any, operator: np.ndarray, y: np.ndarray, row: int = 0) -> None:
    """Mean and covariance within their errors, ln p(y)."""
    best = linear_restorer(COVARIANCE, operator, NOISE**2, mean=MEAN)
    x, true = found["x"][:, row], best.covariance
    error = np.sqrt(np.diag(true) / found.ess[row] * 2)  # weights, and drawing again by them
    assert (abs(x.mean(0) - best.restore(y[row : row + 1])[0]) < 4 * error + 1e-3).all()
    pairs = np.sqrt((np.outer(np.diag(true), np.diag(true)) + true**2) / found.ess[row] * 2)
    assert (abs(np.cov(x.T) - true) < 4 * pairs + 1e-3).all()
    spread = operator @ COVARIANCE @ operator.T + NOISE**2 * np.eye(len(operator))
    log_p = multivariate_normal(operator @ MEAN, spread).logpdf(y[row])
    assert found.log_evidence[row] == pytest.approx(log_p, abs=4 / np.sqrt(found.ess[row]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all see all", "a mask for each", "a density"])
def test_the_posterior_of_normal_data(backend: Any, kind: str) -> None:
    package = importlib.import_module(f"{backend.name}_dgm")
    settings: dict[str, Any] = {"num_draws": 600, "kernel": package.mcmc.HMC(0.3, 4), "steps": 30}
    restore, y = backend.evaluation.restore, rng.standard_normal((2, 3))
    with backend.double_precision():
        if kind == "all see all":
            found = restore(factor_model(backend), y, DENSE, NOISE, size=2, **settings)
            assert found["z"].shape == (600, 2, 2)
            check(found, DENSE, y, 1)
        elif kind == "a mask for each":
            masks = np.stack([MASK, np.eye(4)[[1, 3]]])
            found = restore(factor_model(backend), y[:, :2], masks, NOISE, size=2, **settings)
            for row, mask in enumerate(masks):
                check(found, mask, y[:, :2], row)
        else:
            model, like = density(backend), np.zeros((2, 4))
            found = restore(model, y[:, :2], MASK, NOISE, like, **settings)
            check(found, MASK, y[:, :2])
    assert found["x"].shape == (600, 2, 4) and 0.2 < found.acceptance < 1


@pytest.mark.slow("numpyro")
def test_a_generator_has_no_noise_of_its_own(backend: Any) -> None:
    """y = A E[x | z] + e: all draws of x lie on the generator's surface, and near what was seen."""
    given = importlib.import_module(f"{backend.name}_dgm.models.parts").given
    d, package = backend.dist, importlib.import_module(f"{backend.name}_dgm")

    def model(size: int = 1) -> None:
        with backend.plate("data", size):
            z = backend.sample("z", d.Normal(backend.array(np.zeros(2)), 1.0).to_event(1))
            backend.sample("x", given(z @ backend.array(W).T, 1))

    y = np.array([[0.4, -1.0]])
    with backend.double_precision():
        settings = {"num_draws": 50, "kernel": package.mcmc.HMC(0.3, 3), "steps": 40}
        found = backend.evaluation.restore(model, y, MASK, 0.2, size=1, **settings)
    np.testing.assert_allclose(found["x"], found["z"] @ W.T, atol=1e-12)
    posterior = linear_restorer(np.eye(2), MASK @ W, 0.2**2)
    deviation = np.sqrt(np.diag(posterior.covariance))
    assert (abs(found["z"][:, 0].mean(0) - posterior.restore(y)[0]) < deviation).all()


def test_refused(backend: Any) -> None:
    restore, model, y = backend.evaluation.restore, factor_model(backend), np.zeros((2, 3))
    diffusion = backend.conditionals.Diffusion
    key = {"key": backend.jax.random.key(0)} if backend.name == "numpyro" else {}
    prior = diffusion(4, hidden=(3,), **key)

    def diffused(size: int = 1) -> None:
        with backend.plate("data", size):
            backend.sample("x", prior())

    with backend.double_precision():
        for call, sentence in (
            (lambda: restore(model, y, DENSE, 0.0, size=2), "scale must be a positive number"),
            (lambda: restore(model, y, DENSE, 1.0, size=3), "y must be finite numbers, 3 for each"),
            (
                lambda: restore(model, y, DENSE[:, :3], 1.0, size=2),
                r"finite numbers \(outputs, 4\)",
            ),
            (
                lambda: restore(model, y, np.asarray, 1.0, size=2),
                "a matrix .* where data are no im",
            ),
            (lambda: restore(model, y, DENSE, 1.0, size=2, site="w"), "site must be one of the si"),
            (lambda: restore(diffused, y, DENSE, 1.0, size=2), "scored along its flow, which is"),
            (
                lambda: restore(model, y, DENSE, 1.0, size=2, num_draws=0),
                "num_draws must be an int",
            ),
        ):
            with pytest.raises(ValueError, match=sentence):
                call()


def test_chains_of_little_worth_are_told_of() -> None:
    log_w = np.array([[0.0, 0.0]] + [[-50.0, 0.0]] * 9)
    with pytest.warns(RuntimeWarning, match="Of 1 of 2 images the chains are worth fewer than 5"):
        found = as_restored({}, log_w, 0.5)
    np.testing.assert_allclose(found.ess, [1.0, 10.0])
