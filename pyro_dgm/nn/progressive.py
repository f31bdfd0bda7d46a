"""Networks that grow while they are trained: stages of images, each of twice the size of the one
before, that fade in one after the other.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from dgm_core.arguments import check_count, check_sizes, check_weight
from dgm_core.image_blocks import check_resolutions
from dgm_core.schedules import weight_of
from pyro_dgm.nn.image_layers import Conv2d, PixelNorm, halved, resized
from pyro_dgm.nn.layers import Linear
from pyro_dgm.nn.states import is_repeated
from pyro_dgm.nn.weights import EqualizedRate

__all__ = ["Growth", "ProgressiveGenerator", "at_level", "grown"]


class Growth(nn.Module):
    """The level of a network that grows, a function of its own training steps, which it counts:
    level 0 is the smallest stage alone, level k stage k alone, and between k - 1 and k stage k
    fades in.

    The count is a state that no optimizer trains. It moves by one where the module is called in a
    model or guide in training; in a critic it is the step of the loss, as schedules of terms see
    it. Inside `evaluation_mode` it stays.

    Args:
        schedule: the level as a function of the count, such as `growing(2, 1000, 500)`, or a
            number.

    Attributes:
        count: ().

    Raises:
        ValueError: for a negative level.

    Example:
        >>> from dgm_core.schedules import growing
        >>> growth = Growth(growing(2, 1, 2))
        >>> [float(growth()) for _ in range(7)]
        [0.0, 0.0, 0.5, 1.0, 1.0, 1.5, 2.0]
    """

    count: Tensor

    def __init__(self, schedule: float | Callable[[Any], Any]) -> None:
        super().__init__()
        self.schedule = check_weight("schedule", schedule, least=0)
        self.register_buffer("count", torch.zeros((), dtype=torch.int32))

    def forward(self) -> Tensor:
        """The level, a number."""
        level = torch.as_tensor(
            weight_of(self.schedule, self.count),
            dtype=torch.get_default_dtype(),
            device=self.count.device,
        )
        if self.training and not is_repeated():
            self.count.add_(1)
        return level

    def follow(self, step: int | Tensor) -> None:
        """Sets the count."""
        self.count.copy_(torch.as_tensor(step))

    def __repr__(self) -> str:
        return f"Growth({self.schedule!r})"


class ProgressiveGenerator(nn.Module):
    """From a vector to an image with values in [0, 1]: an affine map and a convolution, then for
    each stage twice the size and two convolutions; of each stage a map of pixels and a sigmoid give
    an image, and the level says which of these are seen.

    Each layer has an equalized rate, a leaky rectifier with slope 0.2 and pixel normalization; the
    vector comes to the sphere of radius sqrt(in_dim) first.

    Args:
        in_dim: the size of what comes in.
        image_shape: (channels, height, width) of the image, whose sizes are divisible by 2 for each
            stage after the first.
        hidden_channels: before each doubling.

    Attributes:
        in_dim, out_shape: the latter is image_shape.

    Shapes:
        h (*batch, in_dim), level () -> (*batch, *image_shape).

    Cost:
        of all stages, whatever the level: one compiled step serves all of the training.

    Raises:
        ValueError: for sizes that cannot be halved that often, and an h of the wrong shape.

    References:
        Karras et al. (2018), arXiv:1710.10196, figure 2 and table 2.

    Example:
        >>> generator = ProgressiveGenerator(2, (1, 8, 8), hidden_channels=(6, 4))
        >>> generator(torch.ones(7, 2), torch.tensor(0.5)).shape
        torch.Size([7, 1, 8, 8])
    """

    def __init__(
        self,
        in_dim: int,
        image_shape: tuple[int, int, int],
        *,
        hidden_channels: Sequence[int] = (64, 32),
    ) -> None:
        super().__init__()
        self.in_dim = check_count("in_dim", in_dim)
        self.hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.out_shape, sizes = check_resolutions(image_shape, len(self.hidden_channels))
        channels = (*self.hidden_channels, self.hidden_channels[-1])
        self.start = (channels[0], *sizes[0])
        entries = channels[0] * sizes[0][0] * sizes[0][1]
        self.input = EqualizedRate(Linear(in_dim, entries), gain=sqrt(2.0) / 4)
        pairs = zip((channels[0], *channels), channels)
        self.stages = nn.ModuleList(
            nn.ModuleList(scaled(*sizes) for sizes in ([(a, b), (b, b)] if index else [(a, b)]))
            for index, (a, b) in enumerate(pairs)
        )
        self.images = nn.ModuleList(
            scaled(size, self.out_shape[0], 1, gain=1.0) for size in channels
        )
        self.norm = PixelNorm()

    def forward(self, h: Tensor, level: Tensor | None = None) -> Tensor:
        """Images from h (*batch, in_dim); the last stage alone where no level is given."""
        if h.shape[-1:] != (self.in_dim,):
            raise ValueError(
                f"{self} expects a last dimension of {self.in_dim}, got shape {tuple(h.shape)}."
            )
        h = self.input(self.norm(h[..., None, None])[..., 0, 0])
        x, images = self._active(h.unflatten(-1, self.start)), []
        stages: Any = self.stages
        for index, (stage, image) in enumerate(zip(stages, self.images)):
            x = resized(x) if index else x
            for layer in stage:
                x = self._active(layer(x))
            if level is not None or image is self.images[-1]:
                images.append(image(x).sigmoid())
        return images[-1] if level is None else grown(images, level)

    def _active(self, x: Tensor) -> Tensor:
        return self.norm(leaky_relu(x, 0.2))

    def __repr__(self) -> str:
        return (
            f"ProgressiveGenerator({self.in_dim}, {self.out_shape}, "
            f"hidden_channels={self.hidden_channels})"
        )


def follow(module: nn.Module, step: int | Tensor) -> None:
    """Tells the parts of a critic that grow of the step."""
    for part in module.modules():
        if isinstance(part, Growth):
            part.follow(step)


def grown(stages: Sequence[Tensor], level: Tensor) -> Tensor:
    """What is seen of stages at a level:  x_0 the first,  x_k = (1 - a) up(x_{k-1}) + a stage_k,
    a = level - (k - 1) between 0 and 1.

    Args:
        stages: maps, each of twice the height and width of the one before.
        level: a number.

    Example:
        >>> low, high = torch.zeros(1, 1, 1), torch.ones(1, 2, 2)
        >>> grown([low, high], torch.tensor(0.25))[0, 0]
        tensor([0.2500, 0.2500])
    """
    x = stages[0]
    for index, stage in enumerate(stages[1:]):
        share = (level - index).clip(0.0, 1.0)
        x = (1.0 - share) * resized(x) + share * stage
    return x


def at_level(x: Tensor, level: Tensor, num_stages: int) -> Tensor:
    """Images as a network that grows sees them: `grown` from means of pixels.

    Args:
        x: (*batch, channels, height, width).
        level: a number.
        num_stages: how often they are halved.

    Example:
        >>> at_level(torch.tensor([[[0.0, 1.0], [2.0, 5.0]]]), torch.tensor(0.5), 1)
        tensor([[[1.0000, 1.5000],
                 [2.0000, 3.5000]]])
    """
    stages = [x]
    for _ in range(num_stages):
        stages.append(halved(stages[-1]))
    return grown(stages[::-1], level)


def scaled(
    in_channels: int, out_channels: int, kernel_size: int = 3, *, gain: float = sqrt(2.0)
) -> EqualizedRate:
    """A convolution with an equalized rate."""
    return EqualizedRate(Conv2d(in_channels, out_channels, kernel_size), gain=gain)
