"""What flow matching decides without arrays."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

__all__: list[str] = []  # for the package, not for users

COUPLINGS = ("independent", "optimal")


def only_continuous(found: Sequence[bool]) -> int:
    """The place of the continuous transform in a stack; ValueError unless there is one.

    Example:
        >>> only_continuous([False, True])
        1
    """
    if sum(found) != 1:
        raise ValueError(
            "FlowMatching needs a flow with one ContinuousTransform, got one with "
            f"{sum(found)} among its {len(found)} transforms."
        )
    return list(found).index(True)


def no_pairs(what: str) -> str:
    """Why noise and data are not paired."""
    return (
        f"coupling='optimal' pairs noise with the data of a batch, and with {what} the noise of a "
        "datum would no longer be that which is drawn from: take coupling='independent'."
    )


def no_path(transforms: Sequence[str]) -> str:
    """What to say of a flow whose draws take no path."""
    return (
        f"The cost of a path needs a flow with a ContinuousTransform, got the transforms "
        f"[{', '.join(transforms)}]."
    )


def check_size(transform: Any, event_shape: tuple[int, ...]) -> None:
    """Raise a ValueError for a transform that says that its values have another shape.

    Example:
        >>> from types import SimpleNamespace
        >>> check_size(SimpleNamespace(event_shape=(2,)), (2,))
    """
    own = getattr(transform, "event_shape", None)
    if own is not None and tuple(own) != tuple(event_shape):
        raise ValueError(
            f"The transforms of a flow must take its values, of shape {tuple(event_shape)}, got "
            f"{transform!r}, whose values have the shape {tuple(own)}."
        )


def warn_estimated(term: str, sites: Collection[str]) -> None:
    """Warns of sites whose densities are estimated, where several particles are averaged.

    Example:
        >>> warn_estimated("IWAE", ())
    """
    if not sites:
        return
    warnings.warn(
        f"The density of {sorted(sites)} is estimated, by random probes of a trace, and {term} "
        "averages its exponential over particles, which is above that of the density: the value "
        "is no bound, and may lie above log p(x) by up to half the variance of the estimate. Take "
        "the exact trace (num_probes=0), more probes, or one particle, whose bound remains one.",
        UserWarning,
        stacklevel=2,
    )


def no_function(what: str, part: str) -> str:
    """What to say of a velocity or an energy that draws, remembers, or looks at other values."""
    return (
        f"The {what} must be a function, the same at every call, of one value, and the network has "
        f"a {part}: leave it out."
    )
