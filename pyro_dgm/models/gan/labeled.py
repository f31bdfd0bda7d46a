"""What generators of data with labels have in common."""

from abc import abstractmethod

import pyro
from torch import Tensor, nn

from dgm_core.contexts import Labels
from pyro_dgm.conditionals import Conditional
from pyro_dgm.models.parts import num_data, paired
from pyro_dgm.nn import register

__all__: list[str] = []  # for the package, not for users


class LabeledGAN(nn.Module):
    """A generator of data x from z ~ prior and a class label y."""

    prior: Conditional
    num_classes: int

    @property
    @abstractmethod
    def x_shape(self) -> tuple[int, ...]:
        """Of a datum."""

    def guide(self, x: Tensor | None = None, y: Tensor | None = None, size: int = 1) -> Tensor:
        """z as the prior draws it: what an engine that asks for a guide may have, where the loss
        compares x and y alone.
        """
        prior = register("prior", self.prior)
        with pyro.plate("data", self.num_pairs(x, y, size)):
            return pyro.sample("z", prior())

    def num_pairs(self, x: Tensor | None, y: Tensor | None, size: int) -> int:
        """The number of data; ValueError for labels that are no integers, or not as many as x."""
        if y is None:
            return num_data(x, self.x_shape, size)
        return len(paired(y, Labels(self.num_classes), x, self.x_shape))
