"""Codes along lines: one entry moved at a time, and the way from one code to another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dgm_core.arguments import check_choice, check_count, check_number, refuse

__all__ = [
    "PATHS",
    "check_dims",
    "check_given",
    "check_moved",
    "check_pairs",
    "check_shape_of",
    "grid",
    "line",
    "out_of_support",
    "steps_of",
]

PATHS = ("linear", "spherical")


def steps_of(span: Any, num_steps: Any) -> np.ndarray:
    """Evenly spaced values from -span to span, or between two numbers, (num_steps,).

    Example:
        >>> steps_of(2, 3), steps_of((0, 1), 2)
        (array([-2.,  0.,  2.]), array([0., 1.]))
    """
    num_steps = check_count("num_steps", num_steps, 2)
    if isinstance(span, (tuple, list)):
        if len(span) != 2:
            refuse("span", "a positive number, or two numbers", span)
        low, high = (check_number("span", end) for end in span)
        if not low < high:
            refuse("span", "two numbers, the first below the second", span)
        return np.linspace(low, high, num_steps)
    span = check_number("span", span, above=0)
    return np.linspace(-span, span, num_steps)


def check_dims(dims: Any, num_entries: int) -> tuple[int, ...]:
    """The numbers of entries from a number, a sequence of them, or None for all.

    Example:
        >>> check_dims(None, 3), check_dims(1, 3)
        ((0, 1, 2), (1,))
    """
    if dims is None:
        return tuple(range(num_entries))
    given = [dims] if np.ndim(dims) == 0 else list(dims)
    found = [x for x in given if isinstance(x, (int, np.integer)) and not isinstance(x, bool)]
    good = bool(given) and len(found) == len(given)
    if not good or not all(0 <= x < num_entries for x in found):
        refuse("dims", f"numbers of entries from 0 to {num_entries - 1}, or None for all", dims)
    return tuple(map(int, found))


def check_given(given: Any, sites: Collection[str]) -> Mapping[str, Any]:
    """Values by site; ValueError for sites that the model has not.

    Example:
        >>> check_given({"z": 0.5}, ["z", "x"])
        {'z': 0.5}
    """
    if not isinstance(given, Mapping):
        refuse("given", "a mapping from sites to values", given)
    if unknown := [name for name in given if name not in sites]:
        raise ValueError(f"given names {unknown}, the model has the sites {sorted(sites)}.")
    return given


def check_shape_of(name: str, found: Sequence[int], drawn: Sequence[int]) -> None:
    """Raises ValueError unless a given value has the shape of a draw."""
    if tuple(found) != tuple(drawn):
        raise ValueError(
            f"given['{name}'] must have the shape of a draw, {tuple(drawn)}, got {tuple(found)}: "
            "pass as many as the model draws (size=...)."
        )


def check_moved(site: Any, names: Sequence[str], leading: Mapping[str, bool]) -> str:
    """The site that is moved: None is allowed for the only one.

    Args:
        names: the local latents of the model;  leading: whether the plate of the data is their
            first batch dimension.

    Example:
        >>> check_moved(None, ["z"], {"z": True})
        'z'
    """
    if not names:
        raise ValueError("The model has no latents inside one plate of the data to be moved.")
    if site is None and len(names) == 1:
        site = names[0]
    if site not in names:
        refuse("site", f"one of the latents of each datum, {list(names)}", site)
    if behind := [name for name in names if not leading[name]]:
        raise ValueError(
            f"The plate of the data must be the first batch dimension of the latents, but of "
            f"{behind} it is not."
        )
    return site


def grid(codes: np.ndarray, dims: Sequence[int], steps: np.ndarray) -> np.ndarray:
    """Codes with one entry at a time set to each of some values, (num_data, *event) -> (num_data,
    len(dims), num_steps, *event); entries are counted in the flattened event.

    Example:
        >>> grid(np.zeros((1, 2)), [1], np.array([-1.0, 1.0]))
        array([[[[ 0., -1.],
                 [ 0.,  1.]]]])
    """
    flat = codes.reshape(len(codes), -1)
    moved = np.broadcast_to(
        flat[:, None, None], (len(flat), len(dims), len(steps), flat.shape[1])
    ).copy()
    for index, dim in enumerate(dims):
        moved[:, index, :, dim] = steps
    return moved.reshape(*moved.shape[:3], *codes.shape[1:])


def line(a: np.ndarray, b: np.ndarray, num_steps: int, path: str = "linear") -> np.ndarray:
    """Codes on the way from a to b, (num_data, *event) -> (num_data, num_steps, *event).

    "linear": (1 - t) a + t b.  "spherical": [sin((1 - t) w) a + sin(t w) b] / sin w with w the
    angle between a and b, so that the norms in between are not smaller than at the ends, as those
    of draws in many dimensions are not.

    Raises:
        ValueError: for codes in opposite directions, or at zero, between which no arc is shortest.

    References:
        Shoemake (1985), Animating rotation with quaternion curves; White (2016), Sampling
        generative networks, arXiv:1609.04468.

    Example:
        >>> line(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), 3, "spherical")[0, 1].round(4)
        array([0.7071, 0.7071])
    """
    num_steps = check_count("num_steps", num_steps, 2)
    t = np.linspace(0, 1, num_steps)[:, None]
    first, last = (x.reshape(len(x), 1, -1).astype(np.float64) for x in (a, b))
    before, after = 1 - t, t
    if check_choice("path", path, PATHS) == "spherical":
        lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(last, axis=-1)
        if not (lengths > 0).all():
            raise ValueError("A code at zero has no direction: take path='linear'.")
        cosine = np.clip((first * last).sum(-1) / lengths, -1, 1)
        angle = np.arccos(cosine)[..., None]
        if (angle > np.pi - 1e-6).any():
            raise ValueError(
                "Two codes lie in opposite directions, between which no arc is the shortest: take "
                "path='linear'."
            )
        curved = angle > 1e-6
        w = np.where(curved, angle, 1.0)
        before = np.where(curved, np.sin((1 - t) * w) / np.sin(w), before)
        after = np.where(curved, np.sin(t * w) / np.sin(w), after)
    moved = before * first + after * last
    return moved.reshape(*moved.shape[:2], *a.shape[1:]).astype(np.result_type(a, np.float32))


def check_pairs(first: Mapping[str, tuple[int, ...]], last: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless the codes at both ends have the same shapes, by site."""
    if first != last:
        raise ValueError(
            f"x_a and x_b must be as many data, whose latents have the same shapes, got {first} "
            f"and {last}."
        )


def out_of_support(name: str, support: Any) -> str:
    """What to say of codes that are no values of their site."""
    return (
        f"Codes of site '{name}' leave its support, {support}: move them within it (span, "
        "path='linear'), or a site whose values are real numbers; the mean of a discrete latent is "
        "no value of it."
    )
