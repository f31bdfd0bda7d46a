"""Transforms of parts of an image: of its pixels in blocks, and of half of its channels."""

from abc import abstractmethod

import torch
from torch import Tensor

from pyro_dgm.flows.transform import Wrapped

__all__ = ["FactoredOut", "Squeezed"]


class WithinImage(Wrapped):
    """A transform of a part, or of another arrangement, of an image."""

    @property
    def forward_cost(self) -> str:
        """What `forward_and_log_det` costs."""
        return self.transform.forward_cost

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return self.transform.inverse_cost

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        x, log_det = self.transform.forward_and_log_det(self._enter(u), context)
        return self._leave(u, x), log_det

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        u, log_det = self.transform.inverse_and_log_det(self._enter(x), context)
        return self._leave(x, u), log_det

    @abstractmethod
    def _enter(self, image: Tensor) -> Tensor:
        """What the transform is applied to."""

    @abstractmethod
    def _leave(self, image: Tensor, result: Tensor) -> Tensor:
        """The image with the result in its place."""


class Squeezed(WithinImage):
    """A transform of images with a quarter of the pixels and four times the channels: blocks of 2 x
    2 pixels become the channels of one.

    Args:
        transform, of shape (4 C, H / 2, W / 2).

    Shapes:
        u and x (*batch, C, H, W), H and W even.

    References:
        Dinh et al. (2017), arXiv:1605.08803, section 3.6.
    """

    def _enter(self, image: Tensor) -> Tensor:
        channels, height, width = image.shape[-3:]
        blocks = image.unflatten(-1, (width // 2, 2)).unflatten(
            -3, (height // 2, 2)
        )  # (*batch, C, H / 2, 2, W / 2, 2)
        return blocks.movedim((-3, -1), (-5, -4)).reshape(
            *image.shape[:-3], 4 * channels, height // 2, width // 2
        )

    def _leave(self, image: Tensor, result: Tensor) -> Tensor:
        blocks = result.unflatten(-3, (2, 2, -1))  # (*batch, 2, 2, C, H / 2, W / 2)
        return blocks.movedim((-5, -4), (-3, -1)).reshape(*result.shape[:-3], *image.shape[-3:])


class FactoredOut(WithinImage):
    """A transform of the second half of the channels; the first half is noise already and left as
    it is.

    Args:
        transform, of shape (C - C // 2, H, W).

    Shapes:
        u and x (*batch, C, H, W).

    References:
        Dinh et al. (2017), arXiv:1605.08803, section 3.6.
    """

    def _enter(self, image: Tensor) -> Tensor:
        return image[..., image.shape[-3] // 2 :, :, :]

    def _leave(self, image: Tensor, result: Tensor) -> Tensor:
        done = image[..., : image.shape[-3] // 2, :, :]
        return torch.cat([done.expand(*result.shape[:-3], -1, -1, -1), result], -3)
