"""What generators of data with labels have in common."""

from abc import abstractmethod

import equinox as eqx
import numpyro
from jax import Array

from dgm_core.contexts import Labels
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.models.parts import num_data, paired
from numpyro_dgm.nn import register

__all__: list[str] = []  # for the package, not for users


class LabeledGAN(eqx.Module):
    """A generator of data x from z ~ prior and a class label y."""

    prior: eqx.AbstractVar[Conditional]
    num_classes: eqx.AbstractVar[int]

    @property
    @abstractmethod
    def x_shape(self) -> tuple[int, ...]:
        """Of a datum."""

    def guide(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """z as the prior draws it: what an engine that asks for a guide may have, where the loss
        compares x and y alone.
        """
        prior = register("prior", self.prior)
        with numpyro.plate("data", self.num_pairs(x, y, size)):
            return numpyro.sample("z", prior())

    def num_pairs(self, x: Array | None, y: Array | None, size: int) -> int:
        """The number of data; ValueError for labels that are no integers, or not as many as x."""
        if y is None:
            return num_data(x, self.x_shape, size)
        return len(paired(y, Labels(self.num_classes), x, self.x_shape))
