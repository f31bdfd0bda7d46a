"""What a model makes of codes along lines: traversals of one entry, ways from datum to datum."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgm_core.arguments import check_choice, check_count
from dgm_core.evaluation import unknown_mean
from dgm_core.surgery.checks import same_densities
from dgm_core.training.threads import one_at_a_time
from dgm_core.traversals import (
    PATHS,
    check_dims,
    check_moved,
    check_pairs,
    grid,
    line,
    steps_of,
)
from pyro_dgm.evaluation.calls import Call, as_numpy, calling
from pyro_dgm.evaluation.draws import latents, mean_of
from pyro_dgm.evaluation.given import check_inside
from pyro_dgm.joints.structure import kind_of, random_sites

__all__ = ["interpolate", "traverse"]


@one_at_a_time
def traverse(
    run: Any,
    *data: Any,
    site: str | None = None,
    dims: Any = None,
    span: Any = 3.0,
    num_steps: int = 9,
    num_draws: int = 100,
    rows: Any = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What the model makes of the code of a datum with one entry moved at a time: E[x | z] with
    z_d = -span, ..., span and all else as the guide's mean has it.

    Latents that the model draws from the moved site follow with their means, layer by layer. What
    else the model reads stays that of the datum, also where its decoder reads x itself.

    Args:
        run, data, rows: as `log_weights` takes them; one datum is a batch of one.
        site: the latent that is moved; None for the only one.
        dims: the entries that are moved, counted in the flattened value; None for all.
        span: the values run from -span to span; or two numbers, the first and the last.
        num_steps: how many values.
        num_draws: of which a mean is taken that is not known.
        seed: of these draws.

    Returns:
        {observed site: (num_data, len(dims), num_steps, ...)}; `dgm_core.plots.traversals` draws
        one datum of it.

    Cost:
        one run of the model on num_data len(dims) num_steps data, two for each further latent.

    Raises:
        ValueError: for models without latents in one plate of the data, values outside the support
            of the site, and where a mean is asked of a distribution that has none.

    References:
        Higgins et al. (2017), beta-VAE, ICLR.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> traverse(vae, np.ones((1, 4)), dims=[1], num_steps=5)["x"].shape
        (1, 1, 5, 4)
    """
    steps = steps_of(span, num_steps)
    codes = latents(run, *data, means=True, num_draws=num_draws, rows=rows, seed=seed)
    with calling(run, data, seed=seed, rows=rows) as call:
        local = local_latents(call)
        site = check_moved(site, list(local), local)
        num_data = len(codes[site])
        moved = grid(codes[site], check_dims(dims, codes[site][0].size), steps)
        lines = moved.shape[1:3]
        given = {
            name: np.repeat(x, lines[0] * lines[1], 0) if name in local else x
            for name, x in codes.items()
        }
        given[site] = moved.reshape(-1, *codes[site].shape[1:])
        found = _decoded(call, given, num_data, {site})
    return {name: x.reshape(num_data, *lines, *x.shape[1:]) for name, x in found.items()}


@one_at_a_time
def interpolate(
    run: Any,
    x_a: Any,
    x_b: Any,
    *,
    path: str = "linear",
    num_steps: int = 9,
    num_draws: int = 100,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What the model makes of codes on the way from one datum to another: E[x | z] from the guide's
    mean of x_a to that of x_b, all latents of a datum at once.

    Args:
        run: as `log_weights` takes it.
        x_a, x_b: data in any form that `fit` takes, as many of each; what the model reads beside
            its latents is that of x_a.
        path: "linear", or "spherical": along an arc, on which codes of many dimensions keep their
            distance from zero.
        num_steps: codes of each way, its ends among them.
        num_draws: of which a mean is taken that is not known.
        seed: of these draws.

    Returns:
        {observed site: (num_data, num_steps, ...)}, which `dgm_core.plots.traversals` draws.

    Cost:
        one run of the model on num_data num_steps data.

    Raises:
        ValueError: as `traverse`; for other numbers of data, and arcs between opposite codes.

    References:
        White (2016), Sampling generative networks, arXiv:1609.04468.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> interpolate(vae, np.ones((3, 4)), np.zeros((3, 4)), num_steps=5)["x"].shape
        (3, 5, 4)
    """
    path, num_steps = check_choice("path", path, PATHS), check_count("num_steps", num_steps, 2)
    ends = [latents(run, x, means=True, num_draws=num_draws, seed=seed) for x in (x_a, x_b)]
    with calling(run, (x_a,), seed=seed) as call:
        local = local_latents(call)
        check_moved(next(iter(local), None), list(local), local)
        check_pairs(*({name: end[name].shape for name in local} for end in ends))
        given = dict(ends[0])
        for name in local:
            moved = line(ends[0][name], ends[1][name], num_steps, path)
            given[name] = moved.reshape(-1, *moved.shape[2:])
        num_data = len(ends[0][next(iter(local))])
        found = _decoded(call, given, num_data, set(local))
    return {name: x.reshape(num_data, num_steps, *x.shape[1:]) for name, x in found.items()}


def local_latents(call: Call) -> dict[str, bool]:
    """The latents of each datum in the model's order, and whether its plate leads their batch."""
    joint = call.sketch()
    structure = joint.structure
    names = [name for name in joint.model_sites if name in structure.local_sites]
    if len(structure.plates) != 1:
        return {}
    (dim,) = structure.plates.values()
    shapes = {name: joint.values(name).shape[1:] for name in names}
    return {n: len(shape) - joint.event_dim(n) + dim == 0 for n, shape in shapes.items()}


def _decoded(
    call: Call, given: Mapping[str, np.ndarray], num_data: int, moved: Collection[str]
) -> dict[str, np.ndarray]:
    """The means of the observed sites, as many codes of each datum; latents that depend on those
    moved follow from them."""
    num_codes = len(given[next(iter(moved))]) // num_data
    part = call.part(np.repeat(np.arange(num_data), num_codes))
    values = {name: torch.as_tensor(x, device=call.device) for name, x in given.items()}
    latent = [n for n, s in random_sites(part.model(values)).items() if kind_of(s) == "latent"]
    for name in latent:
        fn = random_sites(part.model(values))[name]["fn"]
        check_inside(name, fn, values[name])
        if name not in moved and differs(fn, values[name], num_data, num_codes):
            mean = _known(name, fn)
            values[name] = torch.as_tensor(mean, device=call.device).expand_as(values[name])
            check_inside(name, fn, values[name])
    sites = random_sites(part.model(values)).items()
    return {n: _known(n, site["fn"]) for n, site in sites if kind_of(site) == "observed"}


def differs(fn: Any, value: Tensor, num_data: int, num_codes: int) -> bool:
    """Whether the distribution of a latent differs between the codes of a datum."""
    log_prob = as_numpy(fn.log_prob(value))
    if not log_prob.ndim or len(log_prob) != num_data * num_codes:
        return False
    by_code = log_prob.reshape(num_data, num_codes, -1)
    return not same_densities(by_code, np.broadcast_to(by_code[:, :1], by_code.shape))


def _known(name: str, fn: Any) -> np.ndarray:
    mean = mean_of(fn)
    if mean is None:
        raise ValueError(unknown_mean(name))
    return mean
