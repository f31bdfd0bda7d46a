"""Particle filters: when they resample, and by which scheme; what is decided without a tensor."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple

from dgm_core.arguments import check_choice, refuse

__all__ = ["SCHEMES", "Resampling", "check_resampling"]

SCHEMES = ("multinomial", "systematic", "stratified", "residual")


class Resampling(NamedTuple):
    """When particles are resampled, and how; made by `check_resampling`.

    rule: "always", "never", or a share of the number of particles, below which the effective
    sample size asks for it; scheme: one of SCHEMES.
    """

    rule: str | float
    scheme: str

    @property
    def happens(self) -> bool:
        """Whether particles are ever resampled."""
        return self.rule != "never"

    def threshold(self, num_particles: int) -> float:
        """The effective sample size below which particles are resampled.

        Example:
            >>> Resampling(0.5, "multinomial").threshold(8)
            4.0
        """
        if isinstance(self.rule, str):
            return math.inf if self.rule == "always" else 0.0
        return self.rule * num_particles

    def num_uniforms(self, num_particles: int) -> int:
        """How many uniform numbers one resampling takes."""
        return 1 if self.scheme == "systematic" else num_particles


def check_resampling(resample: Any, scheme: Any) -> Resampling:
    """The rule and the scheme.

    Raises:
        ValueError: for a rule or a scheme that there is not.

    Example:
        >>> check_resampling(0.5, "systematic")
        Resampling(rule=0.5, scheme='systematic')
        >>> check_resampling("often", "systematic")
        Traceback (most recent call last):
        ValueError: resample must be 'always', 'never' or a share of the particles in (0, 1], ...
    """
    scheme = check_choice("scheme", scheme, SCHEMES)
    if isinstance(resample, str) and resample in ("always", "never"):
        return Resampling(resample, scheme)
    number = isinstance(resample, Real) and not isinstance(resample, bool)
    if not (number and 0 < resample <= 1):
        wanted = "'always', 'never' or a share of the particles in (0, 1], such as 0.5"
        refuse("resample", wanted, resample)
    return Resampling(float(resample), scheme)


def check_estimator(estimator: Any, resampling: Resampling) -> str:
    """How the gradient of a particle bound is estimated.

    Raises:
        ValueError: where the ancestors have no probability that can be differentiated.

    Example:
        >>> check_estimator("unbiased", Resampling("always", "systematic"))
        Traceback (most recent call last):
        ValueError: estimator='unbiased' scores the ancestors of each particle, which are drawn ...
    """
    estimator = check_choice("estimator", estimator, ("biased", "unbiased"))
    if estimator == "unbiased" and resampling.happens and resampling.scheme != "multinomial":
        raise ValueError(
            "estimator='unbiased' scores the ancestors of each particle, which are drawn "
            f"independently by scheme='multinomial' alone, got scheme={resampling.scheme!r}."
        )
    if estimator == "unbiased" and resampling.rule not in ("always", "never"):
        raise ValueError(
            "estimator='unbiased' needs resample='always' (or 'never'): an adaptive rule jumps "
            "where the effective sample size crosses its threshold, and no gradient passes there; "
            f"got resample={resampling.rule!r}."
        )
    return estimator


def check_all_at_once(vectorize: Any) -> None:
    """ValueError where particles are to run one after the other."""
    if vectorize is False:
        raise ValueError(
            "The particles of FIVO are resampled among each other, so they run at once: leave "
            "vectorize=False out, or take IWAE."
        )
