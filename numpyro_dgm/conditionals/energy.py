"""Densities that are known up to a constant:  p(x | c) = exp(-E(x, c)) / Z(c).

Everything that needs no Z is there: the unnormalized log-density, its gradient, draws by a Markov
chain. What needs it is refused, in words.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.arguments import check_callable, check_count, check_instance, refuse
from dgm_core.contexts import ContextShape, context_size
from dgm_core.energies import (
    UNKNOWN_BASE,
    UNNORMALIZED,
    check_energy,
    check_potential,
    check_values,
)
from dgm_core.kernels import check_kernel
from numpyro_dgm.conditionals.base import Conditional, required_key, size_of
from numpyro_dgm.conditionals.implicit import NoDensityError
from numpyro_dgm.conditionals.normal import StandardNormal
from numpyro_dgm.mcmc import MALA, Kernel, chain, start
from numpyro_dgm.mcmc.base import summed
from numpyro_dgm.nn.functions import check_function
from numpyro_dgm.nn.mlp import MLP

__all__ = [
    "Energy",
    "NormalizedDistribution",
    "UnnormalizedConditional",
    "UnnormalizedDistribution",
    "UnnormalizedError",
]


class UnnormalizedError(NoDensityError):
    """The normalized density of a distribution was asked for that knows it up to a constant."""

    kind = "is unnormalized"


class UnnormalizedDistribution(Distribution):
    """A distribution whose log-density is known up to a constant.

    Args:
        potential: log p(x) + ln Z, of values (*sample, *batch, *event) -> (*sample, *batch).
        base: a distribution of the same values that can be drawn from and scored: where chains
            start, and what ln Z is estimated from.
        kernel: of `mcmc`, whose transitions draw.
        num_steps: transitions from a draw of the base to a draw.

    Attributes:
        alone: the distribution as it was made, without the batch of the plates around it.

    Raises:
        UnnormalizedError: when it is asked for log_prob.

    Draws are those of a chain that has not run for ever, and no gradient passes through them.

    Example:
        >>> base = StandardNormal(2)()
        >>> d = UnnormalizedDistribution(lambda x: -(x**4).sum(-1), base, MALA(0.5), 20)
        >>> d.sample(jax.random.key(0), (5,)).shape, d.unnormalized_log_prob(jnp.ones(2)).item()
        ((5, 2), -2.0)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False
    pytree_data_fields = ("potential", "base", "kernel", "_alone")
    pytree_aux_fields = ("num_steps",)

    def __init__(
        self,
        potential: Callable[[Array], Array],
        base: Distribution,
        kernel: Kernel,
        num_steps: int = 1,
        *,
        alone: "UnnormalizedDistribution | None" = None,
    ) -> None:
        if isinstance(base, UnnormalizedDistribution):
            raise ValueError(UNKNOWN_BASE)
        self.potential, self.base, self.kernel, self.num_steps = potential, base, kernel, num_steps
        self._alone = alone
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def alone(self) -> "UnnormalizedDistribution":
        """The distribution as it was made, without the batch of the plates around it."""
        return self if self._alone is None else self._alone

    @property
    def support(self) -> constraints.Constraint:
        """That of the base."""
        return self.base.support

    def expand(self, batch_shape: tuple[int, ...]) -> "UnnormalizedDistribution":
        """The same distribution with a larger batch shape."""
        base = self.base.expand(tuple(batch_shape))
        return UnnormalizedDistribution(
            self.potential, base, self.kernel, self.num_steps, alone=self.alone
        )

    def unnormalized_log_prob(self, value: Array) -> Array:
        """log p(x) + ln Z, (*sample, *batch)."""
        batch = check_values(value.shape, self.event_shape)
        found = self.potential(value)
        check_potential(found.shape, batch)
        return jnp.broadcast_to(found, jnp.broadcast_shapes(found.shape, self.batch_shape))

    def log_ratio(self, value: Array) -> Array:
        """log p(x) + ln Z - log base(x), whose mean exponential over draws of the base is Z."""
        return self.unnormalized_log_prob(value) - self.base.log_prob(value)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """The ends of chains (*sample_shape, *batch, *event), each from a draw of the base."""
        first, second = jax.random.split(key)
        position = self.base.sample(first, tuple(sample_shape))
        last, _, _ = chain(
            self.kernel, self.unnormalized_log_prob, position, self.num_steps, key=second
        )
        return jax.lax.stop_gradient(last.position)

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Raises UnnormalizedError."""
        raise UnnormalizedError(UNNORMALIZED)


class NormalizedDistribution(Distribution):
    """An unnormalized distribution with a constant that was found elsewhere:
    log p(x) = potential(x) - ln Z.

    Args:
        unnormalized, log_z: the distribution, and ln Z.
        frozen: whether gradients of log p(x) reach x alone, as they do where another term trains
            the potential.

    Example:
        >>> d = UnnormalizedDistribution(lambda x: -(x**2).sum(-1) / 2, StandardNormal(1)(),
        ...                              MALA(0.5))
        >>> round(NormalizedDistribution(d, 0.91894).log_prob(jnp.zeros(1)).item(), 4)
        -0.9189
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False
    pytree_data_fields = ("unnormalized", "log_z")
    pytree_aux_fields = ("frozen",)

    def __init__(
        self, unnormalized: UnnormalizedDistribution, log_z: Any, *, frozen: bool = False
    ) -> None:
        self.unnormalized, self.log_z, self.frozen = unnormalized, log_z, frozen
        super().__init__(unnormalized.batch_shape, unnormalized.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """That of the unnormalized distribution."""
        return self.unnormalized.support

    def expand(self, batch_shape: tuple[int, ...]) -> "NormalizedDistribution":
        """The same distribution with a larger batch shape."""
        wide = self.unnormalized.expand(batch_shape)
        return NormalizedDistribution(wide, self.log_z, frozen=self.frozen)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of the unnormalized distribution."""
        return self.unnormalized.sample(key, sample_shape)

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """log p(x), (*sample, *batch)."""
        potential = self.unnormalized.unnormalized_log_prob
        if not self.frozen:
            return potential(value) - self.log_z
        given = jax.lax.stop_gradient(value)
        state = jax.lax.stop_gradient(start(potential, given))
        along = summed(state.gradient * (value - given), state.log_density)
        return state.log_density + along - self.log_z


class UnnormalizedConditional(Conditional):
    """What conditionals have in common whose density a network states up to a constant.

    Args:
        dim: a size or a shape.
        net: from values (num, *event) to one number each, (num,) or (num, 1); with a context from
            vectors (num, entries + context entries), the value and then the context. Left out, an
            MLP with 128, 128 silu units.
        kernel: that draws (default MALA(0.1)).
        num_steps: transitions from a draw of the base to a draw.
        context_shape: 0 = unconditional.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).
    """

    net: Any
    flattens: bool = eqx.field(static=True)
    kernel: Any = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, ...],
        net: eqx.Module | None = None,
        *,
        kernel: Kernel | None = None,
        num_steps: int = 100,
        context_shape: ContextShape = 0,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        size = size_of(dim) + (context_size(self.context_shape) if self.context_shape else 0)
        what = "a module from values to one number each"
        self.flattens = net is None
        if net is None:
            drawn = required_key(key, type(self).__name__)
            self.net = MLP(size, (128, 128), 1, activation="silu", key=drawn)
        else:
            self.net = check_function("network of an energy", check_callable("net", net, what))
        self.kernel = MALA(0.1) if kernel is None else check_kernel("kernel", kernel)
        self.num_steps = check_count("num_steps", num_steps)

    def output(self, value: Array, context: Array | None) -> Array:
        """The network's number for each value (*batch, *event), given a flat context."""
        ndim = value.ndim - len(self.event_shape)
        batch = value.shape[:ndim]
        size = size_of(self.event_shape)
        if context is None:
            event = (size,) if self.flattens else self.event_shape
            inputs = value.reshape(-1, *event)
        else:
            batch = jnp.broadcast_shapes(batch, context.shape[:-1])
            parts = (value.reshape(*value.shape[:ndim], size), context)
            wide = [jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in parts]
            inputs = jnp.concatenate(wide, -1).reshape(-1, size + context.shape[-1])
        found = self.net(inputs)
        check_energy(tuple(found.shape), len(inputs), self.net)
        return found.reshape(batch)

    def _sizes(self) -> tuple[str, ...]:
        return () if self.flattens else (repr(self.net).splitlines()[0],)


