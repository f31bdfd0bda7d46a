"""Flows of other libraries as conditionals: any zuko flow in Pyro, any FlowJAX distribution in
NumPyro.
"""

from math import prod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from dgm_core.contexts import ContextShape, context_size
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.conditionals.drawn import Drawn

__all__ = ["ExternalFlow"]


class ExternalFlow(Conditional):
    """A flow of another library, wherever a conditional is accepted: in Pyro a zuko flow, in
    NumPyro a FlowJAX distribution.

    Args:
        flow: the other library's object.
        dim: the size of its values.
        context_shape: 0 = unconditional.
        support: of its values (None: what the flow says, else all real vectors).

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Cost:
        the other library's, which inverts an autoregressive flow in dim passes.

    Raises:
        ValueError: if the flow is not what it must be, its sizes are others, it cannot be drawn
            from, or its support is not known; mixtures give draws without gradients.

    Example:
        >>> from flowjax.distributions import StandardNormal
        >>> from flowjax.flows import coupling_flow
        >>> inner = coupling_flow(jax.random.key(0), base_dist=StandardNormal((2,)), cond_dim=3)
        >>> flow = ExternalFlow(inner, 2, context_shape=3)
        >>> flow(jnp.zeros((5, 3))).log_prob(jnp.zeros(2)).shape
        (5,)
    """

    flow: Any
    given_support: Any = eqx.field(static=True)

    def __init__(
        self,
        flow: Any,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        support: constraints.Constraint | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        entries = context_size(context_shape)
        known = isinstance(flow, eqx.Module) and hasattr(flow, "cond_shape")
        if not known:
            raise ValueError(
                "flow must be a FlowJAX distribution, such as "
                f"flowjax.flows.masked_autoregressive_flow(...), got {flow!r}."
            )
        if flow.cond_shape != ((entries,) if entries else None):
            raise ValueError(
                f"The flow does not take a context of {entries} entries: its cond_shape is "
                f"{flow.cond_shape}."
            )
        if flow.shape != self.event_shape:
            raise ValueError(
                f"The flow must give values of shape {self.event_shape}, got {flow.shape}."
            )
        self.flow, self.given_support = flow, support
        try:
            jax.eval_shape(self.condition(self._nothing()).sample, jax.random.key(0))
        except Exception as error:
            raise ValueError(f"The flow cannot be drawn from: {error!r}.") from error
        if support is None and not _is_traced(flow):
            points = jnp.array([-10.0, 0.0, 10.0])[:, None] * jnp.ones(dim)
            if not jnp.isfinite(flow.log_prob(points, self._nothing())).all():
                raise ValueError(
                    "The density of the flow is zero or not defined at some of -10, 0 and 10: say "
                    f"what its support is, as in ExternalFlow(flow, {dim}, "
                    "support=constraints.independent(constraints.positive, 1))."
                )

    def condition(self, context: Any) -> Distribution:
        """The distribution given a checked context."""
        context = None if context is None else self.flat(context)
        batch_shape = () if context is None else context.shape[:-1]
        return _External(self.flow, context, batch_shape, self.given_support)

    def _nothing(self) -> Array | None:
        """A context of zeros, or None without one."""
        return jnp.zeros(self.context_shape) if self.context_shape else None


class _External(Distribution):
    """What NumPyro asks of a distribution."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("inner", "context")
    pytree_aux_fields = ("given_support",)
    _drawn: Drawn | None = None

    def __init__(
        self, inner: Any, context: Array | None, batch_shape: tuple[int, ...], support: Any
    ) -> None:
        self.inner, self.context, self.given_support = inner, context, support
        checked = None if support is not None else False
        super().__init__(tuple(batch_shape), inner.shape, validate_args=checked)

    @property
    def has_rsample(self) -> bool:
        return _is_reparameterized(self.inner)

    @property
    def support(self) -> constraints.Constraint:
        real = constraints.independent(constraints.real, len(self.event_shape))
        return real if self.given_support is None else self.given_support

    def expand(self, batch_shape: tuple[int, ...]) -> "_External":
        return _External(self.inner, self.context, batch_shape, self.given_support)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def sample_with_intermediates(
        self, key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        batch = (*sample_shape, *self.batch_shape)
        if self.context is None:
            x, log_prob = self.inner.sample_and_log_prob(key, batch)
        else:
            context = jnp.broadcast_to(self.context, (*batch, self.context.shape[-1]))
            keys = jax.random.split(key, prod(batch))
            draw = jax.vmap(lambda key, c: self.inner.sample_and_log_prob(key, condition=c))
            x, log_prob = draw(keys, context.reshape(-1, context.shape[-1]))
            x, log_prob = x.reshape(*batch, *self.event_shape), log_prob.reshape(batch)
        if not self.has_rsample:
            return jax.lax.stop_gradient(x), []
        self._drawn = Drawn(x, log_prob)
        return x, [log_prob]

    @validate_sample
    def log_prob(self, value: Array, intermediates: list[Array] | None = None) -> Array:
        if intermediates:
            return intermediates[0]
        if self._drawn and (known := self._drawn.score(value)) is not None:
            return known
        value = jnp.broadcast_to(
            value, jnp.broadcast_shapes(jnp.shape(value), (*self.batch_shape, *self.event_shape))
        )
        return self.inner.log_prob(value, self.context)


def _is_traced(flow: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(flow))


def _is_reparameterized(part: Any) -> bool:
    """Whether gradients pass through all of a draw: no part of it picks a component, and none says
    `has_rsample = False`.
    """
    if type(part).__name__ == "VmapMixture" or getattr(part, "has_rsample", True) is False:
        return False
    inner = vars(part).values() if isinstance(part, eqx.Module) else ()
    return all(map(_is_reparameterized, inner))
