"""The networks of a VAE as a run has trained them, from which other models start."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.handlers import substitute

from dgm_core.mixtures import check_vae, running_statistics
from numpyro_dgm.models.parts import num_data
from numpyro_dgm.models.vae.vae import VAE
from numpyro_dgm.nn import evaluation_mode, register

__all__: list[str] = []  # for the package, not for users


def parts_of_run(run: Any, names: tuple[str, ...]) -> tuple[VAE, dict[str, Any]]:
    """The VAE of a run, and copies of its parts with the weights of the run."""
    vae = check_vae(run, VAE)
    for name in names:
        if f"{name}$state" in run.mutable_state:
            raise ValueError(running_statistics(name))
    with substitute(data=run.params):
        return vae, {name: register(name, getattr(vae, name)) for name in names}


def codes_of(vae: VAE, parts: dict[str, Any], x: Any) -> np.ndarray:
    """The means of the codes of data (num_data, x_dim)."""
    x = as_array(x)
    num_data(x, (vae.x_dim,), 1)
    if not np.isfinite(np.asarray(x)).all():
        raise ValueError("x has entries that are not finite: leave these rows out.")
    with evaluation_mode(*parts.values()):
        return np.asarray(parts["posterior"](parts["encoder"](x)).mean)


def as_array(x: Any) -> Array:
    """Numbers in the precision of weights."""
    return jnp.asarray(np.asarray(x), jnp.result_type(float))
