"""Draws of single entries from given uniform numbers, and what networks see of an entry.

The same uniforms give the same entries, however the parameters were computed, so that draws from
caches can be compared with draws by a pass per step.
"""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid, sigmoid, softmax
from jax.scipy.special import logit, ndtri

from numpyro_dgm.conditionals.base import Parametric
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.conditionals.beta import Beta, Kumaraswamy
from numpyro_dgm.conditionals.coupled import CoupledLogisticMixture
from numpyro_dgm.conditionals.discrete import Categorical, DiscretizedLogisticMixture
from numpyro_dgm.conditionals.elementwise import inside
from numpyro_dgm.conditionals.logistic import LogisticMixture
from numpyro_dgm.conditionals.logit_normal import LogitNormal
from numpyro_dgm.conditionals.normal import DiagonalNormal

__all__: list[str] = []  # for the package, not for users

_TRIALS = 12  # of a gamma variable; each is accepted with a probability above 0.95


def family_of(constructor: Any, size: int, **settings: Any) -> Parametric:
    """The family of `size` entries, if it is a conditional with a rule to draw them."""
    is_made = isinstance(constructor, Parametric) or not callable(constructor)
    family = None if is_made else constructor(size, **settings)
    if not isinstance(family, Parametric) or draw.dispatch(type(family)) is _ROOT:
        raise ValueError(
            "family must make a conditional of single entries that can be drawn from uniform "
            "numbers (Bernoulli, Categorical, DiscretizedLogisticMixture, CoupledLogisticMixture, "
            "LogisticMixture, DiagonalNormal, LogitNormal, Beta or Kumaraswamy, or a "
            f"partial(...) of one), got {constructor!r}."
        )
    if family.event_shape != (size,):
        raise ValueError(f"family must make a conditional of {size} entries, got {family}.")
    return family


@singledispatch
def num_uniforms(family: Parametric) -> int:
    """How many uniform numbers an entry takes: 1; mixtures 2.

    Example:
        >>> num_uniforms(Bernoulli(1))
        1
    """
    return 1


@num_uniforms.register(DiscretizedLogisticMixture)
@num_uniforms.register(CoupledLogisticMixture)
@num_uniforms.register(LogisticMixture)
def _two(family: Parametric) -> int:
    return 2


@num_uniforms.register
def _two_gammas(family: Beta) -> int:
    return 2 * (2 * _TRIALS + 1)


@singledispatch
def inputs(family: Parametric, values: Array) -> Array:
    """What a network sees of entries: numbers as they are; levels and classes from -1 to 1.

    Example:
        >>> inputs(Categorical(1, 3), jnp.array([0, 1, 2]))
        Array([-1.,  0.,  1.], dtype=float32...)
    """
    return values


@inputs.register(DiscretizedLogisticMixture)
@inputs.register(CoupledLogisticMixture)
@inputs.register(Beta)
@inputs.register(Kumaraswamy)
@inputs.register(LogitNormal)
def _unit(family: Parametric, values: Array) -> Array:
    return 2 * values - 1


@inputs.register
def _classes(family: Categorical, values: Array) -> Array:
    return values * (2.0 / (family.num_classes - 1)) - 1


@singledispatch
def draw(family: Parametric, raw: Array, uniforms: Array, temperature: float) -> Array:
    """Entries (*batch, size) of the family with parameters raw (*batch, num_params), from uniforms
    (*batch, size, num_uniforms) in [0, 1).

    A temperature divides logits and multiplies scales; it divides the concentrations of a Beta, and
    the log-odds of the uniform behind a Kumaraswamy are multiplied by it.

    Example:
        >>> draw(Bernoulli(2), jnp.zeros(2), jnp.array([[0.4], [0.6]]), 1.0)
        Array([1., 0.], dtype=float32)
    """
    raise TypeError(f"{family} cannot be drawn from uniform numbers.")


_ROOT = draw.dispatch(object)


@draw.register
def _bernoulli(family: Bernoulli, raw: Array, uniforms: Array, temperature: float) -> Array:
    return jnp.asarray(uniforms[..., 0] < sigmoid(raw / temperature), raw.dtype)


