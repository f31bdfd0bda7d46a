"""Causal convolutions over time: stacks of gated layers whose output at a step depends on the
inputs before it only. This is the pass over all steps; `causal_steps` has the form step by step.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_count, check_counts, check_flag, check_sizes
from dgm_core.causal import Ring, receptive_field
from dgm_core.contexts import ContextShape, check_context_shape, context_size, frames_of, parts_of
from pyro_dgm.nn.initial import uniform_draws
from pyro_dgm.nn.layers import Linear, activate, check_activation

__all__ = ["CausalConv", "CausalStack", "GatedBlock"]


class CausalConv(nn.Conv1d):
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
        >>> CausalConv(2, 3, dilation=4)(torch.zeros(7, 16, 2)).shape
        torch.Size([7, 16, 3])
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, kernel_size: int = 2, dilation: int = 1
    ) -> None:
        in_dim, out_dim, kernel_size, dilation = check_counts(
            in_dim=in_dim, out_dim=out_dim, kernel_size=kernel_size, dilation=dilation
        )
        super().__init__(in_dim, out_dim, kernel_size, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """All steps of x (*batch, steps, in_dim)."""
        if x.ndim < 2 or x.shape[-1] != self.in_channels:
            raise ValueError(
                f"CausalConv expects (*batch, steps, {self.in_channels}), got shape "
                f"{tuple(x.shape)}."
            )
        x = x.to(self.weight.dtype)
        past = [later(x, j * self.dilation[0]) for j in range(self.kernel_size[0] - 1, 0, -1)]
        taps = torch.cat([*past, x], -1) if past else x
        return F.linear(taps, self.weight.mT.flatten(1), self.bias)

    def step(self, x: Tensor, past: Tensor) -> Tensor:
        """One step, of the current x (*batch, in_dim) and the past taps (*batch, kernel_size - 1,
        in_dim), the oldest first.
        """
        taps = torch.cat([past.flatten(-2), x], -1)
        return F.linear(taps, self.weight.mT.flatten(1), self.bias)


def later(x: Tensor, steps: int) -> Tensor:
    """x (*batch, steps, channels), moved to later steps, zeros before.

    Example:
        >>> later(torch.tensor([[1.0], [2.0], [3.0]]), 2).ravel()
        tensor([0., 0., 1.])
    """
    steps = min(steps, x.shape[-2])
    return F.pad(x[..., : x.shape[-2] - steps, :], (0, 0, steps, 0))


def gated(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b) of x = (a, b), side by side."""
    a, b = x.chunk(2, -1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedBlock(nn.Module):
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
        >>> h, g = GatedBlock(3, dilation=2)(torch.zeros(7, 16, 3))
        >>> h.shape, g.shape
        (torch.Size([7, 16, 3]), torch.Size([7, 16, 3]))
    """

    def __init__(
        self, channels: int, *, kernel_size: int = 2, dilation: int = 1, last: bool = False
    ) -> None:
        super().__init__()
        self.conv = CausalConv(channels, 2 * channels, kernel_size=kernel_size, dilation=dilation)
        self.residual = None if check_flag("last", last) else Linear(channels, channels)

    def forward(self, h: Tensor, added: Tensor | None = None) -> tuple[Any, Tensor]:
        """h' and g."""
        x = self.conv(h)
        g = gated(x if added is None else x + added)
        return None if self.residual is None else h + self.residual(g), g


class CausalStack(nn.Module):
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
        >>> stack = CausalStack(1, 8, 16, dilations=(1, 2, 4))
        >>> stack(torch.zeros(7, 16, 1)).shape, stack.receptive_field
        (torch.Size([7, 16, 8]), 8)
    """

    context_weight: Any  # a parameter (layers 2 channels, entries); None without a context

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
    ) -> None:
        super().__init__()
        self.num_steps, channels = check_counts(num_steps=num_steps, channels=channels)
        dilations = check_sizes("dilations", dilations, least=1)
        self.ring = Ring(check_count("kernel_size", kernel_size), dilations)
        self.context_shape = check_context_shape("context_shape", context_shape)
        self.frames = [frames_of(part, num_steps) for part in parts_of(self.context_shape)]
        self.out_dim, self.activation = out_dim, check_activation(activation)
        self.input = Linear(in_dim, channels)
        self.blocks = nn.ModuleList(
            GatedBlock(channels, kernel_size=kernel_size, dilation=d, last=l + 1 == len(dilations))
            for l, d in enumerate(dilations)
        )
        self.skip = Linear(len(dilations) * channels, out_dim)
        self.output = Linear(out_dim, out_dim)
        sizes = self._entries
        limit = 1.0 / sqrt(max(sum(sizes), 1))
        self.context_weight = (
            nn.Parameter(uniform_draws((2 * len(dilations) * channels, sum(sizes)), limit))
            if sizes
            else None
        )

    @property
    def receptive_field(self) -> int:
        """The number of past inputs that a step depends on."""
        return receptive_field(self.ring.kernel_size, self.ring.dilations)

    def forward(self, u: Tensor, context: Any = None) -> Tensor:
        """The features of all steps of u (*batch, T, in_dim)."""
        if u.shape[-2:-1] != (self.num_steps,):
            raise ValueError(
                f"CausalStack expects (*batch, {self.num_steps}, {self.input.in_features}), "
                f"got shape {tuple(u.shape)}."
            )
        h, added = self.input(later(u, 1)), self.added(context)
        weights = self.skip.weight.unflatten(-1, (len(self.blocks), -1))
        skipped: Tensor = self.skip.bias
        for l, block in enumerate(self.blocks):
            h, g = block(h, None if added is None else added[..., l, :])
            skipped = skipped + F.linear(g, weights[:, l])
        return self.out(skipped)

    def out(self, skipped: Tensor) -> Tensor:
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
        weights = self.context_weight.split(self._entries, -1)
        for part, shape, frames, weight in zip(parts, shapes, self.frames, weights):
            part = part if frames else part.flatten(-len(shape))[..., None, :]
            added = F.linear(part.to(weight.dtype), weight)
            if frames not in (0, self.num_steps):
                added = added.repeat_interleave(self.num_steps // frames, -2)
            total = total + added
        return total.unflatten(-1, (len(self.blocks), -1))

    def __repr__(self) -> str:
        return (
            f"CausalStack({self.input.in_features}, {self.out_dim}, {self.num_steps}, channels="
            f"{self.input.out_features}, dilations={self.ring.dilations}, kernel_size="
            f"{self.ring.kernel_size})"
        )
