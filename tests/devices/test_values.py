"""Modules that were moved give the values and gradients of those that were not, in double
precision, and draw where they are, whatever torch's default device is. (JAX places what it computes
itself.)
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from tests.cases import AUTOREGRESSIVE, CONDITIONALS, FLOWS, GANS, MODELS, NETWORKS, PAIRS, PATHS
from tests.contracts.libraries import PyroLibrary
from tests.kinds import Flow, Model, Network, context_of

MEMBERS = [
    pytest.param(case, context_shape, id=f"{name}-{context_shape}")
    for name, case in (CONDITIONALS | FLOWS | PATHS | AUTOREGRESSIVE).items()
    for context_shape in case.contexts
]
EACH = [pytest.param(case, id=name) for name, case in (MODELS | PAIRS | GANS).items()]


@pytest.fixture
def lib(torch_x64: None) -> PyroLibrary:
    return PyroLibrary()


def close(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)


def assert_equal_on(
    place: torch.device, lib: PyroLibrary, run: Any, build: Any, *arrays: np.ndarray
) -> tuple[Any, ...]:
    """run(build(), *arrays), its gradients and where it lies. Returns the module and the arrays as
    they were moved.
    """
    with torch.device("cpu"):
        module = build()
        here = [lib.array(array) for array in arrays]
        value, by_weight, by_array = lib.values_and_gradients(run, module, *here)
    moved, there = copy.deepcopy(module).to(place), [array.to(place) for array in here]
    assert run(moved, *there).device == place
    found, weights, slopes = lib.values_and_gradients(run, moved, *there)
    close(found, value)
    for path, gradient in by_weight.items():
        close(weights[path], gradient)
    for gradient, slope in zip(by_array, slopes, strict=True):
        close(slope, gradient)
    return moved, *there


@pytest.mark.parametrize(("case", "context_shape"), MEMBERS)
def test_densities_and_draws(
    place: torch.device, lib: PyroLibrary, case: Any, context_shape: Any
) -> None:
    rng = np.random.default_rng(0)
    context, value = context_of(rng, context_shape, 5), case.values(rng, 5)

    def build() -> Any:
        return lib.shaken(lib.conditional(case, context_shape), 0.1)

    def density(module: Any, value: Any, *context: Any) -> Any:
        return module(*context).log_prob(value)

    moved, _, *given = assert_equal_on(place, lib, density, build, value, *context)
    with torch.no_grad():
        p = moved(*given)
        draws = lib.draw(p, (4,))
        assert draws.device == place
        assert draws.isfinite().all()
        if case.mean and not isinstance(case, Flow):
            assert p.mean.device == place


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in NETWORKS.items()])
def test_networks(place: torch.device, lib: PyroLibrary, case: Network) -> None:
    x = np.random.default_rng(0).standard_normal((3, *case.in_shape))

    def build() -> Any:
        return lib.shaken(lib.network(case), 0.1).eval()

    assert_equal_on(place, lib, lambda network, x: network(x), build, x)


@pytest.mark.parametrize("case", EACH)
def test_models(place: torch.device, lib: PyroLibrary, case: Model) -> None:
    """The sites of guide and model at equal draws of the guide, and data drawn from the model."""
    poutine = lib.pyro.poutine

    def sites(program: Any, given: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        nodes = poutine.trace(poutine.condition(program, given)).get_trace(*args, **kwargs).nodes
        kept = {n: s for n, s in nodes.items() if s["type"] == "sample"}
        return {n: s for n, s in kept.items() if not poutine.util.site_is_subsample(s)}

    with torch.device("cpu"):
        pair = lib.model(case)
        data = [lib.array(part) for part in case.data(np.random.default_rng(0), 5)]
        draws = {n: s["value"].detach() for n, s in sites(pair.guide, {}, *data).items()}
        here = [sites(program, draws, *data) for program in (pair.guide, pair.model)]
    moved, there = copy.deepcopy(pair).to(place), [array.to(place) for array in data]
    given = {name: value.to(place) for name, value in draws.items()}
    for expected, program in zip(here, (moved.guide, moved.model), strict=True):
        found = sites(program, given, *there)
        assert found.keys() == expected.keys()
        for name, site in found.items():
            assert site["value"].device == place, name
            try:
                with torch.device("cpu"):
                    score = expected[name]["fn"].log_prob(expected[name]["value"])
            except lib.package.conditionals.NoDensityError:
                continue
            own = site["fn"].log_prob(site["value"])
            assert own.device == place
            close(lib.numpy(own), lib.numpy(score))
    labels = {"y": there[1]} if case in MODELS.values() and len(there) > 1 else {"size": 3}
    drawn = sites(moved.guide, {}, *there) | sites(moved.model, {}, **labels)
    assert {site["value"].device for site in drawn.values()} == {place}
