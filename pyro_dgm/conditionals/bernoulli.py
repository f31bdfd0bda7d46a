"""Binary data:  x_i ~ Bernoulli(logits = l_i(c))."""

from typing import ClassVar

import torch
from pyro import distributions as dist
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric, size_of


class Bernoulli(Parametric):
    """Independent binary entries:  x_i ~ Bernoulli(sigmoid(l_i(c))),  log p(x) = sum_i x_i l_i -
    softplus(l_i).

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,). Values are
        0.0 and 1.0.

    Raises:
        with validation on, ValueError for gray values; binarize the data or use
        `ContinuousBernoulli`.

    Example:
        >>> round(Bernoulli(2)().log_prob(torch.tensor([0.0, 1.0])).item(), 4)
        -1.3863
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__(dim, size_of(dim), context_shape=context_shape)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        (logits,) = self.split(raw)
        return _Bernoulli(logits=logits).to_event(len(self.event_shape))


class _Real(type(constraints.real)):  # type: ignore[misc]
    """Numbers that are not NaN, seen from their sum: one look at a large array instead of three."""

    def check(self, value: Tensor) -> Tensor:
        good = value.sum().isfinite()
        return good if good else super().check(value)


class _Bernoulli(dist.Bernoulli):
    arg_constraints: ClassVar = {**dist.Bernoulli.arg_constraints, "logits": _Real()}

    def _validate_sample(self, value: Tensor) -> None:
        try:
            super()._validate_sample(value)
        except ValueError as error:
            if torch.all((value == 0) | (value == 1)):  # the shape was wrong
                raise
            raise ValueError(
                "Bernoulli expects values 0 and 1, got others (gray levels or NaN); binarize the "
                "data, use the likelihood ContinuousBernoulli or switch validation off."
            ) from error

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = self.logits, value.to(self.logits.dtype)
        if logits.requires_grad and value.shape == logits.shape:  # the gradient in one pass
            return -binary_cross_entropy_with_logits(logits, value, reduction="none")
        # log sigmoid(l) - (1 - x) l, each array once through memory
        return torch.addcmul(logsigmoid(logits), value - 1, logits)

    def entropy(self) -> Tensor:
        l = self.logits
        return torch.sigmoid(l) * softplus(-l) + torch.sigmoid(-l) * softplus(l)

    @property
    def variance(self) -> Tensor:
        return torch.sigmoid(self.logits) * torch.sigmoid(-self.logits)
