"""The same conditional in each step of a sequence."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.arguments import check_count, check_instance
from dgm_core.contexts import is_several
from dgm_core.paths import check_path, stepwise
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.conditionals.paths.base import (
    ObservedPath,
    OfSteps,
    batch_of,
    cleared,
    continued_shape,
    draw,
    filled,
    first_steps,
    mask_of,
    total,
)

__all__ = ["Steps"]


class Steps(ObservedPath):
    """The same conditional in each step, independently given the context:  x_t ~ p(x | c_t).

    The likelihood of sequence models; as a guide it is the mean field over time.

    Args:
        conditional: of one step.
        length: T.

    Shapes:
        context (*batch, T, *context_shape of a step), or none; lengths (*batch,); observed (*batch,
        T), false for steps that are missing, which are drawn but not scored -> batch_shape
        (*batch,), event_shape (T, *event_shape of a step).

    Raises:
        ValueError: if the conditional is none, or takes labels, or observed is no mask.

    Example:
        >>> from numpyro_dgm.conditionals import Bernoulli
        >>> x, lengths = jnp.zeros((5, 3, 2)), jnp.array([3, 1, 2, 3, 0])
        >>> Steps(Bernoulli(2), 3)(lengths=lengths).log_prob(x) / 2
        Array([-2.0794415, -0.6931472, -1.3862944, -2.0794415,  0.       ], dtype=float32)
    """

    conditional: Conditional

    def __init__(self, conditional: Conditional, length: int) -> None:
        length = check_count("length", length)
        check_instance(
            "conditional", conditional, Conditional, "a conditional such as Bernoulli(3)"
        )
        super().__init__(
            length,
            conditional.event_shape,
            context_shape=stepwise(conditional.context_shape, length),
        )
        self.conditional = conditional

    def along(
        self, context: Any, lengths: Array | None, observed: Array | None = None
    ) -> "_StepsDistribution":
        """The distribution given a checked context, checked lengths and a checked mask."""
        batch = batch_of(context, self.context_shape, lengths, observed)
        mask, shape = mask_of(lengths, self.length), self.conditional.context_shape
        if is_several(shape):
            parts = zip(context, shape)
            context = tuple(cleared(part, mask, len(own)) for part, own in parts)
        elif context is not None:
            context = cleared(context, mask, len(shape))
        steps = self.conditional.condition(context)
        return _StepsDistribution(steps.expand((*batch, self.length)), lengths, observed)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.conditional),)


class _StepsDistribution(OfSteps, Distribution):
    """Independent steps (*batch, length), of which some are random and some observed."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("steps", "lengths", "observed")

    def __init__(self, steps: Distribution, lengths: Array | None, observed: Array | None) -> None:
        self.steps, self.lengths, self.observed = steps, lengths, observed
        *batch, length = steps.batch_shape
        super().__init__(tuple(batch), (length, *steps.event_shape), validate_args=False)

    @property
    def has_rsample(self) -> bool:
        return self.steps.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.steps.support, 1)

    def expand(self, batch_shape: tuple[int, ...]) -> "_StepsDistribution":
        steps = self.steps.expand((*batch_shape, self.event_shape[0]))
        return _StepsDistribution(steps, self.lengths, self.observed)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def sample_with_intermediates(
        self, key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        """Draws, and their log-density where those of the steps leave theirs."""
        drawn, left = draw(self.steps, key, sample_shape)
        scores = [self.steps.log_prob(drawn, left)] if left else []
        return self._masked(drawn), [total(s, self.lengths, self.observed) for s in scores]

    def continued(self, key: Array, value: Array, lengths: Array) -> Array:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, ...)."""
        drawn = self.expand(continued_shape(self, value)).sample(key)
        known = first_steps(lengths, self.event_shape[0])
        event_dim = len(self.event_shape) - 1
        return self._masked(jnp.where(known[(..., *[None] * event_dim)], value, drawn))

    def log_prob(self, value: Array, intermediates: list[Array] | None = None) -> Array:
        if intermediates:
            return intermediates[0]
        check_path(jnp.shape(value), self.event_shape)
        mask = mask_of(self.lengths, self.event_shape[0], self.observed)
        value = filled(value, mask, self.support)
        return total(self.steps.log_prob(value), self.lengths, self.observed)

    @property
    def mean(self) -> Array:
        return self._masked(self.steps.mean)

    @property
    def variance(self) -> Array:
        return self._masked(self.steps.variance)

    def _masked(self, value: Array) -> Array:
        mask = mask_of(self.lengths, self.event_shape[0])
        return cleared(value, mask, len(self.event_shape) - 1)
