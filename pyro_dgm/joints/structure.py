"""What factorizes in a model and its guide, read from their traces (see `dgm_core.structure`)."""

from collections.abc import Callable, Mapping, Sequence
from traceback import walk_tb
from typing import Any

import numpy as np
from pyro import poutine
from pyro.distributions import (
    Delta,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    Unit,
)
from pyro.poutine import Trace
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample

from dgm_core import structure
from dgm_core.structure import Plate, Site, Structure
from pyro_dgm.compat import is_computed, mask_of
from pyro_dgm.conditionals.codebooks import Quantized
from pyro_dgm.conditionals.stated import Stated
from pyro_dgm.nn.register import named_networks

__all__ = ["Structure", "find_structure"]


def trace_of(
    program: Callable, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Trace:
    """The sites of a run. Pyro writes the shapes of all sites behind errors: sentences of ours
    stay as they are.
    """
    try:
        with named_networks() as found:
            trace = poutine.trace(program).get_trace(*args, **(kwargs or {}))
        trace.networks = found
        return trace
    except (ValueError, RuntimeError) as error:
        cause = error.__cause__
        if cause is None or not _is_ours(cause):
            raise
        raise cause from cause.__cause__


def _is_ours(error: BaseException) -> bool:
    """Whether an error was raised by this package."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").split(".")[0] in ("pyro_dgm", "dgm_core")


def kind_of(site: Message) -> str:
    """What a node of a trace is: "latent", "observed", "factor" or "deterministic"; else "".

    A site that a reparameterizer has replaced is deterministic, or a factor where it keeps a
    density. In a run that ignored the data, "observed" is what had been.
    """
    if site["type"] != "sample" or site_is_subsample(site):
        return ""
    fn, infer = site["fn"], site["infer"]
    if not (site["is_observed"] or infer.get("was_observed")):
        return "latent"
    if is_computed(site):
        return "deterministic"
    if mask_of(fn) is False and isinstance(fn.base_dist, Delta):
        return "deterministic"
    if isinstance(fn, Delta) and fn.v is (site["value"] if site["is_observed"] else infer["obs"]):
        return "factor"
    return "factor" if isinstance(fn, Unit) else "observed"


def random_sites(trace: Trace) -> dict[str, Message]:
    """The latent and observed sites of a trace."""
    kinds = ("latent", "observed")
    return {name: site for name, site in trace.nodes.items() if kind_of(site) in kinds}


def draws_nothing(fn: Any) -> bool:
    """Whether a distribution is determined by what was drawn before: a Delta, the codes of a
    quantizer, or a factor's.
    """
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return isinstance(fn, Delta | Unit | Quantized)


def is_stated(fn: Any) -> bool:
    """Whether a site is what the program was given, which it does not model."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return isinstance(fn, Stated)


def undrawn(trace: Trace) -> list[str]:
    """The sites of a guide that state something and draw nothing: determined values, factors."""
    sites = trace.nodes.items()
    return [name for name, site in sites if kind_of(site) and draws_nothing(site["fn"])]


def unmasked(fn: Any) -> Any:
    """A distribution without the masks around it."""
    if isinstance(fn, MaskedDistribution):
        return unmasked(fn.base_dist)
    if isinstance(fn, Independent):
        return unmasked(fn.base_dist).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, ExpandedDistribution):
        return unmasked(fn.base_dist).expand(fn.batch_shape)
    return fn


def masked_as(fn: Any, own: Any) -> Any:
    """A distribution under the mask that another brings."""
    event_dim = len(fn.event_shape)
    while hasattr(fn, "base_dist"):
        if (mask := mask_of(fn)) is not None:
            if len(fn.event_shape) != event_dim:
                raise ValueError(
                    "A latent site has a mask inside its event dimensions, where a density of the "
                    "whole event is not defined: leave it to Prior(), or mask whole events."
                )
            own = own.mask(mask)
        fn = fn.base_dist
    return own


def step_mask_of(fn: Any) -> Any:
    """Which steps (*batch, length) of a sequence its density looks at; None where it looks at all
    entries of its values.
    """
    return getattr(fn, "step_mask", None)


def plates_of(site: Message) -> dict[str, int]:
    """The plates around a site, name -> dimension (negative)."""
    return {frame.name: frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}


def find_structure(model_trace: Trace, guide_trace: Trace) -> Structure:
    """Reads the factorization from one run of the guide and the model replayed against it.

    Raises:
        ValueError: as `dgm_core.structure.find_structure`.
    """
    _check_factors(guide_trace)
    return structure.find_structure(sites_of(model_trace), sites_of(guide_trace))


def find_structure_at_once(
    model_trace: Trace, guide_trace: Trace, num_particles: int, batch_ndim: int
) -> Structure:
    """The same from a run with the particles in dimension -(batch_ndim + 1)."""
    _check_factors(guide_trace)
    model, guide = sites_of(model_trace), sites_of(guide_trace)
    return structure.find_structure(
        model, guide, num_particles=num_particles, batch_ndim=batch_ndim
    )


def _check_factors(guide_trace: Trace) -> None:
    for name, site in guide_trace.nodes.items():
        if site["type"] == "sample" and isinstance(site["fn"], Unit) and not site["fn"].has_rsample:
            raise ValueError(
                f"The gradient of a factor in a guide is that of its value: write "
                f"pyro.factor('{name}', ..., has_rsample=True), and draw what is not "
                "reparameterized at sample sites, which take the score function."
            )


def declared_size(generative_trace: Trace) -> int:
    """The number of data that the plates of a model declare, from a run that ignored the data."""
    return structure.structure_of_draws(sites_of(generative_trace)).data_size


def no_gradient_message(name: str, family: str, owner: str) -> str:
    """What to say of a site with learnable parameters through whose draws no gradient passes."""
    return (
        f"Site '{name}' of the {owner} draws from {family}, which is not reparameterized: no "
        "gradient passes through its draws to its parameters. Compare a site that is (the mean "
        "under a Delta or a Normal, a relaxed distribution), or train the site by a term with a "
        "score-function estimator, such as ELBO."
    )


def sites_of(trace: Trace) -> dict[str, Site]:
    """The records of the latent and observed sites and factors of a trace."""
    kinds = {name: kind_of(site) for name, site in trace.nodes.items()}
    scored = {name: kind for name, kind in kinds.items() if kind not in ("", "deterministic")}
    return {name: _site(name, kind, trace.nodes[name]) for name, kind in scored.items()}


def _site(name: str, kind: str, site: Mapping[str, Any]) -> Site:
    fn = site["fn"]
    value_shape = tuple(np.shape(site["value"]))
    return Site(
        name=name,
        kind=kind,
        plates=tuple(
            Plate(
                frame.name, frame.dim if frame.vectorized else None, frame.size, _full_size(frame)
            )
            for frame in site["cond_indep_stack"]
        ),
        batch_shape=tuple(fn.batch_shape),
        event_shape=tuple(fn.event_shape),
        value_shape=value_shape[: max(0, len(value_shape) - len(fn.event_shape))],
        auxiliary=bool(site["infer"].get("is_auxiliary")),
        enumerated=site["infer"].get("enumerate") is not None,
        reverse=bool(site["infer"].get("reverse")),
    )


def _full_size(frame: Any) -> int:
    return frame.size if frame.full_size is None else frame.full_size
