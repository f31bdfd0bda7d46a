"""From gray levels to the support of a likelihood: binary pixels, continuous pixels, the whole real
line.
"""

from __future__ import annotations

import numpy as np

from dgm_core.arguments import check_count, check_number, check_seed

PROTOCOLS = ("static", "dynamic", "threshold")


def binarize(
    x: np.ndarray, protocol: str = "static", *, seed: int = 0, epoch: int = 0
) -> np.ndarray:
    """Gray levels in [0, 1] as zeros and ones, float32.

    Args:
        x: any shape.
        protocol: "static" draws Bernoulli(x) once per seed, "dynamic" once per seed and epoch,
            "threshold" takes x > 0.5. Bounds on MNIST differ by about 2 nats between the first two:
            say which.
        seed, epoch: what the draw depends on.

    Raises:
        ValueError: for an unknown protocol or values outside [0, 1].

    Example:
        >>> binarize(np.array([0.0, 1.0, 0.4]), "threshold")
        array([0., 1., 0.], dtype=float32)
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    x = _unit_interval(x)
    if protocol == "threshold":
        return (x > 0.5).astype(np.float32)
    seeds = [check_seed("seed", seed, 0), check_seed("epoch", epoch, 0)]
    rng = np.random.default_rng(seeds if protocol == "dynamic" else seeds[:1])
    return (rng.random(x.shape) < x).astype(np.float32)


def dequantize(x: np.ndarray, levels: int = 256, *, seed: int = 0) -> np.ndarray:
    """Gray levels 0, 1 / (levels - 1), ..., 1 spread uniformly over [0, 1): ((levels - 1) x + u) /
    levels, u ~ U[0, 1).

    The expected log-density of the result, minus x_dim log levels, is a lower bound on the
    log-probability of the gray levels themselves (Theis et al. 2016, arXiv:1511.01844).

    Raises:
        ValueError: for levels below 2 or values outside [0, 1].

    Example:
        >>> y = dequantize(np.array([0.0, 1.0]), levels=2)
        >>> bool(0 <= y[0] < 0.5 <= y[1] < 1)
        True
    """
    if isinstance(levels, int | np.integer) and levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}.")
    check_count("levels", levels, 2)
    x = _unit_interval(x)
    noise = np.random.default_rng(check_seed("seed", seed, 0)).random(x.shape)
    spread = ((levels - 1) * x.astype(np.float64) + noise) / levels
    return np.minimum(spread, np.nextafter(np.float32(1), np.float32(0))).astype(np.float32)


def logit_transform(x: np.ndarray, alpha: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1] on the real line, with the change of volume.

        y = log(s / (1 - s)),  s = alpha + (1 - 2 alpha) x,
        log |dy/dx| = sum_d log(1 - 2 alpha) - log s_d - log(1 - s_d).

    A density p(y) is the density p(y) |dy/dx| of the pixels.

    Args:
        x: (*batch, x_dim).
        alpha: keeps the ends of the interval finite; 1e-6 for MNIST and 0.05 for CIFAR in the MAF
            paper.

    Returns:
        y (*batch, x_dim) and log |dy/dx| (*batch,), in the precision of x.

    Raises:
        ValueError: for alpha outside [0, 0.5), values outside [0, 1], or alpha = 0 with a value at
            either end.

    Example:
        >>> y, log_jacobian = logit_transform(np.full((1, 2), 0.5), alpha=0.0)
        >>> y, log_jacobian / np.log(4)
        (array([[0., 0.]]), array([2.]))
    """
    alpha = check_number("alpha", alpha, least=0, below=0.5)
    x = _unit_interval(x)
    if alpha == 0 and (np.any(x == 0) or np.any(x == 1)):
        raise ValueError(
            "With alpha = 0 the pixels 0 and 1 go to infinity: dequantize them or take alpha > 0."
        )
    squeezed = alpha + (1 - 2 * alpha) * x.astype(np.float64)
    log_s, log_rest = np.log(squeezed), np.log1p(-squeezed)
    log_jacobian = (np.log1p(-2 * alpha) - log_s - log_rest).sum(-1)
    kind = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    return (log_s - log_rest).astype(kind), log_jacobian.astype(kind)


def inverse_logit_transform(y: np.ndarray, alpha: float = 1e-6) -> np.ndarray:
    """Pixels from the real line: the inverse of `logit_transform`, clipped to [0, 1].

    Example:
        >>> inverse_logit_transform(np.array([-100.0, 0.0, 100.0]))
        array([0. , 0.5, 1. ])
    """
    from scipy.special import expit

    alpha = check_number("alpha", alpha, least=0, below=0.5)
    return np.clip((expit(y) - alpha) / (1 - 2 * alpha), 0, 1)


def _unit_interval(x: np.ndarray) -> np.ndarray:
    """Pixels as an array, after a look at all of them."""
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"Pixels must be an array of real numbers, got type {x.dtype}.")
    if not (np.all(x >= 0) and np.all(x <= 1)):  # NaN fails too
        raise ValueError(
            f"Pixels must lie in [0, 1] without NaN, got values from {np.min(x)} to {np.max(x)}."
        )
    return x
