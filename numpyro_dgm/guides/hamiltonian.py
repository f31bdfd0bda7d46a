"""Draws of a guide moved by Hamiltonian dynamics towards the posterior:

e_0 ~ q0,  v_0 ~ Normal(0, I);  (e_T, v_T) by leapfrog steps;  the model extended by r(v_T | z_T).
"""

from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any

import jax
from jax import Array
from numpyro import handlers

from dgm_core.arguments import check_count, check_flag, check_number
from dgm_core.guides import LatentSite, Outline
from dgm_core.hamiltonian import (
    Draw,
    changed_draws,
    check_base,
    check_bounds,
    check_movable,
    check_statistics,
    check_steps,
    moved_together,
)
from numpyro_dgm.guides.amortized import LocalSites
from numpyro_dgm.guides.base import Guide
from numpyro_dgm.guides.joint import JointVector
from numpyro_dgm.guides.motion import Motion
from numpyro_dgm.guides.passes import First, Position
from numpyro_dgm.guides.program import Call, aside, run_program
from numpyro_dgm.guides.supports import has_bounds

__all__ = ["HamiltonianGuide"]


def motion_part(
    guide: Guide,
    outline: Outline,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    base: Guide,
    key: Array | None = None,
    **settings: Any,
) -> Motion:
    """The momenta of all draws of a base: see `HamiltonianGuide`."""
    known = (JointVector, LocalSites)
    parts = base.prepare(*args, **kwargs).parts
    check_base([type(p).__name__ for p in parts if p.reverses or not isinstance(p, known)])
    check_movable(outline)
    found: list[tuple[First, Position, bool]] = []

    def run() -> None:
        with aside(base.model), handlers.seed(rng_seed=0):
            sites = handlers.trace(base.model).get_trace(*args, **kwargs).values()
            call = base.called(args, kwargs)
            first = First()
            with first:
                run_program(base.model, call, call.answers())
        moving = any(site["type"] == "mutable" for site in sites)
        found.append((first, Position(first, []), moving))

    jax.eval_shape(run)
    first, position, moving = found[0]
    check_statistics(moving)
    check_bounds(name for name, fn in first.fns.items() if has_bounds(fn))
    draws = [Draw(name, first.dims[name], position.width(name)) for name in first.fns]
    vectors = {i: part for i, part in enumerate(base.parts) if isinstance(part, JointVector)}
    answered = {number: part.answers for number, part in vectors.items()}
    groups = moved_together(draws, outline, answered)
    sizes = [
        sum(len(vectors[number].shift) for number in group.vectors)
        + sum(outline.sites[name].num_seen for name in group.sees)
        for group in groups
    ]
    return Motion(base.name, groups, sizes, key=key, **settings)


