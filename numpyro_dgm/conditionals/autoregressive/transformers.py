"""Autoregressive conditionals whose network is a transformer with a mask:  h_i = f(x_<i, c)."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_image_shape
from dgm_core.attention import (
    Pattern,
    block_attention,
    causal_attention,
    local_attention,
    seen_before,
    strided_attention,
    summary_attention,
)
from dgm_core.autoregressive import step_shape_of
from dgm_core.contexts import ContextShape, step_channels, token_shapes
from numpyro_dgm.conditionals.autoregressive.base import Autoregressive
from numpyro_dgm.conditionals.base import Parametric
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.nn.contexts import along_steps, as_tokens
from numpyro_dgm.nn.layers import Linear
from numpyro_dgm.nn.transformer import Positions, Transformer

__all__ = ["CausalTransformer", "ImageTransformer", "SparseTransformer"]


class MaskedTransformer(Autoregressive):
    """h = transformer(embed(0, x_1, ..., x_{n-1}) + positions + W c), or with c as a prefix that
    all steps attend to.

    Args:
        dim: (T,), (T, D) in T steps, or an image (channels, height, width) in one step per pixel.
        patterns: of attention, one for each block.
        family: of what is drawn at one step.
        hidden_dim: of the transformer.
        num_heads: of each block.
        one_hot: whether the network sees classes one-hot.
        context_shape: 0 = unconditional.
        context_as: "added" or "prefix".

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Raises:
        ValueError: as the members of the family.
    """

    step_shape: tuple[int, ...] = eqx.field(static=True)
    context_as: str = eqx.field(static=True)
    embed: Linear
    positions: Positions
    transformer: Transformer
    added: Any  # a Linear, or None
    tokens: Any  # one Linear for each part of the context, or None
    token_positions: Any

    def __init__(
        self,
        dim: int | tuple[int, ...],
        patterns: Sequence[Pattern],
        family: Callable[..., Parametric],
        *,
        hidden_dim: int,
        num_heads: int,
        one_hot: bool,
        context_shape: ContextShape,
        context_as: str,
        key: Array,
    ) -> None:
        shape, size = step_shape_of(dim)
        hidden_dim = check_count("hidden_dim", hidden_dim)
        key_base, key_embed, key_positions, key_transformer, *keys = jax.random.split(key, 6)
        super().__init__(
            dim,
            family,
            features=hidden_dim,
            steps=patterns[0].num_positions,
            size=size,
            one_hot=one_hot,
            context_shape=context_shape,
            key=key_base,
        )
        self.step_shape = shape
        self.context_as = check_choice("context_as", context_as, ("added", "prefix"))
        self.embed = Linear(self.in_features, hidden_dim, key=key_embed)
        self.positions = Positions(shape, hidden_dim, key=key_positions)
        self.transformer = Transformer(
            hidden_dim, patterns, num_heads=num_heads, key=key_transformer
        )
        self.added = self.tokens = self.token_positions = None
        if self.context_shape and context_as == "added":
            channels = step_channels(self.context_shape, shape)
            self.added = Linear(channels, hidden_dim, key=keys[0])
        elif self.context_shape:
            tokens = token_shapes(self.context_shape)
            self.tokens = [
                Linear(entries, hidden_dim, key=k)
                for (_, entries), k in zip(tokens, jax.random.split(keys[0], len(tokens)))
            ]
            number = sum(number for number, _ in tokens)
            self.token_positions = Positions(number, hidden_dim, key=keys[1])

    @property
    def prefix_axis(self) -> int:  # type: ignore[override]
        """The axis of the event along which a prefix ends: time, or the rows of an image."""
        return len(self.step_shape) - 1

    @property
    def receptive_field(self) -> np.ndarray:
        """Which steps j < i the features of step i can depend on, (num_steps, num_steps)."""
        return seen_before([block.attention.pattern for block in self.transformer.blocks])

    def to_steps(self, x: Array) -> Array:
        """Values (batch, *event) in the order of the steps: (batch, num_steps, size)."""
        if len(self.step_shape) == 2:
            return x.reshape(*x.shape[:2], -1).mT
        return x.reshape(len(x), self.num_steps, self.size)

    def from_steps(self, values: Array) -> Array:
        """The inverse of `to_steps`."""
        if len(self.step_shape) == 2:
            values = values.mT
        return values.reshape(len(values), *self.event_shape)

    def features(self, u: Array, context: Any) -> Array:
        """h of all steps, (batch, num_steps, features)."""
        before = jnp.pad(u[:, :-1], ((0, 0), (1, 0), (0, 0)))
        x = self.embed(before) + self._places(context)
        return self.transformer(x, prefix=self._prefix(context))

    def begin(self, context: Any, num: int) -> Any:
        """The state before the first step: what is added at each step, keys and values."""
        return self._places(context), self.transformer.begin(num, self._prefix(context))

    def advance(self, state: Any, index: Array, previous: Array) -> tuple[Array, Any]:
        """h of step `index` (batch, features), and the next state."""
        places, kept = state
        x = self.embed(previous) + places[:, index]
        h, kept = self.transformer.advance(kept, index, x)
        return h, (places, kept)

    def _places(self, context: Any) -> Array:
        """What is added to the inputs of each step, (batch or 1, num_steps, hidden_dim)."""
        places = self.positions.table()[None]
        if context is None or self.context_as == "prefix":
            return places
        return places + self.added(along_steps(context, self.context_shape, self.step_shape))

    def _prefix(self, context: Any) -> Array | None:
        """The context as vectors that all steps attend to, (batch, number, hidden_dim)."""
        if context is None or self.context_as == "added":
            return None
        parts = zip(self.tokens, as_tokens(context, self.context_shape))
        return self.token_positions(jnp.concatenate([layer(part) for layer, part in parts], 1))

    def _sizes(self) -> tuple[str, ...]:
        return repr(self.family), f"num_layers={len(self.transformer.blocks)}"


class CausalTransformer(MaskedTransformer):
    """p(x | c) = prod_i family(x_i | h_i(x_<i, c)), h a transformer in which each step attends to
    all before it.

    Args:
        dim: (T,) symbols or numbers, (T, D) vectors, or an image (channels, height, width) in one
            step per pixel.
        family: of what is drawn at one step, as `Autoregressive`.
        hidden_dim: of the transformer.
        num_layers: blocks.
        num_heads: of each block.
        one_hot: whether the network sees classes one-hot; symbols without an order need it.
        context_shape: 0 = unconditional.
        context_as: "added": to each step what the context has of it (sequences of T steps, maps of
            the image's size), and all of any other; "prefix": as vectors that all steps attend to,
            one for each step of a sequence, pixel of a map, vector and label.

    Attributes:
        receptive_field: which steps each step depends on, (T, T) booleans.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Cost:
        log_prob T^2 in each head; a draw the same in T steps, from kept keys and values.

    Raises:
        ValueError: for a size below 1, heads that do not divide hidden_dim, a family that cannot be
            drawn from, a context with other steps or pixels.

    References:
        Vaswani et al. (2017), arXiv:1706.03762; Radford et al. (2018).

    Example:
        >>> key = jax.random.key(0)
        >>> notes = CausalTransformer((16, 3), hidden_dim=8, num_layers=2, key=key)
        >>> notes().sample(key, (5,)).shape
        (5, 16, 3)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        family: Callable[..., Parametric] = Bernoulli,
        *,
        hidden_dim: int = 64,
        num_layers: int = 4,
        num_heads: int = 4,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
        context_as: str = "added",
        key: Array,
    ) -> None:
        length = int(np.prod(step_shape_of(dim)[0]))
        super().__init__(
            dim,
            [causal_attention(length)] * check_count("num_layers", num_layers),
            family,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            one_hot=one_hot,
            context_shape=context_shape,
            context_as=context_as,
            key=key,
        )


