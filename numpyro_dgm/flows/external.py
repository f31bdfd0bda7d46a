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

from numpyro_dgm.conditionals import Conditional

__all__ = ["ExternalFlow"]


class ExternalFlow(Conditional):
    """A flow of another library, wherever a conditional is accepted: in Pyro a zuko flow, in
    NumPyro a FlowJAX distribution.

    Args: flow, the other library's object; dim, the size of its values; context_dim (0 =
        unconditional).
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Cost: the other library's, which inverts an autoregressive flow in dim passes.
    Raises: ValueError if the flow is not what it must be, or its sizes are others.

    >>> from flowjax.distributions import StandardNormal
    >>> from flowjax.flows import coupling_flow
    >>> inner = coupling_flow(jax.random.key(0), base_dist=StandardNormal((2,)), cond_dim=3)
    >>> flow = ExternalFlow(inner, 2, context_dim=3)
    >>> flow(jnp.zeros((5, 3))).log_prob(jnp.zeros(2)).shape
    (5,)
    """

    flow: Any

    def __init__(self, flow: Any, dim: int, *, context_dim: int = 0) -> None:
        super().__init__(dim, context_dim=context_dim)
        known = isinstance(flow, eqx.Module) and hasattr(flow, "cond_shape")
        if not known:
            raise ValueError(
                "flow must be a FlowJAX distribution, such as "
                f"flowjax.flows.masked_autoregressive_flow(...), got {flow!r}."
            )
        if flow.cond_shape != ((context_dim,) if context_dim else None):
            raise ValueError(
                f"The flow does not take a context of {context_dim} entries: its cond_shape is "
                f"{flow.cond_shape}."
            )
        if flow.shape != self.event_shape:
            raise ValueError(
                f"The flow must give values of shape {self.event_shape}, got {flow.shape}."
            )
        self.flow = flow

    def condition(self, context: Array | None) -> Distribution:
        """The distribution given a checked context."""
        return _External(self.flow, context, () if context is None else context.shape[:-1])


class _External(Distribution):
    """What NumPyro asks of a distribution."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("inner", "context")
    has_rsample = True

    def __init__(self, inner: Any, context: Array | None, batch_shape: tuple[int, ...]) -> None:
        self.inner, self.context = inner, context
        super().__init__(tuple(batch_shape), inner.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: tuple[int, ...]) -> "_External":
        return _External(self.inner, self.context, batch_shape)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def sample_with_intermediates(
        self, key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        batch = (*sample_shape, *self.batch_shape)
        if self.context is None:
            x, log_prob = self.inner.sample_and_log_prob(key, batch)
            return x, [log_prob]
        context = jnp.broadcast_to(self.context, (*batch, self.context.shape[-1]))
        keys = jax.random.split(key, prod(batch))
        draw = jax.vmap(lambda key, c: self.inner.sample_and_log_prob(key, condition=c))
        x, log_prob = draw(keys, context.reshape(-1, context.shape[-1]))
        return x.reshape(*batch, *self.event_shape), [log_prob.reshape(batch)]

    def log_prob(self, value: Array, intermediates: list[Array] | None = None) -> Array:
        if intermediates:
            return intermediates[0]
        value = jnp.broadcast_to(
            value, jnp.broadcast_shapes(jnp.shape(value), (*self.batch_shape, *self.event_shape))
        )
        return self.inner.log_prob(value, self.context)
