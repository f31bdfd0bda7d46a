"""Runs of a model on other data than those of the batch: on draws of its own, or on the data of
another site.
"""

from collections.abc import Mapping
from typing import Any

from jax import Array

from dgm_core.exchanging import place_of, replaced
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.joints.structure import random_sites
from numpyro_dgm.nn.states import repeated

__all__: list[str] = []  # for terms of the package


def draws_at(joints: Joints, values: Mapping[str, Array]) -> dict[str, Array]:
    """What the model draws at some observed sites where the arguments that are observed there are
    replaced by these values, all of them.

    Nothing that networks keep moves: it is a second run in one step.

    Raises:
        ValueError: for a site that observes no argument of the model as it is.
    """
    nodes = random_sites(joints.generative())
    given = [*joints.args, *joints.kwargs.values()]
    places = {name: place_of(name, _observed(nodes[name]), given) for name in values}
    args, kwargs = replaced(joints.args, joints.kwargs, places, values)
    with repeated():
        other = Joints(
            joints.key("exchanged"),
            joints.params,
            joints.model,
            joints.guide,
            args,
            kwargs,
            mutable_state=joints.mutable_state,
        )
        drawn = random_sites(other.generative())
    return {name: drawn[name]["value"] for name in values}


def _observed(site: Any) -> Any:
    return site["infer"].get("obs") if site["infer"].get("was_observed") else None
