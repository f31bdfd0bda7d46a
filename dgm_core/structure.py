"""What factorizes in a model: its data plates, its local and global latent sites and factors.

A *data plate* encloses every observed site and, where it encloses latent sites or factors at all,
every one of them that lies in any such plate.  Given the global latents, the joint is a product
over the data plates, so that bounds and weights may be taken datum by datum.  All of this is
decided on records of the sites, alike for both backends.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from math import prod
from typing import Any, NamedTuple

from dgm_core.arguments import check_flag_or_none

__all__ = ["Plate", "Site", "Structure", "UndrawableError", "find_structure", "structure_of_draws"]

Shape = tuple[int, ...]

LOOP_MESSAGE = (
    "Model or guide does not broadcast over a leading dimension of particles, so the particles "
    "run one after the other, which takes longer: vectorize=False says so without this warning, "
    "vectorize=True shows what fails."
)


def chosen(vectorize: bool | None, loss: Any) -> bool | None:
    """Whether particles run at once: as said here, else for the loss, else as its terms agree."""
    of_terms = [term.vectorize for _, term in loss.terms]
    for choices in ([vectorize], [loss.vectorize], of_terms):
        said = [own for own in choices if check_flag_or_none("vectorize", own) is not None]
        if said:
            return all(said)
    return None


def with_choice(loss: Any, vectorize: bool | None) -> Any:
    """The same loss, its particles at once (True) or one after the other (False) as chosen."""
    new = copy(loss)
    if check_flag_or_none("vectorize", vectorize) is not None:
        new.vectorize = vectorize
    return new


class Plate(NamedTuple):
    """A plate around a site: its dimension (negative; None where it is run through one by one),
    how many data are present (-1: as many as the site has there) and how many it declares."""

    name: str
    dim: int | None
    size: int
    full_size: int


class Site(NamedTuple):
    """A sample site of one run, without arrays.

    kind: "latent", "observed" or "factor";  batch_shape and event_shape, of its distribution;
    value_shape: the batch dimensions of its value;  scanned: whether the leading batch dimension is
    the steps of a scan;  auxiliary, enumerated: as its `infer` says;  reverse: whether it is drawn
    beyond the user's model, where an extended model scores it.
    """

    name: str
    kind: str
    plates: tuple[Plate, ...]
    batch_shape: Shape
    event_shape: Shape
    value_shape: Shape
    scanned: bool = False
    auxiliary: bool = False
    enumerated: bool = False
    reverse: bool = False

    @property
    def dims(self) -> dict[str, int]:
        """The dimensions of the plates that have one, by name."""
        return {plate.name: plate.dim for plate in self.plates if plate.dim is not None}

    @property
    def shape(self) -> Shape:
        """The shape of the log-density, which value and distribution broadcast to."""
        return _broadcast(self.batch_shape, self.value_shape, self.name)


@dataclass(frozen=True)
class Structure:
    """The factorization of a model with its guide on one set of arguments.

    plates: the data plates, name -> dimension (negative, ascending);  sizes: how many data are
    present in each;  full_sizes: how many each declares;  batch_ndim: the batch dimensions of the
    deepest site;  global_sites, local_sites: the latents outside and inside the data plates, those
    that only the guide draws included;  observed_sites;  global_factors, local_factors: likewise,
    of model and guide;  other_subsampled: (plate, site) where a plate is subsampled that is no data
    plate;  reverse_sites: the latents of an extended model that the user's model has not.
    """

    plates: dict[str, int]
    sizes: Shape
    full_sizes: Shape
    batch_ndim: int
    global_sites: tuple[str, ...]
    local_sites: tuple[str, ...]
    observed_sites: tuple[str, ...]
    global_factors: tuple[str, ...]
    local_factors: tuple[str, ...]
    other_subsampled: tuple[tuple[str, str], ...]
    reverse_sites: tuple[str, ...] = ()

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """The names of the sites that the guide draws."""
        return self.global_sites + self.local_sites

    @property
    def data_size(self) -> int:
        """The number of data that the data plates declare."""
        return prod(self.full_sizes)

    @property
    def data_scale(self) -> float:
        """N / B: how many data are declared for each one present."""
        return self.data_size / max(1, prod(self.sizes))

    @property
    def subsampled(self) -> bool:
        """Whether a data plate holds fewer data than it declares."""
        return self.sizes != self.full_sizes

    def no_closed_form(self) -> str:
        """What to say of KL parts in closed form under a guide that draws beyond its model."""
        beyond = f"{list(self.reverse_sites)}, which the guide draws beyond its model"
        return f"analytic_kl=True knows no closed form for {beyond}: use analytic_kl=False."

    def missing_scale(self, name: str) -> str:
        """What to say of a latent site that lies in a subsampled plate in the model alone."""
        return (
            f"Latent site '{name}' lies in the subsampled plate {tuple(self.plates)} in the "
            "model, but not in the guide, where its log-density would miss the scale N / B: put "
            "the plate into the guide as well. An automatic guide of all latents jointly cannot "
            "do that, so give it all the data, or take one site by site (AutoNormal) or an "
            "amortized guide."
        )

    @property
    def factorizes(self) -> bool:
        """Whether nothing lies outside the data plates, so that every datum has its own weight."""
        return not (self.global_sites or self.global_factors)


def find_structure(
    model: Mapping[str, Site],
    guide: Mapping[str, Site],
    *,
    num_particles: int = 1,
    batch_ndim: int | None = None,
    unplated: bool = False,
) -> Structure:
    """Reads the factorization from one run of the guide and the model replayed against it.

    It depends on these records alone, so those met before need not be gone through again.

    Args:
        model, guide: their sites, in the order in which they were met.
        num_particles, batch_ndim: of a run with the particles in dimension -(batch_ndim + 1).
        unplated: whether a site outside all plates may have batch dimensions (which are summed).

    Raises:
        ValueError: where guide and model do not have the same latent sites in the same shapes, and
            for a batch dimension that is neither a plate of its site nor the particles.
    """
    sites = tuple(model.values()), tuple(guide.values())
    return _found(*sites, num_particles, batch_ndim, unplated)


@lru_cache(maxsize=256)
def _found(
    model_sites: tuple[Site, ...],
    guide_sites: tuple[Site, ...],
    num_particles: int,
    batch_ndim: int | None,
    unplated: bool,
) -> Structure:
    model = {site.name: site for site in model_sites}
    guide = {site.name: site for site in guide_sites}
    if batch_ndim is not None:
        model, guide = (
            {name: _one_particle(site, batch_ndim, num_particles) for name, site in sites.items()}
            for sites in (model, guide)
        )
    check_sites(model, guide)
    everything = [*model.values(), *guide.values()]
    around = _plates_around(everything)
    scanned = {site.name for site in everything if site.scanned}
    for site in everything:
        _check_shape(site, around[site.name], site.name in scanned, unplated)
    structure = _factorize(model, guide, around)
    if batch_ndim is None:
        depths = [-dim for site in everything for dim in site.dims.values()]
        batch_ndim = max([0, *depths, *(len(site.shape) for site in everything)])
    return Structure(**{**vars(structure), "batch_ndim": batch_ndim})


def structure_of_draws(model: Mapping[str, Site]) -> Structure:
    """The factorization of a model alone, from a run of it."""
    return _factorize(model, {}, _plates_around(model.values()))


def check_sites(model: Mapping[str, Site], guide: Mapping[str, Site]) -> None:
    """Raises ValueError unless the guide draws the latent sites of the model, in their shapes."""
    if observing := [name for name, site in guide.items() if site.kind == "observed"]:
        raise ValueError(
            f"The guide observes {observing}, but a guide only draws: leave these sites to the "
            "model, and see that model and guide are not swapped."
        )
    latent = {name: site for name, site in model.items() if site.kind == "latent"}
    drawn = {name: site for name, site in guide.items() if site.kind == "latent"}
    asking = [site.name for site in (*latent.values(), *drawn.values()) if site.enumerated]
    if summed := sorted(set(asking)):
        raise ValueError(
            f"The sites {summed} ask to be enumerated (infer={{'enumerate': ...}}), which the loss "
            f"must be told: ELBO(enumerate={tuple(summed)}), or remove the mark."
        )
    if missing := sorted(latent.keys() - drawn.keys()):
        raise ValueError(
            f"The guide must draw every latent site of the model, but misses {missing}: add "
            "sample statements with these names, or observe the sites in the model. (Discrete "
            "latents of each datum can be summed out instead: enumerate=...)"
        )
    extra = [name for name, site in drawn.items() if name not in latent and not site.auxiliary]
    if beyond := [name for name in extra if drawn[name].reverse]:
        raise ValueError(
            f"The guide draws {beyond} beyond the model, which must score them as well: take "
            "guide.extended as the model. (`fit` and the losses do so by themselves where they "
            "are given the guide as it is, not wrapped.)"
        )
    if seen := sorted(name for name in drawn if name in model and name not in latent):
        raise ValueError(
            f"The guide draws {seen}, which are not latent sites of the model but observed there: "
            "draw them only where the data do not give them."
        )
    if extra:
        raise ValueError(
            f"The guide draws {sorted(extra)}, which are not latent sites of the model: remove "
            "them, rename them, or mark them with infer={'is_auxiliary': True}."
        )
    for name, site in latent.items():
        _check_match(site, drawn[name])


def _factorize(
    model: Mapping[str, Site], guide: Mapping[str, Site], around: Mapping[str, Mapping[str, Plate]]
) -> Structure:
    observed = [name for name, site in model.items() if site.kind == "observed"]
    latent = [name for name, site in model.items() if site.kind == "latent"]
    latent += [name for name, site in guide.items() if site.kind == "latent" and name not in latent]
    both = [*model.values(), *guide.values()]
    factors = list(dict.fromkeys(site.name for site in both if site.kind == "factor"))
    data = observed or [name for name in factors if name in model]  # what it is conditioned on
    others = [name for name in (*latent, *factors) if name not in data]
    first = around[data[0]] if data else {}
    common = [name for name in first if all(name in around[other] for other in data)]
    inside = [around[name] for name in others if any(plate in around[name] for plate in common)]
    kept = [name for name in common if all(name in plates for plates in inside)]
    plates = sorted((first[name] for name in kept), key=lambda plate: plate.dim or 0)

    def is_local(name: str) -> bool:
        return bool(plates) and all(plate.name in around[name] for plate in plates)

    return Structure(
        plates={plate.name: plate.dim for plate in plates if plate.dim is not None},
        sizes=tuple(plate.size for plate in plates),
        full_sizes=tuple(plate.full_size for plate in plates),
        batch_ndim=0,
        global_sites=tuple(name for name in latent if not is_local(name)),
        local_sites=tuple(name for name in latent if is_local(name)),
        observed_sites=tuple(observed),
        global_factors=tuple(name for name in factors if not is_local(name) and name not in data),
        local_factors=tuple(name for name in factors if is_local(name) or name in data),
        reverse_sites=tuple(name for name in latent if name in model and model[name].reverse),
        other_subsampled=tuple(
            dict.fromkeys(
                (plate.name, site.name)
                for site in both
                for plate in site.plates
                if plate.name not in kept and plate.size != plate.full_size
            )
        ),
    )


def _plates_around(sites: Iterable[Site]) -> dict[str, dict[str, Plate]]:
    """The plates with a dimension around each site, in model or guide, by name; a plate that was
    given no size has that of the sites along its dimension."""
    sites = list(sites)
    sizes: dict[str, int] = {}
    for site in sites:
        for name, dim in site.dims.items():
            present = site.shape[dim] if len(site.shape) >= -dim else 1
            sizes[name] = max(sizes.get(name, 1), present)
    around: dict[str, dict[str, Plate]] = {site.name: {} for site in sites}
    for site in sites:
        for plate in site.plates:
            if plate.dim is not None:
                size = sizes[plate.name] if plate.size < 0 else plate.size
                full_size = size if plate.full_size < 0 else plate.full_size
                around[site.name][plate.name] = Plate(plate.name, plate.dim, size, full_size)
    return around


def _one_particle(site: Site, batch_ndim: int, num_particles: int) -> Site:
    """A site of a run with many particles as each of them sees it."""
    if any(-dim > batch_ndim for dim in site.dims.values()):
        raise ValueError(f"Site '{site.name}' lies in plates deeper than {batch_ndim} dimensions.")

    def trimmed(shape: Shape) -> Shape:
        left = max(0, len(shape) - batch_ndim)
        extra, own = shape[:left], shape[left:]
        if prod(extra) not in (1, num_particles) or prod(extra[:-1]) != 1:
            raise ValueError(
                f"Site '{site.name}' has batch shape {shape}, where only {num_particles} "
                f"particles may stand left of {batch_ndim} batch dimensions: write the model so "
                "that it broadcasts over a leading dimension of its draws, or pass "
                "vectorize=False."
            )
        return own

    return site._replace(
        batch_shape=trimmed(site.batch_shape), value_shape=trimmed(site.value_shape)
    )


def _check_shape(site: Site, plates: Mapping[str, Plate], scanned: bool, unplated: bool) -> None:
    """Raises ValueError for a batch dimension that is not a plate of the site (or steps
    of a scan).
    """
    shape = site.shape
    if unplated and not plates and shape in (site.batch_shape, site.value_shape):
        return
    dims = {plate.dim for plate in plates.values()}
    dims |= {-len(shape)} if scanned else set()
    free = [dim for dim in range(-len(shape), 0) if shape[dim] != 1 and dim not in dims]
    if free:
        wider = shape != site.batch_shape and f", or give its values the shape {site.batch_shape}"
        raise ValueError(
            f"Site '{site.name}' has log-densities of shape {shape}, but no plate in dimension "
            f"{', '.join(map(str, free))}: put it into a plate there, or declare event dimensions "
            f"with .to_event(...){wider or ''}."
        )


def _check_match(model: Site, guide: Site) -> None:
    """Raises ValueError where model and guide disagree about the shape of a latent site."""
    ours, theirs = model.batch_shape, guide.batch_shape
    pairs = zip_longest(reversed(ours), reversed(theirs), fillvalue=1)
    if len(model.event_shape) != len(guide.event_shape):
        what = "event dims disagree"
    elif model.event_shape != guide.event_shape or any(a != b for a, b in pairs):
        what = "shapes disagree"
    else:
        return
    raise ValueError(
        f"Model and guide {what} at site '{model.name}': batch shape {ours} and event shape "
        f"{model.event_shape} in the model, {theirs} and {guide.event_shape} in the guide. Give "
        "both the same plates and the same .to_event(...)."
    )


def _broadcast(a: Shape, b: Shape, name: str) -> Shape:
    sizes: Sequence[tuple[int, int]] = list(zip_longest(reversed(a), reversed(b), fillvalue=1))
    if any(m != n and 1 not in (m, n) for m, n in sizes):
        raise ValueError(
            f"The value of site '{name}' has batch shape {b}, which does not fit its "
            f"distribution's {a}."
        )
    return tuple(n if m == 1 else m for m, n in reversed(sizes))


class UndrawableError(ValueError):
    """A site was to be drawn whose distribution cannot be drawn from, as an improper prior.

    Attributes: site, its name.
    """

    def __init__(self, site: str, distribution: str, reason: str = "") -> None:
        super().__init__(
            f"Site '{site}' has a {distribution} distribution, which cannot be drawn from"
            f"{f' ({reason})' if reason else ''}: give it a proper prior, or ask "
            "only for what the guide draws it for (a prediction, ELBO)."
        )
        self.site = site


def unknown_label(label: float, num_classes: int) -> str:
    """What to say of a label that a Categorical does not have."""
    return f"Labels must be integers from 0 to {num_classes - 1}, got {label:g}."
