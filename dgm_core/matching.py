"""What flow matching decides without arrays."""

from __future__ import annotations

from collections.abc import Sequence

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


def no_function(what: str, part: str) -> str:
    """What to say of a velocity or an energy that draws, remembers, or looks at other values."""
    return (
        f"The {what} must be a function, the same at every call, of one value, and the network has "
        f"a {part}: leave it out."
    )
