"""What models of images given images share."""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from dgm_core.images import LARGEST, num_images
from pyro_dgm.nn import require
from pyro_dgm.nn.contexts import as_map

__all__: list[str] = []


class Stated(TorchDistribution):
    """What a model is given and does not model: every draw is the value itself, which counts
    nothing, log p = 0. As a site it is there to be compared, by a critic for instance.

    Args:
        value: (*batch, *event).
        event_dim: .
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, value: Tensor, event_dim: int) -> None:
        self.value, split = value, value.ndim - event_dim
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real arrays."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "Stated":
        """The same with a larger batch shape."""
        return Stated(self.value.expand(*batch_shape, *self.event_shape), len(self.event_shape))

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """The value (*sample_shape, *batch, *event)."""
        return self.value.expand(*sample_shape, *self.value.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Zeros."""
        batch = torch.broadcast_shapes(value.shape[: value.ndim - self.event_dim], self.batch_shape)
        return torch.zeros(batch, dtype=self.value.dtype, device=self.value.device)


def image_pairs(
    x: Any, y: Any, image_shape: tuple[int, ...], given_shape: tuple[int, ...]
) -> Tensor:
    """The images y (batch, *given_shape) that those of x (batch, *image_shape) are made from, in
    floating point; ValueError unless they are as many, and where numbers are as large as gray
    levels up to 255.
    """
    number = num_images("y", y, given_shape)
    if x is not None and num_images("x", x, image_shape) != number:
        raise ValueError(f"x and y must have the same number of images, got {len(x)} and {number}.")
    y = y if y.is_floating_point() else y.to(torch.get_default_dtype())
    what = f"images of numbers between -{LARGEST:g} and {LARGEST:g} (divide gray levels by 255)"
    good = y.abs() <= LARGEST
    require("y", what, y, good)
    return torch.where(good, y, torch.nan)


def fitted(y: Tensor, pixels: tuple[int, ...]) -> Tensor:
    """Images y (*batch, channels, height, width) with these pixels: in blocks, whose entries become
    channels, or every pixel repeated.

    Example:
        >>> fitted(torch.ones(5, 1, 2, 2), (4, 4)).shape
        torch.Size([5, 1, 4, 4])
        >>> fitted(torch.ones(5, 1, 4, 4), (2, 2)).shape
        torch.Size([5, 4, 2, 2])
    """
    if y.shape[-1] >= pixels[1]:
        return as_map(y, tuple(y.shape[-3:]), pixels)
    factor = pixels[1] // y.shape[-1]
    return y.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
