"""Terms that compare samples: equal values, gradients and updates of the critic in both backends,
for the same samples and critics, at 1e-10.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import numpyro_dgm.losses as jlosses
import numpyro_dgm.nn
import pyro_dgm.losses as tlosses
import pyro_dgm.nn
from tests.contracts.libraries import QUICKLY
from tests.twins.copying import arrays_of, copy_weights, shake

RNG = np.random.default_rng(0)
REAL, FAKE, AGAIN = (
    RNG.standard_normal((7, 3)),
    0.5 + 0.8 * RNG.standard_normal((5, 3)),
    RNG.standard_normal((5, 3)),
)
LR = 0.1

FS = [
    "total_variation",
    "kl",
    "reverse_kl",
    "pearson",
    "neyman",
    "squared_hellinger",
    "jeffrey",
    "jensen_shannon",
    "gan",
]
PLAYERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    f: lambda l, c, o, f=f: l.FDivergence("x", c, f=f, optim=o) for f in FS
}
PLAYERS |= {
    f"{f}, non-saturating": lambda l, c, o, f=f: l.FDivergence(
        "x", c, f=f, generator="non_saturating", optim=o
    )
    for f in ("kl", "pearson")
}
PLAYERS |= {
    "alpha": lambda l, c, o: l.FDivergence("x", c, f=l.divergence("alpha", alpha=0.3), optim=o),
    "weighted": lambda l, c, o: l.FDivergence(
        "x", c, f=l.divergence("weighted_jensen_shannon", pi=0.3), optim=o
    ),
    "GAN": lambda l, c, o: l.JensenShannon("x", c, optim=o, regularizer=l.R1(0.4)),
    "saturating": lambda l, c, o: l.JensenShannon(
        "x", c, generator="saturating", optim=o, regularizer=l.R2(0.4)
    ),
    "noise": lambda l, c, o: l.JensenShannon("x", c, optim=o, regularizer=l.NoiseRegularizer(0.4)),
    "noise, jeffrey": lambda l, c, o: l.FDivergence(
        "x", c, f="jeffrey", optim=o, regularizer=l.NoiseRegularizer(0.4, f="jeffrey")
    ),
    "b-GAN": lambda l, c, o: l.DensityRatio("x", c, optim=o),
    "b-GAN, kl": lambda l, c, o: l.DensityRatio("x", c, f="kl", optim=o),
    "Wasserstein": lambda l, c, o: l.Wasserstein("x", c, penalty=l.R1(1.0), optim=o),
    "clipped": lambda l, c, o: l.Wasserstein("x", c, clip=0.2, optim=o),
}
OTHERS: dict[str, Callable[[Any], Any]] = {
    "MMD": lambda l: l.MMD("x"),
    "MMD, biased": lambda l: l.MMD("x", l.IMQ(0.7), unbiased=False),
    "MMD, linear": lambda l: l.MMD("x", l.RationalQuadratic(), linear=True),
    "energy score": lambda l: l.EnergyScore("x", beta=1.3),
}


IMAGES = {"hidden_channels": (3, 4), "out_dim": 5, "activation": "tanh"}
IMAGE_CRITIC = {"hidden_channels": (3, 4), "features": 5, "activation": "tanh"}
CRITICS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "spectral": ("Critic", (3,), {"hidden": (6, 4), "spectral_norm": True}, (3,)),
    "image": ("ImageCritic", ((2, 8, 9),), IMAGE_CRITIC, (2, 8, 9)),
    "image, spectral": (
        "ImageCritic",
        ((2, 8, 9),),
        IMAGE_CRITIC | {"spectral_norm": True},
        (2, 8, 9),
    ),
    "projection": (
        "ProjectionCritic",
        (3, 4),
        {"encoder": ("MLP", (3, (6, 5)), {"activation": "tanh"})},
        (7,),
    ),
    "projection, spectral image": (
        "ProjectionCritic",
        ((1, 4, 4), 3),
        {"spectral_norm": True, "encoder": ("ConvEncoder", ((1, 4, 4),), IMAGES)},
        (19,),
    ),
}


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def joints(real: Any, fake: Any, again: Any, stack: Callable) -> Any:
    """What terms read of the joints, with samples that are given."""
    found = SimpleNamespace(
        samples=lambda sites: (real, fake),
        redrawn=lambda sites, num: stack([fake, again]),
        outputs={},
    )
    key: Any = {} if stack is torch.stack else {"key": jax.random.key(0)}
    found.state = lambda term: term.init_state(found, **key)
    return found


def torch_side(term: Any, real: np.ndarray) -> tuple[float, list[np.ndarray]]:
    samples = [torch.as_tensor(x).requires_grad_() for x in (real, FAKE, AGAIN)]
    quantity, _ = term.estimate(joints(*samples, torch.stack), 0)
    gradients = torch.autograd.grad(quantity, samples, allow_unused=True)
    return quantity.item(), [
        np.zeros(x.shape) if g is None else g.numpy() for g, x in zip(gradients, samples)
    ]


def jax_side(term: Any, real: np.ndarray) -> tuple[float, list[np.ndarray]]:
    def quantity(*samples: Any) -> Any:
        return term.estimate(joints(*samples, jnp.stack), 0)[0]

    value, gradients = jax.jit(jax.value_and_grad(quantity, (0, 1, 2)))(
        *map(jnp.asarray, (real, FAKE, AGAIN))
    )
    return float(value), [np.asarray(g) for g in gradients]


def compare(term: Any, other: Any, real: np.ndarray) -> None:
    (value, gradients), (twin_value, twin_gradients) = torch_side(term, real), jax_side(other, real)
    np.testing.assert_allclose(twin_value, value, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(gradients, twin_gradients):
        np.testing.assert_allclose(theirs, ours, rtol=1e-10, atol=1e-10)
    assert abs(gradients[1]).max() > 1e-4


@pytest.mark.parametrize("name", PLAYERS)
def test_terms_with_a_critic(name: str) -> None:
    critic = shake(tlosses.Critic(3, hidden=(6, 4), activation="tanh"))
    twin = copy_weights(
        critic, jlosses.Critic(3, hidden=(6, 4), activation="tanh", key=jax.random.key(0))
    )
    term = PLAYERS[name](tlosses, critic, lambda params: torch.optim.SGD(params, LR))
    other = PLAYERS[name](jlosses, twin, optax.sgd(LR))
    assert repr(term).split(", optim=")[0] == repr(other).split(", optim=")[0]
    compare(term, other, REAL)
    samples = joints(torch.as_tensor(REAL), torch.as_tensor(FAKE), None, torch.stack)
    before = {
        path: parameter.detach().numpy().copy() for path, parameter in critic.named_parameters()
    }
    term.update(samples.state(term), samples, 0)
    samples = joints(jnp.asarray(REAL), jnp.asarray(FAKE), None, jnp.stack)
    state = jax.jit(lambda: other.update(samples.state(other), samples, 0, key=jax.random.key(0)))()
    moved = {path: parameter.detach().numpy() for path, parameter in critic.named_parameters()}
    for path, array in arrays_of(state["weights"]).items():
        np.testing.assert_allclose(array, moved[path], rtol=1e-10, atol=1e-10, err_msg=path)
    assert any(abs(moved[path] - before[path]).max() > 1e-3 for path in moved)
    if name == "clipped":
        assert max(abs(array).max() for array in moved.values()) <= 0.2


@pytest.mark.parametrize("name", OTHERS)
def test_terms_without_a_critic(name: str) -> None:
    compare(OTHERS[name](tlosses), OTHERS[name](jlosses), REAL[: len(FAKE)])


@pytest.mark.parametrize("name", CRITICS)
def test_critics(name: str) -> None:
    """Outputs, and the gradients of R1 in all weights, which are second derivatives."""
    cls, sizes, settings, shape = CRITICS[name]
    key, theirs = jax.random.key(0), dict(settings)
    if "encoder" in settings:
        network, network_sizes, network_settings = settings["encoder"]
        settings = settings | {
            "encoder": getattr(pyro_dgm.nn, network)(*network_sizes, **network_settings)
        }
        theirs["encoder"] = getattr(numpyro_dgm.nn, network)(
            *network_sizes, **network_settings, key=key
        )
    critic = shake(getattr(tlosses, cls)(*sizes, **settings), scale=0.1)
    twin = copy_weights(critic, getattr(jlosses, cls)(*sizes, **theirs, key=key))
    x = np.random.default_rng(1).standard_normal((4, *shape))

    def cost(critic: Any) -> Any:
        return critic(jnp.asarray(x)).sum() + jlosses.R1()(critic, jnp.asarray(x), None, None)

    ours = critic(torch.as_tensor(x)).sum() + tlosses.R1()(critic, torch.as_tensor(x), None)
    value, gradients = eqx.filter_jit(eqx.filter_value_and_grad(cost), **QUICKLY)(twin)
    ours.backward()
    np.testing.assert_allclose(value, ours.item(), rtol=1e-10, atol=1e-10)
    for path, array in arrays_of(gradients).items():
        gradient = dict(critic.named_parameters())[path].grad
        np.testing.assert_allclose(array, gradient, rtol=1e-9, atol=1e-10, err_msg=path)
        assert abs(array).max() > 1e-6, path
