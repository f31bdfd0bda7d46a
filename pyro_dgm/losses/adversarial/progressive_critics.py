"""The critic of progressive growing, which grows with its generator."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from dgm_core.arguments import check_sizes, check_weight
from dgm_core.image_blocks import check_resolutions
from dgm_core.terms import written
from pyro_dgm.losses.base import Weight
from pyro_dgm.nn import EqualizedRate, Linear, MinibatchStdDev
from pyro_dgm.nn.image_layers import halved
from pyro_dgm.nn.progressive import Growth, scaled

__all__ = ["ProgressiveCritic"]


class ProgressiveCritic(nn.Module):
    """A critic of images that grows: a map of pixels takes images in at every size, and each stage,
    two convolutions and the mean of four pixels, leads to the size below:  h_{k-1} = (1 - a)
    in(x_{k-1}) + a stage_k(h_k),  a = level - (k - 1) between 0 and 1. At the smallest size it sees
    how much its batch varies, and ends with a convolution and two maps.

    All layers have equalized rates and leaky rectifiers with slope 0.2.

    Args:
        image_shape: channels, height and width, divisible by 2 for each stage after the first.
        growth: the level as a function of the step, the schedule of the model.
        hidden_channels: after each stage but the first.

    Shapes:
        x (batch, *image_shape) -> (batch,).

    Cost:
        of all stages, whatever the level.

    Raises:
        ValueError: for sizes that cannot be halved that often, a negative level, and an x of
            another shape.

    References:
        Karras et al. (2018), arXiv:1710.10196, figure 2 and table 2.

    Example:
        >>> import torch
        >>> from dgm_core.schedules import growing
        >>> critic = ProgressiveCritic((1, 8, 8), growing(2, 100, 100), hidden_channels=(4, 6))
        >>> critic(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        growth: Weight,
        *,
        hidden_channels: Sequence[int] = (32, 64),
    ) -> None:
        super().__init__()
        self.hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.image_shape, sizes = check_resolutions(image_shape, len(self.hidden_channels))
        self.growth = Growth(check_weight("growth", growth, least=0))
        channels = (self.hidden_channels[0], *self.hidden_channels)
        last = channels[-1]
        self.entries = nn.ModuleList(scaled(self.image_shape[0], size, 1) for size in channels)
        self.stages = nn.ModuleList(
            nn.ModuleList([scaled(a, a), scaled(a, b)]) for a, b in pairwise(channels)
        )
        self.deviation = MinibatchStdDev()
        self.last = scaled(last + 1, last)
        self.hidden = EqualizedRate(Linear(last * prod(sizes[0]), last))
        self.output = EqualizedRate(Linear(last, 1), gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """One number for each of x."""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(
                f"ProgressiveCritic expects images of shape {self.image_shape}, channels first, "
                f"got {tuple(x.shape)}."
            )
        level = self.growth()
        h = leaky_relu(self.entries[0](x), 0.2)
        stages: Any = self.stages
        for index, (stage, entry) in enumerate(zip(stages, self.entries[1:])):
            for layer in stage:
                h = leaky_relu(layer(h), 0.2)
            x, share = halved(x), (level - (len(self.stages) - 1 - index)).clip(0.0, 1.0)
            h = (1.0 - share) * leaky_relu(entry(x), 0.2) + share * halved(h)
        h = leaky_relu(self.last(self.deviation(h)), 0.2)
        h = leaky_relu(self.hidden(h.flatten(1)), 0.2)
        return self.output(h).squeeze(-1)

    def __repr__(self) -> str:
        hidden = f"hidden_channels={self.hidden_channels}"
        return written(self, repr(self.image_shape), repr(self.growth.schedule), hidden)
