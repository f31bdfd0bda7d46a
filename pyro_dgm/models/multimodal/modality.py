"""A modality of which some data are missing: what networks see of it, and what is scored."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dgm_core.contexts import Labels
from pyro_dgm.nn.contexts import one_hot

__all__: list[str] = []  # for the package, not for users

Mask: TypeAlias = Tensor | bool  # which data have a modality, (batch,); all of them or none
Seen: TypeAlias = Mapping[str, Mask]  # of each modality


def mask_of(has: Tensor | None, index: int, there: bool) -> Mask:
    """Which data have a modality, whose array is there or not."""
    return there if has is None or not there else has[:, index]


def all_of(seen: Seen, size: int) -> Tensor | None:
    """Which data have which modality, (batch, M); None where none is missing."""
    if all(mask is True for mask in seen.values()):
        return None
    columns = [torch.as_tensor(mask).expand(size) for mask in seen.values()]
    return torch.stack(columns, -1)


def cleared(x: Tensor, mask: Mask) -> Tensor:
    """x (batch, *event) with zeros where it is missing."""
    if mask is True:
        return x
    mask = torch.as_tensor(mask)
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 1)), x, torch.zeros_like(x))


def visible(network: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A modality as its network sees it: labels one-hot, flat where it takes vectors."""
    if isinstance(shape, Labels):
        return one_hot(x[..., 0], shape.num_classes)
    return x.flatten(1) if hasattr(network, "in_dim") else x


def filled(fn: Any, x: Tensor | None, mask: Mask, size: int) -> tuple[Tensor, Mask]:
    """What is observed of a modality, with a value in the support where it is missing, and which of
    it counts."""
    if x is not None and mask is True:
        return x, True
    shape = (size, *fn.event_shape)
    if x is None:
        return feasible(fn.support, torch.zeros(shape)), False
    mask = torch.as_tensor(mask)
    wide = mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
    return torch.where(wide, x, feasible(fn.support, x)), mask


def feasible(support: Any, like: Tensor) -> Tensor:
    """Some value in a support, in the shape of `like`."""
    zeros = torch.zeros_like(like)
    try:
        return torch.distributions.transform_to(support)(zeros).detach().to(like.dtype)
    except NotImplementedError:  # of integers, zero among them
        return zeros
