"""Hierarchical variational autoencoder, a stack of residual cells:  h = 1;  for l = L, ..., 1:
zl_n | h ~ prior_l(h),  h = h + s inject_l(zl_n),  h = h + s cell_l(h);  x_n | h ~
likelihood(decoder(h)),  with s = 1 / sqrt(L).

The guide runs the same cells at its own draws, with q(zl_n | h, x_n) = residual(posterior_l(h,
encoder(x_n)), prior_l(h)): it says by how much it differs from the prior.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_count, check_shape, check_sizes, refuse
from numpyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, residual
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    num_data,
)
from numpyro_dgm.nn import MLP, ConvDecoder, ConvEncoder, register
from numpyro_dgm.nn.layers import Linear


class _Layer(eqx.Module):
    """What a layer of latents is made of."""

    prior: DiagonalNormal
    posterior: DiagonalNormal
    inject: Linear
    cell: MLP

    def __init__(self, z_dim: int, width: int, features: int, *, key: Array) -> None:
        keys = jax.random.split(key, 4)
        self.prior = DiagonalNormal(z_dim, context_shape=width, key=keys[0])
        self.posterior = DiagonalNormal(z_dim, context_shape=width + features, key=keys[1])
        self.inject = Linear(z_dim, width, key=keys[2])
        self.cell = MLP(width, (width,), width, activation="silu", key=keys[3])

    def onward(self, h: Array, z: Array, scale: float) -> Array:
        """The features below this layer."""
        h = h + scale * self.inject(z)
        return h + scale * self.cell(h)


class HierarchicalVAE(eqx.Module):
    """A variational autoencoder of vectors or images with any number of layers of latents, in the
    manner of NVAE and VDVAE; the latents are vectors in all layers.

    Every step down adds to the features with weight 1 / sqrt(L), so that their scale does not grow
    with depth; scales of densities are linear in the features and have a floor.

    Args:
        x_shape: the size of a datum, or (channels, height, width) of an image.
        z_dims: the sizes of the layers, from the data up.
        width: of the features h between layers.
        hidden: the sizes of the hidden layers of the encoder, which the decoder has in reverse
            order (default (200,)); of images the channels of its convolutions (default (32, 64)).
        encoder: of x, a network with an attribute `out_dim` (default MLP, of images ConvEncoder).
        decoder: of h, with an attribute `out_dim` or, of maps, `out_shape` (default MLP, of images
            ConvDecoder).
        likelihood: of x given the decoder's features (default Bernoulli(x_shape)). Sites: zL, ...,
            z1, x, in the plate "data".

    Shapes:
        x (batch, *x_shape).

    Raises:
        ValueError: if a size, a part or the data do not fit.

    References:
        Vahdat and Kautz (2020), arXiv:2007.03898; Child (2021), arXiv:2011.10650.

    Example:
        >>> vae = HierarchicalVAE((1, 8, 8), (4, 2, 2), width=16, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vae.model(size=5).shape
        (5, 1, 8, 8)
    """

    x_shape: tuple[int, ...] = eqx.field(static=True)
    z_dims: tuple[int, ...] = eqx.field(static=True)
    width: int = eqx.field(static=True)
    encoder: MLP | ConvEncoder
    decoder: MLP | ConvDecoder
    layers: list[_Layer]
    likelihood: Conditional

    def __init__(
        self,
        x_shape: int | tuple[int, int, int],
        z_dims: Sequence[int],
        *,
        width: int = 128,
        hidden: Sequence[int] | None = None,
        encoder: MLP | ConvEncoder | None = None,
        decoder: MLP | ConvDecoder | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        shape: Any = check_shape("x_shape", x_shape)
        z_dims = check_sizes("z_dims", z_dims, least=1)
        is_image, width = len(shape) == 3, check_count("width", width)
        if len(shape) not in (1, 3):
            refuse("x_shape", "a size or (channels, height, width)", x_shape)
        default = (32, 64) if is_image else (200,)
        hidden = check_sizes("hidden", default if hidden is None else hidden, least=int(is_image))
        check_network("encoder", encoder, None if is_image else shape[0])
        check_network("decoder", decoder, width)
        check_conditionals(likelihood=likelihood)
        self.x_shape, self.z_dims, self.width = shape, z_dims, width
        keys = jax.random.split(key, 3 + len(z_dims))
        if is_image:
            self.encoder = encoder or ConvEncoder(
                shape, hidden_channels=hidden, out_dim=width, key=keys[0]
            )
            self.decoder = decoder or ConvDecoder(
                width, shape, hidden_channels=hidden[::-1], key=keys[1]
            )
        else:
            self.encoder = encoder or MLP(shape[0], hidden, key=keys[0])
            self.decoder = decoder or MLP(width, hidden[::-1], key=keys[1])
        seen = self.encoder.out_dim
        self.layers = [_Layer(z, width, seen, key=k) for z, k in zip(z_dims, keys[3:])]
        features = features_of(self.decoder)
        self.likelihood = likelihood or Bernoulli(shape, context_shape=features, key=keys[2])
        check_fit("likelihood", self.likelihood, shape, features)

    def __repr__(self) -> str:
        shape = self.x_shape if len(self.x_shape) > 1 else self.x_shape[0]
        return f"HierarchicalVAE({shape}, {self.z_dims}, width={self.width})"

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or score the data x (batch, *x_shape)."""
        layers = self._down()
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", number := num_data(x, self.x_shape, size)):
            h = jnp.ones((number, self.width))
            for index, layer in layers:
                z = numpyro.sample(f"z{index}", layer.prior(h))
                h = layer.onward(h, z, len(layers) ** -0.5)
            return numpyro.sample("x", likelihood(decoder(h)), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """Infer zL, ..., z1 from the data x (batch, *x_shape)."""
        if x is None:
            raise ValueError(
                f"The guide infers z1 from data: call it with x of shape (batch, *{self.x_shape})."
            )
        layers = self._down()
        encoder = register("encoder", self.encoder)
        with numpyro.plate("data", number := num_data(x, self.x_shape, size)):
            seen = encoder(x)
            h = jnp.ones((number, self.width))
            for index, layer in layers:
                both = jnp.concatenate(
                    [h, jnp.broadcast_to(seen, (*h.shape[:-1], seen.shape[-1]))], -1
                )
                posterior = residual(layer.posterior(both), layer.prior(h))
                z = numpyro.sample(f"z{index}", posterior)
                h = layer.onward(h, z, len(layers) ** -0.5)
            return z

    def _down(self) -> list[tuple[int, _Layer]]:
        """The layers from the top on, with their numbers."""
        layers: Any = self.layers
        return list(enumerate(register("layers", layers), 1))[::-1]
