"""The particle filter of a model and a guide that are written as steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm_core.resampling import Resampling
from pyro_dgm.compat import tree_map
from pyro_dgm.conditionals.paths.base import known
from pyro_dgm.sequences.ancestors import log_mean_weight, resampled

__all__: list[str] = []  # for the package, not for users


class Moment(NamedTuple):
    """One step of a particle filter.

    step: what the pair of steps gave;  log_w: weights (num_particles, *batch), with those carried
    along since the last resampling; log_evidence: log p(x_1, ..., x_t), estimated (*batch);
    chosen: what is resampled after this step (*batch);  ancestors: whom each particle then follows,
    itself where nothing is (num_particles, *batch).
    """

    step: Any
    log_w: Tensor
    log_evidence: Tensor
    chosen: Tensor
    ancestors: Tensor


def filtered(
    pair: Any, num_particles: int, rule: Resampling, keep: Callable[[Moment], Any]
) -> tuple[Tensor, Any]:
    """log Zhat, an estimate of log p(x) (*batch), and what `keep` gives of each step, a tree of
    arrays (time, ...).

    Zhat = prod_r 1/K sum_k w_k over the resamplings r and the end, with the weights w_k that have
    come together since the last one, whatever the rule: E Zhat = p(x). A sequence that has ended is
    neither weighed nor resampled, and none is after its last step. NaN for lengths that no sequence
    has, where values are not known.

    Cost:
        T steps of model and guide on num_particles times the batch.
    """
    states, kept = pair.initial(num_particles), []
    log_w: Any = 0.0
    log_z: Any = 0.0
    for t in range(pair.length):
        out = pair.step(states, pair.at(t))
        states, log_w = out.states, log_w + out.log_weight
        log_evidence = known(log_z + log_mean_weight(log_w), pair.lengths, pair.length)
        active = t + 1 < (pair.length if pair.lengths is None else pair.lengths)
        chosen, index = resampled(log_w, uniform_numbers(log_w, rule, t), rule, active)
        kept.append(keep(Moment(out, log_w, log_evidence, chosen, index)))
        if rule.happens:
            states = pair.chosen(states, index)
            log_z = torch.where(chosen, log_evidence, log_z)
            log_w = torch.where(chosen, 0.0, log_w)
    return log_evidence, tree_map(lambda *x: torch.stack(x), *kept)


def uniform_numbers(log_w: Tensor, rule: Resampling, t: int) -> Tensor:
    """What one resampling takes (`Resampling.num_uniforms`, *batch); none are drawn where none
    happens."""
    shape = (rule.num_uniforms(len(log_w)), *log_w.shape[1:])
    if not rule.happens:
        return torch.zeros((), dtype=log_w.dtype, device=log_w.device).expand(shape)
    return torch.rand(shape, dtype=log_w.dtype, device=log_w.device)
