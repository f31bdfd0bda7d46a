"""What a draw has left: its log-density, which scoring it again would have to compute."""

from jax import Array

__all__: list[str] = []


class Drawn:
    """A draw with its log-density; arrays do not change, so the same array is the same draw."""

    def __init__(self, value: Array, log_prob: Array) -> None:
        self.value, self.log_prob = value, log_prob

    def score(self, value: Array) -> Array | None:
        """The log-density of `value` if it is this draw, and None if it may be anything else."""
        return self.log_prob if value is self.value else None