class Energy(UnnormalizedConditional):
    """An energy-based model:  p(x | c) = exp(-E(x, c)) / Z(c),  E a network.

    As a density it is trained by ContrastiveDivergence, ScoreMatching, DenoisingScoreMatching,
    NoiseContrastive. Z must be finite: E has to grow with |x|, as x^T x / 2 plus a bounded network
    does; `Tilted(StandardNormal(dim), net)` brings that by itself.

    Args:
        dim, net, kernel, num_steps, context_shape: see `UnnormalizedConditional`; the network's
            number is E.
        base: a conditional without context, where chains start and what ln Z is estimated from
            (default StandardNormal(dim)).

    Cost:
        num_steps gradients of E per draw; no log_prob.

    Raises:
        UnnormalizedError: when its distribution is asked for log_prob.
        ValueError: for bad sizes, and a network that does not give one number per value, or whose
            number is not that of the value alone, the same at every call: drop-out, batch and
            spectral normalization.

    References:
        LeCun et al. (2006), A tutorial on energy-based learning.

    Example:
        >>> net = MLP(2, (8,), 1, activation="silu", key=jax.random.key(0))
        >>> p = Energy(2, net, num_steps=3)()
        >>> x = p.sample(jax.random.key(1), (5,))
        >>> x.shape, p.unnormalized_log_prob(x).shape
        ((5, 2), (5,))
    """

    base: Conditional

    def __init__(
        self,
        dim: int | tuple[int, ...],
        net: eqx.Module | None = None,
        *,
        base: Conditional | None = None,
        kernel: Kernel | None = None,
        num_steps: int = 100,
        context_shape: ContextShape = 0,
        key: Array | None = None,
    ) -> None:
        super().__init__(
            dim, net, kernel=kernel, num_steps=num_steps, context_shape=context_shape, key=key
        )
        if base is not None:
            what = f"a conditional without context of shape {self.event_shape}"
            check_instance("base", base, Conditional, what)
            if base.event_shape != self.event_shape or base.context_shape:
                refuse("base", what, base)
        self.base = StandardNormal(dim) if base is None else base

    def condition(self, context: Any) -> UnnormalizedDistribution:
        """The distribution given a checked context."""
        given = None if context is None else self.flat(context)
        base = self.base()
        base = base if given is None else base.expand(given.shape[:-1])
        potential = eqx.Partial(self.potential, given)
        return UnnormalizedDistribution(potential, base, self.kernel, self.num_steps)

    def potential(self, context: Array | None, value: Array) -> Array:
        """-E(x, c)."""
        return -self.output(value, context)
