"""Discrete data: classes, and pixels with a finite number of levels."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.nn import log_sigmoid
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric, size_of
from numpyro_dgm.conditionals.elementwise import Elementwise
from numpyro_dgm.conditionals.logistic import LogisticMixture
from numpyro_dgm.nn.requirements import known_wrong
from numpyro_dgm.nn.special import log1mexp

__all__ = ["Categorical", "DiscretizedLogisticMixture"]


class Categorical(Parametric):
    """Independent classes:  x_i ~ Categorical(softmax(l_i(c))),  x_i in 0, ..., num_classes - 1.

    Args:
        dim: a size or a shape; () of a single class, which is a label without event dimensions, as
            enumeration needs it.
        num_classes: the number of classes, K.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,). Values are
        integers.

    Raises:
        ValueError: if num_classes < 2.

    Example:
        >>> round(Categorical(2, 4)().log_prob(jnp.array([0, 3])).item(), 4)
        -2.7726
    """

    num_classes: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_classes: int,
        *,
        context_shape: ContextShape = 0,
        key: Array | None = None,
    ) -> None:
        num_classes = check_count("num_classes", num_classes, 2)
        single = dim == ()
        dim = 1 if single else dim
        super().__init__(dim, num_classes * size_of(dim), context_shape=context_shape, key=key)
        self.event_shape = () if single else self.event_shape
        self.num_classes = num_classes

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        return _Categorical(logits=self.logits(raw)).to_event(len(self.event_shape))

    def logits(self, raw: Array) -> Array:
        """The parameters (*batch, num_params) as logits (*batch, dim, num_classes)."""
        logits = raw.reshape(*raw.shape[:-1], self.num_classes, *self.event_shape)
        return jnp.moveaxis(logits, -1 - len(self.event_shape), -1)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_classes),)


class _Categorical(dist.CategoricalLogits):
    def _validate_sample(self, value: Array) -> Array:
        classes = self.logits.shape[-1]
        valid = (value >= 0) & (value < classes) & (value == jnp.round(value))
        if known_wrong(valid):
            raise ValueError(
                f"Categorical expects values 0, ..., {classes - 1}, got others; number the classes "
                "from 0, or set num_classes."
            )
        return valid

    def log_prob(self, value: Array) -> Array:
        if jnp.issubdtype(jnp.result_type(value), jnp.integer):
            return super().log_prob(value)
        whole = value == jnp.round(value)
        found = super().log_prob(jnp.where(whole, value, -1).astype(int))
        return jnp.where(jnp.isnan(value), jnp.nan, jnp.where(whole, found, -jnp.inf))


class DiscretizedLogisticMixture(LogisticMixture):
    """Independent pixels with levels 0, 1/(L - 1), ..., 1:  a mixture of logistic distributions,
    rounded to the nearest level.

    P(x_i = t) = sum_j w_j [s((u + h - m_j) / s_j) - s((u - h - m_j) / s_j)],  s the logistic
    function, u = 2 t - 1 in [-1, 1], h = 1 / (L - 1); the lowest and highest levels take the tails,
    so the probabilities of the L levels sum to one. The difference is taken as log s(a) - log s(b)
    = log s(a) + log s(-b) + log(1 - e^(b - a)), exact however far t is from m_j.

    Args:
        dim: a size or a shape.
        num_components: the number of components, K.
        num_levels: L, 256 for data x / 255.
        context_shape: 0 = free parameters.
        min_scale: the smallest s_j.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,). Values in [0,
        1].

    Raises:
        ValueError: if num_components < 1 or num_levels < 2.

    References:
        Salimans et al. (2017), arXiv:1701.05517, here without the coupling of color channels.

    Example:
        >>> pixel = DiscretizedLogisticMixture(1, 5)()
        >>> round(jnp.exp(pixel.log_prob(jnp.arange(256.0)[:, None] / 255)).sum().item(), 4)
        1.0
    """

    num_levels: int = eqx.field(static=True)

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
        num_levels = check_count("num_levels", num_levels, 2)
        super().__init__(
            dim, num_components, context_shape=context_shape, min_scale=min_scale, key=key
        )
        self.num_levels = num_levels

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params): weights, locations and
        scales, one component after the other.
        """
        pixels = _DiscretizedLogisticMixture(*self.components(raw), num_levels=self.num_levels)
        return pixels.to_event(len(self.event_shape))

    def rounded(self, y: Array) -> Array:
        """The levels in [0, 1] nearest to numbers y, of which -1 and 1 are the ends."""
        return nearest_level(y, self.num_levels)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components), f"num_levels={self.num_levels}")


