"""PixelSNAIL: gated masked convolutions in turns with attention to all pixels before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import elu

from dgm_core.arguments import check_count
from dgm_core.attention import causal_attention
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.autoregressive.pixels import Pixels
from numpyro_dgm.conditionals.base import Parametric
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.nn.attention import MaskedAttention
from numpyro_dgm.nn.layers import LayerNorm, Linear
from numpyro_dgm.nn.pixels import PixelStacks
from numpyro_dgm.nn.transformer import Positions

__all__ = ["PixelSNAIL"]


class PixelSNAIL(Pixels):
    """p(x | c) = prod_i family(x_i | h_i(x_<i, c)) of an image, h made of blocks: convolutions see
    what is near, attention what is far, and neither has a blind spot.

    Block by block h <- h + stacks(h), q = norm(h + positions), h <- h + attention(q_i; (q_j, x_j)
    of all pixels j < i, and nothing); in the first, the stacks see the image.

    Args:
        dim: channels, height, width.
        family: of the channels of a pixel (default Bernoulli), as in `GatedPixelCNN`.
        hidden_channels: of the stacks and of h.
        num_blocks: of stacks and attention.
        num_layers: of the stacks of a block, at least 2.
        kernel_size: of the convolutions, odd.
        num_heads: of each attention.
        head_dim: of its keys and values.
        one_hot: whether the network sees classes one-hot.
        context_shape: 0 = unconditional; a map (channels, height, width), a vector, a label, or
            several of these.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (channels, height,
        width).

    Cost:
        log_prob one pass, pixels^2 in each head; draws about two passes in arithmetic, pixel by
        pixel.

    Raises:
        ValueError: if a size is wrong, a map as context has other pixels, or the family is none.

    References:
        Chen et al. (2018), arXiv:1712.09763.

    Example:
        >>> key = jax.random.key(0)
        >>> pixels = PixelSNAIL((1, 4, 4), hidden_channels=2, num_blocks=1, num_layers=2, key=key)
        >>> pixels().log_prob(pixels().sample(key, (7,))).shape
        (7,)
    """

    stacks: list[PixelStacks]
    norms: list[LayerNorm]
    attention: list[MaskedAttention]
    positions: Positions
    output: Linear

    def __init__(
        self,
        dim: tuple[int, int, int],
        family: Callable[..., Parametric] = Bernoulli,
        *,
        hidden_channels: int = 32,
        num_blocks: int = 2,
        num_layers: int = 3,
        kernel_size: int = 3,
        num_heads: int = 2,
        head_dim: int = 16,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
        key: Array,
    ) -> None:
        hidden = check_count("hidden_channels", hidden_channels)
        num_blocks = check_count("num_blocks", num_blocks)
        key_base, key_positions, key_output, *keys = jax.random.split(key, 3 + 2 * num_blocks)
        super().__init__(
            dim,
            family,
            features=hidden,
            one_hot=one_hot,
            context_shape=context_shape,
            key=key_base,
        )
        pattern = causal_attention(self.num_steps)
        stacks, attention = [], []
        for index in range(num_blocks):
            stacks.append(
                PixelStacks(
                    hidden if index else self.in_features,
                    hidden,
                    num_layers,
                    hidden,
                    kernel_size=kernel_size,
                    context_size=self.context_channels,
                    key=keys[2 * index],
                )
            )
            attention.append(
                MaskedAttention(
                    hidden,
                    pattern,
                    num_heads=num_heads,
                    head_dim=head_dim,
                    memory_dim=hidden + self.in_features,
                    key=keys[2 * index + 1],
                )
            )
        self.stacks, self.attention = stacks, attention
        self.norms = [LayerNorm(hidden) for _ in range(num_blocks)]
        self.positions = Positions(self.event_shape[1:], hidden, key=key_positions)
        self.output = Linear(hidden, hidden, key=key_output)

    def features(self, u: Array, context: Any) -> Array:
        """All pixels in one pass."""
        shape, given = self.event_shape[1:], self.context_of(context)
        places = self.positions.table()
        h: Any = 0.0
        x = u.reshape(len(u), *shape, -1)
        for stacks, norm, attention in zip(self.stacks, self.norms, self.attention):
            h = h + stacks(x, given).reshape(*u.shape[:2], -1)
            query = norm(h + places)
            memory = jnp.concatenate([query, u], -1)[:, :-1]  # of the pixel before, first of none
            h = h + attention(query, jnp.pad(memory, ((0, 0), (1, 0), (0, 0))))
            x = h.reshape(len(u), *shape, -1)
        return elu(self.output(elu(h)))

    def begin(self, context: Any, num: int) -> Any:
        """The caches of the stacks, keys and values, and what each block made of the last pixel."""
        width, given = self.event_shape[2], self.context_of(context)
        places = self.positions.table()
        return {
            "stacks": [stacks.begin(num, width, given) for stacks in self.stacks],
            "kept": [attention.begin(num) for attention in self.attention],
            "outputs": [jnp.zeros((num, places.shape[-1]), places.dtype) for _ in self.stacks],
            "queries": [jnp.zeros((num, places.shape[-1]), places.dtype) for _ in self.stacks],
            "places": places,
        }

    def enter(self, state: Any, block: Array, previous: Array) -> Any:
        """The vertical stacks of a row."""
        last = [previous, *state["outputs"][:-1]]
        entered = zip(self.stacks, state["stacks"], last)
        return {**state, "stacks": [s.enter(kept, block, x) for s, kept, x in entered]}

    def advance(self, state: Any, index: Array, previous: Array) -> tuple[Array, Any]:
        """The horizontal stacks and the attention of a pixel."""
        last = [previous, *state["outputs"][:-1]]
        new: dict[str, Any] = {"stacks": [], "kept": [], "outputs": [], "queries": []}
        h: Any = 0.0
        for b, (stacks, norm, attention) in enumerate(zip(self.stacks, self.norms, self.attention)):
            step, kept = stacks.advance(state["stacks"][b], index % self.block, last[b])
            new["stacks"].append(kept)
            h = h + step
            query = norm(h + state["places"][index])
            memory = jnp.concatenate([state["queries"][b], previous], -1)
            step, kept = attention.advance(state["kept"][b], index, query, memory)
            new["kept"].append(kept)
            h = h + step
            new["queries"].append(query)
            new["outputs"].append(h)
        return elu(self.output(elu(h))), {**state, **new}

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.family),)
