"""The way into ArviZ."""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from dgm_core.arguments import check_count
from dgm_core.arviz_export import DATUM, assemble, axis_names, with_time
from dgm_core.diagnostics import psis_khat
from dgm_core.evaluation import check_no_nan, check_scored
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.conditionals.paths.base import OfSteps
from pyro_dgm.evaluation.calls import Call, calling, elementwise, kept_sites, observed
from pyro_dgm.evaluation.draws import read_values
from pyro_dgm.evaluation.weights import log_weights
from pyro_dgm.joints.points import point_masses
from pyro_dgm.joints.structure import kind_of

if TYPE_CHECKING:
    import arviz as az

__all__ = ["to_arviz"]

_PARTS = ("value", "log_likelihood", "predicted")


@one_at_a_time
def to_arviz(
    run: Any,
    *data: Any,
    num_draws: int = 200,
    num_particles: int = 256,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
) -> "az.InferenceData":
    """Posterior draws, pointwise log-likelihood, posterior predictive draws, k-hat and the losses
    of
    a run, as ArviZ takes them.

    Groups:
        posterior (the guide's draws of the model's latent sites, in the model's order, and its
        deterministic sites), log_likelihood (of every observed site, element by element, for
        `az.loo`), posterior_predictive, observed_data, sample_stats (k-hat per datum, from
        `num_particles` weights of their own; left out where there is no weight per datum), losses
        (the history of the run). Dimensions are called as the plates, that of the data "datum"
        where it is the only one; paths of states and sequences have a dimension "time" behind it.

    Args:
        run, data, rows, vectorize, seed: as `log_weights` takes them.
        num_draws: of the posterior.
        num_particles: for k-hat.

    Cost:
        num_draws runs of the guide, and twice as many of the model.

    Raises:
        ValueError: for bad arguments, draws that are NaN, and as `log_weights`.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> to_arviz(vae, np.ones((3, 4)), num_draws=10).posterior["z"].shape
        (1, 10, 3, 2)
    """
    num_draws = check_count("num_draws", num_draws)
    num_particles = check_count("num_particles", num_particles)
    with calling(run, data, seed=seed, rows=rows, vectorize=vectorize) as call:
        structure = call.sketch().structure
        if structure.subsampled:
            check_scored(prod(structure.sizes), call.num_rows)
        drawn = read_values(call, num_draws)
        check_no_nan(drawn, "The guide's draw")
        records = call.repeat(_record, num_draws, drawn)
        sites = kept_sites(call.model({name: x[0] for name, x in drawn.items()}))
        points = point_masses(*call.traces())
    names = {name: DATUM if len(structure.sizes) == 1 else name for name in structure.plates}
    groups: dict[str, dict[str, np.ndarray]] = {part: {} for part in _PARTS}
    for (part, name), values in records.items():
        groups[part][name] = values
    dims = {name: axes_of(name, site, names) for name, site in sites.items()}
    paths = {n: s["fn"] for n, s in sites.items() if isinstance(s.get("fn"), OfSteps)}
    dims = with_time(dims, {name: fn.event_shape[0] for name, fn in paths.items()})
    diagnostics = {}
    if structure.factorizes and not points and prod(structure.sizes) > 1:
        weights = log_weights(
            run,
            *data,
            num_particles=num_particles,
            rows=rows,
            vectorize=vectorize,
            seed=seed + 1,
        )
        diagnostics["khat"] = psis_khat(weights).reshape(structure.sizes)
        dims["khat"] = list(names.values())
    return assemble(
        groups["value"],
        log_likelihood=groups["log_likelihood"],
        posterior_predictive=groups["predicted"],
        observed_data={n: observed(x) for n, x in sites.items() if kind_of(x) == "observed"},
        diagnostics=diagnostics,
        history=getattr(run, "history", None),
        dims=dims,
        attrs=getattr(run, "config", None),
    )


def _record(call: Call, values: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Latent and deterministic values of one draw, and of each observed site the log-density of its
    elements and what is predicted."""
    found, forward = {}, kept_sites(call.forward(values))
    for name, site in kept_sites(call.model(values)).items():
        if kind_of(site) == "observed":
            found["log_likelihood", name] = elementwise(site)
            found["predicted", name] = forward[name]["value"]
        else:
            found["value", name] = site["value"]
    return found


def axes_of(name: str, site: Any, names: dict[str, str]) -> list[str]:
    """The names of the batch axes of a site."""
    plates = {
        names.get(frame.name, frame.name): (frame.dim, frame.size)
        for frame in site["cond_indep_stack"]
        if frame.dim is not None
    }
    event_dim = None if kind_of(site) == "deterministic" else site["fn"].event_dim
    shape = observed(site).shape if kind_of(site) == "observed" else np.shape(site["value"])
    return axis_names(name, shape, event_dim, plates)
