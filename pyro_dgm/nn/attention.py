"""Masked self-attention over positions in raster order, in one pass and a position at a time."""

from contextlib import AbstractContextManager
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from dgm_core.arguments import check_count, check_instance
from dgm_core.attention import Pattern, check_steps, fits_length
from pyro_dgm.nn.layers import Linear

__all__ = ["MaskedAttention"]


def all_derivatives() -> AbstractContextManager[None]:
    """Inside this block attention consists of operations that have derivatives of every order and
    forward ones; what is fused has gradients alone.
    """
    return sdpa_kernel(SDPBackend.MATH)


class MaskedAttention(nn.Module):
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
        >>> layer = MaskedAttention(8, causal_attention(5), num_heads=2)
        >>> layer(torch.zeros(7, 5, 8)).shape
        torch.Size([7, 5, 8])
        >>> out, state = layer.advance(layer.begin(7), 0, torch.zeros(7, 8))
        >>> out.shape
        torch.Size([7, 8])
    """

    rows: Tensor  # of the pattern, where it is sparse
    keys: Tensor
    allowed: Tensor
    places: Tensor

    def __init__(
        self,
        dim: int,
        pattern: Pattern,
        *,
        num_heads: int = 1,
        head_dim: int | None = None,
        memory_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.num_heads = check_count("dim", dim), check_count("num_heads", num_heads)
        if head_dim is None and dim % num_heads:
            raise ValueError(f"num_heads must divide dim={dim}, got {num_heads}; or give head_dim.")
        head_dim = dim // num_heads if head_dim is None else head_dim
        self.head_dim = check_count("head_dim", head_dim)
        self.memory_dim = check_count("memory_dim", dim if memory_dim is None else memory_dim)
        self.pattern = check_instance("pattern", pattern, Pattern, "a pattern of attention")
        inner = self.num_heads * self.head_dim
        self.query = nn.Linear(self.dim, inner, bias=False)
        self.memory = nn.Linear(self.memory_dim, 2 * inner, bias=False)  # keys, values
        self.output = Linear(inner, self.dim)
        self.out_shape = (pattern.num_positions, self.dim)
        if not pattern.dense:
            for name in ("rows", "keys", "allowed", "places"):
                array = torch.as_tensor(getattr(pattern, name))
                self.register_buffer(name, array, persistent=False)
            self._some_see_nothing = not pattern.mask.any(1).all()

    def forward(
        self, x: Tensor, memory: Tensor | None = None, *, prefix: Tensor | None = None
    ) -> Tensor:
        """Attend from x (*batch, length, dim), to the memory where there is one."""
        self._check(x, "x", self.dim)
        if memory is not None:
            self._check(memory, "memory", self.memory_dim)
        if prefix is not None:
            self._check_prefix(prefix, x.shape[:-2])
        x = x.to(self.query.weight.dtype)
        batch = x.shape[:-2]
        memory = x if memory is None else memory.to(x.dtype)
        query = self._heads(self.query(x), 1)[0]
        key, value = self._heads(self.memory(memory), 2)
        kept = None if prefix is None else self._heads(self.memory(prefix.to(x.dtype)), 2)
        out = (self._dense if self.pattern.dense else self._sparse)(query, key, value, kept)
        inner = self.num_heads * self.head_dim
        return self.output(out.transpose(1, 2).reshape(*batch, x.shape[-2], inner))

    def begin(self, num: int, prefix: Tensor | None = None) -> Any:
        """The state before the first step for `num` sequences, after a prefix (num, p, dim)."""
        check_steps(self.pattern)
        weight = self.query.weight
        if prefix is not None:
            self._check_prefix(prefix, (num,))
        length = self.pattern.num_positions + (0 if prefix is None else prefix.shape[1])
        state = weight.new_zeros(2, num, self.num_heads, length, self.head_dim)
        if prefix is not None:
            kept = self.memory(prefix.to(weight.dtype))
            kept = kept.unflatten(-1, (2, self.num_heads, self.head_dim)).movedim(1, -2)
            state[..., : prefix.shape[1], :] = kept.movedim(1, 0)
        return state

    def advance(
        self, state: Any, index: int, x: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """What comes out at position `index` of x (num, dim), and the state."""
        shape = len(x), 2, self.num_heads, 1, self.head_dim
        start = state.shape[3] - self.pattern.num_positions
        kept = F.linear(x if memory is None else memory, self.memory.weight).view(shape)
        state.narrow(3, start + index, 1).copy_(kept.transpose(0, 1))
        bias, inner = self.output.bias, self.num_heads * self.head_dim
        seen = self._seen(start, index)
        if seen is None:
            return bias.expand(len(x), -1), state
        key, value = state[:, :, :, seen].unbind(0)
        query = F.linear(x, self.query.weight).view(len(x), *shape[2:])
        out = F.scaled_dot_product_attention(query, key, value)
        return F.linear(out.reshape(len(x), inner), self.output.weight, bias), state

    def _seen(self, start: int, index: int) -> Any:
        """What position `index` sees of the cache, None for nothing."""
        if self.pattern.dense:
            end = start + index + (self.pattern.kind == "causal")
            return slice(0, end) if end else None
        seen = self.pattern.steps[index]
        if not start:
            return seen
        places = self.pattern.seen[index]
        return [*range(start), *(start + places[places >= 0])]

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(*batch, n, parts * heads * head_dim) as parts of (batch, heads, n, head_dim)."""
        x = x.reshape(prod(x.shape[:-2]), x.shape[-2], parts, self.num_heads, self.head_dim)
        return x.permute(2, 0, 3, 1, 4).unbind(0)

    def _dense(self, query: Tensor, key: Tensor, value: Tensor, prefix: Any) -> Tensor:
        if self.pattern.kind == "full":
            if prefix is not None:
                key, value = (torch.cat(parts, 2) for parts in zip(prefix, (key, value)))
            return F.scaled_dot_product_attention(query, key, value)
        strict = int(self.pattern.kind == "strict")
        key, value = (x[:, :, : x.shape[2] - strict] for x in (key, value))
        if prefix is None:
            query = query[:, :, strict:]
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            return F.pad(out, (0, 0, strict, 0))  # the first sees nothing
        key, value = (torch.cat(parts, 2) for parts in zip(prefix, (key, value)))
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=key.device)
        seen = seen.tril(prefix[0].shape[2] - strict)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)

    def _sparse(self, query: Tensor, key: Tensor, value: Tensor, prefix: Any) -> Tensor:
        allowed = self.allowed  # (groups, queries, keys)
        query = query[:, :, self.rows]  # (batch, heads, groups, queries, head_dim)
        key, value = (x[:, :, self.keys] for x in (key, value))
        if prefix is not None:
            parts = (x[:, :, None].expand(-1, -1, len(allowed), -1, -1) for x in prefix)
            key, value = (torch.cat(pair, -2) for pair in zip(parts, (key, value)))
            allowed = F.pad(allowed, (prefix[0].shape[2], 0), value=True)
        scores = (query * (1.0 / sqrt(self.head_dim))) @ key.mT
        weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)
        if self._some_see_nothing and prefix is None:
            weights = weights * allowed
        return (weights @ value).flatten(2, 3)[:, :, self.places]

    def _check(self, x: Tensor, name: str, dim: int) -> None:
        fits = x.ndim > 1 and fits_length(self.pattern, x.shape[-2])
        if not fits or x.shape[-1] != dim:
            most = "at most " if self.pattern.kind == "full" else ""
            raise ValueError(
                f"{self} expects {name} of shape (*batch, {most}{self.pattern.num_positions}, "
                f"{dim}), got {tuple(x.shape)}."
            )

    def _check_prefix(self, prefix: Tensor, batch: tuple[int, ...]) -> None:
        if prefix.ndim < 2 or (*prefix.shape[:-2], prefix.shape[-1]) != (*batch, self.memory_dim):
            sizes = ", ".join(map(str, (*batch, "p", self.memory_dim)))
            raise ValueError(
                f"{self} expects a prefix of shape ({sizes}), got {tuple(prefix.shape)}."
            )

    def __repr__(self) -> str:
        return f"MaskedAttention({self.dim}, {self.pattern}, num_heads={self.num_heads})"
