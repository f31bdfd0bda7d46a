"""The critic of SN-GAN, SAGAN and BigGAN: residual blocks, attention, a projection on labels."""

from collections.abc import Sequence
from math import prod
from typing import Any

import equinox as eqx
import jax
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_flag, check_sizes
from dgm_core.image_blocks import check_resolutions
from dgm_core.terms import written
from numpyro_dgm.nn import Linear, MinibatchStdDev
from numpyro_dgm.nn.residual import CriticBlock, SelfAttention, normalized

__all__ = ["ResidualCritic"]


class ResidualCritic(eqx.Module):
    """A critic of images, of pairs with a label where num_classes is given:  V(x) = w . h + b,
    V(x, y) = w . h + b + y . (A h + a),  h the sum over pixels of rectified residual features, or
    all of them, y one-hot.

    All layers have spectral norm one by default, so that the critic needs no penalty. What it keeps
    for that, a vector for each layer, belongs to the state of its term.

    Args:
        image_shape: channels, height and width, divisible by 2 for each block.
        num_classes: of y; 0 without labels.
        hidden_channels: after each block, which halves height and width.
        num_flat: blocks after these that keep the size, two in SN-GAN: a feature sees more of its
            image with each.
        attention: whether the first block is followed by `SelfAttention`.
        pooling: "sum", or "none": h are the features of all pixels, side by side. A sum tells what
            there is in an image and not where: of images that are much larger than what a feature
            sees, as 28x28 behind two blocks, it judges the strokes alone.
        spectral_norm: "matrix", "operator" (a tighter bound at large kernels, and dearer) or
            "none".
        minibatch_stddev: whether the critic sees how much its batch varies.

    Shapes:
        x (batch, *image_shape); with labels both side by side, (batch, entries + num_classes), as a
        term with these two sites hands them over -> (batch,).

    Raises:
        ValueError: for sizes that cannot be halved that often, one class, an unknown norm or
            pooling, and an x of another shape.

    References:
        Miyato et al. (2018), arXiv:1802.05957; Miyato and Koyama (2018), arXiv:1802.05637, eq. (3).

    Example:
        >>> settings = {"hidden_channels": (4, 6), "key": jax.random.key(0)}
        >>> ResidualCritic((1, 8, 8), **settings)(jax.numpy.zeros((5, 1, 8, 8))).shape
        (5,)
    """

    image_shape: tuple[int, int, int] = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    hidden_channels: tuple[int, ...] = eqx.field(static=True)
    num_flat: int = eqx.field(static=True)
    blocks: list[CriticBlock]
    attention: SelfAttention | None
    deviation: MinibatchStdDev | None
    output: Any
    classes: Any
    pooling: str = eqx.field(static=True)
    spectral_norm: str = eqx.field(static=True)

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int = 0,
        hidden_channels: Sequence[int] = (32, 64),
        num_flat: int = 0,
        attention: bool = False,
        pooling: str = "sum",
        spectral_norm: str = "matrix",
        minibatch_stddev: bool = False,
        key: Array,
    ) -> None:
        self.num_classes = check_count("num_classes", num_classes, 0)
        if num_classes == 1:
            raise ValueError("num_classes must be 0, without labels, or at least 2, got 1.")
        self.hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.image_shape, sizes = check_resolutions(image_shape, len(self.hidden_channels))
        sizes, norm = sizes[::-1], spectral_norm
        self.num_flat, halvings = check_count("num_flat", num_flat, 0), len(self.hidden_channels)
        flat = self.hidden_channels[-1:] * num_flat
        channels = (self.image_shape[0], *self.hidden_channels, *flat)
        sizes += sizes[-1:] * num_flat
        first, second, looking, *keys = jax.random.split(key, 3 + halvings + num_flat)
        self.blocks = [
            CriticBlock(
                *channels[i : i + 2],
                first=i == 0,
                halve=i < halvings,
                spectral_norm=norm,
                image_size=sizes[i],
                key=k,
            )
            for i, k in enumerate(keys)
        ]
        self.attention = None
        if check_flag("attention", attention):
            of_pixels = "none" if norm == "none" else "matrix"
            self.attention = SelfAttention(channels[1], spectral_norm=of_pixels, key=looking)
        varies = check_flag("minibatch_stddev", minibatch_stddev)
        self.deviation = MinibatchStdDev() if varies else None
        self.pooling = check_choice("pooling", pooling, ("sum", "none"))
        features = (channels[-1] + varies) * (1 if pooling == "sum" else prod(sizes[-1]))
        self.output = normalized(Linear(features, 1, key=first), norm)
        self.classes = None
        if num_classes:
            self.classes = normalized(Linear(features, num_classes, key=second), norm)
        self.spectral_norm = norm

    def __call__(self, x: Array) -> Array:
        """One number for each of x."""
        entries = prod(self.image_shape)
        if x.ndim < 2 or prod(x.shape[1:]) != entries + self.num_classes:
            beside = f", side by side with {self.num_classes} one-hot entries of y"
            raise ValueError(
                f"ResidualCritic expects images of shape {self.image_shape}"
                f"{beside if self.num_classes else ''}, got an array of shape {tuple(x.shape)}."
            )
        if x.ndim == 4 and tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(
                f"ResidualCritic expects images of shape {self.image_shape}, channels first, got "
                f"{tuple(x.shape)}."
            )
        x = x.reshape(len(x), -1)
        h = x[:, :entries].reshape(len(x), *self.image_shape)
        for index, block in enumerate(self.blocks):
            h = block(h)
            h = self.attention(h) if index == 0 and self.attention is not None else h
        h = h if self.deviation is None else self.deviation(h)
        h = jax.nn.relu(h)
        h = h.sum((2, 3)) if self.pooling == "sum" else h.reshape(len(h), -1)
        out = self.output(h).squeeze(-1)
        return out if self.classes is None else out + (x[:, entries:] * self.classes(h)).sum(-1)

    def __repr__(self) -> str:
        return written(
            self,
            repr(self.image_shape),
            *([f"num_classes={self.num_classes}"] if self.num_classes else []),
            f"hidden_channels={self.hidden_channels}",
            num_flat=0,
            pooling="sum",
            spectral_norm="matrix",
        )
