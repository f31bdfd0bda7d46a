"""One vector of all latent sites:  u = start + spread exp(log_scale) (shift + x),  x ~ family;
z_k = f_k(u_k) with the bijection f_k from the real line to the support of site k in this run."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import log, prod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular

from dgm_core.arguments import check_number
from dgm_core.guides import LatentSite, Outline, built
from dgm_core.training.recipes import Recipe
from dgm_core.vectors import (
    check_sizes_of,
    check_together,
    check_unmasked,
    chosen_sites,
    jointly,
    placed,
)
from numpyro_dgm.conditionals import Conditional, DiagonalNormal, FullRankNormal
from numpyro_dgm.flows import Flow, SinhArcsinh
from numpyro_dgm.guides.base import Guide, Part
from numpyro_dgm.guides.program import Call
from numpyro_dgm.guides.starts import Init, Start, check_init, start_of
from numpyro_dgm.guides.supports import beside, determined
from numpyro_dgm.nn.register import Constant

__all__ = ["JointGuide"]

FLOW_SCALE = 0.3  # the first of a flow: from 0.1 its networks grow in place of the scale


class JointVector(Part):
    """The sites that one vector answers; it is drawn before the program, outside all plates."""

    answers: tuple[str, ...] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    latents: tuple[LatentSite, ...] = eqx.field(static=True)
    family: Conditional
    start: Constant
    spread: Constant
    shift: Array
    log_scale: Array

    def __init__(
        self,
        name: str,
        sites: tuple[LatentSite, ...],
        family: Conditional,
        start: Start,
        init_scale: float | None,
    ) -> None:
        self.name, self.latents = name, sites
        self.answers = tuple(site.name for site in sites)
        self.family = family
        self.start, self.spread = Constant(start.place), Constant(start.spread)
        self.shift = jnp.zeros_like(start.place)
        scale = log(start.scale if init_scale is None else init_scale)
        self.log_scale = jnp.full_like(start.place, scale)

    def begin(self, call: Call) -> None:
        """Draws the vector."""
        check_together(self.answers, call.outline.sites)
        call.outside |= dict.fromkeys(self.answers)
        x = call.sample(self.name, self.distribution(call))
        standard = (self.shift + x) * jnp.exp(self.log_scale)
        start, spread = self.place(call)
        if spread.ndim == 1:
            moved = spread * standard
        else:
            moved, spread = standard @ spread.T, jnp.diagonal(spread)
        stops = np.cumsum([site.size for site in self.latents])[:-1]
        entries = jnp.split(start + moved, stops, -1)
        density = -(jnp.log(spread) + self.log_scale).sum()
        call.kept[self.name] = density, dict(zip(self.answers, entries, strict=True))
        call.kept["standard"] = [*call.kept.get("standard", ()), standard]

    def place(self, call: Call) -> tuple[Array, Array]:
        """The start and the spread, stated once in a call."""
        if self.name not in call.features:
            start = self.start.stated(f"{self.name}.start")
            call.features[self.name] = start, self.spread.stated(f"{self.name}.spread")
        return call.features[self.name]

    def distribution(self, call: Call) -> Any:
        """What x is drawn from."""
        return self.family()

    def standard(self, call: Call) -> Array:
        """spread^-1 (u - start) at the values of the sites, in a run of the extended model."""
        start, spread = self.place(call)
        moved = gathered(call, self.latents) - start
        if spread.ndim == 1:
            return moved / spread
        rows = moved.reshape(-1, moved.shape[-1]).mT
        return solve_triangular(spread, rows, lower=True).mT.reshape(moved.shape)

    def noise(self, call: Call) -> Array:
        """x there."""
        return self.standard(call) / jnp.exp(self.log_scale) - self.shift

    def answer(self, call: Call, site: LatentSite, fn: Any) -> Any:
        """The site's part of the vector, on its support."""
        density, entries = call.kept[self.name]
        u, site = entries[site.name], self.latents[self.answers.index(site.name)]
        check_sizes_of(site, fn.batch_shape)
        check_unmasked(site.name, call.masked)
        batch = placed(tuple(u.shape[:-1]), site.batch_shape)
        share = density / prod(site.batch_shape) if site is self.latents[0] else 0.0
        return determined(fn, u.reshape((*batch, *(site.unconstrained or ()))), share)


def built_conditional(family: Any, dim: int, context: int, what: str, key: Any = None) -> Any:
    """A conditional of vectors from a factory, or one that was given."""
    return built(family, dim, context, Conditional, what, key)


def gathered(call: Call, sites: Iterable[LatentSite]) -> Array:
    """The vector of all entries of some sites at their values on the real line: (*particles, D),
    with singletons for the dimensions of plates."""
    parts = []
    for site in sites:
        u, ndim = call.vector(site.name), len(site.batch_shape)
        batch = jnp.broadcast_shapes(u.shape[:-1], site.batch_shape)
        u = jnp.broadcast_to(u, (*batch, u.shape[-1]))
        parts.append(u.reshape(*u.shape[: u.ndim - 1 - ndim], *[1] * ndim, -1))
    vector = beside(parts)
    return vector.reshape(-1) if vector.size == vector.shape[-1] else vector


