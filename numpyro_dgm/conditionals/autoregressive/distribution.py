"""The distribution that an autoregressive conditional returns."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.autoregressive import (
    check_prefix,
    check_temperature,
    check_uniforms,
    not_a_number,
    not_uniform,
    outside,
)
from dgm_core.contexts import check_expanded
from numpyro_dgm.conditionals.autoregressive.draws import draw, num_uniforms
from numpyro_dgm.nn.contexts import spread
from numpyro_dgm.nn.requirements import known_wrong

__all__ = ["AutoregressiveDistribution"]


class AutoregressiveDistribution(Distribution):
    """p(x | c) = prod_i p(x_i | x_<i, c): scored in one pass, drawn step by step from caches.

    Args:
        network: an autoregressive conditional.
        context: checked, as networks see it.
        batch_shape: to which that of the context broadcasts.

    Cost:
        log_prob one pass; sample about one pass in arithmetic, in `num_steps` steps.

    Raises:
        ValueError: for values that are outside the support, and for a prefix that is no beginning
            of values. NotImplementedError: for moments, which no pass gives.

    Example:
        >>> from numpyro_dgm.conditionals import GatedPixelCNN
        >>> key = jax.random.key(0)
        >>> p = GatedPixelCNN((1, 4, 4), hidden_channels=2, num_layers=2, key=key)()
        >>> top = jnp.ones((7, 1, 2, 4))
        >>> bool((p.sample(key, (7,), prefix=top)[:, :, :2] == top).all())
        True
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("network", "context")
    has_rsample = False

    def __init__(
        self,
        network: Any,
        context: Any,
        batch_shape: tuple[int, ...],
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.network, self.context = network, context
        super().__init__(
            tuple(batch_shape), tuple(network.event_shape), validate_args=validate_args
        )

    @property
    def support(self) -> Any:
        """That of the family, for all entries."""
        family = self.network.family
        of_a_step = family.build(jnp.zeros(family.num_params)).support
        return constraints.independent(of_a_step.base_constraint, len(self.event_shape))

    @property
    def mean(self) -> Array:
        """Refused."""
        raise NotImplementedError(
            f"{self.network} has no mean in closed form: average draws, as in sample((100,))."
        )

    @property
    def variance(self) -> Array:
        """Refused."""
        raise NotImplementedError(
            f"{self.network} has no variance in closed form: take that of draws, as in "
            "sample((100,))."
        )

    def expand(self, batch_shape: tuple[int, ...]) -> AutoregressiveDistribution:
        """The same distribution with a larger batch shape."""
        batch_shape = check_expanded(self.batch_shape, batch_shape)
        return AutoregressiveDistribution(self.network, self.context, batch_shape)

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """sum_i log p(x_i | x_<i, c): (*batch, *event) -> (*batch,), in one pass."""
        network, rank, value = self.network, len(self.event_shape), jnp.asarray(value)
        if tuple(value.shape[value.ndim - rank :]) != tuple(self.event_shape):
            raise ValueError(
                f"{network} expects values of shape (*batch, "
                f"{', '.join(map(str, self.event_shape))}), got {tuple(value.shape)}."
            )
        batch = jnp.broadcast_shapes(value.shape[: value.ndim - rank], self.batch_shape)
        x = jnp.broadcast_to(value, (*batch, *self.event_shape)).reshape(-1, *self.event_shape)
        values = network.to_steps(x)
        h = network.features(network.inputs(values), self._context(batch))
        return self._score(network.family.head(h), values).sum(-1).reshape(batch)

    def _score(self, raw: Array, values: Array) -> Array:
        """log p of all steps with parameters `raw`."""
        try:
            p = self.network.family.build(raw)
        except ValueError as error:
            if known_wrong(values == values):
                raise not_a_number(self.network) from error
            raise
        return p.log_prob(values)

    def sample(
        self,
        key: Array,
        sample_shape: tuple[int, ...] = (),
        temperature: float = 1.0,
        prefix: Array | None = None,
    ) -> Array:
        """Draws, without gradient.

        Args:
            key: a random key.
            sample_shape: of independent draws.
            temperature: divides logits and multiplies scales; 1 draws from the distribution.
            prefix: the beginning of the values (*batch, *event), shorter along one axis: the first
                steps in time, the first rows of images. Only what follows can be filled in.
        """
        network = self.network
        shape = (*sample_shape, *self.batch_shape, network.num_steps, network.size)
        uniforms = jax.random.uniform(
            key, (*shape, num_uniforms(network.family)), network.family.head.weight.dtype
        )
        return self.sample_from(uniforms, temperature, prefix)

    def rsample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Refused."""
        raise NotImplementedError(
            f"Draws of {self.network} have no gradient, they come step by step from caches: use "
            "sample, a score-function estimator, or a flow such as IAF."
        )

    def sample_from(
        self,
        uniforms: Array,
        temperature: float = 1.0,
        prefix: Array | None = None,
        *,
        cached: bool = True,
    ) -> Array:
        """The draws that uniform numbers (*batch, num_steps, size, num_uniforms) give; by a pass
        for each step, the naive way, where `cached` is False.
        """
        temperature = check_temperature(temperature)
        network, weight = self.network, self.network.family.head.weight
        uniforms = jnp.asarray(uniforms, weight.dtype)
        wanted = network.num_steps, network.size, num_uniforms(network.family)
        check_uniforms(network, uniforms.shape, wanted)
        if known_wrong((uniforms >= 0) & (uniforms <= 1)):
            raise not_uniform(network)
        batch = jnp.broadcast_shapes(uniforms.shape[:-3], self.batch_shape)
        uniforms = jnp.broadcast_to(uniforms, (*batch, *wanted))
        known, num_known = None, 0
        if prefix is not None:
            known, num_known = self._known(jnp.asarray(prefix), batch)
        uniforms = uniforms.reshape(-1, *wanted)
        run = _cached if cached else _naive
        context = self._context(batch)
        values, total = run(
            network, context, uniforms, jnp.asarray(temperature), known, jnp.asarray(num_known)
        )
        if not isinstance(total, jax.core.Tracer):
            self._check_drawn(bool(jnp.isfinite(total)))
        values = network.from_steps(values).reshape(*batch, *self.event_shape)
        return jax.lax.stop_gradient(values)

    def _check_drawn(self, finite: bool) -> None:
        if not finite:
            raise ValueError(
                f"{self.network} cannot be drawn from: some of its parameters are NaN or infinite; "
                "look at its weights and its context."
            )

    def _context(self, batch: tuple[int, ...]) -> Any:
        """The context with one batch dimension."""
        return spread(self.context, self.network.context_shape, batch)

    def _known(self, prefix: Array, batch: tuple[int, ...]) -> tuple[Array, int]:
        """The steps of values that begin with the prefix, and how many of them it tells."""
        network, axis = self.network, self.network.prefix_axis
        length = check_prefix(network, tuple(prefix.shape), network.event_shape, axis, batch)
        valid = self.support.base_constraint(prefix)
        if not isinstance(valid, jax.core.Tracer) and not valid.all():
            raise outside(network, "prefix")
        shape = list(self.event_shape)
        shape[axis] = length
        padding = [(0, 0)] * len(batch) + [(0, n - m) for n, m in zip(self.event_shape, shape)]
        x = jnp.pad(jnp.broadcast_to(prefix, (*batch, *shape)), padding)
        steps = network.num_steps * length // self.event_shape[axis]
        return network.to_steps(x.reshape(-1, *self.event_shape)), steps


@eqx.filter_jit
def _cached(
    network: Any,
    context: Any,
    uniforms: Array,
    temperature: Any,
    known: Array | None,
    num_known: Array,
) -> tuple[Array, Array]:
    """Values (batch, num_steps, size), by increments, one scan over blocks of one over steps; and
    the sum of all their parameters.
    """
    family, head, block = network.family, network.family.head, network.block
    num = len(uniforms)
    steps: tuple[Array, ...] = (jnp.arange(network.num_steps), jnp.moveaxis(uniforms, 1, 0))
    if known is not None:
        steps = (*steps, jnp.moveaxis(known, 1, 0))

    def step(carry: Any, step: Any) -> Any:
        state, previous = carry
        index, uniform, *told = step
        h, state = network.advance(state, index, previous)
        raw = head(h)
        value = draw(family, raw, uniform, temperature)
        if told:
            value = jnp.where(index < num_known, told[0], value).astype(value.dtype)
        return (state, network.inputs(value)), (value, raw.sum())

    def run(carry: Any, block_and_steps: Any) -> Any:
        number, steps = block_and_steps
        state, previous = carry
        return jax.lax.scan(step, (network.enter(state, number, previous), previous), steps)

    num_blocks = network.num_steps // block
    blocks = jax.tree.map(lambda part: part.reshape(num_blocks, block, *part.shape[1:]), steps)
    start = network.begin(context, num), jnp.zeros((num, network.in_features), uniforms.dtype)
    _, (values, sums) = jax.lax.scan(run, start, (jnp.arange(num_blocks), blocks))
    values = values.reshape(network.num_steps, *values.shape[2:])
    return jnp.moveaxis(values, 0, 1), sums.sum()


@eqx.filter_jit
def _naive(
    network: Any,
    context: Any,
    uniforms: Array,
    temperature: Any,
    known: Array | None,
    num_known: Array,
) -> tuple[Array, Array]:
    """The same by a pass for each step."""
    family, head = network.family, network.family.head
    raw = jnp.zeros((len(uniforms), family.num_params), uniforms.dtype)
    first = draw(family, raw, uniforms[:, 0], 1.0)
    values = jnp.repeat(first[:, None], network.num_steps, 1)
    if known is not None:
        values = known.astype(values.dtype)

    def fill(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        values, total = carry
        raw = head(network.features(network.inputs(values), context)[:, index])
        drawn = draw(family, raw, uniforms[:, index], temperature)
        return values.at[:, index].set(drawn), total + raw.sum()

    start = values, jnp.zeros((), raw.dtype)
    return jax.lax.fori_loop(num_known, network.num_steps, fill, start)
