"""Causal convolutions over time: stacks of gated layers whose output at a step depends on the
inputs before it only. This is the pass over all steps; `causal_steps` has the form step by step.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import prod, sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_counts, check_flag, check_sizes
from dgm_core.causal import Ring, receptive_field
from dgm_core.contexts import ContextShape, check_context_shape, context_size, frames_of, parts_of
from numpyro_dgm.nn.convolution import uniform_weights
from numpyro_dgm.nn.initial import placed, uniform_draws
from numpyro_dgm.nn.layers import Linear, activate, check_activation, times

__all__ = ["CausalConv", "CausalStack", "GatedBlock"]


class CausalConv(eqx.Module):
    """A causal dilated convolution over time:  y_t = b + sum_j W_j x_{t - j dilation},  j = 0, ...,
    kernel_size - 1, with zeros before the first step.

    Args:
        in_dim: the channels of what comes in.
        out_dim: .  Attributes: weight (out_dim, in_dim, kernel_size), the current tap last, and
            bias (out_dim,).
        kernel_size: taps.
        dilation: steps between two taps.

    Shapes:
        x (*batch, steps, in_dim) -> (*batch, steps, out_dim).

    Cost:
        one product of matrices.

    Raises:
        ValueError: for sizes below 1, and an x of another size.

    Example:
        >>> CausalConv(2, 3, dilation=4, key=jax.random.key(0))(jnp.zeros((7, 16, 2))).shape
        (7, 16, 3)
    """

    weight: Array
    bias: Array
    dilation: int = eqx.field(static=True)

    def __init__(
        self, in_dim: int, out_dim: int, *, kernel_size: int = 2, dilation: int = 1, key: Array
    ) -> None:
        in_dim, out_dim, kernel_size, self.dilation = check_counts(
            in_dim=in_dim, out_dim=out_dim, kernel_size=kernel_size, dilation=dilation
        )
        self.weight, self.bias = uniform_weights(key, (out_dim, in_dim, kernel_size), out_dim)

    def __call__(self, x: Array) -> Array:
        """All steps of x (*batch, steps, in_dim)."""
        if x.ndim < 2 or x.shape[-1] != self.weight.shape[1]:
            raise ValueError(
                f"CausalConv expects (*batch, steps, {self.weight.shape[1]}), got shape {x.shape}."
            )
        past = [later(x, j * self.dilation) for j in range(self.weight.shape[2] - 1, 0, -1)]
        return times(jnp.concatenate([*past, x], -1), self._taps) + self.bias

    def step(self, x: Array, past: Array) -> Array:
        """One step, of the current x (*batch, in_dim) and the past taps (*batch, kernel_size - 1,
        in_dim), the oldest first.
        """
        taps = jnp.concatenate([past.reshape(*past.shape[:-2], -1), x], -1)
        return times(taps, self._taps) + self.bias

    @property
    def _taps(self) -> Array:
        """The weights of all taps side by side, (out_dim, kernel_size in_dim)."""
        return self.weight.mT.reshape(self.weight.shape[0], -1)


def later(x: Array, steps: int) -> Array:
    """x (*batch, steps, channels), moved to later steps, zeros before.

    Example:
        >>> later(jnp.array([[1.0], [2.0], [3.0]]), 2).ravel()
        Array([0., 0., 1.], dtype=float32)
    """
    steps = min(steps, x.shape[-2])
    padding = [(0, 0)] * (x.ndim - 2) + [(steps, 0), (0, 0)]
    return jnp.pad(x[..., : x.shape[-2] - steps, :], padding)


def gated(x: Array) -> Array:
    """tanh(a) sigmoid(b) of x = (a, b), side by side."""
    a, b = jnp.split(x, 2, -1)
    return jnp.tanh(a) * jax.nn.sigmoid(b)


class GatedBlock(eqx.Module):
    """A gated residual layer over time:  g = tanh(a) sigmoid(b),  (a, b) = conv(h) + what a context
    adds;  h' = h + R g + r.

    Args:
        channels: of h and of g.
        kernel_size, dilation: as in `CausalConv`.
        last: whether nothing follows, so that there is no h'.

    Shapes:
        h (*batch, steps, channels) and what is added (*batch, steps or 1, 2 channels) -> h' (None
        of the last) and g, both as h.

    References:
        van den Oord et al. (2016), arXiv:1609.03499, section 2.3.

    Example:
        >>> h, g = GatedBlock(3, dilation=2, key=jax.random.key(0))(jnp.zeros((7, 16, 3)))
        >>> h.shape, g.shape
        ((7, 16, 3), (7, 16, 3))
    """

    conv: CausalConv
    residual: Any  # a Linear; None of the last

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 2,
        dilation: int = 1,
        last: bool = False,
        key: Array,
    ) -> None:
        key_conv, key_residual = jax.random.split(key)
        self.conv = CausalConv(
            channels, 2 * channels, kernel_size=kernel_size, dilation=dilation, key=key_conv
        )
        self.residual = (
            None if check_flag("last", last) else Linear(channels, channels, key=key_residual)
        )

    def __call__(self, h: Array, added: Array | None = None) -> tuple[Any, Array]:
        """h' and g."""
        x = self.conv(h)
        g = gated(x if added is None else x + added)
        return None if self.residual is None else h + self.residual(g), g


