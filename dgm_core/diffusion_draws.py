"""Draws from a diffusion: what may be asked of them."""

from __future__ import annotations

from typing import Any

from dgm_core.arguments import check_choice, check_count, check_number
from dgm_core.diffusion import chain_steps

__all__: list[str] = []  # for the package, not for users


def check_time(t: Any) -> float:
    """A time at which there is noise, (0, 1].

    Example:
        >>> check_time(0)
        Traceback (most recent call last):
        ValueError: t must be a number in (0, 1], got 0.
    """
    return check_number("t", t, above=0, most=1)


def check_sampling(method: Any, eta: Any) -> float:
    """The eta of a sampler, checked with its method.

    Example:
        >>> check_sampling("ddim", 1)
        1.0
        >>> check_sampling("ode", 1.0)
        Traceback (most recent call last):
        ValueError: eta is of method="ddim" alone, got eta=1 and method='ode'.
    """
    check_choice("method", method, ("ancestral", "ddim", "ode"))
    eta = check_number("eta", eta, least=0, most=1)
    if eta and method != "ddim":
        raise ValueError(f'eta is of method="ddim" alone, got eta={eta:g} and method={method!r}.')
    return eta


def check_known(method: str, known: Any, mask: Any) -> None:
    """Raise a ValueError unless what is known of a draw is given whole, and the method can use
    it."""
    if (known is None) != (mask is None):
        raise ValueError(
            "Inpainting needs known, the values, and mask, true where they are known: got "
            f"{'known' if mask is None else 'mask'} alone."
        )
    if known is not None and method == "ode":
        raise ValueError('Inpainting is of method="ancestral" and "ddim", got method=\'ode\'.')


def check_filled(known: Any, mask: Any, whole: tuple[int, ...]) -> None:
    """Raise a ValueError unless what is known of draws, and where, broadcasts to them; the shapes
    come.

    Example:
        >>> check_filled((3, 2), (2,), (5, 3, 2))
        >>> check_filled((3,), (2,), (5, 2))
        Traceback (most recent call last):
        ValueError: known must broadcast to the shape (5, 2) of the draws, got shape (3,).
    """
    for name, shape in (("known", known), ("mask", mask)):
        own = tuple(shape)
        if len(own) > len(whole) or any(a not in (1, b) for a, b in zip(own[::-1], whole[::-1])):
            raise ValueError(
                f"{name} must broadcast to the shape {tuple(whole)} of the draws, got shape {own}."
            )


def draw_steps(own: Any, method: str, wanted: int | None) -> int:
    """The steps of a draw from a diffusion: those asked for, those it was built with for its own
    method, else all of a chain, 100 in continuous time, the Runge-Kutta steps of a flow."""
    flow = method == "ode"
    if wanted is not None:
        return (
            check_count("num_steps", wanted)
            if flow
            else chain_steps(own.schedule.num_steps, wanted)
        )
    if own.num_steps is not None and flow == (own.method == "ode"):
        return own.num_steps
    return own.ode_steps if flow else own.schedule.num_steps or 100
