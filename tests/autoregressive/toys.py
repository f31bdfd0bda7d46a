"""A small autoregressive conditional of both libraries: one masked layer.

h_i = tanh(sum_{j < i} W_ij u_j + V c + b).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

import numpyro_dgm.conditionals as numpyro_conditionals
import pyro_dgm.conditionals as pyro_conditionals

HIDDEN = 5


class PyroToy(pyro_conditionals.Autoregressive):
    def __init__(self, steps: int, size: int, family: Any, **settings: Any) -> None:
        dim = (steps, size)
        super().__init__(dim, family, features=HIDDEN, steps=steps, size=size, **settings)
        rng = np.random.default_rng(0)
        shape = (steps, HIDDEN, steps, self.in_features)
        entries = sum(map(np.prod, self.context_shape and (self.context_shape,)))
        self.weight = torch.nn.Parameter(torch.as_tensor(rng.standard_normal(shape)))
        self.by_context = torch.nn.Parameter(
            torch.as_tensor(rng.standard_normal((HIDDEN, entries)))
        )
        self.double()

    def _row(self, index: int, u: Any, context: Any) -> Any:
        past = torch.einsum("hjd,njd->nh", self.weight[index, :, :index], u[:, :index])
        given = 0.0 if context is None else self.flat(context) @ self.by_context.T
        return torch.tanh(past + given + 0.1)

    def features(self, u: Any, context: Any) -> Any:
        return torch.stack([self._row(i, u, context) for i in range(self.num_steps)], 1)

    def begin(self, context: Any, num: int) -> Any:
        return context, []

    def advance(self, state: Any, index: int, previous: Any) -> Any:
        context, before = state
        before = [*before, previous]
        u = torch.stack([*before[1:], torch.zeros_like(previous)], 1)
        return self._row(index, u, context), (context, before)


class NumPyroToy(numpyro_conditionals.Autoregressive):
    weight: jax.Array
    by_context: jax.Array

    def __init__(self, steps: int, size: int, family: Any, *, twin: PyroToy, **settings: Any):
        dim = (steps, size)
        super().__init__(
            dim, family, features=HIDDEN, steps=steps, size=size, key=jax.random.key(0), **settings
        )
        self.weight = jnp.asarray(twin.weight.detach().numpy())
        self.by_context = jnp.asarray(twin.by_context.detach().numpy())
        self.family = eqx.tree_at(
            lambda family: (family.head.weight, family.head.bias),
            self.family,
            tuple(
                jnp.asarray(part.detach().numpy())
                for part in (twin.family.head.weight, twin.family.head.bias)
            ),
        )

    def _row(self, index: Any, u: Any, context: Any) -> Any:
        seen = (jnp.arange(self.num_steps) < index)[:, None]
        past = jnp.einsum("hjd,njd->nh", self.weight[index] * seen, u)
        given = 0.0 if context is None else self.flat(context) @ self.by_context.T
        return jnp.tanh(past + given + 0.1)

    def features(self, u: Any, context: Any) -> Any:
        rows = jax.vmap(lambda i: self._row(i, u, context))(jnp.arange(self.num_steps))
        return jnp.moveaxis(rows, 0, 1)

    def begin(self, context: Any, num: int) -> Any:
        dtype = self.weight.dtype
        return context, jnp.zeros((num, self.num_steps + 1, self.in_features), dtype)

    def advance(self, state: Any, index: Any, previous: Any) -> Any:
        context, before = state
        before = before.at[:, index].set(previous)
        return self._row(index, before[:, 1:], context), (context, before)
