"""Images pixel by pixel in raster order:  p(x | c) = prod_i p(x_i | x_<i, c), with gated
convolutions that see all pixels before each one.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.nn import relu

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.autoregressive.pixels import Pixels
from numpyro_dgm.conditionals.base import Parametric
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.nn.layers import Linear
from numpyro_dgm.nn.pixels import PixelStacks

__all__ = ["GatedPixelCNN"]


class GatedPixelCNN(Pixels):
    """The gated PixelCNN: vertical and horizontal stacks of masked convolutions, which together see
    every pixel before each one.

    Args:
        dim: channels, height, width.
        family: of the channels of a pixel (default Bernoulli), such as partial(Categorical,
            num_classes=256), or partial(CoupledLogisticMixture, num_components=10) for colors.
        hidden_channels: of the stacks.
        num_layers: of the stacks, at least 2.
        kernel_size: of the convolutions, odd.
        one_hot: whether the network sees classes one-hot.
        context_shape: 0 = unconditional; a map (channels, height, width), a vector, a label, or
            several of these.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (channels, height,
        width).

    Cost:
        log_prob one pass; draws about two passes in arithmetic, pixel by pixel.

    Raises:
        ValueError: if a size is wrong, a map as context has other pixels, or the family is none.

    References:
        van den Oord et al. (2016), arXiv:1606.05328.

    Example:
        >>> key = jax.random.key(0)
        >>> pixels = GatedPixelCNN((1, 4, 4), hidden_channels=2, num_layers=2, key=key)
        >>> pixels().log_prob(pixels().sample(key, (7,))).shape
        (7,)
    """

    stacks: PixelStacks
    output: Linear

    def __init__(
        self,
        dim: tuple[int, int, int],
        family: Callable[..., Parametric] = Bernoulli,
        *,
        hidden_channels: int = 32,
        num_layers: int = 8,
        kernel_size: int = 3,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
        key: Array,
    ) -> None:
        hidden_channels = check_count("hidden_channels", hidden_channels)
        keys = jax.random.split(key, 3)
        super().__init__(
            dim,
            family,
            features=hidden_channels,
            one_hot=one_hot,
            context_shape=context_shape,
            key=keys[0],
        )
        self.stacks = PixelStacks(
            self.in_features,
            hidden_channels,
            num_layers,
            hidden_channels,
            kernel_size=kernel_size,
            context_size=self.context_channels,
            key=keys[1],
        )
        self.output = Linear(hidden_channels, hidden_channels, key=keys[2])

    def features(self, u: Array, context: Any) -> Array:
        """All pixels in one pass."""
        x = u.reshape(len(u), *self.event_shape[1:], -1)
        h = self.stacks(x, self.context_of(context)).reshape(len(u), self.num_steps, -1)
        return relu(self.output(relu(h)))

    def begin(self, context: Any, num: int) -> Any:
        """The caches of the stacks."""
        return self.stacks.begin(num, self.event_shape[2], self.context_of(context))

    def enter(self, state: Any, block: Array, previous: Array) -> Any:
        """The vertical stack of a row."""
        return self.stacks.enter(state, block, previous)

    def advance(self, state: Any, index: Array, previous: Array) -> tuple[Array, Any]:
        """The horizontal stack of a pixel."""
        h, state = self.stacks.advance(state, index % self.block, previous)
        return relu(self.output(relu(h))), state

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.family),)
