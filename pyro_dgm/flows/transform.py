"""Transforms: learned bijections x = f(u; c), both directions with their log-determinants, that
flows are stacks of.

u is the side of the noise, x the side of the data: `forward` draws, `inverse` scores.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from dgm_core.arguments import check_instance
from dgm_core.contexts import TakesContext

__all__ = ["Inverse", "Transform"]


class Transform(TakesContext, nn.Module, ABC):
    """A differentiable bijection x = f(u; c) of vectors (or arrays), with parameters that may
    depend on a context c.

    Attributes:
        context_shape: (tuple), of a transform that takes a context.
        forward_cost: and inverse_cost, what each direction costs, in words: "one pass", "one pass
            in 64 steps", "root search".

    Shapes:
        u and x (*batch, *event); context (*batch, *context_shape), labels one-hot, several a tuple
        of arrays, or None, broadcast against the batch; log-determinants (*batch,). A subclass
        defines `forward_and_log_det` and `inverse_and_log_det`; both are differentiable in value,
        context and parameters.
    """

    def __init__(self) -> None:
        super().__init__()

    @property
    def forward_cost(self) -> str:
        """What `forward_and_log_det` costs."""
        return "one pass"

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return "one pass"

    @abstractmethod
    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""

    @abstractmethod
    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""


class Wrapped(Transform):
    """What is made of another transform, whose context it takes."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = check_instance(
            "transform", transform, Transform, "a transform such as LU(dim)"
        )

    @property
    def context_shape(self) -> tuple[Any, ...]:
        """The shape of its context."""
        return getattr(self.transform, "context_shape", ())


class Inverse(Wrapped):
    """The same bijection with its directions exchanged; it shares the parameters.

    Args:
        transform: .
    """

    @property
    def forward_cost(self) -> str:
        """What `forward_and_log_det` costs."""
        return self.transform.inverse_cost

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return self.transform.forward_cost

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The inverse of the transform."""
        return self.transform.inverse_and_log_det(u, context)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The transform itself."""
        return self.transform.forward_and_log_det(x, context)

    def __repr__(self) -> str:
        return f"Inverse({self.transform!r})"
