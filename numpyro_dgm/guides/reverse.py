"""Networks of reverse models: r(a | c) of what a guide draws beyond its model."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.guides import built
from numpyro_dgm.conditionals import Conditional, DiagonalNormal, FullRankNormal
from numpyro_dgm.conditionals.base import required_key
from numpyro_dgm.nn import MLP

__all__: list[str] = []  # for the package, not for users

LARGEST = 32  # entries of a normal with all covariances, where nothing else is said


class Lifted(eqx.Module):
    """A vector and features of it, (x, MLP(x)): what is linear in these is linear in x as well."""

    network: Any
    out_dim: int = eqx.field(static=True)

    def __init__(self, size: int, hidden: tuple[int, ...], *, key: Array | None = None) -> None:
        self.network = None
        if hidden:
            key = required_key(key, "The networks of this guide")
            self.network = MLP(size, hidden, activation="tanh", key=key)
        self.out_dim = size + (hidden[-1] if hidden else 0)

    def __call__(self, x: Array) -> Array:
        """(*batch, size) -> (*batch, out_dim)."""
        return x if self.network is None else jnp.concatenate([x, self.network(x)], -1)


class Reverse(eqx.Module):
    """r(a | c) of `dim` entries; where its family has a linear head, that starts at zero, so that
    a normal r starts as a standard one."""

    network: Lifted
    family: Conditional

    def __init__(
        self, family: Any, dim: int, context: int, hidden: tuple[int, ...], *, key: Array | None
    ) -> None:
        keys = (None, None) if key is None else jax.random.split(key)
        self.network = Lifted(context, hidden, key=keys[0])
        family = family or (FullRankNormal if dim <= LARGEST else DiagonalNormal)
        size = self.network.out_dim
        self.family = without_head(built(family, dim, size, Conditional, "reverse", keys[1]))

    def __call__(self, context: Array) -> Any:
        """The distribution given c."""
        return self.family(self.network(context))


def without_head(conditional: Conditional) -> Conditional:
    """A conditional whose linear head, where it has one, is zero."""
    head = getattr(conditional, "head", None)
    if head is None:
        return conditional
    zero = jax.tree.map(lambda x: jnp.zeros_like(x) if eqx.is_inexact_array(x) else x, head)
    return eqx.tree_at(lambda owner: owner.head, conditional, zero)
