"""Draws from a guide, resampled towards the posterior by smoothed importance weights."""

from typing import Any

import numpy as np
from jax import Array

from dgm_core.arguments import check_counts
from dgm_core.diagnostics import Resampled, point_mass_message, resampled_indices, taken
from dgm_core.evaluation import check_densities, weighs_whole
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.calls import calling
from numpyro_dgm.evaluation.summaries import with_computed
from numpyro_dgm.evaluation.weights import log_densities, log_ratios
from numpyro_dgm.joints import InferenceJoint
from numpyro_dgm.joints.points import point_masses
from numpyro_dgm.joints.structure import random_sites

__all__ = ["resample"]


@one_at_a_time
def resample(
    run: Any,
    *data: Any,
    num_draws: int = 1000,
    num_particles: int = 4000,
    force: bool = False,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
) -> Resampled:
    """Sampling importance resampling: draws of the guide are drawn again by their importance
    weights, the largest of which are smoothed by a Pareto distribution.

    Where the model factorizes, each datum is resampled by itself; with global latents, factors or
    crossed plates, all latents together.

    Args:
        run, data, rows, vectorize, seed: as `log_weights` takes them.
        num_draws: how many come back.
        num_particles: draws of the guide that they are chosen from.
        force: go on although k-hat is above 0.7.

    Returns:
        `Resampled`: draws {site: (num_draws, ...)} of the latent and deterministic sites, k-hat and
        the effective sample size of each datum.

    Cost:
        num_particles runs of guide and model at once; all their latents are held.

    Raises:
        UnreliableWeightsError: where k-hat is above 0.7 for any datum, unless `force`: the draws
            would be a few of the guide's, repeated.
        ValueError: as `log_weights`.

    References:
        Rubin (1988), Using the SIR algorithm; Vehtari et al. (2024), Pareto smoothed importance
        sampling, JMLR 25.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> found = resample(vae, np.ones((3, 4)), num_draws=5, force=True)
        >>> found.draws["z"].shape, found.khat.shape
        ((5, 3, 2), (3,))
    """
    num_draws, num_particles = check_counts(num_draws=num_draws, num_particles=num_particles)
    with calling(run, data, seed=seed, rows=rows, vectorize=vectorize) as call:
        structure = call.sketch().structure
        traces = call.traces()
        if names := point_masses(*traces):
            raise ValueError(point_mass_message(names))
        weighs_whole(structure, call.num_rows)
        log_w, values = call.read(_weights_and_values, num_particles)
        check_densities(log_w, lambda: call.read(log_densities, num_particles))
        log_w = np.broadcast_to(log_w, (num_particles, *log_w.shape[1:])).astype(np.float64)
        drawn, khat, ess = resampled_indices(log_w, num_draws, force=force, seed=seed)
        sites, plates = random_sites(traces[0]), structure.plates if structure.factorizes else {}
        placed = drawn.reshape(num_draws, *(structure.sizes if plates else ()))
        resampled = {
            name: taken(x, placed, [dim - sites[name]["fn"].event_dim for dim in plates.values()])
            for name, x in values.items()
        }
        draws = with_computed(call, resampled)
    return Resampled(draws, khat, ess)


def _weights_and_values(joint: InferenceJoint) -> tuple[Array, dict[str, Array]]:
    return log_ratios(joint)[0], {name: joint.values(name) for name in joint.model_sites}
