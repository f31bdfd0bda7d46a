"""The score of a run on data that it does not train on.

In evaluation mode, with the same random numbers every time.
"""

from typing import Any

import torch
from torch import Tensor

from pyro_dgm.nn import evaluation_mode
from pyro_dgm.training.batches import Arrays, Stream
from pyro_dgm.training.guard import watched_values
from pyro_dgm.training.step import Step

__all__: list[str] = []  # for the package, not for users


class Validation:
    """Mean of a loss over validation data.

    `step` brings model, guide and loss, `seed` the random numbers.
    """

    def __init__(self, step: Step, data: Arrays | Stream, seed: int) -> None:
        self.step, self.data, self.seed = step, data, seed

    def __call__(self, number: Tensor, states: dict[str, Any]) -> dict[str, float]:
        """ "validation", the loss per datum, and "validation/<term>" for each of its terms."""
        torch.manual_seed(self.seed)
        self.step.states = states  # what the terms keep, as training left it
        total, count = torch.zeros(()), 0
        with torch.no_grad(), evaluation_mode(self.step.model, self.step.guide):
            for batch in self.data.in_order():
                values = self.step.on(batch._replace(rows=None), number)[1].double()
                total, count = total.to(values) + batch.size * values, count + batch.size
        names = ("validation", *(f"validation/{name}" for name in self.step.loss.term_names))
        return dict(zip(names, (total / count).tolist(), strict=True))

    def explain(self, number: Tensor) -> tuple[str | None, str]:
        """The first site that is not finite in a score that is not, and why."""
        torch.manual_seed(self.seed)
        with evaluation_mode(self.step.model, self.step.guide):
            for batch in self.data.in_order():
                notes, _ = watched_values(self.step, batch._replace(rows=None), number)
                if notes:
                    return notes[0]
        return None, "every site is finite"
