"""Draws and means: latents from the guide, reconstructions, and the model run forward."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_flag
from dgm_core.enumeration import check_names
from dgm_core.evaluation import check_no_nan, unknown_mean
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import Call, as_numpy, calling, kept_sites
from pyro_dgm.evaluation.given import given_values
from pyro_dgm.joints import InferenceJoint
from pyro_dgm.joints.points import is_point
from pyro_dgm.joints.structure import kind_of, random_sites

__all__ = ["generate", "latents", "mean_of", "reconstruct"]


@one_at_a_time
def latents(
    run: Any,
    *data: Any,
    num_draws: int = 1,
    means: bool = False,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
    enumerate: str | tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Draws of the model's latent sites from the guide, or with `means` the means of the guide's
    distributions; in the model's order, without what only the guide draws.

    A mean that is not known (of a flow, of a site that follows from others) is the average of
    `num_draws` draws, of which there must be two or more.

    Args:
        run, data, rows, vectorize, seed: as `log_weights` takes them.
        num_draws: how many.
        means: the means instead.
        enumerate: as `sample_posterior` takes it; all means are then averages of draws.

    Returns:
        {site: (num_draws, ...)}, with means {site: (...)}, the batch dimensions as the guide has
        them.

    Raises:
        ValueError: for bad arguments, draws that are NaN, and when a mean is asked of a
            distribution
            that has none with num_draws=1.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> latents(vae, np.ones((3, 4)), num_draws=5)["z"].shape
        (5, 3, 2)
    """
    num_draws, means = check_count("num_draws", num_draws), check_flag("means", means)
    summed = check_names(enumerate)
    with calling(run, data, seed=seed, rows=rows, vectorize=vectorize, enumerated=summed) as call:
        known = _known_means(call) if means and not summed else {}
        names = call.sketch().model_sites
        if means and all(name in known for name in names):
            return {name: np.array(known[name]) for name in names}
        if summed:
            values = enumerated_values(call, num_draws, seed)
        else:
            values = read_values(call, num_draws, names)
    check_no_nan(values, "The guide's draw")
    if not means:
        return values
    for name in values:
        if name not in known and num_draws == 1:
            raise ValueError(unknown_mean(name))
    return {name: known[name] if name in known else x.mean(0) for name, x in values.items()}


@one_at_a_time
def reconstruct(run: Any, *data: Any, rows: Any = None, seed: int = 0) -> dict[str, np.ndarray]:
    """The mean of every observed site given one draw of the latents from the guide, E[x | z],
    z ~ q(z | x).

    Args:
        run, data, rows, seed: as `log_weights` takes them.

    Returns:
        {site: as observed}.

    Raises:
        ValueError: when a distribution has no mean.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> reconstruct(vae, np.ones((3, 4)))["x"].shape
        (3, 4)
    """
    with calling(run, data, seed=seed, rows=rows) as call:
        sites = random_sites(call.traces()[0])
    found = {}
    for name, site in sites.items():
        if kind_of(site) == "observed":
            mean = mean_of(site["fn"])
            if mean is None:
                raise ValueError(unknown_mean(name))
            found[name] = mean
    return found


@one_at_a_time
def generate(
    run: Any,
    *args: Any,
    means: bool = False,
    given: Mapping[str, Any] | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> dict[str, np.ndarray]:
    """Run the model forward: every sample site is drawn, observed ones as well; with `means`, each
    site's mean given the draws before it, where it has one.

    Global latents come from the prior: for what a fitted guide says of new data see `predict`.

    Args:
        run: as `log_weights` takes it.
        args, kwargs: what the model takes, e.g. `size=64` for a VAE, or data, of which only the
            plate sizes count: what is observed is drawn anew.
        means: the means instead.
        given: of sites that are not drawn, {name: value}, each of the shape of a draw: codes along
            a line or moved by `truncated`, labels.
        seed: of the draws.

    Returns:
        {site: (...)} as the model draws it, deterministic sites included.

    Raises:
        ValueError: for given values of sites that the model has not, of other shapes than their
            draws, and outside their support.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> generate(vae, size=6)["x"].shape
        (6, 4)
    """
    means = check_flag("means", means)
    with calling(run, args, seed=seed, more=kwargs, settle=False) as call:
        values = given_values(call, given)
        sites = kept_sites(call.forward(values))
        found = {}
        for name, site in sites.items():
            drawn = kind_of(site) != "deterministic" and name not in values
            mean = mean_of(site["fn"]) if means and drawn else None
            found[name] = as_numpy(site["value"]) if mean is None else mean
    return found


def read_values(
    call: Call, num_draws: int, names: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Draws of the model's latents from the guide, in the model's order; `names` of them, where
    that is known."""
    names = call.sketch().model_sites if names is None else names
    drawn = call.read(_values, num_draws)
    return {n: np.broadcast_to(drawn[n], (num_draws, *drawn[n].shape[1:])).copy() for n in names}


def enumerated_values(call: Call, num_draws: int, seed: int) -> dict[str, np.ndarray]:
    """The same where sites are enumerated: of those that the guide does not draw, draws of the
    posterior given the others."""
    sketch = call.sketch()
    structure, drawn = sketch.structure, call.read(_odds, num_draws)
    odds, values = drawn["odds"], drawn["values"]
    noise = np.random.default_rng(seed).gumbel(size=odds.shape)
    chosen = (odds + noise).argmax(0)  # (num_draws, *sizes)
    found = {}
    for name in sketch.model_sites:
        value = values[name]
        value = np.broadcast_to(value, (len(odds) * num_draws, *value.shape[1:]))
        value = value.reshape(len(odds), num_draws, *value.shape[1:])
        place = [1] * (value.ndim - 2)
        index = np.zeros((num_draws, *place), int)
        if name in structure.local_sites:
            for dim, size in zip(structure.plates.values(), structure.sizes, strict=True):
                place[dim - sketch.event_dim(name)] = size
            index = chosen.reshape(num_draws, *place)
        found[name] = np.take_along_axis(value, index[None], 0)[0]
    return found


def _odds(joint: InferenceJoint) -> dict[str, Any]:
    return {"odds": joint.log_odds(), "values": _values(joint)}


def _values(joint: InferenceJoint) -> dict[str, Any]:
    return {name: joint.values(name) for name in joint.model_sites}


def _known_means(call: Call) -> dict[str, np.ndarray]:
    """The means of the guide's distributions, where they are known.

    A point that follows from further draws of the guide is itself a draw.
    """
    model, guide = map(random_sites, call.traces())
    if any(site["infer"].get("reverse") for site in model.values()):
        return {}  # they would be means given what the guide draws beyond the model
    followed = any(name not in model for name in guide)
    found = {}
    for name, site in guide.items():
        mean = None if followed and is_point(site["fn"]) else mean_of(site["fn"])
        if mean is not None:
            found[name] = np.broadcast_to(mean, np.shape(site["value"]))
    return found


def mean_of(fn: Any) -> np.ndarray | None:
    """The mean of a distribution; None where it is not known, or there is none."""
    try:
        mean = as_numpy(fn.mean)
    except (NotImplementedError, AttributeError):
        return None
    return None if np.isnan(mean).any() else mean
