"""Contexts as networks see them: labels one-hot, flattened or as a map."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.contexts import (
    Labels,
    batches_differ,
    is_map,
    is_several,
    parts_of,
    token_shapes,
)
from numpyro_dgm.nn.requirements import require

__all__: list[str] = []


def one_hot(labels: Array, num_classes: int, name: str = "context") -> Array:
    """Integer labels (*batch,) as (*batch, num_classes) zeros and ones; ValueError for one out of
    range or between two classes, NaN where that cannot be raised.

    Example:
        >>> one_hot(jnp.array([1]), 3)
        Array([[0., 1., 0.]], dtype=float32, weak_type=True)
    """
    labels = jnp.asarray(labels)
    hit = labels[..., None] == jnp.arange(num_classes)
    good = hit.any(-1)
    require(name, f"labels from 0 to {num_classes - 1}", labels, good)
    ones = jnp.where(hit, 1.0, 0.0)
    return jnp.where(good[..., None], ones, jnp.nan)  # in the precision of what it meets


def visible(context: Any, context_shape: tuple[Any, ...], name: str = "context") -> Any:
    """A checked context, labels one-hot.

    Example:
        >>> visible(jnp.array([1]), Labels(2))
        Array([[0., 1.]], dtype=float32, weak_type=True)
    """
    if is_several(context_shape):
        return tuple(visible(part, shape, name) for part, shape in zip(context, context_shape))
    if isinstance(context_shape, Labels):
        return one_hot(context, context_shape.num_classes, name)
    return context


def batch_shape_of(context: Any, context_shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The batch shape of a context as networks see it, of several that to which they broadcast.

    Example:
        >>> batch_shape_of(jnp.zeros((5, 2, 8, 8)), (2, 8, 8))
        (5,)
    """
    if context is None:
        return ()
    if is_several(context_shape):
        batches = list(map(batch_shape_of, context, context_shape))
        try:
            return jnp.broadcast_shapes(*batches)
        except ValueError:
            raise ValueError(batches_differ(batches)) from None
    return context.shape[: context.ndim - len(context_shape)]


def one_for(context: Any) -> Array | float:
    """1 in the precision of a context, which labels alone do not have.

    Example:
        >>> one_for(None), one_for(jnp.zeros((5, 2))).dtype
        (1.0, dtype('float32'))
    """
    leaves = [part for part in jax.tree.leaves(context) if not getattr(part, "weak_type", False)]
    return jnp.ones((), jnp.result_type(*leaves)) if leaves else 1.0


def flat(context: Any, context_shape: tuple[Any, ...]) -> Array:
    """A context as networks see it as a vector (*batch, entries), several one behind the other.

    Example:
        >>> flat(jnp.zeros((5, 2, 8, 8)), (2, 8, 8)).shape
        (5, 128)
    """
    batch = batch_shape_of(context, context_shape)
    if not is_several(context_shape):
        return context.reshape(*batch, prod(context_shape))
    parts = map(flat, context, context_shape)
    return jnp.concatenate([jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in parts], -1)


def unflat(vector: Array, context_shape: tuple[Any, ...]) -> Any:
    """The context of which `flat` makes a vector (*batch, entries).

    Example:
        >>> unflat(jnp.zeros((5, 128)), (2, 8, 8)).shape
        (5, 2, 8, 8)
    """
    parts, start = [], 0
    for shape in parts_of(context_shape):
        part = vector[..., start : start + prod(shape)]
        parts.append(part.reshape(*vector.shape[:-1], *shape))
        start += prod(shape)
    return tuple(parts) if is_several(context_shape) else parts[0]


def spread(context: Any, context_shape: tuple[Any, ...], batch: tuple[int, ...]) -> Any:
    """A context as networks see it for all cases of a larger batch, with one batch dimension.

    Example:
        >>> spread(jnp.zeros((5, 3)), (3,), (2, 5)).shape
        (10, 3)
    """
    if context is None:
        return None
    if is_several(context_shape):
        return tuple(spread(part, shape, batch) for part, shape in zip(context, context_shape))
    return jnp.broadcast_to(context, (*batch, *context_shape)).reshape(-1, *context_shape)


def as_map(context: Any, context_shape: tuple[Any, ...], pixels: tuple[int, ...]) -> Array:
    """A context as networks see it as a map (*batch, channels, *pixels): maps with more pixels in
    blocks, vectors the same in all pixels, several one behind the other.

    Example:
        >>> context = jnp.zeros((5, 2, 8, 8)), jnp.zeros((5, 3))
        >>> as_map(context, ((2, 8, 8), (3,)), (4, 4)).shape
        (5, 11, 4, 4)
    """
    context = context if is_several(context_shape) else (context,)
    batch = batch_shape_of(context, parts_of(context_shape))
    maps = []
    for part, shape in zip(context, parts_of(context_shape)):
        if is_map(shape, pixels):
            size, leading = shape[1] // pixels[0], part.shape[:-3]
            part = part.reshape(*leading, shape[0], pixels[0], size, pixels[1], size)
            part = jnp.moveaxis(part, (-3, -1), (-5, -4)).reshape(*leading, -1, *pixels)
        else:
            part = part.reshape(*part.shape[: part.ndim - len(shape)], -1, 1, 1)
        maps.append(jnp.broadcast_to(part, (*batch, part.shape[-3], *pixels)))
    return jnp.concatenate(maps, -3)


def along_steps(context: Any, context_shape: tuple[Any, ...], steps: tuple[int, ...]) -> Array:
    """What each step of a sequence (T,), or each pixel of an image (height, width), is given of a
    context with one batch dimension: (batch, steps, channels), or (batch, 1, channels) where it is
    the same for all.

    Example:
        >>> context = jnp.zeros((5, 6, 2)), jnp.zeros((5, 3))
        >>> along_steps(context, ((6, 2), (3,)), (6,)).shape
        (5, 6, 5)
    """
    shapes = parts_of(context_shape)
    if not any(len(shape) == len(steps) + 1 for shape in shapes):
        return flat(context, context_shape)[:, None]
    if len(steps) == 2:
        maps = as_map(context, context_shape, steps)
        return maps.reshape(*maps.shape[:2], -1).mT
    parts = context if is_several(context_shape) else (context,)
    parts = [x if len(s) == 2 else x.reshape(len(x), 1, -1) for x, s in zip(parts, shapes)]
    wide = [jnp.broadcast_to(x, (len(x), steps[0], x.shape[-1])) for x in parts]
    return jnp.concatenate(wide, -1)


def as_tokens(context: Any, context_shape: tuple[Any, ...]) -> list[Array]:
    """A context with one batch dimension as vectors (batch, number, size), for each of its parts.

    Example:
        >>> [part.shape for part in as_tokens(jnp.zeros((5, 3, 4, 4)), (3, 4, 4))]
        [(5, 16, 3)]
    """
    parts = context if is_several(context_shape) else (context,)
    shapes = zip(token_shapes(context_shape), parts_of(context_shape))
    return [
        x.reshape(*x.shape[:2], -1).mT if len(shape) == 3 else x.reshape(len(x), *token)
        for x, (token, shape) in zip(parts, shapes)
    ]
