"""Flow matching: continuous flows trained without solving their equation."""

from dgm_core.arguments import check_choice
from dgm_core.matching import COUPLINGS
from dgm_core.terms import Asked, written
from pyro_dgm.losses.objectives import Objective

__all__ = ["FlowMatching"]


class FlowMatching(Objective):
    """E |v(t, x_t) - (x_1 - x_0)|^2,  x_t = (1 - t) x_0 + t x_1,  t uniform on [0, 1],  x_1 the
    value of a site, x_0 the noise of its flow: least where v carries the noise to the data.

    For a site of a `Flow` with one `ContinuousTransform`, the model's, the guide's, or both. It is
    no bound on the likelihood, and its least value is not zero. One time is drawn for each datum,
    the times of a batch evenly spread. Nothing but the velocity, and what its context comes from,
    is trained: values and noise are taken as they are, also through the transforms beside it.

    Args:
        site: a latent or observed one.
        coupling: of noise and data: "independent", or "optimal", which pairs those of a batch so
            that the squared distances sum to the least: straighter paths and less noise. Not with
            contexts or masks, which it would bias.

    Logged:
        "FlowMatching(<site>)", the squared error summed over the entries, per datum.

    Cost:
        one pass of the network, and for "optimal" the assignment, O(batch^3) on the processor.

    Raises:
        ValueError: for another coupling, a site without such a flow, and "optimal" with contexts or
            masks.

    References:
        Lipman et al. (2023), arXiv:2210.02747; Tong et al. (2024), arXiv:2302.00482.

    Example:
        >>> FlowMatching("x", coupling="optimal")
        FlowMatching('x', coupling='optimal')
    """

    def __init__(self, site: str, *, coupling: str = "independent") -> None:
        super().__init__(site)
        self.coupling = check_choice("coupling", coupling, COUPLINGS)
        options = (("coupling", self.coupling),)
        whole = self.coupling == "optimal"
        self.objectives = (Asked(self.site, "flow_matching", options, whole=whole),)

    def __repr__(self) -> str:
        return written(self, repr(self.site), coupling="independent")
