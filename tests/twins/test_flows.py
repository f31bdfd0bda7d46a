"""The flows' twins in float64: both directions with their log-determinants, and all gradients, at
1e-10, for shared weights.
"""

from typing import Any

import jax
import numpy as np
import pytest
import torch

from tests.cases import FLOWS
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.contracts.test_flow_normalization import DATA, flow
from tests.kinds import Flow, context_of
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import assert_all_learn, close, compare

EVERY = [
    pytest.param(case, context_shape, id=f"{name}-{'given' if context_shape else 'alone'}")
    for name, case in FLOWS.items()
    for context_shape in case.contexts
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("case", "context_shape"), EVERY)
@pytest.mark.slow("alone")
def test_both_directions(case: Flow, context_shape: Any) -> None:
    """Each parameter and the context get a gradient that is finite and not zero."""
    libs = PyroLibrary(), NumPyroLibrary()
    torch_module = shake(libs[0].conditional(case, context_shape))
    modules = (
        torch_module,
        copy_weights(torch_module, libs[1].conditional(case, context_shape, seed=1)),
    )
    assert repr(modules[0]) == repr(modules[1])
    rng = np.random.default_rng(1)
    value = case.values(rng, 2, 5)
    context = context_of(rng, context_shape, 5)
    weights = [
        rng.standard_normal(value.shape) for _ in range(2)
    ]  # so that no gradient cancels in the sum

    def both(module: Any, value: Any, *context: Any) -> Any:
        """Values (2, 5): log-densities, a weighted sum of the draw that belongs to the value, and
        of the noise that does, with the log-determinants.
        """
        lib = libs[module is not torch_module]
        p = module(*context)
        axes = tuple(range(2, value.ndim))
        (x, out), (u, into) = p.forward_and_log_det(value), p.inverse_and_log_det(value)
        return (
            p.base.log_prob(u)
            + 2 * into
            + 3 * out
            + sum((lib.array(w) * y).sum(axes) for w, y in zip(weights, (x, u)))
        )

    assert_all_learn(*compare(libs, both, modules, value, *context), context_shape)


def test_normalization_step_by_step(x64: None) -> None:
    """Densities and gradients of three training steps, the running statistics after them, and
    densities in evaluation, at 1e-10.
    """
    libs = PyroLibrary(), NumPyroLibrary()
    ours = shake(flow(libs[0]))
    theirs = copy_weights(ours, flow(libs[1]))
    numpyro, nn = libs[1].numpyro, libs[1].package.nn
    state: dict[str, Any] = {}

    def step(x: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        with (
            numpyro.handlers.seed(rng_seed=0),
            numpyro.handlers.trace() as trace,
            numpyro.handlers.substitute(data=state),
        ):
            log_prob = nn.register("flow", theirs)().log_prob(x)
        return log_prob, {
            name: site["value"] for name, site in trace.items() if site["type"] == "mutable"
        }

    for start in (0, 100, 200):
        x = DATA[start : start + 100]
        log_prob = ours().log_prob(torch.as_tensor(x))
        ours.zero_grad()
        (log_prob**2).sum().backward()
        their_log_prob, state = jax.jit(step)(libs[1].array(x), state)
        close(log_prob.detach(), their_log_prob)
    buffers = dict(ours.named_buffers())
    (stored,) = state["flow$state"].values()
    for name in ("running_mean", "running_var"):
        close(buffers[f"transforms.1.norm.{name}"], stored[name], name)
    with nn.evaluation_mode(), libs[0].package.nn.evaluation_mode(ours):
        close(ours().log_prob(torch.as_tensor(DATA)).detach(), step(libs[1].array(DATA), state)[0])
    gradients = libs[1].gradients(
        lambda module, x: module().log_prob(x) ** 2, theirs, libs[1].array(x)
    )[0]
    for path, parameter in ours.named_parameters():
        close(parameter.grad, gradients[path], path)
