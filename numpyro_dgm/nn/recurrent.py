"""Recurrent networks over sequences of unequal lengths, forward or from the end of each."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_flag
from numpyro_dgm.nn.initial import placed, uniform_draws
from numpyro_dgm.nn.sequences import checked_lengths, without_padding

__all__ = ["GRU"]


class GRU(eqx.Module):
    """A gated recurrent unit over time:  h_t = (1 - u_t) n_t + u_t h_{t-1},  h_0 = 0,  with gates
    u, r and proposal n from x_t and h_{t-1}.

    Args:
        in_dim: the features of a step.
        hidden: of h.
        reverse: whether it runs from the end of each sequence, so that h_t sees x_t, ..., x_T.

    Shapes:
        x (*batch, T, in_dim), lengths (*batch,) or None for T -> (*batch, T, hidden), zero behind
        the lengths; what stands there is not looked at, NaN included.

    Raises:
        ValueError: for sizes, features or lengths that do not fit.

    References:
        Cho et al. (2014), arXiv:1406.1078.

    Example:
        >>> GRU(3, 8, reverse=True, key=jax.random.key(0))(jnp.zeros((5, 7, 3))).shape
        (5, 7, 8)
    """

    weight_ih_l0: Array
    weight_hh_l0: Array
    bias_ih_l0: Array
    bias_hh_l0: Array
    in_dim: int = eqx.field(static=True)
    out_dim: int = eqx.field(static=True)
    reverse: bool = eqx.field(static=True)

    def __init__(self, in_dim: int, hidden: int, *, reverse: bool = False, key: Array) -> None:
        in_dim, hidden = check_count("in_dim", in_dim), check_count("hidden", hidden)
        rows = uniform_draws(key, (3 * hidden, in_dim + hidden + 2), hidden**-0.5)
        self.weight_ih_l0 = placed(rows[:, :in_dim])
        self.weight_hh_l0 = placed(rows[:, in_dim:-2])
        self.bias_ih_l0, self.bias_hh_l0 = placed(rows[:, -2]), placed(rows[:, -1])
        self.in_dim, self.out_dim = in_dim, hidden
        self.reverse = check_flag("reverse", reverse)

    def __call__(self, x: Array, lengths: Any = None) -> Array:
        """The states h of all steps."""
        if x.ndim < 2 or x.shape[-1] != self.in_dim:
            raise ValueError(
                f"{self} expects sequences of shape (*batch, length, {self.in_dim}), got shape "
                f"{tuple(x.shape)}."
            )
        if lengths is not None:
            lengths = checked_lengths(lengths, x.shape[-2])
            x = without_padding(x, lengths)
        inputs = turned(x, lengths) if self.reverse else x
        inputs = inputs @ self.weight_ih_l0.T + self.bias_ih_l0

        def step(state: Array, given: Array) -> tuple[Array, Array]:
            state = self._after(state, given)
            return state, state

        start = jnp.zeros((*x.shape[:-2], self.out_dim), inputs.dtype)
        _, states = jax.lax.scan(step, start, jnp.moveaxis(inputs, -2, 0))
        states = jnp.moveaxis(states, 0, -2)
        states = turned(states, lengths) if self.reverse else states
        return states if lengths is None else without_padding(states, lengths)

    def step(self, x: Array, state: Array) -> Array:
        """One step: h_t from x_t (*batch, in_dim) and h_{t-1} (*batch, hidden)."""
        return self._after(state, x @ self.weight_ih_l0.T + self.bias_ih_l0)

    def _after(self, state: Array, inputs: Array) -> Array:
        kept = state @ self.weight_hh_l0.T + self.bias_hh_l0
        (r, u, n), (kept_r, kept_u, kept_n) = jnp.split(inputs, 3, -1), jnp.split(kept, 3, -1)
        u = jax.nn.sigmoid(u + kept_u)
        proposal = jnp.tanh(n + jax.nn.sigmoid(r + kept_r) * kept_n)
        return (1 - u) * proposal + u * state

    def __repr__(self) -> str:
        turn = ", reverse=True" if self.reverse else ""
        return f"GRU({self.in_dim}, {self.out_dim}{turn})"


def turned(x: Array, lengths: Array | None) -> Array:
    """Sequences (*batch, T, features) from their ends; what is behind these stays."""
    if lengths is None:
        return jnp.flip(x, -2)
    steps = jnp.arange(x.shape[-2])
    index = jnp.where(steps < lengths[..., None], lengths[..., None] - 1 - steps, steps)
    return jnp.take_along_axis(x, index[..., None], -2)
