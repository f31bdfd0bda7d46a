"""What vectors of several latent sites decide without arrays: which sites may be in one, where they
lie in it, and the words for what cannot be."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from dgm_core.guides import LatentSite, Shape

__all__: list[str] = []  # for the package, not for users


def jointly(sites: Iterable[LatentSite], guide: str) -> tuple[LatentSite, ...]:
    """Sites that may be parts of one vector that knows every entry; ValueError for others."""
    sites = tuple(sites)
    for site in sites:
        problem = ""
        if site.discrete:
            problem = "is discrete: sum it out in the model, or leave it out by sites=..."
        elif site.scanned:
            problem = "is drawn in a scan, which a guide cannot answer: leave it out by sites=..."
        elif site.unconstrained is None:
            problem = "has a support that is not mapped to the real line: leave it out by sites=..."
        elif site.masked:
            problem = (
                "lies under a mask, where a density over all entries is not defined: mask the "
                "observed site alone, or leave this one out by sites=..."
            )
        elif site.subsampled:
            problem = (
                f"lies in the subsampled plate {list(site.subsampled)}: a joint vector has a "
                "place for every entry, so give the plate all its data, or amortize the site "
                "(AmortizedGuide)"
            )
        if problem:
            raise ValueError(
                f"{guide} draws all its sites jointly, but site '{site.name}' {problem}."
            )
    return sites


def chosen_sites(sites: Mapping[str, LatentSite], names: Iterable[str] | None) -> list[str]:
    """The sites of a joint vector: those named, or all but what `obs_mask` leaves out of an
    observation, which keeps the model's own conditional."""
    if names is None:
        return [name for name, site in sites.items() if not site.imputed]
    wanted = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in wanted if name not in sites]:
        raise ValueError(f"The model has no latent site {unknown}; it has {sorted(sites)}.")
    return [name for name in sites if name in wanted]


def places(sites: Iterable[LatentSite], *, events: bool = False) -> dict[str, slice]:
    """Where each site lies in a vector of all of them, or of one event of each."""
    start, found = 0, {}
    for site in sites:
        stop = start + (site.width if events else site.size)
        found[site.name] = slice(start, stop)
        start = stop
    return found


def start_shape(site: LatentSite, shape: Shape) -> Shape:
    """That of a site, to which values of another shape are broadcast; ValueError where they cannot
    be."""
    whole = (*site.batch_shape, *site.event_shape)
    kept = whole[len(whole) - len(shape) :] if len(shape) <= len(whole) else None
    if kept is None or any(n not in (1, size) for n, size in zip(shape, kept, strict=True)):
        raise ValueError(
            f"init gives site '{site.name}' values of shape {tuple(shape)}, but the site has shape "
            f"{whole}: give that, or what is broadcast to it."
        )
    return whole


def no_mode(init: Any) -> str:
    """What to say where the search for a mode ends nowhere."""
    return (
        f"init={init!r} found no mode at finite values on the real line: look for NaN in the data "
        "that no mask covers, or use init='prior'."
    )


def no_hessian() -> str:
    """What to say where a mode is none that a normal fits."""
    return (
        "init='laplace' found no mode with a positive definite Hessian on the real line, as where "
        "the density rises without bound: use init='prior' or 'map'."
    )


def check_sizes_of(site: LatentSite, batch_shape: Shape) -> None:
    """Raises ValueError where a plate has another size than the one a joint vector was made for."""
    own = tuple(batch_shape)[len(batch_shape) - len(site.batch_shape) :]
    if own != site.batch_shape:
        raise ValueError(
            f"Site '{site.name}' has batch shape {own}, but this guide was built for "
            f"{site.batch_shape}: a joint vector has a place for every entry. Amortize the site "
            "(AmortizedGuide) to have it at new sizes."
        )


def check_unmasked(name: str, masked: Collection[str]) -> None:
    """Raises ValueError where a call draws a site of a vector under a mask, which q, whose density
    is of all entries, would not heed.
    """
    if name in masked:
        raise ValueError(
            f"Site '{name}' lies under a mask in this call, but the guide draws it as entries of a "
            "vector, whose density counts all of them: mask the observed site alone, or give this "
            "one a family of its own, AmortizedGuide(model, encoder, {site: family})."
        )


def check_together(names: Iterable[str], sites: Mapping[str, LatentSite]) -> None:
    """Raises ValueError where a vector has entries of a site that the call at hand does not draw,
    which q would count and p would not.
    """
    names = list(names)
    if gone := [name for name in names if name not in sites]:
        raise ValueError(
            f"The sites {gone} are not drawn in this call, but the guide draws the sites {names} "
            "as one vector: leave them out by sites=..., or give each a family of its own, "
            "AmortizedGuide(model, encoder, {site: family})."
        )


def placed(lead: Shape, batch: Shape) -> Shape:
    """The batch shape of a site whose entries come from a vector of batch shape `lead`: particles
    stay, the singletons right of them become the site's own dimensions."""
    kept = lead[: max(0, len(lead) - len(batch))]
    if any(size != 1 for size in lead[len(kept) :]):
        raise ValueError(
            f"The joint vector has batch shape {lead}, which leaves no room for the batch shape "
            f"{batch} of one of its sites: call the guide outside the model's plates."
        )
    return (*kept, *batch)
