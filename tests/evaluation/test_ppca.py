"""A linear VAE is probabilistic PCA (Tipping and Bishop 1999): its maximum likelihood and its
posterior are known exactly.

max log-likelihood per datum = -1/2 [D ln 2 pi + sum_{i <= q} ln l_i + (D - q) ln s2 + D],
l_i the eigenvalues of the covariance, s2 the mean of the discarded ones.
"""

import math
from typing import Any

import numpy as np
import pytest

from dgm_core.data import load
from dgm_core.schedules import Schedule

AS_USERS_COMPILE = True

Z_DIM = 4
FLOOR = 1e-4  # of every learned scale


def digits() -> np.ndarray:
    return load("digits").train.astype(np.float32)


def ppca(x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
    """The maximum of the log-likelihood per datum, and where it lies: (W, b, sigma)."""
    dim = x.shape[1]
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64), bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    s2 = values[Z_DIM:].mean()
    best = -0.5 * (
        dim * math.log(2 * math.pi)
        + np.log(values[:Z_DIM]).sum()
        + (dim - Z_DIM) * math.log(s2)
        + dim
    )
    return best, vectors[:, :Z_DIM] * np.sqrt(values[:Z_DIM] - s2), x.mean(0), math.sqrt(s2)


def log_likelihood(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, scale: float) -> float:
    """mean_n log Normal(x_n; b, W W' + s2 I)."""
    cov = weight @ weight.T + scale**2 * np.eye(x.shape[1])
    centered = x.astype(np.float64) - bias
    mahalanobis = (centered * np.linalg.solve(cov, centered.T).T).sum(1).mean()
    return -0.5 * (x.shape[1] * math.log(2 * math.pi) + np.linalg.slogdet(cov)[1] + mahalanobis)


def raw(scale: np.ndarray | float) -> np.ndarray:
    """The unconstrained number behind a learned scale."""
    return np.log(np.expm1(np.asarray(scale) - FLOOR)) - math.log(math.expm1(1 - FLOOR))


def exact_weights(x: np.ndarray) -> dict[str, np.ndarray]:
    """The weights of the linear VAE at the maximum, with the exact posterior z | x ~ Normal(M^-1
    W'(x - b), s2 M^-1), M = W'W + s2 I, as its guide.
    """
    _, weight, bias, scale = ppca(x)
    precision = weight.T @ weight + scale**2 * np.eye(Z_DIM)
    tril = np.linalg.cholesky(scale**2 * np.linalg.inv(precision))
    diagonal = np.diag(tril)
    below = np.tril_indices(Z_DIM, -1)
    gain = np.linalg.solve(precision, weight.T)
    head = np.zeros((Z_DIM * (Z_DIM + 3) // 2, x.shape[1]))
    head[:Z_DIM] = gain
    head_bias = np.concatenate([-gain @ bias, raw(diagonal), (tril / diagonal[:, None])[below]])
    return {
        "likelihood.head.weight": weight,
        "likelihood.head.bias": bias,
        "likelihood.raw_scale": raw(scale),
        "posterior.head.weight": head,
        "posterior.head.bias": head_bias,
    }


def linear_vae(name: str, dim: int) -> Any:
    if name == "pyro":
        import torch

        from pyro_dgm import VAE, conditionals

        torch.manual_seed(0)
        return VAE(
            dim,
            Z_DIM,
            hidden=(),
            posterior=conditionals.FullRankNormal(Z_DIM, context_shape=dim),
            likelihood=conditionals.Normal(dim, context_shape=Z_DIM),
        )
    import jax

    from numpyro_dgm import VAE, conditionals

    keys = jax.random.split(jax.random.key(0), 3)
    posterior = conditionals.FullRankNormal(Z_DIM, context_shape=dim, key=keys[0])
    return VAE(
        dim,
        Z_DIM,
        hidden=(),
        posterior=posterior,
        likelihood=conditionals.Normal(dim, context_shape=Z_DIM, key=keys[1]),
        key=keys[2],
    )


def with_weights(name: str, vae: Any, weights: dict[str, np.ndarray]) -> Any:
    if name == "pyro":
        import torch

        vae.load_state_dict(
            {path: torch.as_tensor(value) for path, value in weights.items()}, strict=False
        )
        return vae
    import equinox as eqx
    import jax.numpy as jnp

    for path, value in weights.items():
        *parents, last = path.split(".")

        def where(tree: Any, parents: list[str] = parents, last: str = last) -> Any:
            for parent in parents:
                tree = getattr(tree, parent)
            return getattr(tree, last)

        vae = eqx.tree_at(where, vae, jnp.asarray(value, jnp.float32))
    return vae


@pytest.mark.parametrize("name", ["pyro", "numpyro"])
@pytest.mark.slow("numpyro")
def test_elbo_with_the_exact_guide_is_the_likelihood(name: str) -> None:
    x = digits()
    best = ppca(x)[0]
    vae = with_weights(name, linear_vae(name, x.shape[1]), exact_weights(x))
    evaluation = __import__(f"{name}_dgm.evaluation", fromlist=["log_weights"])
    log_w = evaluation.log_weights(vae, x, num_particles=4)
    assert log_w.mean() == pytest.approx(best, abs=0.01)
    assert np.abs(log_w - log_w.mean(0)).max() < 0.01  # every draw weighs the same


@pytest.mark.long("[numpyro")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["pyro", "numpyro"])
def test_training_reaches_the_maximum_likelihood(name: str) -> None:
    x = digits()
    best = ppca(x)[0]
    vae = linear_vae(name, x.shape[1])
    losses = __import__(f"{name}_dgm.losses", fromlist=["ELBO"])
    training = __import__(f"{name}_dgm.training", fromlist=["fit"])
    num_epochs = 250
    run = training.fit(
        vae.model,
        vae.guide,
        x,
        loss=losses.ELBO(estimator="stl"),
        optim=training.Adam(0.02),
        lr_schedule=Schedule((0, 6 * num_epochs), (1.0, 0.01)),
        num_epochs=num_epochs,
        batch_size=256,
        progress=False,
    )
    if name == "pyro":
        learned = {path: value.detach().numpy() for path, value in vae.named_parameters()}
        weight, bias, raw_scale = (
            learned[f"likelihood.{path}"] for path in ("head.weight", "head.bias", "raw_scale")
        )
    else:
        likelihood = run.params["likelihood$params"]
        weight, bias, raw_scale = (
            np.asarray(a)
            for a in (likelihood.head.weight, likelihood.head.bias, likelihood.raw_scale)
        )
    scale = FLOOR + math.log1p(math.exp(raw_scale + math.log(math.expm1(1 - FLOOR))))
    reached = log_likelihood(x, weight.astype(np.float64), bias, scale)
    assert best - 0.1 < reached < best + 1e-3
    evaluation = __import__(f"{name}_dgm.evaluation", fromlist=["log_weights"])
    bound = evaluation.log_weights(run, x, num_particles=20).mean()
    assert bound == pytest.approx(
        reached, abs=0.1
    )  # the guide is learned too: within a tenth of a nat of exact
    assert bound < reached + 0.01
