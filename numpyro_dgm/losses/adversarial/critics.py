"""Critics: networks from the values of the compared sites to one number.

With `spectral_norm=True` every weight W is divided by its largest singular value each time the
network is applied, so that with activations of slope at most one a critic is 1-Lipschitz.  A kernel
of convolution counts as a matrix (out, in * height * width) and is halved as well: with 4x4 kernels
and stride 2 each pixel lies in four patches.  The norms are exact and computed anew, so that a
critic has no state beside its weights.

Cost:
    one eigendecomposition per layer and pass, of the smaller of its two sizes (128: about a
    millisecond).

References:
    Miyato et al. (2018), arXiv:1802.05957.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_flag, check_image_shape, check_shape, refuse
from dgm_core.contexts import (
    ContextShape,
    check_context_shape,
    context_size,
    map_channels,
    shown_shape,
)
from dgm_core.terms import written
from numpyro_dgm.nn import MLP, ConvEncoder, Linear
from numpyro_dgm.nn.contexts import as_map, unflat

__all__ = ["Critic", "ImageCritic", "ProjectionCritic"]


class Critic(eqx.Module):
    """The default critic of vectors and of several sites: an MLP from the flattened values to one
    number.

    Args:
        dim: the number of entries of all compared sites together.
        hidden: the sizes of the hidden layers.
        activation: as in MLP.
        spectral_norm: whether all weights are divided by their spectral norms, which makes it
            1-Lipschitz.

    Shapes:
        x (batch, *event) with dim entries each -> (batch,).

    Raises:
        ValueError: for a size below 1, an unknown activation, and with spectral_norm for one that
            is steeper than one (gelu, silu).

    Example:
        >>> Critic(64, key=jax.random.key(0))(jnp.zeros((5, 64))).shape
        (5,)
    """

    network: MLP
    spectral_norm: bool = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "leaky_relu",
        spectral_norm: bool = False,
        key: Array,
    ) -> None:
        self.network = MLP(check_count("dim", dim), hidden, 1, activation=activation, key=key)
        self.spectral_norm = _check_slope(spectral_norm, activation)

    def __repr__(self) -> str:
        of = self.network
        first = (repr(of.in_dim), f"hidden={of.hidden}", f"activation={of.activation!r}")
        return written(self, *first, spectral_norm=False)

    def __call__(self, x: Array) -> Array:
        """One number for each of x (batch, *event)."""
        return _applied(self.network, x.reshape(len(x), -1), self.spectral_norm).squeeze(-1)


class ImageCritic(eqx.Module):
    """The default critic of images: a convolutional encoder, and a linear map from its features to
    one number.

    Args:
        image_shape: channels, height, width.
        context_shape: of what an image is compared together with (0 = nothing): a map with its
            pixels, labels, a vector, or several of these, seen as further channels; a vector is the
            same in all pixels.
        hidden_channels, features, activation: of the `ConvEncoder`.
        spectral_norm: as in `Critic`.

    Shapes:
        x (batch, channels, height, width), or flattened; with a context both side by side, (batch,
        entries of an image + entries of its context), labels one-hot, as a term with these sites
        hands them over -> (batch,).

    Raises:
        ValueError: if the image is too small to be halved that often, and as `Critic`.

    Example:
        >>> ImageCritic((1, 8, 8), key=jax.random.key(0))(jnp.zeros((5, 1, 8, 8))).shape
        (5,)
    """

    image_shape: tuple[int, int, int] = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    encoder: ConvEncoder
    output: Linear
    spectral_norm: bool = eqx.field(static=True)

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        context_shape: ContextShape = 0,
        hidden_channels: Sequence[int] = (32, 64),
        features: int = 256,
        activation: str = "leaky_relu",
        spectral_norm: bool = False,
        key: Array,
    ) -> None:
        keys = jax.random.split(key)
        features = check_count("features", features)
        self.image_shape = check_image_shape("image_shape", image_shape)
        self.context_shape = check_context_shape("context_shape", context_shape)
        channels, height, width = self.image_shape
        seen = map_channels(self.context_shape, (height, width)) or context_size(context_shape)
        self.encoder = ConvEncoder(
            (channels + seen, height, width),
            hidden_channels=hidden_channels,
            out_dim=features,
            activation=activation,
            key=keys[0],
        )
        self.output = Linear(features, 1, key=keys[1])
        self.spectral_norm = _check_slope(spectral_norm, activation)

    def __repr__(self) -> str:
        of = self.encoder
        channels = tuple(convolution.weight.shape[0] for convolution in of.convolutions)
        context = self.context_shape
        given = [f"context_shape={shown_shape(context)}"] if context else []
        first = (
            f"{self.image_shape}",
            *given,
            f"hidden_channels={channels}",
            f"features={of.out_dim}",
        )
        return written(self, *first, spectral_norm=False)

    def __call__(self, x: Array) -> Array:
        """One number for each of x (batch, channels, height, width)."""
        entries, rest = prod(self.image_shape), context_size(self.context_shape)
        if prod(x.shape[1:]) != entries + rest:
            beside = f", side by side with {rest} entries of a context" if rest else ""
            raise ValueError(
                f"ImageCritic expects images of shape {self.image_shape}{beside}, got an array of "
                f"shape {tuple(x.shape)}."
            )
        x = x.reshape(len(x), -1)
        image = x[:, :entries].reshape(len(x), *self.image_shape)
        if rest:
            context = unflat(x[:, entries:], self.context_shape)
            seen = as_map(context, self.context_shape, self.image_shape[1:])
            image = jnp.concatenate([image, seen], 1)
        h = _applied(self.encoder, image, self.spectral_norm)
        return _applied(self.output, h, self.spectral_norm).squeeze(-1)


class ProjectionCritic(eqx.Module):
    """A critic of pairs (x, y) with a class label y:  V(x, y) = w . phi(x) + b + y . (A phi(x) +
    a),  y one-hot.

    For JensenShannon(("x", "y"), ...) of a conditional GAN: the logarithm of p(x, y) / q(x, y) has
    this form for features phi(x) that are good enough.

    Args:
        dim: the size or the shape of x.
        num_classes: of y.
        encoder: the network phi, with an attribute `out_dim` (default MLP(dim, (128, 128)), for
            images (channels, height, width) ConvEncoder(dim), with activation "leaky_relu").
        spectral_norm: whether all weights are divided by their norms.

    Shapes:
        x and y side by side, (batch, entries of x + num_classes), as a term with these two sites
        hands them over -> (batch,).

    Raises:
        ValueError: for fewer than two classes, an x of another size, and as `Critic`.

    References:
        Miyato and Koyama (2018), arXiv:1802.05637, eq. (3).

    Example:
        >>> ProjectionCritic(2, 3, key=jax.random.key(0))(jnp.zeros((5, 2 + 3))).shape
        (5,)
    """

    event_shape: tuple[int, ...] = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    encoder: MLP | ConvEncoder
    output: Linear
    classes: Linear
    spectral_norm: bool = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, int, int],
        num_classes: int,
        *,
        encoder: MLP | ConvEncoder | None = None,
        spectral_norm: bool = False,
        key: Array,
    ) -> None:
        num_classes = check_count("num_classes", num_classes, 2)
        shape = check_shape("dim", dim)
        if encoder is not None and not hasattr(encoder, "out_dim"):
            refuse("encoder", "a network with an attribute out_dim", encoder)
        self.event_shape = shape if len(shape) == 3 else (prod(shape),)
        keys = jax.random.split(key, 3)
        if encoder is None:
            settings: Any = {"activation": "leaky_relu", "key": keys[0]}
            encoder = (
                ConvEncoder(shape, **settings)
                if len(shape) == 3
                else MLP(prod(shape), (128, 128), **settings)
            )
        self.encoder, self.num_classes = encoder, num_classes
        self.output, self.classes = (
            Linear(encoder.out_dim, 1, key=keys[1]),
            Linear(encoder.out_dim, num_classes, key=keys[2]),
        )
        self.spectral_norm = _check_slope(spectral_norm, getattr(encoder, "activation", ""))

    def __repr__(self) -> str:
        shape = self.event_shape if len(self.event_shape) > 1 else self.event_shape[0]
        first = (repr(shape), repr(self.num_classes), f"encoder={self.encoder!r}")
        return written(self, *first, spectral_norm=False)

    def __call__(self, x: Array) -> Array:
        """One number for each pair (batch, entries of x + num_classes)."""
        entries = prod(self.event_shape)
        if x.ndim != 2 or x.shape[1] != entries + self.num_classes:
            expected = f"(batch, {entries} + {self.num_classes})"
            raise ValueError(
                f"This ProjectionCritic needs x and a one-hot y side by side, {expected}, as "
                "the "
                f'sites ("x", "y"), got {tuple(x.shape)}.'
            )
        h = _applied(
            self.encoder, x[:, :entries].reshape(len(x), *self.event_shape), self.spectral_norm
        )
        of_class = (x[:, entries:] * _applied(self.classes, h, self.spectral_norm)).sum(-1)
        return _applied(self.output, h, self.spectral_norm).squeeze(-1) + of_class


def default_critic(shape: tuple[int, ...], key: Array) -> eqx.Module:
    """The critic of values of this shape, where none is given."""
    return (
        ImageCritic(shape, key=key)
        if len(shape) == 3 and min(shape[1:]) >= 4
        else Critic(prod(shape), key=key)
    )


def _applied(network: Any, x: Array, spectral_norm: bool) -> Array:
    """The network's output, with all weights divided by their spectral norms if so wished."""
    if not spectral_norm:
        return network(x)
    return jax.tree.map(
        lambda leaf: _normalized(leaf) if eqx.is_inexact_array(leaf) and leaf.ndim > 1 else leaf,
        network,
    )(x)


def _normalized(weight: Array) -> Array:
    """A weight divided by the norm of the linear map, of a convolution by the bound on it that is
    said above.
    """
    largest = jax.lax.stop_gradient(jnp.abs(weight).max())
    weight = weight / (largest + (largest == 0))  # squares of its parts neither overflow nor vanish
    matrix = weight.reshape(len(weight), -1)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    # u: the derivative of |u W| for a fixed u is that of the norm
    dtype = jnp.promote_types(matrix.dtype, jnp.float32)
    gram = jax.lax.stop_gradient(matrix @ matrix.T).astype(dtype)
    left = jnp.linalg.eigh(gram)[1][:, -1]
    norm = jnp.sqrt(((left @ matrix.astype(dtype)) ** 2).sum() + 1e-24).astype(weight.dtype)
    return weight / (norm if weight.ndim == 2 else 2 * norm)


def _check_slope(spectral_norm: bool, activation: str) -> bool:
    if check_flag("spectral_norm", spectral_norm) and activation in ("gelu", "silu"):
        raise ValueError(
            f"spectral_norm needs an activation of slope at most 1, got {activation!r}."
        )
    return spectral_norm
