"""Flows under `torch.func`: both directions of each, mapped and differentiated."""

from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels
from tests.cases import FLOWS
from tests.kinds import Flow, context_of

EACH = [
    pytest.param(case, id=name)
    for name, case in FLOWS.items()
    if not isinstance(case.contexts[-1], Labels)
]


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's log_ndtr
@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
@pytest.mark.parametrize("case", EACH)
def test_both_directions_can_be_mapped_and_differentiated(lib: Any, case: Flow) -> None:
    torch = lib.torch
    context_shape = case.contexts[-1]
    module = lib.shaken(lib.conditional(case, context_shape), 0.3)
    rng = np.random.default_rng(0)
    values, contexts = (
        lib.array(case.values(rng, 3)),
        lib.array(*context_of(rng, context_shape, 3)),
    )

    def score(value: Any, context: Any) -> Any:
        return module(context).log_prob(value)

    def drawn(value: Any, context: Any) -> Any:
        x, log_det = module(context).forward_and_log_det(value)
        return (x * value).sum() + log_det

    for function in (score, drawn):
        slopes = torch.func.vmap(torch.func.grad(function, (0, 1)))(values, contexts)
        leaves = values.clone().requires_grad_(), contexts.clone().requires_grad_()
        each = [function(value, context) for value, context in zip(*leaves)]
        total = torch.stack(each).sum() + 0 * leaves[1].sum()
        theirs = torch.autograd.grad(total, leaves)
        for one, other in zip(slopes, theirs):
            np.testing.assert_allclose(lib.numpy(one), lib.numpy(other), rtol=1e-4, atol=1e-4)
