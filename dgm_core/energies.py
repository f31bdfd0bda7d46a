"""What is said and checked of densities that are known up to a constant, without a tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dgm_core.arguments import check_number, refuse

__all__ = [
    "UNKNOWN_BASE",
    "UNNORMALIZED",
    "check_batch",
    "check_constants",
    "check_energy",
    "check_potential",
    "check_stated",
    "check_values",
    "estimated",
    "implied_temperature",
    "in_plates",
    "no_energy",
    "no_site",
    "no_start",
    "not_annealed",
    "not_real",
    "not_shared",
    "restarted",
    "tempered",
    "unmet",
    "which_site",
    "wrong_noise",
]

UNNORMALIZED = (
    "Its density is known up to a constant alone: train it by ContrastiveDivergence, "
    "ScoreMatching, DenoisingScoreMatching or NoiseContrastive; for a bound such as ELBO on a "
    "model with it as a latent site, add ContrastiveDivergence(site, ..., log_z=1000) to the loss; "
    "to evaluate, state its constant by normalized(model, {site: log_z}), which annealed_log_z "
    "finds; held-out data of a fit are scored by validation_loss=ScoreMatching(site)."
)


UNKNOWN_BASE = (
    "The base of an unnormalized distribution must have a density with its constant, such as "
    "StandardNormal(2) has, got another unnormalized distribution: add their networks."
)


def check_energy(shape: tuple[int, ...], num: int, module: Any) -> None:
    """Raises ValueError unless a network has given one number for each of `num` values."""
    if math.prod(shape) != num:
        raise ValueError(
            f"The network of an energy must give one number for each value, shape ({num},) or "
            f"({num}, 1), got {tuple(shape)} from {type(module).__name__}."
        )


def check_values(value: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...]:
    """The batch shape of values; raises ValueError unless they end in the event shape.

    Example:
        >>> check_values((7, 2), (2,))
        (7,)
    """
    ndim = len(value) - len(event)
    if ndim < 0 or tuple(value[ndim:]) != tuple(event):
        raise ValueError(
            f"Values of an unnormalized distribution must end in its event shape {tuple(event)}, "
            f"got shape {tuple(value)}."
        )
    return tuple(value[:ndim])


def check_potential(found: tuple[int, ...], batch: tuple[int, ...]) -> None:
    """Raises ValueError unless a potential has given one number for each of a batch of values, for
    each particle and context where it depends on these.
    """
    own = found[len(found) - len(batch) :]
    if len(found) < len(batch) or any(
        size not in (given, 1) for size, given in zip(batch, own, strict=True)
    ):
        raise ValueError(
            "The potential of an unnormalized distribution must give one number for each value, "
            f"shape {tuple(batch)}, got {tuple(found)}."
        )


def check_batch(name: str, num_chains: int, per_step: Any) -> int:
    """How many chains move in a step, a divisor of their number; all by default.

    Example:
        >>> check_batch("per_step", 100, 20), check_batch("per_step", 100, None)
        (20, 100)
    """
    if per_step is None:
        return num_chains
    is_count = isinstance(per_step, int) and not isinstance(per_step, bool) and per_step > 0
    if not is_count or num_chains % per_step:
        refuse(name, f"a divisor of the number of chains {num_chains}, or None", per_step)
    return per_step


def in_plates(site: str, batch_shape: tuple[int, ...], what: str = "chains") -> str:
    """What to say of persistent chains, or of a constant, at a site whose distribution depends on
    the datum.
    """
    subject, advice = _OF_ONE[what]
    return (
        f"{subject} to one distribution, and that of site '{site}' depends on the datum (batch "
        f"shape {tuple(batch_shape)}): {advice}."
    )


_OF_ONE = {
    "chains": (
        "Persistent chains belong",
        "leave out chains, so that they start at the data",
    ),
    "log_z": (
        "An estimate of ln Z belongs",
        "leave out log_z, and the bounds beside this term",
    ),
    "normalized": (
        "A stated ln Z belongs",
        "state 0.0 of an energy that NoiseContrastive has normalized, nothing else",
    ),
}


def implied_temperature(step_size: Any, noise: Any) -> float:
    """T = (noise / e)^2 of Langevin steps  x + e^2 g / 2 + noise xi,  which follow pi^(1/T).

    Example:
        >>> implied_temperature(20**0.5, 0.005)  # "step 10, noise 0.005" of image energies
        1.25e-06
    """
    return float(f"{(noise / step_size) ** 2:.12g}")


def tempered(term: str, temperature: float) -> str:
    """What to say of a term whose chains are not at temperature 1."""
    if not temperature:
        return (
            f"The Langevin steps of {term} have no noise: they end at the modes of exp(-E), and no "
            "density is fitted to the data. temperature=1.0 learns E."
        )
    return (
        f"The Langevin steps of {term} have the temperature T = {temperature:.4g}, since their "
        "noise is not that of their step size: they sample exp(-E / T), so that E / T is what "
        "fits the data, and T E is learned of it. temperature=1.0 learns E itself."
    )


def no_site(name: str, sites: Any) -> str:
    """What to say of a site that the model has not."""
    return f"The model has no sample site '{name}'; it has {sorted(sites)}."


def no_energy(term: str, site: str, distribution: str) -> str:
    """What to say of a site whose distribution is no energy."""
    return (
        f"{term} needs a site with a density that is known up to a constant, an Energy or a "
        f"Tilted, and '{site}' has a {distribution}: its likelihood is known, NLL() or a bound "
        "trains it."
    )


def not_annealed(site: str) -> str:
    """What to say of a discrete site where chains move by gradients."""
    return (
        f"The chains of annealed_log_z move real values by gradients, and '{site}' is discrete: an "
        "RBM has annealed(), an interval of ln Z by Gibbs steps, and log_z(), exactly, of a small "
        "layer."
    )


def not_shared(processes: int, per_step: int) -> str:
    """What to say of chains that cannot be divided among processes."""
    return (
        f"The {per_step} chains of a step must be divided among {processes} processes: choose a "
        f"per_step of Persistent that is a multiple of {processes}."
    )


def no_start(term: str) -> str:
    """What to say where chains must start before a model was seen."""
    return (
        f"{term} does not know yet where its chains start: fit finds out; elsewhere pass "
        "chains=Persistent(..., start=StandardNormal(dim))."
    )


def not_real(term: str, site: str, support: str) -> str:
    """What to say of a site whose density ends somewhere."""
    return (
        f"{term} needs a site with values on the whole real line, where the density does not end, "
        f"and '{site}' has the support {support}: map its values to the real line first."
    )


def wrong_noise(site: str, own: tuple[int, ...], needed: tuple[int, ...]) -> str:
    """What to say of noise of another shape than the values of a site."""
    return f"noise must have the event shape {needed} of site '{site}', got {own}."


def check_stated(site: str, alone: Any, log_z: float) -> float:
    """The constant of a distribution; raises ValueError where it depends on the datum, so that one
    number cannot be its constant.
    """
    if alone.batch_shape and log_z:
        raise ValueError(in_plates(site, alone.batch_shape, "normalized"))
    return log_z


def check_constants(log_z: Any) -> dict[str, float]:
    """{site: ln Z}, a copy.

    Example:
        >>> check_constants({"z": 1})
        {'z': 1.0}
    """
    if not isinstance(log_z, Mapping) or not all(isinstance(name, str) for name in log_z):
        refuse("log_z", "{site: its ln Z}", log_z)
    return {name: check_number(f"log_z of '{name}'", value) for name, value in log_z.items()}


def unmet(sites: Any) -> str:
    """What to say of constants of sites that need none."""
    return (
        f"log_z states constants of {sites}, which are no unnormalized sites of the model: name "
        "sites with an Energy or a Tilted."
    )


def which_site(site: Any, num: int) -> str:
    """What to say of a site, or data, beside a distribution that is given itself."""
    return (
        f"site and data belong to a run, got site={site!r} and {num} arrays beside a distribution: "
        "leave them out."
    )


def estimated(sites: Any) -> str:
    """What to say beside bounds whose ln Z is estimated by the terms of the loss."""
    return (
        f"The bounds among the terms of the loss have ln Z of {sorted(sites)} as draws of its base "
        "estimate it, from below, so that they may be above log p(x): normalized(run, {site: ln Z})"
        " has a stated one, such as the upper end of what annealed_log_z finds."
    )


def restarted(history: Any) -> str | None:
    """What to say of chains that started anew, by the history of a run; None where none has.

    Example:
        >>> restarted([{"ContrastiveDivergence(x)/restarts": 0.0}]) is None
        True
    """
    ends = {name: value for row in history for name, value in row.items() if _counts(name, value)}
    if not ends:
        return None
    counts = ", ".join(f"{name} {value:.4g}" for name, value in ends.items())
    return (
        f"Chains held numbers that were not finite, and were started anew ({counts}): where that "
        "goes on, take smaller steps, or an energy that grows with |x|."
    )


def _counts(name: str, value: Any) -> bool:
    """Whether a column counts chains that started anew."""
    return name.endswith(")/restarts") and "validation/" not in name and value > 0
