"""What sequence models share that are written as one step."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.transforms import AffineTransform

from dgm_core.arguments import check_choice, refuse
from dgm_core.paths import check_observed, check_paired, num_sequences, steps_given
from dgm_core.steps import IMPUTE, no_mean
from numpyro_dgm.conditionals.paths.base import cleared
from numpyro_dgm.models.parts import num_data
from numpyro_dgm.nn import without_padding

__all__: list[str] = []  # for the package, not for users


def batch_of(x: Array | None, x_shape: tuple[int, ...], lengths: Any, size: int) -> int:
    """The number of sequences in a batch x (batch, T, x_dim), of those that are drawn `size`;
    ValueError where data and lengths do not fit.
    """
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


def given_data(x: Array | None, shape: tuple[int, ...]) -> Array:
    """The data of a guide; ValueError without them."""
    if x is None:
        raise ValueError(
            "The guide infers z from data: call it with x of shape (batch, "
            f"{', '.join(map(str, shape))})."
        )
    return x


def mean_of(name: str, distribution: Any) -> Array:
    """The mean of a distribution; ValueError where it has none in closed form."""
    try:
        return distribution.mean
    except NotImplementedError as error:
        raise no_mean(name, error) from error


def seen_data(x: Array, lengths: Any, observed: Array | None) -> Array:
    """Data with zeros in the padding and where they are missing."""
    x = x if lengths is None else without_padding(x, lengths)
    if observed is None:
        return x
    check_observed(observed, x.shape[-2])
    return cleared(x, observed)


def moved(distribution: Any, by: Array) -> Any:
    """The distribution of a vector, to which something is added."""
    return dist.TransformedDistribution(distribution, AffineTransform(by, 1.0))


def joined(*parts: Array) -> Array:
    """Features (*batch, n) side by side."""
    batch = jnp.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return jnp.concatenate([jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in parts], -1)
