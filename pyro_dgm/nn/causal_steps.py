"""Stacks of causal convolutions step by step: what was computed at earlier steps is kept.

The past of all layers lies in one ring buffer. One gather and one batched product give what all
layers take from their pasts, since all of that is known before the step; then a short chain takes
what the current step adds.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_dgm.nn.causal import CausalStack, gated
from pyro_dgm.nn.layers import activate

__all__: list[str] = []  # for the package, not for users


class Steps:
    """The features of a stack step by step, equal to its one pass.

    Where gradients are wanted no array is written to twice; otherwise all arrays of a step are made
    once, which takes half the time.

    Args:
        stack: the network.
        context: with one batch dimension, or None.
        num: sequences.
    """

    def __init__(self, stack: CausalStack, context: Any, num: int) -> None:
        blocks: list[Any] = list(stack.blocks)
        weights = torch.stack([block.conv.weight for block in blocks]).permute(0, 3, 2, 1)
        residuals = [block.residual for block in blocks[:-1]]
        first = stack.input
        # h is computed without its biases, which are added to all layers at once.
        biases = torch.stack([first.bias, *(r.bias for r in residuals)]).cumsum(0)[:, None]
        added = (
            torch.stack([block.conv.bias for block in blocks])[:, None] + biases @ weights[:, -1]
        )
        from_context = stack.added(context)  # (num, steps or 1, layers, 2 channels)
        if from_context is None:
            self.added = [added.expand(-1, num, -1)]
        else:
            self.added = list((added + from_context.permute(1, 2, 0, 3)).expand(-1, -1, num, -1))
        self.biases, self.input = biases, first.weight.T
        self.past = weights[:, :-1].flatten(1, 2).contiguous()  # else it is copied at each step
        self.now = list(weights[:, -1].contiguous())
        self.ends = [(layer.bias, layer.weight.T) for layer in (stack.skip, stack.output)]
        self.activation = stack.activation
        self.residuals = [r.weight.T for r in residuals]
        steps = np.arange(stack.num_steps)
        rows = stack.ring.taps(steps[:, None, None]), stack.ring.slots(steps[:, None])
        device, self.size = first.weight.device, stack.ring.kernel_size - 1
        self.taps, self.slots = (list(torch.as_tensor(r, device=device).flatten(1)) for r in rows)
        layers, channels = len(blocks), first.out_features
        self.buffer = first.weight.new_zeros(stack.ring.rows, num, channels)
        self.graded = torch.is_grad_enabled()
        if not self.graded:
            self.x = self.buffer.new_empty(layers, num, 2 * channels)
            self.h = self.buffer.new_empty(layers, num, channels)
            self.gates = self.buffer.new_empty(num, layers * channels)
            self.parts = list(
                zip(
                    self.x,
                    self.x[..., :channels],
                    self.x[..., channels:],
                    self.gates.split(channels, -1),
                    self.now,
                    self.h,
                    [None, *self.residuals],
                )
            )

    def __call__(self, index: int, previous: Tensor) -> Tensor:
        """The features (num, out_dim) of step `index`, given the input of the step before it (num,
        in_dim), zeros at first.
        """
        added = self.added[index if len(self.added) > 1 else 0]
        if self.graded:
            x = torch.baddbmm(added, self._past(index), self.past) if self.size else added
            h, gates = self._chain(x, previous)
        else:
            if self.size:
                torch.baddbmm(added, self._past(index), self.past, out=self.x)
            else:
                self.x.copy_(added)
            h, gates = self._chain_in_place(previous)
        if self.size:
            self.buffer.index_copy_(0, self.slots[index], h + self.biases)
        for bias, weight in self.ends:
            gates = activate(self.activation, torch.addmm(bias, gates, weight))
        return gates

    def _past(self, index: int) -> Tensor:
        """The past taps of all layers, (layers, num, (kernel_size - 1) channels)."""
        taps = self.buffer.index_select(0, self.taps[index])
        if self.size == 1:
            return taps
        return taps.unflatten(0, (-1, self.size)).transpose(1, 2).flatten(2)

    def _chain(self, x: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        h = [previous @ self.input]
        gates = []
        for l, weight in enumerate(self.now):
            gates.append(gated(torch.addmm(x[l], h[l], weight)))
            if l < len(self.residuals):
                h.append(torch.addmm(h[l], gates[l], self.residuals[l]))
        return torch.stack(h), torch.cat(gates, -1)

    def _chain_in_place(self, previous: Tensor) -> tuple[Tensor, Tensor]:
        h, gate = previous, self.gates
        for x, a, b, g, weight, new, residual in self.parts:
            if residual is None:
                h = torch.mm(previous, self.input, out=new)
            else:
                h = torch.addmm(h, gate, residual, out=new)
            x.addmm_(h, weight)
            gate = torch.mul(a.tanh_(), b.sigmoid_(), out=g)
        return self.h, self.gates
