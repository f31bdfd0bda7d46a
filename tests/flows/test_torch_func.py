"""Flows under `torch.func`: both directions of each, mapped and differentiated."""

from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels
from pyro_dgm.conditionals import DiagonalNormal
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


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
@pytest.mark.parametrize("dims", [(0, 0), (0, 1)])
def test_labels_can_be_mapped(lib: Any, dims: tuple[int, int]) -> None:
    """And one out of range is refused, wherever the mapped dimension is."""
    torch, rng = lib.torch, np.random.default_rng(0)
    module = lib.shaken(DiagonalNormal(2, context_shape=Labels(3)), 0.3)
    values, labels = torch.tensor(rng.normal(size=(4, 5, 2))).float(), rng.integers(3, size=(4, 5))

    def score(value: Any, label: Any) -> Any:
        return module(label).log_prob(value)

    def mapped(labels: Any) -> Any:
        given = torch.tensor(labels if dims[1] == 0 else labels.T)
        return torch.func.vmap(score, dims)(values, given)

    expected = lib.numpy(score(values, torch.tensor(labels)))
    np.testing.assert_allclose(lib.numpy(mapped(labels)), expected, rtol=1e-5)
    labels[1, 4] = -2
    with pytest.raises(ValueError, match=r"^context must be labels from 0 to 2, got -2\.$"):
        mapped(labels)
