"""Values of a conditional in another shape."""

from typing import Any

import torch
from pyro import distributions as dist
from torch.distributions.transforms import ReshapeTransform

from dgm_core.arguments import check_instance, refuse
from pyro_dgm.conditionals.base import Conditional, size_of


class Reshaped(Conditional):
    """A conditional whose values have another shape, entry by entry in the same order:  x =
    reshape(y),  y ~ conditional(c).

    A flow over a whole sequence, `Reshaped(IAF(14), (7, 2))`, in the place of any path: entries of
    a step see those of all steps before it.

    Args:
        conditional: of y.
        dim: the shape of x, with as many entries.

    Shapes:
        context as of the conditional -> batch_shape (*batch,), event_shape dim.

    Cost:
        that of the conditional.

    Raises:
        ValueError: if the conditional is none, or has another number of entries.

    Example:
        >>> from pyro_dgm.conditionals import FullRankNormal
        >>> Reshaped(FullRankNormal(14), (7, 2))().rsample((5,)).shape
        torch.Size([5, 7, 2])
    """

    def __init__(self, conditional: Conditional, dim: int | tuple[int, ...]) -> None:
        what = "a conditional such as Normal(6)"
        check_instance("conditional", conditional, Conditional, what)
        super().__init__(dim, context_shape=conditional.context_shape)
        if size_of(self.event_shape) != size_of(conditional.event_shape):
            refuse("dim", f"a shape with {size_of(conditional.event_shape)} entries", dim)
        self.conditional = conditional

    def condition(self, context: Any) -> dist.TorchDistribution:
        """The distribution given a checked context."""
        own, shape = torch.Size(self.conditional.event_shape), torch.Size(self.event_shape)
        transform = ReshapeTransform(own, shape, cache_size=1)  # so that a draw is known
        return dist.TransformedDistribution(self.conditional.condition(context), [transform])

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.conditional),)
