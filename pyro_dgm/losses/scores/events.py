"""What terms on densities read of a site: its distribution, its values, what each counts."""

from typing import Any, NamedTuple

import torch
from pyro.distributions import Independent, constraints
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from dgm_core.energies import no_site, not_real
from pyro_dgm.compat import mask_of
from pyro_dgm.conditionals.energy import NormalizedDistribution
from pyro_dgm.conditionals.implicit import NoDensityError
from pyro_dgm.joints.joints import Joints
from pyro_dgm.joints.reading import log_density, seen_value
from pyro_dgm.joints.structure import random_sites

__all__: list[str] = []  # for terms of this folder, not for users


class Events(NamedTuple):
    """The values of a site, what their distribution is, and what each of them counts.

    fn: without wrappers, whose masks and event dimensions went into the weights;  value (*batch,
    *event);  weights (*batch,): scales and masks, so that sums of weights times something are over
    the whole data set;  data_size: N;  site: its name.
    """

    fn: Any
    value: Tensor
    weights: Tensor
    data_size: int
    site: str

    def per_datum(self, cost: Tensor) -> Tensor:
        """The weighted sum of a cost (*batch,), divided by N."""
        return (cost * self.weights).sum() / self.data_size

    def log_density(self, value: Tensor) -> Tensor:
        """log p of other values, up to a constant where it is not known."""
        try:
            return log_density(self.fn, value)
        except NoDensityError as error:
            raise error.at(self.site) from error


def check_real(term: str, site: str, found: Events) -> Events:
    """The same; raises ValueError for a site whose values are not all real numbers."""
    support = found.fn.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support is not constraints.real and support is not constraints.real_vector:
        raise ValueError(not_real(term, site, str(found.fn.support)))
    return found


def events(joints: Joints, name: str, *, whole: bool = False) -> Events:
    """Those of a site of the model: what was observed, or what the guide drew, detached; `whole`
    as the site states them, not entry by entry where these are independent.

    Raises:
        ValueError: for a site that the model has not.
    """
    trace, _ = joints.alone()
    sites = random_sites(trace)
    if name not in sites:
        raise ValueError(no_site(name, sites))
    site = sites[name]
    fn, value = site["fn"], seen_value(site).detach()
    value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
    batch = torch.broadcast_shapes(fn.batch_shape, value.shape[: value.ndim - fn.event_dim])
    value = value.expand(batch + value.shape[value.ndim - fn.event_dim :])
    ones = torch.ones(batch, dtype=value.dtype, device=value.device)
    weights = scale_and_mask(ones, site["scale"], site["mask"])
    while hasattr(fn, "base_dist") or isinstance(fn, NormalizedDistribution):
        if (mask := mask_of(fn)) is not None:
            weights = weights * mask
        if isinstance(fn, Independent):
            if whole:
                break
            own = fn.reinterpreted_batch_ndims
            weights = weights.reshape(weights.shape + (1,) * own)
        fn = fn.unnormalized if isinstance(fn, NormalizedDistribution) else fn.base_dist
    weights = weights.expand(value.shape[: value.ndim - len(fn.event_shape)])
    return Events(fn, value, weights, joints.data_size, name)
