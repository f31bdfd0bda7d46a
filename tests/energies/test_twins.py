"""Energies and their terms in both libraries, at equal weights, noise and chains, to 1e-10."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from numpyro_dgm import conditionals as theirs
from numpyro_dgm.losses.scores import score_matching as their_scores
from numpyro_dgm.nn import MLP as TheirMLP
from pyro_dgm import conditionals as ours
from pyro_dgm.losses.scores import score_matching as our_scores
from pyro_dgm.nn import MLP
from tests.twins.copying import arrays_of, copy_weights, shake

RNG = np.random.default_rng(0)
X, CONTEXT = RNG.standard_normal((4, 2)), RNG.standard_normal((4, 3))
KEY = jax.random.key(0)


def nets(size: int) -> tuple[Any, Any]:
    return (
        MLP(size, (5,), 1, activation="silu"),
        TheirMLP(size, (5,), 1, activation="silu", key=KEY),
    )


def made(kind: str) -> tuple[Any, Any]:
    """The two twins of an unnormalized conditional, with equal weights."""
    size = 5 if kind == "given" else 2
    net, twin = nets(size)
    if kind == "tilted":
        one: Any = ours.Tilted(ours.DiagonalNormal(2), net)
        two: Any = theirs.Tilted(theirs.DiagonalNormal(2), twin)
    else:
        context = 3 if kind == "given" else 0
        one = ours.Energy(2, net, context_shape=context)
        two = theirs.Energy(2, twin, context_shape=context)
    assert isinstance(shake(one), ours.UnnormalizedConditional)
    return one, copy_weights(one, two)


def in_torch(function: Callable, module: Any) -> tuple[float, dict[str, np.ndarray]]:
    """The sum of a function of the distribution, and the gradients in its weights."""
    value = function(module).sum()
    weights = dict(module.named_parameters())
    found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return value.item(), {
        name: np.zeros(w.shape) if g is None else g.numpy()
        for (name, w), g in zip(weights.items(), found, strict=True)
    }


@pytest.mark.parametrize("kind", ["given", "tilted"])
def test_densities_and_scores_agree(x64: None, kind: str) -> None:
    """log p + ln Z, log ratios, exact and sliced score matching and denoising, with gradients; the
    exact one is also that of a Hessian by differences of the score.
    """
    one, two = made(kind)
    signs, normal = np.sign(RNG.standard_normal((2, 4, 2))), RNG.standard_normal((4, 2))
    given = (CONTEXT,) if kind == "given" else ()

    def run(library: Any, scores: Any, module: Any) -> Any:
        array = torch.as_tensor if library is torch else jnp.asarray
        p, x = module(*map(array, given)), array(X)
        density = p.unnormalized_log_prob
        return library.stack(
            [
                density(x),
                0.3 * p.log_ratio(2 * x),
                0.7 * scores.hyvarinen(density, x),
                1.3 * scores.hyvarinen(density, x, array(signs)),
                1.9 * scores.denoising(density, x, array(normal), 0.4),
            ]
        ).sum(0)

    value, gradients = in_torch(lambda module: run(torch, our_scores, module), one)
    twin = jax.jit(
        jax.value_and_grad(lambda module: run(jnp, their_scores, module).sum(), allow_int=True)
    )
    other, slopes = twin(two)
    assert float(other) == pytest.approx(value, rel=1e-10)
    found = arrays_of(slopes)
    assert gradients.keys() == found.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-10, atol=1e-10, err_msg=name)
    p, x = one(*map(torch.as_tensor, given)), torch.as_tensor(X)

    def score(x: Any) -> Any:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(p.unnormalized_log_prob(x).sum(), x)[0]

    steps = 1e-5 * torch.eye(2, dtype=x.dtype)
    trace = sum((score(x + e) - score(x - e))[:, i] / 2e-5 for i, e in enumerate(steps))
    expected = trace + score(x).square().sum(-1) / 2
    exact = our_scores.hyvarinen(p.unnormalized_log_prob, x).detach()
    torch.testing.assert_close(exact, expected, rtol=1e-6, atol=1e-6)
