"""Roots of increasing functions of one number: for the directions of flows that have no closed
form.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_dgm.compat import in_torch_func

# bisection alone needs about as many to halve a bracket of width 1e3 down to the rounding error in
# float64
__all__ = ["increasing_root"]

_MAX_STEPS = 64


def increasing_root(
    function: Callable[..., tuple[Tensor, Tensor]],
    target: Tensor,
    lower: Tensor,
    upper: Tensor,
    *params: Tensor,
) -> Tensor:
    """v with function(v, *params) = target, entry by entry, for a function that is increasing in v.

    Newton's method inside a bracket; a step that leaves the bracket, or is not half as long as the
    one before, is replaced by bisection, so that the search always converges, to the rounding
    error.

    Gradients (in target and params) follow the implicit function theorem, dv = (dtarget -
    dfunction) / slope: a Newton step at the root changes nothing but has these derivatives, and two
    steps have those of up to third order.

    Args:
        function: v and params -> values and the logarithm of the slope.
        target: what the function shall be equal to.
        lower, upper: values around the root.
        params: the tensors that the function depends on.

    Shapes:
        all broadcast against each other, as far as the function allows.

    Cost:
        about 10 evaluations of the function for a whole batch, at most 64; then two with gradients.
        The search stops when every entry has converged, so that in torch, where a captured graph
        cannot stop early, a step with a root search is not compiled.

    Example:
        >>> cubic = lambda v: (v + v**3, torch.log(1 + 3 * v**2))
        >>> increasing_root(cubic, torch.tensor(10.0), torch.tensor(0.0), torch.tensor(10.0))
        tensor(2.)
    """
    with torch.no_grad():
        v = _search(function, target, lower, upper, *params)
    for _ in range(2):
        value, log_slope = function(v, *params)
        gap = value - target
        v = v - _newton_step(gap - gap.detach(), log_slope)
    return v


def _newton_step(gap: Tensor, log_slope: Tensor) -> Tensor:
    return gap * (-log_slope).clamp(max=30.0).exp()  # large but finite where the function is flat


def _search(
    function: Callable[..., tuple[Tensor, Tensor]],
    target: Tensor,
    lower: Tensor,
    upper: Tensor,
    *params: Tensor,
) -> Tensor:
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        raise RuntimeError(
            "A root search stops when it has converged, which a captured graph cannot: run "
            "this "
            "step uncompiled."
        )
    precision = 4 * torch.finfo(target.dtype).eps
    v, step = (lower + upper) / 2, upper - lower
    for _ in range(_MAX_STEPS):
        value, log_slope = function(v, *params)
        gap = value - target
        lower, upper = torch.where(gap < 0, v, lower), torch.where(gap < 0, upper, v)
        newton = (v - _newton_step(gap, log_slope)).clamp(lower, upper)
        done = (gap.abs() <= precision * target.abs().clamp(min=1.0)) | (
            (newton - v).abs() <= precision * v.abs().clamp(min=1.0)
        )
        fast = done | (2 * (newton - v).abs() <= step.abs())
        new = torch.where(fast, newton, (lower + upper) / 2)
        v, step = new, new - v
        if not in_torch_func() and bool(done.all()):
            break
    return v
