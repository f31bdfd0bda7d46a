"""Networks that grow while they are trained: stages of images, each of twice the size of the one
before, that fade in one after the other.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import leaky_relu, sigmoid

from dgm_core.arguments import check_count, check_sizes, check_weight
from dgm_core.image_blocks import check_resolutions
from dgm_core.schedules import weight_of
from numpyro_dgm.nn.image_layers import Conv2d, PixelNorm, halved, resized
from numpyro_dgm.nn.layers import EVALUATION, Linear
from numpyro_dgm.nn.states import Stateful, is_repeated
from numpyro_dgm.nn.weights import EqualizedRate

__all__ = ["Growth", "ProgressiveGenerator", "at_level", "grown"]


class Growth(Stateful):
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
        >>> float(Growth(growing(2, 1, 2))())
        0.0
    """

    schedule: Any = eqx.field(static=True)

    def __init__(self, schedule: float | Callable[[Any], Any]) -> None:
        self.schedule, self.running = check_weight("schedule", schedule, least=0), None

    def initial_state(self) -> dict[str, Array]:
        """Nothing counted."""
        return {"count": jnp.zeros((), jnp.int32)}

    @property
    def count(self) -> Array:
        """What has been counted."""
        return self.state["count"]

    def __call__(self) -> Array:
        """The level, a number."""
        level = jnp.asarray(weight_of(self.schedule, self.count), float)
        if not EVALUATION.get() and not is_repeated():
            self.follow(self.count + 1)
        return level

    def follow(self, step: int | Array) -> None:
        """Sets the count."""
        self.keep({"count": jnp.asarray(step, jnp.int32)})

    def __repr__(self) -> str:
        return f"Growth({self.schedule!r})"


class ProgressiveGenerator(eqx.Module):
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
        >>> settings = {"hidden_channels": (6, 4), "key": jax.random.key(0)}
        >>> generator = ProgressiveGenerator(2, (1, 8, 8), **settings)
        >>> generator(jnp.ones((7, 2)), jnp.array(0.5)).shape
        (7, 1, 8, 8)
    """

    in_dim: int = eqx.field(static=True)
    hidden_channels: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, int, int] = eqx.field(static=True)
    start: tuple[int, ...] = eqx.field(static=True)
    input: EqualizedRate
    stages: list[list[EqualizedRate]]
    images: list[EqualizedRate]
    norm: PixelNorm

    def __init__(
        self,
        in_dim: int,
        image_shape: tuple[int, int, int],
        *,
        hidden_channels: Sequence[int] = (64, 32),
        key: Array,
    ) -> None:
        self.in_dim = check_count("in_dim", in_dim)
        self.hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.out_shape, sizes = check_resolutions(image_shape, len(self.hidden_channels))
        channels = (*self.hidden_channels, self.hidden_channels[-1])
        self.start = (channels[0], *sizes[0])
        entries = channels[0] * sizes[0][0] * sizes[0][1]
        first, *keys = jax.random.split(key, 1 + 3 * len(channels))
        linear = Linear(in_dim, entries, key=first)
        self.input = EqualizedRate(linear, gain=sqrt(2.0) / 4, key=first)
        pairs = zip((channels[0], *channels), channels)
        self.stages = [
            [scaled(*sizes, key=keys.pop()) for sizes in ([(a, b), (b, b)] if index else [(a, b)])]
            for index, (a, b) in enumerate(pairs)
        ]
        self.images = [
            scaled(size, self.out_shape[0], 1, gain=1.0, key=keys.pop()) for size in channels
        ]
        self.norm = PixelNorm()

    def __call__(self, h: Array, level: Array | None = None) -> Array:
        """Images from h (*batch, in_dim); the last stage alone where no level is given."""
        if h.shape[-1:] != (self.in_dim,):
            raise ValueError(
                f"{self} expects a last dimension of {self.in_dim}, got shape {tuple(h.shape)}."
            )
        h = self.input(self.norm(h[..., None, None])[..., 0, 0])
        x, images = self._active(h.reshape(*h.shape[:-1], *self.start)), []
        for index, (stage, image) in enumerate(zip(self.stages, self.images)):
            x = resized(x) if index else x
            for layer in stage:
                x = self._active(layer(x))
            if level is not None or image is self.images[-1]:
                images.append(sigmoid(image(x)))
        return images[-1] if level is None else grown(images, level)

    def _active(self, x: Array) -> Array:
        return self.norm(leaky_relu(x, 0.2))

    def __repr__(self) -> str:
        return (
            f"ProgressiveGenerator({self.in_dim}, {self.out_shape}, "
            f"hidden_channels={self.hidden_channels})"
        )


def follow(module: Any, step: int | Array) -> None:
    """Tells the parts of a critic that grow of the step."""
    for part in jax.tree.leaves(module, is_leaf=lambda part: isinstance(part, Growth)):
        if isinstance(part, Growth):
            part.follow(step)


def grown(stages: Sequence[Array], level: Array) -> Array:
    """What is seen of stages at a level:  x_0 the first,  x_k = (1 - a) up(x_{k-1}) + a stage_k,
    a = level - (k - 1) between 0 and 1.

    Args:
        stages: maps, each of twice the height and width of the one before.
        level: a number.

    Example:
        >>> low, high = jnp.zeros((1, 1, 1)), jnp.ones((1, 2, 2))
        >>> grown([low, high], jnp.array(0.25))[0, 0]
        Array([0.25, 0.25], dtype=float32)
    """
    x = stages[0]
    for index, stage in enumerate(stages[1:]):
        share = (level - index).clip(0.0, 1.0)
        x = (1.0 - share) * resized(x) + share * stage
    return x


def at_level(x: Array, level: Array, num_stages: int) -> Array:
    """Images as a network that grows sees them: `grown` from means of pixels.

    Args:
        x: (*batch, channels, height, width).
        level: a number.
        num_stages: how often they are halved.

    Example:
        >>> at_level(jnp.array([[[0.0, 1.0], [2.0, 5.0]]]), jnp.array(0.5), 1)
        Array([[[1. , 1.5],
                [2. , 3.5]]], dtype=float32)
    """
    stages = [x]
    for _ in range(num_stages):
        stages.append(halved(stages[-1]))
    return grown(stages[::-1], level)


def scaled(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    gain: float = sqrt(2.0),
    key: Array,
) -> EqualizedRate:
    """A convolution with an equalized rate."""
    layer = Conv2d(in_channels, out_channels, kernel_size, key=key)
    return EqualizedRate(layer, gain=gain, key=key)
