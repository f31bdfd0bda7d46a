"""Transformers over positions in raster order: learned positions, pre-norm blocks, their stack."""

from collections.abc import Sequence
from functools import reduce
from math import sqrt
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_count, check_shape
from dgm_core.attention import Pattern, check_patterns
from pyro_dgm.nn.attention import MaskedAttention
from pyro_dgm.nn.initial import uniform_draws
from pyro_dgm.nn.layers import LayerNorm, Linear
from pyro_dgm.nn.mlp import MLP

__all__ = ["Positions", "Transformer", "TransformerBlock"]


class Positions(nn.Module):
    """What is learned about positions and added to what stands there: x_i + sum_a table_a[i_a].

    Args:
        shape: the number of positions, or one number for each axis: (height, width).
        dim: of x.

    Attributes:
        tables: one (size, dim) for each axis, drawn from U(-1/sqrt(dim), 1/sqrt(dim)).
        out_shape: (positions, dim), in raster order.

    Shapes:
        x (*batch, positions, dim) -> the same.

    Raises:
        ValueError: for a size below 1, and an x of the wrong shape.

    Example:
        >>> Positions((2, 3), 8)(torch.zeros(7, 6, 8)).shape
        torch.Size([7, 6, 8])
    """

    def __init__(self, shape: int | tuple[int, ...], dim: int) -> None:
        super().__init__()
        shape, dim = check_shape("shape", shape), check_count("dim", dim)
        limit = 1.0 / sqrt(dim)
        self.tables = nn.ParameterList(uniform_draws((size, dim), limit) for size in shape)
        self.out_shape = (torch.Size(shape).numel(), dim)

    def table(self) -> Tensor:
        """What is added to all positions (positions, dim)."""
        return reduce(lambda a, b: a[..., None, :] + b, self.tables).reshape(self.out_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Add to x (*batch, positions, dim)."""
        if tuple(x.shape[-2:]) != self.out_shape:
            raise ValueError(
                f"Positions expects a shape (*batch, {self.out_shape[0]}, {self.out_shape[1]}), "
                f"got {tuple(x.shape)}."
            )
        return x + self.table()

    def __repr__(self) -> str:
        return f"Positions({tuple(map(len, self.tables))}, {self.out_shape[1]})"


class TransformerBlock(nn.Module):
    """A pre-norm block: x <- x + attention(norm(x)), x <- x + mlp(norm(x)), the MLP with one hidden
    layer of 4 dim units and the exact GELU.

    Args:
        dim: of x.
        pattern: who sees whom.
        num_heads: of the attention.

    Shapes:
        x (*batch, length, dim), prefix (*batch, p, dim) -> (*batch, length, dim).

    Raises:
        ValueError: as `MaskedAttention`.

    References:
        Child et al. (2019), arXiv:1904.10509.

    Example:
        >>> from dgm_core.attention import causal_attention
        >>> TransformerBlock(8, causal_attention(5))(torch.zeros(7, 5, 8)).shape
        torch.Size([7, 5, 8])
    """

    def __init__(self, dim: int, pattern: Pattern, *, num_heads: int = 1) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = LayerNorm(dim), LayerNorm(dim)
        self.attention = MaskedAttention(dim, pattern, num_heads=num_heads)
        self.mlp = MLP(dim, (4 * dim,), dim, activation="gelu")
        self.out_shape = self.attention.out_shape

    def forward(self, x: Tensor, *, prefix: Tensor | None = None) -> Tensor:
        """Map x (*batch, length, dim); the prefix (*batch, p, dim) is seen by all."""
        if prefix is not None:
            prefix = self.attention_norm(prefix)
        x = x + self.attention(self.attention_norm(x), prefix=prefix)
        return x + self.mlp(self.mlp_norm(x))

    def begin(self, num: int, prefix: Tensor | None = None) -> Any:
        """The state before the first step for `num` sequences."""
        if prefix is not None:
            prefix = self.attention_norm(prefix)
        return self.attention.begin(num, prefix)

    def advance(self, state: Any, index: int, x: Tensor) -> tuple[Tensor, Any]:
        """What comes out at position `index` of x (num, dim), and the state."""
        out, state = self.attention.advance(state, index, normed(self.attention_norm, x))
        x = x + out
        wide, narrow = (cast(Linear, layer) for layer in self.mlp.layers)
        h = F.gelu(F.linear(normed(self.mlp_norm, x), wide.weight, wide.bias))
        return torch.add(x, F.linear(h, narrow.weight, narrow.bias)), state

    def __repr__(self) -> str:
        attention = self.attention
        sizes = f"{attention.dim}, {attention.pattern}, num_heads={attention.num_heads}"
        return f"TransformerBlock({sizes})"


def normed(norm: LayerNorm, x: Tensor) -> Tensor:
    """norm(x) without its check, which takes longer than a step's arithmetic, as do a network's."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class Transformer(nn.Module):
    """Pre-norm blocks one after the other and a last normalization.

    Args:
        dim: of x.
        patterns: one for each block.
        num_heads: of each attention.

    Attributes:
        blocks: one `TransformerBlock` for each pattern.
        norm: the last one.
        out_shape: (length, dim).

    Shapes:
        x (*batch, length, dim), prefix (*batch, p, dim) -> (*batch, length, dim).

    Raises:
        ValueError: without patterns, if they differ in length, and as `MaskedAttention`.

    References:
        Vaswani et al. (2017), arXiv:1706.03762; Child et al. (2019), arXiv:1904.10509.

    Example:
        >>> from dgm_core.attention import causal_attention
        >>> Transformer(8, [causal_attention(5)] * 2)(torch.zeros(7, 5, 8)).shape
        torch.Size([7, 5, 8])
    """

    blocks: Any  # TransformerBlock, one for each pattern
    norm: LayerNorm

    def __init__(self, dim: int, patterns: Sequence[Pattern], *, num_heads: int = 1) -> None:
        super().__init__()
        patterns = check_patterns(patterns)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, pattern, num_heads=num_heads) for pattern in patterns
        )
        self.norm = LayerNorm(dim)
        self.out_shape = self.blocks[0].out_shape

    def forward(self, x: Tensor, *, prefix: Tensor | None = None) -> Tensor:
        """Map x (*batch, length, dim); the prefix (*batch, p, dim) is seen by all."""
        for block in self.blocks:
            x = block(x, prefix=prefix)
        return self.norm(x)

    def begin(self, num: int, prefix: Tensor | None = None) -> Any:
        """The state before the first step for `num` sequences."""
        return [block.begin(num, prefix) for block in self.blocks]

    def advance(self, state: Any, index: int, x: Tensor) -> tuple[Tensor, Any]:
        """What comes out at position `index` of x (num, dim), and the state."""
        new = []
        for block, kept in zip(self.blocks, state):
            x, kept = block.advance(kept, index, x)
            new.append(kept)
        return self.norm(x), new

    def __repr__(self) -> str:
        attention = self.blocks[0].attention
        patterns = [block.attention.pattern for block in self.blocks]
        return f"Transformer({attention.dim}, {patterns}, num_heads={attention.num_heads})"
