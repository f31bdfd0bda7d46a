"""What an amortized guide decides without arrays: which sites are local, which family answers
which, what each sees, and what of the arguments the encoder gets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

from dgm_core.guides import LatentSite, Outline, arguments_of

__all__: list[str] = []  # for the package, not for users

Inputs = str | tuple[str, ...] | Callable[..., Any] | None


@dataclass(frozen=True)
class Group:
    """Sites that one draw of one family answers.

    sees: the sites before whose values it sees;  direct: one site, drawn from the family itself;
    merged: one site, the model's own normal times another.
    """

    sites: tuple[LatentSite, ...]
    sees: tuple[str, ...] = ()
    direct: bool = False
    merged: bool = False

    @property
    def name(self) -> str:
        """Of its auxiliary site."""
        return self.sites[0].name if len(self.sites) == 1 else "local"

    @property
    def names(self) -> tuple[str, ...]:
        """Of its sites."""
        return tuple(site.name for site in self.sites)

    @property
    def width(self) -> int:
        """The entries of its vector."""
        return sum(site.width for site in self.sites)


def local_plates(outline: Outline, plate: str | Iterable[str] | None) -> dict[str, int]:
    """The plates whose inside is local, name -> dimension: those named, or the data plates."""
    if plate is None:
        found = outline.structure.plates
        if not found:
            raise ValueError(
                "No plate encloses all observed sites and the latent sites of each datum, so the "
                "guide does not know which sites are local: name the plate by plate=..., or take "
                "a JointGuide."
            )
        return dict(found)
    names = (plate,) if isinstance(plate, str) else tuple(plate)
    known = {name: dim for site in outline.sites.values() for name, dim in site.dims.items()}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"No latent site lies in a plate {unknown}; there are {sorted(known)}.")
    return dict(sorted(((name, known[name]) for name in names), key=lambda item: item[1]))


def local_sites(outline: Outline, plates: Mapping[str, int]) -> list[LatentSite]:
    """The latent sites inside all these plates."""
    return [site for site in outline.sites.values() if plates.keys() <= site.dims.keys()]


def groups_of(
    outline: Outline, plates: Mapping[str, int], family: Any, own: type, merged: type
) -> tuple[list[Group], list[Any]]:
    """Who is answered by which family: one for all local sites, or one by site.

    Raises:
        ValueError: for sites that a family cannot answer, and where features of a minibatch would
            flow into a site outside its plate.
    """
    if isinstance(family, Mapping):
        return _by_site(outline, family, own, merged)
    if isinstance(family, own):
        return [], []
    sites = [site for site in local_sites(outline, plates) if not site.imputed]
    if not sites:
        raise ValueError(f"No latent site lies in {tuple(plates)}: take a JointGuide.")
    for site in sites:
        _check_answerable(outline, site)
        if site.masked and len(sites) > 1:
            raise ValueError(
                f"Local site '{site.name}' lies under a mask, which the other local sites need "
                "not share: give families by site, {name: family}."
            )
        if site.discrete:
            raise ValueError(
                f"Local site '{site.name}' is discrete, which a family for all local sites does "
                "not answer: give families by site, {name: family}."
            )
        if site.dims != dict(plates):
            raise ValueError(
                f"Site '{site.name}' lies in the plates {sorted(site.dims)}, deeper than "
                f"{sorted(plates)}: give families by site, {{name: family}}."
            )
    direct = len(sites) == 1 and sites[0].real and len(sites[0].event_shape) == 1
    if isinstance(family, merged) and len(sites) > 1:
        raise ValueError("Merged() answers one site: give families by site, {name: Merged()}.")
    return [Group(tuple(sites), direct=direct, merged=isinstance(family, merged))], [family]


def _by_site(
    outline: Outline, families: Mapping[str, Any], own: type, merged: type
) -> tuple[list[Group], list[Any]]:
    if unknown := sorted(families.keys() - outline.sites.keys()):
        raise ValueError(
            f"family names {unknown}, which are no latent sites of the model; it has "
            f"{sorted(outline.sites)}."
        )
    groups, found = [], []
    seen: list[LatentSite] = []
    for site in outline.sites.values():
        family = families.get(site.name)
        if family is not None and not isinstance(family, own):
            _check_answerable(outline, site)
            inside = [before for before in seen if before.dims.items() <= site.dims.items()]
            direct = (site.real or site.discrete) and len(site.event_shape) <= 1
            direct = direct and (site.discrete or len(site.event_shape) == 1)
            groups.append(
                Group(
                    (site,),
                    tuple(before.name for before in inside),
                    direct=direct,
                    merged=isinstance(family, merged),
                )
            )
            found.append(family)
            seen.append(site)
    return groups, found


def _check_answerable(outline: Outline, site: LatentSite) -> None:
    outline.check_features(site.name)
    if site.scanned:
        raise ValueError(f"Site '{site.name}' is drawn in a scan, which a guide cannot answer.")
    if site.unconstrained is None and not site.discrete:
        raise ValueError(f"The support of site '{site.name}' is not mapped to the real line.")


def place_of(
    site: LatentSite, features: tuple[int, ...], plates: Mapping[str, int]
) -> list[tuple[str, int]]:
    """The plates that the leading dimensions of features (*sizes, F) are, in their order.

    Raises:
        ValueError: where they are neither those of the site nor the local plates.
    """
    for dims in (site.dims, dict(plates)):
        if len(features) - 1 == len(dims) and dims.items() <= site.dims.items():
            return sorted(dims.items(), key=lambda item: item[1])
    raise ValueError(
        f"The encoder gives features of shape {features} for site '{site.name}', which lies in the "
        f"plates {sorted(site.dims, key=site.dims.__getitem__)}: they must have the shape (*sizes "
        "of these plates, F); pool what lies deeper, as nn.Pooled does."
    )


def inputs_of(
    inputs: Inputs, model: Any, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """What the encoder gets: the names of arguments and their values, or no names and what a
    function makes of the arguments."""
    if callable(inputs):
        found = inputs(*args, **kwargs)
        return (), found if isinstance(found, tuple) else (found,)
    known = arguments_of(model, args, kwargs)
    names = (inputs,) if isinstance(inputs, str) else inputs
    if names is None:
        if not known:
            raise ValueError("The encoder reads the first argument of the model, which has none.")
        names = (next(iter(known)),)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"The model has no argument {unknown}; it has {sorted(known)}.")
    if missing := [name for name in names if known[name] is None]:
        raise ValueError(
            f"The guide infers latents from the arguments {list(names)}, but {missing} is None: "
            "call it with data, or take the prior (generate, prior_predictive)."
        )
    return tuple(names), tuple(known[name] for name in names)


def takes_all(network: Any, num: int) -> bool:
    """Whether a network takes so many arguments, one by one."""
    function = getattr(network, "forward", None) or network
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(signature(function).parameters.values())
    several = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    return num > 1 and (several or sum(p.kind in kinds for p in parameters) >= num)


def check_inputs(inputs: Inputs) -> Inputs:
    """Names of arguments, or a function of all of them; ValueError for anything else."""
    names = (inputs,) if isinstance(inputs, str) else inputs
    is_names = isinstance(names, tuple) and names and all(isinstance(n, str) for n in names)
    if not (inputs is None or callable(inputs) or is_names):
        raise ValueError(
            "inputs must be the name of an argument of the model, a tuple of names, or a function "
            f"of all arguments, got {inputs!r}."
        )
    return inputs


def rows_error(site: str, found: int, plate: str, size: int) -> str:
    """What to say of features for another number of data."""
    return (
        f"The encoder gives features of {found} data for site '{site}', whose plate '{plate}' "
        f"holds {size}: hand it the rows of the batch, one per datum."
    )
