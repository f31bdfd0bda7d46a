"""What conditionals of sequences share: an event of shape (length, ...), batches of sequences of
unequal lengths, and contexts with an entry for each step.
"""

from abc import abstractmethod
from copy import copy
from dataclasses import fields
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape, check_context, parts_of
from dgm_core.paths import (
    broadcast,
    check_fewer,
    check_observed,
    check_path,
    is_sequence,
    shortened,
)
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.nn.contexts import batch_shape_of, visible
from numpyro_dgm.nn.sequences import checked_lengths

__all__ = ["ObservedPath", "Path"]


class Path(Conditional):
    """A conditional of sequences: `path(context=None, lengths=None) -> Distribution`.

    The first `lengths` steps of a padded sequence are random, the others are nothing: draws are
    zero there, and log_prob looks at none of them, whatever stands there, NaN included; neither
    does it look at the context there. So a batch gives what its sequences give one by one.

    Args:
        length: T.
        step_shape: of a value in one step.
        context_shape: as in `Conditional`.

    A subclass defines `along(context, lengths)`, with both checked.

    Shapes:
        context (*batch, *context_shape), lengths (*batch,) of integers from 0 to T -> batch_shape
        (*batch,), event_shape (T, *step_shape).

    Raises:
        ValueError: as a `Conditional`, and for lengths that are no such integers (NaN where values
            are not known).
    """

    length: int = eqx.field(static=True)

    def __init__(
        self, length: int, step_shape: tuple[int, ...], *, context_shape: ContextShape = 0
    ) -> None:
        length = check_count("length", length)
        super().__init__((length, *step_shape), context_shape=context_shape)
        self.length = length

    def __call__(self, context: Any = None, lengths: Any = None) -> Distribution:
        """The distribution given `context` (*batch, *context_shape) and lengths (*batch,)."""
        check_context(self, context, self.context_shape)
        if lengths is not None:
            lengths = checked_lengths(lengths, self.length)
        context = visible(context, self.context_shape)
        batch_of(context, self.context_shape, lengths)
        return self.along(context, lengths)

    def condition(self, context: Any) -> Distribution:
        """The distribution of full length given a checked context."""
        return self.along(context, None)

    def up_to(self, length: int) -> "Path":
        """The same of the first `length` steps alone, with the same parameters, for a batch of
        sequences that is cut to the longest of them. ValueError for more steps than there are.
        """
        if check_fewer(length, self.length) == self.length:
            return self
        own = copy(self)
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        parts = {n: part.up_to(length) for n, part in parts.items() if isinstance(part, Path)}
        parts |= {"length": length, "event_shape": (length, *self.event_shape[1:])}
        parts["context_shape"] = shortened(self.context_shape, self.length, length)
        for name, value in parts.items():
            object.__setattr__(own, name, value)
        return own

    @abstractmethod
    def along(self, context: Any, lengths: Array | None) -> Distribution:
        """The distribution given a checked context and checked lengths."""


class ObservedPath(Path):
    """A conditional of sequences of data, of which steps may be missing: `path(context=None,
    lengths=None, observed=None) -> Distribution`.

    Steps that are not observed (*batch, T) are drawn, but they are not scored, whatever stands
    there. All else is as in `Path`; a subclass defines `along(context, lengths, observed)`.
    """

    def __init__(
        self, length: int, step_shape: tuple[int, ...], *, context_shape: ContextShape = 0
    ) -> None:
        super().__init__(length, step_shape, context_shape=context_shape)

    def __call__(
        self, context: Any = None, lengths: Any = None, observed: Array | None = None
    ) -> Distribution:
        """The distribution given `context`, the lengths, and which steps are observed."""
        return self.along(*self.checked(context, lengths, observed))

    def checked(self, context: Any, lengths: Any, observed: Any) -> tuple[Any, Any, Any]:
        """What the conditional is called with, checked.

        Raises:
            ValueError: for a context, lengths or a mask that do not fit.
        """
        check_context(self, context, self.context_shape)
        if lengths is not None:
            lengths = checked_lengths(lengths, self.length)
        if observed is not None:
            check_observed(observed, self.length)
        context = visible(context, self.context_shape)
        batch_of(context, self.context_shape, lengths, observed)
        return context, lengths, observed

    @abstractmethod
    def along(
        self, context: Any, lengths: Array | None, observed: Array | None = None
    ) -> Distribution:
        """The distribution given a checked context, checked lengths and a checked mask."""


class OfSteps:
    """What distributions of sequences say of themselves, to those who read their values."""

    lengths: Array | None
    observed: Array | None = None
    event_shape: Any

    @property
    def step_mask(self) -> Array | None:
        """Which steps (*batch, length) log_prob looks at; None for all."""
        return mask_of(self.lengths, self.event_shape[0], self.observed)


