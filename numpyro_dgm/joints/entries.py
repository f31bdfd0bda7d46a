"""The distributions of the single entries of a site."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import ExpandedDistribution, Independent, TransformedDistribution

from numpyro_dgm.joints.enumerated import listed

__all__: list[str] = []  # for the package, not for users


def entries_of(fn: Any) -> Any:
    """The distribution of each entry by itself, of batch shape (*batch, *event), where the entries
    are independent; None where they are not, or not known to be."""
    if not fn.event_shape:
        return fn
    if isinstance(fn, Independent):
        return entries_of(fn.base_dist)
    if isinstance(fn, ExpandedDistribution):
        inner = entries_of(fn.base_dist)
        return None if inner is None else inner.expand(fn.batch_shape + fn.event_shape)
    if isinstance(fn, TransformedDistribution) and all(map(_is_elementwise, fn.transforms)):
        inner = entries_of(fn.base_dist)
        return None if inner is None else TransformedDistribution(inner, fn.transforms)
    return None


def log_density(fn: Any, value: Array) -> Array:
    """The log-density of values, -inf outside the support, of which the engine warns where it
    checks: a draw of one datum need not be in the support of another's distribution."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Out-of-support values")
        found = fn.log_prob(value)
    inside = jnp.asarray(fn.support(value)).reshape(*found.shape, -1).all(-1)
    return jnp.where(inside | jnp.isnan(found), found, -jnp.inf)


def other_values(fn: Any, value: Array) -> Array:
    """Values (num_data, *event) of a site other than its own: of a discrete one the next,
    since all data may have the same; else those of the datum before."""
    entries = entries_of(fn)
    entries = fn if entries is None else entries
    try:
        values = listed("", entries)
    except ValueError:
        counts = entries.support.is_discrete and not entries.event_shape
        return value + 1 if counts else jnp.roll(value, 1, 0)
    event_dim = len(entries.event_shape)
    ones = (1,) * (value.ndim - event_dim)
    same = value == values.reshape(len(values), *ones, *entries.event_shape)
    same = same.reshape(*same.shape[: same.ndim - event_dim], -1).all(-1)
    return values[(same.argmax(0) + 1) % len(values)].astype(value.dtype)


def draws_and_densities(sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What sites drew and, where they have one, its log-density: both are the same in two runs from
    the same random numbers whose distributions are."""
    found = {}
    for name, site in sites.items():
        fn = site["fn"]
        found[name] = np.asarray(site["value"])
        try:
            found[f"log q({name})"] = np.asarray(fn.log_prob(site["value"]))
        except (ValueError, NotImplementedError):  # there is none
            continue
    return found


def _is_elementwise(transform: Any) -> bool:
    return transform.domain.event_dim == transform.codomain.event_dim == 0
