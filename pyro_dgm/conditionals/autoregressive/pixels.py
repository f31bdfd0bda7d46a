"""The base of autoregressive conditionals of images, in raster order."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dgm_core.arguments import check_image_shape
from dgm_core.contexts import ContextShape, context_size, map_channels
from pyro_dgm.conditionals.autoregressive.base import Autoregressive
from pyro_dgm.conditionals.base import Parametric
from pyro_dgm.nn.contexts import as_map

__all__ = ["Pixels"]


class Pixels(Autoregressive):
    """The base of conditionals of images that are drawn pixel by pixel, row by row: their order,
    their contexts, and prefixes of whole rows.

    Args:
        dim: channels, height, width.
        family: of what is drawn at one step, as in `Autoregressive`: all channels of a pixel, or
            one where channels are ordered.
        features: of a pixel.
        ordered: whether the channels of a pixel are drawn one after the other.
        one_hot: whether the network sees classes one-hot.
        context_shape: 0 = unconditional; a map (channels, height, width) belongs to the pixels, a
            vector or a label to all of them.

    Attributes:
        context_channels: of the context at a pixel.

    Raises:
        ValueError: if a map as context has other pixels, and as `Autoregressive` does.
    """

    prefix_axis = 1

    def __init__(
        self,
        dim: tuple[int, int, int],
        family: Callable[..., Parametric],
        *,
        features: int,
        ordered: bool = False,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
    ) -> None:
        channels, height, width = check_image_shape("dim", dim)
        super().__init__(
            dim,
            family,
            features=features,
            steps=height * width * (channels if ordered else 1),
            size=1 if ordered else channels,
            block=width * (channels if ordered else 1),
            one_hot=one_hot,
            context_shape=context_shape,
        )
        of_a_map = map_channels(self.context_shape, (height, width))
        self.is_map = of_a_map > 0
        self.context_channels = of_a_map or context_size(self.context_shape)

    def to_steps(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, width) in the order of the steps."""
        return x.flatten(-2).mT.reshape(len(x), self.num_steps, self.size)

    def from_steps(self, values: Tensor) -> Tensor:
        """The inverse of `to_steps`."""
        channels, height, width = self.event_shape
        return values.reshape(len(values), -1, channels).mT.unflatten(-1, (height, width))

    def context_of(self, context: Any) -> Tensor | None:
        """A checked context by pixel: (batch, height or 1, width or 1, context_channels)."""
        if context is None:
            return None
        if self.is_map:
            return as_map(context, self.context_shape, self.event_shape[1:]).permute(0, 2, 3, 1)
        vector = self.flat(context).to(self.family.head.weight.dtype)  # labels know no precision
        return vector[:, None, None]
