"""Codes along lines, decoded by models whose means are known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.evaluation import gaussians as g

X = g.data(3)


def codes(x: np.ndarray) -> np.ndarray:
    return x @ g.A.T + g.SHIFT


def means(z: np.ndarray) -> np.ndarray:
    return z @ g.W.T + g.C


def test_one_entry_is_moved(backend: Any) -> None:
    run = backend.run(*g.pair(backend))
    found = backend.evaluation.traverse(run, X, dims=[1, 0], span=(-1.0, 2.0), num_steps=4)["x"]
    assert found.shape == (3, 2, 4, 3)
    z = np.broadcast_to(codes(X)[:, None, None], (3, 2, 4, 2)).copy()
    z[:, 0, :, 1] = z[:, 1, :, 0] = [-1.0, 0.0, 1.0, 2.0]
    np.testing.assert_allclose(found, means(z), atol=1e-12)
    whole = backend.evaluation.traverse(run, X[:1])["x"]
    assert whole.shape == (1, 2, 9, 3)
    np.testing.assert_allclose(whole[0, 0, -1], means(np.array([3.0, codes(X[:1])[0, 1]])))


def test_from_datum_to_datum(backend: Any) -> None:
    run, (a, b) = backend.run(*g.pair(backend)), (X[:2], X[1:])
    straight = backend.evaluation.interpolate(run, a, b, num_steps=5)["x"]
    t = np.linspace(0, 1, 5)[:, None]
    wanted = means((1 - t) * codes(a)[:, None] + t * codes(b)[:, None])
    np.testing.assert_allclose(straight, wanted, atol=1e-12)
    arc = backend.evaluation.interpolate(run, a, b, path="spherical", num_steps=3)["x"]
    np.testing.assert_allclose(arc[:, [0, -1]], wanted[:, [0, -1]], atol=1e-12)
    first, last = codes(a), codes(b)
    cosine = (first * last).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(last, axis=1)
    half = (first + last) / (2 * np.cos(np.arccos(cosine) / 2))[:, None]
    np.testing.assert_allclose(arc[:, 1], means(half), atol=1e-12)
    assert np.abs(arc[:, 1] - wanted[:, 2]).max() > 1e-3


def layers(b: Any) -> tuple[Callable, Callable]:
    """top -> low -> x, and a switch that nothing depends on but x."""
    d, w = b.dist, b.array(g.W)

    def model(x: Any) -> None:
        scale = b.sample("scale", d.LogNormal(b.array(0.0), 1.0))
        with b.plate("data", len(x)):
            side = b.sample("side", d.Normal(b.array(0.0), 1.0))
            top = b.sample("top", d.Normal(b.array(0.0), 1.0))
            low = b.sample("low", d.Normal(b.np.stack([2 * top, top**2], -1), 1.0).to_event(1))
            loc = scale * (low @ w.T) + side[..., None]
            b.sample("x", d.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(x: Any) -> None:
        b.sample("scale", d.Normal(b.array(1.5), 0.1))
        with b.plate("data", len(x)):
            b.sample("side", d.Normal(x[:, 2], 0.1))
            b.sample("top", d.Normal(x[:, 0], 0.1))
            b.sample("low", d.Normal(x[:, :2], 0.1).to_event(1))

    return model, guide


def test_layers_below_follow(backend: Any) -> None:
    """What is drawn from the moved site takes its mean; what is not stays."""
    run = backend.run(*layers(backend))
    found = backend.evaluation.traverse(run, X, site="top", span=1, num_steps=3)["x"][:, 0]
    top = np.array([-1.0, 0.0, 1.0])
    low = np.stack([2 * top, top**2], -1)
    np.testing.assert_allclose(found, 1.5 * low @ g.W.T + X[:, 2, None, None], atol=1e-12)
    low = np.broadcast_to(X[:, None, :2], (3, 3, 2)).copy()
    low[:, :, 1] = top
    found = backend.evaluation.traverse(run, X, site="low", dims=1, span=1, num_steps=3)["x"][:, 0]
    np.testing.assert_allclose(found, 1.5 * low @ g.W.T + X[:, 2, None, None], atol=1e-12)


def positive(b: Any) -> tuple[Callable, Callable]:
    """A positive latent, and a switch."""
    d = b.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            w = b.sample("w", d.Gamma(b.array([2.0, 3.0]), 1.0).to_event(1))
            k = b.sample("k", d.Bernoulli(b.array(0.5)))
            b.sample("x", d.Normal(w.sum(-1) + k, 1.0).expand([len(x)]), obs=x[:, 0])

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("w", d.Gamma(b.np.exp(x[:, :2]), 1.0).to_event(1))
            b.sample("k", d.Bernoulli(b.np.exp(-(x[:, 0] ** 2))))

    return model, guide


def test_what_is_refused(backend: Any) -> None:
    b, run = backend, backend.run(*g.pair(backend))
    traverse, interpolate = b.evaluation.traverse, b.evaluation.interpolate
    for call, words in (
        (lambda: traverse(run, X, site="y"), r"site must be one of the latents of each datum, \["),
        (lambda: traverse(run, X, dims=[2]), "dims must be numbers of entries from 0 to 1"),
        (lambda: traverse(run, X, span=(1, 0)), "span must be two numbers, the first below"),
        (lambda: traverse(run, X, num_steps=1), "num_steps must be an integer of at least 2"),
        (lambda: traverse(b.run(*layers(b)), X), "site must be one of the latents of each datum"),
        (lambda: traverse(b.run(*positive(b)), X, site="w"), "'w' leave its support"),
        (lambda: traverse(b.run(*positive(b)), X, site="w", span=(1, 2)), "'k' leave its support"),
        (lambda: interpolate(run, X, X[:1]), "x_a and x_b must be as many data"),
        (lambda: interpolate(run, X, X, path="arc"), "path must be one of 'linear', 'spherical'"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
