"""The normalizing constants of energies: found by annealing, and stated for everything else."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, update_wrapper
from types import SimpleNamespace
from typing import Any

import numpyro
from numpyro import handlers

from dgm_core.annealing import AnnealedBounds
from dgm_core.arguments import check_name
from dgm_core.energies import (
    check_constants,
    no_energy,
    no_site,
    not_annealed,
    unmet,
    which_site,
)
from dgm_core.evaluation import check_run
from dgm_core.posterior import run_of
from numpyro_dgm.conditionals import (
    Conditional,
    NormalizedDistribution,
    UnnormalizedDistribution,
)
from numpyro_dgm.evaluation.annealing import ais
from numpyro_dgm.joints.handlers import Normalizing, Unconditioned
from numpyro_dgm.joints.structure import random_sites
from numpyro_dgm.nn import register
from numpyro_dgm.training import Run

__all__ = ["annealed_log_z", "normalized"]


def normalized(run: Any, log_z: Mapping[str, float]) -> Any:
    """The same run or model with stated constants of its unnormalized sites: everything that asks
    for a density then has log p(x) = potential(x) - ln Z.

    What comes of it is as good as ln Z: a bound with the upper end of an interval of ln Z is still
    a bound, one with the lower end may be above log p.

    Args:
        run: what `fit` returns, any object with .model and .guide, or a model.
        log_z: {site: ln Z}.

    Returns:
        what was given, with another model; of an object with .model and .guide one with these.

    Raises:
        ValueError: for constants that are no numbers; when the model is called, for a site that it
            has not or that is normalized.

    Example:
        >>> import jax
        >>> from numpyro_dgm.conditionals import Energy
        >>> energy = Energy(2, key=jax.random.key(0))
        >>> def model(x):
        ...     with numpyro.plate("data", len(x)):
        ...         numpyro.sample("x", register("energy", energy)(), obs=x)
        >>> from numpyro_dgm import NLL, fit
        >>> x = jax.numpy.zeros((3, 2))
        >>> run = fit(normalized(model, {"x": 1.8}), None, x, loss=NLL(), num_steps=1,
        ...           progress=False)
        >>> run.epoch
        1
    """
    constants = check_constants(log_z)
    if not hasattr(run, "model") and callable(run):
        return _stated_in(run, constants)
    check_run(run)
    return _with_model(run, _stated_in(run.model, constants))


def _stated_in(model: Callable, log_z: Mapping[str, float]) -> Callable:
    """The model with these constants, under its own name."""
    return update_wrapper(partial(_stating, model, log_z), model, updated=())


def _stating(model: Callable, log_z: Mapping[str, float], *args: Any, **kwargs: Any) -> Any:
    """The model with these constants."""
    constants = Normalizing(model, log_z)
    value = constants(*args, **kwargs)
    if missing := sorted(log_z.keys() - constants.met):
        raise ValueError(unmet(missing))
    return value


def annealed_log_z(
    energy: Any, *data: Any, site: str | None = None, **settings: Any
) -> AnnealedBounds:
    """An interval of ln Z by annealed importance sampling, forward and reverse: chains go from
    draws of the base to p ~ exp(-E), and back.

    The forward estimate is below ln Z in expectation, the reverse one above it where its chains
    start in draws of p. They start at the ends of the forward chains here, so that a mode that
    none of these has found is missed by both: `bdmc` is what says how far chains of these
    settings get.

    Args:
        energy: a conditional without context, an unnormalized distribution, or a run, whose model
            has it at `site`.
        data: those of the run, as `log_weights` takes them; a few rows will do.
        site: of the model.
        settings: steps, chains, schedule, kernel and all else that `ais` takes.

    Returns:
        `AnnealedBounds` of one number: `lower`, `upper`, `gap`, their errors.

    Cost:
        that of `ais`.

    Raises:
        ValueError: as `ais`; for a site that has no unnormalized distribution, or a discrete one.

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks, ICML;
        Burda, Grosse and Salakhutdinov (2015), arXiv:1412.8566, for the reverse direction.

    Example:
        >>> from numpyro_dgm.conditionals import StandardNormal, Tilted
        >>> import jax
        >>> prior = Tilted(StandardNormal(2), key=jax.random.key(0))
        >>> bounds = annealed_log_z(prior, steps=10, chains=8, progress=False)
        >>> bounds.lower.shape
        (1,)
    """
    if isinstance(energy, Conditional | UnnormalizedDistribution):
        if site is not None or data:
            raise ValueError(which_site(site, len(data)))
        return ais(partial(_alone, energy), start="prior", **settings)
    run = run_of(energy)
    found = partial(_at_site, run.model, check_name("site", site))
    return ais(_with_model(run, found), *data, start="prior", **settings)


def _with_model(run: Any, model: Callable) -> Any:
    """The run with another model."""
    if isinstance(run, Run):
        return replace(run, model=model)
    weights = {"params": run.params} if hasattr(run, "params") else {}
    return SimpleNamespace(model=model, guide=run.guide, **weights)


def _alone(energy: Any) -> None:
    """x ~ base, tilted to the energy."""
    module = isinstance(energy, Conditional)
    _stated("x", register("energy", energy)() if module else energy)


def _at_site(model: Callable, site: str, *args: Any, **kwargs: Any) -> None:
    """The same of a site of a model."""
    with handlers.block(hide_fn=lambda msg: msg["type"] == "sample"):
        trace = handlers.trace(Unconditioned(model)).get_trace(*args, **kwargs)
    sites = random_sites(trace)
    if site not in sites:
        raise ValueError(no_site(site, sites))
    fn = sites[site]["fn"]
    while hasattr(fn, "base_dist") or isinstance(fn, NormalizedDistribution):
        fn = fn.unnormalized if isinstance(fn, NormalizedDistribution) else fn.base_dist
    if not isinstance(fn, UnnormalizedDistribution):
        raise ValueError(no_energy("annealed_log_z", site, type(fn).__name__))
    _stated(site, fn.alone)


def _stated(site: str, fn: UnnormalizedDistribution) -> None:
    if fn.base.support.is_discrete:
        raise ValueError(not_annealed(site))
    x = numpyro.sample(site, fn.base)
    numpyro.factor(f"tilt of {site}", fn.log_ratio(x))
