"""The flows' twins in float64: both directions with their log-determinants, and all gradients, at 1e-10, for shared weights."""

from typing import Any

import numpy as np
import pytest

from tests.cases import FLOWS, Flow
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

EVERY = [pytest.param(case, context_dim, id=f"{name}-{'given' if context_dim else 'alone'}") for name, case in FLOWS.items() for context_dim in case.contexts]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("case", "context_dim"), EVERY)
def test_both_directions(case: Flow, context_dim: int) -> None:
    libs = PyroLibrary(), NumPyroLibrary()
    torch_module = shake(libs[0].conditional(case, context_dim))
    modules = torch_module, copy_weights(torch_module, libs[1].conditional(case, context_dim, seed=1))
    assert repr(modules[0]) == repr(modules[1])
    rng = np.random.default_rng(1)
    value = case.values(rng, 2, 5)
    context = [rng.standard_normal((5, context_dim))] if context_dim else []
    weights = [rng.standard_normal(value.shape) for _ in range(2)]  # so that no gradient cancels in the sum

    def both(module: Any, value: Any, *context: Any) -> Any:
        """Values (2, 5): log-densities, a weighted sum of the draw that belongs to the value, and of the noise that does, with the log-determinants."""
        lib = libs[module is not torch_module]
        p = module(*context)
        axes = tuple(range(2, value.ndim))
        (x, out), (u, into) = p.forward_and_log_det(value), p.inverse_and_log_det(value)
        return p.base.log_prob(u) + 2 * into + 3 * out + sum((lib.array(w) * y).sum(axes) for w, y in zip(weights, (x, u)))

    compare(libs, both, modules, value, *context)
