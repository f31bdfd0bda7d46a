"""What is said of observed values that a distribution cannot give."""

from __future__ import annotations

import math
import warnings

__all__ = ["OPEN", "complain"]

# Their densities are zero, infinite or undefined at the ends of the interval that they name as
# their support.
OPEN = ("Beta", "Kumaraswamy", "LogitNormal", "Dirichlet")


def complain(
    name: str, family: str, support: str, count: int, example: float, *, validated: bool = True
) -> None:
    """Raises ValueError for `count` observed values of a site outside the support, such as
    `example`.

    Where the distribution's author has switched validation off it warns instead, but for NaN.

    Example:
        >>> complain("x", "Bernoulli", "Boolean()", 12, 0.5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: Site 'x' observes 0.5, outside the support of Bernoulli (Boolean()); ...
    """
    advice = "check the data and their scaling"
    if math.isnan(example):
        advice = (
            "remove or fill in what is missing, or leave it out by a mask in the model "
            "(`poutine.mask` or `handlers.mask`)"
        )
    elif family == "Bernoulli":
        advice = (
            "binarize the data (transform=binarize) or use a likelihood on [0, 1] such as "
            "ContinuousBernoulli"
        )
    elif family == "ImplicitDistribution":
        advice = "scale the data as the generator's draws are, images of bytes by x / 255"
    elif family in OPEN:
        advice = (
            "dequantize the data (dgm_core.data.dequantize), move them inside, as in 0.001 + "
            "0.998 * x, or use ContinuousBernoulli"
        )
    values = "1 value" if count == 1 else f"{count} values"
    sentence = (
        f"Site '{name}' observes {example:g}, outside the support of {family} ({support}); "
        f"{values} of this batch {'is' if count == 1 else 'are'}"
    )
    if validated or math.isnan(example):
        raise ValueError(f"{sentence}: {advice}.")
    warnings.warn(
        f"{sentence}; it is scored all the same, as validate_args=False asks.", stacklevel=5
    )
