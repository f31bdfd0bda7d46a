"""Values that sites are given, in place of what they would draw."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.traversals import check_given, check_shape_of, out_of_support
from numpyro_dgm.evaluation.calls import Call, array_of
from numpyro_dgm.joints.structure import random_sites

__all__: list[str] = []  # for the package, not for users


def given_values(call: Call, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of some sites, such as the model would draw them.

    Raises:
        ValueError: for sites that the model has not, and values of another shape than their draws
            or outside their support.
    """
    if given is None:
        return {}
    sites = random_sites(call.forward())
    values = {name: array_of(x, name) for name, x in check_given(given, sites).items()}
    for name, x in values.items():
        check_shape_of(name, np.shape(x), np.shape(sites[name]["value"]))
        check_inside(name, sites[name]["fn"], x)
    return values


def check_inside(name: str, fn: Any, value: Array) -> None:
    """Raises ValueError for values outside the support of their site."""
    if not bool(jnp.all(fn.support(value))):
        raise ValueError(out_of_support(name, fn.support))