def log_level(level: Array, loc: Array, scale: Array, num_levels: int) -> Array:
    """log P(level) in [0, 1] of a logistic variable around loc in [-1, 1] that is rounded.

    Example:
        >>> round(log_level(jnp.array(0.0), jnp.array(0.9), jnp.exp(-5.0), 256).item(), 3)
        -281.403
    """
    half = 1.0 / (num_levels - 1)
    centered = 2 * level - 1 - loc
    upper, lower = (centered + half) / scale, (centered - half) / scale
    inner = log_sigmoid(upper) + log_sigmoid(-lower) + log1mexp(2 * half / scale)
    lowest, highest = level < half / 2, level > 1 - half / 2
    return jnp.where(lowest, log_sigmoid(upper), jnp.where(highest, log_sigmoid(-lower), inner))


def nearest_level(y: Array, num_levels: int) -> Array:
    """The level in [0, 1] nearest to numbers y, of which -1 and 1 are the ends.

    Example:
        >>> nearest_level(jnp.array([-7.0, 0.1]), 5).tolist()
        [0.0, 0.5]
    """
    levels = (y + 1) / 2 * (num_levels - 1)
    return jnp.clip(jnp.round(levels), 0, num_levels - 1) / (num_levels - 1)


class Levels(constraints.ParameterFreeConstraint):
    """The numbers 0, 1/(num_levels - 1), ..., 1, up to rounding."""

    is_discrete = True

    def __init__(self, num_levels: int) -> None:
        self.num_levels = num_levels

    def __call__(self, x: Array) -> Array:
        scaled = x * float(self.num_levels - 1)
        return (abs(scaled - jnp.round(scaled)) < 1e-3) & (x >= 0) & (x <= 1)

    def __repr__(self) -> str:
        return f"Levels({self.num_levels})"

    def feasible_like(self, prototype: Array) -> Array:
        return jnp.zeros_like(prototype)

    def eq(self, other: object, static: bool = False) -> bool:
        return isinstance(other, Levels) and other.num_levels == self.num_levels

    def tree_flatten(self) -> tuple[tuple[()], tuple[tuple[()], dict[str, int]]]:
        return (), ((), {"num_levels": self.num_levels})


class _DiscretizedLogisticMixture(Elementwise):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.independent(constraints.real, 1),
        "loc": constraints.independent(constraints.real, 1),
        "scale": constraints.independent(constraints.positive, 1),
    }
    pytree_aux_fields = ("num_levels",)
    components = True
    logits: Array
    loc: Array
    scale: Array

    def __init__(
        self,
        logits: Array,
        loc: Array,
        scale: Array,
        *,
        num_levels: int,
        validate_args: bool | None = None,
    ) -> None:
        self.num_levels = num_levels
        super().__init__(logits, loc, scale, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Levels(self.num_levels)

    def _validate_sample(self, value: Array) -> Array:
        valid = Levels(self.num_levels)(value)
        if known_wrong(valid):
            raise ValueError(
                f"DiscretizedLogisticMixture expects values k / {self.num_levels - 1} for k = 0, "
                f"..., {self.num_levels - 1}, got "
                "others; round the data, or set num_levels."
            )
        return valid

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        return self._score(jnp.asarray(value, self.loc.dtype))

    def _score(self, value: Array) -> Array:
        log_probs = log_level(value[..., None], self.loc, self.scale, self.num_levels)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits, -1) + log_probs, -1)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        key_index, key_level = jax.random.split(key)
        index = dist.Categorical(logits=self.logits).sample(key_index, sample_shape)[..., None]
        loc, scale = (
            jnp.take_along_axis(jnp.broadcast_to(p, (*index.shape[:-1], p.shape[-1])), index, -1)[
                ..., 0
            ]
            for p in (self.loc, self.scale)
        )
        u = self._uniform(key_level, sample_shape)
        return jax.lax.stop_gradient(
            nearest_level(loc + scale * (jnp.log(u) - jnp.log1p(-u)), self.num_levels)
        )

    @property
    def mean(self) -> Array:
        """Sum over k of P(x > level k), level by level, divided by L - 1."""
        half, weights = 1.0 / (self.num_levels - 1), jax.nn.softmax(self.logits, -1)

        def add(k: Array, total: Array) -> Array:
            return total + (
                weights * jax.nn.sigmoid((self.loc - (2 * k + 1) * half + 1) / self.scale)
            ).sum(-1)

        return (
            jax.lax.fori_loop(0, self.num_levels - 1, add, jnp.zeros_like(self.loc[..., 0])) * half
        )

    @property
    def variance(self) -> Array:
        """Sum over k of P(x = level k) (level k - mean)^2, level by level."""
        mean = self.mean

        def add(k: Array, total: Array) -> Array:
            level = jnp.full_like(mean, 1.0) * k / (self.num_levels - 1)
            return total + jnp.exp(self._score(level)) * (level - mean) ** 2

        return jax.lax.fori_loop(0, self.num_levels, add, jnp.zeros_like(mean))
