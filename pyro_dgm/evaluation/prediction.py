"""Predictions: the model run forward from the guide's latents, or from the prior alone."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from dgm_core.arguments import check_count
from dgm_core.evaluation import (
    check_no_nan,
    follows_from_guide,
    new_latents,
    unguided,
)
from dgm_core.structure import UndrawableError
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import Call, calling, kept_sites
from pyro_dgm.joints.structure import is_stated, kind_of, plates_of, random_sites

__all__ = ["predict", "prior_predictive"]


@one_at_a_time
def predict(
    run: Any, *new_inputs: Any, num_draws: int = 100, rows: Any = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """What a fitted model says of new inputs: all its sites, drawn at the guide's latents.

    Global latents come from the guide. Local latents come from the guide where the inputs hold the
    data that they explain, so that these are drawn once more (posterior predictive); else they are
    new and come from the prior. Pass None for what was observed in the fit, as in
    model(x, y=None), or pass it and have it drawn anew all the same.

    Args:
        run: as `log_weights` takes it.
        new_inputs: the arguments of the model, in any form that `fit` takes, of any number of rows.
        num_draws: of all latents and all that follows from them.
        rows: as `log_weights` takes it.
        seed: of the draws.

    Returns:
        {site: (num_draws, ...)} of all sites of the model in its order, deterministic ones too.

    Cost:
        num_draws runs of guide and model.

    Raises:
        ValueError: for bad arguments, draws that are NaN, and where the guide draws latents that
            are needed, but cannot run on these inputs.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> predict(vae, np.ones((3, 4)), num_draws=5)["x"].shape
        (5, 3, 4)
    """
    num_draws = check_count("num_draws", num_draws)
    with calling(run, new_inputs, seed=seed, settle=False) as call:
        fresh = _fresh_latents(call, rows)
        return _draws(call, num_draws, fresh)


@one_at_a_time
def prior_predictive(
    model: Any, *args: Any, num_draws: int = 100, seed: int = 0, **kwargs: Any
) -> dict[str, np.ndarray]:
    """What a model says before it has seen data: all its sites, drawn from it so many times.

    Args:
        model: a model, with the weights that it has; or a run, with its weights.
        args, kwargs: the arguments of the model, in any form that `fit` takes; of data only the
            plate sizes count.
        num_draws: how many.
        seed: of the draws.

    Returns:
        {site: (num_draws, ...)} of all sites of the model in its order, deterministic ones too.

    Raises:
        ValueError: for bad arguments, draws that are NaN, and an improper prior.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> prior_predictive(vae.model, size=3, num_draws=5)["x"].shape
        (5, 3, 4)
    """
    num_draws = check_count("num_draws", num_draws)
    run = model if hasattr(model, "guide") else SimpleNamespace(model=model, guide=model)
    with calling(run, args, seed=seed, more=kwargs, settle=False) as call:
        return _draws(call, num_draws, None)


def _fresh_latents(call: Call, rows: Any) -> set[str] | None:
    """The latents of the guide that come from the prior all the same; None: of those it has all."""
    drawn: dict[str, Any] = {}
    failure: Exception | None = None
    try:
        drawn = random_sites(call.guide())
    except Exception as error:
        failure = error
    found = _model_sites(call, drawn).items()
    sites = {name: site for name, site in found if not is_stated(site["fn"])}
    if any(kind_of(site) == "observed" for site in sites.values()):
        call.settle(rows)
        return set()
    plates = {name: tuple(plates_of(site)) for name, site in sites.items()}
    if failure is None:
        return new_latents(plates, drawn)
    if not follows_from_guide(plates):
        return None
    raise ValueError(unguided(failure)) from failure


def _model_sites(call: Call, drawn: dict[str, Any]) -> dict[str, Any]:
    """The sites of the model; those with improper priors take the value that the guide drew."""
    values: dict[str, Any] = {}
    while True:
        try:
            return random_sites(call.model(values))
        except UndrawableError as error:
            if error.site in values or error.site not in drawn:
                raise
            values[error.site] = drawn[error.site]["value"]


def _draws(call: Call, num_draws: int, fresh: set[str] | None) -> dict[str, np.ndarray]:
    """All sites of the model, at the latents of the guide but for some; None: at those of the
    prior.
    """
    computed: set[str] = set()

    def draw(call: Call, _: dict[str, Any]) -> dict[str, Any]:
        drawn = {} if fresh is None else random_sites(call.guide())
        given = {name: site["value"] for name, site in drawn.items() if name not in (fresh or ())}
        sites = kept_sites(call.forward(given))
        computed.update(name for name, site in sites.items() if kind_of(site) == "deterministic")
        return {name: site["value"] for name, site in sites.items()}

    values = call.repeat(draw, num_draws)
    check_no_nan({name: x for name, x in values.items() if name not in computed}, "The draw")
    return values
