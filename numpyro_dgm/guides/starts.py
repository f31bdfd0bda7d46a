"""Where a joint vector starts, on the real line: at prior draws, at the mode, at values given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpyro import handlers

from dgm_core.arguments import check_choice
from dgm_core.guides import LatentSite, Outline, no_starts
from dgm_core.vectors import no_hessian, no_mode, places, start_shape
from numpyro_dgm.guides.line import OnLine, stated
from numpyro_dgm.guides.program import Call, Placed, aside, run_program
from numpyro_dgm.guides.supports import determined, real_line

__all__: list[str] = []  # for the package, not for users

Init = str | Mapping[str, Any] | None
NUM_DRAWS = 64
MOST = 100  # entries of a vector whose curvature is looked at where no start is asked for
ROUNDING = 1e-8  # of a curvature, in units of the largest
STEEP = 100.0  # times the curvature of the prior: the data decide


class Start(NamedTuple):
    """u = place + spread t, with t about `scale`: spread (D,), or lower triangular (D, D)."""

    place: Array
    spread: Array
    scale: float = 0.1


def check_init(init: Init) -> None:
    """Raises ValueError for what is no start."""
    if init is not None and not isinstance(init, Mapping):
        check_choice("init", init, ("prior", "map", "laplace"))


def start_of(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    outline: Outline,
    sites: tuple[LatentSite, ...],
    init: Init,
    *,
    correlated: bool,
) -> Start:
    """Where the vector of some sites starts; `correlated`: whether the family knows covariances."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs)))
    if traced and init in ("map", "laplace"):
        raise ValueError(
            f"init='{init}' looks at the data, which are not there while a function is compiled: "
            "call guide.prepare(...) with them before."
        )
    if traced:  # prior draws seldom look at the data: ones stand for them
        args, kwargs = jax.tree.map(_concrete, (args, kwargs))
    call = Call(model, outline, args, kwargs)
    start, spread = jax.jit(lambda: _of_draws(_prior_draws(model, call, sites)))()
    if isinstance(init, Mapping):
        return Start(_with_values(model, call, sites, init, start), spread)
    others = sorted(outline.sites.keys() - {site.name for site in sites})
    partly = traced or bool(others or outline.subsampled)
    if init == "prior" or (init is None and (partly or len(start) > MOST)):
        return Start(start, spread)
    if others:
        raise ValueError(
            f"init='{init}' looks for the mode of all latent sites, but {others} are answered "
            "otherwise: use init='prior'."
        )

    def energy(t: Array) -> Array:
        with aside(model):
            return -log_joint(model, call, sites, start + spread * t)

    compiled = jax.jit(jax.hessian(energy))

    def curvature(t: Array) -> np.ndarray:
        return np.asarray(compiled(t), np.float64)

    flat = any(site.flat for site in sites)
    if init is None and not flat and not _is_steep(curvature(jnp.zeros_like(start))):
        return Start(start, spread)
    mode = _minimum(energy, start)
    if not jnp.isfinite(mode).all():
        if init is None:
            return Start(start, spread)
        raise ValueError(no_mode(init))
    if init == "map":
        return Start(start + spread * mode, spread)
    hessian = curvature(mode)
    values = np.linalg.eigvalsh(hessian)
    if not values[0] > -ROUNDING * values[-1]:
        if init is None:
            return Start(start + spread * mode, spread)
        raise ValueError(no_hessian())
    if correlated:
        found = np.asarray(spread)[:, None] * _root_of_inverse(hessian)
    else:
        found = np.asarray(spread) * np.diagonal(hessian) ** -0.5
    return Start(start + spread * mode, jnp.asarray(found, start.dtype), 1.0)


def _root_of_inverse(hessian: np.ndarray) -> np.ndarray:
    """The lower triangular L with L L' = H^-1, from directions that rounding has not blurred."""
    values, vectors = np.linalg.eigh(hessian)
    values = np.maximum(values, ROUNDING * values[-1])
    clean = (vectors * values) @ vectors.T
    return np.linalg.inv(np.linalg.cholesky(clean[::-1, ::-1]).T)[::-1, ::-1]


def _is_steep(hessian: np.ndarray) -> bool:
    """Whether the data decide more than the prior in some direction."""
    finite = bool(np.isfinite(hessian).all())
    return finite and bool(np.linalg.eigvalsh(hessian)[-1] > STEEP)


