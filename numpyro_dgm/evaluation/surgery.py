"""What the KL part of a run's bound is made of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.diagnostics import point_mass_message
from dgm_core.surgery import ELBOSurgery, check_local
from dgm_core.surgery import elbo_surgery as split_kl
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.calls import calling
from numpyro_dgm.joints.points import point_masses
from numpyro_dgm.joints.structure import random_sites

__all__ = ["elbo_surgery"]

_ROWS = 256  # draws that are scored at once


@one_at_a_time
def elbo_surgery(run: Any, *data: Any, rows: Any = None, seed: int = 0) -> ELBOSurgery:
    """What the KL of a run's bound is made of: the mutual information of data and codes, and the
    mismatch KL(q(z), p(z)) (see `dgm_core.surgery`).

    Args:
        run, data, rows: as `log_weights` takes them.
        seed: of the one draw of all local latents per datum that is scored under all data.

    Cost:
        num_data^2 log-densities of the guide, 256 draws at a time.

    Raises:
        ValueError: for models with global latents, more than one batch dimension, or point masses;
            NoDensityError for a guide or prior without a density (whose mismatch
            `dgm_core.surgery.ratio_kl` estimates from draws).

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> found = elbo_surgery(vae, np.ones((3, 4)))
        >>> abs(found.mutual_information) < 1e-6  # of three equal data
        True
    """
    with calling(run, data, seed=seed, rows=rows) as call:
        joint = call.joint()
        if names := point_masses(*call.traces()):
            raise ValueError(point_mass_message(names))
        check_local(joint.structure)
        drawn = {name: joint.values(name)[0] for name in joint.latent_sites}

        @jax.jit
        def row(draw: dict[str, Array]) -> Array:  # one draw under all data
            values = {name: jnp.broadcast_to(x, drawn[name].shape) for name, x in draw.items()}
            sites = random_sites(call.guide(values))
            scores = [sites[name]["fn"].log_prob(value) for name, value in values.items()]
            return sum(scores[1:], scores[0])

        log_q = jax.lax.map(row, drawn, batch_size=_ROWS)
        return split_kl(np.asarray(log_q), np.asarray(joint.log_prior).reshape(-1))
