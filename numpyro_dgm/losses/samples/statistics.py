"""Distances between distributions that need no critic and no kernel: energy distance, energy score,
Wasserstein distances on lines.

All are plain functions of draws, differentiable, and zero in expectation, or least, only where the
distributions agree.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.arguments import check_number
from numpyro_dgm.losses.samples.pairwise import as_points, distances

__all__ = ["energy_distance", "energy_score", "sliced_wasserstein", "wasserstein_1d"]


def energy_distance(x: Array, y: Array, beta: float = 1.0, unbiased: bool = True) -> Array:
    """2 E |X - Y|^beta - E |X - X'|^beta - E |Y - Y'|^beta,  X, X' ~ P,  Y, Y' ~ Q: zero only for P
    = Q.

    Args:
        x, y: draws of P and Q.
        beta: in (0, 2).
        unbiased: whether a point is left out of the mean over its own partners (then the estimate
            may be negative; otherwise it is at least 0 and too large).

    Shapes:
        x (num_x, *event), y (num_y, *event) -> one number.  Cost: (num_x + num_y)^2 distances.

    Raises:
        ValueError: for beta outside (0, 2), events of different shapes, and fewer than two points
            of each sample if unbiased.

    References:
        Szekely and Rizzo (2013), Energy statistics, J. Stat. Plan. Inference 143.

    Example:
        >>> energy_distance(jnp.array([0.0, 0.0]), jnp.array([3.0, 3.0]))
        Array(6., dtype=float32)
    """
    beta = check_number("beta", beta, above=0, below=2)
    x, y = as_points(x, y, least=2 if unbiased else 1)
    return (
        2 * _power(distances(x, y), beta).mean()
        - _mean_within(x, beta, unbiased)
        - _mean_within(y, beta, unbiased)
    )


def energy_score(y: Array, samples: Array, beta: float = 1.0) -> Array:
    """S(Q, y) = E |Y - y|^beta - E |Y - Y'|^beta / 2,  Y, Y' ~ Q: in expectation over y ~ P least
    for Q = P only (a strictly proper scoring rule).

    Its mean over y, less its value for Q = P, is half the energy distance.  The estimate is
    unbiased.

    Args:
        y: the data.
        samples: independent draws of Q for each of them.
        beta: in (0, 2).

    Shapes:
        y (batch, *event), samples (num_samples, batch, *event) -> (batch,).  Cost: num_samples^2
        distances per datum.

    Raises:
        ValueError: for beta outside (0, 2), fewer than two samples, and shapes that do not fit.

    References:
        Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102, section 4.2; Bouchacourt, Mudigonda
        and Nowozin (2016), DISCO nets, arXiv:1606.02556.

    Example:
        >>> energy_score(jnp.zeros(1), jnp.array([[-1.0], [1.0]]))
        Array([0.], dtype=float32)
    """
    beta = check_number("beta", beta, above=0, below=2)
    if y.ndim == 0 or samples.shape[1:] != y.shape or len(samples) < 2:
        raise ValueError(
            "The energy score needs y (batch, *event) and two or more samples (num_samples, "
            f"batch, *event), got {tuple(y.shape)} and {tuple(samples.shape)}."
        )
    samples = samples.reshape(*samples.shape[:2], -1).swapaxes(0, 1)  # (batch, num_samples, dim)
    num_samples = samples.shape[1]
    fit = _power(distances(samples, y.reshape(len(y), 1, -1)), beta).mean((1, 2))
    spread = _power(distances(samples, samples), beta).sum((1, 2)) / (
        num_samples * (num_samples - 1)
    )
    return fit - spread / 2


def wasserstein_1d(x: Array, y: Array, p: float = 1.0) -> Array:
    """W_p^p = int_0^1 |F^-1(t) - G^-1(t)|^p dt of two samples on the line, exact also for samples
    of different sizes; W_1 = int |F - G|.

    Args:
        x, y: the samples, along the first axis.
        p: at least 1.  The power p stays, so that gradients are finite where the samples agree.

    Shapes:
        x (num_x, *batch), y (num_y, *batch) -> (*batch,).  Cost: two sorts.

    Raises:
        ValueError: for p below 1, empty samples and batches of different shapes.

    References:
        Villani (2003), Topics in optimal transportation, theorem 2.18.

    Example:
        >>> wasserstein_1d(jnp.array([0.0, 1.0]), jnp.array([3.0, 2.0]))
        Array(2., dtype=float32)
    """
    p = check_number("p", p, least=1)
    as_points(x, y)
    num_x, num_y = len(x), len(y)
    # Both quantile functions are steps; in units of 1 / (num_x num_y) they change at these levels.
    levels = np.union1d(np.arange(1, num_x + 1) * num_y, np.arange(1, num_y + 1) * num_x)
    weights = jnp.asarray(np.diff(levels, prepend=0) / (num_x * num_y), dtype=x.dtype)
    of_x, of_y = (levels - 1) // num_y, (levels - 1) // num_x
    gaps = jnp.abs(jnp.sort(x, 0)[of_x] - jnp.sort(y, 0)[of_y]) ** p  # (levels, *batch)
    return (weights.reshape(-1, *[1] * (x.ndim - 1)) * gaps).sum(0)


def sliced_wasserstein(x: Array, y: Array, directions: Array, p: float = 2.0) -> Array:
    """The mean over directions u of W_p^p between the samples projected on u, for unit vectors u.

    Args:
        x, y: the samples.
        directions: of any length but zero (they are scaled to length one): normal draws are uniform
            directions.
        p: at least 1.

    Shapes:
        x (num_x, *event), y (num_y, *event), directions (num_directions, *event) -> one number.

    Cost:
        num_directions projections and sorts.

    Raises:
        ValueError: for p below 1 and events of different shapes.

    References:
        Bonneel et al. (2015), J. Math. Imaging Vis. 51; Deshpande, Zhang and Schwing (2018),
        arXiv:1803.11188.

    Example:
        >>> sliced_wasserstein(jnp.zeros((4, 2)), jnp.ones((5, 2)), jnp.array([[2.0, 0.0]]))
        Array(1., dtype=float32)
    """
    (x, directions), (y, _) = as_points(x, directions), as_points(y, directions)
    directions = directions / jnp.sqrt(jnp.square(directions).sum(1, keepdims=True))
    return wasserstein_1d(x @ directions.T, y @ directions.T, p).mean()


def _mean_within(x: Array, beta: float, unbiased: bool) -> Array:
    """E |X - X'|^beta."""
    n = len(x)
    return _power(distances(x, x), beta).sum() / (n * (n - 1) if unbiased else n * n)


def _power(distance: Array, beta: float) -> Array:
    """distance^beta, with gradient zero at distance zero."""
    apart = distance > 0
    return jnp.where(apart, jnp.where(apart, distance, 1.0) ** beta, 0.0)