def log_joint(model: Callable, call: Call, sites: Sequence[LatentSite], u: Array) -> Array:
    """log p(x, z(u)) + log |dz/du| at a vector u (D,) of the sites on the real line."""
    own = places(sites)
    line = OnLine(lambda name, shape: u[own[name]].reshape(shape) if name in own else None)
    with line:
        seeded = handlers.seed(model, jax.random.key(0))
        trace = handlers.trace(seeded).get_trace(*call.args, **call.kwargs)
    return stated(trace) + line.log_jacobian


def _prior_draws(model: Callable, call: Call, sites: Sequence[LatentSite]) -> Array:
    """Draws of the sites by the model, on the real line, (NUM_DRAWS, D); of an improper prior, the
    place that zero is mapped to."""

    def draw(key: Array) -> Array:
        with aside(model):
            run_program(handlers.seed(Placed(model), key), call, lambda site, fn: None)
        return jnp.concatenate([call.vector(site.name).reshape(-1) for site in sites])

    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    return jax.lax.map(draw, keys)


def far_apart(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    outline: Outline,
    sites: tuple[LatentSite, ...],
    num: int,
) -> Array:
    """Prior draws of the vector of some sites, (num, D), each as far as can be from those before;
    ValueError where the prior has no different ones."""
    args, kwargs = jax.tree.map(_concrete, (args, kwargs))
    call = Call(model, outline, args, kwargs)

    def drawn() -> tuple[Array, Array, Array]:
        draws = _prior_draws(model, call, sites)
        return (draws, *_of_draws(draws))

    draws, start, spread = map(np.asarray, jax.jit(drawn)())
    points = np.nan_to_num((draws - start) / spread, nan=0.0, posinf=0.0, neginf=0.0)
    nearest = np.square(points).sum(-1)
    chosen: list[int] = []
    for _ in range(num):
        index = int(nearest.argmax())
        if chosen and not nearest[index] > 1e-6:
            raise ValueError(no_starts(num))
        chosen.append(index)
        distance = np.square(points - points[index]).sum(-1)
        nearest = distance if len(chosen) == 1 else np.minimum(nearest, distance)
    return jnp.asarray(draws[chosen])


def _of_draws(draws: Array) -> tuple[Array, Array]:
    """Median, and spread from the median absolute deviation; 0 and 1 where there are none."""
    draws = jnp.where(jnp.isfinite(draws), draws, jnp.nan)
    start = jnp.nanmedian(draws, 0)
    spread = 1.4826 * jnp.nanmedian(jnp.abs(draws - start), 0)
    usable = jnp.isfinite(spread) & (spread > 1e-6)
    return jnp.nan_to_num(start), jnp.where(usable, spread, 1.0)


def _with_values(
    model: Callable,
    call: Call,
    sites: Sequence[LatentSite],
    values: Mapping[str, Any],
    start: Array,
) -> Array:
    """The start with the sites of `values` at these."""
    own = places(sites)
    if unknown := sorted(values.keys() - own.keys()):
        raise ValueError(f"init names {unknown}, which are not among the sites {sorted(own)}.")

    def answer(site: LatentSite, fn: Any) -> Any:
        if site.name not in values:
            return None
        value = jnp.asarray(values[site.name], start.dtype)
        value = jnp.broadcast_to(value, start_shape(site, value.shape))
        if not bool(fn.support(value).all()):
            raise ValueError(f"init puts site '{site.name}' outside its support {fn.support}.")
        return determined(fn, real_line(fn).inv(value))

    with aside(model):
        run_program(handlers.seed(model, jax.random.key(0)), call, answer)
    for name in values:
        start = start.at[own[name]].set(call.vector(name).reshape(-1))
    return start


def _minimum(energy: Callable[[Array], Array], like: Array) -> Array:
    """A minimum near zero, by L-BFGS."""
    optim = optax.lbfgs()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        t, state = carry
        value, grad = optax.value_and_grad_from_state(energy)(t, state=state)
        change, state = optim.update(grad, state, t, value=value, grad=grad, value_fn=energy)
        return (optax.apply_updates(t, change), state), None

    t = jnp.zeros_like(like)
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=500)[0])
    return run((t, optim.init(t)))[0]


def _concrete(x: Any) -> Any:
    return jnp.ones(x.shape, x.dtype) if isinstance(x, jax.core.Tracer) else x
