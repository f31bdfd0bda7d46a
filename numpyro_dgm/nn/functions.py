"""Networks that are functions: of one value alone, and the same at every call."""

from typing import Any

import equinox as eqx
import jax

from dgm_core.matching import no_function
from numpyro_dgm.nn.image_layers import ConditionalBatchNorm, MinibatchStdDev
from numpyro_dgm.nn.layers import BatchNorm, Dropout
from numpyro_dgm.nn.weights import SpectralNorm

__all__: list[str] = []  # for velocities and energies, not for users

_NORMS = BatchNorm, ConditionalBatchNorm, MinibatchStdDev, SpectralNorm, eqx.nn.BatchNorm
_KINDS = (*_NORMS, Dropout, eqx.nn.Dropout)


def check_function(what: str, net: Any) -> Any:
    """A network that is a function of each value that it is called with; ValueError for another
    one."""
    for part in jax.tree.leaves(net, is_leaf=lambda part: isinstance(part, _KINDS)):
        rate = getattr(part, "rate", getattr(part, "p", None))
        if isinstance(part, _KINDS) and (isinstance(part, _NORMS) or rate != 0):
            raise ValueError(no_function(what, type(part).__name__))
    return net
