"""Real data whose typical error is an absolute one: the Laplace distribution."""

from pyro import distributions as dist
from torch import Tensor

from dgm_core.arguments import check_fraction, check_number
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric, size_of

__all__ = ["Laplace"]


class Laplace(Parametric):
    """Independent entries, -log p(x) = sum_i |x_i - loc_i(c)| / scale_i(c) + log(2 scale_i(c)).

    With a fixed scale its maximum likelihood is the smallest mean absolute error, whose loc is the
    conditional median: sharper edges of restored images than a normal distribution gives.

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        scale: None: one for each entry, learned.
        min_scale: the smallest learned scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        ValueError: if scale is not positive.

    Example:
        >>> round(Laplace(2, scale=1.0)().log_prob(torch.zeros(2)).item(), 4)
        -1.3863
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        scale: float | None = None,
        min_scale: float = 1e-4,
    ) -> None:
        if scale is not None:
            scale = check_number("scale", scale, above=0)
        super().__init__(
            dim,
            (2 if scale is None else 1) * size_of(dim),
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
        )
        self.scale = scale

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, *raw_scale = self.split(raw)
        scale = self.positive(raw_scale[0]) if raw_scale else self.scale
        return dist.Laplace(loc, scale).to_event(len(self.event_shape))
