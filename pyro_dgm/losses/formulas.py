"""The formulas behind the losses: plain functions of arrays, without models, guides or traces.

Shapes:
    particles lead, then the data: log_w (num_particles, *data).
"""

import math

import torch
from torch import Tensor

__all__ = [
    "attach_gradient",
    "iwae_bound",
    "leave_one_out_mean",
    "normalized_weights",
    "vimco_signal",
]


def attach_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """The number `value` with the gradient of `surrogate`: value and gradient of an estimator in
    one array.

    Shapes:
        value and surrogate (*batch) -> (*batch).  The value is exact: s - stop(s) is zero for every
        finite s.
    """
    return value.detach() + (surrogate - surrogate.detach())


def iwae_bound(log_w: Tensor) -> Tensor:
    """L_K = log 1/K sum_k w_k, at most log p(x) in expectation and not decreasing in K.

    Shapes:
        log_w (num_particles, *data) -> (*data).

    References:
        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519, eq. (8).
    """
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])


def normalized_weights(log_w: Tensor) -> Tensor:
    """w_k / sum_j w_j, a constant: no gradient flows.  Shapes: (num_particles, *data) ->
    (num_particles, *data).
    """
    return torch.softmax(log_w.detach(), 0)


def leave_one_out_mean(values: Tensor, dim: int = 0) -> Tensor:
    """The mean of all the other entries along `dim`, (sum - own) / (n - 1): a baseline that does
    not see its own draw.

    With a single entry there are no others and the baseline is zero.
    """
    n = values.shape[dim]
    if n == 1:
        return torch.zeros_like(values)
    return (values.sum(dim, keepdim=True) - values) / (n - 1)


def vimco_signal(log_w: Tensor) -> Tensor:
    """L_K - L_K without particle k, its weight replaced by the geometric mean of the others; a
    constant.

    The learning signal of the score-function gradient of the IWAE bound.  Shapes: (num_particles,
    *data) -> the same.

    References:
        Mnih and Rezende (2016), arXiv:1602.06725, eq. (10).
    """
    log_w = log_w.detach()
    num_particles = log_w.shape[0]
    own = torch.eye(num_particles, dtype=torch.bool).reshape(
        num_particles, num_particles, *[1] * (log_w.ndim - 1)
    )
    own = own.to(log_w.device)
    replaced = torch.where(
        own, leave_one_out_mean(log_w).unsqueeze(1), log_w.unsqueeze(0)
    )  # (left out, particle, *data)
    return iwae_bound(log_w) - (torch.logsumexp(replaced, 1) - math.log(num_particles))
