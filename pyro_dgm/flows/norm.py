"""Batch normalization as a layer of a flow: it keeps what deep flows compute on a common scale."""

from torch import Tensor

from pyro_dgm.flows.transform import Transform
from pyro_dgm.nn import BatchNorm

__all__ = ["Normalization"]


class Normalization(Transform):
    """u = weight (x - mean) / sqrt(variance + 1e-5) + bias,  log |det du/dx| = sum_i log |weight_i|
    - log(variance_i + 1e-5) / 2.

    Scoring in training uses the mean and variance of the batch, as if they were constants of the
    transform, and moves the running ones towards them; scoring inside `evaluation_mode`, and
    drawing at all times, use the running ones, so that draws and evaluated densities belong to one
    distribution.

    Args:
        dim: D.

    Attributes:
        norm: a `BatchNorm`.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if dim < 1, and in training for a batch of one value.

    References:
        Papamakarios et al. (2017), arXiv:1705.07057, section 3.4 (and appendix B); Dinh et al.
        (2017), arXiv:1605.08803, section 3.7.

    Example:
        >>> Normalization(2).inverse_and_log_det(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))[0].detach()
        tensor([[-1.0000, -1.0000],
                [ 1.0000,  1.0000]])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = BatchNorm(dim)

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u) and log |det dx/du|."""
        mean, variance = self._running()
        x = (u - self.norm.bias) / self.norm.weight * (variance + self.norm.eps).sqrt() + mean
        return x, -self._log_det(variance)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x) and log |det du/dx|."""
        u = self.norm(x)
        variance = (
            x.reshape(-1, x.shape[-1]).var(0, correction=0)
            if self.norm.training
            else self._running()[1]
        )
        return u, self._log_det(variance)

    def _running(self) -> tuple[Tensor, Tensor]:
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert (
            mean is not None and variance is not None
        )  # torch allows layers that do not track them
        return mean, variance

    def _log_det(self, variance: Tensor) -> Tensor:
        return (self.norm.weight.abs().log() - 0.5 * (variance + self.norm.eps).log()).sum()
