"""The base of autoregressive conditionals:  p(x | c) = prod_i p(x_i | x_<i, c).

A network turns the entries before step i, and the context, into features of step i; a family, any
conditional of single entries, turns the features into the distribution of what step i draws.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_count, check_flag
from dgm_core.autoregressive import check_blocks
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.autoregressive.distribution import AutoregressiveDistribution
from pyro_dgm.conditionals.autoregressive.draws import family_of, inputs
from pyro_dgm.conditionals.base import Conditional, Parametric
from pyro_dgm.conditionals.discrete import Categorical
from pyro_dgm.nn.contexts import batch_shape_of

__all__ = ["Autoregressive"]


class Autoregressive(Conditional):
    """p(x | c) = prod_i family(x_i | h_i(x_<i, c)), step by step in a fixed order.

    A subclass writes the network h twice: `features`, all steps in one pass, and the incremental
    form `begin`, `enter`, `advance`, which keeps what later steps need; draws use the second, so
    they cost about one pass and not one pass per step.

    Args:
        dim: a size or a shape.
        family: of what is drawn at one step: `family(size, context_shape=features)` makes a
            conditional, such as Bernoulli or partial(Categorical, num_classes=256).
        features: h_i is a vector of this size.
        steps: how many there are.
        size: entries that are drawn at one step.
        block: steps between two calls of `enter`, such as a row of an image (default all).
        one_hot: whether the network sees classes one-hot; else they are numbers from -1 to 1, as
            are levels, and other values as they are.
        context_shape: 0 = unconditional.

    Attributes:
        num_steps, size, block: as above.
        in_features: what the network sees of one step.
        prefix_axis: the axis of the event along which a prefix ends; 0, time.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Cost:
        log_prob one pass; a draw `num_steps` increments, about one pass in arithmetic.

    Raises:
        ValueError: if the family is no conditional of `size` entries that can be drawn from given
            uniforms, or one_hot is asked of values that are no classes.
    """

    prefix_axis = 0

    def __init__(
        self,
        dim: int | tuple[int, ...],
        family: Callable[..., Parametric],
        *,
        features: int,
        steps: int,
        size: int = 1,
        block: int | None = None,
        one_hot: bool = False,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        features = check_count("features", features)
        self.family = family_of(family, size, context_shape=features)
        self.num_steps, self.size, self.block = steps, size, block or steps
        check_blocks(self.event_shape, steps, size, self.block)
        classes = self.family.num_classes if isinstance(self.family, Categorical) else 0
        if check_flag("one_hot", one_hot) and not classes:
            raise ValueError(
                f"one_hot=True needs classes, the family Categorical, got {self.family}; leave it "
                "out for numbers."
            )
        self.one_hot = one_hot
        self.in_features = size * classes if one_hot else size

    def condition(self, context: Any) -> AutoregressiveDistribution:
        """The distribution given a checked context."""
        batch_shape = batch_shape_of(context, self.context_shape)
        return AutoregressiveDistribution(self, context, batch_shape)

    def to_steps(self, x: Tensor) -> Tensor:
        """Values (batch, *event) in the order of the steps: (batch, num_steps, size)."""
        return x.reshape(len(x), self.num_steps, self.size)

    def from_steps(self, values: Tensor) -> Tensor:
        """The inverse of `to_steps`."""
        return values.reshape(len(values), *self.event_shape)

    def inputs(self, values: Tensor) -> Tensor:
        """What the network sees of values (..., size): (..., in_features)."""
        if self.one_hot:
            classes = torch.arange(self.in_features // self.size, device=values.device)
            seen = (values[..., None] == classes).flatten(-2)
        else:
            seen = inputs(self.family, values)
        return seen.to(self.family.head.weight.dtype)

    @abstractmethod
    def features(self, u: Tensor, context: Any) -> Tensor:
        """h of all steps, (batch, num_steps, features), from the inputs u (batch, num_steps,
        in_features); that of step i depends on u[:, :i] and on the context (batch, ...) only.
        """

    @abstractmethod
    def begin(self, context: Any, num: int) -> Any:
        """The state before the first step of `num` values."""

    def enter(self, state: Any, block: int, previous: Tensor) -> Any:
        """The state at the beginning of a block, given the inputs (batch, in_features) of the step
        before it, zeros at the first.
        """
        return state

    @abstractmethod
    def advance(self, state: Any, index: int, previous: Tensor) -> tuple[Tensor, Any]:
        """h of step `index` (batch, features), and the next state, given the inputs (batch,
        in_features) of the step before it, zeros at the first.
        """
