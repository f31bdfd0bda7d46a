"""The maximum mean discrepancy of two samples, the distance between their means in the feature
space of a kernel.

MMD^2(P, Q) = E k(X, X') + E k(Y, Y') - 2 E k(X, Y),  X, X' ~ P,  Y, Y' ~ Q;  zero only for P = Q,
for each of the kernels here.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from dgm_core.arguments import check_numbers
from pyro_dgm.losses.samples.pairwise import as_points, squared_distances

__all__ = ["IMQ", "RBF", "Kernel", "RationalQuadratic", "linear_mmd2", "mmd2"]


class Kernel(ABC):
    """A kernel of the distance, averaged over length scales:  k(x, y) = 1/J sum_j profile(|x - y|^2
    / l_j^2),  k(x, x) = 1.

    Args:
        length_scales: one or several; None sets them from the data, at each call: the median
            distance of all points of both samples, a constant without a gradient, times
            `multiples`. Fixed scales cost less and mean the same at every step.

    Raises:
        ValueError: for a length scale that is not positive.
    """

    multiples: tuple[float, ...] = (1.0,)

    def __init__(self, length_scales: float | Sequence[float] | None = None) -> None:
        if length_scales is not None:
            length_scales = check_numbers("length_scales", length_scales, above=0)
        self.length_scales = length_scales

    @abstractmethod
    def profile(self, u: Tensor, dim: int) -> Tensor:
        """k as a function of u = |x - y|^2 / l^2 for points of `dim` entries."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.length_scales is None else self.length_scales})"


class RBF(Kernel):
    """The Gaussian kernel, exp(-|x - y|^2 / (2 l^2)); without length scales a mixture at 1/4, 1/2,
    1, 2 and 4 times the median distance.

    References:
        Gretton et al. (2012), A kernel two-sample test, JMLR 13; Li, Swersky and Zemel (2015),
        arXiv:1502.02761 (mixtures).

    Example:
        >>> RBF((0.5, 1.0))
        RBF((0.5, 1.0))
    """

    multiples = (0.25, 0.5, 1.0, 2.0, 4.0)

    def profile(self, u: Tensor, dim: int) -> Tensor:
        """exp(-u / 2)."""
        return torch.exp(-u / 2)


class IMQ(Kernel):
    """The inverse multiquadratic kernel, C / (C + |x - y|^2) with C = 2 d s^2: the mean of |x -
    y|^2 under Normal(0, s^2 I) in d dimensions.

    Its slow decay gives gradients to points far from all others.

    Args:
        length_scales: one or several s: the standard deviation of the prior.

    Raises:
        ValueError: for a length scale that is not positive, or None.

    References:
        Tolstikhin et al. (2018), arXiv:1711.01558, section 4.

    Example:
        >>> IMQ()
        IMQ((1.0,))
    """

    def __init__(self, length_scales: float | Sequence[float] = 1.0) -> None:
        super().__init__(check_numbers("length_scales", length_scales, above=0))

    def profile(self, u: Tensor, dim: int) -> Tensor:
        """1 / (1 + u / (2 d))."""
        return 1 / (1 + u / (2 * dim))


class RationalQuadratic(Kernel):
    """The rational quadratic kernel, (1 + |x - y|^2 / (2 a l^2))^-a, averaged over a; without
    length scales l is the median distance.

    Args:
        length_scales: as in Kernel.
        alphas: the a: small ones have heavy tails, large ones come close to RBF.

    Raises:
        ValueError: for a length scale or an a that is not positive.

    References:
        Binkowski et al. (2018), arXiv:1801.01401, section 4.

    Example:
        >>> RationalQuadratic(1.0)
        RationalQuadratic((1.0,))
    """

    def __init__(
        self,
        length_scales: float | Sequence[float] | None = None,
        alphas: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0),
    ) -> None:
        super().__init__(length_scales)
        self.alphas = check_numbers("alphas", alphas, above=0)

    def profile(self, u: Tensor, dim: int) -> Tensor:
        """The mean of (1 + u / (2 a))^-a."""
        return torch.stack([(1 + u / (2 * a)) ** -a for a in self.alphas]).mean(0)


