"""Flows: conditional distributions whose draws are noise under a stack of bijections, x = f_L(...
f_1(u)).

log p(x | c) = log p(u | c) - sum_l log |det df_l|,  u = f^-1(x; c).  Any value can be scored, also
one that was never drawn.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.arguments import check_instance, refuse
from dgm_core.contexts import ContextShape, shown_shape
from dgm_core.matching import check_size, no_path
from numpyro_dgm.conditionals import Conditional, DiagonalNormal, StandardNormal
from numpyro_dgm.conditionals.drawn import Drawn
from numpyro_dgm.flows.matching import matching_error
from numpyro_dgm.flows.solving import Noise, key_of_program, solving
from numpyro_dgm.flows.transform import Inverse, Transform
from numpyro_dgm.nn.contexts import batch_shape_of

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

    base: Conditional
    transforms: tuple[Transform, ...]

    def __init__(
        self,
        dim: int | tuple[int, ...],
        transforms: Sequence[Transform],
        *,
        context_shape: ContextShape = 0,
        base: Conditional | None = None,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        if base is None:
            base = (
                DiagonalNormal(dim, context_shape=context_shape, key=key)
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
        self.transforms = check_transforms(transforms)
        for transform in self.transforms:
            given = getattr(transform, "context_shape", ())
            if given not in ((), self.context_shape):
                raise ValueError(
                    "The transforms of a flow must have no context or its own, context_shape="
                    f"{shown_shape(self.context_shape)}, got {transform!r} with context_shape="
                    f"{shown_shape(given)}."
                )
            check_size(transform, self.event_shape)

    def condition(self, context: Any) -> "FlowDistribution":
        """The distribution given a checked context."""
        base = self.base.condition(context if self.base.context_shape else None)
        if context is not None and not self.base.context_shape:
            base = base.expand(batch_shape_of(context, self.context_shape))
        noisy = any(map(_draws_noise, self.transforms))
        key = key_of_program() if noisy else None
        return FlowDistribution(base, self.transforms, context, key=key)

    def inverse(self, base: Conditional | None = None) -> "Flow":
        """The flow with its directions exchanged, sharing the parameters: the implicit IAF of a
        MAF, and the other way round.

        Args:
            base: of the other side (default: standard normal).
        """
        dim = self.event_shape if len(self.event_shape) > 1 else self.event_shape[0]
        transforms = [
            t.transform if isinstance(t, Inverse) else Inverse(t) for t in reversed(self.transforms)
        ]
        base = StandardNormal(dim) if base is None else base
        return Flow(dim, transforms, context_shape=self.context_shape, base=base)

    @property
    def sample_cost(self) -> str:
        """What a draw costs, in words."""
        return " + ".join(dict.fromkeys(t.forward_cost for t in self.transforms)) or "nothing"

    @property
    def log_prob_cost(self) -> str:
        """What scoring any value costs, in words; one that was just drawn costs nothing more."""
        return " + ".join(dict.fromkeys(t.inverse_cost for t in self.transforms)) or "nothing"

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


class FlowDistribution(Distribution):
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

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("base", "transforms", "context", "noise_key")
    _drawn: Drawn | None = None
    _scored: Drawn | None = None

    def __init__(
        self,
        base: Distribution,
        transforms: Sequence[Transform],
        context: Array | None = None,
        *,
        key: Array | None = None,
    ) -> None:
        self.base, self.transforms, self.context = base, tuple(transforms), context
        self.noise_key = key
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def is_estimated(self) -> bool:
        """Whether log_prob is an estimate, by random probes."""
        return any(map(_draws_noise, self.transforms))

    @property
    def has_rsample(self) -> bool:
        """Whether gradients pass through draws."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """All real vectors."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: tuple[int, ...]) -> "FlowDistribution":
        """The same distribution with a larger batch shape."""
        base = self.base.expand(batch_shape)
        return FlowDistribution(base, self.transforms, self.context, key=self.noise_key)

    def rsample_and_log_prob(
        self, rng_key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Draws (*sample_shape, *batch, *event) and their log-densities (*sample_shape, *batch), in
        one forward pass.
        """
        u = self.base.sample(rng_key, sample_shape).astype(self._dtype)
        x, log_det = self.forward_and_log_det(u)
        noise = self.base.log_prob(u)
        self._drawn = Drawn(x, noise - log_det, noise)
        return x, self._drawn.log_prob

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws, through which gradients pass if the base is reparameterized."""
        return self.sample_with_intermediates(key, sample_shape)[0]

    def sample_with_intermediates(
        self, key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        """Draws, and what `log_prob` needs to score them without another pass."""
        x, log_prob = self.rsample_and_log_prob(key, sample_shape)
        return (x, [log_prob]) if self.has_rsample else (jax.lax.stop_gradient(x), [])

    def log_prob(self, value: Array, intermediates: list[Array] | None = None) -> Array:
        """log p(value): (*batch, *event) -> (*batch,)."""
        if intermediates:
            return intermediates[0]
        for found in (self._drawn, self._scored):
            if found and (known := found.score(value)) is not None:
                return known
        return self._score(value)

    def transport_costs(self, value: Array) -> dict[str, Array]:
        """What the paths of the continuous transforms cost on the way to a value, (*batch,) each:
        "kinetic", int |v|^2 dt, and "jacobian", int |dv/dx|^2 dt, the sum over the entries of a
        matrix; estimated where the trace is.

        Raises:
            ValueError: for a flow without such transforms.
        """
        if not self._scored or self._scored.score(value) is None:
            notes: list[dict[str, Array]] = []
            log_prob = self._score(value, notes)
            if not notes:
                raise ValueError(no_path(list(map(repr, self.transforms))))
            costs = {name: sum(note[name] for note in notes) for name in notes[0]}
            self._scored = Drawn(value, log_prob, costs)
        return self._scored.noise

    def flow_matching(self, value: Array, *, coupling: str = "independent", key: Array) -> Array:
        """The squared error of the velocity on straight lines to a value, (*batch,): what the term
        `FlowMatching` minimizes.
        """
        return matching_error(self, value, coupling, key=key)

    def _score(self, value: Array, notes: list[dict[str, Array]] | None = None) -> Array:
        """log p(value), by the inverse."""
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            value = jnp.asarray(value, jnp.result_type(float))
        value = jnp.broadcast_to(
            value, jnp.broadcast_shapes(jnp.shape(value), self.batch_shape + self.event_shape)
        )
        u, log_det = self._through(value, notes, back=True)
        return self.base.log_prob(u) + log_det

    def negative_entropy(self, value: Array) -> Array:
        """E log p(x), from a value that was just drawn:  log p(x) with the log-density of its noise
        replaced by the mean of that,  - H(base) - log |det dx/du|.

        Raises:
            ValueError: for any other value, and a base whose entropy has no closed form.
        """
        if not self._drawn or self._drawn.score(value) is None:
            raise ValueError(
                "The entropy of a flow is found from what it has just drawn, got another value."
            )
        return self._drawn.log_prob - self._drawn.noise - self._entropy()

    def _entropy(self) -> Array:
        """That of the noise."""
        try:
            return self.base.entropy()
        except NotImplementedError:
            raise ValueError(
                f"The noise of the flow, {self.base}, has no entropy in closed form."
            ) from None

    def forward_and_log_det(self, u: Array) -> tuple[Array, Array]:
        """x = f(u) and log |det dx/du| (*batch,)."""
        return self._through(u, None, back=False)

    def inverse_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """u = f^-1(x) and log |det du/dx| (*batch,)."""
        return self._through(x, None, back=True)

    def _through(
        self, value: Array, notes: list[dict[str, Array]] | None, *, back: bool
    ) -> tuple[Array, Array]:
        total: Array | float = 0.0
        order = range(len(self.transforms))
        for index in reversed(order) if back else order:
            transform = self.transforms[index]
            move = transform.inverse_and_log_det if back else transform.forward_and_log_det
            given = getattr(transform, "context_shape", True)  # () takes none
            with solving(Noise(self.noise_key), index, notes):
                value, log_det = move(value, self.context if given else None)
            total = total + log_det
        return value, self._whole(total, value)

    @property
    def _dtype(self) -> jnp.dtype:
        """The type of the weights and the context, which draws of the base may not change."""
        leaves = jax.tree.leaves(eqx.filter((self.transforms, self.context), eqx.is_inexact_array))
        return jnp.result_type(*(leaves or [jnp.zeros(())]))

    def _whole(self, log_det: Array | float, value: Array) -> Array:
        batch = value.shape[: value.ndim - len(self.event_shape)]
        return jnp.broadcast_to(jnp.asarray(log_det, value.dtype), batch)


def _draws_noise(transform: Transform) -> bool:
    """Whether a transform, or one inside it, estimates its log-determinant."""
    parts = jax.tree.leaves(transform, is_leaf=lambda part: getattr(part, "draws_noise", False))
    return any(getattr(part, "draws_noise", False) for part in parts)
