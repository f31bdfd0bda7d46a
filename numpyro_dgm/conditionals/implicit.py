"""Implicit distributions: they can be drawn from, with gradients, but not scored.

x = g(eps, c),  eps ~ Normal(0, I),  for any network g: a generator as prior or likelihood, a guide
without a density.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape, context_size
from numpyro_dgm.conditionals.base import Conditional, size_of
from numpyro_dgm.nn.mlp import MLP

__all__ = ["Generator", "ImplicitDistribution", "NoDensityError"]


class NoDensityError(ValueError):
    """The density of an implicit distribution was asked for."""

    kind = "is implicit"

    def at(self, site: str) -> "NoDensityError":
        """The same of a site."""
        return type(self)(f"Site '{site}' {self.kind}. {self}")


class ImplicitDistribution(Distribution):
    """The distribution of what a sampler returns.

    Args:
        sampler: called with a batch shape (and in NumPyro a key), returns independent draws
            (*batch, *event).
        batch_shape: the shape of a batch of values.
        event_shape: .
        entries: the constraint that each entry of a draw keeps (default all real numbers).
        only: the one draw that there is (*batch, *event), as of a generator given its code; None
            where draws differ.

    Raises:
        NoDensityError: when it is asked for log_prob. NotImplementedError: for its mean and
            variance where draws differ.

    Example:
        >>> draw = lambda shape, key: jax.random.normal(key, (*shape, 2)).cumsum(-1)
        >>> d = ImplicitDistribution(draw, (3,), (2,))
        >>> d.sample(jax.random.key(0), (5,)).shape
        (5, 3, 2)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self,
        sampler: Callable,
        batch_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        *,
        entries: constraints.Constraint = constraints.real,
        only: Array | None = None,
    ) -> None:
        self.sampler, self.entries, self.only = sampler, entries, only
        super().__init__(tuple(batch_shape), tuple(event_shape), validate_args=True)

    @property
    def support(self) -> constraints.Constraint:
        """Arrays whose entries keep the constraint."""
        return constraints.independent(self.entries, len(self.event_shape))

    @property
    def mean(self) -> Array:
        """The one draw that there is; refused where draws differ."""
        if self.only is None:
            raise NotImplementedError("The mean of an implicit distribution is not known.")
        return jnp.broadcast_to(self.only, (*self.batch_shape, *self.event_shape))

    @property
    def variance(self) -> Array:
        """Zero where there is one draw; refused elsewhere."""
        return jnp.zeros_like(self.mean)

    def expand(self, batch_shape: tuple[int, ...]) -> "ImplicitDistribution":
        """The same distribution with a larger batch shape."""
        shapes = tuple(batch_shape), tuple(self.event_shape)
        return ImplicitDistribution(self.sampler, *shapes, entries=self.entries, only=self.only)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws (*sample_shape, *batch, *event), through which gradients pass."""
        return self.sampler((*sample_shape, *self.batch_shape), key)

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Raises NoDensityError."""
        raise NoDensityError(
            "An implicit distribution has no density: use a loss that needs none, such as "
            "RatioELBO, JensenShannon, Wasserstein, MMD or EnergyScore."
        )


class Generator(Conditional):
    """An implicit conditional:  x = g(eps, c),  eps ~ Normal(0, I), with an MLP g.

    As prior, guide or likelihood where the loss needs no density of it.

    Args:
        dim: a size or a shape.
        noise_dim: of eps (default: the size of x).
        hidden, activation: of g.
        context_shape: 0 = unconditional.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Cost:
        one pass of g per draw; no log_prob.

    Raises:
        ValueError: for a size below 1 or an unknown activation.
        NoDensityError: when its distribution is asked for log_prob.

    Example:
        >>> Generator(2, noise_dim=4, key=jax.random.key(0))().sample(jax.random.key(1), (5,)).shape
        (5, 2)
    """

    noise_dim: int = eqx.field(static=True)
    network: MLP

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        noise_dim: int | None = None,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        context_shape: ContextShape = 0,
        key: Array,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        entries = size_of(dim)
        self.noise_dim = entries if noise_dim is None else check_count("noise_dim", noise_dim)
        self.network = MLP(
            self.noise_dim + context_size(context_shape),
            hidden,
            size_of(dim),
            activation=activation,
            key=key,
        )

    def condition(self, context: Any) -> ImplicitDistribution:
        """The distribution given a checked context."""
        context = None if context is None else self.flat(context)

        def sampler(batch_shape: tuple[int, ...], key: Array) -> Array:
            inputs = jax.random.normal(
                key, (*batch_shape, self.noise_dim), self.network.layers[0].weight.dtype
            )
            if context is not None:
                inputs = jnp.concatenate(
                    [inputs, jnp.broadcast_to(context, (*batch_shape, context.shape[-1]))], -1
                )
            return self.network(inputs).reshape(*batch_shape, *self.event_shape)

        return ImplicitDistribution(
            sampler, () if context is None else context.shape[:-1], self.event_shape
        )

    def _sizes(self) -> tuple[str, ...]:
        return f"noise_dim={self.noise_dim}", f"hidden={self.network.hidden}"
