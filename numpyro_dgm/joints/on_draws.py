"""The guide run on what the model has generated."""

from collections.abc import Mapping
from typing import Any

import jax
from jax import Array
from numpyro import handlers

from dgm_core.terms import check_observed
from numpyro_dgm.joints.handlers import GivenDraws
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.joints.structure import Trace, mutable_sites, random_sites

__all__: list[str] = []  # for the package, not for users


def guide_on_draws(
    joints: Joints,
    names: tuple[str, ...],
    arguments: Mapping[str, int | str],
    *,
    held: bool = False,
) -> Trace:
    """The trace of the guide run on what the model generated, with some sites at their generated
    values: their score there is log q(z | drawn x).

    Args:
        joints: whose model has run forward.
        names: of the latent sites.
        arguments: {observed site: position or name of the argument that it observes}, where the
            model does not pass the argument to obs= as it is.
        held: whether no gradient passes through what was generated.

    Raises:
        ValueError: where it is not known which argument a site observes, and for a site that model
            and guide do not both draw.
    """
    nodes, args, kwargs = random_sites(joints.generative()), list(joints.args), dict(joints.kwargs)
    values = {name: node["value"] for name, node in nodes.items()}
    if held:
        values = {name: jax.lax.stop_gradient(value) for name, value in values.items()}
    observed = {name: node for name, node in nodes.items() if node["infer"].get("was_observed")}
    check_observed(arguments, observed)
    for site in observed.values():
        places: dict[Any, Any] = {**dict(enumerate(joints.args)), **joints.kwargs}
        found = [key for key, value in places.items() if value is site["infer"]["obs"]]
        if site["name"] in arguments:
            found = [key for key in places if key == arguments[site["name"]]]
        if not found:
            why = (
                f"{dict(arguments)} names none of them"
                if site["name"] in arguments
                else "the model passes obs= something made of it"
            )
            raise ValueError(
                f"The guide is to see the draws of site '{site['name']}', but it is not known "
                f"which of the arguments {list(places)} that site observes: {why}. "
                f"Say which one takes the draws, as in arguments={{'{site['name']}': 0}}, or "
                "pass the argument to obs= as it is."
            )
        for key in found:
            if isinstance(key, str):
                kwargs[key] = values[site["name"]]
            else:
                args[key] = values[site["name"]]
    indices = {
        key: node["value"] for key, node in joints.generative().items() if node["type"] == "plate"
    }
    given = {name: values[name] for name in names if name in nodes}
    guide = GivenDraws(joints.guide, given, indices)
    fn = handlers.substitute(
        handlers.seed(guide, joints.key("guide_on_draws")),
        data={**joints.params, **joints.mutable_state},
    )
    trace = handlers.trace(fn).get_trace(*args, **kwargs)
    joints.mutable_state = {**joints.mutable_state, **mutable_sites(trace)}
    drawn = random_sites(trace)
    if missing := [name for name in names if name not in nodes or name not in drawn]:
        raise ValueError(
            f"Model and guide must both draw '{missing[0]}', but the model draws {sorted(nodes)} "
            f"and the guide {sorted(drawn)}."
        )
    return trace


def guide_score(
    joints: Joints, names: tuple[str, ...], arguments: Mapping[str, int | str]
) -> Array:
    """log q of some sites at a draw of the model, added up over all data; no gradient passes
    through the draw."""
    sites = random_sites(guide_on_draws(joints, names, arguments, held=True))
    scores = [log_density(sites[name]) for name in names]
    return sum(scores[1:], scores[0])


def log_density(site: Any) -> Array:
    """The log-density of a site with its masks, without scales: a number."""
    return site["fn"].log_prob(site["value"]).sum()
