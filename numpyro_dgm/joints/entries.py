"""The distributions of the single entries of a site."""

from typing import Any

from numpyro.distributions import ExpandedDistribution, Independent, TransformedDistribution

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


def _is_elementwise(transform: Any) -> bool:
    return transform.domain.event_dim == transform.codomain.event_dim == 0
