"""Modules moved to a GPU, where torch's default device stays the CPU: they give there the values
and gradients of the CPU, in double precision, and draw there. (JAX places what it computes itself.)
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
    gpu: torch.device, lib: PyroLibrary, run: Any, module: Any, *arrays: np.ndarray
) -> Any:
    """run(module, *arrays), its gradients and where it lies; the module on the GPU."""
    moved = copy.deepcopy(module).to(gpu)
    here = [lib.array(array) for array in arrays]
    there = [array.to(gpu) for array in here]
    assert run(moved, *there).device == gpu
    value, by_weight, by_array = lib.values_and_gradients(run, module, *here)
    found, weights, slopes = lib.values_and_gradients(run, moved, *there)
    close(found, value)
    for path, gradient in by_weight.items():
        close(weights[path], gradient)
    for gradient, slope in zip(by_array, slopes, strict=True):
        close(slope, gradient)
    return moved


@pytest.mark.parametrize(("case", "context_shape"), MEMBERS)
def test_densities_and_draws(
    gpu: torch.device, lib: PyroLibrary, case: Any, context_shape: Any
) -> None:
    rng = np.random.default_rng(0)
    module = lib.shaken(lib.conditional(case, context_shape), 0.1)
    context, value = context_of(rng, context_shape, 5), case.values(rng, 5)

    def density(module: Any, value: Any, *context: Any) -> Any:
        return module(*context).log_prob(value)

    moved = assert_equal_on(gpu, lib, density, module, value, *context)
    p = moved(*[lib.array(array).to(gpu) for array in context])
    with torch.no_grad():
        draws = lib.draw(p, (4,))
        assert draws.device == gpu
        assert draws.isfinite().all()
        if case.mean and not isinstance(case, Flow):
            assert p.mean.device == gpu


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in NETWORKS.items()])
def test_networks(gpu: torch.device, lib: PyroLibrary, case: Network) -> None:
    network = lib.shaken(lib.network(case), 0.1).eval()
    x = np.random.default_rng(0).standard_normal((3, *case.in_shape))
    assert_equal_on(gpu, lib, lambda network, x: network(x), network, x)


@pytest.mark.parametrize("case", EACH)
def test_models(gpu: torch.device, lib: PyroLibrary, case: Model) -> None:
    """The sites of guide and model at equal draws of the guide, and data drawn from the model."""
    pair = lib.model(case)
    moved = copy.deepcopy(pair).to(gpu)
    data = [lib.array(part) for part in case.data(np.random.default_rng(0), 5)]
    there = [array.to(gpu) for array in data]
    poutine = lib.pyro.poutine

    def sites(program: Any, given: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        nodes = poutine.trace(poutine.condition(program, given)).get_trace(*args, **kwargs).nodes
        kept = {n: s for n, s in nodes.items() if s["type"] == "sample"}
        return {n: s for n, s in kept.items() if not poutine.util.site_is_subsample(s)}

    guide = sites(pair.guide, {}, *data)
    draws = {name: site["value"].detach() for name, site in guide.items()}
    draws_there = {name: value.to(gpu) for name, value in draws.items()}
    for program, again in ((pair.guide, moved.guide), (pair.model, moved.model)):
        here, found = sites(program, draws, *data), sites(again, draws_there, *there)
        assert here.keys() == found.keys()
        for name, site in found.items():
            assert site["value"].device == gpu, name
            try:
                expected = here[name]["fn"].log_prob(here[name]["value"])
            except lib.package.conditionals.NoDensityError:
                continue
            score = site["fn"].log_prob(site["value"])
            assert score.device == gpu
            close(lib.numpy(score), lib.numpy(expected))
    assert {site["value"].device for site in sites(moved.guide, {}, *there).values()} <= {gpu}
    kwargs = {"y": there[1]} if len(there) > 1 and isinstance(case, Model) else {"size": 3}
    if type(case) is not Model or case.name in {c.name for c in GANS.values()}:
        kwargs = {"size": 3}
    drawn = sites(moved.model, {}, **kwargs)
    assert {site["value"].device for site in drawn.values()} == {gpu}
