"""Images pixel by pixel in raster order:  p(x | c) = prod_i p(x_i | x_<i, c), with gated residual
blocks at several resolutions.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.nn import elu

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.autoregressive.pixels import Pixels
from numpyro_dgm.conditionals.base import Parametric
from numpyro_dgm.conditionals.coupled import CoupledLogisticMixture
from numpyro_dgm.nn.pixel_scales import PixelScales

__all__ = ["PixelCNNPlusPlus"]


class PixelCNNPlusPlus(Pixels):
    """PixelCNN++: residual blocks that see every pixel before each one, with short cuts over two or
    more resolutions, and a mixture of logistic distributions whose channels depend on each other.

    It has no drop-out and no weight normalization: stop early where data are few.

    Args:
        dim: channels, height, width.
        family: of the channels of a pixel (default CoupledLogisticMixture, 5 components and 256
            levels), such as partial(CoupledLogisticMixture, num_components=10), or Bernoulli.
        hidden_channels: of the two streams.
        num_layers: blocks on the way down and on the way up at each resolution.
        num_scales: resolutions, each with half the rows and columns of the one before.
        one_hot: whether the network sees classes one-hot.
        context_shape: 0 = unconditional; a map (channels, height, width), a vector, a label, or
            several of these. Of a map, a coarser resolution sees every second row and column.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (channels, height,
        width).

    Cost:
        log_prob one pass; draws about two passes in arithmetic, pixel by pixel: a resolution moves
        on at every second row and column of the one before.

    Raises:
        ValueError: if a size is wrong, a map as context has other pixels, or the family is none.

    References:
        Salimans et al. (2017), arXiv:1701.05517; Ramachandran et al. (2017), arXiv:1704.06001.

    Example:
        >>> import jax.numpy as jnp
        >>> key = jax.random.key(0)
        >>> pixels = PixelCNNPlusPlus(
        ...     (3, 4, 4), hidden_channels=2, num_layers=1, num_scales=2, key=key
        ... )
        >>> pixels().log_prob(jnp.zeros((7, 3, 4, 4))).shape
        (7,)
    """

    blocks: PixelScales

    def __init__(
        self,
        dim: tuple[int, int, int],
        family: Callable[..., Parametric] = CoupledLogisticMixture,
        *,
        hidden_channels: int = 32,
        num_layers: int = 2,
        num_scales: int = 3,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
        key: Array,
    ) -> None:
        hidden_channels = check_count("hidden_channels", hidden_channels)
        keys = jax.random.split(key)
        super().__init__(
            dim,
            family,
            features=hidden_channels,
            one_hot=one_hot,
            context_shape=context_shape,
            key=keys[0],
        )
        self.blocks = PixelScales(
            self.in_features,
            hidden_channels,
            num_layers=num_layers,
            num_scales=num_scales,
            context_size=self.context_channels,
            key=keys[1],
        )

    def features(self, u: Array, context: Any) -> Array:
        """All pixels in one pass."""
        x = u.reshape(len(u), *self.event_shape[1:], -1)
        return elu(self.blocks(x, self.context_of(context)).reshape(len(u), self.num_steps, -1))

    def begin(self, context: Any, num: int) -> Any:
        """The caches of the blocks."""
        return self.blocks.begin(num, self.event_shape[2], self.context_of(context))

    def enter(self, state: Any, block: Array, previous: Array) -> Any:
        """What a row sees of the rows above."""
        return self.blocks.enter(state, block, previous)

    def advance(self, state: Any, index: Array, previous: Array) -> tuple[Array, Any]:
        """What a pixel sees besides."""
        h, state = self.blocks.advance(state, index // self.block, index % self.block, previous)
        return elu(h), state

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.family),)
