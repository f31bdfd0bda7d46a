"""What conditionals of sequences share: an event of shape (length, ...), batches of sequences of
unequal lengths, and contexts with an entry for each step.
"""

from abc import abstractmethod
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import transform_to

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
from pyro_dgm.compat import with_parts
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.nn.contexts import batch_shape_of, visible
from pyro_dgm.nn.sequences import checked_lengths

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

    def __init__(
        self, length: int, step_shape: tuple[int, ...], *, context_shape: ContextShape = 0
    ) -> None:
        length = check_count("length", length)
        super().__init__((length, *step_shape), context_shape=context_shape)
        self.length = length

    def forward(self, context: Any = None, lengths: Any = None) -> TorchDistribution:
        """The distribution given `context` (*batch, *context_shape) and lengths (*batch,)."""
        check_context(self, context, self.context_shape)
        if lengths is not None:
            lengths = checked_lengths(lengths, self.length)
        context = visible(context, self.context_shape)
        batch_of(context, self.context_shape, lengths)
        return self.along(context, lengths)

    def condition(self, context: Any) -> TorchDistribution:
        """The distribution of full length given a checked context."""
        return self.along(context, None)

    def up_to(self, length: int) -> "Path":
        """The same of the first `length` steps alone, with the same parameters, for a batch of
        sequences that is cut to the longest of them. ValueError for more steps than there are.
        """
        if check_fewer(length, self.length) == self.length:
            return self
        parts = {n: p.up_to(length) for n, p in self.named_children() if isinstance(p, Path)}
        own = with_parts(self, parts)
        own.length, own.event_shape = length, (length, *self.event_shape[1:])
        own.context_shape = shortened(self.context_shape, self.length, length)
        return own

    @abstractmethod
    def along(self, context: Any, lengths: Tensor | None) -> TorchDistribution:
        """The distribution given a checked context and checked lengths."""


class ObservedPath(Path):
    """A conditional of sequences of data, of which steps may be missing: `path(context=None,
    lengths=None, observed=None) -> Distribution`.

    Steps that are not observed (*batch, T) are drawn, but they are not scored, whatever stands
    there. All else is as in `Path`; a subclass defines `along(context, lengths, observed)`.
    """

    def forward(
        self, context: Any = None, lengths: Any = None, observed: Tensor | None = None
    ) -> TorchDistribution:
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
        self, context: Any, lengths: Tensor | None, observed: Tensor | None = None
    ) -> TorchDistribution:
        """The distribution given a checked context, checked lengths and a checked mask."""


class OfSteps:
    """What distributions of sequences say of themselves, to those who read their values."""

    lengths: Tensor | None
    observed: Tensor | None = None
    event_shape: Any

    @property
    def step_mask(self) -> Tensor | None:
        """Which steps (*batch, length) log_prob looks at; None for all."""
        return mask_of(self.lengths, self.event_shape[0], self.observed)


def continued_shape(distribution: Any, value: Tensor) -> torch.Size:
    """The batch shape of paths that continue `value`; ValueError if that is no path."""
    check_path(value.shape, distribution.event_shape)
    batch = value.shape[: value.ndim - len(distribution.event_shape)]
    return torch.broadcast_shapes(batch, distribution.batch_shape)


def batch_of(
    context: Any,
    context_shape: tuple[Any, ...],
    lengths: Tensor | None,
    observed: Tensor | None = None,
) -> torch.Size:
    """The batch shape to which a context, lengths and a mask of steps broadcast."""
    own = batch_shape_of(context, context_shape)
    known = None if observed is None else observed.shape[:-1]
    return torch.Size(
        broadcast(own, lengths=None if lengths is None else lengths.shape, observed=known)
    )


def first_steps(lengths: Tensor, length: int) -> Tensor:
    """Which steps (*batch, length) are among the first `lengths`."""
    return torch.arange(length, device=lengths.device) < lengths[..., None]


def mask_of(lengths: Tensor | None, length: int, observed: Tensor | None = None) -> Tensor | None:
    """Which steps are random, and observed (*batch, length); None for all."""
    if lengths is None:
        return observed
    mask = first_steps(lengths, length)
    return mask if observed is None else mask & observed


def cleared(x: Tensor, mask: Tensor | None, event_dim: int = 1) -> Tensor:
    """x (*batch, length, *event), with zeros where the mask (*batch, length) is false."""
    if mask is None:
        return x
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    return torch.where(mask[(..., *[None] * event_dim)], x, zero)


def filled(x: Tensor, mask: Tensor | None, support: constraints.Constraint) -> Tensor:
    """x (*batch, length, *event), with a value in the support (of a whole sequence) where the mask
    (*batch, length) is false: one of the same sequence, if it has any.
    """
    if mask is None:
        return x
    event_dim = support.event_dim - 1
    shape = torch.broadcast_shapes(x.shape[: x.ndim - event_dim], mask.shape)
    x, mask = x.expand(*shape, *x.shape[x.ndim - event_dim :]), mask.expand(shape)
    index = mask.to(torch.uint8).argmax(-1)[(..., None, *[None] * event_dim)]
    known = x.gather(len(shape) - 1, index.expand(*shape[:-1], 1, *x.shape[len(shape) :]))
    try:
        feasible = transform_to(support)(torch.zeros_like(x)).detach()
    except NotImplementedError:  # of integers, zero among them
        feasible = torch.zeros_like(x)
    known = torch.where(mask.any(-1)[(..., None, *[None] * event_dim)], known, feasible)
    return torch.where(mask[(..., *[None] * event_dim)], x, known)


def total(log_probs: Tensor, lengths: Tensor | None, observed: Tensor | None = None) -> Tensor:
    """The sum of the log-densities (*batch, length) of the steps that are random, and observed;
    NaN for lengths that no sequence has.
    """
    if observed is not None:
        log_probs = cleared(log_probs, observed, 0)
    length = log_probs.shape[-1]
    mask = mask_of(lengths, length)
    return known(cleared(log_probs, mask, 0).sum(-1), lengths, length)


def known(log_prob: Tensor, lengths: Tensor | None, length: int) -> Tensor:
    """Log-densities (*batch,), NaN for lengths that no sequence has."""
    if lengths is None:
        return log_prob
    return log_prob.masked_fill((lengths < 0) | (lengths > length), torch.nan)


def by_step(
    context: Any, context_shape: tuple[Any, ...], length: int, lengths: Tensor | None
) -> Tensor:
    """A context as networks see it as features of each step (*batch, length, features): sequences
    step by step, without what stands in their padding, all else the same in all steps.
    """
    parts = parts_of(context_shape)
    several = context if parts == context_shape else (context,)
    mask = mask_of(lengths, length)
    features = []
    for part, shape in zip(several, parts):
        if is_sequence(shape, length):
            part = cleared(part.flatten(1 - len(shape)), mask)
        else:
            part = part.flatten(-len(shape))[..., None, :]
        features.append(part)
    wide = torch.broadcast_shapes(*(part.shape[:-2] for part in features))
    return torch.cat([part.expand(*wide, length, -1) for part in features], -1)


def previous(value: Tensor) -> Tensor:
    """The values one step before (*batch, length, features), zero before the first."""
    return torch.cat([torch.zeros_like(value[..., :1, :]), value[..., :-1, :]], -2)


def draw(distribution: TorchDistribution) -> Tensor:
    """A draw, with a gradient if there is one."""
    return distribution.rsample() if distribution.has_rsample else distribution.sample()
