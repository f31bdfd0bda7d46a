"""Pixels whose channels depend on each other: the logistic mixture of PixelCNN++."""

from math import prod
from typing import ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Size, Tensor

from dgm_core.arguments import check_count, check_fraction, check_shape
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric
from pyro_dgm.conditionals.discrete import Levels, log_level, nearest_level
from pyro_dgm.conditionals.elementwise import inside


class CoupledLogisticMixture(Parametric):
    """Pixels with levels 0, 1/(L - 1), ..., 1 in each of C channels: a mixture of rounded logistic
    distributions, one component for all channels of a pixel, each channel shifted by those before.

    P(x_1, ..., x_C) = sum_k w_k prod_c P(x_c | m_kc + sum_{d < c} a_kcd u_d, s_kc) with u = 2 x - 1
    as observed, a = tanh of a raw parameter, and P the rounded logistic distribution of
    `DiscretizedLogisticMixture`; the probabilities of the L^C values sum to one.

    Args:
        dim: channels, or a shape with the channels first: an image.
        num_components: the number of components, K.
        num_levels: L, 256 for data x / 255.
        context_shape: 0 = free parameters.
        min_scale: the smallest s_kc.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,). Values in
        [0, 1].

    Cost:
        K (1 + 2 C + C (C - 1) / 2) parameters for a pixel.

    Raises:
        ValueError: if num_components < 1 or num_levels < 2; with validation on, for values between
            the levels. NotImplementedError: for the mean.

    References:
        Salimans et al. (2017), arXiv:1701.05517.

    Example:
        >>> pixel = CoupledLogisticMixture(3, 2, num_levels=2)()
        >>> values = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        >>> round(pixel.log_prob(values).exp().sum().item(), 4)
        1.0
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_components: int = 5,
        *,
        num_levels: int = 256,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-3,
    ) -> None:
        num_components = check_count("num_components", num_components)
        num_levels = check_count("num_levels", num_levels, 2)
        channels, *rest = check_shape("dim", dim)
        pairs = channels * (channels - 1) // 2
        sizes = tuple(num_components * n for n in (1, channels, channels, pairs))

        def initial() -> Tensor:
            spread = torch.linspace(-1.0, 1.0, num_components + 2)[1:-1].repeat(channels)
            parts = [torch.zeros(sizes[0]), spread, torch.zeros(sizes[2] + sizes[3])]
            return torch.cat(parts).repeat_interleave(prod(rest))

        super().__init__(
            dim,
            sum(sizes) * prod(rest),
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
        )
        self.num_components, self.num_levels, self.sizes = num_components, num_levels, sizes

    def build(self, raw: Tensor) -> "_CoupledLogisticMixture":
        """The distribution with parameters `raw` (*batch, num_params): of each pixel the logits of
        the components, then for each channel, and for each pair of channels, one number after the
        other for all components: locations, scales, couplings.
        """
        _, *rest = self.event_shape
        raw = raw.unflatten(-1, (-1, *rest)).movedim(-1 - len(rest), -1)
        logits, loc, raw_scale, raw_coupling = raw.split(self.sizes, -1)
        loc, raw_scale, raw_coupling = (
            part.unflatten(-1, (-1, self.num_components)) if part.shape[-1] else part[..., None]
            for part in (loc, raw_scale, raw_coupling)
        )
        scale, coupling = self.positive(raw_scale), torch.tanh(raw_coupling)
        return _CoupledLogisticMixture(logits, loc, scale, coupling, self.num_levels, len(rest))

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components), f"num_levels={self.num_levels}")


class _CoupledLogisticMixture(dist.TorchDistribution):
    """Logits (*batch, *rest, K); locations and scales (*batch, *rest, C, K); couplings (*batch,
    *rest, C (C - 1) / 2, K).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.independent(constraints.real, 1),
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
        "coupling": constraints.independent(constraints.real, 2),
    }
    has_rsample = False

    def __init__(
        self,
        logits: Tensor,
        loc: Tensor,
        scale: Tensor,
        coupling: Tensor,
        num_levels: int,
        rank: int,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.loc, self.scale, self.coupling = logits, loc, scale, coupling
        self.num_levels, self.rank = num_levels, rank
        split = logits.ndim - 1 - rank
        batch, rest = logits.shape[:split], logits.shape[split:-1]
        super().__init__(batch, Size((loc.shape[-2], *rest)), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> constraints.Constraint:
        return constraints.independent(Levels(self.num_levels), 1 + self.rank)

    def expand(
        self, batch_shape: tuple[int, ...], _instance: None = None
    ) -> "_CoupledLogisticMixture":
        start = len(self.batch_shape)
        logits, loc, scale, coupling = (
            part.expand(*batch_shape, *part.shape[start:])
            for part in (self.logits, self.loc, self.scale, self.coupling)
        )
        return _CoupledLogisticMixture(
            logits, loc, scale, coupling, self.num_levels, self.rank, self._validate_args
        )

    def _validate_sample(self, value: Tensor) -> None:
        if not torch.all(Levels(self.num_levels).check(value)):
            raise ValueError(
                f"CoupledLogisticMixture expects values k / {self.num_levels - 1} for k = 0, ..., "
                f"{self.num_levels - 1}, got others; round the data, or set num_levels."
            )
        super()._validate_sample(value)

    def _shift(self, channel: int, before: Tensor) -> Tensor:
        """What the channels before, u (..., channel), add to a location: (..., K)."""
        start = channel * (channel - 1) // 2
        return (self.coupling[..., start : start + channel, :] * before[..., None]).sum(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        value = value.to(self.loc.dtype).movedim(-1 - self.rank, -1)
        u = 2 * value - 1
        loc = torch.stack(
            [self.loc[..., c, :] + self._shift(c, u[..., :c]) for c in range(value.shape[-1])],
            -2,
        )
        scores = log_level(value[..., None], loc, self.scale, self.num_levels).sum(-2)
        scores = torch.logsumexp(torch.log_softmax(self.logits, -1) + scores, -1)
        return scores.flatten(scores.ndim - self.rank).sum(-1) if self.rank else scores

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        shape = (*sample_shape, *self.loc.shape[:-1], 2)
        uniforms = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.from_uniforms(uniforms)

    @torch.no_grad()
    def from_uniforms(self, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """Values from uniforms (*batch, *rest, C, 2): of each pixel the first chooses the
        component, each channel's second its level.
        """
        uniforms = inside(uniforms)
        cumulative = torch.softmax(self.logits / temperature, -1).cumsum(-1)
        chosen = uniforms[..., 0, :1] * cumulative[..., -1:] >= cumulative[..., :-1]
        index, noise = chosen.sum(-1)[..., None], temperature * torch.logit(uniforms[..., 1])
        values = torch.zeros_like(noise)
        for c in range(values.shape[-1]):
            loc = self.loc[..., c, :] + self._shift(c, 2 * values[..., :c] - 1)
            loc, scale = (
                part.expand(*index.shape[:-1], -1).gather(-1, index)[..., 0]
                for part in (loc, self.scale[..., c, :])
            )
            values[..., c] = nearest_level(loc + scale * noise[..., c], self.num_levels)
        return values.movedim(-1, -1 - self.rank)
