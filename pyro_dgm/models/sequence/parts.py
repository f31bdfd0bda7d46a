"""What sequence models share that are written as one step."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import AffineTransform
from torch import Tensor

from dgm_core.arguments import check_choice, refuse
from dgm_core.paths import check_observed, check_paired, num_sequences, steps_given
from dgm_core.steps import IMPUTE, no_mean
from pyro_dgm.conditionals.paths.base import cleared
from pyro_dgm.models.parts import num_data
from pyro_dgm.nn import without_padding

__all__: list[str] = []  # for the package, not for users


def batch_of(x: Tensor | None, x_shape: tuple[int, ...], lengths: Any, size: int) -> int:
    """The number of sequences in a batch x (batch, T, x_dim), of those that are drawn `size`;
    ValueError where data and lengths do not fit.
    """
    if not isinstance(x, Tensor | None):
        refuse("x", "a tensor (torch.as_tensor makes one of a numpy array)", x)
    size = num_data(x, steps_given(x, x_shape), num_sequences(lengths, size))
    check_paired(lengths, size)
    return size


def check_cell(cell: Any, in_dim: int) -> None:
    """ValueError unless a network, if given, goes from state to state."""
    if cell is None:
        return
    if not (callable(getattr(cell, "step", None)) and hasattr(cell, "out_dim")):
        refuse("cell", "a recurrent network with step(x, state) and out_dim, such as GRU", cell)
    if getattr(cell, "in_dim", in_dim) != in_dim:
        raise ValueError(f"The cell must take {in_dim} numbers, got {cell!r}.")


def checked_impute(impute: str | None) -> str | None:
    """What stands for data that are missing."""
    return None if impute is None else check_choice("impute", impute, IMPUTE)


def given_data(x: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """The data of a guide; ValueError without them."""
    if x is None:
        raise ValueError(
            "The guide infers z from data: call it with x of shape (batch, "
            f"{', '.join(map(str, shape))})."
        )
    return x


def mean_of(name: str, distribution: Any) -> Tensor:
    """The mean of a distribution; ValueError where it has none in closed form."""
    try:
        return distribution.mean
    except NotImplementedError as error:
        raise no_mean(name, error) from error


def seen_data(x: Tensor, lengths: Any, observed: Tensor | None) -> Tensor:
    """Data with zeros in the padding and where they are missing."""
    x = x if lengths is None else without_padding(x, lengths)
    if observed is None:
        return x
    check_observed(observed, x.shape[-2])
    return cleared(x, torch.as_tensor(observed))


def moved(distribution: Any, by: Tensor) -> Any:
    """The distribution of a vector, to which something is added."""
    return dist.TransformedDistribution(distribution, [AffineTransform(by, 1.0)])


def joined(*parts: Tensor) -> Tensor:
    """Features (*batch, n) side by side."""
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*batch, -1) for part in parts], -1)