def joint_part(
    guide: Guide,
    outline: Outline,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    family: Any = FullRankNormal,
    sites: Iterable[str] | None = None,
    init: Init = None,
    init_scale: float | None = None,
    name: str | None = None,
    build: Callable[..., Any] = built_conditional,
    kind: type[JointVector] = JointVector,
    key: Array | None = None,
) -> JointVector:
    """A vector of the sites named, or of all: see `JointGuide`; of another kind where `build` makes
    something else of the family."""
    names = chosen_sites(outline.sites, sites)
    latents = jointly((outline.sites[n] for n in names), type(guide).__name__)
    if not latents:
        raise ValueError("The model has no latent sites that a joint vector could answer.")
    size = sum(site.size for site in latents)
    made = build(family, size, 0, f"the sites {names}", key)
    correlated = not isinstance(made, DiagonalNormal)
    if isinstance(made, Flow):
        made = Flow(size, [*made.transforms, SinhArcsinh(size)], base=made.base)
    start = start_of(guide.model, args, kwargs, outline, latents, init, correlated=correlated)
    if init_scale is None and isinstance(made, Flow):
        init_scale = max(start.scale, FLOW_SCALE)
    number = len(guide.parts) or ""  # of several parts
    name = name or f"{guide.name}.vector{number}"
    return kind(name, latents, made, start, init_scale)


def _is_flow(family: Any) -> bool:
    """Whether a family is a flow, or the class of one."""
    kind = getattr(family, "func", family)
    return isinstance(kind, Flow) or (isinstance(kind, type) and issubclass(kind, Flow))


class JointGuide(Guide):
    """All latent sites jointly, through any conditional or flow:

    x ~ family;  u = start + spread exp(log_scale) (shift + x);  z_k = f_k(u_k)  for every site k,

    where f_k maps the real line to the site's support in this run, so that bounds may be other
    sites.  The network comes first and the learned scale last, so that a flow works near the
    standard normal wherever the posterior lies.  A flow ends in `SinhArcsinh`, by which the ends
    of each coordinate may be heavier or lighter than those of the noise.

    Args:
        model: any callable of sample statements.
        family: a conditional of a vector of all entries on the real line, or what builds it,
            `family(dim)`: `DiagonalNormal` (mean field), `FullRankNormal`,
            `partial(LowRankNormal, rank=2)`, `partial(IAF, num_layers=2)`, ...
        sites: the names of the sites; None: all but those under a mask (what `obs_mask` leaves
            out).  The others keep the model's own conditional.
        init: where it starts. "prior": median and spread of prior draws; "map": the mode on the
            real line, found from there; "laplace": the mode, with the covariance there as the
            spread (for `DiagonalNormal` the standard deviations that fit it best); {site: value}:
            these values.  None: "laplace" where all data are there and a prior is flat or some
            direction of at most 100 is a hundred times as curved as the prior, and there is a
            mode; else "prior".
        init_scale: the first standard deviation as a multiple of the spread (0.1, of a flow 0.3;
            for "laplace" 1).
        name: of its parameters; its vector is the auxiliary site "<name>.vector".

    Attributes:
        recipe: how `fit` trains it where nothing is said: `Recipe()`, of a flow with 16 particles,
            without which its spread comes out too small where a posterior is skewed.

    Cost:
        one draw of the family and the program down to its last latent site.  The first call also
        runs the program 64 times for prior draws; "map" and "laplace" optimize.

    Raises:
        ValueError: for bad arguments; for sites that are discrete, masked, in a subsampled plate,
            or whose support is not mapped to the real line; where a plate changes its size.

    References:
        Kucukelbir et al. (2017), arXiv:1603.00788; Rezende and Mohamed (2015), arXiv:1505.05770.

    Example:
        >>> def model(y):
        ...     mu = numpyro.sample("mu", numpyro.distributions.Normal(0.0, 5.0))
        ...     tau = numpyro.sample("tau", numpyro.distributions.HalfNormal(2.0))
        ...     with numpyro.plate("data", len(y)):
        ...         numpyro.sample("y", numpyro.distributions.Normal(mu, tau), obs=y)
        >>> draws = numpyro.handlers.seed(JointGuide(model), 0)(jnp.ones(3))
        >>> sorted(draws), bool(draws["tau"] > 0)
        (['mu', 'tau'], True)
    """

    def __init__(
        self,
        model: Callable,
        family: Any = FullRankNormal,
        *,
        sites: Iterable[str] | None = None,
        init: Init = None,
        init_scale: float | None = None,
        name: str = "latent",
        key: Array | None = None,
    ) -> None:
        part = self.part(family, sites=sites, init=init, init_scale=init_scale)
        super().__init__(model, [part], name=name, key=key)
        self.recipe = Recipe(num_particles=16) if _is_flow(family) else Recipe()

    @staticmethod
    def part(
        family: Any = FullRankNormal,
        *,
        sites: Iterable[str] | None = None,
        init: Init = None,
        init_scale: float | None = None,
    ) -> Callable[..., JointVector]:
        """The same as a part of a `Guide`."""
        check_init(init)
        if init_scale is not None:
            init_scale = check_number("init_scale", init_scale, above=0)
        return partial(joint_part, family=family, sites=sites, init=init, init_scale=init_scale)
