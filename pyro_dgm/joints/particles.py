"""How many particles are run: at once, or one after the other where that cannot be."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor

from dgm_core.enumeration import Enumeration
from pyro_dgm.conditionals import NoDensityError
from pyro_dgm.joints.handlers import ParticlePlate
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.structure import Structure, Trace, random_sites

__all__: list[str] = []  # for the package, not for users

_PARTS = ("log_likelihood", "log_prior", "log_posterior")


@dataclass(frozen=True)
class Plan:
    """How arguments of one form are run: at once or not, the particles in dimension
    -(batch_ndim + 1), the sites in `shared` drawn once for all of them, the values of enumerated
    sites numbered as `enumeration` says."""

    at_once: bool
    batch_ndim: int
    shared: tuple[str, ...] = ()
    enumeration: Enumeration | None = None

    def particles(self, num_particles: int) -> ParticlePlate:
        """The handler that draws every latent site so often."""
        return ParticlePlate(num_particles, self.batch_ndim, shared=self.shared)


def shared_sites(structure: Structure, share_globals: bool) -> tuple[str, ...]:
    """The latents that are drawn once for all particles: the global ones of a minibatch."""
    return structure.global_sites if share_globals and structure.subsampled else ()


def signature(value: Any) -> Hashable:
    """The form of arguments: shapes and types of arrays, types of numbers, the rest as it is."""
    if isinstance(value, Mapping):
        return tuple((key, signature(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(signature, value))
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return tuple(value.shape), str(value.dtype)
    return value if isinstance(value, bool | str | None) else type(value).__name__


def draws_of_particle(trace: Trace, index: int, single: Trace) -> dict[str, Tensor]:
    """What one particle drew in a run of several, shaped as in the run of a single one."""
    found = {}
    for name, site in random_sites(trace).items():
        value, like = site["value"], single.nodes[name]["value"]
        if not isinstance(site["fn"], Delta):  # which follows from the other draws
            found[name] = (value if value.numel() == like.numel() else value[index]).reshape(
                like.shape
            )
    return found


def agree(together: InferenceJoint, alone: Sequence[InferenceJoint]) -> bool:
    """Whether particles have the same log-densities in one run as each by itself.

    A guide that draws a single site cannot mix its particles, and what can only score its own draws
    is not asked.
    """
    parts = _PARTS if len(together.latent_sites) > 1 else _PARTS[:2]
    for part in (*parts, *(f"global_{part}" for part in parts)):
        try:
            expected = torch.cat([getattr(joint, part) for joint in alone])
            found = getattr(together, part).expand(expected.shape)
        except NoDensityError:
            continue
        except Exception:
            if part.endswith("posterior"):
                continue
            raise
        largest = expected.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
        if not torch.allclose(found, expected, 1e-3, 1e-3 * (1 + largest), equal_nan=True):
            return False
    return True