def continued_shape(distribution: Any, value: Array) -> tuple[int, ...]:
    """The batch shape of paths that continue `value`; ValueError if that is no path."""
    check_path(jnp.shape(value), distribution.event_shape)
    batch = value.shape[: value.ndim - len(distribution.event_shape)]
    return jnp.broadcast_shapes(batch, distribution.batch_shape)


def batch_of(
    context: Any,
    context_shape: tuple[Any, ...],
    lengths: Array | None,
    observed: Array | None = None,
) -> tuple[int, ...]:
    """The batch shape to which a context, lengths and a mask of steps broadcast."""
    own = batch_shape_of(context, context_shape)
    known = None if observed is None else observed.shape[:-1]
    return broadcast(own, lengths=None if lengths is None else lengths.shape, observed=known)


def first_steps(lengths: Array, length: int) -> Array:
    """Which steps (*batch, length) are among the first `lengths`."""
    return jnp.arange(length) < lengths[..., None]


def mask_of(lengths: Array | None, length: int, observed: Array | None = None) -> Array | None:
    """Which steps are random, and observed (*batch, length); None for all."""
    if lengths is None:
        return observed
    mask = first_steps(lengths, length)
    return mask if observed is None else mask & observed


def cleared(x: Array, mask: Array | None, event_dim: int = 1) -> Array:
    """x (*batch, length, *event), with zeros where the mask (*batch, length) is false."""
    if mask is None:
        return x
    return jnp.where(mask[(..., *[None] * event_dim)], x, jnp.zeros((), x.dtype))


def filled(x: Array, mask: Array | None, support: constraints.Constraint) -> Array:
    """x (*batch, length, *event), with a value in the support (of a whole sequence) where the mask
    (*batch, length) is false: one of the same sequence, if it has any.
    """
    if mask is None:
        return x
    x, event_dim = jnp.asarray(x), support.event_dim - 1
    shape = jnp.broadcast_shapes(x.shape[: x.ndim - event_dim], mask.shape)
    x = jnp.broadcast_to(x, (*shape, *x.shape[x.ndim - event_dim :]))
    mask = jnp.broadcast_to(mask, shape)
    index = mask.argmax(-1)[(..., None, *[None] * event_dim)]
    known = jnp.take_along_axis(x, index, len(shape) - 1)
    try:
        feasible = support.feasible_like(jnp.zeros_like(x))
    except NotImplementedError:  # of integers, zero among them
        feasible = jnp.zeros_like(x)
    known = jnp.where(mask.any(-1)[(..., None, *[None] * event_dim)], known, feasible)
    return jnp.where(mask[(..., *[None] * event_dim)], x, known)


def draw(
    distribution: Distribution, key: Array, sample_shape: tuple[int, ...] = ()
) -> tuple[Array, list[Any]]:
    """A draw, with a gradient if there is one, and what it leaves for `log_prob`."""
    value, left = distribution.sample_with_intermediates(key, sample_shape)
    return (value, left) if distribution.has_rsample else (jax.lax.stop_gradient(value), [])


def total(log_probs: Array, lengths: Array | None, observed: Array | None = None) -> Array:
    """The sum of the log-densities (*batch, length) of the steps that are random, and observed;
    NaN for lengths that no sequence has.
    """
    if observed is not None:
        log_probs = cleared(log_probs, observed, 0)
    length = log_probs.shape[-1]
    mask = mask_of(lengths, length)
    return known(cleared(log_probs, mask, 0).sum(-1), lengths, length)


def known(log_prob: Array, lengths: Array | None, length: int) -> Array:
    """Log-densities (*batch,), NaN for lengths that no sequence has."""
    if lengths is None:
        return log_prob
    return jnp.where((lengths < 0) | (lengths > length), jnp.nan, log_prob)


def by_step(
    context: Any, context_shape: tuple[Any, ...], length: int, lengths: Array | None
) -> Array:
    """A context as networks see it as features of each step (*batch, length, features): sequences
    step by step, without what stands in their padding, all else the same in all steps.
    """
    parts = parts_of(context_shape)
    several = context if parts == context_shape else (context,)
    mask = mask_of(lengths, length)
    features = []
    for part, shape in zip(several, parts):
        batch = part.shape[: part.ndim - len(shape)]
        if is_sequence(shape, length):
            part = cleared(part.reshape(*batch, length, -1), mask)
        else:
            part = part.reshape(*batch, 1, -1)
        features.append(part)
    wide = jnp.broadcast_shapes(*(part.shape[:-2] for part in features))
    return jnp.concatenate(
        [jnp.broadcast_to(part, (*wide, length, part.shape[-1])) for part in features], -1
    )


def previous(value: Array) -> Array:
    """The values one step before (*batch, length, features), zero before the first."""
    return jnp.concatenate([jnp.zeros_like(value[..., :1, :]), value[..., :-1, :]], -2)
