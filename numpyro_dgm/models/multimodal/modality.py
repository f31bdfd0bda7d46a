"""A modality of which some data are missing: what networks see of it, and what is scored."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.contexts import Labels
from numpyro_dgm.nn.contexts import one_hot

__all__: list[str] = []  # for the package, not for users

Mask: TypeAlias = Array | bool  # which data have a modality, (batch,); all of them or none
Seen: TypeAlias = Mapping[str, Mask]  # of each modality


def mask_of(has: Array | None, index: int, there: bool) -> Mask:
    """Which data have a modality, whose array is there or not."""
    return there if has is None or not there else has[:, index]


def all_of(seen: Seen, size: int) -> Array | None:
    """Which data have which modality, (batch, M); None where none is missing."""
    if all(mask is True for mask in seen.values()):
        return None
    columns = [jnp.broadcast_to(jnp.asarray(mask), (size,)) for mask in seen.values()]
    return jnp.stack(columns, -1)


def cleared(x: Array, mask: Mask) -> Array:
    """x (batch, *event) with zeros where it is missing."""
    if mask is True:
        return x
    mask = jnp.asarray(mask)
    return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 1)), x, jnp.zeros((), x.dtype))


def visible(network: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """A modality as its network sees it: labels one-hot, flat where it takes vectors."""
    if isinstance(shape, Labels):
        return one_hot(x[..., 0], shape.num_classes)
    return x.reshape(len(x), -1) if hasattr(network, "in_dim") else x


def filled(fn: Any, x: Array | None, mask: Mask, size: int) -> tuple[Array, Mask]:
    """What is observed of a modality, with a value in the support where it is missing, and which of
    it counts."""
    if x is not None and mask is True:
        return x, True
    shape = (size, *fn.event_shape)
    if x is None:
        return feasible(fn.support, jnp.zeros(shape)), False
    mask = jnp.asarray(mask)
    wide = mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
    return jnp.where(wide, x, feasible(fn.support, x)), mask


def feasible(support: Any, like: Array) -> Array:
    """Some value in a support, in the shape of `like`."""
    return jax.lax.stop_gradient(support.feasible_like(jnp.zeros_like(like))).astype(like.dtype)
