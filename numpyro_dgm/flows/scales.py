"""Transforms of parts of an image: of its pixels in blocks, and of half of its channels."""

from abc import abstractmethod

import jax.numpy as jnp
from jax import Array

from numpyro_dgm.flows.transform import Wrapped

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

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        x, log_det = self.transform.forward_and_log_det(self._enter(u), context)
        return self._leave(u, x), log_det

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        u, log_det = self.transform.inverse_and_log_det(self._enter(x), context)
        return self._leave(x, u), log_det

    @abstractmethod
    def _enter(self, image: Array) -> Array:
        """What the transform is applied to."""

    @abstractmethod
    def _leave(self, image: Array, result: Array) -> Array:
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

    def _enter(self, image: Array) -> Array:
        channels, height, width = image.shape[-3:]
        blocks = image.reshape(
            *image.shape[:-2], height // 2, 2, width // 2, 2
        )  # (*batch, C, H / 2, 2, W / 2, 2)
        return jnp.moveaxis(blocks, (-3, -1), (-5, -4)).reshape(
            *image.shape[:-3], 4 * channels, height // 2, width // 2
        )

    def _leave(self, image: Array, result: Array) -> Array:
        blocks = result.reshape(
            *result.shape[:-3], 2, 2, -1, *result.shape[-2:]
        )  # (*batch, 2, 2, C, H / 2, W / 2)
        return jnp.moveaxis(blocks, (-5, -4), (-3, -1)).reshape(
            *result.shape[:-3], *image.shape[-3:]
        )


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

    def _enter(self, image: Array) -> Array:
        return image[..., image.shape[-3] // 2 :, :, :]

    def _leave(self, image: Array, result: Array) -> Array:
        done = image[..., : image.shape[-3] // 2, :, :]
        return jnp.concatenate(
            [jnp.broadcast_to(done, (*result.shape[:-3], *done.shape[-3:])), result], -3
        )
