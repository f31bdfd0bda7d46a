"""The twins in float64: equal log-densities, means and gradients at 1e-10, for shared weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dgm_core.contexts import Labels
from tests.cases import CONDITIONALS, NETWORKS, PATHS
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.kinds import Conditional, Network, context_of
from tests.twins.copying import copy_weights, shake

EVERY = [
    pytest.param(case, context_shape, id=f"{name}-{'given' if context_shape else 'alone'}")
    for name, case in (CONDITIONALS | PATHS).items()
    for context_shape in case.contexts
]
NETS = [pytest.param(case, id=name) for name, case in NETWORKS.items()]


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


@pytest.fixture
def libs() -> tuple[PyroLibrary, NumPyroLibrary]:
    return PyroLibrary(), NumPyroLibrary()


def close(ours: Any, theirs: Any, what: str = "") -> None:
    np.testing.assert_allclose(
        np.asarray(theirs), np.asarray(ours), rtol=1e-10, atol=1e-10, err_msg=what
    )


def compare(
    libs: tuple[PyroLibrary, NumPyroLibrary],
    function: Callable[..., Any],
    modules: tuple[Any, Any],
    *arrays: np.ndarray,
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """The values of function(module, *arrays), and its gradients in all parameters and arrays;
    returns those of NumPyro.
    """
    (values, ours, ours_in), (their_values, theirs, theirs_in) = (
        lib.values_and_gradients(function, module, *map(lib.array, arrays))
        for lib, module in zip(libs, modules)
    )
    for one, other in zip(*(x if isinstance(x, list) else [x] for x in (values, their_values))):
        close(one, other)
    assert ours.keys() == theirs.keys()
    for path in ours:
        close(ours[path], theirs[path], path)
    for one, other in zip(ours_in, theirs_in):
        close(one, other)
    return theirs, theirs_in


def assert_all_learn(
    gradients: dict[str, np.ndarray], in_arrays: list[np.ndarray], context_shape: Any
) -> None:
    """Each parameter, and the context behind the value, get gradients, none of them zero."""
    assert gradients
    given = [] if isinstance(context_shape, Labels) else in_arrays[1:]
    for path, gradient in [*gradients.items(), *(("context", gradient) for gradient in given)]:
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0), path


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_log_density_and_mean(
    libs: tuple[PyroLibrary, NumPyroLibrary], case: Conditional, context_shape: Any
) -> None:
    """Each parameter and the context get a gradient that is finite and not zero."""
    rng = np.random.default_rng(1)
    torch_module = shake(libs[0].conditional(case, context_shape))
    modules = (
        torch_module,
        copy_weights(torch_module, libs[1].conditional(case, context_shape, seed=1)),
    )
    assert repr(modules[0]) == repr(modules[1])
    value = case.values(rng, 3, 5)
    context = context_of(rng, context_shape, 5)
    weights = rng.standard_normal((3, 5))  # so that no gradient cancels in the sum

    def weighted(module: Any, value: Any, *context: Any) -> list[Any]:
        p = module(*context)
        log_prob = p.log_prob(value) * libs[module is not torch_module].array(weights)
        return [log_prob, p.mean] if case.mean else [log_prob]

    found = compare(libs, weighted, modules, value, *context)
    if not case.name.startswith("Standard"):
        assert_all_learn(*found, context_shape)


@pytest.mark.parametrize("case", NETS)
def test_network(libs: tuple[PyroLibrary, NumPyroLibrary], case: Network) -> None:
    """In training; with drop-out, which draws its own numbers in each library, in evaluation."""
    torch_module = shake(libs[0].network(case))
    modules = torch_module, copy_weights(torch_module, libs[1].network(case, seed=1))
    assert repr(modules[0]) == repr(modules[1]) or case.name in ("Linear", "BatchNorm")
    x = np.random.default_rng(1).standard_normal((3, 5, *case.in_shape))
    if "dropout" not in case.settings:
        compare(libs, lambda module, x: module(x) ** 2, modules, x)
    with (
        libs[0].package.nn.evaluation_mode(modules[0]),
        libs[1].package.nn.evaluation_mode(modules[1]),
    ):
        if (
            case.settings.get("batch_norm") or case.name == "BatchNorm"
        ):  # the training above has moved torch's running statistics
            for part in torch_module.modules():
                if isinstance(part, torch.nn.BatchNorm1d):
                    part.reset_running_stats()
        compare(libs, lambda module, x: module(x) ** 2, modules, x)


def test_batch_norm_moves_the_same_running_statistics(
    libs: tuple[PyroLibrary, NumPyroLibrary],
) -> None:
    """Three steps of training, then evaluation: NumPyro keeps in a mutable site what torch keeps in
    buffers.
    """
    case = NETWORKS["MLP-batch-norm"]
    torch_module = shake(libs[0].network(case))
    module = copy_weights(torch_module, libs[1].network(case, seed=1))
    numpyro, nn = libs[1].numpyro, libs[1].package.nn
    state: dict[str, Any] = {}

    def step(x: jax.Array, state: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
        with (
            numpyro.handlers.seed(rng_seed=0),
            numpyro.handlers.trace() as trace,
            numpyro.handlers.substitute(data=state),
        ):
            y = nn.register("net", module)(x)
        return y, {name: site["value"] for name, site in trace.items() if site["type"] == "mutable"}

    rng = np.random.default_rng(2)
    for _ in range(3):
        x = rng.standard_normal((4, 6, 5)) + 1.0
        ours = torch_module(torch.as_tensor(x))
        theirs, state = step(jnp.asarray(x), state)
        close(ours.detach(), theirs)
    buffers = {path: b for path, b in torch_module.named_buffers() if "running" in path}
    assert set(state) == {"net$state"}
    assert len(buffers) == 4
    for path, buffer in buffers.items():
        layer, _, name = path.rpartition(".")
        close(buffer, state["net$state"][layer][name], path)
    with libs[0].package.nn.evaluation_mode(torch_module), nn.evaluation_mode():
        close(torch_module(torch.as_tensor(x)).detach(), step(jnp.asarray(x), state)[0])
