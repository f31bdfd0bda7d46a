"""The codes that a guide puts data to, and how they are used."""

from typing import Any

from dgm_core.diagnostics import CodeMap
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.conditionals import CodePrior
from pyro_dgm.evaluation.calls import as_numpy, calling
from pyro_dgm.joints.values import base_of

__all__ = ["codes"]


@one_at_a_time
def codes(run: Any, *data: Any, rows: Any = None, seed: int = 0) -> dict[str, CodeMap]:
    """The numbers of the codes of data, at every latent site whose prior is one of codes.

    Args:
        run, data, rows, seed: as `log_weights` takes them.

    Returns:
        {site: CodeMap}, of which `indices` is (num_data, *positions), and `use` says how many codes
        are used, and how evenly.

    Raises:
        ValueError: for a model without such a site.

    Example:
        >>> from pyro_dgm import VQVAE
        >>> found = codes(VQVAE(4, 2, 8, positions=3, hidden=(5,)), np.ones((7, 4), np.float32))
        >>> found["z"].indices.shape, found["z"].use.num_codes
        ((7, 3), 8)
    """
    with calling(run, data, seed=seed, rows=rows) as call:
        nodes = call.traces()[0].nodes
        sites = {name: site for name, site in nodes.items() if site["type"] == "sample"}
        found = {
            name: CodeMap(as_numpy(fn.indices(sites[name]["value"])), fn.codebook.num_codes)
            for name, fn in ((name, base_of(site["fn"])) for name, site in sites.items())
            if isinstance(fn, CodePrior)
        }
    if not found:
        raise ValueError(
            f"The model has no site of codes, only {sorted(sites)}: state one as quantizer.prior()."
        )
    return found
