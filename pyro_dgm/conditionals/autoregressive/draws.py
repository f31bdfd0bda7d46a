"""Draws of single entries from given uniform numbers, and what networks see of an entry.

The same uniforms give the same entries, however the parameters were computed, so that draws from
caches can be compared with draws by a pass per step.
"""

from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from pyro_dgm.conditionals.base import Parametric
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.conditionals.beta import Beta, Kumaraswamy
from pyro_dgm.conditionals.coupled import CoupledLogisticMixture
from pyro_dgm.conditionals.discrete import Categorical, DiscretizedLogisticMixture
from pyro_dgm.conditionals.elementwise import inside
from pyro_dgm.conditionals.logistic import LogisticMixture
from pyro_dgm.conditionals.logit_normal import LogitNormal
from pyro_dgm.conditionals.normal import DiagonalNormal

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
def inputs(family: Parametric, values: Tensor) -> Tensor:
    """What a network sees of entries: numbers as they are; levels and classes from -1 to 1.

    Example:
        >>> inputs(Categorical(1, 3), torch.tensor([0, 1, 2]))
        tensor([-1.,  0.,  1.])
    """
    return values


@inputs.register(DiscretizedLogisticMixture)
@inputs.register(CoupledLogisticMixture)
@inputs.register(Beta)
@inputs.register(Kumaraswamy)
@inputs.register(LogitNormal)
def _unit(family: Parametric, values: Tensor) -> Tensor:
    return 2 * values - 1


@inputs.register
def _classes(family: Categorical, values: Tensor) -> Tensor:
    return values * (2.0 / (family.num_classes - 1)) - 1


@singledispatch
def noise(family: Parametric, uniforms: Tensor) -> Tensor:
    """What `draw` makes entries of, from uniforms (..., num_uniforms) in [0, 1): for all steps at
    once, since no parameter is in it.

    Example:
        >>> noise(DiagonalNormal(1), torch.tensor([0.5]))
        tensor([0.])
    """
    return uniforms


@noise.register(DiagonalNormal)
@noise.register(LogitNormal)
def _of_normals(family: Parametric, uniforms: Tensor) -> Tensor:
    return torch.special.ndtri(inside(uniforms))


@noise.register(LogisticMixture)
@noise.register(DiscretizedLogisticMixture)
def _of_mixtures(family: Parametric, uniforms: Tensor) -> Tensor:
    return torch.cat([uniforms[..., :1], torch.logit(inside(uniforms[..., 1:]))], -1)


@singledispatch
def draw(family: Parametric, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Entries (*batch, size) of the family with parameters raw (*batch, num_params), from what
    `noise` makes of uniforms (*batch, size, num_uniforms).

    A temperature divides logits and multiplies scales; it divides the concentrations of a Beta, and
    the log-odds of the uniform behind a Kumaraswamy are multiplied by it.

    Example:
        >>> draw(Bernoulli(2), torch.zeros(2), torch.tensor([[0.4], [0.6]]), 1.0)
        tensor([1., 0.])
    """
    raise TypeError(f"{family} cannot be drawn from uniform numbers.")


_ROOT = draw.dispatch(object)


@draw.register
def _bernoulli(family: Bernoulli, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    return (noise[..., 0] < torch.sigmoid(tempered(raw, temperature))).to(raw.dtype)


@draw.register
def _categorical(family: Categorical, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    return _chosen(tempered(family.logits(raw), temperature), noise[..., 0])


@draw.register
def _normal(family: DiagonalNormal, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    loc, scale = family.loc_and_scale(raw)
    return torch.addcmul(loc, scale, noise[..., 0], value=temperature)


@draw.register
def _logit_normal(family: LogitNormal, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    loc, scale = family.loc_and_scale(raw)
    return inside(torch.sigmoid(loc + temperature * scale * noise[..., 0]))


@draw.register
def _kumaraswamy(family: Kumaraswamy, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    p = family.build(raw).base_dist
    log_odds = temperature * torch.logit(inside(noise[..., 0]))
    log_rest = torch.nn.functional.logsigmoid(-log_odds) / p.concentration0  # log(1 - x^a)
    log_x = torch.log(-torch.expm1(log_rest)) / p.concentration1
    return inside(torch.exp(log_x))


@draw.register
def _beta(family: Beta, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    p = family.build(raw).base_dist
    one, other = inside(noise).chunk(2, -1)
    a, b = p.concentration1 / temperature, p.concentration0 / temperature
    return inside(torch.sigmoid(_log_gamma(a, one) - _log_gamma(b, other)))


@draw.register
def _mixture(family: LogisticMixture, raw: Tensor, noise: Tensor, temperature: float) -> Tensor:
    return _of_component(family.build(raw).base_dist, noise, temperature)


@draw.register
def _levels(
    family: DiscretizedLogisticMixture, raw: Tensor, noise: Tensor, temperature: float
) -> Tensor:
    return family.rounded(_of_component(family.build(raw).base_dist, noise, temperature))


@draw.register
def _coupled(
    family: CoupledLogisticMixture, raw: Tensor, noise: Tensor, temperature: float
) -> Tensor:
    return family.build(raw).from_uniforms(noise, temperature)


def _chosen(logits: Tensor, uniform: Tensor) -> Tensor:
    """Classes (*batch,) from logits (*batch, classes) and uniforms (*batch,)."""
    cumulative = torch.softmax(logits, -1).cumsum(-1).contiguous()
    at = uniform[..., None] * cumulative[..., -1:]
    found = torch.searchsorted(cumulative, at, right=True)[..., 0]
    return found.clamp_(max=logits.shape[-1] - 1)  # of a uniform number that is 1


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits divided by a temperature."""
    return logits if temperature == 1.0 else logits / temperature


def _of_component(p: Any, noise: Tensor, temperature: float) -> Tensor:
    """A logistic variable from a component that is drawn first."""
    index = _chosen(tempered(p.logits, temperature), noise[..., 0])[..., None]
    loc, scale = p.loc.gather(-1, index)[..., 0], p.scale.gather(-1, index)[..., 0]
    return loc + temperature * scale * noise[..., 1]


def _log_gamma(shape: Tensor, uniforms: Tensor) -> Tensor:
    """The logarithm of a gamma variable, as Marsaglia & Tsang (2000) draw one of shape + 1: of
    `_TRIALS` proposals the first that is accepted, times U^(1 / shape).
    """
    d = (shape + 2 / 3)[..., None]
    normal = torch.special.ndtri(uniforms[..., 1 : _TRIALS + 1])
    root = 1 + normal / (3 * d.sqrt())
    log_v = 3 * torch.log(root.clamp(min=1e-30))
    bound = 0.5 * normal.square() + d * (1 - root**3 + log_v)
    accepted = (root > 0) & (torch.log(uniforms[..., _TRIALS + 1 :]) < bound)
    first = accepted.to(torch.uint8).argmax(-1, keepdim=True)
    chosen = (torch.log(d) + log_v).gather(-1, first)[..., 0]
    return chosen + torch.log(uniforms[..., 0]) / shape
