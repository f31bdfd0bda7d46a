"""Labels y_n in 0, ..., K - 1 of which some are missing, -1: statements of model and guide."""

from typing import Any

import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist

from dgm_core.contexts import Labels, check_context
from numpyro_dgm.conditionals import Categorical, Conditional
from numpyro_dgm.models.parts import check_conditionals, check_fit, num_data
from numpyro_dgm.nn import MLP, register
from numpyro_dgm.nn.contexts import one_hot
from numpyro_dgm.nn.requirements import require

__all__: list[str] = []  # for the package, not for users


def num_labeled(
    y: Any, num_classes: int, x: Array | None, x_shape: tuple[int, ...], size: int
) -> int:
    """The number of data of a batch x (batch, *x_shape) with labels y (batch,), of either of them,
    or `size`; ValueError for other shapes, and labels that are neither in 0, ..., num_classes - 1
    nor -1, missing.
    """
    if y is None:
        return num_data(x, x_shape, size)
    check_context(None, y, Labels(num_classes), name="y")
    if y.ndim != 1:
        raise ValueError(f"y must have one dimension of data, (batch,), got {tuple(y.shape)}.")
    wanted = f"labels from 0 to {num_classes - 1}, or -1 for a missing one"
    known = signed(y)
    require("y", wanted, known, (known >= -1) & (known < num_classes))
    number = num_data(x, x_shape, len(y))
    if number != len(y):
        raise ValueError(f"x and y must have the same number of data, got {number} and {len(y)}.")
    return number


def signed(y: Any) -> Array:
    """Labels of any integer type as integers that can be -1."""
    return y.astype(int)


def class_prior_of(model: Any, *, registered: bool = False) -> dist.Distribution:
    """p(y) in a program: that of a model, or the uniform one where it has none; `registered`: with
    the rest of the model.
    """
    prior = model.class_prior
    if prior is None:
        return dist.Categorical(logits=jnp.zeros(model.num_classes))
    return (prior if registered else register("class_prior", prior))()


def check_class_prior(prior: Conditional | None, num_classes: int) -> None:
    """Raise a ValueError unless `prior`, if given, is one of so many classes."""
    if prior is None:
        return
    check_conditionals(class_prior=prior)
    check_fit("class_prior", prior, (), 0)
    if not isinstance(prior, Categorical) or prior.num_classes != num_classes:
        raise ValueError(
            f"The class_prior must be a Categorical((), {num_classes}), got {prior!r}."
        )


def labels(fn: dist.Distribution, y: Array | None) -> Array:
    """The site "y" of a model: observed where y (batch,) is a label, latent where it is -1 (and
    then called "y_unobserved"), or everywhere without y.
    """
    if y is None:
        return numpyro.sample("y", fn)
    y = signed(y)
    seen = y != -1
    return numpyro.sample("y", fn, obs=jnp.where(seen, y, jnp.zeros_like(y)), obs_mask=seen)


def guessed(fn: dist.Distribution, y: Array | None) -> Array:
    """The labels y (batch,) with what the guide draws from `fn` where they are missing."""
    if y is None:
        return numpyro.sample("y", fn)
    y = signed(y)
    seen = y != -1
    with numpyro.handlers.mask(mask=~seen):
        drawn = numpyro.sample("y_unobserved", fn)
    return jnp.where(seen, y, drawn)


def seen_by(network: Any, num_classes: int, y: Array | None, *parts: Array) -> Array:
    """What a network makes of vectors side by side, and behind them the labels y, if there are any,
    one-hot; the first layer of an MLP sees what is the same for all labels once.
    """
    found = parts if y is None else (*parts, one_hot(y, num_classes, "y"))
    if type(network) is MLP and network.layers:
        return network(*found)
    batch = jnp.broadcast_shapes(*(part.shape[:-1] for part in found))
    wide = [jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in found]
    return network(jnp.concatenate(wide, -1))
