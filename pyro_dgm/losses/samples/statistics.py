"""Distances between distributions that need no critic and no kernel: energy distance, energy score,
Wasserstein distances on lines.

All are plain functions of draws, differentiable, and zero in expectation, or least, only where the
distributions agree.
"""

import numpy as np
import torch
from torch import Tensor

from dgm_core.arguments import check_number
from pyro_dgm.losses.samples.pairwise import as_points, distances

__all__ = ["energy_distance", "energy_score", "sliced_wasserstein", "wasserstein_1d"]


def energy_distance(x: Tensor, y: Tensor, beta: float = 1.0, unbiased: bool = True) -> Tensor:
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
        >>> energy_distance(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 3.0]))
        tensor(6.)
    """
    beta = check_number("beta", beta, above=0, below=2)
    x, y = as_points(x, y, least=2 if unbiased else 1)
    return (
        2 * _power(distances(x, y), beta).mean()
        - _mean_within(x, beta, unbiased)
        - _mean_within(y, beta, unbiased)
    )


def energy_score(y: Tensor, samples: Tensor, beta: float = 1.0) -> Tensor:
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
        >>> energy_score(torch.zeros(1), torch.tensor([[-1.0], [1.0]]))
        tensor([0.])
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


def wasserstein_1d(x: Tensor, y: Tensor, p: float = 1.0) -> Tensor:
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
        >>> wasserstein_1d(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 2.0]))
        tensor(2.)
    """
    p = check_number("p", p, least=1)
    as_points(x, y)
    num_x, num_y = len(x), len(y)
    # Both quantile functions are steps; in units of 1 / (num_x num_y) they change at these levels.
    levels = np.union1d(np.arange(1, num_x + 1) * num_y, np.arange(1, num_y + 1) * num_x)
    weights = torch.as_tensor(
        np.diff(levels, prepend=0) / (num_x * num_y), dtype=x.dtype, device=x.device
    )
    of_x, of_y = (torch.as_tensor((levels - 1) // num, device=x.device) for num in (num_y, num_x))
    gaps = (x.sort(0).values[of_x] - y.sort(0).values[of_y]).abs() ** p  # (levels, *batch)
    return (weights.reshape(-1, *[1] * (x.ndim - 1)) * gaps).sum(0)


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, p: float = 2.0) -> Tensor:
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
        >>> sliced_wasserstein(torch.zeros(4, 2), torch.ones(5, 2), torch.tensor([[2.0, 0.0]]))
        tensor(1.)
    """
    (x, directions), (y, _) = as_points(x, directions), as_points(y, directions)
    directions = directions / directions.square().sum(1, keepdim=True).sqrt()
    return wasserstein_1d(x @ directions.T, y @ directions.T, p).mean()


def _mean_within(x: Tensor, beta: float, unbiased: bool) -> Tensor:
    """E |X - X'|^beta."""
    n = len(x)
    return _power(distances(x, x), beta).sum() / (n * (n - 1) if unbiased else n * n)


def _power(distance: Tensor, beta: float) -> Tensor:
    """distance^beta, with gradient zero at distance zero."""
    apart = distance > 0
    return torch.where(apart, torch.where(apart, distance, 1.0) ** beta, 0.0)
