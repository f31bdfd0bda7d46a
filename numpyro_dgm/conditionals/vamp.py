"""Mixtures of the posterior at pseudo-inputs, as priors:  p(z) = sum_k w_k q(z | u_k).

With the data as pseudo-inputs this is the aggregate posterior, the prior under which the bound of
an autoencoder is largest; with few, learned ones it is the VampPrior.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro import distributions as dist

from dgm_core.arguments import check_fraction, check_shape
from dgm_core.contexts import shown_shape
from dgm_core.priors import (
    NORMS,
    Components,
    check_parts,
    check_without,
    components,
    in_shape,
)
from numpyro_dgm.conditionals.base import Conditional, positive, required_key
from numpyro_dgm.conditionals.components import Mixture
from numpyro_dgm.conditionals.normal import TypedNormal
from numpyro_dgm.nn.contexts import one_hot
from numpyro_dgm.nn.layers import BatchNorm

__all__ = ["ExemplarPrior", "VampPrior"]


class VampPrior(Conditional):
    """The posterior at K pseudo-inputs as prior:  p(z) = sum_k w_k q(z | u_k),  q(z | u) =
    posterior(encoder(u))  (Tomczak & Welling 2018, section 3).

    Encoder and posterior are those of the guide, one set of weights: a prior made without them is
    given those of the model. In a program of your own write `prior.given(encoder, posterior)` with
    the registered ones, which ties them in any engine.

    Args:
        encoder, posterior: of the guide; both left out in `VAE(prior=VampPrior())`.
        num_components: K (500 when left out).
        pseudo_inputs: (K, *x_shape), to start at, instead of random ones.
        learned: False: they stay there. With all data, or some of them, this is the aggregate
            posterior, q(z) = 1/K sum_k q(z | x_k).
        learned_weights: whether w is learned; 1/K otherwise.
        bounds: the range of the data, inside which u = low + (high - low) sigmoid(raw) is learned
            (the paper clips); None is the real line. With learned=False leave them out.
        mean: a number or an array (*x_shape), such as `x_train.mean(0)`, around which random ones
            start, with standard deviation 1 before the sigmoid (default: the middle of the bounds).
        dim, x_shape: of a code and a datum, where encoder and posterior are given later; models set
            them.

    Shapes:
        batch_shape (), event_shape that of the posterior.

    Cost:
        K passes of the encoder for each call, and K densities of the posterior for each value, in
        blocks of at most 2^24 numbers; K log-densities are kept for each value.

    Raises:
        ValueError: for arguments that do not fit each other, or where encoder and posterior are
            missing.

    References:
        Tomczak & Welling (2018), arXiv:1705.07120; Hoffman & Johnson (2016), ELBO surgery.

    Example:
        >>> from numpyro_dgm import VAE
        >>> prior = VampPrior(num_components=20)
        >>> VAE(64, 2, hidden=(100,), prior=prior, key=jax.random.key(0)).prior
        VampPrior(2, num_components=20)
    """

    plan: Components = eqx.field(static=True)
    x_shape: tuple[int, ...] | None = eqx.field(static=True)
    encoder: Any
    posterior: Any
    raw_inputs: Array | None
    logits: Array | None

    def __init__(
        self,
        encoder: Callable[..., Any] | None = None,
        posterior: Conditional | None = None,
        *,
        num_components: int | None = None,
        pseudo_inputs: Any = None,
        learned: bool = True,
        learned_weights: bool = False,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        mean: Any = None,
        dim: int | tuple[int, ...] | None = None,
        x_shape: int | tuple[int, ...] | None = None,
        key: Array | None = None,
    ) -> None:
        plan = components(
            num_components,
            pseudo_inputs,
            learned=learned,
            learned_weights=learned_weights,
            bounds=bounds,
            mean=mean,
        )
        self._set_up(plan, encoder, posterior, dim, x_shape, key)

    def _set_up(
        self, plan: Components, encoder: Any, posterior: Any, dim: Any, x_shape: Any, key: Any
    ) -> None:
        check_parts(encoder, posterior, Conditional)
        if posterior is not None:
            dim = posterior.event_shape
        self.plan, self.encoder, self.posterior = plan, encoder, posterior
        self.event_shape = () if dim is None else check_shape("dim", dim)
        self.context_shape = ()
        self.x_shape = plan.x_shape(in_shape(encoder), x_shape)
        if self.x_shape is None and encoder is not None:
            raise ValueError(
                f"Pseudo-inputs need the shape of a datum, which {encoder!r} does not say by an "
                "attribute in_dim: give x_shape or pseudo_inputs."
            )
        self.raw_inputs, self.logits = _drawn(plan, self.x_shape, key)

    def sized(
        self, x_shape: tuple[int, ...], dim: tuple[int, ...], *, key: Array | None = None
    ) -> Self:
        """The same prior for data and codes of these shapes, without encoder and posterior of its
        own: they are `given` where it is used.

        Raises:
            ValueError: where it is made for others.
        """
        if (self.event_shape or dim) != dim:
            raise ValueError(f"The prior must give values of shape {dim}, got {self!r}.")
        own = object.__new__(type(self))
        changed: dict[str, Any] = {"encoder": None, "posterior": None, "event_shape": dim}
        changed["x_shape"] = self.plan.x_shape(self.x_shape, x_shape)
        if self.x_shape is None:
            changed["raw_inputs"], changed["logits"] = _drawn(self.plan, x_shape, key)
        for name in (field.name for field in fields(self)):
            object.__setattr__(own, name, changed.get(name, getattr(self, name)))
        return own

    @property
    def pseudo_inputs(self) -> Array:
        """u (K, *x_shape).

        Raises:
            ValueError: where the shape of a datum is not known yet.
        """
        if self.raw_inputs is not None:
            if self.plan.bounds is None:
                return self.raw_inputs
            low, high = self.plan.bounds
            return low + (high - low) * jax.nn.sigmoid(self.raw_inputs)
        if self.plan.values is None:
            raise ValueError(f"{self!r} has no pseudo-inputs yet: {_LATER}")
        return jnp.asarray(self.plan.values, jnp.result_type(float))

    def given(self, encoder: Any = None, posterior: Any = None, *, without: Any = None) -> Mixture:
        """The prior with this encoder and posterior (its own when left out).

        Args:
            without: (batch,), the numbers of the data that are scored, where the data are the
                pseudo-inputs: each value is scored under all others (Norouzi et al. 2020).

        Raises:
            ValueError: where there are none, and for `without` where it has no meaning.

        Example:
            >>> from numpyro_dgm.conditionals import DiagonalNormal
            >>> from numpyro_dgm.nn import MLP
            >>> key = jax.random.key(0)
            >>> prior = VampPrior(pseudo_inputs=jnp.ones((5, 3)), learned=False, dim=2)
            >>> encoder = MLP(3, (4,), key=key)
            >>> posterior = DiagonalNormal(2, context_shape=4, key=key)
            >>> prior.given(encoder, posterior, without=jnp.array([4, 0])).batch_shape
            (2,)
        """
        encoder = self.encoder if encoder is None else encoder
        posterior = self.posterior if posterior is None else posterior
        if encoder is None or posterior is None:
            raise ValueError(f"{self!r} has no encoder and posterior yet: {_LATER}")
        _check_norms(encoder, posterior)
        inputs = self.pseudo_inputs
        if self.raw_inputs is None:
            inputs = inputs.astype(_dtype(encoder, posterior))
        contexts = encoder(inputs)
        log_weights = self.logits
        if log_weights is None:
            log_weights = jnp.zeros(self.plan.number, contexts.dtype)
        if without is not None:
            check_without(self.plan, without)
            left_out = one_hot(without, self.plan.number, "without")
            log_weights = jnp.where(left_out > 0, -jnp.inf, log_weights)
        return Mixture(
            self.component(posterior),
            contexts,
            jax.nn.log_softmax(log_weights),
            posterior.event_shape,
        )

    def component(self, posterior: Any) -> Callable[[Array], dist.Distribution]:
        """The component of features, as a function of them."""
        return posterior

    def condition(self, context: Any) -> Mixture:
        """The distribution."""
        return self.given()

    def _sizes(self) -> tuple[str, ...]:
        return self.plan.shown()

    def __repr__(self) -> str:
        dim = (shown_shape(self.event_shape),) if self.event_shape else ()
        return f"{type(self).__name__}({', '.join((*dim, *self._sizes()))})"


_LATER = (
    "a model such as VAE(..., prior=VampPrior()) gives it its own; elsewhere make it as "
    "VampPrior(encoder, posterior), or call prior.given(encoder, posterior)."
)


def _drawn(
    plan: Components, x_shape: tuple[int, ...] | None, key: Array | None
) -> tuple[Array | None, Array | None]:
    """The parameters, once the shape of a datum is known."""
    raw = None
    if plan.learned and x_shape is not None:
        raw = jnp.asarray(plan.start(x_shape), jnp.result_type(float))
        if plan.values is None:
            key = required_key(key, "VampPrior")
            raw = raw + jax.random.normal(key, (plan.number, *x_shape), raw.dtype)
    return raw, jnp.zeros(plan.number) if plan.learned_weights else None


def _check_norms(*modules: Any) -> None:
    parts = jax.tree.leaves(modules, is_leaf=lambda part: isinstance(part, BatchNorm))
    if any(isinstance(part, BatchNorm) for part in parts):
        raise ValueError(NORMS)


def _dtype(*modules: Any) -> Any:
    """The precision of the weights, which pseudo-inputs take."""
    leaves = jax.tree.leaves(eqx.filter(modules, eqx.is_inexact_array))
    return jnp.result_type(*(leaves or [jnp.zeros(())]))


class ExemplarPrior(VampPrior):
    """Data as centers of a Parzen window in the space of codes:  p(z) = 1/N sum_n Normal(m(x_n),
    s^2 I),  m(x) the mean of posterior(encoder(x))  (Norouzi et al. 2020).

    Encoder and posterior are those of the guide, as in VampPrior; s is one learned number, 1 at
    the start. Left to itself a datum would be coded by its own component: score training data with
    `given(encoder, posterior, without=index)`, where index says which exemplars they are.

    Args:
        exemplars: (N, *x_shape), the data, or some of them.
        encoder, posterior: of the guide; both left out in `VAE(prior=ExemplarPrior(x))`.
        min_scale: the smallest s.
        dim: of a code, where encoder and posterior are given later; models set it.

    Shapes:
        batch_shape (), event_shape that of the posterior.

    Cost:
        N passes of the encoder for each call, and N densities for each value, in blocks.

    Raises:
        ValueError: for arguments that do not fit each other, and for a posterior without a mean.

    References:
        Norouzi, Fleet & Norouzi (2020), arXiv:2004.04795.

    Example:
        >>> from numpyro_dgm import VAE
        >>> prior = ExemplarPrior(jnp.ones((20, 64)))
        >>> VAE(64, 2, hidden=(100,), prior=prior, key=jax.random.key(0)).prior
        ExemplarPrior(2, num_components=20)
    """

    floor: float = eqx.field(static=True)
    raw_scale: Array

    def __init__(
        self,
        exemplars: Any,
        encoder: Callable[..., Any] | None = None,
        posterior: Conditional | None = None,
        *,
        min_scale: float = 1e-3,
        dim: int | tuple[int, ...] | None = None,
        key: Array | None = None,
    ) -> None:
        self._set_up(
            components(pseudo_inputs=exemplars, learned=False, name="exemplars"),
            encoder,
            posterior,
            dim,
            None,
            key,
        )
        self.floor = check_fraction("min_scale", min_scale)
        self.raw_scale = jnp.zeros(())

    def component(self, posterior: Any) -> Callable[[Array], dist.Distribution]:
        """A normal distribution around the mean of the posterior, as a function of features."""
        return _Window(posterior, positive(self.raw_scale, self.floor))

    def _sizes(self) -> tuple[str, ...]:
        return self.plan.shown()[:1]


class _Window(eqx.Module):
    posterior: Any
    scale: Array

    def __call__(self, features: Array) -> dist.Distribution:
        try:
            mean = self.posterior(features).mean
        except (NotImplementedError, AttributeError):
            raise ValueError(
                "An ExemplarPrior is made of the means of the posterior, and this one has none: "
                f"{self.posterior!r}; take VampPrior, or a posterior such as DiagonalNormal."
            ) from None
        return TypedNormal(mean, self.scale).to_event(len(self.posterior.event_shape))
