"""Flow matching: the velocity of a continuous flow as a regression on straight lines from noise to
data.
"""

from typing import Any

import torch
from torch import Tensor

from dgm_core.matching import no_pairs, only_continuous
from pyro_dgm.flows.continuous import ContinuousTransform
from pyro_dgm.flows.transform import Transform
from pyro_dgm.nn.assignment import assignment

__all__: list[str] = []  # for the package, not for users


def matching_error(flow: Any, value: Tensor, coupling: str) -> Tensor:
    """|v(t, x_t) - (x_1 - x_0)|^2 with x_t = (1 - t) x_0 + t x_1, one time and one noise for each
    datum, (*batch,); x_0 and x_1 are what the transforms beside the continuous one make of noise
    and data, without gradient.
    """
    index = only_continuous([isinstance(t, ContinuousTransform) for t in flow.transforms])
    event_dim = len(flow.event_shape)
    batch = torch.broadcast_shapes(value.shape[: value.ndim - event_dim], flow.batch_shape)
    with torch.no_grad():
        noise = drawn_noise(flow, batch)
        data = value.expand(*batch, *flow.event_shape)
        noise = _through(flow.transforms[:index], noise, flow.context, forward=True)
        data = _through(flow.transforms[index + 1 :], data, flow.context, forward=False)
        if coupling == "optimal":
            noise = paired(noise, data, event_dim, flow.context)
        t = times(data, event_dim)
        wide = t.reshape(t.shape + (1,) * event_dim)
        here = (1 - wide) * noise + wide * data
    velocity = flow.transforms[index].velocity(here, t, flow.context)
    return (velocity - (data - noise)).square().flatten(len(batch)).sum(-1)


def drawn_noise(flow: Any, batch: torch.Size) -> Tensor:
    """What the flow draws from, (*batch, *event)."""
    return flow.base.expand(batch).sample()


def times(like: Tensor, event_dim: int) -> Tensor:
    """One time in [0, 1] for each datum, (*batch,): uniform each, and evenly spread together."""
    batch = like.shape[: like.ndim - event_dim]
    place = torch.arange(batch.numel(), dtype=like.dtype, device=like.device)
    start = torch.rand((), dtype=like.dtype, device=like.device)
    return (place / max(len(place), 1) + start).remainder(1.0).reshape(batch)


def paired(noise: Tensor, data: Tensor, event_dim: int, context: Any) -> Tensor:
    """The noise in another order, that of the least sum of squared distances to the data."""
    if context is not None:
        raise ValueError(no_pairs("a context"))
    x, y = (v.reshape(-1, *v.shape[v.ndim - event_dim :]).flatten(1) for v in (data, noise))
    costs = (x**2).sum(-1)[:, None] - 2 * x @ y.mT + (y**2).sum(-1)
    return y[assignment(costs)].reshape(data.shape)


def _through(
    transforms: tuple[Transform, ...], value: Tensor, context: Any, *, forward: bool
) -> Tensor:
    for transform in transforms if forward else transforms[::-1]:
        move = transform.forward_and_log_det if forward else transform.inverse_and_log_det
        value = move(value, context)[0]
    return value
