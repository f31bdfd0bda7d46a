"""Flows: conditional distributions whose draws are noise under a stack of bijections, x = f_L(...
f_1(u)).

log p(x | c) = log p(u | c) - sum_l log |det df_l|,  u = f^-1(x; c).  Any value can be scored, also
one that was never drawn.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from dgm_core.arguments import check_instance, refuse
from dgm_core.contexts import ContextShape, shown_shape
from dgm_core.matching import check_size, no_path
from pyro_dgm.conditionals import Conditional, DiagonalNormal, StandardNormal
from pyro_dgm.conditionals.drawn import Drawn
from pyro_dgm.flows.matching import matching_error
from pyro_dgm.flows.solving import Noise, on_grid, solving
from pyro_dgm.flows.transform import Inverse, Transform
from pyro_dgm.nn.contexts import batch_shape_of

__all__ = ["Flow", "FlowDistribution"]


class Flow(Conditional):
    """A normalizing flow:  u ~ base(c);  x = f_L(... f_1(u; c); c).

    As prior, posterior or likelihood, like any conditional; named flows (MAF, RealNVP, ...) are
    stacks made for you.

    Args:
        dim: a size or a shape.
        transforms: from the noise to the data.
        context_shape: 0 = unconditional.
        base: a conditional of the noise (default StandardNormal(dim), with a context
            DiagonalNormal(dim, context_shape=context_shape), which is the standard normal times a
            learned location and scale).

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Cost:
        that of its transforms in each direction; `repr` shows it.

    Raises:
        ValueError: if the base, or the context of a transform, does not fit.
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        transforms: Sequence[Transform],
        *,
        context_shape: ContextShape = 0,
        base: Conditional | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        if base is None:
            base = (
                DiagonalNormal(dim, context_shape=context_shape)
                if context_shape
                else StandardNormal(dim)
            )
        check_instance("base", base, Conditional, "a conditional such as StandardNormal(dim)")
        if base.event_shape != self.event_shape or base.context_shape not in (
            (),
            self.context_shape,
        ):
            raise ValueError(
                f"The base of a flow must give values of shape {self.event_shape} with "
                f"context_shape=0 or context_shape={shown_shape(self.context_shape)}, got {base!r}."
            )
        self.base = base
        stack = check_transforms(transforms)
        for transform in stack:
            given = getattr(transform, "context_shape", ())
            if given not in ((), self.context_shape):
                raise ValueError(
                    "The transforms of a flow must have no context or its own, context_shape="
                    f"{shown_shape(self.context_shape)}, got {transform!r} with context_shape="
                    f"{shown_shape(given)}."
                )
            check_size(transform, self.event_shape)
        self.transforms = nn.ModuleList(stack)

    def condition(self, context: Any) -> "FlowDistribution":
        """The distribution given a checked context."""
        base = self.base.condition(context if self.base.context_shape else None)
        if context is not None and not self.base.context_shape:
            base = base.expand(batch_shape_of(context, self.context_shape))
        return FlowDistribution(base, self._stack, context)

    def inverse(self, base: Conditional | None = None) -> "Flow":
        """The flow with its directions exchanged, sharing the parameters: the implicit IAF of a
        MAF, and the other way round.

        Args:
            base: of the other side (default: standard normal).
        """
        dim = self.event_shape if len(self.event_shape) > 1 else self.event_shape[0]
        transforms = [
            t.transform if isinstance(t, Inverse) else Inverse(t) for t in reversed(self._stack)
        ]
        base = StandardNormal(dim) if base is None else base
        return Flow(dim, transforms, context_shape=self.context_shape, base=base)

    @property
    def _stack(self) -> tuple[Transform, ...]:
        return tuple(t for t in self.transforms if isinstance(t, Transform))

    @property
    def sample_cost(self) -> str:
        """What a draw costs, in words."""
        return " + ".join(dict.fromkeys(t.forward_cost for t in self._stack)) or "nothing"

    @property
    def log_prob_cost(self) -> str:
        """What scoring any value costs, in words; one that was just drawn costs nothing more."""
        return " + ".join(dict.fromkeys(t.inverse_cost for t in self._stack)) or "nothing"

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()[:-1]}; sample: {self.sample_cost}, log_prob: "
            f"{self.log_prob_cost})"
        )


def check_transforms(transforms: Sequence[Transform]) -> tuple[Transform, ...]:
    """A stack of transforms; ValueError for anything else."""
    found = tuple(transforms) if isinstance(transforms, Iterable) else ()
    if not isinstance(transforms, Iterable) or not all(isinstance(t, Transform) for t in found):
        refuse("transforms", "a sequence of transforms such as [LU(dim)]", transforms)
    return found


class FlowDistribution(TorchDistribution):
    """The distribution of x = f_L(... f_1(u)),  u ~ base.

    Draws are reparameterized if the base's are.  A value that was just drawn is scored from what
    the draw has left; any other, also a draw that was changed in place, by the inverse.  A
    `TransformedDistribution` of a flow keeps the draw too; in Pyro its transforms must have a
    cache for that, as `biject_to(constraint).with_cache()` has. The signs by which traces are
    estimated stay the same for one distribution.

    Args:
        base: the distribution of the noise.
        transforms: from the noise to the data.
        context: (*batch, *context_shape) or None.

    Shapes:
        those of the base.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    keeps_draws = True

    def __init__(
        self,
        base: TorchDistribution,
        transforms: Sequence[Transform],
        context: Tensor | None = None,
    ) -> None:
        self.base, self.transforms, self.context = base, tuple(transforms), context
        self._drawn: Drawn | None = None
        self._scored: Drawn | None = None
        self._noise = Noise()
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def is_estimated(self) -> bool:
        """Whether log_prob is an estimate, by random probes."""
        parts = [part for t in self.transforms for part in t.modules()]
        return any(getattr(part, "draws_noise", False) for part in parts)

    @property
    def has_rsample(self) -> bool:
        """Whether gradients pass through draws."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """All real vectors."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "FlowDistribution":
        """The same distribution with a larger batch shape."""
        return FlowDistribution(self.base.expand(batch_shape), self.transforms, self.context)

    def rsample_and_log_prob(
        self, sample_shape: torch.Size | tuple[int, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """Draws (*sample_shape, *batch, *event) and their log-densities (*sample_shape, *batch), in
        one forward pass.
        """
        shape = torch.Size(sample_shape)
        u = self.base.rsample(shape) if self.base.has_rsample else self.base.sample(shape)
        x, log_det = self.forward_and_log_det(u)
        noise = self.base.log_prob(u)
        self._drawn = Drawn(x, noise - log_det, noise)
        return x, self._drawn.log_prob

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws, through which gradients pass."""
        if torch.is_grad_enabled() or not any(map(on_grid, self.transforms)):
            return self.rsample_and_log_prob(sample_shape)[0]
        u = self.base.sample(torch.Size(sample_shape))
        x = self._through(u, None, back=False, dets=False)[0]
        self._drawn = Drawn(x, None, u)
        return x

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value): (*batch, *event) -> (*batch,)."""
        for found in (self._just_drawn(value), self._scored):
            if found and (known := found.score(value)) is not None:
                return known
        return self._score(value)

    def _just_drawn(self, value: Tensor) -> Drawn | None:
        """The last draw if that is the value, with the log-density that it may have spared."""
        if not self._drawn or not self._drawn.is_of(value):
            return None
        if self._drawn.log_prob is None:
            u = self._drawn.noise
            noise = self.base.log_prob(u)
            self._drawn = Drawn(value, noise - self.forward_and_log_det(u)[1], noise)
        return self._drawn

    def transport_costs(self, value: Tensor) -> dict[str, Tensor]:
        """What the paths of the continuous transforms cost on the way to a value, (*batch,) each:
        "kinetic", int |v|^2 dt, and "jacobian", int |dv/dx|^2 dt, the sum over the entries of a
        matrix; estimated where the trace is.

        Raises:
            ValueError: for a flow without such transforms.
        """
        if not self._scored or self._scored.score(value) is None:
            notes: list[dict[str, Tensor]] = []
            log_prob = self._score(value, notes)
            if not notes:
                raise ValueError(no_path(list(map(repr, self.transforms))))
            costs = {name: sum(note[name] for note in notes) for name in notes[0]}
            self._scored = Drawn(value, log_prob, costs)
        return self._scored.noise

    def flow_matching(self, value: Tensor, *, coupling: str = "independent") -> Tensor:
        """The squared error of the velocity on straight lines to a value, (*batch,): what the term
        `FlowMatching` minimizes.
        """
        return matching_error(self, value, coupling)

    def _score(self, value: Tensor, notes: list[dict[str, Tensor]] | None = None) -> Tensor:
        """log p(value), by the inverse."""
        if not value.is_floating_point():
            value = value.to(torch.get_default_dtype())
        value = value.expand(
            torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        )
        u, log_det = self._through(value, notes, back=True)
        return self.base.log_prob(u) + log_det

    def negative_entropy(self, value: Tensor) -> Tensor:
        """E log p(x), from a value that was just drawn:  log p(x) with the log-density of its noise
        replaced by the mean of that,  - H(base) - log |det dx/du|.

        Raises:
            ValueError: for any other value, and a base whose entropy has no closed form.
        """
        drawn = self._just_drawn(value)
        if drawn is None:
            raise ValueError(
                "The entropy of a flow is found from what it has just drawn, got another value."
            )
        return drawn.log_prob - drawn.noise - self._entropy()

    def _entropy(self) -> Tensor:
        """That of the noise."""
        try:
            return self.base.entropy()
        except NotImplementedError:
            raise ValueError(
                f"The noise of the flow, {self.base}, has no entropy in closed form."
            ) from None

    def forward_and_log_det(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """x = f(u) and log |det dx/du| (*batch,)."""
        return self._through(u, None, back=False)

    def inverse_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """u = f^-1(x) and log |det du/dx| (*batch,)."""
        return self._through(x, None, back=True)

    def _through(
        self,
        value: Tensor,
        notes: list[dict[str, Tensor]] | None,
        *,
        back: bool,
        dets: bool = True,
    ) -> tuple[Tensor, Tensor]:
        total: Tensor | float = 0.0
        order = range(len(self.transforms))
        for index in reversed(order) if back else order:
            transform = self.transforms[index]
            move = transform.inverse_and_log_det if back else transform.forward_and_log_det
            given = getattr(transform, "context_shape", True)  # () takes none
            with solving(self._noise, index, notes, dets):
                value, log_det = move(value, self.context if given else None)
            total = total + log_det
        return value, self._whole(total, value)

    def _whole(self, log_det: Tensor | float, value: Tensor) -> Tensor:
        batch = value.shape[: value.ndim - len(self.event_shape)]
        return torch.as_tensor(log_det, dtype=value.dtype, device=value.device).expand(batch)
