"""A cost of the weights of a network, whatever the data."""

from torch import Tensor

from dgm_core.arguments import check_name
from dgm_core.terms import written
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.base import Term
from pyro_dgm.nn import orthogonal_penalty

__all__ = ["OrthogonalPenalty"]


class OrthogonalPenalty(Term):
    """The sum over all weights W (out, all else) of a network of the squared entries of W W' off
    its diagonal, `orthogonal_penalty`: rows that differ, whatever their lengths.

    `Hinge("x", critic) + 1e-4 * OrthogonalPenalty("generator")` makes a generator smooth, so that
    codes from the middle of the prior give good draws (the truncation trick).

    Args:
        network: the name that model or guide registers it under.

    Logged:
        "OrthogonalPenalty(<network>)".

    Cost:
        of each weight the product with its transpose.

    Raises:
        ValueError: for a name under which nothing is registered.

    References:
        Brock, Donahue and Simonyan (2019), arXiv:1809.11096, equation 3.

    Example:
        >>> OrthogonalPenalty("generator")
        OrthogonalPenalty('generator')
    """

    guided = False

    def __init__(self, network: str) -> None:
        super().__init__()
        self.network = check_name("network", network)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the network."""
        return f"{type(self).__name__}({self.network})"

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return orthogonal_penalty(joints.network(self.network)), {}

    def __repr__(self) -> str:
        return written(self, repr(self.network))
