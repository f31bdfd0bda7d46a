"""Posterior collapse and active units: which entries of which latents say something of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgm_core.arguments import check_floats, check_number, refuse
from dgm_core.diagnostics.latents import unit_variances
from dgm_core.results import format_table

__all__ = ["Collapse", "check_sites_of_collapse", "means_of"]


class Collapse:
    """How much each latent site, and each of its entries, says of the data.

    An entry is collapsed (epsilon, delta) when KL(q(z_d | x), p(z_d)) < epsilon for a share of at
    least 1 - delta of the data, and active when Var_x E[z_d | x] > threshold.  The two may differ:
    an entry whose mean moves little beside a narrow posterior has a KL and is not active.

    Args:
        kl: site -> (num_data, entries), the KL of each entry in nats; (num_data,), of the whole
            site, where its entries are not independent.
        means: site -> posterior means (num_data, entries), or draws of it (num_draws, num_data,
            entries); None for a site without a mean, such as a class.

    Attributes:
        rows: one for each site: "site", "entries", "KL" (its mean over the data), "active" (the
            number of active entries), "collapsed" (of collapsed ones), "share" (of the data whose
            KL of the whole site is below epsilon).
        units: one for each entry: "site", "entry", "KL", "variance" (of the mean), "share".

    Raises:
        ValueError: for other shapes, and values that are not finite.

    References:
        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519; Lucas, Tucker, Grosse and Norouzi
        (2019), Don't blame the ELBO!, arXiv:1911.02469.

    Example:
        >>> kl = np.array([[2.0, 0.001], [3.0, 0.003]])
        >>> print(Collapse({"z": kl}, {"z": np.array([[-1.0, 0.0], [1.0, 0.01]])}))
        site  entries     KL  active  collapsed  share
        ----  -------  -----  ------  ---------  -----
        z           2  2.502       1          1  0.000
    """

    def __init__(
        self,
        kl: Mapping[str, np.ndarray],
        means: Mapping[str, np.ndarray | None],
        *,
        threshold: float = 0.01,
        epsilon: float = 0.01,
        delta: float = 0.01,
    ) -> None:
        self.threshold = check_number("threshold", threshold, least=0)
        self.epsilon = check_number("epsilon", epsilon, above=0)
        self.delta = check_number("delta", delta, least=0, below=1)
        if not isinstance(kl, Mapping) or not kl or set(kl) != set(means):
            refuse("kl and means", "dicts of the same sites, one or more", kl)
        self.rows: list[dict[str, Any]] = []
        self.units: list[dict[str, Any]] = []
        for site, values in kl.items():
            self._add(site, _checked(site, values), means[site])

    def _add(self, site: str, kl: np.ndarray, means: np.ndarray | None) -> None:
        whole = kl if kl.ndim == 1 else kl.sum(1)
        variances = None if means is None else unit_variances(means)
        num = kl.shape[1] if kl.ndim == 2 else 1 if variances is None else len(variances)
        if variances is not None and kl.ndim == 2 and len(variances) != num:
            raise ValueError(
                f"Site '{site}' has {num} entries in kl, and {len(variances)} in means."
            )
        shares = (kl < self.epsilon).mean(0) if kl.ndim == 2 else None
        self.rows.append(
            {
                "site": site,
                "entries": num,
                "KL": float(whole.mean()),
                "active": None if variances is None else int(np.sum(variances > self.threshold)),
                "collapsed": None if shares is None else int(np.sum(shares >= 1 - self.delta)),
                "share": float((whole < self.epsilon).mean()),
            }
        )
        for entry in range(num):
            found = {
                "KL": None if shares is None else float(kl[:, entry].mean()),
                "variance": None if variances is None else float(variances[entry]),
                "share": None if shares is None else float(shares[entry]),
            }
            self.units.append({"site": site, "entry": entry, **found})

    def __repr__(self) -> str:
        return format_table(self.rows)


def check_sites_of_collapse(
    names: Sequence[str], beyond: Sequence[str], masked: Sequence[str], num_plates: int
) -> None:
    """Raises ValueError unless a model has latents in one plate of the data, each drawn by the
    guide from a distribution of its own.

    Args:
        names: the local latents of the model;  beyond: what only the guide draws;  masked: the
            latents under a mask.
    """
    if not names or num_plates != 1:
        raise ValueError(
            "collapse reads the latents of each datum, inside one plate of the data, got the local "
            f"latents {list(names)} and {num_plates} plates."
        )
    if beyond:
        raise ValueError(
            f"collapse compares q and p site by site, but the guide draws {list(beyond)} beyond "
            "the model, from which the latents follow together: take a guide that draws each "
            "latent from a distribution of its own."
        )
    if masked:
        raise ValueError(
            f"The latents {list(masked)} lie under a mask, and the data that it hides have no KL: "
            "pass collapse the data that have these latents."
        )


def means_of(
    found: Mapping[tuple[str, str], np.ndarray], names: Sequence[str], discrete: Sequence[str]
) -> dict[str, np.ndarray | None]:
    """What stands for the posterior means of each site: those of the guide where they are known,
    else its draws; None for classes, whose numbers have no mean.

    Args:
        found: ("mean", site) and ("value", site) -> (num_draws, num_data, entries).

    Example:
        >>> found = {("mean", "k"): np.array([[[np.nan]]]), ("value", "k"): np.ones((1, 1, 1))}
        >>> means_of(found, ["k"], ["k"]), means_of(found, ["k"], [])
        ({'k': None}, {'k': array([[[1.]]])})
    """
    means: dict[str, np.ndarray | None] = {}
    for name in names:
        mean = found.get(("mean", name))
        if mean is not None and np.isfinite(mean).all():
            means[name] = mean
        else:
            means[name] = None if name in discrete else found["value", name]
    return means


def _checked(site: str, kl: np.ndarray) -> np.ndarray:
    kl = check_floats("kl", kl)
    if kl.ndim not in (1, 2) or kl.size == 0:
        raise ValueError(
            f"kl of site '{site}' must be (num_data,) or (num_data, entries), got shape {kl.shape}."
        )
    if bad := int((~np.isfinite(kl)).sum()):
        raise ValueError(f"kl of site '{site}' must be finite, got {bad} values that are not.")
    return kl
