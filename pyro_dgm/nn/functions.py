"""Networks that are functions: of one value alone, and the same at every call."""

from typing import Any

from torch import nn

from dgm_core.matching import no_function
from pyro_dgm.compat import is_batch_norm
from pyro_dgm.nn.image_layers import MinibatchStdDev
from pyro_dgm.nn.weights import SpectralNorm

__all__: list[str] = []  # for velocities and energies, not for users


def check_function(what: str, net: Any) -> Any:
    """A network that is a function of each value that it is called with; ValueError for another
    one."""
    for part in net.modules() if isinstance(net, nn.Module) else ():
        drops = isinstance(part, nn.Dropout | nn.Dropout1d | nn.Dropout2d) and part.p > 0
        if is_batch_norm(part) or drops or isinstance(part, MinibatchStdDev | SpectralNorm):
            raise ValueError(no_function(what, type(part).__name__))
    return net
