"""Two normal distributions made one, for guides that run from the top of a hierarchy down:  what a
layer's own evidence says, and what the layers above expect.
"""

from typing import Any

import torch
from pyro import distributions as dist

from pyro_dgm.conditionals.product import normal_of, product_of_normals

__all__ = ["merge", "residual"]


def merge(
    evidence: dist.TorchDistribution, prior: dist.TorchDistribution
) -> dist.TorchDistribution:
    """The product of two normal distributions with independent entries, the posterior under `prior`
    of what `evidence` says:  1 / s^2 = 1 / s_e^2 + 1 / s_p^2,  mu = s^2 (mu_e / s_e^2 + mu_p /
    s_p^2).

    Shapes:
        batch shapes that broadcast, and one event shape.

    Raises:
        ValueError: for other distributions.

    References:
        Sonderby et al. (2016), arXiv:1602.02282, eq. (17) and (18).

    Example:
        >>> zero, one = torch.tensor(0.0), torch.tensor(1.0)
        >>> merged = merge(dist.Normal(one, 0.5), dist.Normal(zero, 1.0))
        >>> round(merged.mean.item(), 4), round(merged.variance.item(), 4)
        (0.8, 0.2)
    """
    parts = (*normal_of("merge", evidence), *normal_of("merge", prior))
    loc, scale, prior_loc, prior_scale = torch.broadcast_tensors(*parts)
    found = product_of_normals(loc[None], scale[None], prior_loc, prior_scale)
    return _normal(*found, evidence.event_dim)


def residual(
    relative: dist.TorchDistribution, prior: dist.TorchDistribution
) -> dist.TorchDistribution:
    """A normal distribution said relative to a prior:  mu = mu_p + mu_r,  s = s_p s_r.

    At Normal(0, 1) it is the prior: a layer that says nothing has no KL.

    Shapes:
        batch shapes that broadcast, and one event shape.

    Raises:
        ValueError: for other distributions.

    References:
        Vahdat and Kautz (2020), arXiv:2007.03898, section 3.2.

    Example:
        >>> prior = dist.Normal(torch.tensor(0.4), 0.6)
        >>> found = residual(dist.Normal(torch.tensor(0.3), 0.5), prior)
        >>> round(found.mean.item(), 4), round(found.variance.item(), 4)
        (0.7, 0.09)
    """
    loc, scale = normal_of("residual", relative)
    prior_loc, prior_scale = normal_of("residual", prior)
    return _normal(prior_loc + loc, prior_scale * scale, relative.event_dim)


def _normal(loc: Any, scale: Any, event_dim: int) -> dist.TorchDistribution:
    return dist.Normal(loc, scale).to_event(event_dim)
