"""The distribution that an autoregressive conditional returns."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro import validation_enabled
from pyro.distributions import TorchDistribution, constraints, is_validation_enabled
from torch import Tensor

from dgm_core.autoregressive import (
    check_prefix,
    check_temperature,
    check_uniforms,
    not_a_number,
    not_mapped,
    not_uniform,
    outside,
)
from dgm_core.contexts import check_expanded
from pyro_dgm.compat import in_torch_func, numbers_of
from pyro_dgm.conditionals.autoregressive.draws import draw, noise, num_uniforms
from pyro_dgm.nn.contexts import spread

__all__ = ["AutoregressiveDistribution"]


class AutoregressiveDistribution(TorchDistribution):
    """p(x | c) = prod_i p(x_i | x_<i, c): scored in one pass, drawn step by step from caches.

    Args:
        network: an autoregressive conditional.
        context: checked, as networks see it.
        batch_shape: to which that of the context broadcasts.

    Cost:
        log_prob one pass; sample about one pass in arithmetic, in `num_steps` steps.

    Raises:
        ValueError: for values that are outside the support, and for a prefix that is no beginning
            of values. NotImplementedError: for moments, which no pass gives.

    Example:
        >>> from pyro_dgm.conditionals import GatedPixelCNN
        >>> p = GatedPixelCNN((1, 4, 4), hidden_channels=2, num_layers=2)()
        >>> top = torch.ones(7, 1, 2, 4)
        >>> p.sample((7,), prefix=top)[:, :, :2].eq(top).all()
        tensor(True)
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        network: Any,
        context: Any,
        batch_shape: torch.Size | tuple[int, ...],
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.network, self.context = network, context
        super().__init__(
            torch.Size(batch_shape), torch.Size(network.event_shape), validate_args=validate_args
        )

    @property
    def support(self) -> Any:
        """That of the family, for all entries."""
        family = self.network.family
        weight = family.head.weight
        of_a_step = family.build(weight.new_zeros(family.num_params)).support
        return constraints.independent(of_a_step.base_constraint, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """Refused."""
        raise NotImplementedError(
            f"{self.network} has no mean in closed form: average draws, as in sample((100,))."
        )

    @property
    def variance(self) -> Tensor:
        """Refused."""
        raise NotImplementedError(
            f"{self.network} has no variance in closed form: take that of draws, as in "
            "sample((100,))."
        )

    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: None = None
    ) -> AutoregressiveDistribution:
        """The same distribution with a larger batch shape."""
        batch_shape = check_expanded(self.batch_shape, batch_shape)
        return AutoregressiveDistribution(self.network, self.context, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """sum_i log p(x_i | x_<i, c): (*batch, *event) -> (*batch,), in one pass."""
        network, rank = self.network, len(self.event_shape)
        if tuple(value.shape[value.ndim - rank :]) != tuple(self.event_shape):
            raise ValueError(
                f"{network} expects values of shape (*batch, "
                f"{', '.join(map(str, self.event_shape))}), got {tuple(value.shape)}."
            )
        batch = torch.broadcast_shapes(value.shape[: value.ndim - rank], self.batch_shape)
        x = value.expand(*batch, *self.event_shape).reshape(-1, *self.event_shape)
        values = network.to_steps(x)
        h = network.features(network.inputs(values), self._context(batch))
        return self._score(network.family.head(h), values).sum(-1).reshape(batch)

    def _score(self, raw: Tensor, values: Tensor) -> Tensor:
        """log p of all steps with parameters `raw`."""
        family = self.network.family
        if in_torch_func():  # whose tensors the checks of the engine cannot look at
            possible = self.support.base_constraint.check(numbers_of(values))
            if is_validation_enabled() and not possible.all():
                raise outside(self.network, "value")
            with validation_enabled(False):
                return family.build(raw).log_prob(values)
        try:
            p = family.build(raw)
        except ValueError as error:
            if values.isnan().any():
                raise not_a_number(self.network) from error
            raise
        return p.log_prob(values)

    def sample(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        temperature: float = 1.0,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Draws, without gradient.

        Args:
            sample_shape: of independent draws.
            temperature: divides logits and multiplies scales; 1 draws from the distribution.
            prefix: the beginning of the values (*batch, *event), shorter along one axis: the first
                steps in time, the first rows of images. Only what follows can be filled in.
        """
        network = self.network
        shape = (*sample_shape, *self.batch_shape, network.num_steps, network.size)
        weight = network.family.head.weight
        uniforms = torch.rand(
            *shape, num_uniforms(network.family), dtype=weight.dtype, device=weight.device
        )
        return self.sample_from(uniforms, temperature, prefix)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Refused."""
        raise NotImplementedError(
            f"Draws of {self.network} have no gradient, they come step by step from caches: use "
            "sample, a score-function estimator, or a flow such as IAF."
        )

    def sample_from(
        self,
        uniforms: Tensor,
        temperature: float = 1.0,
        prefix: Tensor | None = None,
        *,
        cached: bool = True,
    ) -> Tensor:
        """The draws that uniform numbers (*batch, num_steps, size, num_uniforms) give; by a pass
        for each step, the naive way, where `cached` is False.
        """
        try:
            return self._sample_from(uniforms, temperature, prefix, cached)
        except RuntimeError as error:
            if in_torch_func():
                raise not_mapped(self.network) from error
            raise

    def _sample_from(
        self, uniforms: Tensor, temperature: float, prefix: Tensor | None, cached: bool
    ) -> Tensor:
        temperature = check_temperature(temperature)
        network, weight = self.network, self.network.family.head.weight
        uniforms = torch.as_tensor(uniforms, dtype=weight.dtype, device=weight.device)
        wanted = network.num_steps, network.size, num_uniforms(network.family)
        check_uniforms(network, uniforms.shape, wanted)
        if not ((uniforms >= 0) & (uniforms <= 1)).all():
            raise not_uniform(network)
        batch = torch.broadcast_shapes(uniforms.shape[:-3], self.batch_shape)
        uniforms = uniforms.expand(*batch, *wanted)
        known, num_known = None, 0
        if prefix is not None:
            known, num_known = self._known(torch.as_tensor(prefix), batch)
        uniforms = uniforms.reshape(-1, *wanted)
        run = _cached if cached else _naive
        with torch.inference_mode():
            given = noise(network.family, uniforms)
            values, total = run(network, self._context(batch), given, temperature, known, num_known)
        self._check_drawn(bool(total.isfinite().all()))
        values = values.clone()  # for gradients in what comes next
        return network.from_steps(values).reshape(*batch, *self.event_shape)

    def _check_drawn(self, finite: bool) -> None:
        if not finite:
            raise ValueError(
                f"{self.network} cannot be drawn from: some of its parameters are NaN or infinite; "
                "look at its weights and its context."
            )

    def _context(self, batch: tuple[int, ...]) -> Any:
        """The context with one batch dimension."""
        return spread(self.context, self.network.context_shape, batch)

    def _one_draw(self) -> Tensor:
        """What a step draws, for its type: a prefix of another one is made to be of it."""
        family, weight = self.network.family, self.network.family.head.weight
        given = noise(family, weight.new_full((self.network.size, num_uniforms(family)), 0.5))
        return draw(family, weight.new_zeros(family.num_params), given, 1.0)

    def _known(self, prefix: Tensor, batch: tuple[int, ...]) -> tuple[Tensor, int]:
        """The steps of values that begin with the prefix, and how many of them it tells."""
        network, axis = self.network, self.network.prefix_axis
        length = check_prefix(network, tuple(prefix.shape), network.event_shape, axis, batch)
        if not self.support.base_constraint.check(prefix).all():
            raise outside(network, "prefix")
        x = self._one_draw().new_zeros(*batch, *self.event_shape)
        x.narrow(axis - len(self.event_shape), 0, length).copy_(prefix)
        steps = network.num_steps * length // self.event_shape[axis]
        return network.to_steps(x.reshape(-1, *self.event_shape)), steps


def _cached(
    network: Any,
    context: Any,
    given: Tensor,
    temperature: float,
    known: Tensor | None,
    num_known: int,
) -> tuple[Tensor, Tensor]:
    """Values (batch, num_steps, size), by increments, and the sums of their parameters."""
    family, head = network.family, network.family.head
    state = network.begin(context, len(given))
    previous = given.new_zeros(len(given), network.in_features)
    values, total = [], given.new_zeros(len(given), family.num_params)
    for index, one in enumerate(given.unbind(1)):
        if index % network.block == 0:
            state = network.enter(state, index // network.block, previous)
        h, state = network.advance(state, index, previous)
        if known is not None and index < num_known:
            values.append(known[:, index])
        else:
            raw = head(h)
            values.append(draw(family, raw, one, temperature))
            total += raw
        previous = network.inputs(values[-1])
    return torch.stack(values, 1), total


def _naive(
    network: Any,
    context: Any,
    given: Tensor,
    temperature: float,
    known: Tensor | None,
    num_known: int,
) -> tuple[Tensor, Tensor]:
    """The same by a pass for each step."""
    family, head = network.family, network.family.head
    first = draw(family, given.new_zeros(len(given), family.num_params), given[:, 0], 1.0)
    values = first[:, None].expand(-1, network.num_steps, -1).clone() if known is None else known
    total = given.new_zeros(len(given), family.num_params)
    for index in range(num_known, network.num_steps):
        raw = head(network.features(network.inputs(values), context)[:, index])
        values[:, index] = draw(family, raw, given[:, index], temperature)
        total += raw
    return values, total
