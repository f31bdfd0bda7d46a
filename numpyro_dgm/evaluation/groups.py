"""Importance weights of the local latents given the globals, and of the globals alone."""

from typing import Any

import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from dgm_core.arguments import check_count
from dgm_core.diagnostics import LogWeights, point_mass_message
from dgm_core.evaluation import check_densities, weighs_whole
from dgm_core.groups import drawn_together, no_group
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.calls import Call, calling
from numpyro_dgm.evaluation.weights import log_densities
from numpyro_dgm.guides.joint import JointVector
from numpyro_dgm.joints import InferenceJoint
from numpyro_dgm.joints.points import point_masses

__all__ = ["global_log_weights", "local_log_weights"]


@one_at_a_time
def local_log_weights(
    run: Any,
    *data: Any,
    num_particles: int = 1000,
    vectorize: bool | None = None,
    seed: int = 0,
) -> np.ndarray:
    """log p(x_n, z_kn | w) - log q(z_kn | x_n, w) of every datum, at one draw of the globals w that
    all share: how well the local latents are inferred, datum by datum.

    Args:
        run, data, vectorize, seed: as for `log_weights`.
        num_particles: draws per datum.

    Returns:
        An array (num_particles, num_data), for `summary`, `psis_khat`.

    Cost:
        num_particles passes of guide and model, at once.

    Raises:
        ValueError: as `log_weights`; without local latents; where the guide draws some of them as
            entries of a vector that lies outside their plate, so that none has a density alone.

    References:
        Vehtari et al. (2024), JMLR 25.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> local_log_weights(vae, np.ones((3, 4)), num_particles=5).shape
        (5, 3)
    """
    num_particles = check_count("num_particles", num_particles)
    with calling(run, data, seed=seed, vectorize=vectorize) as call:
        given = _draws_of_globals(call, 1, local=True)
        log_w = call.read(_local, num_particles, given={n: x[0] for n, x in given.items()})
        check_densities(log_w, lambda: call.read(log_densities, num_particles))
    return LogWeights(log_w)


@one_at_a_time
def global_log_weights(
    run: Any,
    *data: Any,
    num_particles: int = 1000,
    num_inner: int = 50,
    vectorize: bool | None = None,
    seed: int = 0,
) -> np.ndarray:
    """log p(w_k) - log q(w_k) + sum_n log (1/L) sum_l p(x_n, z_kln | w_k) / q(z_kln | x_n, w_k):
    how well the global latents w are inferred, with the local ones summed out.

    Args:
        run, data, vectorize, seed: as for `log_weights`.
        num_particles: draws of the globals.
        num_inner: L, draws of the local latents for each; more of them lessen the noise that they
            add to the weights.

    Returns:
        An array (num_particles, 1), for `summary`, `psis_khat`.

    Cost:
        num_particles times num_inner passes of guide and model.

    Raises:
        ValueError: as `local_log_weights`; without global latents.

    References:
        Vehtari et al. (2024), JMLR 25; Tran et al. (2013), arXiv:1309.3339 (weights that are
        estimates).

    Example:
        >>> from types import SimpleNamespace
        >>> def model(x):
        ...     w = numpyro.sample("w", numpyro.distributions.Normal(0.0, 1.0))
        ...     with numpyro.plate("data", len(x)):
        ...         numpyro.sample("x", numpyro.distributions.Normal(w, 1.0), obs=x)
        >>> def guide(x):
        ...     numpyro.sample("w", numpyro.distributions.Normal(0.5, 0.5))
        >>> run = SimpleNamespace(model=model, guide=guide)
        >>> global_log_weights(run, np.ones(3), num_particles=5).shape
        (5, 1)
    """
    num_particles = check_count("num_particles", num_particles)
    num_inner = check_count("num_inner", num_inner)
    with calling(run, data, seed=seed, vectorize=vectorize) as call:
        given = _draws_of_globals(call, num_particles, local=False)
        rows = [{n: x[k] for n, x in given.items()} for k in range(num_particles)]
        log_w = np.stack([call.read(_marginal, num_inner, given=row) for row in rows])
        check_densities(log_w, lambda: call.read(log_densities, num_inner))
    return LogWeights(log_w[:, None])


def _draws_of_globals(call: Call, num_draws: int, *, local: bool) -> dict[str, np.ndarray]:
    """Draws of all that the guide draws outside the data plates; none without global latents."""
    first = call.sketch()
    structure = first.structure
    if points := point_masses(*call.traces()):
        raise ValueError(point_mass_message(points))
    inner = [n for n in structure.local_sites if n in first.site_orders()[1]]
    outer = [n for n in structure.global_sites if not first.is_determined(n)]
    no_group(local, inner, outer)
    if outer or not local:
        weighs_whole(structure, call.num_rows)
    fixed = [name for name in inner if first.is_determined(name)]
    parts = getattr(call.run.guide, "parts", ())
    vectors = [name for part in parts if isinstance(part, JointVector) for name in part.answers]
    drawn_together(fixed, inner, structure.local_sites, vectors)
    if not outer:
        return {}

    def draw(call: Call, values: dict[str, Any]) -> dict[Any, Any]:
        trace = call.guide()
        return {name: trace[name]["value"] for name in outer}

    return call.repeat(draw, num_draws)


def _local(joint: InferenceJoint) -> Array:
    return _flat(joint.log_w)


def _marginal(joint: InferenceJoint) -> Array:
    """The weight of the globals, from the draws of the local latents."""
    local = _flat(joint.log_w)
    summed = logsumexp(local, 0) - np.log(len(local))
    return summed.sum() + joint.global_log_w.reshape(-1)[0]


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)
