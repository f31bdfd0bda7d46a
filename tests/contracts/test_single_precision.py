"""Single precision, which is what people use: log-densities, moments and gradients of every family
for parameters over eight decades, at its own draws and at the ends of its support.

The reference is Pyro's twin in double precision on the same numbers; its formulas are held to
other people's in `test_reference_values.py`.
"""

from typing import Any

import numpy as np
import pytest

from tests.cases import CONDITIONALS
from tests.contracts.libraries import PyroLibrary
from tests.kinds import Conditional

FAMILIES = [
    pytest.param(case, id=name)
    for name, case in CONDITIONALS.items()
    if name == case.name and not name.startswith("Standard")
]
ENDS = {
    "real": [-1e4, -30.0, 1e-6, 1e4],
    "unit": [1e-30, 1e-7, 0.5, 1.0 - 6e-8],
    "binary": [0.0, 1.0],
    "levels": [0.0, 1.0],
    "classes": [0, 3],
}


def parameters(case: Conditional, num_params: int) -> np.ndarray:
    """Real parameters of both signs from 1e-4 to 1e4, and moderate ones."""
    rng = np.random.default_rng(0)
    wide = rng.choice([-1.0, 1.0], (40, num_params)) * 10 ** rng.uniform(-4, 4, (40, num_params))
    raw = np.concatenate([wide, rng.uniform(-12, 12, (24, num_params))])
    if case.name == "FullRankNormal":  # its inverse has products of what is below the diagonal
        below = 2 * case.event_shape[0]
        raw[:, below:] = raw[:, below:].clip(-5, 5)
    return raw.astype(np.float32)


def moments(p: Any) -> list[Any]:
    """Mean, variance, and the entropy where it is offered."""
    base = getattr(p, "base_dist", p)
    if any(name in type(base).__name__ for name in ("Categorical", "Coupled")):
        return []
    try:
        return [p.mean, p.variance, base.entropy()]
    except NotImplementedError:
        return [p.mean, p.variance]


@pytest.mark.parametrize("case", FAMILIES)
def test_single_precision_is_enough(lib: Any, case: Conditional) -> None:
    module = lib.conditional(case, 0)
    raw = parameters(case, module.num_params)
    ends = np.array(ENDS[case.support], None if case.support == "classes" else np.float32)
    ends = ends.reshape(-1, *(1 for _ in (0, *case.event_shape))) + np.zeros_like(
        case.values(np.random.default_rng(0)),
        shape=(1, len(raw), *case.event_shape),
        dtype=ends.dtype,
    )

    def score(raw: Any, x: Any) -> Any:
        return module.build(raw).log_prob(x)

    def draw(raw: Any) -> Any:
        return lib.draw(module.build(raw))

    def run(raw: Any, ends: Any) -> list[Any]:
        x = draw(raw)
        x = x.detach() if isinstance(lib, PyroLibrary) else x
        slopes = lib.slopes(lambda raw: score(raw, x), raw)
        if case.rsample:
            slopes += lib.slopes(lambda x: score(raw, x), x)
            slopes += lib.slopes(draw, raw) + lib.slopes(lambda raw: score(raw, draw(raw)), raw)
        return [x, score(raw, x), score(raw, ends), slopes, moments(module.build(raw))]

    x, log_prob, at_ends, slopes, found = lib.call(run, lib.array(raw), lib.array(ends))
    x, log_prob, at_ends = map(lib.numpy, (x, log_prob, at_ends))
    assert log_prob.dtype == np.float32
    for array in (x, log_prob, *map(lib.numpy, slopes)):
        assert np.isfinite(array).all()

    double = PyroLibrary()
    reference = double.conditional(case, 0).double()
    exact = reference.build(double.torch.tensor(raw.astype(float)))
    values = [double.torch.tensor(v.astype(float) if v.dtype.kind == "f" else v) for v in (x, ends)]
    for ours, value in zip((log_prob, at_ends), values):
        theirs = exact.log_prob(value).detach().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(found, moments(exact)):
        theirs = theirs.detach().numpy()
        np.testing.assert_allclose(lib.numpy(ours), theirs, rtol=3e-3, atol=1e-6)
