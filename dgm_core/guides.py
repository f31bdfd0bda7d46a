"""What guides decide without arrays: the latent sites of a program, who answers them, and the words
for what cannot be."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from math import prod
from typing import Any

from dgm_core.structure import Plate, Site, Structure, structure_of_draws

__all__ = ["LatentSite"]

FORMS = 64  # of arguments, whose outlines a guide keeps

Shape = tuple[int, ...]


def extended(model: Any, guide: Any) -> Any:
    """A model with the reverse statements of what its guide draws beyond it; itself where that is
    nothing."""
    extension = getattr(guide, "extension", None)
    return model if extension is None else extension(model)


def plain(model: Any) -> Any:
    """The model that the user wrote, of an extended one."""
    return getattr(model, "plain", model)


@dataclass(frozen=True)
class LatentSite:
    """A latent statement of a model's program, in one run of it.

    plates: around it;  batch_shape, event_shape: of its distribution;  unconstrained: the shape of
    an event mapped to the real line, None where its support cannot be mapped;  real: whether it is
    there already;  num_seen: the entries that later sites see of an event, classes one-hot;
    discrete, masked;  scanned: drawn in the body of a scan, whose statements no guide can answer;
    flat: of a prior that cannot be drawn from.
    """

    name: str
    plates: tuple[Plate, ...]
    batch_shape: Shape
    event_shape: Shape
    unconstrained: Shape | None
    num_seen: int = 0
    real: bool = False
    discrete: bool = False
    masked: bool = False
    scanned: bool = False
    flat: bool = False

    @property
    def dims(self) -> dict[str, int]:
        """The dimensions of its plates, by name."""
        return {plate.name: plate.dim for plate in self.plates if plate.dim is not None}

    @property
    def subsampled(self) -> tuple[str, ...]:
        """The plates around it that hold fewer data than they declare."""
        return tuple(plate.name for plate in self.plates if plate.size != plate.full_size)

    @property
    def imputed(self) -> bool:
        """Whether it is what `obs_mask` leaves out of an observation, by both engines' name."""
        return self.masked and self.name.endswith("_unobserved")

    @property
    def width(self) -> int:
        """The entries of one event on the real line, or of a discrete one."""
        return prod(self.event_shape if self.unconstrained is None else self.unconstrained)

    @property
    def size(self) -> int:
        """The entries of the whole site on the real line."""
        return prod(self.batch_shape) * self.width


@dataclass(frozen=True)
class Outline:
    """What a program does on arguments of one form.

    sites: its latent statements in their order;  structure: what factorizes in it;  data_plates:
    the plates around each observed site;  subsampled: the plates that hold fewer data than they
    declare.
    """

    sites: Mapping[str, LatentSite]
    structure: Structure
    data_plates: Mapping[str, frozenset[str]]
    subsampled: frozenset[str]

    @classmethod
    def of(cls, records: Mapping[str, Site], sites: Mapping[str, LatentSite]) -> "Outline":
        """From the records of all sites of a run, and what is known of the latent ones."""
        plates = [plate for site in records.values() for plate in site.plates]
        return cls(
            sites,
            structure_of_draws(records),
            {
                name: frozenset(plate.name for plate in site.plates)
                for name, site in records.items()
                if site.kind == "observed"
            },
            frozenset(plate.name for plate in plates if plate.size != plate.full_size),
        )

    @property
    def last(self) -> str | None:
        """The last latent statement, after which a guide has nothing to answer."""
        return list(self.sites)[-1] if self.sites else None

    def check_named(self, names: Iterable[str], *, complete: bool) -> None:
        """Raises ValueError for names that are no latent sites, and where sites are left over."""
        names = set(names)
        if unknown := sorted(names - self.sites.keys()):
            raise ValueError(
                f"The parts name {unknown}, which are no latent sites of the model; it has "
                f"{sorted(self.sites)}."
            )
        if complete and (left := [name for name in self.sites if name not in names]):
            raise ValueError(
                f"No part answers the sites {left}: give them one, Prior() for the model's own "
                "conditional, or leave out complete=True."
            )

    def check_features(self, name: str) -> None:
        """Raises ValueError where a minibatch would flow into a site that others share."""
        around = {plate.name for plate in self.sites[name].plates}
        for observed, plates in self.data_plates.items():
            if outside := sorted((plates & self.subsampled) - around):
                raise ValueError(
                    f"Latent site '{name}' lies outside the subsampled plate {outside} of the "
                    f"observed site '{observed}': features of a minibatch in its distribution "
                    "would make the bound wrong. Leave it to the global family, or give the "
                    "plate all its data."
                )


