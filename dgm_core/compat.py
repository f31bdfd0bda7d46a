"""The private parts of torch that descriptions of objects look at, by name: nothing here imports
it.
"""

from __future__ import annotations

__all__: list[str] = []  # for the package, not for users

PRIVATE: dict[str, tuple[str, ...]] = {
    "torch.distributions.Binomial": ("_param",),
    "torch.distributions.OneHotCategorical": ("_categorical",),
    "torch.distributions.MultivariateNormal": ("_unbroadcasted_scale_tril",),
    "torch.distributions.utils": ("_lazy_property_and_property",),
}
# Distributions keep here what they were given; what they computed from it comes and goes.
GIVEN = frozenset({"_param", "_categorical", "_unbroadcasted_scale_tril"})
# The classes of attributes that are computed when they are asked for.
COMPUTED = frozenset({"lazy_property", "cached_property", "_lazy_property_and_property"})
