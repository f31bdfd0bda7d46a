"""Weights of the KL parts of single latent sites: of `beta` and `free_bits` of the ELBO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dgm_core.arguments import check_weight, refuse

__all__: list[str] = []  # for the package, not for users


def check_site_weights(name: str, value: Any) -> Any:
    """A weight of at least 0 for all sites, or {site: weight}, a copy.

    Example:
        >>> check_site_weights("beta", {"z1": 0.5})
        {'z1': 0.5}
        >>> check_site_weights("beta", {"z1": -1})
        Traceback (most recent call last):
        ValueError: beta of 'z1' must be a number of at least 0 or a schedule, got -1.
    """
    if not isinstance(value, Mapping):
        return check_weight(name, value, least=0)
    if not value or not all(isinstance(site, str) and site for site in value):
        refuse(name, "a weight, or {name of a latent site: weight}", value)
    return {
        site: check_weight(f"{name} of '{site}'", weight, least=0) for site, weight in value.items()
    }


def named_sites(*weights: Any) -> tuple[str, ...]:
    """The sites that some weights name, each once.

    Example:
        >>> named_sites({"z2": 1.0}, {"z1": 0.5, "z2": 0.5}, 1.0)
        ('z2', 'z1')
    """
    return tuple(dict.fromkeys(site for weight in weights if is_named(weight) for site in weight))


def is_named(weight: Any) -> bool:
    """Whether a weight is one for each of some sites."""
    return isinstance(weight, Mapping)


def flat_weights(*weights: Any) -> tuple[Any, ...]:
    """All weights, those of sites among them.

    Example:
        >>> flat_weights({"z1": 0.5, "z2": 2.0}, 1.0)
        (0.5, 2.0, 1.0)
    """
    return tuple(
        w for weight in weights for w in (weight.values() if is_named(weight) else [weight])
    )


def check_weighed(
    names: Iterable[str], latents: Iterable[str], summed: Iterable[str], fixed: Iterable[str]
) -> None:
    """Raises ValueError for sites that have no KL part of their own.

    Args:
        names: whose KL parts are weighed;  latents: of the model, which the guide draws;  summed:
            those that are summed out;  fixed: those that follow from other draws of the guide.
    """
    if summed := sorted(summed):
        raise ValueError(
            f"beta and free_bits of single sites need the KL part of each, but {summed} are summed "
            "out, which the parts of the others cannot be told from: let the guide draw them, or "
            "give one beta for all."
        )
    if unknown := sorted(set(names) - set(latents)):
        raise ValueError(
            f"beta and free_bits name {unknown}, which guide and model do not both draw; their "
            f"latent sites are {sorted(latents)}."
        )
    if points := sorted(set(names) & set(fixed)):
        raise ValueError(
            f"The sites {points} follow from other draws of the guide and have no KL part of their "
            "own: give one beta for all, and no free bits."
        )


def only_local(names: Iterable[str]) -> str:
    """What to say of free bits of sites outside the data plates."""
    return (
        f"free_bits are nats of each datum, but {sorted(names)} lie outside the data plates: leave "
        "them out."
    )
