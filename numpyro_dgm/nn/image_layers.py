"""Layers of networks between images, channels first: convolutions that keep the size, changes of
the size, normalizations.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_flag
from dgm_core.contexts import ContextShape, check_context, check_context_shape, context_size
from dgm_core.spectral import PADDINGS
from numpyro_dgm.nn.contexts import flat, visible
from numpyro_dgm.nn.convolution import uniform_weights
from numpyro_dgm.nn.layers import EVALUATION, Linear
from numpyro_dgm.nn.states import Stateful

__all__ = ["ConditionalBatchNorm", "Conv2d", "MinibatchStdDev", "PixelNorm", "halved", "resized"]


class Conv2d(eqx.Module):
    """A convolution (cross-correlation) of stride one whose result has the size of the image, with
    weight and bias drawn from U(-1/sqrt(n), 1/sqrt(n)), n = in_channels * kernel_size^2.

    Args:
        in_channels: of the image.
        out_channels: of the result.
        kernel_size: odd.
        padding: what is around the image, "zeros" or "circular" (the opposite edge).
        bias: whether there is one.

    Attributes:
        weight (out_channels, in_channels, kernel_size, kernel_size), bias (out_channels,) or None.

    Shapes:
        x (*batch, in_channels, height, width) -> (*batch, out_channels, height, width).

    Raises:
        ValueError: for an even kernel, another padding, and an x with other channels.

    Example:
        >>> Conv2d(2, 3, key=jax.random.key(0))(jnp.zeros((7, 2, 9, 8))).shape
        (7, 3, 9, 8)
    """

    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    padding: str = eqx.field(static=True)
    weight: Array
    bias: Array | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        padding: str = "zeros",
        bias: bool = True,
        key: Array,
    ) -> None:
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.kernel_size = check_odd("kernel_size", kernel_size)
        self.padding = check_choice("padding", padding, PADDINGS)
        shape = out_channels, in_channels, kernel_size, kernel_size
        self.weight, own = uniform_weights(key, shape, out_channels)
        self.bias = own if check_flag("bias", bias) else None

    def __call__(self, x: Array) -> Array:
        """Convolve x (*batch, in_channels, height, width)."""
        return self.convolved(x, self.weight, self.bias)

    def convolved(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """The same with another weight and bias."""
        check_channels(self, x, self.in_channels)
        images, around = x.reshape(-1, *x.shape[-3:]), self.kernel_size // 2
        if around:
            mode = "constant" if self.padding == "zeros" else "wrap"
            images = jnp.pad(images, ((0, 0), (0, 0), (around, around), (around, around)), mode)
        out = _correlated(images, weight)
        out = out if bias is None else out + bias[:, None, None]
        return out.reshape(*x.shape[:-3], *out.shape[1:])

    def __repr__(self) -> str:
        others = "" if self.padding == "zeros" else f", padding={self.padding!r}"
        return f"Conv2d({self.in_channels}, {self.out_channels}, {self.kernel_size}{others})"


def _correlated(x: Array, weight: Array) -> Array:
    """On a CPU one product of matrices: inside a loop, XLA's convolutions and their derivatives are
    several times slower there.
    """
    size = weight.shape[-1]
    if size == 1:
        return jnp.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0])
    if jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID")
    height, width = (length - size + 1 for length in x.shape[2:])
    x = jnp.moveaxis(x, 1, -1)
    x = jnp.concatenate([x[:, i : i + height] for i in range(size)], -1)
    x = jnp.concatenate([x[:, :, i : i + width] for i in range(size)], -1)
    return jnp.moveaxis(x @ weight.T.reshape(-1, len(weight)), -1, 1)


class ConditionalBatchNorm(Stateful):
    """Batch normalization of maps, with gain and shift from a context:  y = (1 + G c) u + B c,
    u = weight (x - mean) / sqrt(variance + 1e-5) + bias, with statistics of each channel.

    Training uses the statistics of the batch and moves the running ones towards them (momentum 0.1,
    unbiased variance); inside `evaluation_mode` the running statistics are used and left alone.
    G and B start at zero, so that at first the context changes nothing.

    Args:
        channels: of the maps.
        context_shape: of c: a size, a shape, labels, several of these; 0 for none.

    Attributes:
        weight, bias: (channels,);  given: from the context to gain and shift, None without one.

    Shapes:
        x (*batch, channels, height, width), context (*batch, *context_shape) -> as x.

    Raises:
        ValueError: for an x with other channels, a context that does not fit, and one value of a
            channel alone in training.

    References:
        de Vries et al. (2017), arXiv:1707.00683; Brock, Donahue and Simonyan (2019),
        arXiv:1809.11096, figure 15.

    Example:
        >>> from dgm_core.contexts import Labels
        >>> norm = ConditionalBatchNorm(3, context_shape=Labels(10), key=jax.random.key(0))
        >>> norm(jnp.zeros((7, 3, 4, 4)), jnp.arange(7)).shape
        (7, 3, 4, 4)
    """

    weight: Array
    bias: Array
    channels: int = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    given: Linear | None

    def __init__(self, channels: int, *, context_shape: ContextShape = 0, key: Array) -> None:
        self.channels, self.running = check_count("channels", channels), None
        self.weight, self.bias = jnp.ones(channels), jnp.zeros(channels)
        self.context_shape = check_context_shape("context_shape", context_shape)
        size = context_size(self.context_shape)
        self.given = None
        if size:
            self.given = jax.tree.map(jnp.zeros_like, Linear(size, 2 * channels, key=key))

    def __call__(self, x: Array, context: Any = None) -> Array:
        """Normalize x (*batch, channels, height, width)."""
        check_channels(self, x, self.channels)
        check_context(self, context, self.context_shape)
        stored, count = self.state, x.size // self.channels
        if EVALUATION.get():
            mean, variance = stored["running_mean"], stored["running_var"]
        else:
            if count < 2:
                raise ValueError(
                    f"{self} needs at least two values of a channel in training, got shape "
                    f"{tuple(x.shape)}."
                )
            axes = tuple(axis for axis in range(x.ndim) if axis != x.ndim - 3)
            mean, variance = x.mean(axes), x.var(axes)
            new = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
            self.keep({name: 0.9 * stored[name] + 0.1 * value for name, value in new.items()})
        slope = jax.lax.rsqrt(variance + 1e-5) * self.weight
        y = x * slope[:, None, None] + (self.bias - mean * slope)[:, None, None]
        if self.given is None:
            return y
        c = flat(visible(context, self.context_shape), self.context_shape)
        gain, shift = jnp.split(self.given(c)[..., None, None], 2, -3)
        return shift + y + gain * y

    def initial_state(self) -> dict[str, Array]:
        """The running statistics before the first step."""
        return {"running_mean": jnp.zeros(self.channels), "running_var": jnp.ones(self.channels)}

    def __repr__(self) -> str:
        return f"ConditionalBatchNorm({self.channels})"


class PixelNorm(eqx.Module):
    """Each pixel divided by the root mean square of its channels:  y = x / sqrt(mean_c x_c^2 +
    1e-8).

    Shapes:
        x (*batch, channels, height, width) -> the same.

    Raises:
        ValueError: for an x that is no map.

    References:
        Karras et al. (2018), arXiv:1710.10196, section 4.2.

    Example:
        >>> PixelNorm()(jnp.array([3.0, 4.0]).reshape(2, 1, 1)).ravel()
        Array([0.84852815, 1.1313709 ], dtype=float32)
    """

    def __call__(self, x: Array) -> Array:
        """Normalize x (*batch, channels, height, width)."""
        check_channels(self, x)
        return x * jax.lax.rsqrt((x**2).mean(-3, keepdims=True) + 1e-8)


class MinibatchStdDev(eqx.Module):
    """How much a batch varies as one more channel of a critic:  the standard deviation of each
    feature over the batch, sqrt(variance + 1e-8), averaged over all features.

    Shapes:
        x (batch, channels, height, width) -> (batch, channels + 1, height, width).

    Raises:
        ValueError: for an x that is no batch of maps.

    References:
        Karras et al. (2018), arXiv:1710.10196, section 3.

    Example:
        >>> x = jnp.array([[1.0, 2.0], [3.0, 6.0], [-1.0, 0.0], [1.0, 4.0]])
        >>> MinibatchStdDev()(x[:, :, None, None])[0].ravel()
        Array([1.       , 2.       , 1.8251407], dtype=float32)
    """

    def __call__(self, x: Array) -> Array:
        """Append the channel to x (batch, channels, height, width)."""
        if x.ndim != 4:
            raise ValueError(f"{self} expects (batch, channels, height, width), got {(*x.shape,)}.")
        deviation = jnp.sqrt(x.var(0) + 1e-8).mean()
        return jnp.concatenate([x, jnp.broadcast_to(deviation, (len(x), 1, *x.shape[2:]))], 1)


def resized(x: Array) -> Array:
    """Maps of twice the height and width, each pixel four times.

    Example:
        >>> resized(jnp.zeros((7, 3, 4, 4))).shape
        (7, 3, 8, 8)
    """
    *batch, height, width = x.shape
    wide = jnp.broadcast_to(x[..., :, None, :, None], (*batch, height, 2, width, 2))
    return wide.reshape(*batch, 2 * height, 2 * width)


def halved(x: Array) -> Array:
    """Maps of half the height and width, the means of four pixels; ValueError for an odd size.

    Example:
        >>> halved(jnp.zeros((7, 3, 8, 8))).shape
        (7, 3, 4, 4)
    """
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ValueError(f"Maps to be halved need even sizes, got shape {tuple(x.shape)}.")
    *batch, height, width = x.shape
    return x.reshape(*batch, height // 2, 2, width // 2, 2).mean((-3, -1))


def check_odd(name: str, value: Any) -> int:
    """An odd count."""
    if check_count(name, value) % 2 == 0:
        raise ValueError(f"{name} must be odd, so that a kernel has a middle, got {value}.")
    return value


def check_channels(layer: Any, x: Array, channels: int | None = None) -> None:
    """Raises ValueError unless x holds maps (*batch, channels, height, width)."""
    if x.ndim < 3 or channels not in (None, x.shape[-3]):
        wanted = f"(*batch, {channels or 'channels'}, height, width)"
        raise ValueError(
            f"{layer} expects maps of shape {wanted}, channels first, got {tuple(x.shape)}."
        )
