"""Mixtures of normal distributions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric, required_key
from numpyro_dgm.conditionals.normal import TypedNormal


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
        >>> MixturePrior(2, 3, key=jax.random.key(0))
        MixturePrior(2, 3)
    """

    num_components: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        num_components: int = 10,
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-3,
        key: Array | None = None,
    ) -> None:
        dim = check_count("dim", dim)
        num_components = check_count("num_components", num_components)
        size = num_components * dim

        def initial() -> Array:
            locs = jax.random.normal(required_key(key, "MixturePrior"), (size,))
            return jnp.concatenate([jnp.zeros(num_components), locs, jnp.zeros(size)])

        num_params = num_components + 2 * size
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
            key=key,
        )
        self.num_components = num_components

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params): weights, locations and
        scales, one component after the other.
        """
        logits = raw[..., : self.num_components]
        parts = raw[..., self.num_components :].reshape(*raw.shape[:-1], 2, self.num_components, -1)
        loc, raw_scale = parts[..., 0, :, :], parts[..., 1, :, :]
        components = TypedNormal(loc, self.positive(raw_scale)).to_event(1)
        return _Mixture(dist.Categorical(logits=logits), components)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components),)


class _Mixture(dist.MixtureSameFamily):
    """NumPyro's, whose draws are constants: a part of their gradient would be missing."""

    def sample_with_intermediates(
        self, key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        x, parts = super().sample_with_intermediates(key, sample_shape)
        return jax.lax.stop_gradient(x), parts
