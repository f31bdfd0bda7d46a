"""What every flow promises beside what every conditional does: two directions that agree, their
log-determinants, and a density for any value.

What is slow in NumPyro has its quick counterpart in `twins/test_flows.py`: there both directions
and their log-determinants are those of Pyro, at 1e-10.
"""

from typing import Any

import numpy as np
import pytest

from tests import kinds
from tests.cases import FLOWS
from tests.kinds import Flow

EVERY = [
    pytest.param(case, context_shape, id=f"{name}-{'given' if context_shape else 'alone'}")
    for name, case in FLOWS.items()
    for context_shape in case.contexts
]
PLANE = [pytest.param(*p.values, id=p.id) for p in EVERY if p.values[0].small]
PRECISION = {"single": 1e-5, "double": 1e-10}


@pytest.fixture(params=PRECISION)
def tolerance(request: pytest.FixtureRequest) -> float:
    """1e-5 in single precision, 1e-10 in double precision."""
    if request.param == "double":
        request.getfixturevalue("x64")
    return PRECISION[request.param]


def context_of(lib: Any, context_shape: Any, *batch: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(7)
    return tuple(map(lib.array, kinds.context_of(rng, context_shape, *batch)))


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
@pytest.mark.slow("numpyro")
def test_directions_agree(
    lib: Any, case: Flow, context_shape: Any, tolerance: float, rng: np.random.Generator
) -> None:
    """Of values that were never drawn, and of draws: there and back, and both ways to
    the density.
    """
    module = lib.shaken(lib.conditional(case, context_shape), 0.3)

    value = case.values(rng, 2, 5)

    def run(value: Any, *context: Any) -> list[Any]:
        p = module(*context)
        u, into = p.inverse_and_log_det(value)
        draw, drawn = lib.draw_and_score(p, (2,) if context else (2, 5))
        return [u, into, *p.forward_and_log_det(u), drawn, module(*context).log_prob(draw)]

    arrays = [
        lib.numpy(array)
        for array in lib.call(run, lib.array(value), *context_of(lib, context_shape, 5))
    ]
    u, into, back, out, drawn, scored = arrays
    assert into.shape == out.shape == drawn.shape == scored.shape == (2, 5)
    assert all(np.isfinite(array).all() for array in arrays)
    assert np.abs(u - value).max() > 1e-2
    for ours, theirs in ((back, value), (out, -into), (scored, drawn)):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("case", "context_shape"), EVERY)
@pytest.mark.slow("numpyro")
def test_log_determinants_are_those_of_the_jacobian(
    lib: Any, case: Flow, context_shape: Any, rng: np.random.Generator
) -> None:
    module = lib.shaken(lib.conditional(case, context_shape), 0.3)
    p = module(*context_of(lib, context_shape))

    def both(value: Any) -> tuple[Any, list[Any]]:
        (x, out), (u, into) = p.forward_and_log_det(value), p.inverse_and_log_det(value)
        return lib.stack([x, u]), [out, into]

    value = case.values(rng)
    jacobians, log_dets = lib.jacobian(both, lib.array(value))
    for jacobian, log_det in zip(lib.numpy(jacobians), log_dets):
        sign, expected = np.linalg.slogdet(jacobian.reshape(value.size, value.size))
        np.testing.assert_allclose(lib.numpy(log_det), expected, rtol=1e-10, atol=1e-10)
        assert abs(sign) == 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("case", "context_shape"), PLANE)
@pytest.mark.slow("numpyro")
def test_total_mass_is_one(lib: Any, case: Flow, context_shape: Any) -> None:
    """Over a grid of the plane, for parameters that are not the ones it starts from."""
    module = lib.shaken(lib.conditional(case, context_shape, small=True), 0.3)
    u = np.linspace(-5.0, 5.0, 301)  # x = sinh(u): dense around zero, and out to 74
    points, weights = np.sinh(u), (u[1] - u[0]) * np.cosh(u)
    pairs = np.stack(np.meshgrid(points, points), -1).reshape(-1, 2)
    log_prob = lib.numpy(
        lib.call(
            lambda x, *context: module(*context).log_prob(x),
            lib.array(pairs),
            *context_of(lib, context_shape),
        )
    )
    np.testing.assert_allclose(
        (np.outer(weights, weights).ravel() * np.exp(log_prob)).sum(), 1.0, atol=1e-3
    )


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_repr_tells_sizes_and_costs(lib: Any, case: Flow, context_shape: Any) -> None:
    module = lib.conditional(case, context_shape)
    text = repr(module)
    assert all(
        f"{name}={value}" in text
        for name, value in case.settings.items()
        if name in ("num_layers", "hidden", "rank", "num_reflections")
    )
    assert f"; sample: {module.sample_cost}, log_prob: {module.log_prob_cost})" in text
    for direction, cost in (("sample", module.sample_cost), ("log_prob", module.log_prob_cost)):
        assert (cost == "one pass") is (direction != case.slow)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_everything_stays_on_the_device_of_the_module(
    lib: Any, case: Flow, context_shape: Any
) -> None:
    """On a device without values; a root search needs values to see when it has converged."""
    module = lib.conditional(case, context_shape).to("meta")
    context = [array.to("meta") for array in context_of(lib, context_shape, 5)]
    value = lib.torch.zeros(2, 5, *case.event_shape, device="meta")
    with lib.pyro.validation_enabled(False):
        p = module(*context)
        results = (
            []
            if "root search" in module.sample_cost
            else [*p.forward_and_log_det(value), p.rsample((2,))]
        )
        results += (
            []
            if "root search" in module.log_prob_cost
            else [*p.inverse_and_log_det(value), p.log_prob(value)]
        )
    assert results
    assert {array.device.type for array in results} == {"meta"}
