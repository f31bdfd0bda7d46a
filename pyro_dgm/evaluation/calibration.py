"""Calibration of any guide and model on data that the model makes."""

from typing import Any

import numpy as np
from torch import Tensor

from dgm_core.arguments import check_callable, check_count, check_flag, check_seed
from dgm_core.evaluation import check_no_nan
from dgm_core.posterior import run_of
from dgm_core.studies.calibration import (
    Calibration,
    check_looks,
    joined,
    observed_arguments,
    thinned,
)
from dgm_core.training.progress import Progress
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import Call, as_numpy, calling, kept_sites
from pyro_dgm.evaluation.draws import read_values
from pyro_dgm.evaluation.summaries import sample_posterior
from pyro_dgm.joints.structure import kind_of

__all__ = ["calibrate"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@one_at_a_time
def calibrate(
    model: Any,
    posterior: Any,
    *data: Any,
    num_simulations: int = 100,
    num_draws: int = 99,
    arguments: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> Calibration:
    """Simulation-based calibration: latents and data are drawn from the model, the posterior of
    these data is drawn from, and the ranks of the latents among the draws must be uniform.

    Args:
        model: a model, with the weights that it has; or a run, with its weights.
        posterior: a run whose guide is amortized, that is, looks at its data; or a function of the
            simulated arguments that gives a run (`lambda x: fit(model, guide, x)`), chains (`lambda
            x: nuts(model, x)`), or draws {site: (num_draws, ...)}.
        data: in any form that `fit` takes. What the observed sites hold is replaced by simulated
            values; sizes, inputs and masks stay.
        num_simulations: data sets. Where every datum has its own latents and nothing else, the
            data of an amortized guide are pooled, and one data set of many data is enough.
        num_draws: of each posterior; 99 has ranks 0 to 99, which fall into 20 equal bins, others
            into bins that differ by one rank. Chains are thinned to so many.
        arguments: {observed site: name or position of its argument}, where no argument, or more
            than one, equals what the site observes.
        seed: of all random numbers.
        progress: one line of progress.

    Returns:
        `Calibration`: `p_value`, `p_values()`, `coverage()`, `contraction()`, `z_scores()`, and
        pictures.

    Cost:
        num_simulations posteriors.

    Raises:
        ValueError: for bad arguments, a guide that does not look at its data, improper priors,
            which cannot be drawn from, and draws that are NaN or of another shape than the
            model's.

    References:
        Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based
        calibration, arXiv:1804.06788; Modrak et al. (2023), Simulation-based calibration checking
        for Bayesian computation, Bayesian Analysis.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> x = np.ones((200, 4))
        >>> found = calibrate(vae, vae, x, num_simulations=1, num_draws=19, progress=False)
        >>> found.ranks["z"].shape
        (200, 2)
    """
    num_simulations, num_draws = (
        check_count("num_simulations", num_simulations),
        check_count("num_draws", num_draws),
    )
    seed, progress = check_seed("seed", seed), check_flag("progress", progress)
    is_run = hasattr(posterior, "guide")
    if not is_run:
        check_callable("posterior", posterior, "a run, or a function of the simulated arguments")
    with calling(run_of(model), data, seed=seed, settle=False) as call:
        truths, calls = simulated(call, num_simulations, arguments)
    with Progress(num_simulations, enabled=progress) as bar:
        if is_run:
            posteriors, axes = _amortized(posterior, data, calls, num_draws, seed, bar)
        else:
            posteriors, axes = [], {}
            for args, kwargs in calls:
                posteriors.append(_drawn(posterior(*args, **kwargs), args, kwargs, num_draws, seed))
                bar.advance()
    for draws in posteriors:
        check_no_nan(draws, "The posterior's draw")
    return joined(truths, posteriors, axes, seed)


def simulated(
    call: Call, num_simulations: int, arguments: Any
) -> tuple[dict[str, np.ndarray], list[Arguments]]:
    """The latents of each simulation, and the arguments with its data in their places."""
    sites = kept_sites(call.forward())
    kinds = {name: kind_of(site) for name, site in sites.items()}
    seen = {
        n: as_numpy(sites[n]["infer"]["obs"]) for n, kind in kinds.items() if kind == "observed"
    }
    given: dict[Any, Any] = dict(enumerate(call.args))
    given.update(call.kwargs)
    plain = {key: as_numpy(x) if isinstance(x, Tensor) else x for key, x in given.items()}
    places = observed_arguments(seen, plain, arguments)

    def values(call: Call, _: dict[str, Any]) -> dict[str, Any]:
        return {name: site["value"] for name, site in kept_sites(call.forward()).items()}

    drawn = call.repeat(values, num_simulations)
    calls = []
    for index in range(num_simulations):
        own = dict(plain)
        for name, key in places.items():
            own[key] = np.broadcast_to(drawn[name][index], seen[name].shape).astype(
                seen[name].dtype
            )
        args = tuple(own.pop(number) for number in range(len(call.args)))
        calls.append((args, own))
    return {name: drawn[name] for name, kind in kinds.items() if kind == "latent"}, calls


def _amortized(
    run: Any, data: tuple, calls: list[Arguments], num_draws: int, seed: int, bar: Progress
) -> tuple[list[dict[str, np.ndarray]], dict[str, int | None]]:
    """Draws of one guide for all data sets, and the axis of the data where they are pooled."""
    posteriors, looks = [], []
    with calling(run, data, seed=seed + 1) as call:
        first = call.sketch()
        for number, (args, kwargs) in enumerate(calls):
            call.replace(args, kwargs)
            if number < 2:
                looks.append(call.guide_draws(call.rows))
            if len(calls) == 1:
                looks.append(call.guide_draws(call.rows, rolled=True))
            if number < 2 and len(looks) == 2:
                check_looks(*looks)
            posteriors.append(read_values(call, num_draws, first.model_sites))
            bar.advance()
        structure = first.structure
        axes: dict[str, int | None] = {}
        if structure.factorizes and len(structure.sizes) == 1:
            (dim,) = structure.plates.values()
            sites = kept_sites(call.traces()[0])
            axes = {name: dim - sites[name]["fn"].event_dim for name in posteriors[0]}
    return posteriors, axes


def _drawn(
    found: Any, args: tuple, kwargs: dict[str, Any], num_draws: int, seed: int
) -> dict[str, np.ndarray]:
    """The draws of a posterior that was made for one data set."""
    if hasattr(found, "guide"):
        data = (args,) if args else (kwargs,)
        return sample_posterior(found, *data, num_draws=num_draws, seed=seed)
    return thinned(found, num_draws)
