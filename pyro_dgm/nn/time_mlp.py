"""The multilayer perceptron of a value, a time and a context."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_instance, check_shape
from dgm_core.contexts import ContextShape, check_context, check_context_shape, context_size
from dgm_core.ode import check_moments
from pyro_dgm.nn.contexts import flat, visible
from pyro_dgm.nn.mlp import MLP
from pyro_dgm.nn.time_features import TimeFeatures

__all__ = ["TimeMLP"]


class TimeMLP(nn.Module):
    """From a value, a time and a context to an array of the shape of the value: an MLP of all
    three, side by side.

    Args:
        dim: the size or shape of a value.
        hidden: the sizes of the hidden layers.
        out_dim: the size or shape of what comes out (default dim).
        time: the features of the time (default TimeFeatures(32)).
        context_shape: the shape of c: a size, a shape, `Labels`, or a tuple of these.
        activation: as in `MLP`.

    Attributes:
        out_shape: (tuple).

    Shapes:
        x (*batch, *dim), t (*batch,) or (), context (*batch, *context_shape) -> (*batch, *out_dim).

    Raises:
        ValueError: for sizes below 1, and on calls for an x, a time or a context of another shape.

    Example:
        >>> TimeMLP(2, (16,))(torch.zeros(5, 2), torch.tensor(0.5)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        hidden: Sequence[int] = (128, 128),
        *,
        out_dim: int | tuple[int, ...] | None = None,
        time: TimeFeatures | None = None,
        context_shape: ContextShape = 0,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.in_shape = check_shape("dim", dim)
        self.out_shape = self.in_shape if out_dim is None else check_shape("out_dim", out_dim)
        self.context_shape = check_context_shape("context_shape", context_shape)
        self.time = TimeFeatures(32) if time is None else time
        check_instance("time", self.time, TimeFeatures, "the features of a time or None")
        size = prod(self.in_shape) + self.time.out_dim + context_size(context_shape)
        self.layers = MLP(size, hidden, prod(self.out_shape), activation=activation)

    def forward(self, x: Tensor, t: Any, context: Any = None) -> Tensor:
        """The outputs for x (*batch, *dim) at time t, given a context."""
        check_context(self, context, self.context_shape)
        if tuple(x.shape[max(0, x.ndim - len(self.in_shape)) :]) != self.in_shape:
            raise ValueError(
                f"{self} expects values of shape (*batch, "
                f"{', '.join(map(str, self.in_shape))}), got {tuple(x.shape)}."
            )
        x = x.flatten(-len(self.in_shape))
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        check_moments(self, tuple(t.shape), tuple(x.shape[:-1]))
        parts = [x, self.time(t)]
        if self.context_shape:
            parts.append(flat(visible(context, self.context_shape), self.context_shape))
        shapes = [part.shape[:-1] for part in parts]
        batch = max(shapes, key=len)
        if any(shape not in (batch, ()) for shape in shapes):  # broadcast_shapes takes its time
            batch = torch.broadcast_shapes(*shapes)
        parts = [
            (part if shape == batch else part.expand(*batch, -1)).to(x.dtype)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        inputs = torch.cat(parts, -1)
        return self.layers(inputs).reshape(*batch, *self.out_shape)

    def __repr__(self) -> str:
        dim = self.in_shape[0] if len(self.in_shape) == 1 else self.in_shape
        return f"TimeMLP({dim}, {self.layers.hidden})"
