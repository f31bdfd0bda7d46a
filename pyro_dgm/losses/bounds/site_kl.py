"""The KL parts of single latent sites, weighed one by one.

With weights beta_l and free bits lambda_l the objective is E_q [log p(x | z)] - sum_l beta_l
max(KL_l, lambda_l), with KL_l the mean over the batch. It is no bound where lambda_l > KL_l, and
its gradient is that of the bound without the parts that are below their free bits.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dgm_core.schedules import weight_of
from dgm_core.site_weights import check_weighed, is_named, named_sites, only_local
from pyro_dgm.joints.inference import InferenceJoint

__all__: list[str] = []  # for the package, not for users


class SiteKL:
    """The KL parts of the sites that are told apart, of one joint.

    Args:
        joint: of guide and model.
        kl_of: (name) -> the KL part of a site, (num_particles, *sizes), or of a global one
            (num_particles, 1, ..., 1).
        beta, free_bits: a weight of all sites, or one for each.
        step: what schedules see.

    Attributes:
        parts: by site, as `kl_of` gives them;  means: by site, nats per datum, numbers.
    """

    def __init__(
        self,
        joint: InferenceJoint,
        kl_of: Callable[[str], Tensor],
        beta: Any,
        free_bits: Any,
        step: int | Tensor,
    ) -> None:
        own = [name for name in joint.model_sites if name in joint.structure.local_sites]
        names = named_sites(beta, free_bits)
        if not is_named(free_bits) and (callable(free_bits) or free_bits != 0):
            names = (*names, *(name for name in own if name not in names))
            free_bits = dict.fromkeys(own, free_bits)
        fixed = [name for name in names if name in joint.latent_sites and joint.is_determined(name)]
        check_weighed(names, joint.model_sites, joint.summed_sites, fixed)
        self.free_bits = free_bits if is_named(free_bits) else {}
        if outside := set(self.free_bits) - set(own):
            raise ValueError(only_local(outside))
        self.joint, self.beta, self.step = joint, beta, step
        self.parts = {name: kl_of(name) for name in names}
        self.means = {name: self._per_datum(name).mean() for name in names}

    def weighed(self, local: Tensor, shared: Tensor | float) -> tuple[Tensor, Tensor | float]:
        """The whole KL part (of local and of global sites) with beta."""
        if not is_named(self.beta):
            beta = weight_of(self.beta, self.step)
            return beta * local, beta * shared
        more = {name: self._beta(name) - 1 for name in self.beta}
        return self._added(local, shared, more)

    def freed(self, local: Tensor, shared: Tensor | float) -> tuple[Tensor, Tensor | float]:
        """The same without what lies below its free bits."""
        local, shared = self.weighed(local, shared)
        more = {
            name: -self._beta(name)
            * (self.means[name] < weight_of(bits, self.step)).to(local.dtype)
            for name, bits in self.free_bits.items()
        }
        return self._added(local, shared, more)

    def per_datum(self, local: Tensor, shared: Tensor | float) -> Tensor:
        """Local and global parts together, (num_particles,)."""
        return self.joint.per_datum(self.joint.expected(local), shared)

    def counted(self, kl: Tensor) -> Tensor:
        """The whole KL part (a number) as it counts with free bits, each site at least these."""
        for name, bits in self.free_bits.items():
            kl = kl + (weight_of(bits, self.step) - self.means[name]).clamp(min=0.0)
        return kl

    def _beta(self, name: str) -> Any:
        beta = self.beta.get(name, 1.0) if is_named(self.beta) else self.beta
        return weight_of(beta, self.step)

    def _per_datum(self, name: str) -> Tensor:
        part = self.parts[name]
        if name in self.joint.structure.local_sites:
            return self.joint.per_datum(self.joint.expected(part))
        return part.reshape(-1) / self.joint.data_size

    def _added(
        self, local: Tensor, shared: Tensor | float, more: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor | float]:
        for name, factor in more.items():
            if name in self.joint.structure.local_sites:
                local = local + factor * self.parts[name]
            else:
                shared = shared + factor * self.parts[name]
        return local, shared
