"""Roots of increasing functions of one number: for the directions of flows that have no closed
form.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

# bisection alone needs about as many to halve a bracket of width 1e3 down to the rounding error in
# float64
__all__ = ["increasing_root"]

_MAX_STEPS = 64


def increasing_root(
    function: Callable[..., tuple[Array, Array]],
    target: Array,
    lower: Array,
    upper: Array,
    *params: Array,
) -> Array:
    """v with function(v, *params) = target, entry by entry, for a function that is increasing in v.

    Newton's method inside a bracket; a step that leaves the bracket, or is not half as long as the
    one before, is replaced by bisection, so that the search always converges, to the rounding
    error.

    Gradients (in target and params) follow the implicit function theorem, dv = (dtarget -
    dfunction) / slope: a Newton step at the root changes nothing but has these derivatives, and two
    steps have those of up to third order.

    Args:
        function: v and params -> values and the logarithm of the slope.
        target: what the function shall be equal to.
        lower, upper: values around the root.
        params: the tensors that the function depends on.

    Shapes:
        all broadcast against each other, as far as the function allows.

    Cost:
        about 10 evaluations of the function for a whole batch, at most 64; then two with gradients.
        The search stops when every entry has converged, so that in torch, where a captured graph
        cannot stop early, a step with a root search is not compiled.

    Example:
        >>> cubic = lambda v: (v + v**3, jnp.log(1 + 3 * v**2))
        >>> increasing_root(cubic, jnp.array(10.0), jnp.array(0.0), jnp.array(10.0))
        Array(2., dtype=float32)
    """
    v = _search(function, *map(jax.lax.stop_gradient, (target, lower, upper, *params)))
    for _ in range(2):
        value, log_slope = function(v, *params)
        gap = value - target
        v = v - _newton_step(gap - jax.lax.stop_gradient(gap), log_slope)
    return v


def _newton_step(gap: Array, log_slope: Array) -> Array:
    return gap * jnp.exp(
        jnp.minimum(-log_slope, 30.0)
    )  # large but finite where the function is flat


def _search(
    function: Callable[..., tuple[Array, Array]],
    target: Array,
    lower: Array,
    upper: Array,
    *params: Array,
) -> Array:
    precision = 4 * jnp.finfo(target.dtype).eps
    middle = (lower + upper) / 2
    shape = jnp.broadcast_shapes(jax.eval_shape(function, middle, *params)[0].shape, target.shape)
    start = tuple(
        jnp.broadcast_to(x, shape).astype(target.dtype)
        for x in (middle, upper - lower, lower, upper)
    )

    def unfinished(state: tuple[Array, ...]) -> Array:
        index, done, *_ = state
        return (index < _MAX_STEPS) & ~done.all()

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        index, done, v, step, lower, upper = state
        value, log_slope = function(v, *params)
        gap = value - target
        lower, upper = jnp.where(gap < 0, v, lower), jnp.where(gap < 0, upper, v)
        newton = jnp.clip(v - _newton_step(gap, log_slope), lower, upper)
        small = precision * jnp.maximum(jnp.abs(v), 1.0)
        done = (jnp.abs(gap) <= precision * jnp.maximum(jnp.abs(target), 1.0)) | (
            jnp.abs(newton - v) <= small
        )
        fast = done | (2 * jnp.abs(newton - v) <= jnp.abs(step))
        new = jnp.where(fast, newton, (lower + upper) / 2)
        return index + 1, done, new, new - v, lower, upper

    return jax.lax.while_loop(unfinished, advance, (jnp.array(0), jnp.zeros(shape, bool), *start))[
        2
    ]
