"""Logistic distributions: the standard one, and mixtures."""

from math import pi
from typing import Any, ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Conditional, Parametric, size_of
from pyro_dgm.conditionals.elementwise import Elementwise
from pyro_dgm.nn.contexts import batch_shape_of


class StandardLogistic(Conditional):
    """The standard logistic distribution:  z_i ~ Logistic(0, 1), independent, the distribution of
    logit U for a uniform U.

    The noise under flows that are made of distribution functions, such as `MixtureCDF`.

    Args:
        dim: a size or a shape.
        context_shape: a context gives the batch shape and nothing else.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Example:
        >>> round(StandardLogistic(2)().log_prob(torch.zeros(2)).item(), 4)
        -2.7726
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, dim: int | tuple[int, ...], *, context_shape: ContextShape = 0) -> None:
        super().__init__(dim, context_shape=context_shape)
        self.register_buffer("loc", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("scale", torch.ones(self.event_shape), persistent=False)

    def condition(self, context: Any) -> dist.TorchDistribution:
        """The distribution given a checked context."""
        batch_shape = batch_shape_of(context, self.context_shape)
        return (
            _Logistic(self.loc, self.scale)
            .expand((*batch_shape, *self.event_shape))
            .to_event(len(self.event_shape))
        )


class _Logistic(dist.Logistic):
    """Pyro's, but for draws that cannot be infinite: the difference of two Gumbel variables."""

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        waiting = self.loc.new_empty((2, *self._extended_shape(sample_shape))).exponential_().log()
        return self.loc + self.scale * (waiting[0] - waiting[1])

    def entropy(self) -> Tensor:
        """log scale + 2."""
        return self.scale.log() + 2.0


class LogisticMixture(Parametric):
    """Independent entries, each a mixture of logistic distributions:  x_i ~ sum_k w_ik(c)
    Logistic(m_ik(c), s_ik(c)).

    Sampling picks a component, so it is not reparameterized.

    Args:
        dim: a size or a shape.
        num_components: K.
        context_shape: 0 = free parameters.
        min_scale: the smallest s_ik.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        ValueError: if num_components < 1.

    References:
        Salimans et al. (2017), arXiv:1701.05517, here without rounding.

    Example:
        >>> round(LogisticMixture(2, 1)().log_prob(torch.zeros(2)).item(), 4)
        -2.7726
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_components: int = 5,
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-3,
    ) -> None:
        num_components = check_count("num_components", num_components)
        size = size_of(dim)

        def initial() -> Tensor:
            spread = torch.linspace(-1.0, 1.0, num_components + 2)[1:-1].repeat_interleave(
                size
            )  # components that differ
            return torch.cat([torch.zeros_like(spread), spread, torch.zeros_like(spread)])

        super().__init__(
            dim,
            3 * num_components * size,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
        )
        self.num_components = num_components

    def components(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, locations and scales (*batch, dim, num_components) from the parameters `raw`
        (*batch, num_params): one component after the other.
        """
        logits, loc, raw_scale = torch.stack(self.split(raw), -1).chunk(3, -1)
        return logits, loc, self.positive(raw_scale)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        return _LogisticMixture(*self.components(raw)).to_event(len(self.event_shape))

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components),)


class _LogisticMixture(Elementwise):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.independent(constraints.real, 1),
        "loc": constraints.independent(constraints.real, 1),
        "scale": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real
    components = True
    has_rsample = False
    logits: Tensor
    loc: Tensor
    scale: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = ((value[..., None] - self.loc) / self.scale).abs()
        scores = -z - 2 * torch.log1p(torch.exp(-z)) - torch.log(self.scale)
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + scores, -1)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            index = dist.Categorical(logits=self.logits).sample(torch.Size(sample_shape))[..., None]
            loc, scale = (
                p.expand(*sample_shape, *p.shape).gather(-1, index)[..., 0]
                for p in (self.loc, self.scale)
            )
            return loc + scale * torch.logit(self._uniform(sample_shape))

    @property
    def mean(self) -> Tensor:
        return (torch.softmax(self.logits, -1) * self.loc).sum(-1)

    @property
    def variance(self) -> Tensor:
        second = (self.scale * pi).square() / 3 + (self.loc - self.mean[..., None]).square()
        return (torch.softmax(self.logits, -1) * second).sum(-1)
