"""Markov paths: a transition, which may be any conditional, repeated over time."""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_instance
from dgm_core.contexts import check_expanded
from dgm_core.paths import check_initial, check_path, controls_of
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.drawn import Drawn
from pyro_dgm.conditionals.paths.base import (
    OfSteps,
    Path,
    batch_of,
    cleared,
    continued_shape,
    draw,
    filled,
    first_steps,
    mask_of,
    total,
)
from pyro_dgm.conditionals.paths.transitions import Combiner, combined

__all__ = ["Markov"]


class Markov(Path):
    """A Markov chain as one value:  z_1 ~ initial(u_1);  z_t ~ transition(z_{t-1}, u_t).

    The density of a path is one batch, the path shifted by one step; nothing runs through time but
    the draws. The prior of state-space models and of deep Markov models; as a guide it may read an
    encoder's features of each step as u.

    Args:
        transition: a conditional of states (z_dim,) with context_shape=z_dim, or (z_dim,
            (controls,)), with a vector or array of control inputs in each step.
        length: T.
        initial: a conditional of the first state, without context or given the first control
            inputs; None: the transition from `start`, a learned state.

    Shapes:
        context (*batch, T, *controls), none without controls; lengths (*batch,) -> batch_shape
        (*batch,), event_shape (T, z_dim).

    Cost:
        log_prob one call of the transition on all steps at once; a draw T calls, in NumPyro one
        compiled loop. A draw of a flow as transition is scored from what it has left.

    Raises:
        ValueError: if the transition does not map states to states, or initial does not fit.

    Example:
        >>> from pyro_dgm.conditionals import LinearNormal
        >>> Markov(LinearNormal(2, context_shape=2), 7)().rsample((5,)).shape
        torch.Size([5, 7, 2])
    """

    def __init__(
        self, transition: Conditional, length: int, *, initial: Conditional | None = None
    ) -> None:
        length = check_count("length", length)
        if initial is not None:
            check_instance("initial", initial, Conditional, "a conditional such as Normal(2)")
        what = "a conditional such as DiagonalNormal(2, context_shape=2)"
        check_instance("transition", transition, Conditional, what)
        controls = controls_of(transition.event_shape, transition.context_shape)
        if initial is not None:
            check_initial(initial, transition.event_shape, controls)
        super().__init__(
            length,
            transition.event_shape,
            context_shape=(length, *controls) if controls else 0,
        )
        self.transition, self.initial = transition, initial
        self.start = nn.Parameter(torch.zeros(transition.event_shape)) if initial is None else None
        zeros = torch.zeros(transition.event_shape), torch.zeros(controls)
        with torch.no_grad():
            first = self.first(zeros[1] if controls else None)
            after = self.after(zeros[0], zeros[1] if controls else None)
        self.reparameterized = first.has_rsample and after.has_rsample
        self.keeps_draws = self.reparameterized and getattr(after, "keeps_draws", False)
        known = first.support
        real = getattr(known, "base_constraint", known) is constraints.real
        self.support = constraints.independent(known, 1) if real else None  # else it may vary

    def first(self, control: Tensor | None) -> TorchDistribution:
        """The distribution of the first state, given its control inputs (*batch, *controls)."""
        if self.initial is None:
            return self.after(self.start, control)
        return self.initial(control if self.initial.context_shape else None)

    def after(self, state: Any, control: Tensor | None) -> TorchDistribution:
        """The distribution of the state that follows one, given its control inputs."""
        return self.transition(state if control is None else (state, control))

    def along(self, context: Any, lengths: Tensor | None) -> "_MarkovDistribution":
        """The distribution given checked control inputs and lengths."""
        batch = batch_of(context, self.context_shape, lengths)
        if context is not None:
            mask = mask_of(lengths, self.length)
            context = cleared(context, mask, len(self.context_shape) - 1)
        return _MarkovDistribution(self, context, lengths, batch)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.transition),)


