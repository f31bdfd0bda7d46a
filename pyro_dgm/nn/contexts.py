"""Contexts as networks see them: labels one-hot, flattened or as a map."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from dgm_core.contexts import (
    Labels,
    batches_differ,
    is_map,
    is_several,
    parts_of,
    token_shapes,
)
from pyro_dgm.nn.requirements import require

__all__: list[str] = []


def one_hot(labels: Tensor, num_classes: int, name: str = "context") -> Tensor:
    """Integer labels (*batch,) as (*batch, num_classes) zeros and ones; ValueError for one out of
    range or between two classes, NaN where that cannot be raised.

    Example:
        >>> one_hot(torch.tensor([1]), 3)
        tensor([[0., 1., 0.]])
    """
    ones = labels[..., None] == torch.arange(num_classes, device=labels.device)
    good = ones.any(-1)
    require(name, f"labels from 0 to {num_classes - 1}", labels, good)
    return torch.where(good[..., None], ones.to(torch.get_default_dtype()), torch.nan)


def visible(context: Any, context_shape: tuple[Any, ...], name: str = "context") -> Any:
    """A checked context, labels one-hot.

    Example:
        >>> visible(torch.tensor([1]), Labels(2))
        tensor([[0., 1.]])
    """
    if is_several(context_shape):
        return tuple(visible(part, shape, name) for part, shape in zip(context, context_shape))
    if isinstance(context_shape, Labels):
        return one_hot(context, context_shape.num_classes, name)
    return context


def batch_shape_of(context: Any, context_shape: tuple[Any, ...]) -> torch.Size:
    """The batch shape of a context as networks see it, of several that to which they broadcast.

    Example:
        >>> batch_shape_of(torch.zeros(5, 2, 8, 8), (2, 8, 8))
        torch.Size([5])
    """
    if context is None:
        return torch.Size()
    if is_several(context_shape):
        batches = list(map(batch_shape_of, context, context_shape))
        try:
            return torch.broadcast_shapes(*batches)
        except RuntimeError:
            raise ValueError(batches_differ(batches)) from None
    return context.shape[: context.ndim - len(context_shape)]


def flat(context: Any, context_shape: tuple[Any, ...]) -> Tensor:
    """A context as networks see it as a vector (*batch, entries), several one behind the other.

    Example:
        >>> flat(torch.zeros(5, 2, 8, 8), (2, 8, 8)).shape
        torch.Size([5, 128])
    """
    if not is_several(context_shape):
        return context.flatten(-len(context_shape))
    batch = batch_shape_of(context, context_shape)
    parts = map(flat, context, context_shape)
    return torch.cat([part.expand(*batch, -1) for part in parts], -1)


def unflat(vector: Tensor, context_shape: tuple[Any, ...]) -> Any:
    """The context of which `flat` makes a vector (*batch, entries).

    Example:
        >>> unflat(torch.zeros(5, 128), (2, 8, 8)).shape
        torch.Size([5, 2, 8, 8])
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
        >>> spread(torch.zeros(5, 3), (3,), (2, 5)).shape
        torch.Size([10, 3])
    """
    if context is None:
        return None
    if is_several(context_shape):
        return tuple(spread(part, shape, batch) for part, shape in zip(context, context_shape))
    return context.expand(*batch, *context_shape).reshape(-1, *context_shape)


def as_map(context: Any, context_shape: tuple[Any, ...], pixels: tuple[int, ...]) -> Tensor:
    """A context as networks see it as a map (*batch, channels, *pixels): maps with more pixels in
    blocks, vectors the same in all pixels, several one behind the other.

    Example:
        >>> context = torch.zeros(5, 2, 8, 8), torch.zeros(5, 3)
        >>> as_map(context, ((2, 8, 8), (3,)), (4, 4)).shape
        torch.Size([5, 11, 4, 4])
    """
    context = context if is_several(context_shape) else (context,)
    batch = batch_shape_of(context, parts_of(context_shape))
    maps = []
    for part, shape in zip(context, parts_of(context_shape)):
        if is_map(shape, pixels):
            size = shape[1] // pixels[0]
            part = part.unflatten(-1, (-1, size)).unflatten(-3, (-1, size))
            part = part.movedim((-3, -1), (-5, -4)).flatten(-5, -3)
        else:
            part = part.flatten(-len(shape))[..., None, None]
        maps.append(part.expand(*batch, -1, *pixels))
    return torch.cat(maps, -3)


def along_steps(context: Any, context_shape: tuple[Any, ...], steps: tuple[int, ...]) -> Tensor:
    """What each step of a sequence (T,), or each pixel of an image (height, width), is given of a
    context with one batch dimension: (batch, steps, channels), or (batch, 1, channels) where it is
    the same for all.

    Example:
        >>> context = torch.zeros(5, 6, 2), torch.zeros(5, 3)
        >>> along_steps(context, ((6, 2), (3,)), (6,)).shape
        torch.Size([5, 6, 5])
    """
    shapes = parts_of(context_shape)
    if not any(len(shape) == len(steps) + 1 for shape in shapes):
        return flat(context, context_shape)[:, None]
    if len(steps) == 2:
        return as_map(context, context_shape, steps).flatten(-2).mT
    parts = context if is_several(context_shape) else (context,)
    parts = [x if len(s) == 2 else x.flatten(1)[:, None] for x, s in zip(parts, shapes)]
    return torch.cat([part.expand(-1, steps[0], -1) for part in parts], -1)


def as_tokens(context: Any, context_shape: tuple[Any, ...]) -> list[Tensor]:
    """A context with one batch dimension as vectors (batch, number, size), for each of its parts.

    Example:
        >>> [part.shape for part in as_tokens(torch.zeros(5, 3, 4, 4), (3, 4, 4))]
        [torch.Size([5, 16, 3])]
    """
    parts = context if is_several(context_shape) else (context,)
    shapes = zip(token_shapes(context_shape), parts_of(context_shape))
    return [
        x.flatten(2).mT if len(shape) == 3 else x.reshape(len(x), *token)
        for x, (token, shape) in zip(parts, shapes)
    ]
