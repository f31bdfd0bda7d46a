"""Which latents of a run say something of the data."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from torch import Tensor
from torch.distributions import kl_divergence

from dgm_core.arguments import check_count
from dgm_core.diagnostics import Collapse, point_mass_message
from dgm_core.diagnostics.collapse import check_sites_of_collapse, means_of
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.compat import mask_of
from pyro_dgm.evaluation.calls import Call, calling
from pyro_dgm.joints.entries import entries_of
from pyro_dgm.joints.points import point_masses
from pyro_dgm.joints.structure import random_sites, unmasked

__all__ = ["collapse"]


@one_at_a_time
def collapse(
    run: Any,
    *data: Any,
    num_draws: int = 16,
    threshold: float = 0.01,
    epsilon: float = 0.01,
    delta: float = 0.01,
    rows: Any = None,
    seed: int = 0,
) -> Collapse:
    """Posterior collapse and active units of every latent site, each layer of a hierarchy being a
    site: the KL of each entry, and whether its posterior mean moves with the data.

    The KL of a site is that given the sites before it, in closed form where there is one, else the
    mean of log q - log p over the draws; means of a layer are averaged over the draws of the layers
    before.

    Args:
        run, data, rows: as `log_weights` takes them.
        num_draws: of all latents for each datum, two or more; a guide of one layer with known means
            and divergences needs no more than two.
        threshold: of the variance of an active entry's mean.
        epsilon, delta: an entry is collapsed when its KL is below epsilon nats for a share of at
            least 1 - delta of the data.
        seed: of the draws.

    Returns:
        `dgm_core.diagnostics.Collapse`, a table.

    Cost:
        num_draws runs of guide and model.

    Raises:
        ValueError: for models without latents in one plate of the data, guides that draw more than
            the model's latents, point masses, and masked latents.

    References:
        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519; Lucas et al. (2019),
        arXiv:1911.02469.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> collapse(vae, np.ones((3, 4))).rows[0]["active"]  # of three equal data
        0
    """
    num_draws = check_count("num_draws", num_draws, 2)
    with calling(run, data, seed=seed, rows=rows) as call:
        joint = call.sketch()
        names = [name for name in joint.model_sites if name in joint.structure.local_sites]
        beyond = [name for name in joint.latent_sites if name not in joint.model_sites]
        model, guide = map(random_sites, (traces := call.traces()))
        masked = [name for name in names if _is_masked(model[name]) or _is_masked(guide[name])]
        check_sites_of_collapse(names, beyond, masked, len(joint.sizes))
        if points := point_masses(*traces):
            raise ValueError(point_mass_message(points))
        (dim,) = joint.structure.plates.values()
        found = call.repeat(partial(_units, names=names, dim=dim), num_draws)
        discrete = [n for n in names if getattr(model[n]["fn"].support, "is_discrete", False)]
    return Collapse(
        {name: found["kl", name].mean(0) for name in names},
        means_of(found, names, discrete),
        threshold=threshold,
        epsilon=epsilon,
        delta=delta,
    )


def _units(
    call: Call, _: Mapping[str, Any], names: Sequence[str], dim: int
) -> dict[tuple[str, str], Tensor]:
    """Of one draw: the KL, the value and, where it is known, the mean of every site, each
    (num_data, entries) or (num_data,)."""
    model, guide = map(random_sites, call.traces())
    found = {}
    for name in names:
        q, p = unmasked(guide[name]["fn"]), unmasked(model[name]["fn"])
        value, each = guide[name]["value"], (entries_of(q), entries_of(p))
        if each[0] is None or each[1] is None:
            kl = _by_datum(_kl(q, p, value), 0, dim)
            found["kl", name] = kl.sum(1)
        else:
            found["kl", name] = _by_datum(_kl(*each, value), q.event_dim, dim)
        found["value", name] = _by_datum(value, q.event_dim, dim)
        with suppress(NotImplementedError, AttributeError):
            found["mean", name] = _by_datum(q.mean.expand(value.shape), q.event_dim, dim)
    return found


def _kl(q: Any, p: Any, value: Tensor) -> Tensor:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(value) - p.log_prob(value)


def _by_datum(x: Tensor, event_dim: int, dim: int) -> Tensor:
    """The plate of the data in front, all else side by side."""
    x = x.movedim(x.ndim - event_dim + dim, 0)
    return x.reshape(len(x), -1)


def _is_masked(site: Mapping[str, Any]) -> bool:
    if site["mask"] is not None:
        return True
    fn = site["fn"]
    while mask_of(fn) is None and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return mask_of(fn) is not None
