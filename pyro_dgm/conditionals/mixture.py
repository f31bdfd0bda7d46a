"""Mixtures of normal distributions."""

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric


class MixturePrior(Parametric):
    """A mixture of diagonal normal distributions:  z ~ sum_k w_k(c) Normal(loc_k(c),
    diag(scale_k(c)^2)).

    Sampling picks a component, so it is not reparameterized: as a posterior it needs the
    score-function estimator.

    Args:
        dim: D.
        num_components: K.
        context_shape: 0 = free parameters.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        K (2 D + 1) parameters per value; log_prob K diagonal densities.

    Raises:
        ValueError: if num_components < 1.

    Example:
        >>> MixturePrior(2, 3)
        MixturePrior(2, 3)
    """

    def __init__(
        self,
        dim: int,
        num_components: int = 10,
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-3,
    ) -> None:
        dim = check_count("dim", dim)
        num_components = check_count("num_components", num_components)
        size = num_components * dim

        def initial() -> Tensor:
            return torch.cat([torch.zeros(num_components), torch.randn(size), torch.zeros(size)])

        super().__init__(
            dim,
            num_components + 2 * size,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
        )
        self.num_components = num_components

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): weights, locations and
        scales, one component after the other.
        """
        logits = raw[..., : self.num_components]
        loc, raw_scale = (
            raw[..., self.num_components :].unflatten(-1, (2, self.num_components, -1)).unbind(-3)
        )
        components = dist.Normal(loc, self.positive(raw_scale)).to_event(1)
        return _Mixture(dist.Categorical(logits=logits), components)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components),)


class _Mixture(dist.MixtureSameFamily):
    """Pyro's, with a support that can be mapped to: all real vectors."""

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector
