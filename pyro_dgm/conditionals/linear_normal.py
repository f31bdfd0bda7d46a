"""Normal distributions whose mean is linear in the context and whose covariance is free."""

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric


class LinearNormal(Parametric):
    """A normal distribution of any covariance about a linear mean:  z ~ Normal(W c + b, L L'),  L =
    diag(scale) (I + N),  N lower triangular without a diagonal.

    The transition and the emission of linear-Gaussian models (`Markov`, `KalmanSmoother`); with
    several contexts side by side the mean is linear in each.

    Args:
        dim: D.
        context_shape: of c; 0 = b alone.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        D (D + 1) / 2 parameters beside W and b; log_prob solves one triangular system.

    Raises:
        ValueError: if dim < 1 or min_scale is not in [0, 1).

    Example:
        >>> round(LinearNormal(2)().log_prob(torch.zeros(2)).item(), 4)
        -1.8379
    """

    def __init__(
        self, dim: int, *, context_shape: ContextShape = 0, min_scale: float = 1e-4
    ) -> None:
        dim = check_count("dim", dim)
        super().__init__(
            dim,
            dim,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
        )
        self.raw_scale = nn.Parameter(torch.zeros(dim))
        self.below = nn.Parameter(torch.zeros(dim * (dim - 1) // 2))  # N row by row

    @property
    def scale_tril(self) -> Tensor:
        """L (D, D)."""
        dim = len(self.raw_scale)
        rows, columns = torch.tril_indices(dim, dim, -1, device=self.raw_scale.device)
        below = self.below.new_zeros(dim * dim).index_copy(0, rows * dim + columns, self.below)
        scale = self.positive(self.raw_scale)
        return scale[:, None] * below.reshape(dim, dim) + scale.diag()

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with mean `raw` (*batch, D)."""
        return dist.MultivariateNormal(raw, scale_tril=self.scale_tril)
