"""Resampling as arithmetic of indices: effective sample sizes and ancestors."""

import math

import torch
from torch import Tensor

from dgm_core.resampling import Resampling
from pyro_dgm.compat import tree_map

__all__: list[str] = []  # for the package, not for users


def log_mean_weight(log_w: Tensor) -> Tensor:
    """log 1/K sum_k w_k, (num_particles, *data) -> (*data)."""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def effective_size(log_w: Tensor) -> Tensor:
    """(sum_k w_k)^2 / sum_k w_k^2, a constant, (num_particles, *data) -> (*data); zero where all
    weights are.
    """
    weights = torch.softmax(log_w.detach(), 0)
    size = 1 / (weights**2).sum(0)
    return torch.where((log_w == -math.inf).all(0), torch.zeros_like(size), size)


def ancestors(log_w: Tensor, uniforms: Tensor, scheme: str) -> Tensor:
    """Whom each particle follows: indices, each particle k about K w_k / sum_j w_j times.

    The cumulative weights are inverted at points of [0, 1): K independent ones for "multinomial",
    one in each K-th for "stratified", all moved by one number for "systematic"; "residual" takes
    the whole part of K w_k as it is, and draws for the rest. A particle without weight has no
    descendants; where none has any, all count alike.

    Shapes:
        log_w (num_particles, *data), uniforms (`Resampling.num_uniforms`, *data) ->
        (num_particles, *data).
    """
    log_w, num = log_w.detach(), len(log_w)
    log_w = torch.where((log_w == -math.inf).all(0), torch.zeros_like(log_w), log_w)
    weights = torch.softmax(log_w, 0).movedim(0, -1)  # (*data, num_particles)
    slots = torch.arange(num, dtype=log_w.dtype, device=log_w.device)
    points = uniforms.to(log_w.dtype).movedim(0, -1).expand(weights.shape)
    if scheme in ("stratified", "systematic"):
        points = (slots + points) / num
    if scheme != "residual":
        return _inverted(weights, points).movedim(-1, 0)
    copies = (num * weights).floor()
    drawn = _inverted(num * weights - copies, points)
    total = copies.cumsum(-1)
    kept = torch.searchsorted(total, slots.expand(weights.shape).contiguous(), right=True)
    return torch.where(slots < total[..., -1:], kept, drawn).movedim(-1, 0)


def followed(state: object, index: Tensor) -> object:
    """A tree of arrays (num_particles, *data, ...), each particle replaced by its ancestor."""

    def follow(x: Tensor) -> Tensor:
        lead = torch.broadcast_shapes(x.shape[: index.ndim], index.shape)
        x = x.expand(*lead, *x.shape[index.ndim :])
        own = index.expand(lead).reshape(*lead, *[1] * (x.ndim - index.ndim))
        return torch.take_along_dim(x, own, 0)

    return tree_map(follow, state)


def resampled(
    log_w: Tensor, uniforms: Tensor, rule: Resampling, active: Tensor | bool
) -> tuple[Tensor, Tensor]:
    """Which data are resampled (*data), those among the active whose effective sample size is
    below the threshold; and whom their particles follow, all others themselves.
    """
    itself = torch.arange(len(log_w), device=log_w.device)
    itself = itself.reshape(-1, *[1] * (log_w.ndim - 1)).expand(log_w.shape)
    size = effective_size(log_w)
    chosen = (size > 0) & (size < rule.threshold(len(log_w))) & active
    if not rule.happens:
        return chosen, itself
    return chosen, torch.where(chosen, ancestors(log_w, uniforms, rule.scheme), itself)


def _inverted(weights: Tensor, points: Tensor) -> Tensor:
    """The first index whose cumulative weight, of a total of one, lies above a point of [0, 1)."""
    total = weights.cumsum(-1)
    last = total[..., -1:]
    total = total / torch.where(last > 0, last, torch.ones_like(last))
    below_one = 1 - torch.finfo(points.dtype).eps / 2
    found = torch.searchsorted(total, points.clamp(max=below_one).contiguous(), right=True)
    return found.clamp(max=weights.shape[-1] - 1)
