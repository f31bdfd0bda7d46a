"""The transformer of a value, a time and a context."""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_instance, check_shape, refuse
from dgm_core.attention import Pattern, full_attention
from dgm_core.contexts import ContextShape, check_context, check_context_shape, context_size
from dgm_core.diffusion_steps import check_event
from dgm_core.images import check_copies, token_layout
from dgm_core.ode import check_moments
from pyro_dgm.nn.contexts import flat, visible
from pyro_dgm.nn.layers import LayerNorm, Linear
from pyro_dgm.nn.mlp import MLP
from pyro_dgm.nn.time_features import TimeFeatures
from pyro_dgm.nn.transformer import Positions, TransformerBlock

__all__ = ["TimeTransformer"]


class AdaptiveBlock(nn.Module):
    """A pre-norm block that an embedding e modulates:  x <- x + g (attention or mlp)((1 + s)
    norm(x) + b),  where both triples (b, s, g) are affine in e and zero at first, so that the block
    then is the identity.

    Args:
        dim, pattern, num_heads: as of `TransformerBlock`.
        embedding_dim: of e.
    """

    def __init__(self, dim: int, pattern: Pattern, num_heads: int, embedding_dim: int) -> None:
        super().__init__()
        self.block = TransformerBlock(dim, pattern, num_heads=num_heads)
        self.modulation = zeros(embedding_dim, 6 * dim)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Map x (batch, length, dim), given e (batch, embedding_dim)."""
        block = self.block
        shift, scale, gate, *rest = self.modulation(e)[:, None].chunk(6, -1)
        x = x + gate * block.attention(block.attention_norm(x) * (1.0 + scale) + shift)
        shift, scale, gate = rest
        return x + gate * block.mlp(block.mlp_norm(x) * (1.0 + scale) + shift)


class TimeTransformer(nn.Module):
    """From a value, a time and a context to an array of the shape of the value: a diffusion
    transformer.

    The value is cut into tokens, square patches of an image, steps of a sequence, entries of a
    vector, which get positions and pass pre-norm blocks in which each sees all. The time and the
    context become one vector, of which scales, shifts and gates of every block are affine
    functions. These and the last layer begin at zero: at first all blocks are the identity, and
    zeros come out.

    Args:
        dim: the size of a value, or its shape: (length, entries) of a sequence, (channels, height,
            width) of an image.
        patch_size: height and width of a patch, or the number of steps or entries of a token; a
            divisor of these.
        width: of a token in the blocks.
        num_layers: blocks.
        num_heads: of every attention, a divisor of width.
        out_dim: dim (default), or a multiple of it along its first axis.
        time: the features of the time (default TimeFeatures(32)).
        context_shape: the shape of c: a size, a shape, `Labels`, or a tuple of these; maps are seen
            as vectors.

    Attributes:
        out_shape: (tuple).

    Shapes:
        x (*batch, *dim), t (*batch,) or (), context (*batch, *context_shape) -> (*batch, *out_dim).

    Cost:
        each attention the square of the number of tokens.

    Raises:
        ValueError: for sizes below 1, a patch_size or num_heads that does not divide, and on calls
            for an x, a time or a context of another shape.

    References:
        Peebles & Xie (2023), Scalable diffusion models with transformers, arXiv:2212.09748.

    Example:
        >>> net = TimeTransformer((1, 8, 8), 4, width=8, num_heads=2)
        >>> net(torch.zeros(5, 1, 8, 8), torch.tensor(0.5)).shape
        torch.Size([5, 1, 8, 8])
    """

    blocks: Any  # AdaptiveBlock

    def __init__(
        self,
        dim: int | tuple[int, ...],
        patch_size: int = 1,
        *,
        width: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        out_dim: int | tuple[int, ...] | None = None,
        time: TimeFeatures | None = None,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__()
        self.in_shape = check_shape("dim", dim)
        self.channels, self.grid, self.patch = token_layout(self.in_shape, patch_size)
        self.out_shape = self.in_shape if out_dim is None else check_shape("out_dim", out_dim)
        copies = check_copies(self.in_shape, self.out_shape)
        width, num_layers = check_count("width", width), check_count("num_layers", num_layers)
        if width % check_count("num_heads", num_heads):
            refuse("num_heads", f"a divisor of width={width}", num_heads)
        self.context_shape = check_context_shape("context_shape", context_shape)
        self.time = TimeFeatures(32) if time is None else time
        check_instance("time", self.time, TimeFeatures, "the features of a time or None")
        entries, pattern = self.channels * prod(self.patch), full_attention(prod(self.grid))
        seen = self.time.out_dim + context_size(context_shape)
        self.embedding = MLP(seen, (width, width), activation="silu")
        self.input = Linear(entries, width)
        self.positions = Positions(tuple(n for n in self.grid if n > 1) or 1, width)
        self.blocks = nn.ModuleList(
            AdaptiveBlock(width, pattern, num_heads, width) for _ in range(num_layers)
        )
        self.norm, self.modulation = LayerNorm(width), zeros(width, 2 * width)
        self.output = zeros(width, copies * entries)

    def forward(self, x: Tensor, t: Any, context: Any = None) -> Tensor:
        """The outputs for x (*batch, *dim) at time t, given a context."""
        check_context(self, context, self.context_shape)
        batch = tuple(x.shape[: check_event(self, x.shape, self.in_shape)])
        x = x.to(self.output.weight.dtype)
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        check_moments(self, tuple(t.shape), batch)
        parts = [self.time(t)]
        if self.context_shape:
            given = flat(visible(context, self.context_shape), self.context_shape)
            parts.append(given.to(x.dtype))
        batch = torch.broadcast_shapes(batch, *(part.shape[:-1] for part in parts))
        x, num = x.expand(*batch, *self.in_shape), torch.Size(batch).numel()
        seen = torch.cat([part.expand(*batch, -1) for part in parts], -1)
        embedded = self.embedding(seen.reshape(num, -1))
        (rows, columns), (height, width) = self.grid, self.patch
        x = x.reshape(num, self.channels, rows, height, columns, width)
        entries = self.channels * height * width
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(num, rows * columns, entries)
        x = self.positions(self.input(x))
        for block in self.blocks:
            x = block(x, embedded)
        shift, scale = self.modulation(embedded)[:, None].chunk(2, -1)
        x = self.output(self.norm(x) * (1.0 + scale) + shift)
        channels = x.shape[-1] // (height * width)
        x = x.reshape(num, rows, columns, channels, height, width).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(*batch, *self.out_shape)

    def __repr__(self) -> str:
        dim = self.in_shape[0] if len(self.in_shape) == 1 else self.in_shape
        sizes = f"width={self.norm.weight.shape[0]}, num_layers={len(self.blocks)}"
        return f"TimeTransformer({dim}, {self.patch[0]}, {sizes})"


def zeros(in_dim: int, out_dim: int) -> Linear:
    """An affine map that begins at zero."""
    layer = Linear(in_dim, out_dim)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
