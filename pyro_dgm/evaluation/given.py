"""Values that sites are given, in place of what they would draw."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from dgm_core.traversals import check_given, check_shape_of, out_of_support
from pyro_dgm.evaluation.calls import Call, tensor_of, weight_like
from pyro_dgm.joints.structure import random_sites

__all__: list[str] = []  # for the package, not for users


def given_values(call: Call, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of some sites, such as the model would draw them.

    Raises:
        ValueError: for sites that the model has not, and values of another shape than their draws
            or outside their support.
    """
    if given is None:
        return {}
    sites, like = random_sites(call.forward()), weight_like(call.run)
    values = {name: tensor_of(x, name, like) for name, x in check_given(given, sites).items()}
    for name, x in values.items():
        check_shape_of(name, np.shape(x), np.shape(sites[name]["value"]))
        check_inside(name, sites[name]["fn"], x)
    return values


def check_inside(name: str, fn: Any, value: Tensor) -> None:
    """Raises ValueError for values outside the support of their site."""
    if not bool(fn.support.check(value).all()):
        raise ValueError(out_of_support(name, fn.support))
