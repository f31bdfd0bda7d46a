"""What a conditional says of itself agrees with what it does."""

from typing import Any

import numpy as np
import pytest

from tests.cases import CONDITIONALS, FLOWS
from tests.kinds import Conditional, context_of

EACH = [pytest.param(case, id=name) for name, case in (CONDITIONALS | FLOWS).items()]
FAMILIES = [
    pytest.param(case, id=name)
    for name, case in CONDITIONALS.items()
    if name == case.name and not name.startswith("Standard")
]


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
@pytest.mark.parametrize("case", EACH)
def test_single_precision_stays_single_where_double_is_on(lib: Any, case: Conditional) -> None:
    """Weights, contexts and values in float32 while x64 is enabled."""
    dim = case.contexts[-1]
    module = lib.conditional(case, dim)
    value = case.values(np.random.default_rng(0), 5)
    value = value if value.dtype.kind == "i" else value.astype(np.float32)
    (context,) = context_of(np.random.default_rng(0), dim, 5)
    context = context if context.dtype.kind == "i" else context.astype(np.float32)

    def run(context: Any, value: Any) -> list[Any]:
        p = module(context)
        x = lib.draw(p)
        return [p.log_prob(value), p.log_prob(x), x]

    with lib.jax.enable_x64(True):
        arrays = lib.jax.eval_shape(run, context, value)
    assert {str(array.dtype) for array in arrays} <= {"float32", "int32", "int64"}


@pytest.mark.parametrize("case", FAMILIES)
def test_gradients_and_supports_are_what_the_flags_say(lib: Any, case: Conditional) -> None:
    """Draws move with the parameters where `has_rsample` says so, and lie in the support."""
    module = lib.shaken(lib.conditional(case, case.contexts[0]), 0.3)
    context = [*map(lib.array, context_of(np.random.default_rng(0), case.contexts[0], 5))]
    p = module(*context)
    assert p.has_rsample is case.rsample

    def draw(module: Any, *context: Any) -> Any:
        return lib.draw(module(*context), (4,)) * 1.0

    def inside(module: Any, *context: Any) -> Any:
        support = module(*context).support
        check = support.check if hasattr(support, "check") else support
        return check(lib.draw(module(*context), (4,)))

    assert lib.numpy(lib.call(lambda *context: inside(module, *context), *context)).all()
    if case.rsample or lib.package.__name__ == "numpyro_dgm":
        moves = lib.gradients(draw, module, *context)[0].values()
        assert any((gradient != 0).any() for gradient in moves) is case.rsample
    else:
        assert not draw(module, *context).requires_grad