class ImageTransformer(MaskedTransformer):
    """p(x | c) of an image, pixel by pixel in raster order, by a transformer with local attention:
    each pixel to those before it in its block and in a memory around the block.

    Args:
        image_shape: channels, height, width.
        family: of the channels of a pixel, as `Autoregressive`.
        block: pixels in raster order, or (rows, columns).
        memory: pixels before the block, or (rows above it, columns on both sides).
        hidden_dim, num_layers, num_heads, one_hot, context_shape, context_as: as in
            `CausalTransformer`.

    Attributes:
        receptive_field: which pixels each pixel depends on, (pixels, pixels) booleans: all before
            it where the layers are enough; with a block and a memory in raster order,
            pixels / (memory + 1) are.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape image_shape.

    Cost:
        log_prob pixels (block + memory) in each head; a draw the same in as many steps as pixels.

    Raises:
        ValueError: as `CausalTransformer`, and for a block below 1 or a memory below 0.

    References:
        Parmar et al. (2018), arXiv:1802.05751.

    Example:
        >>> key, sizes = jax.random.key(0), {"hidden_dim": 8, "num_layers": 2}
        >>> pixels = ImageTransformer((1, 4, 4), block=4, memory=8, **sizes, key=key)
        >>> pixels().sample(key, (5,)).shape
        (5, 1, 4, 4)
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        family: Callable[..., Parametric] = Bernoulli,
        *,
        block: int | tuple[int, int] = 256,
        memory: int | tuple[int, int] = 256,
        hidden_dim: int = 64,
        num_layers: int = 4,
        num_heads: int = 4,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
        context_as: str = "added",
        key: Array,
    ) -> None:
        _, height, width = check_image_shape("image_shape", image_shape)
        shape = (height, width) if isinstance(block, (list, tuple)) else height * width
        super().__init__(
            image_shape,
            [block_attention(shape, block, memory=memory)] * check_count("num_layers", num_layers),
            family,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            one_hot=one_hot,
            context_shape=context_shape,
            context_as=context_as,
            key=key,
        )


class SparseTransformer(MaskedTransformer):
    """p(x | c) = prod_i family(x_i | h_i(x_<i, c)), h a transformer whose blocks take turns with
    two sparse patterns, which together reach all earlier steps.

    Strided: the last `stride` steps, then every stride-th step before; fixed: the earlier steps of
    the same block of `stride`, then the last `count` steps of every block before.

    Args:
        dim: as `CausalTransformer`.
        family: of what is drawn at one step, as `Autoregressive`.
        pattern: "strided" or "fixed".
        stride: default the width of an image, the square root of T.
        count: in the fixed pattern, of steps that sum up a block (default 1).
        hidden_dim, num_layers, num_heads, one_hot, context_shape, context_as: as in
            `CausalTransformer`.

    Attributes:
        receptive_field: which steps each step depends on; from two layers on all before it.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Cost:
        log_prob T (2 stride + T / stride) in each head, on average over the blocks half of it; a
        draw the same in T steps.

    Raises:
        ValueError: as `CausalTransformer`, for an unknown pattern, a count above the stride
            or in the strided pattern.

    References:
        Child et al. (2019), arXiv:1904.10509.

    Example:
        >>> key = jax.random.key(0)
        >>> pixels = SparseTransformer((1, 4, 4), hidden_dim=8, num_layers=2, key=key)
        >>> bool(pixels.receptive_field[15, :15].all())
        True
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        family: Callable[..., Parametric] = Bernoulli,
        *,
        pattern: str = "strided",
        stride: int | None = None,
        count: int | None = None,
        hidden_dim: int = 64,
        num_layers: int = 4,
        num_heads: int = 4,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
        context_as: str = "added",
        key: Array,
    ) -> None:
        shape, _ = step_shape_of(dim)
        length = int(np.prod(shape))
        if stride is None:
            stride = shape[1] if len(shape) == 2 else max(1, isqrt(length))
        pair: tuple[Callable[..., Pattern], Callable[..., Pattern]]
        if check_choice("pattern", pattern, ("strided", "fixed")) == "fixed":
            count = 1 if count is None else count
            pair = block_attention, partial(summary_attention, count=count)
        elif count is None:
            pair = local_attention, strided_attention
        else:
            raise ValueError(
                f"count is of the fixed pattern, got {count} for the strided one; leave it out, or "
                "give pattern='fixed'."
            )
        super().__init__(
            dim,
            [pair[i % 2](length, stride) for i in range(check_count("num_layers", num_layers))],
            family,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            one_hot=one_hot,
            context_shape=context_shape,
            context_as=context_as,
            key=key,
        )
