"""Images pixel by pixel in raster order:  p(x | c) = prod_i p(x_i | x_<i, c), with gated
convolutions that see all pixels before each one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.autoregressive.pixels import Pixels
from pyro_dgm.conditionals.base import Parametric
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.nn.layers import Linear
from pyro_dgm.nn.pixels import PixelStacks

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
        >>> pixels = GatedPixelCNN((1, 4, 4), hidden_channels=2, num_layers=2)
        >>> pixels().log_prob(pixels().sample((7,))).shape
        torch.Size([7])
    """

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
    ) -> None:
        hidden_channels = check_count("hidden_channels", hidden_channels)
        super().__init__(
            dim, family, features=hidden_channels, one_hot=one_hot, context_shape=context_shape
        )
        self.stacks = PixelStacks(
            self.in_features,
            hidden_channels,
            num_layers,
            hidden_channels,
            kernel_size=kernel_size,
            context_size=self.context_channels,
        )
        self.output = Linear(hidden_channels, hidden_channels)

    def features(self, u: Tensor, context: Any) -> Tensor:
        """All pixels in one pass."""
        x = u.unflatten(1, self.event_shape[1:])
        h = self.stacks(x, self.context_of(context)).flatten(1, 2)
        return torch.relu(self.output(torch.relu(h)))

    def begin(self, context: Any, num: int) -> Any:
        """The caches of the stacks."""
        return self.stacks.begin(num, self.event_shape[2], self.context_of(context))

    def enter(self, state: Any, block: int, previous: Tensor) -> Any:
        """The vertical stack of a row."""
        return self.stacks.enter(state, block, previous)

    def advance(self, state: Any, index: int, previous: Tensor) -> tuple[Tensor, Any]:
        """The horizontal stack of a pixel."""
        h, state = self.stacks.advance(state, index % self.block, previous)
        return torch.relu(self.output(torch.relu(h))), state

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.family),)
