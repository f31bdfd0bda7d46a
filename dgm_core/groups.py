"""Weights of a group of latents: what has none, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["drawn_together", "no_group"]


def no_group(local: bool, inner: Collection[str], outer: Collection[str]) -> None:
    """Raises ValueError where there are no latents of the kind that weights are asked of."""
    if local and not inner:
        raise ValueError(
            "The model has no latent sites inside the data plates, so nothing is inferred datum by "
            "datum: take log_weights."
        )
    if not local and not outer:
        raise ValueError(
            "The guide draws nothing outside the data plates, so there are no global latents to "
            "weigh: take log_weights."
        )


def drawn_together(
    determined: Sequence[str], inner: Sequence[str], local: Sequence[str], vectors: Sequence[str]
) -> None:
    """Raises ValueError for local latents without a density of their own.

    Args:
        determined: those that follow from other draws of the guide.
        inner: all local latents of the model;  local, and those that the guide has beside them.
        vectors: the sites that joint vectors answer.
    """
    outside = [name for name in determined if name in vectors]
    if determined and len(inner) == len(local):  # nothing is drawn beside them in the plates
        outside = outside or list(determined)
    if outside:
        raise ValueError(
            f"The guide draws the local latents {outside} as entries of a vector outside their "
            "plates, so that none has a density of its own there: take log_weights, or a guide "
            "that draws them in their plates (AmortizedGuide)."
        )