class CausalStack(eqx.Module):
    """A network over time whose row t depends on the context and on the inputs before t only:

    h^1 = A u_{t-1} + a;  g^l = tanh(..) sigmoid(..) of a causal convolution of h^l and V^l c_t;
    h^{l+1} = h^l + R^l g^l + r^l;  out_t = f(P f(S (g^1, ..., g^L) + s) + p),  f the activation.

    Args:
        in_dim: entries of one step u_t.
        out_dim: features of a step.
        num_steps: T.
        channels: of every layer.
        dilations: of each layer; (1, 2, 4, ..., 512) is a stack of ten.
        kernel_size: taps of each layer.
        context_shape: a sequence (frames, channels) holds frame by frame, for T / frames steps
            each; anything else is the same at all steps.
        activation: f, as in `MLP`.

    Attributes:
        receptive_field: R = 1 + sum_l (kernel_size - 1) dilation_l, the number of inputs u_{t-1},
            ..., u_{t-R} that row t depends on.

    Shapes:
        u (*batch, T, in_dim), context (*batch, *context_shape), labels one-hot -> (*batch, T,
        out_dim).

    Cost:
        one pass.

    Raises:
        ValueError: for sizes below 1, frames that do not divide T, and inputs of another shape.

    References:
        van den Oord et al. (2016), arXiv:1609.03499; Le Paine et al. (2016), arXiv:1611.09482.

    Example:
        >>> stack = CausalStack(1, 8, 16, dilations=(1, 2, 4), key=jax.random.key(0))
        >>> stack(jnp.zeros((7, 16, 1))).shape, stack.receptive_field
        ((7, 16, 8), 8)
    """

    num_steps: int = eqx.field(static=True)
    ring: Ring = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    frames: tuple[int, ...] = eqx.field(static=True)
    out_dim: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    input: Linear
    blocks: list[GatedBlock]
    skip: Linear
    output: Linear
    context_weight: Any  # an array (layers 2 channels, entries); None without a context

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_steps: int,
        *,
        channels: int = 32,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        kernel_size: int = 2,
        context_shape: ContextShape = 0,
        activation: str = "relu",
        key: Array,
    ) -> None:
        self.num_steps, channels = check_counts(num_steps=num_steps, channels=channels)
        dilations = check_sizes("dilations", dilations, least=1)
        self.ring = Ring(check_count("kernel_size", kernel_size), dilations)
        self.context_shape = check_context_shape("context_shape", context_shape)
        parts = parts_of(self.context_shape)
        self.frames = tuple(frames_of(part, num_steps) for part in parts)
        self.out_dim, self.activation = out_dim, check_activation(activation)
        *keys, key_context, key_input, key_skip, key_output = jax.random.split(
            key, len(dilations) + 4
        )
        self.input = Linear(in_dim, channels, key=key_input)
        self.blocks = [
            GatedBlock(
                channels, kernel_size=kernel_size, dilation=d, last=l + 1 == len(dilations), key=k
            )
            for l, (d, k) in enumerate(zip(dilations, keys))
        ]
        self.skip = Linear(len(dilations) * channels, out_dim, key=key_skip)
        self.output = Linear(out_dim, out_dim, key=key_output)
        sizes = self._entries
        limit = 1.0 / sqrt(max(sum(sizes), 1))
        shape = 2 * len(dilations) * channels, sum(sizes)
        self.context_weight = placed(uniform_draws(key_context, shape, limit)) if sizes else None

    @property
    def receptive_field(self) -> int:
        """The number of past inputs that a step depends on."""
        return receptive_field(self.ring.kernel_size, self.ring.dilations)

    def __call__(self, u: Array, context: Any = None) -> Array:
        """The features of all steps of u (*batch, T, in_dim)."""
        if u.shape[-2:-1] != (self.num_steps,):
            raise ValueError(
                f"CausalStack expects (*batch, {self.num_steps}, {self.input.weight.shape[1]}), "
                f"got shape {u.shape}."
            )
        h, added = self.input(later(u, 1)), self.added(context)
        weights = self.skip.weight.reshape(self.out_dim, len(self.blocks), -1)
        skipped = self.skip.bias
        for l, block in enumerate(self.blocks):
            h, g = block(h, None if added is None else added[..., l, :])
            skipped = skipped + times(g, weights[:, l])
        return self.out(skipped)

    def out(self, skipped: Array) -> Array:
        """The features of steps from the sum over their layers (*batch, out_dim)."""
        return activate(self.activation, self.output(activate(self.activation, skipped)))

    @property
    def _entries(self) -> list[int]:
        """The entries of each context that a step sees."""
        parts = zip(parts_of(self.context_shape), self.frames)
        return [part[1] if frames else context_size(part) for part, frames in parts]

    def added(self, context: Any) -> Any:
        """What a context adds (*batch, steps or 1, layers, 2 channels)."""
        if context is None:
            return None
        total: Any = 0.0
        shapes = parts_of(self.context_shape)
        parts = context if isinstance(context, (list, tuple)) else (context,)
        ends = list(accumulate(self._entries))[:-1]
        weights = jnp.split(self.context_weight, ends, -1)
        for part, shape, frames, weight in zip(parts, shapes, self.frames, weights):
            batch = part.shape[: part.ndim - len(shape)]
            added = times(part if frames else part.reshape(*batch, 1, prod(shape)), weight)
            if frames not in (0, self.num_steps):
                added = jnp.repeat(added, self.num_steps // frames, -2)
            total = total + added
        return total.reshape(*total.shape[:-1], len(self.blocks), -1)

    def __repr__(self) -> str:
        return (
            f"CausalStack({self.input.weight.shape[1]}, {self.out_dim}, {self.num_steps}, channels="
            f"{self.input.weight.shape[0]}, dilations={self.ring.dilations}, kernel_size="
            f"{self.ring.kernel_size})"
        )
