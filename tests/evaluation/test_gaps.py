"""The two gaps of an amortized guide against closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

X = np.array([[1.0, -0.5], [0.2, 2.0], [-1.5, 0.3]])
NOISE = np.array([[1.0, 0.8], [0.8, 1.0]])  # x | z ~ N(z, NOISE)


def correlated(b: Any, slope: float = 0.8) -> tuple[Callable, Callable]:
    """z ~ N(0, I) and x ~ N(z, NOISE); a diagonal guide, with one slope and one scale for all."""
    d = b.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(b.array(np.zeros(2)), 1.0).to_event(1))
            b.sample("x", d.MultivariateNormal(z, b.array(NOISE)), obs=x)

    def guide(x: Any) -> None:
        positive = d.constraints.positive
        loc = b.param("slope", b.array(slope)) * x + b.param("shift", b.array(np.zeros(2)))
        scale = b.param("scale", b.array(np.full(2, 0.4)), constraint=positive)
        with b.plate("data", len(x)):
            b.sample("z", d.Normal(loc, scale).to_event(1))

    return model, guide


def exact(slope: float) -> tuple[np.ndarray, float, np.ndarray]:
    """log p(x), the gap of the best diagonal normal, and KL(q, posterior) of the guide."""
    evidence_cov = np.eye(2) + NOISE
    inverse = np.linalg.inv(evidence_cov)
    log_p = -0.5 * np.einsum("ni,ij,nj->n", X, inverse, X)
    log_p -= 0.5 * np.linalg.slogdet(2 * np.pi * evidence_cov)[1]
    precision = np.eye(2) + np.linalg.inv(NOISE)
    mean = X @ np.linalg.inv(NOISE) @ np.linalg.inv(precision)
    best = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    off, variance = slope * X - mean, np.full(2, 0.4**2)
    kl = 0.5 * (np.diag(precision) @ variance + np.einsum("ni,ij,nj->n", off, precision, off))
    return (
        log_p,
        best,
        kl - 1 - 0.5 * np.log(variance).sum() - 0.5 * np.linalg.slogdet(precision)[1],
    )


def test_the_two_gaps(backend: Any) -> None:
    """A diagonal family loses log |diag P| - log |P| / 2, the rest of the KL is the encoder's."""
    b = backend
    run = b.run(*correlated(b))
    gaps = b.evaluation.inference_gaps(
        run, X, num_steps=250, learning_rate=0.05, num_particles=4000
    )
    log_p, best, kl = exact(0.8)
    np.testing.assert_allclose(gaps.log_evidence, log_p, atol=0.05)
    np.testing.assert_allclose(gaps.approximation, best, atol=0.06)
    np.testing.assert_allclose(gaps.amortization, kl - best, atol=0.12)
    assert (kl - best > 0.04).all() and (kl - best).max() > 0.3 and best > 0.1
    again = b.evaluation.log_weights(run, X, num_particles=4000)  # the run is as it was
    np.testing.assert_allclose(again.mean(0), log_p - kl, atol=0.1)


def test_what_is_refused(backend: Any) -> None:
    b, d = backend, backend.dist
    model, guide = correlated(b)

    def fixed(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("z", d.Normal(0.5 * x, 0.4).to_event(1))

    def shared(x: Any) -> None:
        w = b.sample("w", d.Normal(b.array(0.0), 1.0))
        with b.plate("data", len(x)):
            b.sample("x", d.Normal(w, 1.0).expand([len(x), 2]).to_event(1), obs=x)

    def of_shared(x: Any) -> None:
        b.sample("w", d.Normal(b.param("w.loc", b.array(0.0)) + x[0].sum(), 1.0))

    def switch(x: Any) -> None:
        with b.plate("data", len(x)):
            k = b.sample("k", d.Bernoulli(b.array(0.5)))
            b.sample("x", d.Normal(k[..., None] + b.array(np.zeros(2)), 1.0).to_event(1), obs=x)

    def of_switch(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("k", d.Bernoulli(b.param("p", b.array(0.5)) / (1 + x[:, 0] ** 2)))

    def blind(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("z", d.Normal(b.param("all", b.array(np.zeros((3, 2)))), 0.4).to_event(1))

    for pair, words in (
        ((model, blind), "The guide does not look at its data: it amortizes nothing"),
        ((model, fixed), "no parameters of its own that could be tuned"),
        ((shared, of_shared), r"must lie in one plate of the data, got \['w'\] outside"),
        ((switch, of_switch), r"draws of \['k'\] are not reparameterized"),
    ):
        with pytest.raises(ValueError, match=words):
            b.evaluation.inference_gaps(b.run(*pair), X, num_steps=1, num_particles=5)
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 1, got 0"):
        b.evaluation.inference_gaps(b.run(model, guide), X, num_steps=0)
