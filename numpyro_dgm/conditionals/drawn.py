"""What a draw has left: its log-density, which scoring it again would have to compute."""

from typing import Any

from jax import Array

__all__: list[str] = []


class Drawn:
    """A draw with its log-density and that of its noise; arrays do not change, so the same array is
    the same draw.
    """

    def __init__(self, value: Array, log_prob: Array, noise: Any = None) -> None:
        self.value, self.log_prob, self.noise = value, log_prob, noise

    def score(self, value: Array) -> Array | None:
        """The log-density of `value` if it is this draw, and None if it may be anything else."""
        return self.log_prob if value is self.value else None
