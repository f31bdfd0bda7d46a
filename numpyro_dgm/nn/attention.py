"""Masked self-attention over positions in raster order, in one pass and a position at a time."""

from math import prod, sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.arguments import check_count, check_instance
from dgm_core.attention import Pattern, check_steps, fits_length
from numpyro_dgm.nn.layers import Linear, times

__all__ = ["MaskedAttention"]


class _Projection(eqx.Module):
    """A linear map without a constant; weight (out, in)."""

    weight: Array

    def __init__(self, in_dim: int, out_dim: int, *, key: Array) -> None:
        self.weight = Linear(in_dim, out_dim, key=key).weight

    def __call__(self, x: Array) -> Array:
        return times(x, self.weight)


class MaskedAttention(eqx.Module):
    """Attention of several heads, each position to those that a pattern M lets it see.

    With q_i = W_q x_i, k_j, v_j = W_m y_j of each head: a_ij = softmax_j(q_i . k_j / sqrt(d)) over
    the keys j that query i sees, out_i = W_o concat_heads(sum_j a_ij v_j) + b_o. Without a memory
    y = x. Who sees nobody gets b_o.

    Args:
        dim: of x, and of what comes out.
        pattern: who sees whom: `causal_attention(length)` or another function of its kind.
        num_heads: of the size d = head_dim each.
        head_dim: default dim / num_heads.
        memory_dim: of y, where keys and values come from somewhere else (default dim).

    Attributes:
        pattern: as given.
        out_shape: (length, dim).

    Shapes:
        x (*batch, length, dim), memory (*batch, length, memory_dim), prefix (*batch, p, memory_dim)
        -> (*batch, length, dim). All positions see the whole prefix.

    Cost:
        one pass: queries times keys that any query of their block sees: all in a dense pattern,
        stride, stride, length / stride and 2 stride per query in others. One step: the keys that
        the position sees; keys and values of all positions are kept.

    Raises:
        ValueError: for a size below 1, heads that do not divide dim, or an x of the wrong shape.

    References:
        Vaswani et al. (2017), arXiv:1706.03762; Child et al. (2019), arXiv:1904.10509.

    Example:
        >>> from dgm_core.attention import causal_attention
        >>> layer = MaskedAttention(8, causal_attention(5), num_heads=2, key=jax.random.key(0))
        >>> layer(jnp.zeros((7, 5, 8))).shape
        (7, 5, 8)
        >>> out, state = layer.advance(layer.begin(7), 0, jnp.zeros((7, 8)))
        >>> out.shape
        (7, 8)
    """

    dim: int = eqx.field(static=True)
    num_heads: int = eqx.field(static=True)
    head_dim: int = eqx.field(static=True)
    memory_dim: int = eqx.field(static=True)
    pattern: Pattern = eqx.field(static=True)
    out_shape: tuple[int, int] = eqx.field(static=True)
    query: _Projection
    memory: _Projection  # keys, values
    output: Linear

    def __init__(
        self,
        dim: int,
        pattern: Pattern,
        *,
        num_heads: int = 1,
        head_dim: int | None = None,
        memory_dim: int | None = None,
        key: Array,
    ) -> None:
        self.dim, self.num_heads = check_count("dim", dim), check_count("num_heads", num_heads)
        if head_dim is None and dim % num_heads:
            raise ValueError(f"num_heads must divide dim={dim}, got {num_heads}; or give head_dim.")
        head_dim = dim // num_heads if head_dim is None else head_dim
        self.head_dim = check_count("head_dim", head_dim)
        self.memory_dim = check_count("memory_dim", dim if memory_dim is None else memory_dim)
        self.pattern = check_instance("pattern", pattern, Pattern, "a pattern of attention")
        inner = self.num_heads * self.head_dim
        key_query, key_memory, key_output = jax.random.split(key, 3)
        self.query = _Projection(self.dim, inner, key=key_query)
        self.memory = _Projection(self.memory_dim, 2 * inner, key=key_memory)
        self.output = Linear(inner, self.dim, key=key_output)
        self.out_shape = (pattern.num_positions, self.dim)

    def __call__(
        self, x: Array, memory: Array | None = None, *, prefix: Array | None = None
    ) -> Array:
        """Attend from x (*batch, length, dim), to the memory where there is one."""
        self._check(x, "x", self.dim)
        if memory is not None:
            self._check(memory, "memory", self.memory_dim)
        if prefix is not None:
            self._check_prefix(prefix, x.shape[:-2])
        query = self._heads(self.query(x), 1)[0]
        key, value = self._heads(self.memory(x if memory is None else memory), 2)
        kept = None if prefix is None else self._heads(self.memory(prefix), 2)
        out = (self._dense if self.pattern.dense else self._sparse)(query, key, value, kept)
        inner = self.num_heads * self.head_dim
        return self.output(jnp.swapaxes(out, 1, 2).reshape(*x.shape[:-1], inner))

    def begin(self, num: int, prefix: Array | None = None) -> Any:
        """The state before the first step for `num` sequences, after a prefix (num, p, dim)."""
        check_steps(self.pattern)
        shape = (2, num, self.num_heads, self.pattern.num_positions, self.head_dim)
        state = jnp.zeros(shape, self.query.weight.dtype)
        if prefix is None:
            return state
        self._check_prefix(prefix, (num,))
        return jnp.concatenate([jnp.stack(self._heads(self.memory(prefix), 2)), state], 3)

    def advance(
        self, state: Any, index: Any, x: Array, memory: Array | None = None
    ) -> tuple[Array, Any]:
        """What comes out at position `index` of x (num, dim), and the state."""
        num, start = len(x), state.shape[3] - self.pattern.num_positions
        kept = self.memory(x if memory is None else memory)
        kept = jnp.swapaxes(kept.reshape(num, 2, self.num_heads, 1, self.head_dim), 0, 1)
        state = jax.lax.dynamic_update_slice_in_dim(state, kept, start + index, 3)
        query = self.query(x).reshape(num, self.num_heads, 1, self.head_dim)
        if self.pattern.dense:
            strict = self.pattern.kind == "strict"
            seen, allowed = state, jnp.arange(state.shape[3]) <= start + index - strict
        else:
            places = jnp.asarray(self.pattern.seen)[index]
            allowed = jnp.concatenate([jnp.ones(start, bool), places >= 0])
            places = jnp.concatenate([jnp.arange(start), start + places])
            seen = state[:, :, :, jnp.where(allowed, places, 0)]
        out = self._attend(query, seen[0], seen[1], allowed, start > 0)
        return self.output(out.reshape(num, self.num_heads * self.head_dim)), state

    def _heads(self, x: Array, parts: int) -> Array:
        """(*batch, n, parts * heads * head_dim) as (parts, batch, heads, n, head_dim)."""
        x = x.reshape(prod(x.shape[:-2]), x.shape[-2], parts, self.num_heads, self.head_dim)
        return x.transpose(2, 0, 3, 1, 4)

    def _dense(self, query: Array, key: Array, value: Array, prefix: Any) -> Array:
        start = 0 if prefix is None else prefix[0].shape[2]
        if prefix is not None:
            key, value = (jnp.concatenate(parts, 2) for parts in zip(prefix, (key, value)))
        last = start - (self.pattern.kind == "strict")
        if self.pattern.kind == "full":
            return self._attend(query, key, value, True, start > 0)
        allowed = jnp.tri(query.shape[2], key.shape[2], last, dtype=bool)
        return self._attend(query, key, value, allowed, start > 0)

    def _sparse(self, query: Array, key: Array, value: Array, prefix: Any) -> Array:
        pattern, allowed = self.pattern, self.pattern.allowed  # (groups, queries, keys)
        # In 32 bits: JAX remembers arrays of indices by the precision that they were first met in.
        rows, keys, places = (
            x.astype(np.int32) for x in (pattern.rows, pattern.keys, pattern.places)
        )
        query = query[:, :, rows]  # (batch, heads, groups, queries, head_dim)
        key, value = (x[:, :, keys] for x in (key, value))
        if prefix is not None:
            shape = (*key.shape[:3], prefix[0].shape[2], self.head_dim)
            parts = (jnp.broadcast_to(x[:, :, None], shape) for x in prefix)
            key, value = (jnp.concatenate(pair, -2) for pair in zip(parts, (key, value)))
            allowed = np.pad(allowed, ((0, 0), (0, 0), (shape[3], 0)), constant_values=True)
        out = self._attend(query, key, value, allowed, prefix is not None)
        out = out.reshape(*out.shape[:2], rows.size, self.head_dim)
        return out[:, :, places]

    def _attend(self, query: Array, key: Array, value: Array, allowed: Any, prefix: bool) -> Array:
        scores = (query * (1.0 / sqrt(self.head_dim))) @ jnp.swapaxes(key, -1, -2)
        weights = jax.nn.softmax(jnp.where(allowed, scores, jnp.finfo(scores.dtype).min), -1)
        if not prefix and self._some_see_nothing:
            weights = jnp.where(allowed, weights, 0.0)
        return weights @ value

    @property
    def _some_see_nothing(self) -> bool:
        return self.pattern.kind in ("strict", "summary")

    def _check(self, x: Array, name: str, dim: int) -> None:
        fits = x.ndim > 1 and fits_length(self.pattern, x.shape[-2])
        if not fits or x.shape[-1] != dim:
            most = "at most " if self.pattern.kind == "full" else ""
            raise ValueError(
                f"{self} expects {name} of shape (*batch, {most}{self.pattern.num_positions}, "
                f"{dim}), got {x.shape}."
            )

    def _check_prefix(self, prefix: Array, batch: tuple[int, ...]) -> None:
        if prefix.ndim < 2 or (*prefix.shape[:-2], prefix.shape[-1]) != (*batch, self.memory_dim):
            sizes = ", ".join(map(str, (*batch, "p", self.memory_dim)))
            raise ValueError(
                f"{self} expects a prefix of shape ({sizes}), got {tuple(prefix.shape)}."
            )

    def __repr__(self) -> str:
        return f"MaskedAttention({self.dim}, {self.pattern}, num_heads={self.num_heads})"
