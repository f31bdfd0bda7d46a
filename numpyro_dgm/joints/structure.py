"""What factorizes in a model and its guide, read from their traces (see `dgm_core.structure`)."""

from typing import Any, TypeAlias

import jax.numpy as jnp
from numpyro.distributions import (
    Delta,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    Unit,
)

from dgm_core import structure
from dgm_core.structure import Plate, Structure
from numpyro_dgm.compat import is_scanned, mask_of
from numpyro_dgm.conditionals.codebooks import Quantized
from numpyro_dgm.conditionals.stated import Stated

Site: TypeAlias = dict[str, Any]
Trace: TypeAlias = dict[str, Site]

__all__ = ["Structure", "find_structure"]


def kind_of(site: Site) -> str:
    """What a node of a trace is: "latent", "observed", "factor" or "deterministic"; else "".

    In a run that ignored the data, "observed" is what had been.
    """
    if site["type"] != "sample":
        return "deterministic" if site["type"] == "deterministic" else ""
    if not (site["is_observed"] or site["infer"].get("was_observed")):
        return "latent"
    return "factor" if isinstance(site["fn"], Unit) else "observed"


def random_sites(trace: Trace) -> dict[str, Site]:
    """The latent and observed sites of a trace."""
    kinds = ("latent", "observed")
    return {name: site for name, site in trace.items() if kind_of(site) in kinds}


def mutable_sites(trace: Trace) -> dict[str, Any]:
    """The values of the mutable sites of a trace."""
    return {name: site["value"] for name, site in trace.items() if site["type"] == "mutable"}


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


def plates_of(site: Site) -> dict[str, int]:
    """The plates around a site, name -> dimension (negative)."""
    return {frame.name: frame.dim for frame in site["cond_indep_stack"]}


def find_structure(model_trace: Trace, guide_trace: Trace) -> Structure:
    """Reads the factorization from one run of the guide and the model replayed against it.

    Raises:
        ValueError: as `dgm_core.structure.find_structure`.
    """
    model, guide = sites_of(model_trace), sites_of(guide_trace)
    return structure.find_structure(model, guide, unplated=True)


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


def sites_of(trace: Trace) -> dict[str, structure.Site]:
    """The records of the latent and observed sites and factors of a trace."""
    kinds = {name: kind_of(site) for name, site in trace.items()}
    scored = {name: kind for name, kind in kinds.items() if kind not in ("", "deterministic")}
    return {name: _site(name, kind, trace) for name, kind in scored.items()}


def _site(name: str, kind: str, trace: Trace) -> structure.Site:
    site = trace[name]
    fn, value_shape = site["fn"], jnp.shape(site["value"])
    return structure.Site(
        name=name,
        kind=kind,
        plates=tuple(
            Plate(frame.name, frame.dim, frame.size, _full_size(trace, frame))
            for frame in site["cond_indep_stack"]
        ),
        batch_shape=tuple(fn.batch_shape),
        event_shape=tuple(fn.event_shape),
        value_shape=value_shape[: max(0, len(value_shape) - len(fn.event_shape))],
        scanned=is_scanned(site),
        auxiliary=bool(site["infer"].get("is_auxiliary")),
        enumerated=site["infer"].get("enumerate") is not None,
        reverse=bool(site["infer"].get("reverse")),
    )


def _full_size(trace: Trace, frame: Any) -> int:
    """The declared size of a plate; a trace holds those of the bodies of scans as
    `Joints` runs it.
    """
    return trace[frame.name]["args"][0] if frame.name in trace else frame.size
