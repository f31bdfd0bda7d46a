"""Masked autoencoder:  v_n a random subset of the patches of x_n;  x_ni | x_n,v ~
likelihood(network(x_n,v)_i)  for the patches i that are not in v_n.

There is no latent site: what is learned is the encoder of the visible patches.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array

from dgm_core.arguments import check_fraction, check_image_shape
from dgm_core.images import check_visible, num_images, patch_grid, visible_patches
from numpyro_dgm.conditionals import Conditional, DiagonalNormal
from numpyro_dgm.models.image.parts import within
from numpyro_dgm.models.parts import check_conditionals, check_fit, outline
from numpyro_dgm.nn import register, require
from numpyro_dgm.nn.patches import HiddenPatches


class MaskedAutoencoder(eqx.Module):
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
        >>> sizes = {"patch_size": 2, "dim": 8, "decoder_dim": 8}
        >>> autoencoder = MaskedAutoencoder((1, 8, 8), **sizes, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     autoencoder.model(jnp.zeros((5, 1, 8, 8))).shape
        (5, 16, 4)
    """

    image_shape: tuple[int, int, int] = eqx.field(static=True)
    grid: tuple[int, int] = eqx.field(static=True)
    patch_size: int = eqx.field(static=True)
    num_patches: int = eqx.field(static=True)
    num_visible: int = eqx.field(static=True)
    network: HiddenPatches
    likelihood: Conditional

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
        key: Array,
    ) -> None:
        self.image_shape = check_image_shape("image_shape", image_shape)
        self.grid, self.patch_size = patch_grid(self.image_shape, patch_size), patch_size
        self.num_patches, entries = self.grid[0] * self.grid[1], image_shape[0] * patch_size**2
        ratio = check_fraction("hidden_ratio", hidden_ratio)
        self.num_visible = visible_patches(self.num_patches, ratio)
        check_conditionals(likelihood=likelihood)
        key_network, key_likelihood = jax.random.split(key)
        self.network = HiddenPatches(
            self.grid,
            entries,
            dim=dim,
            num_layers=num_layers,
            decoder_dim=decoder_dim,
            decoder_layers=decoder_layers,
            num_heads=num_heads,
            key=key_network,
        )
        self.likelihood = likelihood or DiagonalNormal(
            entries, context_shape=decoder_dim, key=key_likelihood
        )
        check_fit("likelihood", self.likelihood, (entries,), decoder_dim)

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, visible: Any = None) -> Array:
        """Score the hidden patches of the images x (batch, channels, height, width) given the
        visible ones; where all are visible there are their codes h alone, and nothing to train on.
        """
        number = num_images("x", x, self.image_shape)
        network = register("network", self.network)
        likelihood = register("likelihood", self.likelihood)
        patches = self.to_patches(jnp.asarray(x))
        visible = self._visible(number, visible)
        with numpyro.plate("data", number):
            codes, features = network(patches, visible)
            numpyro.deterministic("h", codes)
            if visible.shape[1] == self.num_patches:
                return patches  # nothing is left to score
            hidden = network.hidden(visible)
            fn = likelihood(features)
            within(patches, fn)
            return numpyro.sample("x", fn.mask(hidden).to_event(1), obs=patches)

    def guide(self, x: Array | None = None, visible: Any = None) -> None:
        """Draws nothing: all sites of the model are observed."""

    def to_patches(self, x: Array) -> Array:
        """Images (batch, channels, height, width) as patches (batch, patches, numbers)."""
        (rows, columns), size = self.grid, self.patch_size
        x = x.reshape(-1, x.shape[1], rows, size, columns, size)
        return x.transpose(0, 2, 4, 1, 3, 5).reshape(len(x), self.num_patches, -1)

    def from_patches(self, patches: Array) -> Array:
        """The inverse of `to_patches`."""
        (rows, columns), size = self.grid, self.patch_size
        x = patches.reshape(-1, rows, columns, self.image_shape[0], size, size)
        return x.transpose(0, 3, 1, 4, 2, 5).reshape(-1, *self.image_shape)

    def every(self, number: int) -> np.ndarray:
        """All patches of so many images, to be handed over as visible."""
        return np.tile(np.arange(self.num_patches), (number, 1))

    def _visible(self, number: int, visible: Any) -> Array:
        """The places of the visible patches, (batch, number of them)."""
        if visible is None:
            key = numpyro.prng_key()
            if key is None:
                raise ValueError(
                    "A masked autoencoder draws which patches are visible: run it inside "
                    "numpyro.handlers.seed, or hand over visible."
                )
            noise = jax.random.uniform(key, (number, self.num_patches))
            return noise.argsort(-1)[:, : self.num_visible]
        visible = jnp.asarray(visible)
        check_visible(visible, number, self.num_patches)
        good = (visible >= 0) & (visible < self.num_patches)
        require("visible", f"patches from 0 to {self.num_patches - 1}", visible, good)
        again = jnp.tril(visible[:, :, None] == visible[:, None], -1).any(-1)
        require("visible", "patches of which none is there twice", visible, ~again)
        return jnp.where(
            good & ~again, visible, self.num_patches
        )  # NaN where nothing can be raised
