"""Flow-GAN:  x_n ~ flow: a generator with a density, trained by likelihood, by a critic, or by
both.
"""

import equinox as eqx
import numpyro
from jax import Array

from dgm_core.arguments import check_count
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.flows import RealNVP
from numpyro_dgm.models.parts import check_conditionals, check_fit, num_data, outline
from numpyro_dgm.nn import register


class FlowGAN(eqx.Module):
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
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     FlowGAN(2, key=jax.random.key(0)).model(size=5).shape
        (5, 2)
    """

    x_dim: int = eqx.field(static=True)
    flow: Conditional

    def __init__(self, x_dim: int, *, flow: Conditional | None = None, key: Array) -> None:
        x_dim = check_count("x_dim", x_dim)
        check_conditionals(flow=flow)
        self.x_dim = x_dim
        self.flow = flow or RealNVP(x_dim, key=key)
        check_fit("flow", self.flow, (x_dim,), 0)

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        flow = register("flow", self.flow)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            return numpyro.sample("x", flow(), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> None:
        """Nothing: there are no latent sites."""
