"""The private parts of the libraries that this package uses: no other file of it uses one.

`PRIVATE` names each of them by its owner, and `INHERITED` what subclasses of the libraries' classes
use of themselves; the tests look for all of them in the installed versions. Supported are the
versions in `pyproject.toml`.
"""

from typing import Any

import numpyro
from jax._src import xla_bridge
from numpyro.distributions import MaskedDistribution

__all__: list[str] = []  # for the package, not for users

PRIVATE: dict[str, tuple[str, ...]] = {
    "jax._src.xla_bridge": ("backends_are_initialized",),
    "numpyro.optim": ("_NumPyroOptim",),
    "numpyro.distributions.Distribution": ("_validate_args",),
    "numpyro.distributions.MaskedDistribution": ("_mask",),
    "a site in a scan": ("_control_flow_done",),
}
INHERITED: dict[str, tuple[str, ...]] = {}

NumPyroOptim = numpyro.optim._NumPyroOptim


def validates(fn: Any) -> bool:
    """Whether nobody has switched off validation of a distribution."""
    while fn._validate_args is not False and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn._validate_args is not False


def mask_of(fn: Any) -> Any:
    """The mask that a distribution lies under; None for any but a MaskedDistribution."""
    return fn._mask if isinstance(fn, MaskedDistribution) else None


def is_scanned(site: dict[str, Any]) -> bool:
    """Whether a site comes from the body of a scan, which has already drawn it."""
    return bool(site.get("_control_flow_done"))


def jax_is_running() -> bool:
    """Whether this process has used JAX, which starts its threads."""
    return xla_bridge.backends_are_initialized()
