"""Affine Markov paths: the next state is the last one scaled, shifted and perturbed, entry by
entry.
"""

from typing import Any, ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_fraction, refuse
from dgm_core.contexts import ContextShape
from dgm_core.paths import by_step_size, check_path
from pyro_dgm.conditionals.base import positive
from pyro_dgm.conditionals.paths.base import (
    OfSteps,
    Path,
    batch_of,
    by_step,
    cleared,
    continued_shape,
    first_steps,
    mask_of,
    previous,
    total,
)
from pyro_dgm.nn.layers import Linear

__all__ = ["AffineMarkov"]


class AffineMarkov(Path):
    """An affine Markov path:  z_t = a_t z_{t-1} + b_t + s_t e_t,  e_t ~ Normal(0, I),  z_0 = 0,
    elementwise, with gains a, offsets b and scales s of each step.

    As a guide whose gains, offsets and scales come from an encoder it knows time's correlations,
    which a mean field does not, and no network runs inside the loop over time. It contains the
    exact posterior of linear-Gaussian models whose entries do not mix.

    Args:
        dim: (T, z_dim).
        context_shape: a sequence (T, features), of which a, b and s are linear in each step;
            several with one such among them, of which all else is the same in all steps; 0 = free
            parameters.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, T, features), lengths (*batch,) -> batch_shape (*batch,), event_shape (T,
        z_dim).

    Cost:
        a draw log2(T) doublings; log_prob is elementwise, without another pass.

    Raises:
        ValueError: if dim is no such pair, or there is no sequence in the context.

    References:
        Archer et al. (2015), arXiv:1511.07367, for Gaussian guides over time.

    Example:
        >>> AffineMarkov((7, 2), context_shape=(7, 4))(torch.zeros(5, 7, 4)).rsample().shape
        torch.Size([5, 7, 2])
    """

    def __init__(
        self,
        dim: tuple[int, int],
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-4,
    ) -> None:
        if not isinstance(dim, (tuple, list)) or len(dim) != 2:
            refuse("dim", "(length, z_dim), two integers of at least 1", dim)
        length, z_dim = check_count("length", dim[0]), check_count("z_dim", dim[1])
        super().__init__(length, (z_dim,), context_shape=context_shape)
        self.floor = check_fraction("min_scale", min_scale)
        if self.context_shape:
            features = by_step_size(self.context_shape, length, type(self).__name__)
            self.head = Linear(features, 3 * z_dim)
        else:
            self.free = nn.Parameter(torch.zeros(length, 3 * z_dim))

    def along(self, context: Any, lengths: Tensor | None) -> "_AffineMarkovDistribution":
        """The distribution given a checked context and checked lengths."""
        batch = batch_of(context, self.context_shape, lengths)
        if context is None:
            raw = self.free[: self.length]
        else:
            raw = self.head(by_step(context, self.context_shape, self.length, lengths))
        gains, offsets, scales = raw.expand(*batch, -1, -1).chunk(3, -1)
        return _AffineMarkovDistribution(gains, offsets, positive(scales, self.floor), lengths)


class _AffineMarkovDistribution(OfSteps, TorchDistribution):
    """Affine paths with gains, offsets and scales (*batch, length, z_dim)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "gains": constraints.independent(constraints.real, 2),
        "offsets": constraints.independent(constraints.real, 2),
        "scales": constraints.independent(constraints.positive, 2),
    }
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self, gains: Tensor, offsets: Tensor, scales: Tensor, lengths: Tensor | None
    ) -> None:
        self.gains, self.offsets, self.scales, self.lengths = gains, offsets, scales, lengths
        super().__init__(gains.shape[:-2], gains.shape[-2:], validate_args=False)

    def expand(
        self, batch_shape: torch.Size, _instance: None = None
    ) -> "_AffineMarkovDistribution":
        gains, offsets, scales = (
            x.expand(*batch_shape, -1, -1) for x in (self.gains, self.offsets, self.scales)
        )
        return _AffineMarkovDistribution(gains, offsets, scales, self.lengths)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.scales.dtype, device=self.scales.device)
        return self._masked(chained(self.gains, self.offsets + self.scales * noise))

    def continued(self, value: Tensor, lengths: Tensor) -> Tensor:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, z_dim)."""
        shape, known = continued_shape(self, value), first_steps(lengths, self.event_shape[0])
        noise = torch.randn_like(self.scales.expand(*shape, -1, -1))
        drawn, known = self.offsets + self.scales * noise, known[..., None]
        inputs = torch.where(known, value, drawn)
        return self._masked(chained(self.gains.masked_fill(known, 0.0), inputs))

    def log_prob(self, value: Tensor) -> Tensor:
        check_path(value.shape, self.event_shape)
        value = cleared(value, self._mask)
        loc = self.gains * previous(value) + self.offsets
        return total(dist.Normal(loc, self.scales).log_prob(value).sum(-1), self.lengths)

    @property
    def mean(self) -> Tensor:
        return self._masked(chained(self.gains, self.offsets))

    @property
    def variance(self) -> Tensor:
        return self._masked(chained(self.gains.square(), self.scales.square()))

    @property
    def _mask(self) -> Tensor | None:
        return mask_of(self.lengths, self.event_shape[0])

    def _masked(self, value: Tensor) -> Tensor:
        return cleared(value, self._mask)


def chained(gains: Tensor, inputs: Tensor) -> Tensor:
    """y_t = gains_t y_{t-1} + inputs_t, y_0 = 0, along the last but one dimension, by doublings:
    after k of them y_t has all inputs of the last 2^k steps.
    """
    length, step = inputs.shape[-2], 1
    while step < length:
        kept, gain = gains[..., step:, :], gains[..., :-step, :]
        inputs = torch.cat(
            [inputs[..., :step, :], inputs[..., step:, :] + kept * inputs[..., :-step, :]], -2
        )
        gains = torch.cat([gains[..., :step, :], kept * gain], -2)
        step *= 2
    return inputs
