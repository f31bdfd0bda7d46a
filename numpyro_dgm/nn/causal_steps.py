"""Stacks of causal convolutions step by step: what was computed at earlier steps is kept.

The past of all layers lies in one ring buffer. One gather and one batched product give what all
layers take from their pasts, since all of that is known before the step; then a short chain takes
what the current step adds.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from numpyro_dgm.nn.causal import CausalStack, gated

__all__: list[str] = []  # for the package, not for users


class Steps(eqx.Module):
    """The features of a stack step by step, equal to its one pass.

    Args:
        stack: the network.
        context: with one batch dimension, or None.
        num: sequences.
    """

    stack: CausalStack
    num: int = eqx.field(static=True)
    added: Array  # (steps or 1, layers, num or 1, 2 channels)
    past: Array  # (layers, (kernel_size - 1) channels, 2 channels)
    now: Array  # (layers, channels, 2 channels)
    biases: Array  # (layers, 1, channels)

    def __init__(self, stack: CausalStack, context: Any, num: int) -> None:
        blocks = stack.blocks
        weights = jnp.stack([block.conv.weight for block in blocks]).transpose(0, 3, 2, 1)
        residuals = [block.residual for block in blocks[:-1]]
        # h is computed without its biases, which are added to all layers at once.
        biases = jnp.stack([stack.input.bias, *(r.bias for r in residuals)]).cumsum(0)[:, None]
        added = jnp.stack([block.conv.bias for block in blocks])[:, None] + biases @ weights[:, -1]
        from_context = stack.added(context)  # (num, steps or 1, layers, 2 channels)
        self.added = added[None]
        if from_context is not None:
            self.added = added + from_context.transpose(1, 2, 0, 3)
        self.stack, self.num, self.biases = stack, num, biases
        self.past = weights[:, :-1].reshape(len(blocks), -1, weights.shape[-1])
        self.now = weights[:, -1]

    def empty(self) -> Array:
        """The buffer before the first step."""
        weight = self.stack.input.weight
        return jnp.zeros((self.stack.ring.rows, self.num, len(weight)), weight.dtype)

    def __call__(self, buffer: Array, index: Array, previous: Array) -> tuple[Array, Array]:
        """The features (num, out_dim) of step `index` and the next buffer, given the input of the
        step before it (num, in_dim), zeros at first.
        """
        ring, size = self.stack.ring, self.stack.ring.kernel_size - 1
        x = self.added[index if len(self.added) > 1 else 0]
        if size:
            taps = buffer[ring.taps(index)]  # (layers, kernel_size - 1, num, channels)
            taps = taps.transpose(0, 2, 1, 3).reshape(len(self.past), self.num, -1)
            x = x + taps @ self.past
        h = previous @ self.stack.input.weight.T
        hidden, gates = [h], []
        for l, block in enumerate(self.stack.blocks):
            gates.append(gated(x[l] + h @ self.now[l]))
            if block.residual is not None:
                h = h + gates[-1] @ block.residual.weight.T
                hidden.append(h)
        if size:
            buffer = buffer.at[ring.slots(index)].set(jnp.stack(hidden) + self.biases)
        return self.stack.out(self.stack.skip(jnp.concatenate(gates, -1))), buffer
