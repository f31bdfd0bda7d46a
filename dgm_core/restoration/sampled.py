"""What draws of images are asked for, given what a linear operator lets through, and what is known
of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from dgm_core.arguments import check_floats, refuse
from dgm_core.restoration.corruption import operator_matrix

__all__ = ["Restored", "as_restored", "last_site", "linear_parts", "no_density_of"]

FEW = 5  # effective draws, below which a warning is due


@dataclass(frozen=True)
class Restored:
    """Draws given what was seen, `restored["x"]`.

    Attributes:
        draws: {site: (num_draws, num, ...)}, of the images and of all latents.
        log_evidence: estimates of ln p(y), (num,).
        ess: how many independent draws the weighted chains are worth, (num,): near 1 all draws are
            the same, and of more steps there would be more.
        acceptance: of the chains, on average.
    """

    draws: Mapping[str, np.ndarray]
    log_evidence: np.ndarray
    ess: np.ndarray
    acceptance: float

    def __getitem__(self, site: str) -> np.ndarray:
        return self.draws[site]


def as_restored(draws: Mapping[str, Any], log_w: np.ndarray, acceptance: float) -> Restored:
    """The same from the logarithms of the chains' weights (num_draws, num).

    Example:
        >>> found = as_restored({"x": np.zeros((4, 1, 2))}, np.full((4, 1), 0.5), 0.8)
        >>> found["x"].shape, found.log_evidence.tolist(), found.ess.tolist()
        ((4, 1, 2), [0.5], [4.0])
    """
    top = log_w.max(0)
    weights = np.exp(log_w - top)
    ess = weights.sum(0) ** 2 / (weights**2).sum(0)
    if bad := int((ess < min(FEW, len(log_w))).sum()):
        warnings.warn(
            f"Of {bad} of {len(ess)} images the chains are worth fewer than {FEW} draws: take more "
            "steps, or more draws.",
            RuntimeWarning,
            stacklevel=3,
        )
    return Restored(dict(draws), top + np.log(weights.mean(0)), ess, acceptance)


def last_site(site: Any, sites: Sequence[str]) -> str:
    """The site of the images: None is the last.

    Example:
        >>> last_site(None, ["z", "x"])
        'x'
    """
    if site is None and sites:
        return sites[-1]
    if site not in sites:
        refuse("site", f"one of the sites of the model, {list(sites)}", site)
    return site


def linear_parts(
    y: Any, operator: Any, event_shape: tuple[int, ...], num: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """y (num, outputs), the matrix A (1 or num, outputs, inputs), and whether each output sees one
    input that no other sees.

    Args:
        y: what was seen, (num, ...).
        operator: a matrix (outputs, inputs), one for each image (num, outputs, inputs), or a
            linear function of images, as `operator_matrix` takes it.
        event_shape: of an image.
        num: of images.

    Raises:
        ValueError: for shapes that do not fit, and numbers that are not finite.

    Example:
        >>> y, matrix, apart = linear_parts(np.zeros((3, 1)), np.eye(2)[:1], (2,), 3)
        >>> y.shape, matrix.shape, apart
        ((3, 1), (1, 1, 2), True)
    """
    inputs = prod(event_shape)
    if callable(operator):
        if len(event_shape) != 3:
            wanted = f"a matrix (outputs, {inputs}) where data are no images (channels, ...)"
            refuse("operator", wanted, operator)
        operator = operator_matrix(operator, event_shape)
    matrix, y = check_floats("operator", operator), check_floats("y", y)
    matrix = matrix[None] if matrix.ndim == 2 else matrix
    good = matrix.ndim == 3 and len(matrix) in (1, num) and matrix.shape[2] == inputs
    if not good or not np.isfinite(matrix).all():
        wanted = f"finite numbers (outputs, {inputs}), or (num_images, outputs, {inputs})"
        refuse("operator", wanted, operator)
    outputs = matrix.shape[1]
    if y.ndim < 2 or len(y) != num or y[0].size != outputs or not np.isfinite(y).all():
        wanted = f"finite numbers, {outputs} for each of {num} images that the model draws"
        refuse("y", wanted, y)
    apart = bool(((matrix != 0).sum(-1) <= 1).all() and ((matrix != 0).sum(-2) <= 1).all())
    return y.reshape(num, outputs), matrix, apart


def no_density_of(site: str) -> str:
    """What to say of a diffusion."""
    return (
        f"Site '{site}' is drawn by a diffusion, step by step, and scored along its flow, which is "
        "another process: draws of both would be of neither. Take a prior whose draws have the "
        "density that it states, such as a flow."
    )
