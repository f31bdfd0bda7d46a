"""What the distributions of single numbers share that are written here because the libraries lack
them, or lack a stable form of them.
"""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import SigmoidTransform

__all__ = ["check_inside", "inside", "open_unit", "smallest"]


class Elementwise(TorchDistribution):
    """A distribution of one number, given by tensors with the batch shape (mixtures: one more
    dimension, of components).
    """

    components = False

    def __init__(self, *params: Tensor, validate_args: bool | None = None, **settings: Any) -> None:
        tensors = torch.broadcast_tensors(*params)
        for name, value in (*zip(self.arg_constraints, tensors), *settings.items()):
            setattr(self, name, value)
        self._settings = settings
        shape = tensors[0].shape[:-1] if self.components else tensors[0].shape
        super().__init__(shape, validate_args=validate_args)

    def expand(self, batch_shape: tuple[int, ...], _instance: Any = None) -> "Elementwise":
        params = [getattr(self, name) for name in self.arg_constraints]
        shape = (*batch_shape, params[0].shape[-1]) if self.components else batch_shape
        return type(self)(
            *(p.expand(shape) for p in params), validate_args=self._validate_args, **self._settings
        )

    def _uniform(self, sample_shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers in the open unit interval."""
        param: Tensor = getattr(self, next(iter(self.arg_constraints)))
        return inside(
            torch.rand(
                self._extended_shape(Size(sample_shape)), dtype=param.dtype, device=param.device
            )
        )


class OpenInterval(Elementwise):
    """A density on the open unit interval that is zero or infinite at its ends."""

    def _validate_sample(self, value: Tensor) -> None:
        check_inside(self, value)
        super()._validate_sample(value)


def smallest(dtype: torch.dtype) -> float:
    """The smallest draw: 1 / x and the slopes of densities are finite there, 1e-31 in float32."""
    finfo = torch.finfo(dtype)
    return float(finfo.tiny / finfo.eps)


def inside(x: Tensor) -> Tensor:
    """Move numbers that were rounded to 0 or 1 into the open unit interval."""
    return x.clamp(smallest(x.dtype), 1.0 - torch.finfo(x.dtype).eps / 2)


class _OpenUnit(constraints.Constraint):
    """The numbers strictly between 0 and 1."""

    def check(self, value: Tensor) -> Tensor:
        return (value > 0) & (value < 1)

    def __repr__(self) -> str:
        return "OpenInterval(lower_bound=0.0, upper_bound=1.0)"


open_unit = _OpenUnit()


@biject_to.register(_OpenUnit)
@transform_to.register(_OpenUnit)
def _sigmoid(constraint: _OpenUnit) -> SigmoidTransform:
    return SigmoidTransform()


def check_inside(distribution: object, value: Tensor) -> None:
    """Raise a ValueError unless all values lie strictly between 0 and 1."""
    if not torch.all((value > 0) & (value < 1)):
        raise ValueError(
            f"{type(distribution).__name__.strip('_')} expects values strictly between 0 and 1, "
            "got others, where its density is "
            "zero, infinite or not defined; dequantize the data or move them inside, as in 0.001 "
            "+ 0.998 * x."
        )