class HamiltonianGuide(Guide):
    """The draws of a base guide moved by leapfrog steps of Hamiltonian dynamics:

    e ~ q0, v ~ Normal(0, I);  T steps of v += s f(e) / 2, e += s v, v += s f(e) / 2;  z = z(e_T),

    with the force f = g / sqrt(1 + |g|^2 / c^2), where g is the gradient of log p(x, z(e)) |dz/de|.
    Each step keeps volume, whatever f, so that the guide is scored by
    log p(x, z_T) + log r(v_T | z_T) - log q0(e_0) - log Normal(v_0; 0, I): the model is extended by
    the reverse model r, a network that starts at the standard normal, so that training starts near
    the bound of the base.  Steps are learned, one size for each coordinate of e.

    Draws in the same plates share a momentum there.  The force on local draws is that of a datum
    (N / B divided out) and is bounded datum by datum; r of the momentum of a datum sees its latents
    and the global ones before it.

    Args:
        base: a `JointGuide`, an `AmortizedGuide`, or a `Guide` of such parts.
        num_steps: T.
        step_size: the first size of the steps, in units of what the base draws: of a joint vector
            its learned scale, of amortized latents one.
        max_step: what sizes stay below.
        max_force: c; infinity for none, which may explode.
        reverse: the family of r; None: a normal, with all covariances up to 32 entries.
        annealed: steps towards densities between q0 and the posterior, q0^(1 - b) p^b with learned
            b_1 < ... < b_T, and a partial refreshment v' = h v + sqrt(1 - h^2) noise between them;
            there is no network: r is a standard normal.

    Attributes:
        base: the base guide.
        recipe: how `fit` trains it where nothing is said, that of the base.

    Cost:
        the base twice, and T + 1 gradients of the model's log-density, of which training takes
        gradients in turn; the estimators "stl" and "dreg" run the guide again.

    Raises:
        ValueError: for bad arguments; for bases that draw more than their model already; for
            latents that are discrete, masked, in a scan or not mapped to the real line, and for
            those outside a subsampled plate; for draws of the base inside bounds of their own; for
            models with running statistics.

    References:
        Salimans, Kingma and Welling (2015), arXiv:1410.6460; annealed: Thin et al. (2021),
        arXiv:2106.15921, Geffner and Domke (2021), arXiv:2107.04150.

    Example:
        >>> from numpyro_dgm import VAE
        >>> from numpyro_dgm.guides import AmortizedGuide
        >>> keys = jax.random.split(jax.random.key(0))
        >>> vae = VAE(4, 2, hidden=(8,), key=keys[0])
        >>> base = AmortizedGuide(vae.model, vae.encoder, {"z": vae.posterior})
        >>> guide = HamiltonianGuide(base, key=keys[1])
        >>> numpyro.handlers.seed(guide, 0)(jnp.ones((3, 4)))["z"].shape
        (3, 2)
    """

    def __init__(
        self,
        base: Guide,
        *,
        num_steps: int = 3,
        step_size: float = 0.1,
        max_step: float = 0.5,
        max_force: float = 20.0,
        reverse: Any = None,
        annealed: bool = False,
        key: Array | None = None,
    ) -> None:
        if not isinstance(base, Guide) or isinstance(base, HamiltonianGuide):
            raise ValueError(
                "base must be a guide that is made of parts, such as JointGuide(model), got "
                f"{type(base).__name__}."
            )
        step_size, max_step = check_steps(step_size, max_step)
        if check_flag("annealed", annealed) and reverse is not None:
            raise ValueError("annealed=True has no reverse model: leave reverse out.")
        settings = {
            "num_steps": check_count("num_steps", num_steps),
            "step_size": step_size,
            "max_step": max_step,
            "max_force": inf if max_force == inf else check_number("max_force", max_force, above=0),
            "reverse": reverse,
            "annealed": annealed,
        }
        part = partial(motion_part, base=base, **settings)
        super().__init__(base.model, [part], name=f"{base.name}.hamiltonian", key=key)
        self.base = base
        self.recipe = base.recipe

    def called(self, args: tuple, kwargs: Mapping[str, Any]) -> Call:
        """A call with these arguments, before anything is drawn."""
        call = super().called(args, kwargs)
        call.parts = (*self.base.called(args, kwargs).parts, *call.parts)
        return call

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Array]:
        """Draws the latent sites of the model, by name."""
        call = self.called(args, kwargs)
        check_movable(call.outline)
        motion: Any = call.parts[-1]
        first = First()
        with first:
            answer = call.answers()

            def begun(site: LatentSite, fn: Any) -> Any:
                motion.draw(call, site)
                return answer(site, fn)

            run_program(self.model, call, begun)
            motion.draw(call, None)
        check_movable(call.outline, call.masked)  # by a mask that this run brings
        known = [*(n for g in motion.groups for n in g.names), *map(motion.momentum, motion.groups)]
        if set(known) != first.fns.keys():
            raise ValueError(changed_draws(first.fns, known))
        moves = motion.moved(self.model, call, first)
        again = call.again()
        with moves.given(call.outline.sites):
            run_program(self.model, again, moves.answered(again, again.answers()))
        moves.state(again, None)
        return {name: again.values[name] for name in call.outline.sites if name in again.values}
