"""Masked autoencoder:  v_n a random subset of the patches of x_n;  x_ni | x_n,v ~
likelihood(network(x_n,v)_i)  for the patches i that are not in v_n.

There is no latent site: what is learned is the encoder of the visible patches.
"""

from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_fraction, check_image_shape
from dgm_core.images import check_visible, num_images, patch_grid, visible_patches
from pyro_dgm.conditionals import Conditional, DiagonalNormal
from pyro_dgm.models.image.parts import within
from pyro_dgm.models.parts import check_conditionals, check_fit
from pyro_dgm.nn import register, require
from pyro_dgm.nn.patches import HiddenPatches


class MaskedAutoencoder(nn.Module):
    """A model of the hidden patches of images given the visible ones: train it by NLL().

    The encoder, a transformer, sees the visible patches alone, the decoder their codes and one
    learned token in place of each hidden patch; only these are scored.

    Args:
        image_shape: (channels, height, width).
        patch_size: height and width of a patch, which divides those of an image.
        hidden_ratio: the share of the patches that is hidden, drawn anew in each call.
        dim: of the codes of the encoder, num_layers: its blocks.
        num_heads: of every attention, which divides dim and decoder_dim.
        decoder_dim, decoder_layers: likewise of the decoder.
        likelihood: of the numbers of a patch given decoder_dim features (default DiagonalNormal).
            Sites: x (patches, numbers), in raster order, and h (visible, dim), the codes of the
            visible patches, which are computed; in the plate "data".

    Attributes:
        num_patches: of an image;  num_visible: how many of them are visible.

    Shapes:
        x (batch, channels, height, width); visible (batch, number) integers, the patches that are
        visible, None for random ones.

    Cost:
        the encoder takes the visible patches only: a quarter of all, by default.

    Raises:
        ValueError: if the patches do not divide the images, for a share that leaves none hidden or
            none visible, if the data do not fit, for numbers like 255 that are no classes, and for
            a patch that is visible twice.

    References:
        He et al. (2022), arXiv:2111.06377.

    Example:
        >>> autoencoder = MaskedAutoencoder((1, 8, 8), patch_size=2, dim=8, decoder_dim=8)
        >>> autoencoder.model(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 16, 4])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        patch_size: int = 4,
        hidden_ratio: float = 0.75,
        dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        decoder_dim: int = 32,
        decoder_layers: int = 1,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape("image_shape", image_shape)
        self.grid, self.patch_size = patch_grid(self.image_shape, patch_size), patch_size
        self.num_patches, entries = self.grid[0] * self.grid[1], image_shape[0] * patch_size**2
        ratio = check_fraction("hidden_ratio", hidden_ratio)
        self.num_visible = visible_patches(self.num_patches, ratio)
        check_conditionals(likelihood=likelihood)
        self.network = HiddenPatches(
            self.grid,
            entries,
            dim=dim,
            num_layers=num_layers,
            decoder_dim=decoder_dim,
            decoder_layers=decoder_layers,
            num_heads=num_heads,
        )
        self.likelihood = likelihood or DiagonalNormal(entries, context_shape=decoder_dim)
        check_fit("likelihood", self.likelihood, (entries,), decoder_dim)

    def model(self, x: Tensor | None = None, visible: Any = None) -> Tensor:
        """Score the hidden patches of the images x (batch, channels, height, width) given the
        visible ones; where all are visible there are their codes h alone, and nothing to train on.
        """
        number = num_images("x", x, self.image_shape)
        network = register("network", self.network)
        likelihood = register("likelihood", self.likelihood)
        patches = self.to_patches(torch.as_tensor(x))
        visible = self._visible(number, visible, patches)
        with pyro.plate("data", number):
            codes, features = network(patches, visible)
            pyro.deterministic("h", codes, event_dim=2)
            if visible.shape[1] == self.num_patches:
                return patches  # nothing is left to score
            hidden = network.hidden(visible)
            fn = likelihood(features)
            within(patches, fn)
            return pyro.sample("x", fn.mask(hidden).to_event(1), obs=patches)

    def guide(self, x: Tensor | None = None, visible: Any = None) -> None:
        """Draws nothing: all sites of the model are observed."""

    def to_patches(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, width) as patches (batch, patches, numbers)."""
        (rows, columns), size = self.grid, self.patch_size
        x = x.reshape(-1, x.shape[1], rows, size, columns, size)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(len(x), self.num_patches, -1)

    def from_patches(self, patches: Tensor) -> Tensor:
        """The inverse of `to_patches`."""
        (rows, columns), size = self.grid, self.patch_size
        x = patches.reshape(-1, rows, columns, self.image_shape[0], size, size)
        return x.permute(0, 3, 1, 4, 2, 5).reshape(-1, *self.image_shape)

    def every(self, number: int) -> np.ndarray:
        """All patches of so many images, to be handed over as visible."""
        return np.tile(np.arange(self.num_patches), (number, 1))

    def _visible(self, number: int, visible: Any, patches: Tensor) -> Tensor:
        """The places of the visible patches, (batch, number of them)."""
        if visible is None:
            noise = torch.rand(number, self.num_patches, device=patches.device)
            return noise.argsort(-1)[:, : self.num_visible]
        visible = torch.as_tensor(visible, device=patches.device)
        check_visible(visible, number, self.num_patches)
        good = (visible >= 0) & (visible < self.num_patches)
        require("visible", f"patches from 0 to {self.num_patches - 1}", visible, good)
        again = (visible[:, :, None] == visible[:, None]).tril(-1).any(-1)
        require("visible", "patches of which none is there twice", visible, ~again)
        return visible.long()
