"""Products of normal experts, and mixtures of such products.

Of the experts N(mu_m, s_m^2) that are seen, beside the prior N(mu_0, s_0^2), which counts once, the
product is normal:  1 / s^2 = sum_m 1 / s_m^2,  mu = s^2 sum_m mu_m / s_m^2.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import distributions as dist
from numpyro.distributions import Distribution

from dgm_core.arguments import check_instance
from dgm_core.contexts import Labels, check_context, parts_of
from dgm_core.experts import (
    all_subsets,
    check_seen,
    check_subsets,
    check_weights,
    membership,
    not_normal,
)
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.conditionals.expert_mixture import ExpertMixture
from numpyro_dgm.conditionals.normal import StandardNormal
from numpyro_dgm.nn.contexts import visible

__all__ = ["MixtureOfExperts", "ProductOfExperts", "product_of_normals"]


def product_of_normals(
    loc: Array,
    scale: Array,
    prior_loc: Array | float = 0.0,
    prior_scale: Array | float = 1.0,
    *,
    seen: Array | None = None,
    members: Array | None = None,
) -> tuple[Array, Array]:
    """Means and scales of the product of normal experts and a prior, which counts once.

    Precisions are taken relative to the prior's and scaled to the middle of their range, so that
    neither a sharp expert nor a vague one leaves single precision.

    Args:
        loc, scale: of the experts, (M, *batch).
        prior_loc, prior_scale: of the prior, to be broadcast to (*batch).
        seen: whether an expert counts, to be broadcast to (M, *batch); all of them where left out.
            Nothing that stands elsewhere enters, NaN included.
        members: (S, M) zeros and ones, for the products of S subsets at once.

    Shapes:
        (*batch), or with `members` (S, *batch).

    Cost:
        one exponential of each expert, and with `members` one matrix product.

    Example:
        >>> loc, scale = jnp.array([1.0, -1.0]), jnp.sqrt(jnp.array([0.5, 2.0]))
        >>> mean, scale = product_of_normals(loc, scale)
        >>> round(mean.item(), 4), round(jnp.square(scale).item(), 4)
        (0.4286, 0.2857)
    """
    if seen is not None:
        loc, scale = jnp.where(seen, loc, 0.0), jnp.where(seen, scale, 1.0)
    log_ratio = 2 * (jnp.log(prior_scale) - jnp.log(scale))  # of precisions
    counted = log_ratio if seen is None else jnp.where(seen, log_ratio, 0.0)
    middle = jax.lax.stop_gradient(counted).max(0).clip(min=0.0) / 2
    precision = jnp.exp(log_ratio - middle)
    if seen is not None:
        precision = precision * seen
    pulls = precision * (loc - prior_loc)
    if members is None:
        precision, pulls = precision.sum(0), pulls.sum(0)
    else:
        members = members.astype(precision.dtype)
        precision, pulls = (jnp.tensordot(members, x, 1) for x in (precision, pulls))
    total = jnp.exp(-middle) + precision
    return prior_loc + pulls / total, prior_scale * jnp.exp(-middle / 2) * jax.lax.rsqrt(total)


class ProductOfExperts(Conditional):
    """The product of a prior and of one normal expert for each context:  q(z | c) ~ p(z) prod_m
    N(z; mu_m(c_m), s_m(c_m)^2), called `product(contexts, seen=None)`.

    The prior counts once, however many experts there are, so that of no expert at all it is left.
    An expert is no posterior: those given one context alone are the experts times the prior.

    Args:
        experts: conditionals that give normal distributions with independent entries, such as
            DiagonalNormal(20, context_shape=200), each with a context.
        prior: one without a context (default StandardNormal, of the experts' event shape).

    Shapes:
        contexts a tuple of arrays (*batch, *context_shape), one for each expert; seen (*batch, M)
        booleans: which of them count. What stands elsewhere changes nothing, NaN included.
        -> batch_shape (*batch,), event_shape that of the experts.

    Cost:
        one call of each expert, and no matrix inverse.

    Raises:
        ValueError: for experts of different shapes, without a context or that are not normal; for
            contexts that do not fit.

    References:
        Hinton (2002), Training products of experts by minimizing contrastive divergence; Wu and
        Goodman (2018), arXiv:1802.05335.

    Example:
        >>> from numpyro_dgm.conditionals import DiagonalNormal
        >>> key = jax.random.key(0)
        >>> experts = [DiagonalNormal(2, context_shape=n, key=key) for n in (3, 4)]
        >>> product = ProductOfExperts(experts)
        >>> contexts = jnp.zeros((5, 3)), jnp.full((5, 4), jnp.nan)
        >>> product(contexts, jnp.array([[True, False]] * 5)).batch_shape
        (5,)
    """

    experts: tuple[Conditional, ...]
    prior: Conditional

    def __init__(self, experts: Sequence[Conditional], prior: Conditional | None = None) -> None:
        experts = check_experts(experts, prior, Conditional)
        shapes = tuple(expert.context_shape for expert in experts)
        super().__init__(experts[0].event_shape, context_shape=shapes)
        self.experts = tuple(experts)
        self.prior = prior or StandardNormal(self.event_shape)

    def __call__(self, context: Any = None, seen: Array | None = None) -> Distribution:
        """The product of the experts that are seen."""
        return self.build(*self._normals(context, seen))

    def condition(self, context: Any) -> Distribution:
        """The product of all experts."""
        return self.build(*self._given(context), None)

    def build(self, loc: Array, scale: Array, seen: Array | None) -> Distribution:
        """The distribution made of experts (M, *batch, *event_shape)."""
        return self.normal(*product_of_normals(loc, scale, *self._prior(), seen=seen))

    def subsets(self, context: Any, seen: Array | None = None, subsets: Any = None) -> Distribution:
        """The products of several subsets of the experts in one operation, those that are not seen
        left out: batch_shape (S, *batch); all 2^M of them where none are given."""
        number = len(self.experts)
        chosen = all_subsets(number, empty=True)
        chosen = chosen if subsets is None else check_subsets(subsets, number)
        loc, scale, seen = self._normals(context, seen)
        members = jnp.asarray(membership(chosen, number))
        found = product_of_normals(loc, scale, *self._prior(), seen=seen, members=members)
        return self.normal(*found)

    def _normals(self, context: Any, seen: Any) -> tuple[Array, Array, Array | None]:
        """Means and scales of the experts (M, *batch, *event), and which of them count."""
        if seen is None:
            check_context(self, context, self.context_shape)
            return *self._given(visible(context, self.context_shape)), None
        is_bool = isinstance(seen, Array | np.ndarray) and seen.dtype == bool
        check_seen(seen, len(self.experts), is_bool)
        if isinstance(context, tuple) and len(context) == len(self.experts):
            masks = (seen[..., index] for index in range(len(self.experts)))
            parts = zip(context, parts_of(self.context_shape), masks, strict=True)
            context = tuple(without_unseen(x, len(shape_of(s)), mask) for x, s, mask in parts)
        check_context(self, context, self.context_shape)
        loc, scale = self._given(visible(context, self.context_shape))
        wide = jnp.moveaxis(seen, -1, 0)[(..., *[None] * len(self.event_shape))]
        shape = jnp.broadcast_shapes(loc.shape, wide.shape)
        return jnp.broadcast_to(loc, shape), jnp.broadcast_to(scale, shape), wide

    def _given(self, context: Any) -> tuple[Array, Array]:
        """Means and scales of the experts at a checked context."""
        pairs = zip(self.experts, context)
        found = [normal_of(expert, expert.condition(c)) for expert, c in pairs]
        loc, scale = zip(*found, strict=True)
        return jnp.stack(jnp.broadcast_arrays(*loc)), jnp.stack(jnp.broadcast_arrays(*scale))

    def _prior(self) -> tuple[Array, Array]:
        return normal_of(self.prior, self.prior())

    def normal(self, loc: Array, scale: Array) -> Distribution:
        """With independent entries, (*batch, *event_shape) each."""
        return dist.Normal(loc, scale).to_event(len(self.event_shape))

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{', '.join(map(repr, self.experts))}])"


class MixtureOfExperts(ProductOfExperts):
    """The mixture of products of experts, of each expert by itself or of larger subsets:  q(z | c)
    = sum_s w_s q_s(z | c),  q_s ~ p(z) prod_{m in s} N(z; mu_m, s_m^2).

    Its density is that of the mixture, its draws are reparameterized: the components have pathwise
    gradients, and the weights are constants, which need none. Only subsets count all of whose
    experts are seen; where there is none, the prior is left.

    For stratified draws a program draws the component at a site of its own; the bound is the same,
    and `ELBO(enumerate="k")` has one draw of each component in place of a drawn one:
    `k = sample("k", mixture.index)`, `z = sample("z", mixture.at(k))` in the guide, and in the
    model `sample("k", posterior.index(batch_shape, seen), infer={"reverse": True})`.

    Args:
        experts, prior: as in `ProductOfExperts`.
        subsets: tuples of experts, such as [(0,), (0, 1)]; each expert by itself where left out.
        weights: w, positive numbers, scaled to sum to one; equal ones where left out.

    Shapes:
        as `ProductOfExperts`.

    Cost:
        log_prob S densities of each value; a draw costs one.

    Raises:
        ValueError: as `ProductOfExperts`, and for subsets or weights that do not fit.

    References:
        Shi et al. (2019), arXiv:1911.03393; Sutter, Daunhawer and Vogt (2021), arXiv:2105.02470.

    Example:
        >>> from numpyro_dgm.conditionals import DiagonalNormal
        >>> key = jax.random.key(0)
        >>> experts = [DiagonalNormal(2, context_shape=n, key=key) for n in (3, 4)]
        >>> contexts = jnp.zeros((5, 3)), jnp.ones((5, 4))
        >>> mixture = MixtureOfExperts(experts, weights=[3, 1])(contexts)
        >>> mixture.rsample(key, (7,)).shape, mixture.has_rsample
        ((7, 5, 2), True)
    """

    chosen: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    weights: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        experts: Sequence[Conditional],
        *,
        subsets: Sequence[Sequence[int]] | None = None,
        weights: Sequence[float] | None = None,
        prior: Conditional | None = None,
    ) -> None:
        super().__init__(experts, prior)
        number = len(self.experts)
        singles = tuple((index,) for index in range(number))
        self.chosen = singles if subsets is None else check_subsets(subsets, number)
        self.weights = check_weights(weights, len(self.chosen))

    @property
    def _members(self) -> Array:
        """Whether component s holds expert m, (S, M)."""
        return jnp.asarray(membership(self.chosen, len(self.experts)))

    @property
    def _log_weights(self) -> Array:
        """Of the components, (S,)."""
        return jnp.log(jnp.array(self.weights))

    def build(self, loc: Array, scale: Array, seen: Array | None) -> Distribution:
        """The mixture made of experts (M, *batch, *event_shape)."""
        event_dim = len(self.event_shape)
        found = product_of_normals(loc, scale, *self._prior(), seen=seen, members=self._members)
        loc, scale = (jnp.moveaxis(x, 0, -1 - event_dim) for x in found)  # (*batch, S, *event)
        batch = loc.shape[: loc.ndim - 1 - event_dim]
        if seen is None:
            return ExpertMixture(loc, scale, self._wide(self._log_weights, batch), event_dim)
        wide = jnp.moveaxis(seen.reshape(seen.shape[: seen.ndim - event_dim]), 0, -1)
        source, log_weights = self._counted(wide)
        source = source[(..., *[None] * event_dim)]
        loc, scale = (jnp.take_along_axis(x, source, len(batch)) for x in (loc, scale))
        return ExpertMixture(loc, scale, self._wide(log_weights, batch), event_dim)

    def index(self, batch_shape: Sequence[int] = (), seen: Array | None = None) -> Distribution:
        """The distribution of the component that a draw is from, which no expert enters."""
        log_weights = self._log_weights if seen is None else self._counted(seen)[1]
        return dist.Categorical(logits=self._wide(log_weights, tuple(batch_shape)))

    def _wide(self, log_weights: Array, batch: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(log_weights, (*batch, len(self.chosen)))

    def _counted(self, seen: Array) -> tuple[Array, Array]:
        """Which component stands in each place, (*batch, S), and its log-weight: in the places of
        those that do not count, copies of the first that does, which share its weight."""
        counts = (seen[..., None, :] | ~self._members).all(-1)
        counts = counts | ~counts.any(-1, keepdims=True)  # nothing is seen: all are the prior
        first = counts.argmax(-1, keepdims=True)
        source = jnp.where(counts, jnp.arange(len(self.chosen)), first)
        weights = jnp.array(self.weights)
        total = (weights * counts).sum(-1, keepdims=True)
        copies = (source == first).sum(-1, keepdims=True)
        shared = weights[first] / copies
        return source, jnp.log(jnp.where(source == first, shared, weights) / total)

    def __repr__(self) -> str:
        subsets = f", subsets={list(self.chosen)}" if len(self.chosen) < 8 else ""
        return f"{super().__repr__()[:-1]}{subsets})"


def check_experts(experts: Any, prior: Any, kind: type) -> list[Any]:
    """A list of experts; ValueError unless they have one event shape, that of the prior, and
    contexts."""
    if not isinstance(experts, list | tuple) or not experts:
        raise ValueError(f"experts must be a list of conditionals, got {experts!r}.")
    for expert in (*experts, *([] if prior is None else [prior])):
        check_instance("expert", expert, kind, "a conditional such as DiagonalNormal")
    shapes = {expert.event_shape for expert in (*experts, *([] if prior is None else [prior]))}
    if len(shapes) > 1:
        raise ValueError(f"Experts and prior must give values of one shape, got {sorted(shapes)}.")
    if alone := [e for e in experts if not e.context_shape or len(parts_of(e.context_shape)) > 1]:
        raise ValueError(f"Each expert must have one context, got {alone[0]!r}.")
    if prior is not None and prior.context_shape:
        raise ValueError(f"The prior expert takes no context, got {prior!r}.")
    return list(experts)


def shape_of(context_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a context as it is given: labels are integers."""
    return () if isinstance(context_shape, Labels) else context_shape


def without_unseen(x: Any, event_dim: int, seen: Array) -> Any:
    """x (*batch, *event) with zeros in the cases that are not seen."""
    if not isinstance(x, Array | np.ndarray):
        return x
    return jnp.where(seen[(..., *[None] * event_dim)], x, jnp.zeros((), x.dtype))


def normal_of(conditional: Any, fn: Any) -> tuple[Array, Array]:
    """Mean and scale of a normal distribution with independent entries; ValueError for others."""
    base = fn
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    if not isinstance(base, dist.Normal):
        raise ValueError(not_normal(conditional, type(base).__name__))
    shape = fn.batch_shape + fn.event_shape
    return jnp.broadcast_to(base.loc, shape), jnp.broadcast_to(base.scale, shape)
