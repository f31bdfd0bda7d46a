"""The gaps of an amortized guide: of its family, and of its amortization."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpyro.distributions import biject_to, constraints

from dgm_core.arguments import check_counts, check_number
from dgm_core.evaluation import check_densities, same_draws
from dgm_core.studies.gaps import (
    InferenceGaps,
    check_amortized,
    check_tunable,
    gaps_of,
    reads_the_same,
)
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.calls import Call, calling
from numpyro_dgm.evaluation.weights import log_densities

__all__ = ["inference_gaps"]

_PARTICLES = 8  # of a step of tuning


@one_at_a_time
def inference_gaps(
    run: Any,
    *data: Any,
    num_steps: int = 500,
    learning_rate: float = 0.01,
    num_particles: int = 1000,
    seed: int = 0,
) -> InferenceGaps:
    """What an amortized guide loses by its family, and what by its encoder.

    For each datum a copy of the guide is trained on this datum alone, with the model as it is, so
    that it becomes the best member of its family there; the run and its networks stay as they are.

    Args:
        run, seed: as `log_weights` takes them.
        data: in any form that `fit` takes; some twenty data say enough.
        num_steps: of Adam, for each datum, with a rate that falls to zero.
        learning_rate: the first one.
        num_particles: of the bounds.

    Returns:
        `InferenceGaps`: approximation and amortization, (num_data,).

    Cost:
        num_steps steps of eight particles for each datum; one after the other.

    Raises:
        ValueError: for bad arguments; for models with latents outside the plate of the data, guides
            with parameters of each datum or none, draws without a gradient, and weights that are
            NaN.

    References:
        Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders,
        arXiv:1801.03558.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> gaps = inference_gaps(vae, np.ones((2, 4)), num_steps=2, num_particles=10)
        >>> gaps.amortization.shape
        (2,)
    """
    num_steps, num_particles = check_counts(num_steps=num_steps, num_particles=num_particles)
    learning_rate = check_number("learning_rate", learning_rate, above=0)
    with calling(run, data, seed=seed) as call:
        first = call.sketch()
        drawn = {n: first.is_reparameterized(n) for n in first.latent_sites}
        determined = {n: first.is_determined(n) for n in first.latent_sites}
        passes = {n: drawn[n] or determined[n] for n in drawn}
        draws = (call.guide_draws(call.rows, rolled=rolled) for rolled in (False, True))
        looks = reads_the_same(call.args, call.kwargs) or not same_draws(*draws)
        check_amortized(first.structure, first.model_sites, looks, passes)
        call.rows = None  # every row is as good as any
        params, found = _own_parameters(call)
        check_tunable(len(params))
        key = jax.random.key(seed)

        def of_row(row: Array) -> tuple[Array, ...]:
            keys = jax.random.split(jax.random.fold_in(key, row), num_steps + 2)

            def log_w(free: dict[str, Any], key: Array, num: int) -> Array:
                return call.joint_at(_placed(free, found), key, num, row[None]).log_w

            def step(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], None]:
                free, state = carry
                gradient = jax.grad(lambda free: -log_w(free, key, _PARTICLES).mean())(free)
                updates, state = optimizer.update(gradient, state)
                return (optax.apply_updates(free, updates), state), None

            optimizer = optax.adam(optax.linear_schedule(learning_rate, 0.0, num_steps))
            (tuned, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys[2:])
            both = (
                log_w(free, k, num_particles) for free, k in ((params, keys[0]), (tuned, keys[1]))
            )
            before, after = (jnp.broadcast_to(x.reshape(-1), (num_particles,)) for x in both)
            return before, after

        weights = jax.jit(lambda rows: jax.lax.map(of_row, rows))(jnp.arange(first.sizes[0]))
        before, after = (np.asarray(x, np.float64).T for x in weights)
        for log_w in (before, after):
            check_densities(log_w, lambda: call.read(log_densities, num_particles))
    return gaps_of(before, after)


def _own_parameters(call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the guide learns and the model does not, unconstrained, and the constraints by site."""
    guide, model = (
        {name: site for name, site in program().items() if site["type"] == "param"}
        for program in (call.guide, call.model)
    )
    own = {name: site for name, site in guide.items() if name not in model}
    found = {n: site["kwargs"].get("constraint", constraints.real) for n, site in own.items()}
    free = {name: site["value"] for name, site in own.items()}
    for name, value in free.items():
        if isinstance(value, Array):
            free[name] = biject_to(found[name]).inv(value)
    return free, found


def _placed(free: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Constrained parameters, of networks as they are."""
    return {
        name: biject_to(found[name])(value) if isinstance(value, Array) else value
        for name, value in free.items()
    }
