"""What the paths of a continuous flow cost: short and straight ones need few steps."""

from typing import ClassVar

from jax import Array

from dgm_core.terms import Asked
from numpyro_dgm.losses.objectives import Objective

__all__ = ["JacobianNorm", "KineticEnergy"]


class KineticEnergy(Objective):
    """E int_0^1 |v(t, x(t))|^2 dt along the path of a continuous flow to the value of a site.

    `NLL() + 0.01 * KineticEnergy("x") + 0.01 * JacobianNorm("x")` trains flows that are as good
    and need fewer steps.

    Args:
        site: of a `Flow` with a `ContinuousTransform`.

    Logged:
        "KineticEnergy(<site>)", per datum.

    Cost:
        none beside the density of an observed site, which comes from the same solution; one more
        solution for a site that the guide draws.

    Raises:
        ValueError: for a site without such a flow.

    References:
        Finlay et al. (2020), arXiv:2002.02798.

    Example:
        >>> 0.01 * KineticEnergy("x")
        0.01 * KineticEnergy('x')
    """

    part: ClassVar[str] = "kinetic"

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.objectives = (Asked(self.site, "transport_costs"),)

    def chosen(self, parts: dict[str, Array]) -> list[Array]:
        """The one that is minimized."""
        return [parts[self.part]] if parts else []


class JacobianNorm(KineticEnergy):
    """E int_0^1 |dv/dx|^2 dt along the path of a continuous flow to the value of a site; |.|^2 the
    sum over the entries of a matrix, estimated by the probes of the trace where that is.

    Args:
        site: of a `Flow` with a `ContinuousTransform`.

    Logged:
        "JacobianNorm(<site>)", per datum.

    Cost:
        as `KineticEnergy`.

    Raises:
        ValueError: for a site without such a flow.

    References:
        Finlay et al. (2020), arXiv:2002.02798.

    Example:
        >>> 0.01 * JacobianNorm("x")
        0.01 * JacobianNorm('x')
    """

    part: ClassVar[str] = "jacobian"
