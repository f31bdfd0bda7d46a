"""The values of sample sites, brought into one form: labels as vectors, sites side by side."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import CategoricalLogits, CategoricalProbs

from dgm_core.structure import unknown_label

__all__: list[str] = []  # for the package and for terms, not for users


def side_by_side(values: list[tuple[Array, int]]) -> Array:
    """Values (*batch, *event) with their event dimensions: one as (num, *event), several as (num,
    entries)."""
    batches = [value.shape[: value.ndim - event_dim] for value, event_dim in values]
    if len(values) == 1:
        return values[0][0].reshape(-1, *values[0][0].shape[len(batches[0]) :])
    batch = jnp.broadcast_shapes(*batches)
    parts = [
        jnp.broadcast_to(value, batch + value.shape[len(own) :]).reshape(prod(batch), -1)
        for (value, _), own in zip(values, batches)
    ]
    inexact = [part.dtype for part in parts if jnp.issubdtype(part.dtype, jnp.inexact)]
    dtype = inexact[0] if inexact else jnp.zeros(()).dtype
    return jnp.concatenate([part.astype(dtype) for part in parts], 1)


def with_vectors(value: tuple[Array, int], fn: Any) -> tuple[Array, int]:
    """A value of a site and its number of event dimensions, the labels of a Categorical as one-hot
    vectors.

    Raises:
        ValueError: for labels outside 0, ..., num_classes - 1; inside compiled code, which cannot
            look at them, their vectors are NaN.
    """
    base, (labels, event_dim) = base_of(fn), value
    if not isinstance(base, CategoricalProbs | CategoricalLogits):
        return value
    probs = base.probs
    vectors = jnp.asarray(labels)[..., None] == jnp.arange(probs.shape[-1])
    known = vectors.any(-1, keepdims=True)
    if not isinstance(known, jax.core.Tracer) and not bool(known.all()):
        outside = jnp.asarray(labels)[~known[..., 0]].reshape(-1)[0].item()
        raise ValueError(unknown_label(outside, probs.shape[-1]))
    return jnp.where(known, vectors.astype(probs.dtype), jnp.nan), event_dim + 1


def base_of(fn: Any) -> Any:
    """A distribution without what was wrapped around it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def num_entries(fn: Any) -> int:
    """How many entries the values of a site are side by side with others."""
    base, event = base_of(fn), prod(fn.event_shape)
    return (
        event * base.probs.shape[-1]
        if isinstance(base, CategoricalProbs | CategoricalLogits)
        else event
    )
