"""Pixels whose channels depend on each other: the logistic mixture of PixelCNN++."""

from math import prod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import logit
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgm_core.arguments import check_count, check_fraction, check_shape
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric
from numpyro_dgm.conditionals.discrete import Levels, log_level, nearest_level
from numpyro_dgm.conditionals.elementwise import inside
from numpyro_dgm.nn.requirements import known_wrong


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
        >>> values = jnp.indices((2, 2, 2)).reshape(3, 8).T
        >>> round(jnp.exp(pixel.log_prob(values)).sum().item(), 4)
        1.0
    """

    num_components: int = eqx.field(static=True)
    num_levels: int = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_components: int = 5,
        *,
        num_levels: int = 256,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-3,
        key: Array | None = None,
    ) -> None:
        num_components = check_count("num_components", num_components)
        num_levels = check_count("num_levels", num_levels, 2)
        channels, *rest = check_shape("dim", dim)
        pairs = channels * (channels - 1) // 2
        sizes = tuple(num_components * n for n in (1, channels, channels, pairs))

        def initial() -> Array:
            spread = jnp.tile(jnp.linspace(-1.0, 1.0, num_components + 2)[1:-1], channels)
            parts = [jnp.zeros(sizes[0]), spread, jnp.zeros(sizes[2] + sizes[3])]
            return jnp.repeat(jnp.concatenate(parts), prod(rest))

        super().__init__(
            dim,
            sum(sizes) * prod(rest),
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
            key=key,
        )
        self.num_components, self.num_levels, self.sizes = num_components, num_levels, sizes

    def build(self, raw: Array) -> "_CoupledLogisticMixture":
        """The distribution with parameters `raw` (*batch, num_params): of each pixel the logits of
        the components, then for each channel, and for each pair of channels, one number after the
        other for all components: locations, scales, couplings.
        """
        _, *rest = self.event_shape
        raw = raw.reshape(*raw.shape[:-1], sum(self.sizes), *rest)
        raw = jnp.moveaxis(raw, -1 - len(rest), -1)
        ends = [sum(self.sizes[:n]) for n in (1, 2, 3)]
        logits, *parts = jnp.split(raw, ends, -1)
        loc, raw_scale, raw_coupling = (
            part.reshape(*part.shape[:-1], size // self.num_components, self.num_components)
            for part, size in zip(parts, self.sizes[1:])
        )
        scale, coupling = self.positive(raw_scale), jnp.tanh(raw_coupling)
        return _CoupledLogisticMixture(logits, loc, scale, coupling, self.num_levels, len(rest))

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components), f"num_levels={self.num_levels}")


class _CoupledLogisticMixture(dist.Distribution):
    """Logits (*batch, *rest, K); locations and scales (*batch, *rest, C, K); couplings (*batch,
    *rest, C (C - 1) / 2, K).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.independent(constraints.real, 1),
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
        "coupling": constraints.independent(constraints.real, 2),
    }
    pytree_data_fields = ("logits", "loc", "scale", "coupling")
    pytree_aux_fields = ("num_levels", "rank")
    has_rsample = False

    def __init__(
        self,
        logits: Array,
        loc: Array,
        scale: Array,
        coupling: Array,
        num_levels: int,
        rank: int,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.loc, self.scale, self.coupling = logits, loc, scale, coupling
        self.num_levels, self.rank = num_levels, rank
        split = logits.ndim - 1 - rank
        batch, rest = logits.shape[:split], logits.shape[split:-1]
        super().__init__(batch, (loc.shape[-2], *rest), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> constraints.Constraint:
        return constraints.independent(Levels(self.num_levels), 1 + self.rank)

    def expand(self, batch_shape: tuple[int, ...]) -> "_CoupledLogisticMixture":
        start = len(self.batch_shape)
        logits, loc, scale, coupling = (
            jnp.broadcast_to(part, (*batch_shape, *part.shape[start:]))
            for part in (self.logits, self.loc, self.scale, self.coupling)
        )
        return _CoupledLogisticMixture(
            logits,
            loc,
            scale,
            coupling,
            self.num_levels,
            self.rank,
        )

    def _validate_sample(self, value: Array) -> Array:
        valid = Levels(self.num_levels)(value)
        if known_wrong(valid):
            raise ValueError(
                f"CoupledLogisticMixture expects values k / {self.num_levels - 1} for k = 0, ..., "
                f"{self.num_levels - 1}, got others; round the data, or set num_levels."
            )
        return valid.all(tuple(range(-1 - self.rank, 0)))

    def _shift(self, channel: int, before: Array) -> Array:
        """What the channels before, u (..., channel), add to a location: (..., K)."""
        start = channel * (channel - 1) // 2
        return (self.coupling[..., start : start + channel, :] * before[..., None]).sum(-2)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        value = jnp.moveaxis(jnp.asarray(value, self.loc.dtype), -1 - self.rank, -1)
        u = 2 * value - 1
        loc = jnp.stack(
            [self.loc[..., c, :] + self._shift(c, u[..., :c]) for c in range(value.shape[-1])],
            -2,
        )
        scores = log_level(value[..., None], loc, self.scale, self.num_levels).sum(-2)
        scores = jax.nn.logsumexp(jax.nn.log_softmax(self.logits, -1) + scores, -1)
        return scores.sum(tuple(range(-self.rank, 0)))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.loc.shape[:-1], 2)
        return self.from_uniforms(jax.random.uniform(key, shape, self.loc.dtype))

    def from_uniforms(self, uniforms: Array, temperature: Array | float = 1.0) -> Array:
        """Values from uniforms (*batch, *rest, C, 2): of each pixel the first chooses the
        component, each channel's second its level.
        """
        uniforms = inside(uniforms)
        cumulative = jnp.cumsum(jax.nn.softmax(self.logits / temperature, -1), -1)
        chosen = uniforms[..., 0, :1] * cumulative[..., -1:] >= cumulative[..., :-1]
        index, noise = chosen.sum(-1)[..., None], temperature * logit(uniforms[..., 1])
        values = jnp.zeros_like(noise)
        for c in range(values.shape[-1]):
            loc = self.loc[..., c, :] + self._shift(c, 2 * values[..., :c] - 1)
            loc, scale = (
                jnp.take_along_axis(
                    jnp.broadcast_to(part, (*index.shape[:-1], part.shape[-1])), index, -1
                )[..., 0]
                for part in (loc, self.scale[..., c, :])
            )
            level = nearest_level(loc + scale * noise[..., c], self.num_levels)
            values = values.at[..., c].set(level)
        return jax.lax.stop_gradient(jnp.moveaxis(values, -1, -1 - self.rank))
