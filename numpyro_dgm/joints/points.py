"""Which sites are points without a density, or have one that is estimated."""

from math import prod
from typing import Any

import numpy as np
from numpyro.distributions import (
    Delta,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    biject_to,
)

from numpyro_dgm.joints.structure import Site, Trace, kind_of, random_sites

__all__: list[str] = []  # for the package, not for users


def is_point(fn: Any) -> bool:
    """Whether a distribution is a Delta, whatever is wrapped around it."""
    while isinstance(fn, ExpandedDistribution | Independent | MaskedDistribution):
        fn = fn.base_dist
    return isinstance(fn, Delta)


def point_masses(model_trace: Trace, guide_trace: Trace) -> tuple[str, ...]:
    """The sites where log p - log q is no ratio of densities.

    These are the continuous latents that the guide fixes to a point, unless they bring a density of
    their own or follow from further draws of the guide, of as many entries in all; and the
    observed sites of the model that are points.
    """
    model, guide = random_sites(model_trace), random_sites(guide_trace)
    fixed, entries = [], 0
    for name, site in guide.items():
        if name not in model:
            entries -= np.size(site["value"])
        elif _is_fixed(site, model[name]["fn"]):
            fixed.append(name)
            entries += _num_entries(model[name]["fn"], site["value"])
    seen = [
        name
        for name, site in model.items()
        if kind_of(site) == "observed" and is_point(site["fn"]) and not _is_discrete(site["fn"])
    ]
    return (*(fixed if entries > 0 else ()), *seen)


def estimated_sites(joint: Any) -> tuple[str, ...]:
    """The sites of a run whose densities are estimated."""
    return joint.runs.layout.estimated


def _is_fixed(site: Site, fn: Any) -> bool:
    """Whether a guide fixes a continuous latent of distribution fn, without a density."""
    if not is_point(site["fn"]) or is_point(fn) or _is_discrete(fn):
        return False
    return not site["fn"].log_prob(site["value"]).any()


def _is_discrete(fn: Any) -> bool:
    return bool(getattr(fn.support, "is_discrete", False))


def _num_entries(fn: Any, value: Any) -> int:
    """The entries of a value where its support is mapped to the real line."""
    try:
        return prod(biject_to(fn.support).inverse_shape(np.shape(value)))
    except NotImplementedError:
        return np.size(value)
