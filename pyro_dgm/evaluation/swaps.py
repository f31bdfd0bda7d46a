"""What a model makes of some latents of one datum with the other latents of another."""

from typing import Any

import numpy as np

from dgm_core.members import check_swapped
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import as_numpy, calling, kept_sites
from pyro_dgm.evaluation.draws import latents, mean_of
from pyro_dgm.joints.structure import kind_of

__all__ = ["swap"]


def swap(
    run: Any,
    *data: Any,
    sites: str | tuple[str, ...],
    num_draws: int = 8,
    rows: Any = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The means of all data sites at the latents named of datum i and all other latents of datum j:
    content and style exchanged.

    Args:
        run, data, rows, seed: as `log_weights` takes them.
        sites: the local latents that come from datum i, such as "content".
        num_draws: of latents whose means are not known, which are averages of draws.

    Returns:
        {site: (num_data, num_data, ...)}: row i, column j.

    Cost:
        num_data runs of the model on all data.

    Raises:
        ValueError: for latents that the model has not inside one data plate, and where all of them
            are named, so that nothing is exchanged.

    Example:
        >>> from pyro_dgm.models import MLVAE
        >>> mlvae = MLVAE(4, 2, 1, hidden=(8,))
        >>> swap(mlvae, np.ones((3, 2, 4)), sites="content")["x"].shape
        (3, 3, 2, 4)
    """
    values = latents(run, *data, means=True, num_draws=num_draws, rows=rows, seed=seed)
    return _swapped(run, data, values, sites, rows, seed)


@one_at_a_time
def _swapped(
    run: Any, data: tuple, values: dict[str, np.ndarray], sites: Any, rows: Any, seed: int
) -> dict[str, np.ndarray]:
    columns = []
    with calling(run, data, seed=seed, rows=rows) as call:
        structure = call.sketch().structure
        names = [name for name in values if name in structure.local_sites]
        moved, num = check_swapped(sites, names, structure.sizes), structure.sizes[0]
        for column in range(num):
            given = dict(values) | {n: values[n][np.full(num, column)] for n in moved}
            nodes = kept_sites(call.forward(given)).items()
            seen = {n: s for n, s in nodes if n not in values and kind_of(s) != "deterministic"}
            columns.append({name: mean_or_draw(site) for name, site in seen.items()})
    return {name: np.stack([column[name] for column in columns], 1) for name in columns[0]}


def mean_or_draw(site: Any) -> np.ndarray:
    """The mean of what a site is drawn from, where it has one."""
    mean = mean_of(site["fn"])
    return as_numpy(site["value"]) if mean is None else mean