def named_parts(parts: Any, own: type) -> list[tuple[tuple[str, ...], Any]]:
    """(sites, what builds their part), from a dict by site or tuple of sites.

    Raises:
        ValueError: for anything else, and for sites that are named twice.
    """
    if not isinstance(parts, Mapping) or not parts:
        raise ValueError(f"parts must be a dict of sites and their parts, got {parts!r}.")
    found, seen = [], set[str]()
    for key, part in parts.items():
        sites = (key,) if isinstance(key, str) else key
        if not isinstance(sites, tuple) or not sites or not all(isinstance(n, str) for n in sites):
            raise ValueError(f"parts are named by a site or a tuple of sites, got {key!r}.")
        if twice := [name for name in sites if name in seen]:
            raise ValueError(f"parts name the sites {twice} twice.")
        seen |= set(sites)
        if getattr(part, "keywords", {}).get("sites") is not None:
            raise ValueError(f"The part of {sites} names sites by itself: leave sites=... out.")
        if not callable(part) and not isinstance(part, own):
            raise ValueError(f"The part of {sites} must build a part, got {part!r}.")
        found.append((sites, part))
    return found


def check_stock(names: Iterable[str], sites: Mapping[str, LatentSite]) -> None:
    """Raises ValueError for sites that an automatic guide answers at other rows than the program:
    those in a subsampled plate.
    """
    for name in names:
        if name in sites and sites[name].subsampled:
            raise ValueError(
                f"Site '{name}' lies in the subsampled plate {list(sites[name].subsampled)}, whose "
                "rows an automatic guide inside another one does not know: amortize it "
                "(AmortizedGuide.part), or give the plate all its data."
            )


def form_of(value: Any) -> Hashable:
    """The form of arguments: shapes and types of arrays, anything else as it is; what cannot be
    told from others of its kind, as a table of another library, has a new form in every call.
    """
    if isinstance(value, Mapping):
        return tuple((str(key), form_of(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(form_of, value))
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return tuple(value.shape), str(value.dtype)
    try:
        hash(value)
    except TypeError:
        return object()
    return type(value).__name__, value


def arguments_of(model: Any, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names that the model gives them, those left out included."""
    parameters = signature(model).parameters.values()
    bound = signature(model).bind_partial(*args, **kwargs)
    defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}
    given = {**defaults, **bound.arguments}
    found = {p.name: given[p.name] for p in parameters if p.name in given}
    for kind, spread in ((Parameter.VAR_KEYWORD, True), (Parameter.VAR_POSITIONAL, False)):
        for name in (p.name for p in parameters if p.kind is kind and p.name in found):
            extra = found.pop(name)
            items = extra if spread else {f"{name}{i}": x for i, x in enumerate(extra)}
            found |= items
    return found


def no_starts(num: int) -> str:
    """What to say where a mixture has no places to start at."""
    return (
        f"{num} components that start alike stay alike, and the prior has not so many draws that "
        "differ: say where they start by starts=[{site: value}, ...]."
    )


def check_families(families: Any, starts: Any) -> None:
    """Raises ValueError for what are no components of a mixture, or no starts for them."""
    if isinstance(families, str) or not isinstance(families, list | tuple) or len(families) < 2:
        raise ValueError(
            "families must be a list with a family for each of two or more components, such as "
            f"[FullRankNormal] * 2, got {families!r}."
        )
    if starts is None:
        return
    named = isinstance(starts, list | tuple) and all(isinstance(own, Mapping) for own in starts)
    if not named or len(starts) != len(families):
        raise ValueError(
            f"starts must be {len(families)} dictionaries {{site: value}}, one of each component, "
            f"got {starts!r}."
        )


def built(
    family: Any, dim: int, context: int, conditional: type, what: str, key: Any = None
) -> Any:
    """A conditional of vectors of `dim` entries from a factory `family(dim, context_shape=...)`, or
    one that was given; ValueError where it does not fit."""
    found: Any = family
    if not isinstance(family, conditional) and callable(family):
        extra = {} if key is None else {"key": key}
        found = family(dim, context_shape=context, **extra)
    if not isinstance(found, conditional):
        raise ValueError(
            f"The family of {what} must be a conditional or a factory such as FullRankNormal, got "
            f"{family!r}."
        )
    shape = tuple(getattr(found, "event_shape", ()))
    if shape != (dim,) or getattr(found, "context_shape", ()) not in ((), (context,)):
        raise ValueError(
            f"The family of {what} must give values of shape {(dim,)} with "
            f"context_shape={context}, got {found!r}."
        )
    return found


def check_auxiliary_family(family: Any) -> None:
    """Raises ValueError for what is no family of one vector."""
    if isinstance(family, Mapping) or not callable(family):
        raise ValueError(
            "family must be a conditional of one vector given auxiliary variables, or a factory "
            f"such as FullRankNormal, got {family!r}."
        )


def check_known(site: str, values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises ValueError where a reverse model would see what the model draws later."""
    if late := [name for name in names if name not in values]:
        raise ValueError(
            f"The reverse model at site '{site}' sees the global latents, but the model draws "
            f"{late} after it: pass sees_globals=False."
        )


def check_unused(*, without: str, **arguments: Any) -> None:
    """Raises ValueError for arguments that would be ignored."""
    if given := [name for name, value in arguments.items() if value is not None]:
        raise ValueError(f"{', '.join(given)}: these arguments have no meaning without {without}.")
