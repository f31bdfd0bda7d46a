"""The critic of progressive growing, which grows with its generator."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import equinox as eqx
import jax
from jax import Array
from jax.nn import leaky_relu

from dgm_core.arguments import check_sizes, check_weight
from dgm_core.image_blocks import check_resolutions
from dgm_core.terms import written
from numpyro_dgm.losses.base import Weight
from numpyro_dgm.nn import EqualizedRate, Linear, MinibatchStdDev
from numpyro_dgm.nn.image_layers import halved
from numpyro_dgm.nn.progressive import Growth, scaled

__all__ = ["ProgressiveCritic"]


class ProgressiveCritic(eqx.Module):
    """A critic of images that grows: a map of pixels takes images in at every size, and each stage,
    two convolutions and the mean of four pixels, leads to the size below:  h_{k-1} = (1 - a)
    in(x_{k-1}) + a stage_k(h_k),  a = level - (k - 1) between 0 and 1. At the smallest size it sees
    how much its batch varies, and ends with a convolution and two maps.

    All layers have equalized rates and leaky rectifiers with slope 0.2.

    Args:
        image_shape: channels, height and width, divisible by 2 for each stage after the first.
        growth: the level as a function of the step, the schedule of the model.
        hidden_channels: after each stage but the first.

    Shapes:
        x (batch, *image_shape) -> (batch,).

    Cost:
        of all stages, whatever the level.

    Raises:
        ValueError: for sizes that cannot be halved that often, a negative level, and an x of
            another shape.

    References:
        Karras et al. (2018), arXiv:1710.10196, figure 2 and table 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from dgm_core.schedules import growing
        >>> settings = {"hidden_channels": (4, 6), "key": jax.random.key(0)}
        >>> critic = ProgressiveCritic((1, 8, 8), growing(2, 100, 100), **settings)
        >>> critic(jnp.zeros((5, 1, 8, 8))).shape
        (5,)
    """

    image_shape: tuple[int, int, int] = eqx.field(static=True)
    hidden_channels: tuple[int, ...] = eqx.field(static=True)
    growth: Growth
    entries: list[EqualizedRate]
    stages: list[list[EqualizedRate]]
    deviation: MinibatchStdDev
    last: EqualizedRate
    hidden: EqualizedRate
    output: EqualizedRate

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        growth: Weight,
        *,
        hidden_channels: Sequence[int] = (32, 64),
        key: Array,
    ) -> None:
        self.hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.image_shape, sizes = check_resolutions(image_shape, len(self.hidden_channels))
        self.growth = Growth(check_weight("growth", growth, least=0))
        channels = (self.hidden_channels[0], *self.hidden_channels)
        last, keys = channels[-1], list(jax.random.split(key, 3 * len(channels) + 3))
        self.entries = [scaled(self.image_shape[0], n, 1, key=keys.pop()) for n in channels]
        self.stages = [
            [scaled(a, a, key=keys.pop()), scaled(a, b, key=keys.pop())]
            for a, b in pairwise(channels)
        ]
        self.deviation = MinibatchStdDev()
        self.last = scaled(last + 1, last, key=keys.pop())
        linear = Linear(last * prod(sizes[0]), last, key=keys[0])
        self.hidden = EqualizedRate(linear, key=keys[0])
        self.output = EqualizedRate(Linear(last, 1, key=keys[1]), gain=1.0, key=keys[1])

    def __call__(self, x: Array) -> Array:
        """One number for each of x."""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(
                f"ProgressiveCritic expects images of shape {self.image_shape}, channels first, "
                f"got {tuple(x.shape)}."
            )
        level = self.growth()
        h = leaky_relu(self.entries[0](x), 0.2)
        for index, (stage, entry) in enumerate(zip(self.stages, self.entries[1:])):
            for layer in stage:
                h = leaky_relu(layer(h), 0.2)
            x, share = halved(x), (level - (len(self.stages) - 1 - index)).clip(0.0, 1.0)
            h = (1.0 - share) * leaky_relu(entry(x), 0.2) + share * halved(h)
        h = leaky_relu(self.last(self.deviation(h)), 0.2)
        h = leaky_relu(self.hidden(h.reshape(len(h), -1)), 0.2)
        return self.output(h).squeeze(-1)

    def __repr__(self) -> str:
        hidden = f"hidden_channels={self.hidden_channels}"
        return written(self, repr(self.image_shape), repr(self.growth.schedule), hidden)