class _MarkovDistribution(OfSteps, TorchDistribution):
    """The paths of a chain given its control inputs."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self,
        chain: Markov,
        controls: Tensor | None,
        lengths: Tensor | None,
        batch_shape: torch.Size,
    ) -> None:
        self.chain, self.controls, self.lengths = chain, controls, lengths
        self._kept: Drawn | None = None
        super().__init__(batch_shape, torch.Size(chain.event_shape), validate_args=False)

    @property
    def has_rsample(self) -> bool:
        return self.chain.reparameterized

    @property
    def keeps_draws(self) -> bool:
        """Whether a draw leaves its log-density."""
        return self.chain.keeps_draws

    @property
    def support(self) -> constraints.Constraint:
        return self.chain.support or constraints.independent(
            self.chain.first(self._control(0)).support, 1
        )

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "_MarkovDistribution":
        return _MarkovDistribution(
            self.chain,
            self.controls,
            self.lengths,
            torch.Size(check_expanded(self.batch_shape, batch_shape)),
        )

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        transition, start = self.chain.transition, self.chain.start
        if isinstance(transition, Combiner) and start is not None and self.controls is not None:
            return self._combined(shape, transition, start, self.controls)
        return self._drawn(shape)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def continued(self, value: Tensor, lengths: Tensor) -> Tensor:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, z_dim)."""
        shape, known = continued_shape(self, value), first_steps(lengths, self.chain.length)
        return self._drawn(shape, cleared(value, known), known)

    def _combined(
        self, shape: torch.Size, combiner: Combiner, start: Tensor, controls: Tensor
    ) -> Tensor:
        """The same of a guide's combiner, whose loop has little in it."""
        features = controls.expand(*shape, *controls.shape[-2:])
        noise = torch.randn((*shape, *self.event_shape), dtype=start.dtype, device=start.device)
        flat = features.reshape(-1, *features.shape[-2:]), noise.reshape(-1, *self.event_shape)
        path = combined(combiner, start.expand(len(flat[0]), -1), *flat).reshape(noise.shape)
        return cleared(path, mask_of(self.lengths, self.chain.length))

    def _drawn(
        self, shape: torch.Size, value: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """Paths (*shape, T, z_dim), with the values of the steps that are known."""
        states: list[Tensor] = []
        scores: list[Tensor] = []
        mask = mask_of(self.lengths, self.chain.length)
        for t in range(self.chain.length):
            if t:
                fn = self.chain.after(states[-1], self._control(t))
            else:
                fn = self.chain.first(self._control(0)).expand(shape)
            state = draw(fn)
            if value is not None and known is not None:
                state = torch.where(known[..., t, None], value[..., t, :], state)
            elif self.keeps_draws:
                scores.append(fn.log_prob(state))
            if t and mask is not None:  # behind the end nothing moves, so that nothing overflows
                state = torch.where(mask[..., t, None], state, states[-1])
            states.append(state)
        path = cleared(torch.stack(states, -2), mask)
        if scores:
            self._kept = Drawn(path, total(torch.stack(scores, -1), self.lengths))
        return path

    def log_prob(self, value: Tensor) -> Tensor:
        check_path(value.shape, self.event_shape)
        if self._kept and (known := self._kept.score(value)) is not None:
            return known
        value = filled(value, mask_of(self.lengths, self.chain.length), self.support)
        start = self.chain.start
        if start is not None:  # one call for all steps
            before = start.expand(*value.shape[:-2], 1, -1)
            before = torch.cat([before, value[..., :-1, :]], -2)
            steps = self.chain.after(before, self.controls).log_prob(value)
            batch = torch.broadcast_shapes(steps.shape[:-1], self.batch_shape)
            return total(steps.expand(*batch, -1), self.lengths)
        first = self.chain.first(self._control(0)).log_prob(value[..., 0, :])
        steps = first.expand(torch.broadcast_shapes(first.shape, self.batch_shape))[..., None]
        if self.chain.length > 1:
            later = None if self.controls is None else self.controls[self._steps(slice(1, None))]
            after = self.chain.after(value[..., :-1, :], later).log_prob(value[..., 1:, :])
            batch = torch.broadcast_shapes(steps.shape[:-1], after.shape[:-1])
            steps = torch.cat([steps.expand(*batch, 1), after.expand(*batch, -1)], -1)
        return total(steps, self.lengths)

    def _control(self, t: int) -> Tensor | None:
        return None if self.controls is None else self.controls[self._steps(t)]

    def _steps(self, index: Any) -> Any:
        """The place of some steps in the control inputs."""
        return (..., index, *[slice(None)] * (len(self.chain.context_shape) - 1))
