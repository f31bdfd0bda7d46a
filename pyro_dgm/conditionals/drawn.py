"""What a draw has left: its log-density, which scoring it again would have to compute."""

from typing import Any

import torch
from torch import Tensor

from pyro_dgm.compat import version_of

__all__: list[str] = []


class Drawn:
    """A draw with its log-density and that of its noise, for as long as the draw is what it was.

    Torch counts the changes of a tensor in place; a draw without a gradient, whose memory numpy
    may share, is compared with a copy as well.
    """

    def __init__(self, value: Tensor, log_prob: Any, noise: Any = None) -> None:
        self.value, self.log_prob, self.noise = value, log_prob, noise
        self.graded = torch.is_grad_enabled()
        self.copy = None if value.requires_grad else value.clone()
        self.version = version_of(value)

    def score(self, value: Tensor) -> Tensor | None:
        """The log-density of `value` if it is this draw, and None if it may be anything else."""
        return self.log_prob if self.is_of(value) else None

    def is_of(self, value: Tensor) -> bool:
        """Whether `value` is this draw; False if it may be anything else."""
        known = value is self.value and (self.graded or not torch.is_grad_enabled())
        return known and self._unchanged()

    def _unchanged(self) -> bool:
        if version_of(self.value) != self.version:
            return False
        if self.copy is None or torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return True
        try:
            return torch.equal(self.value, self.copy)
        except RuntimeError:  # a tensor without numbers, on the device "meta" or under vmap
            return False
