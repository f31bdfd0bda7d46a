"""Terms for models that translate between domains without pairs, whose sites are each drawn from
the data of the other:  y' = G(x),  x' = F(y).

They run the user's model again on other arguments: on its own draws, on exchanged data.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_names, refuse
from dgm_core.exchanging import check_alike
from dgm_core.terms import sites_written, written
from numpyro_dgm.joints.exchanged import draws_at
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term

__all__ = ["Cycle", "Identity"]


class Cycle(Term):
    """|F(G(x)) - x| + |G(F(y)) - y|, the mean absolute difference of an entry: what comes back of
    the data after two translations.

    The translation there and back is the model run on its own draws: no network is handed to the
    term, and gradients reach both through both.

    Args:
        sites: two observed sites, each an argument of the model as it is.

    Logged:
        "Cycle(<sites>)", and of each site alone as "/<site>".

    Cost:
        one more run of the model, beside the one that other terms read.

    Raises:
        ValueError: for another number of sites, and one that observes no argument.

    References:
        Zhu et al. (2017), arXiv:1703.10593, equation 2.

    Example:
        >>> from numpyro_dgm.losses import Hinge
        >>> Hinge("x") + Hinge("y") + 10.0 * Cycle(("x", "y")) + 5.0 * Identity(("x", "y"))
        Hinge('x') + Hinge('y') + 10.0 * Cycle(('x', 'y')) + 5.0 * Identity(('x', 'y'))
    """

    guided = False

    def __init__(self, sites: tuple[str, str]) -> None:
        super().__init__()
        self.sites = check_names("sites", sites)
        if len(self.sites) != 2:
            refuse("sites", "the names of two sites", sites)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the sites."""
        return f"{type(self).__name__}({', '.join(self.sites)})"

    @property
    def details(self) -> tuple[str, ...]:  # type: ignore[override]
        """The sites."""
        return self.sites

    def arguments(self, real: Mapping[str, Array], fake: Mapping[str, Array]) -> dict[str, Array]:
        """What the model is run on, by site."""
        return dict(fake)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        pairs = {site: joints.samples((site,)) for site in self.sites}
        real = {site: pair[0] for site, pair in pairs.items()}
        again = draws_at(joints, self.arguments(real, {s: pair[1] for s, pair in pairs.items()}))
        parts = {site: jnp.abs(again[site] - real[site]).mean() for site in self.sites}
        one, two = parts.values()
        return one + two, parts

    def __repr__(self) -> str:
        return written(self, sites_written(self.sites))


class Identity(Cycle):
    """|F(x) - x| + |G(y) - y|, the mean absolute difference of an entry: data that are in a domain
    already are to stay.

    Among translations that all bring the data back it prefers those that change least: colors stay
    colors, and a linear map keeps its sign. F(x) and G(y) are the model run on exchanged data.

    Args:
        sites: as in Cycle, of one shape.

    Logged:
        "Identity(<sites>)", and of each site alone as "/<site>".

    Raises:
        ValueError: as Cycle, and for sites of different shapes.

    References:
        Zhu et al. (2017), arXiv:1703.10593, section 5.2.
    """

    def arguments(self, real: Mapping[str, Array], fake: Mapping[str, Array]) -> dict[str, Array]:
        """What the model is run on, by site."""
        one, two = self.sites
        check_alike(repr(self), self.sites, (tuple(real[one].shape), tuple(real[two].shape)))
        return {one: real[two], two: real[one]}
