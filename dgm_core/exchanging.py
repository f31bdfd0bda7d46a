"""Which arguments of a model its sites observe, and a call with others in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["check_alike", "place_of", "replaced"]


def place_of(site: str, observed: Any, given: Sequence[Any]) -> int:
    """The place of the one argument that a site observes as it is.

    Raises:
        ValueError: where there is none, or more than one.

    Example:
        >>> x, y = [1.0], [1.0]
        >>> place_of("y", y, (x, y))
        1
    """
    found = [place for place, argument in enumerate(given) if argument is observed]
    if observed is None or len(found) != 1:
        how = "no argument" if not found or observed is None else "an argument that comes twice"
        raise ValueError(
            f"Site '{site}' observes {how} of the model as it is: write a model that takes its "
            f'data as an argument, def model(x, y): ... sample("{site}", ..., obs={site}).'
        )
    return found[0]


def replaced(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    places: Mapping[str, int],
    values: Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with these values at their places.

    Example:
        >>> replaced((1,), {"b": 2, "c": 3}, {"z": 1}, {"z": 7})
        ((1,), {'b': 7, 'c': 3})
    """
    new = {places[name]: value for name, value in values.items()}
    arguments = [*args, *kwargs.values()]
    arguments = [new.get(place, argument) for place, argument in enumerate(arguments)]
    return tuple(arguments[: len(args)]), dict(zip(kwargs, arguments[len(args) :], strict=True))


def check_alike(name: str, sites: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises ValueError for sites of different shapes.

    Example:
        >>> check_alike("Identity", ("x", "y"), ((5, 2), (5, 2)))
    """
    if len(set(shapes)) > 1:
        found = ", ".join(f"{shape} at '{site}'" for site, shape in zip(sites, shapes))
        raise ValueError(
            f"{name} asks what the model makes of data of one site as if they were of the other, "
            f"which needs one shape, got {found}: leave it out."
        )
