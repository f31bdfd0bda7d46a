"""Importance weights of a run."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from jax import Array

from dgm_core.arguments import check_count, check_flag
from dgm_core.diagnostics import LatentKL, LogWeights, point_mass_message
from dgm_core.diagnostics.latents import scaled_message
from dgm_core.enumeration import check_names
from dgm_core.evaluation import Passes, check_densities, passes, weighs_whole
from dgm_core.matching import warn_estimated
from dgm_core.modalities import check_given
from dgm_core.structure import Structure
from dgm_core.training.progress import Progress
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.calls import Call, as_numpy, calling
from numpyro_dgm.evaluation.conditioned import given_alone
from numpyro_dgm.evaluation.sizes import sizes_of
from numpyro_dgm.joints import InferenceJoint
from numpyro_dgm.joints.points import estimated_sites, point_masses
from numpyro_dgm.joints.structure import random_sites

__all__ = ["log_weights"]


@one_at_a_time
def log_weights(
    run: Any,
    *data: Any,
    num_particles: int = 512,
    chunk_size: int = 32_768,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
    enumerate: str | tuple[str, ...] = (),
    given: str | tuple[str, ...] = (),
    progress: bool = False,
) -> np.ndarray:
    """log p(x_n, z_kn) - log q(z_kn | x_n) with z_kn ~ q(z | x_n), for
    `dgm_core.diagnostics.summary`.

    A model with global latents or factors does not factorize: then one weight of the whole data per
    draw of all latents. Factors count as they are, so the weights are those of the unnormalized
    evidence.

    Args:
        run: what `fit` returns, or any object with callables .model and .guide.
        data: in any form that `fit` takes (an array, a tuple, a dict of arguments by name, a
            table),
            or several arrays; one row per datum.
        num_particles: draws per datum.
        chunk_size: rows times particles held in memory at once.
        rows: which data of the fit these are, for guides with parameters of each datum.
        vectorize: whether the particles of a chunk run at once; None chooses.
        seed: of the draws.
        enumerate: the names of discrete latents of each datum that are summed out of the weights,
            as ELBO and IWAE take them; of a guide that does not draw them, all of them.
        given: the names of some of the observed sites: the log of the mean weight is then an
            estimate of log p(the others | these), log p(all) less log p(these). A guide that can
            see these alone does so for the second (`ELBO(given=...)`); any other draws from all.
        progress: one line of progress.

    Returns:
        An array (num_particles, num_data), or (num_particles, 1) of the whole data.

    Cost:
        num_particles passes of guide and model, twice that with `given`; memory as one pass of a
        chunk takes it, beside the array that is returned (`log_likelihood` keeps three numbers per
        datum instead).

    Raises:
        ValueError: for bad arguments; where the model subsamples the data by itself, or was given a
            part of data that do not factorize; for a guide with parameters of other data; for
            latents
            that are point masses; for NaN in the data without a mask, and log-densities that are
            NaN.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> log_weights(vae, np.ones((3, 4)), num_particles=5).shape
        (5, 3)
    """
    num_particles = check_count("num_particles", num_particles)
    chunk_size = check_count("chunk_size", chunk_size)
    names, progress = check_names(enumerate), check_flag("progress", progress)
    given = check_given(given)
    with calling(run, data, seed=seed, rows=rows, vectorize=vectorize, enumerated=names) as call:
        found = _all_weights(call, num_particles, chunk_size, progress)
        if not given:
            return found
        own = given_alone(call, given)
        alone = _all_weights(own, num_particles, chunk_size, progress)
        evidence = np.logaddexp.reduce(alone, 0) - np.log(num_particles)
        return LogWeights(np.asarray(found) - evidence, found.latents, found.notes)


def _all_weights(call: Call, num_particles: int, chunk_size: int, progress: bool) -> LogWeights:
    """The weights of all data."""
    first = call.sketch()
    whole, notes = looked_at(call, first.structure)
    if num_particles > 1:
        warn_estimated("a mean of weights", estimated_sites(first))
    num_data = prod(first.sizes)
    split = not whole and splits(call, first.sizes, chunk_size)
    plan = passes(num_particles, num_data, chunk_size, split=split)
    with Progress(plan.num_chunks * len(plan.rows), enabled=progress) as bar:
        bar.show("weights", {})
        parts = [_weights(call, plan, part, bar) for part in plan.rows]
    log_w, kls = zip(*parts, strict=True)
    kept = 1 if whole else num_data
    latents = {
        name: LatentKL(np.concatenate([kl[name] for kl in kls])[:kept], num_entries(first, name))
        for name in kls[0]
    }
    return LogWeights(np.concatenate(log_w, axis=1)[:num_particles, :kept], latents, notes)


def looked_at(call: Call, structure: Structure) -> tuple[bool, tuple[str, ...]]:
    """Whether there is one weight of the whole data, and what the weights must not hide. ValueError
    where there are no weights."""
    traces = call.traces()
    if points := point_masses(*traces):
        raise ValueError(point_mass_message(points))
    sites = [site for trace in traces for site in random_sites(trace).values()]
    known = [site for site in sites if site["scale"] is not None]
    scales = {site["name"]: as_numpy(site["scale"]) for site in known}
    notes = scaled_message(scales, structure.data_scale)
    return weighs_whole(structure, call.num_rows), notes


def splits(call: Call, sizes: Sequence[int], most: int) -> bool:
    """Whether data, of which `most` are held at once, are more than that and can be evaluated some
    rows at a time: in one plate, which has a datum for each row, and of fewer rows fewer."""
    num_data = prod(sizes)
    if num_data <= most or len(sizes) != 1 or num_data != call.num_rows:
        return False
    few = np.arange(2 if num_data > 2 else 1)
    try:
        return tuple(sizes_of(call, few)) == (len(few),)
    except Exception:  # whatever a program of all data says of a few
        return False


def _weights(
    call: Call, plan: Passes, rows: np.ndarray | None, bar: Progress
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weights of some rows, and KL(q, p) of their latents."""
    parts, ratios = [], []
    for _ in range(plan.num_chunks):
        log_w, found = weights_at_once(call, plan.num_particles, rows)
        parts.append(log_w)
        ratios.append(found)
        bar.advance()
    kl = {name: np.concatenate([ratio[name] for ratio in ratios]).mean(0) for name in ratios[0]}
    return np.concatenate(parts).astype(np.float64), kl


