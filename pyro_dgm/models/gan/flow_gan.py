"""Flow-GAN:  x_n ~ flow: a generator with a density, trained by likelihood, by a critic, or by
both.
"""

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_count
from pyro_dgm.conditionals import Conditional
from pyro_dgm.flows import RealNVP
from pyro_dgm.models.parts import check_conditionals, check_fit, num_data
from pyro_dgm.nn import register


class FlowGAN(nn.Module):
    """A flow as the distribution of the data (Grover et al. 2018).

    Trained by `NLL()`, by `JensenShannon("x")`, or by a hybrid, `NLL() + 0.1 * JensenShannon("x")`,
    without a guide.

    Args:
        x_dim: the size of a datum.
        flow: of x, any conditional with a density whose draws are reparameterized (default
            RealNVP(x_dim)). Sites: x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, the flow or the data do not fit.

    References:
        Grover, Dhar and Ermon (2018), arXiv:1705.08868.

    Example:
        >>> FlowGAN(2).model(size=5).shape
        torch.Size([5, 2])
    """

    def __init__(self, x_dim: int, *, flow: Conditional | None = None) -> None:
        super().__init__()
        x_dim = check_count("x_dim", x_dim)
        check_conditionals(flow=flow)
        self.x_dim = x_dim
        self.flow = flow or RealNVP(x_dim)
        check_fit("flow", self.flow, (x_dim,), 0)

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        flow = register("flow", self.flow)
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            return pyro.sample("x", flow(), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> None:
        """Nothing: there are no latent sites."""
