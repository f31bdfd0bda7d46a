"""What an amortized guide loses: by its family, and by answering for all data with one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dgm_core.diagnostics import iwae_bound
from dgm_core.structure import Structure

__all__ = ["InferenceGaps"]


class InferenceGaps(NamedTuple):
    """log p(x) - ELBO of an amortized guide, in two parts, each (num_data,) in nats.

    log p(x) - ELBO = [log p(x) - ELBO*] + [ELBO* - ELBO] with ELBO* that of the best member of the
    guide's family for this datum alone: the *approximation* gap, which a richer family closes, and
    the *amortization* gap, which a better encoder closes.

    log_evidence, the larger of the importance-weighted bounds of both;  elbo, of the guide;
    tuned, ELBO*.
    """

    log_evidence: np.ndarray
    elbo: np.ndarray
    tuned: np.ndarray

    @property
    def approximation(self) -> np.ndarray:
        """log p(x) - ELBO*."""
        return self.log_evidence - self.tuned

    @property
    def amortization(self) -> np.ndarray:
        """ELBO* - ELBO."""
        return self.tuned - self.elbo

    def __repr__(self) -> str:
        parts = (self.approximation.mean(), self.amortization.mean())
        return (
            f"InferenceGaps({len(self.elbo)} data: approximation {parts[0]:.4g}, amortization "
            f"{parts[1]:.4g} nats per datum)"
        )


def gaps_of(log_w: np.ndarray, tuned_log_w: np.ndarray) -> InferenceGaps:
    """From the log-weights (num_particles, num_data) of the guide and of its tuned members.

    Example:
        >>> gaps_of(np.log([[1.0], [3.0]]), np.log([[2.0], [2.0]])).approximation.round(12)
        array([0.])
    """
    evidence = np.maximum(iwae_bound(log_w), iwae_bound(tuned_log_w))
    return InferenceGaps(evidence, log_w.mean(0), tuned_log_w.mean(0))


def check_amortized(
    structure: Structure, sites: Sequence[str], looks: bool, drawn: Mapping[str, bool]
) -> None:
    """Raises ValueError where there is no gap of amortization, or no gradient to tune by.

    Args:
        sites: the latent sites of the model.
        looks: whether the guide looks at its data.
        drawn: latent site -> whether gradients pass through its draws.
    """
    outside = [name for name in structure.global_sites if name in sites]
    if structure.global_sites or structure.global_factors or len(structure.sizes) != 1:
        raise ValueError(
            "The gaps are those of each datum, so all latents must lie in one plate of the data, "
            f"got {outside} outside and {len(structure.sizes)} plates."
        )
    if discrete := [name for name, passes in drawn.items() if not passes]:
        raise ValueError(
            f"The guide's draws of {discrete} are not reparameterized, so it cannot be tuned to a "
            "datum by their gradient."
        )
    if not looks:
        raise ValueError(
            "The guide does not look at its data: it amortizes nothing, and its gap is that of its "
            "family."
        )


def reads_the_same(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether data are the same when moved by one, so that they do not tell who looks at them.

    Example:
        >>> reads_the_same((np.ones(3),), {}), reads_the_same((np.arange(3),), {})
        (True, False)
    """
    arrays = [np.asarray(x) for x in (*args, *kwargs.values()) if getattr(x, "shape", ())]
    return all(np.array_equal(x, np.roll(x, 1, 0), equal_nan=x.dtype.kind in "fc") for x in arrays)


def check_tunable(num_parameters: int) -> None:
    """Raises ValueError for a guide without parameters of its own."""
    if not num_parameters:
        raise ValueError("The guide has no parameters of its own that could be tuned to a datum.")
