"""The score of a run on data that it does not train on: in evaluation mode, with the same random
numbers every time.
"""

import torch
from torch import Tensor

from pyro_dgm.nn import evaluation_mode
from pyro_dgm.training.batches import Arrays, Stream
from pyro_dgm.training.step import Step

__all__: list[str] = []  # for the package, not for users


class Validation:
    """Mean of a loss over validation data; `step` brings model, guide and loss, `seed` the random
    numbers.
    """

    def __init__(self, step: Step, data: Arrays | Stream, seed: int) -> None:
        self.step, self.data, self.seed = step, data, seed

    def __call__(self, number: Tensor) -> dict[str, float]:
        """The loss per datum as "validation", each of its terms as "validation/<term>", with the
        weights as they are.
        """
        torch.manual_seed(self.seed)
        total, count = torch.zeros(()), 0
        with torch.no_grad(), evaluation_mode(self.step.model, self.step.guide):
            for batch in self.data.in_order():
                values = self.step.on(batch._replace(rows=None), number)[1].double()
                total, count = total.to(values) + batch.size * values, count + batch.size
        names = ("validation", *(f"validation/{name}" for name in self.step.loss.term_names))
        return dict(zip(names, (total / count).tolist(), strict=True))