def mmd2(x: Tensor, y: Tensor, kernel: Kernel, unbiased: bool = True) -> Tensor:
    """MMD^2 of two samples; unbiased (a U-statistic, which may be negative) or biased (at least 0,
    and too large by about 2 (1 - E k) / n).

    Args:
        x, y: draws of P and Q.
        kernel: a Kernel.
        unbiased: whether a point is left out of the mean over its own partners.

    Shapes:
        x (num_x, *event), y (num_y, *event) -> one number.  Cost: (num_x + num_y)^2 kernel values,
        and their median if no length scale is given.

    Raises:
        ValueError: for events of different shapes, and for fewer than two points of each sample if
            unbiased.

    References:
        Gretton et al. (2012), JMLR 13, lemma 6.

    Example:
        >>> round(mmd2(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), RBF(1.0)).item(), 4)
        -0.3935
    """
    x, y = as_points(x, y, least=2 if unbiased else 1)
    xx, yy, xy = squared_distances(x, x), squared_distances(y, y), squared_distances(x, y)
    scales = kernel.length_scales or _median_scales(kernel, [_upper(xx), _upper(yy), xy.flatten()])
    mean = _mean_of_others if unbiased else torch.mean
    k_xx, k_yy, k_xy = (_evaluate(kernel, squared, scales, x.shape[1]) for squared in (xx, yy, xy))
    return mean(k_xx) + mean(k_yy) - 2 * k_xy.mean()


def linear_mmd2(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """MMD^2 from n / 2 independent pairs:  2/n sum_i [k(x_i, x'_i) + k(y_i, y'_i) - k(x_i, y'_i) -
    k(x'_i, y_i)],  unbiased, noisier than `mmd2`.

    Args:
        x, y: as many draws of P as of Q, in random order: the first half is paired with the second,
            an odd last one is left out.
        kernel: .

    Shapes:
        x and y (num, *event) -> one number.  Cost: 2 num kernel values.

    Raises:
        ValueError: for samples of different shapes, and for fewer than two points of each.

    References:
        Gretton et al. (2012), JMLR 13, lemma 14.

    Example:
        >>> x = torch.tensor([0.0, 1.0])
        >>> round(linear_mmd2(x, x, RBF(1.0)).item(), 4)
        0.0
    """
    if x.shape != y.shape:
        raise ValueError(
            f"The linear-time estimate needs samples of equal shapes, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}."
        )
    x, y = as_points(x, y, least=2)
    half = len(x) // 2
    (x, x_other), (y, y_other) = ((z[:half], z[half : 2 * half]) for z in (x, y))
    squared = [
        (a - b).square().sum(1) for a, b in ((x, x_other), (y, y_other), (x, y_other), (x_other, y))
    ]
    scales = kernel.length_scales or _median_scales(kernel, squared)
    k_xx, k_yy, k_xy, k_yx = (_evaluate(kernel, s, scales, x.shape[1]) for s in squared)
    return (k_xx + k_yy - k_xy - k_yx).mean()


def _evaluate(
    kernel: Kernel, squared: Tensor, scales: Sequence[float | Tensor], dim: int
) -> Tensor:
    return torch.stack([kernel.profile(squared / scale**2, dim) for scale in scales]).mean(0)


def _median_scales(kernel: Kernel, squared: list[Tensor]) -> list[Tensor]:
    """The median distance, times the kernel's multiples; 1 where all points coincide."""
    median = torch.cat(squared).detach().median().sqrt()
    return [multiple * torch.where(median > 0, median, 1.0) for multiple in kernel.multiples]


def _upper(squared: Tensor) -> Tensor:
    """One of each pair of different points."""
    rows, columns = torch.triu_indices(len(squared), len(squared), 1, device=squared.device)
    return squared[rows, columns]


def _mean_of_others(gram: Tensor) -> Tensor:
    """The mean over the pairs of different points."""
    n = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))