@draw.register
def _categorical(family: Categorical, raw: Array, uniforms: Array, temperature: float) -> Array:
    return _chosen(family.logits(raw) / temperature, uniforms[..., 0])


@draw.register
def _normal(family: DiagonalNormal, raw: Array, uniforms: Array, temperature: float) -> Array:
    loc, scale = family.loc_and_scale(raw)
    return loc + temperature * scale * ndtri(inside(uniforms[..., 0]))


@draw.register
def _logit_normal(family: LogitNormal, raw: Array, uniforms: Array, temperature: float) -> Array:
    loc, scale = family.loc_and_scale(raw)
    noise = ndtri(inside(uniforms[..., 0]))
    return inside(sigmoid(loc + temperature * scale * noise))


@draw.register
def _kumaraswamy(family: Kumaraswamy, raw: Array, uniforms: Array, temperature: float) -> Array:
    p = family.build(raw).base_dist
    log_odds = temperature * logit(inside(uniforms[..., 0]))
    log_rest = log_sigmoid(-log_odds) / p.concentration0  # log(1 - x^a)
    log_x = jnp.log(-jnp.expm1(log_rest)) / p.concentration1
    return inside(jnp.exp(log_x))


@draw.register
def _beta(family: Beta, raw: Array, uniforms: Array, temperature: float) -> Array:
    p = family.build(raw).base_dist
    one, other = jnp.split(inside(uniforms), 2, -1)
    a, b = p.concentration1 / temperature, p.concentration0 / temperature
    return inside(sigmoid(_log_gamma(a, one) - _log_gamma(b, other)))


@draw.register
def _mixture(family: LogisticMixture, raw: Array, uniforms: Array, temperature: float) -> Array:
    return _of_component(family.build(raw).base_dist, uniforms, temperature)


@draw.register
def _levels(
    family: DiscretizedLogisticMixture, raw: Array, uniforms: Array, temperature: float
) -> Array:
    return family.rounded(_of_component(family.build(raw).base_dist, uniforms, temperature))


@draw.register
def _coupled(
    family: CoupledLogisticMixture, raw: Array, uniforms: Array, temperature: float
) -> Array:
    return family.build(raw).from_uniforms(uniforms, temperature)


def _chosen(logits: Array, uniform: Array) -> Array:
    """Classes (*batch,) from logits (*batch, classes) and uniforms (*batch,)."""
    cumulative = jnp.cumsum(softmax(logits, -1), -1)
    return (uniform[..., None] * cumulative[..., -1:] >= cumulative[..., :-1]).sum(-1)


def _of_component(p: Any, uniforms: Array, temperature: float) -> Array:
    """A logistic variable from a component that is drawn first."""
    index = _chosen(p.logits / temperature, uniforms[..., 0])[..., None]
    loc, scale = (jnp.take_along_axis(part, index, -1)[..., 0] for part in (p.loc, p.scale))
    return loc + temperature * scale * logit(inside(uniforms[..., 1]))


def _log_gamma(shape: Array, uniforms: Array) -> Array:
    """The logarithm of a gamma variable, as Marsaglia & Tsang (2000) draw one of shape + 1: of
    `_TRIALS` proposals the first that is accepted, times U^(1 / shape).
    """
    d = (shape + 2 / 3)[..., None]
    normal = ndtri(uniforms[..., 1 : _TRIALS + 1])
    root = 1 + normal / (3 * jnp.sqrt(d))
    log_v = 3 * jnp.log(jnp.clip(root, 1e-30))
    bound = 0.5 * jnp.square(normal) + d * (1 - root**3 + log_v)
    accepted = (root > 0) & (jnp.log(uniforms[..., _TRIALS + 1 :]) < bound)
    first = accepted.argmax(-1, keepdims=True)
    chosen = jnp.take_along_axis(jnp.log(d) + log_v, first, -1)[..., 0]
    return chosen + jnp.log(uniforms[..., 0]) / shape
