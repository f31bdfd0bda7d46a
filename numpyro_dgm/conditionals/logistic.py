"""Logistic distributions: the standard one, and mixtures."""

from math import pi
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import logit
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Conditional, Parametric, size_of
from numpyro_dgm.conditionals.elementwise import Elementwise
from numpyro_dgm.nn.contexts import batch_shape_of, one_for


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
        >>> round(StandardLogistic(2)().log_prob(jnp.zeros(2)).item(), 4)
        -2.7726
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)

    def condition(self, context: Any) -> dist.Distribution:
        """The distribution given a checked context."""
        batch_shape = batch_shape_of(context, self.context_shape)
        one = one_for(context)
        standard = _Logistic(0 * one, one).expand((*batch_shape, *self.event_shape))
        return standard.to_event(len(self.event_shape))


class _Logistic(dist.Logistic):
    """NumPyro's, with draws of the type of its parameters."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return super().sample(key, sample_shape).astype(jnp.result_type(self.loc, self.scale))


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
        >>> round(LogisticMixture(2, 1)().log_prob(jnp.zeros(2)).item(), 4)
        -2.7726
    """

    num_components: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_components: int = 5,
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-3,
        key: Array | None = None,
    ) -> None:
        num_components = check_count("num_components", num_components)
        size = size_of(dim)

        def initial() -> Array:
            spread = jnp.repeat(
                jnp.linspace(-1.0, 1.0, num_components + 2)[1:-1], size
            )  # components that differ
            return jnp.concatenate([jnp.zeros_like(spread), spread, jnp.zeros_like(spread)])

        super().__init__(
            dim,
            3 * num_components * size,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
            key=key,
        )
        self.num_components = num_components

    def components(self, raw: Array) -> tuple[Array, Array, Array]:
        """Logits, locations and scales (*batch, dim, num_components) from the parameters `raw`
        (*batch, num_params): one component after the other.
        """
        logits, loc, raw_scale = jnp.split(jnp.stack(self.split(raw), -1), 3, -1)
        return logits, loc, self.positive(raw_scale)

    def build(self, raw: Array) -> dist.Distribution:
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
    logits: Array
    loc: Array
    scale: Array

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        z = abs((value[..., None] - self.loc) / self.scale)
        scores = -z - 2 * jnp.log1p(jnp.exp(-z)) - jnp.log(self.scale)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits, -1) + scores, -1)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        key_index, key_value = jax.random.split(key)
        index = dist.Categorical(logits=self.logits).sample(key_index, sample_shape)[..., None]
        loc, scale = (
            jnp.take_along_axis(jnp.broadcast_to(p, (*index.shape[:-1], p.shape[-1])), index, -1)[
                ..., 0
            ]
            for p in (self.loc, self.scale)
        )
        return jax.lax.stop_gradient(loc + scale * logit(self._uniform(key_value, sample_shape)))

    @property
    def mean(self) -> Array:
        return (jax.nn.softmax(self.logits, -1) * self.loc).sum(-1)

    @property
    def variance(self) -> Array:
        second = jnp.square(self.scale * pi) / 3 + jnp.square(self.loc - self.mean[..., None])
        return (jax.nn.softmax(self.logits, -1) * second).sum(-1)
