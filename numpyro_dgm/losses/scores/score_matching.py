"""Score matching: the gradient of log p(x) in x is fitted, which no normalizing constant enters."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_name, check_number
from dgm_core.terms import written
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.scores.events import Events, check_real, events

__all__ = ["DenoisingScoreMatching", "ScoreMatching"]

LogDensity = Callable[[Array], Array]


class ScoreMatching(Term):
    """J = E_data [tr H(x) + |s(x)|^2 / 2],  s and H the gradient and the Hessian of log p in x, per
    datum: the Fisher divergence E |s - s_data|^2 / 2 up to a constant of the data.

    Args:
        site: with real values and a density that is known, perhaps up to a constant; observed, or
            a latent one at the guide's draws, detached. Where it depends on latents, it is the
            density given what the guide drew of these.
        method: "exact"; or "sliced", where random signs v estimate tr H = E v^T H v without bias.
        num_projections: how many v of each datum.

    Logged:
        "ScoreMatching(<site>)", J, which has no zero of its own.

    Cost:
        exact: as many gradients as a value has entries; sliced: num_projections + 1.

    Raises:
        ValueError: for bad arguments, and a site whose values are not all real numbers: where the
            density ends, the boundary would count.
        NoDensityError: for an implicit site.

    References:
        Hyvarinen (2005), Estimation of non-normalized statistical models by score matching, JMLR 6;
        Song et al. (2019), Sliced score matching, arXiv:1905.07088.

    Example:
        >>> ScoreMatching("x", method="sliced")
        ScoreMatching('x', method='sliced')
    """

    guided = False

    def __init__(self, site: str, *, method: str = "exact", num_projections: int = 1) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = (self.site,)
        self.method = check_choice("method", method, ("exact", "sliced"))
        self.num_projections = check_count("num_projections", num_projections)
        if method == "exact" and num_projections != 1:
            raise ValueError(
                "num_projections is of method='sliced', which 'exact' does not need: leave it out, "
                f"got {num_projections}."
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        found = read(self, joints)
        signs = None
        if self.method == "sliced":
            key, shape = joints.key(self.name), (self.num_projections, *found.value.shape)
            signs = jnp.sign(jax.random.normal(key, shape, found.value.dtype))
        return found.per_datum(hyvarinen(found.log_density, found.value, signs)), {}

    def __repr__(self) -> str:
        return written(self, repr(self.site), method="exact", num_projections=1)


class DenoisingScoreMatching(Term):
    """E |s(x + sd e) + e / sd|^2 / 2,  e ~ Normal(0, I), per datum: the score of the data *with
    this noise* is fitted.

    Its optimum is the density of x + sd e, not of x: a variance of 1.5 is learned as 1.5 + sd^2.

    Args:
        site: as in `ScoreMatching`.
        noise: sd > 0.

    Logged:
        "DenoisingScoreMatching(<site>)".

    Cost:
        two gradients.

    Raises:
        ValueError, NoDensityError: as ScoreMatching.

    References:
        Vincent (2011), A connection between score matching and denoising autoencoders, Neural
        Computation 23.

    Example:
        >>> DenoisingScoreMatching("x", 0.3)
        DenoisingScoreMatching('x', 0.3)
    """

    guided = False

    def __init__(self, site: str, noise: float) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = (self.site,)
        self.noise = check_number("noise", noise, above=0)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        found = read(self, joints)
        key, like = joints.key(self.name), found.value
        normal = jax.random.normal(key, like.shape, like.dtype)
        cost = denoising(found.log_density, like, normal, self.noise)
        return found.per_datum(cost), {}

    def __repr__(self) -> str:
        return written(self, repr(self.site), repr(self.noise))


def read(term: Any, joints: Joints) -> Events:
    """The values of the site of a term, real numbers."""
    return check_real(type(term).__name__, term.site, events(joints, term.site))


def hyvarinen(log_density: LogDensity, value: Array, signs: Array | None = None) -> Array:
    """tr H + |s|^2 / 2 of each value (*batch, *event): (*batch,); with signs (num, *batch, *event)
    the trace is the mean of v^T H v.
    """
    exact, score = signs is None, _score(log_density)
    found = score(value)
    batch = jax.eval_shape(log_density, value).shape
    size = value.size // max(1, math.prod(batch))
    if signs is None:
        event = value.shape[len(batch) :]
        signs = jnp.eye(size, dtype=value.dtype).reshape(size, *(1,) * len(batch), *event)

    def along(v: Array) -> Array:
        v = jnp.broadcast_to(v, value.shape)
        return (jax.jvp(score, (value,), (v,))[1] * v).reshape(*batch, size).sum(-1)

    parts = jax.vmap(along)(signs)
    trace = parts.sum(0) if exact else parts.mean(0)
    return trace + jnp.square(found.reshape(*batch, size)).sum(-1) / 2


def denoising(log_density: LogDensity, value: Array, normal: Array, sd: float) -> Array:
    """|s(x + sd e) + e / sd|^2 / 2 of each value (*batch, *event): (*batch,)."""
    noisy = value + sd * normal
    score = _score(log_density)(noisy)
    batch = jax.eval_shape(log_density, noisy).shape
    size = value.size // max(1, math.prod(batch))
    return jnp.square((score + normal / sd).reshape(*batch, size)).sum(-1) / 2


def _score(log_density: LogDensity) -> LogDensity:
    """The gradient of log p in x."""
    return jax.grad(lambda x: log_density(x).sum())
