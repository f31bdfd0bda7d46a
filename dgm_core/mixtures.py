"""Gaussian mixtures fitted to codes, from which models of clusters start."""

from typing import Any

import numpy as np

__all__: list[str] = []  # for the package, not for users

_ROWS = 10_000  # codes of a fit


def fitted_mixture(
    codes: np.ndarray, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best of ten Gaussian mixtures fitted to codes (num_data, dim), which have full
    covariances: log-weights (K,), means and scales (K, dim).

    Raises:
        ValueError: for fewer codes than components, and codes that are not finite.

    Example:
        >>> codes = np.repeat([[0.0, 1.0], [5.0, 2.0]], 20, 0)
        >>> np.sort(fitted_mixture(codes, 2, 0)[1].round(3), 0).tolist()
        [[0.0, 1.0], [5.0, 2.0]]
    """
    from sklearn.mixture import GaussianMixture

    codes = np.asarray(codes, float)
    if len(codes) < 2 * num_classes:
        raise ValueError(
            f"{num_classes} clusters start from at least {2 * num_classes} codes, got {len(codes)}."
        )
    if not np.isfinite(codes).all():
        raise ValueError("The codes of the data are not finite: look at the data and the run.")
    rows = np.random.default_rng(seed).permutation(len(codes))[:_ROWS]
    spread = float(codes.var(0).mean())
    mixture = GaussianMixture(
        num_classes, n_init=10, reg_covar=1e-3 * spread + 1e-9, random_state=seed % 2**32
    ).fit(codes[rows])
    scales = np.sqrt(np.diagonal(mixture.covariances_, axis1=1, axis2=2))
    return np.log(mixture.weights_), mixture.means_, scales


def raw_scale(scale: np.ndarray, floor: float) -> np.ndarray:
    """The numbers of which `positive`, with this floor, makes scales.

    Example:
        >>> raw_scale(np.array([1.0, 3.0]), 0.0).round(4).tolist()
        [0.0, 2.4076]
    """

    def inverse(x: np.ndarray) -> np.ndarray:
        return x + np.log(-np.expm1(-x))  # of the softplus

    above = np.maximum(np.asarray(scale, float) - floor, 1e-6)
    return inverse(above) - inverse(np.asarray(1.0 - floor))


def check_vae(run: Any, kind: type) -> Any:
    """The VAE that a run has trained; ValueError for a run of anything else."""
    vae = getattr(getattr(run, "model", None), "__self__", None)
    if type(vae) is not kind or not hasattr(run, "params"):
        raise ValueError(
            "run must be what fit returns for the model and guide of a VAE, "
            f"fit(vae.model, vae.guide, x), got {run!r}."
        )
    return vae


def running_statistics(name: str) -> str:
    """What to say of a part that keeps more than weights."""
    return (
        f"The {name} of this run has running statistics (batch normalization), which a model that "
        "starts from it would lose: train the VAE without them."
    )
