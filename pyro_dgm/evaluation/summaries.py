"""Draws, quantiles and medians of what a guide says of the latents of a model."""

from typing import Any

import numpy as np

from dgm_core.arguments import check_count
from dgm_core.enumeration import check_names
from dgm_core.evaluation import check_no_nan, check_probs
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import Call, calling
from pyro_dgm.evaluation.draws import enumerated_values, read_values
from pyro_dgm.evaluation.posterior import model_sites

__all__ = ["median", "quantiles", "sample_posterior"]


@one_at_a_time
def sample_posterior(
    run: Any,
    *data: Any,
    num_draws: int = 1000,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
    enumerate: str | tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Draws of the latent and deterministic sites of the model from its guide, whatever the guide:
    values in their supports, in the model's order, without what only the guide draws.

    Args:
        run, data, rows, vectorize, seed: as `log_weights` takes them.
        num_draws: how many.
        enumerate: the names of discrete latents of each datum that the guide leaves out, or to the
            model, and the loss has summed out: drawn from their posterior given the others.

    Returns:
        {site: (num_draws, ...)}.

    Cost:
        num_draws runs of the guide; as many of the model where it has deterministic sites.

    Raises:
        ValueError: for bad arguments, and draws that are NaN.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> sample_posterior(vae, np.ones((3, 4)), num_draws=5)["z"].shape
        (5, 3, 2)
    """
    num_draws = check_count("num_draws", num_draws)
    names = check_names(enumerate)
    with calling(run, data, seed=seed, rows=rows, vectorize=vectorize, enumerated=names) as call:
        if names:
            drawn = enumerated_values(call, num_draws, seed)
        else:
            drawn = read_values(call, num_draws)
        values = with_computed(call, drawn)
    check_no_nan(values, "The guide's draw")
    return values


def quantiles(
    run: Any,
    *data: Any,
    probs: Any = (0.05, 0.25, 0.5, 0.75, 0.95),
    num_draws: int = 4000,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
    enumerate: str | tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Quantiles of every entry of the latent and deterministic sites under the guide.

    They are those of `num_draws` draws, since a flow has no others: the median of a normal is off
    by some 1.25 sd / sqrt(num_draws).

    Args:
        run, data, num_draws, rows, vectorize, seed, enumerate: as `sample_posterior` takes them.
        probs: in [0, 1].

    Returns:
        {site: (len(probs), ...)}.

    Raises:
        ValueError: as `sample_posterior`, and for probs outside [0, 1].

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> quantiles(vae, np.ones((3, 4)), probs=(0.1, 0.9), num_draws=50)["z"].shape
        (2, 3, 2)
    """
    probs = check_probs("probs", probs)
    options = {"rows": rows, "vectorize": vectorize, "seed": seed, "enumerate": enumerate}
    values = sample_posterior(run, *data, num_draws=num_draws, **options)
    return {name: np.quantile(x, probs, axis=0) for name, x in values.items()}


def median(
    run: Any,
    *data: Any,
    num_draws: int = 4000,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
    enumerate: str | tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """The median of every entry of the latent and deterministic sites under the guide.

    Args:
        run, data, num_draws, rows, vectorize, seed, enumerate: as `sample_posterior` takes them.

    Returns:
        {site: (...)}.

    Raises:
        ValueError: as `sample_posterior`.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> median(vae, np.ones((3, 4)), num_draws=50)["z"].shape
        (3, 2)
    """
    options = {"rows": rows, "vectorize": vectorize, "seed": seed, "enumerate": enumerate}
    values = quantiles(run, *data, probs=(0.5,), num_draws=num_draws, **options)
    return {name: x[0] for name, x in values.items()}


def with_computed(call: Call, drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws of the latents (num_draws, ...), and the deterministic sites that follow from them."""
    num_draws = len(next(iter(drawn.values()), ()))
    names = list(model_sites(call.model({name: x[0] for name, x in drawn.items()})))
    if set(names) <= drawn.keys():
        return {name: drawn[name] for name in names}

    def values(call: Call, given: dict[str, Any]) -> dict[str, Any]:
        return {name: site["value"] for name, site in model_sites(call.model(given)).items()}

    return call.repeat(values, num_draws, drawn)
