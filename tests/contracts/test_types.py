"""What a conditional says of itself agrees with what it does."""

from typing import Any

import numpy as np
import pytest

from tests.cases import CONDITIONALS, FLOWS
from tests.kinds import Conditional

EACH = [pytest.param(case, id=name) for name, case in (CONDITIONALS | FLOWS).items()]
FAMILIES = [pytest.param(case, id=name) for name, case in CONDITIONALS.items()]


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
@pytest.mark.parametrize("case", EACH)
def test_single_precision_stays_single_where_double_is_on(lib: Any, case: Conditional) -> None:
    """Weights, contexts and values in float32 while x64 is enabled."""
    dim = case.contexts[-1]
    module = lib.conditional(case, dim)
    value = case.values(np.random.default_rng(0), 5)
    value = value if value.dtype.kind == "i" else value.astype(np.float32)
    context = np.zeros((5, dim), np.float32)

    def run(context: Any, value: Any) -> list[Any]:
        p = module(context)
        x = lib.draw(p)
        return [p.log_prob(value), p.log_prob(x), x]

    with lib.jax.enable_x64(True):
        arrays = lib.jax.eval_shape(run, context, value)
    assert {str(array.dtype) for array in arrays} <= {"float32", "int32", "int64"}