def weights_at_once(
    call: Call, num_particles: int, rows: np.ndarray | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weights (num_particles, num_data) of one pass, and log q - log p of the latents.

    Raises:
        ValueError: for weights that are NaN or +inf.
    """
    log_w, found = call.read(log_ratios, num_particles, rows)
    check_densities(log_w, lambda: call.read(log_densities, num_particles, rows))
    return np.broadcast_to(log_w, (num_particles, log_w.shape[1])), found


def log_ratios(joint: InferenceJoint) -> tuple[Array, dict[str, Array]]:
    """The weights, (num_particles, num_data) or (num_particles, 1) of the whole data; and log q -
    log p
    of the local latents: of each by itself, or of all where the guide draws more than the model.
    """
    local = _flat(joint.log_w)
    if not joint.structure.factorizes:
        return (local.sum(1) + joint.global_log_w.reshape(-1))[:, None], {}
    names = _local_latents(joint)
    if joint.enumerated_sites:
        return local, {}
    if len(names) != len(joint.structure.local_sites) or len(names) == 1:
        ratios = {", ".join(names): joint.log_posterior - joint.log_prior} if names else {}
    else:
        ratios = {n: joint.log_posterior_of(n) - joint.log_prior_of(n) for n in names}
    return local, {name: _flat(ratio) for name, ratio in ratios.items()}


def log_densities(joint: InferenceJoint) -> dict[str, Array]:
    """All log-densities, by the words that name their sites."""
    found = {}
    for name in joint.site_orders()[1]:
        found[f"site '{name}' in the guide"] = joint.log_posterior_of(name)
        found[f"site '{name}' in the model"] = joint.log_prior_of(name)
    for name in joint.structure.observed_sites:
        found[f"site '{name}' in the model"] = joint.log_likelihood_of(name)
    return found


def _local_latents(joint: InferenceJoint) -> list[str]:
    """The local latents of the model, in its order."""
    return [name for name in joint.model_sites if name in joint.structure.local_sites]


def num_entries(joint: InferenceJoint, name: str) -> int:
    """Entries per datum of a latent, or of several."""
    names = _local_latents(joint) if ", " in name else [name]
    shapes = [joint.values(name).shape[1:] for name in names]
    return sum(prod(shape) for shape in shapes) // max(1, prod(joint.sizes))


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)
