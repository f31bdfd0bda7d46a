"""Which latents a model uses: active units, and the KL between guide and prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_floats, check_number

__all__ = [
    "LatentKL",
    "active_units",
    "point_mass_message",
    "scaled_message",
    "unit_variances",
    "unused_message",
]

_NATS_PER_ENTRY, _NATS = 0.1, 1.0  # below both, the draws say next to nothing about the data


class LatentKL(NamedTuple):
    """KL(q(z | x), p(z)) of a local latent: kl (num_data,) in nats; entries, of its value."""

    kl: np.ndarray
    entries: int


def unused_message(name: str, latent: LatentKL) -> str:
    """What to say of a latent that is hardly used; empty for any other.

    Hardly used: its mean KL is below 1 nat per datum, and below 0.1 nat per entry.

    Example:
        >>> unused_message("z", LatentKL(np.array([3.0, 4.0]), 8))
        ''
    """
    mean = float(np.mean(latent.kl))
    if not mean < min(_NATS, _NATS_PER_ENTRY * latent.entries):
        return ""
    return (
        f"Latent '{name}' is hardly used: KL {mean:.2g} nats per datum for {latent.entries} "
        "entries (posterior collapse). Train longer, or let the KL grow from zero, as in "
        "ELBO(beta=linear(2000))."
    )


def scaled_message(scales: Mapping[str, Any], data_scale: float) -> tuple[str, ...]:
    """What to say of sites under a scale, beside that of subsampled data.

    Args:
        scales: of each site.
        data_scale: N / B.

    Example:
        >>> scaled_message({"z": 1.0, "x": 4.0}, 4.0), scaled_message({"x": 0.5}, 4.0)[0][:27]
        ((), "A scale weighs sites ['x'],")
    """
    names = [
        name
        for name, scale in scales.items()
        if not (np.isclose(scale, 1) | np.isclose(scale, data_scale)).all()
    ]
    return (
        (
            f"A scale weighs sites {names}, and counts: these numbers are of powers of densities, "
            "not of log p(x). Take it away for those.",
        )
        if names
        else ()
    )


def point_mass_message(names: Sequence[str]) -> str:
    """What to say of sites that are points without a density."""
    return (
        f"Sites {list(names)} are point masses (Delta): log p - log q is no ratio of densities "
        "there, and what is called a bound bounds nothing. Compare such runs by the likelihood of "
        "held-out data, or give the sites a distribution with a density."
    )


def active_units(z: np.ndarray, threshold: float = 0.01) -> int:
    """The number of latent units whose posterior mean varies over the data: Var_x E[z_u | x] >
    threshold.

    Args:
        z: posterior means (num_data, z_dim), or posterior draws (num_draws, num_data, z_dim). The
            means of two halves of the draws are covaried over the data, so that the noise of the
            draws does not count as activity.

    References:
        Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519.

    Example:
        >>> active_units(np.array([[0.0, 1.0], [1.0, 1.0]]))
        1
    """
    return int(np.sum(unit_variances(z) > check_number("threshold", threshold, least=0)))


def unit_variances(z: np.ndarray) -> np.ndarray:
    """Var_x E[z_u | x] of each latent unit u, (z_dim,): see `active_units`.

    Example:
        >>> unit_variances(np.array([[0.0, 1.0], [1.0, 1.0]]))
        array([0.25, 0.  ])
    """
    z = check_floats("z", z)
    if not np.isfinite(z).all():
        raise ValueError(
            f"z must be finite, got {int((~np.isfinite(z)).sum())} values that are not."
        )
    if z.ndim not in (2, 3) or z.shape[-2] < 2 or (z.ndim == 3 and len(z) < 2):
        raise ValueError(
            "z must be (num_data, z_dim) or (num_draws, num_data, z_dim) with two data and "
            f"draws or more, got {z.shape}."
        )
    first, second = (z, z) if z.ndim == 2 else (z[::2].mean(0), z[1::2].mean(0))
    return np.asarray(((first - first.mean(0)) * (second - second.mean(0))).mean(0))
