"""Guides of one model, trained and compared in a table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
from pyro.poutine import Trace
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_flag
from dgm_core.evaluation import check_no_parameters
from dgm_core.studies.comparison import (
    Attempt,
    Comparison,
    built_by,
    check_fits,
    checked_guides,
    checked_objectives,
    checked_reference,
    checked_seeds,
    compared,
    seconds_per_step,
)
from dgm_core.training.recipes import Recipe
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.compat import own_store
from pyro_dgm.evaluation.calls import calling, learned_in
from pyro_dgm.evaluation.groups import global_log_weights, local_log_weights
from pyro_dgm.evaluation.nuts import nuts
from pyro_dgm.evaluation.posterior import Posterior, model_sites
from pyro_dgm.evaluation.summaries import sample_posterior
from pyro_dgm.evaluation.weights import log_weights
from pyro_dgm.losses import ELBO, Loss
from pyro_dgm.nn.modes import meeting
from pyro_dgm.nn.optimizers import check_optimizer
from pyro_dgm.training.fit import fit

__all__ = ["compare_guides"]


@one_at_a_time
def compare_guides(
    model: Callable,
    guides: Any,
    data: Any,
    *,
    objectives: Any = None,
    num_epochs: int | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    optim: Any = None,
    clip_norm: float | None = None,
    lr_schedule: Any = None,
    reference: Any = "nuts",
    num_particles: int = 4000,
    num_draws: int = 2000,
    seeds: Any = (0, 1, 2),
    progress: bool = True,
) -> Comparison:
    """Fit several guides to one posterior and put them side by side: bounds, k-hat, errors against
    reference draws, time and size.

    A guide that raises, or whose numbers are not finite, is a row that says so; the others go on.

    Args:
        model, data: as `fit` takes them.
        guides: {name: a function without arguments that builds a guide}; stock automatic guides
            too.
        objectives: a loss, or {name: loss}; the ELBO of eight particles when left out.  What a loss
            enumerates datum by datum is summed out of the weights and drawn given the others.
        num_epochs, num_steps, batch_size, optim, clip_norm, lr_schedule: of every fit; without an
            optimizer every guide is trained by `Recipe()`, for 4000 steps when nothing is said.
        reference: "nuts", which is run here (4 chains of 1000 draws); draws {site: (num_draws,
            ...) or (num_chains, num_draws, ...)}; or None for a table without errors.
        num_particles: of the bounds and k-hat.
        num_draws: of each guide, for errors and distances.
        seeds: of the fits.
        progress: one line of progress.

    Returns:
        `Comparison`: `print` shows the table; `to_dataframe()`, `to_arviz()`, `plot()`.

    Cost:
        a fit, num_particles weights and num_draws draws for every guide, objective and seed.

    Raises:
        ValueError: for bad arguments, a reference of other sites or shapes than the model's, guides
            instead of functions that build them, and for reference="nuts" with a model that has
            parameters of its own, whose posterior is another one under each guide.

    Example:
        >>> from pyro.infer.autoguide import AutoNormal
        >>> def model(x):
        ...     mu = pyro.sample("mu", pyro.distributions.Normal(0.0, 10.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", pyro.distributions.Normal(mu, 1.0), obs=x)
        >>> guides = {"mean field": lambda: AutoNormal(model)}
        >>> options = {"reference": None, "num_particles": 50, "num_draws": 50, "seeds": 0}
        >>> x = np.array([3.0, 4.0, 5.0])
        >>> table = compare_guides(model, guides, x, num_steps=10, progress=False, **options)
        >>> table.rows[0]["parameters"]
        2
    """
    guides, seeds = checked_guides(guides, (nn.Module,)), checked_seeds(seeds)
    objectives = checked_objectives(objectives, _elbo)
    num_particles = check_count("num_particles", num_particles, 25)
    num_draws = check_count("num_draws", num_draws, 2)
    progress = check_flag("progress", progress)
    options = check_fits(
        fit,
        Loss,
        objectives,
        model=model,
        data=data,
        num_epochs=num_epochs,
        num_steps=num_steps,
        batch_size=batch_size,
        optim=Recipe() if optim is None else check_optimizer(optim),
        clip_norm=clip_norm,
        lr_schedule=lr_schedule,
        progress=False,
    )
    draws, notes = _reference(model, data, reference)

    def attempt(make: Callable[[], Any], loss: Any, seed: int) -> Attempt:
        with _apart():
            run = fit(model, built_by(make), data, loss=loss, seed=seed, **options)
            summed = _summed_out(model, data, loss)
            return Attempt(
                sample_posterior(run, data, num_draws=num_draws, seed=seed, enumerate=summed),
                seconds_per_step(run.history),
                _num_parameters(run, data),
                lambda: log_weights(
                    run, data, num_particles=num_particles, seed=seed + 1, enumerate=summed
                ),
                {
                    "khat local": lambda: local_log_weights(run, data, seed=seed + 2),
                    "khat global": lambda: global_log_weights(run, data, seed=seed + 3),
                },
            )

    return compared(guides, objectives, seeds, attempt, draws, progress=progress, notes=notes)


def _elbo() -> Loss:
    return ELBO(num_particles=Recipe().num_particles)


def _summed_out(model: Callable, data: Any, loss: Loss) -> tuple[str, ...]:
    """The discrete latents of each datum that a loss enumerates, which a guide may leave out."""
    if not loss.enumerated:
        return ()
    with calling(SimpleNamespace(model=model, guide=model), (data,), settle=False) as call:
        sites = model_sites(call.model())
        return tuple(n for n in loss.enumerated if n in sites and sites[n]["cond_indep_stack"])


def _reference(model: Callable, data: Any, reference: Any) -> tuple[Any, list[str]]:
    """Reference draws by site, and what is to be said of them."""
    run = SimpleNamespace(model=model, guide=model)
    with calling(run, (data,), settle=False) as call:
        if reference is None:
            return None, []
        if not (isinstance(reference, str) and reference == "nuts"):
            sites = model_sites(call.model())
            shapes = {name: tuple(np.shape(site["value"])) for name, site in sites.items()}
            return checked_reference(reference, shapes), []
        check_no_parameters(_parameters(Posterior(call).start()))
    chains = nuts(model, data)
    return chains.flat(), chains.notes()


def _num_parameters(run: Any, data: Any) -> int:
    """The numbers that the guide of a run has learned."""
    with calling(run, (data,), settle=False) as call:
        networks, stated = learned_in(call.guide)
    return sum(x.numel() for x in (*networks.values(), *(site["value"] for site in stated)))


def _parameters(trace: Trace) -> dict[str, Tensor]:
    """The parameters that a program states."""
    sites = trace.nodes.items()
    return {name: site["value"] for name, site in sites if site["type"] == "param"}


@contextmanager
def _apart() -> Iterator[None]:
    """Inside this block a fit starts with an empty parameter store; afterwards the networks that
    were used in it are as they were."""
    kept: list[tuple[nn.Module, dict[str, Any]]] = []

    def keep(module: nn.Module) -> None:
        kept.append((module, deepcopy(module.state_dict())))

    try:
        with own_store(empty=True), meeting(keep):
            yield
    finally:
        for module, state in reversed(kept):
            module.load_state_dict(state, strict=False)
