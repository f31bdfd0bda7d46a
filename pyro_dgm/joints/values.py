"""The values of sample sites, brought into one form: labels as vectors, sites side by side."""

from math import prod
from typing import Any

import torch
from pyro.distributions import Categorical
from torch import Tensor

from dgm_core.structure import unknown_label

__all__: list[str] = []  # for the package and for terms, not for users


def side_by_side(values: list[tuple[Tensor, int]]) -> Tensor:
    """Values (*batch, *event) with their event dimensions: one as (num, *event), several as (num,
    entries)."""
    batches = [value.shape[: value.ndim - event_dim] for value, event_dim in values]
    if len(values) == 1:
        return values[0][0].reshape(-1, *values[0][0].shape[len(batches[0]) :])
    batch = torch.broadcast_shapes(*batches)
    parts = [
        value.expand(batch + value.shape[len(own) :]).reshape(batch.numel(), -1)
        for (value, _), own in zip(values, batches)
    ]
    dtype = next(
        (part.dtype for part in parts if part.is_floating_point()), torch.get_default_dtype()
    )
    return torch.cat([part.to(dtype) for part in parts], 1)


def with_vectors(value: tuple[Tensor, int], fn: Any) -> tuple[Tensor, int]:
    """A value of a site and its number of event dimensions, the labels of a Categorical as one-hot
    vectors.

    Raises:
        ValueError: for labels outside 0, ..., num_classes - 1; inside compiled code, which cannot
            look at them, their vectors are NaN.
    """
    base, (labels, event_dim) = base_of(fn), value
    if not isinstance(base, Categorical):
        return value
    probs = base.probs
    classes = torch.arange(probs.shape[-1], device=labels.device)
    vectors = labels[..., None] == classes
    known = vectors.any(-1, keepdim=True)
    if not torch.compiler.is_compiling() and not bool(known.all()):
        outside = labels[~known[..., 0]].reshape(-1)[0].item()
        raise ValueError(unknown_label(outside, probs.shape[-1]))
    return torch.where(known, vectors.to(probs.dtype), torch.nan), event_dim + 1


def base_of(fn: Any) -> Any:
    """A distribution without what was wrapped around it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def num_entries(fn: Any) -> int:
    """How many entries the values of a site are side by side with others."""
    base, event = base_of(fn), prod(fn.event_shape)
    labels = isinstance(base, Categorical)
    return event * base.probs.shape[-1] if labels else event
