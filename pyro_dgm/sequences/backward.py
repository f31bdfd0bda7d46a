"""Paths of a particle filter drawn from their end (backward simulation)."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from pyro_dgm.compat import tree_map
from pyro_dgm.sequences.walk import leaves_of

__all__: list[str] = []  # for the package, not for users


def simulated(
    pair: Any, states: Any, log_w: Tensor, values: Mapping[str, Tensor], num_draws: int
) -> tuple[Tensor, Tensor]:
    """Particles of each step (time, num_draws, *batch) that make paths of p(z_1, ..., z_T | x):
    j_T ~ w_T,  then  j_t ~ w_t p(z_{t+1}, x_{t+1} | state_t)  at the z_{t+1} that was drawn.

    That is right where a state behind a step does not depend on the one before, given the step's
    draws. By how much it does (*batch), beside the size of its numbers, comes second.

    Args:
        pair: of steps.
        states: of the model behind each step (time, ...), of particles (num_particles, *batch).
        log_w: weights (time, num_particles, *batch), before any resampling.
        values: the draws by latent statement (time, num_particles, *batch, *event).
        num_draws: .

    Cost:
        T steps of the model on num_draws times num_particles times the batch.
    """
    num, batch = log_w.shape[1], log_w.shape[2:]
    model, shape = pair.model.steps, (num_draws * num, *batch)
    index = _drawn(log_w[-1].expand(num_draws, num, *batch))
    found, memory = [index], torch.zeros(batch, dtype=log_w.dtype, device=log_w.device)
    for t in range(pair.length - 1, 0, -1):
        given = pair.at(t)[0]
        drawn = {name: _picked(x[t], index).repeat_interleave(num, 0) for name, x in values.items()}
        given = {**given, "values": {**given["values"], **drawn}}
        scored = model.one(_tiled(states, t - 1, num_draws), given, {})
        score = sum(scored.scores.values(), log_w.new_zeros(shape))
        ends = torch.as_tensor(pair.length if pair.lengths is None else pair.lengths)
        gap = _memory(model.wide(scored.state, shape), num, len(batch)).to(memory)
        memory = torch.where(t + 1 < ends.to(memory.device), torch.maximum(memory, gap), memory)
        index = _drawn(log_w[t - 1] + score.reshape(num_draws, num, *batch))
        found.append(index)
    return torch.stack(found[::-1]), memory


def _drawn(log_w: Tensor) -> Tensor:
    """Numbers of particles (num_draws, *batch), by their weights (num_draws, num, *batch)."""
    uniform = torch.rand_like(log_w).clamp(min=torch.finfo(log_w.dtype).tiny)
    return (log_w - (-uniform.log()).log()).argmax(1)


def _picked(x: Tensor, index: Tensor) -> Tensor:
    """Values (num_draws, *batch, *event) of particles (num, *batch, *event) by their numbers."""
    own = index.reshape(*index.shape, *[1] * (x.ndim - index.ndim))
    return x.gather(0, own.expand(*index.shape, *x.shape[index.ndim :]))


def _tiled(states: Any, t: int, num_draws: int) -> Any:
    """The states of one step (time, num, ...), once for each draw (num_draws * num, ...)."""
    return tree_map(lambda x: x[t].repeat(num_draws, *[1] * (x.ndim - 2)), states)


def _memory(state: Any, num: int, batch_ndim: int) -> Tensor:
    """The largest relative difference (*batch) of states (num_draws * num, *batch, *event) that
    come from different ones."""
    gaps = []
    for leaf in leaves_of(state):
        batch = leaf.shape[1 : 1 + batch_ndim]
        leaf = leaf.double().reshape(-1, num, *batch, prod(leaf.shape[1 + batch_ndim :]))
        gap = (leaf - leaf[:, :1]).abs() / (1 + leaf[:, :1].abs())
        gaps.append(gap.amax(-1).amax((0, 1)))
    return torch.stack(gaps).amax(0)
