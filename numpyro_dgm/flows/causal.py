"""Flows over time: inverse autoregressive layers whose network is a stack of causal convolutions,
as the student of Parallel WaveNet.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_instance, check_shape
from dgm_core.causal import steps_of
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals import Conditional, StandardLogistic
from numpyro_dgm.flows.flow import Flow
from numpyro_dgm.flows.scalar import Affine, ScalarMap
from numpyro_dgm.flows.transform import Transform
from numpyro_dgm.nn.causal import CausalStack
from numpyro_dgm.nn.causal_steps import Steps
from numpyro_dgm.nn.contexts import batch_shape_of, spread
from numpyro_dgm.nn.layers import Linear

__all__ = ["CausalAutoregressive", "ParallelWaveNet"]


class CausalAutoregressive(Transform):
    """An autoregressive transform over time:  x_t = h(u_t; raw_t(u_<t, c)),  raw from a
    `CausalStack`.

    Args:
        dim: T, or (T, D) for D entries at each step, which do not see each other.
        scalar: the map h (default `Affine()`).
        channels, dilations, kernel_size, context_shape, activation: as in `CausalStack`.

    Shapes:
        u and x (*batch, *dim), context (*batch, *context_shape) -> value (*batch, *dim) and log-
        determinant (*batch,).

    Cost:
        forward one pass; inverse about one pass of arithmetic in T steps, times what the scalar
        map's inverse costs, and its gradients about as much again.

    Raises:
        ValueError: for a dim of more than two axes, and as `CausalStack` does.

    Example:
        >>> u = jax.random.normal(jax.random.key(0), (7, 16))
        >>> transform = CausalAutoregressive(16, dilations=(1, 2, 4), key=jax.random.key(0))
        >>> x, _ = transform.forward_and_log_det(u)
        >>> bool(jnp.allclose(transform.inverse_and_log_det(x)[0], u, atol=1e-5))
        True
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    scalar: ScalarMap = eqx.field(static=True)
    stack: CausalStack
    head: Linear

    def __init__(
        self,
        dim: int | tuple[int, ...],
        scalar: ScalarMap | None = None,
        *,
        channels: int = 32,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        kernel_size: int = 2,
        context_shape: ContextShape = 0,
        activation: str = "relu",
        key: Array,
    ) -> None:
        key_stack, key_head = jax.random.split(key)
        steps, size = steps_of(dim)
        self.shape = check_shape("dim", dim)
        scalar = Affine() if scalar is None else scalar
        self.scalar = check_instance("scalar", scalar, ScalarMap, "a scalar map such as Affine()")
        self.stack = CausalStack(
            size,
            channels,
            steps,
            channels=channels,
            dilations=dilations,
            kernel_size=kernel_size,
            context_shape=context_shape,
            activation=activation,
            key=key_stack,
        )
        head = Linear(channels, size * scalar.num_params, key=key_head)
        # near raw = 0, which is the identity for most scalar maps
        self.head = jax.tree.map(lambda parameter: 0.01 * parameter, head)

    @property
    def context_shape(self) -> tuple[Any, ...]:
        """The shape of its context."""
        return self.stack.context_shape

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        steps = f"one pass in {self.shape[0]} steps"
        return (
            steps
            if self.scalar.inverse_cost == "closed form"
            else f"{steps} of {self.scalar.inverse_cost}"
        )

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        steps = self._steps(u)
        x, log_slope = self.scalar(steps, self._raw(self.stack(steps, context)))
        return x.reshape(*x.shape[:-2], *self.shape), log_slope.sum((-2, -1))

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        steps = self._steps(x)
        batch = jnp.broadcast_shapes(steps.shape[:-2], batch_shape_of(context, self.context_shape))
        steps = jnp.broadcast_to(steps, (*batch, *steps.shape[-2:]))
        u, log_slope = self._solve(steps, context, batch)
        return u.reshape(*batch, *self.shape), log_slope.sum((-2, -1))

    def _steps(self, x: Array) -> Array:
        """Values as (*batch, T, D)."""
        return x if len(self.shape) > 1 else x[..., None]

    def _raw(self, features: Array) -> Array:
        """The parameters (..., D, num_params) of steps with these features."""
        raw = self.head(features)
        return raw.reshape(*raw.shape[:-1], -1, self.scalar.num_params)

    def _solve(self, x: Array, context: Any, batch: tuple[int, ...]) -> tuple[Array, Array]:
        """u and log-slopes, step by step."""
        x = x.reshape(-1, *x.shape[-2:])
        features = Steps(self.stack, spread(context, self.context_shape, batch), len(x))

        def step(state: Any, at: Any) -> Any:
            (buffer, previous), (index, value) = state, at
            h, buffer = features(buffer, index, previous)
            u, log_slope = self.scalar.invert(value, self._raw(h))
            return (buffer, u), (u, log_slope)

        steps = jnp.arange(x.shape[1]), x.swapaxes(0, 1)
        start = features.empty(), jnp.zeros_like(x[:, 0])
        _, found = jax.lax.scan(step, start, steps)
        u, log_slope = (parts.swapaxes(0, 1) for parts in found)
        return u.reshape(*batch, *u.shape[1:]), log_slope.reshape(*batch, *u.shape[1:])

    def __repr__(self) -> str:
        return f"CausalAutoregressive({self.scalar}, {self.stack})"


class ParallelWaveNet(Flow):
    """A WaveNet that draws all steps of x in one pass, an inverse autoregressive flow over time:
    layer by layer x_t = m_t(u_<t, c) + exp(a_t(u_<t, c)) u_t,  noise ~ Logistic(0, 1).

    Given the noise before t, x_t is logistic with scale s_t, the product of the layers' exp(a_t):
    the entropy of x is E sum_t (log s_t + 2), which `Distillation(teacher, analytic_entropy=True)`
    uses.

    Args:
        dim: T, or (T, D).
        context_shape: as in `CausalStack`.
        num_layers: inverse autoregressive layers, all in the order of time.
        channels, dilations, kernel_size, activation: of each layer's network.
        base: (default StandardLogistic(dim)).

    Attributes:
        receptive_field: how much past noise x_t depends on, the sum over the layers.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Cost:
        of each layer: draws with their log-density one pass; log_prob of any other value about one
        pass of arithmetic in T steps.

    Raises:
        ValueError: if num_layers < 1, and as `CausalAutoregressive` does.

    References:
        van den Oord et al. (2018), arXiv:1711.10433.

    Example:
        >>> student = ParallelWaveNet(16, num_layers=2, dilations=(1, 2), key=jax.random.key(0))
        >>> student().sample(jax.random.key(0), (7,)).shape, student.receptive_field
        ((7, 16), 8)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 4,
        channels: int = 32,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        kernel_size: int = 2,
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        keys = jax.random.split(key, check_count("num_layers", num_layers))
        layers = [
            CausalAutoregressive(
                dim,
                channels=channels,
                dilations=dilations,
                kernel_size=kernel_size,
                context_shape=context_shape,
                activation=activation,
                key=k,
            )
            for k in keys
        ]
        base = StandardLogistic(dim) if base is None else base
        super().__init__(dim, layers, context_shape=context_shape, base=base)

    @property
    def receptive_field(self) -> int:
        """The number of past noises that a step depends on."""
        layers: list[Any] = list(self.transforms)
        return sum(layer.stack.receptive_field for layer in layers)

    def _sizes(self) -> tuple[str, ...]:
        return (f"num_layers={len(self.transforms)}",)
