"""Diffusions of both libraries, with the same weights: equal to 1e-10, and kept in files."""

from typing import Any

import numpy as np
import pytest
import torch

from dgm_core.contexts import Labels
from dgm_core.diffusion import VE, VP, Linear
from numpyro_dgm.conditionals import LearnedSchedule as TheirSchedule
from numpyro_dgm.conditionals.diffusion import bound as their_parts
from pyro_dgm.conditionals import LearnedSchedule
from pyro_dgm.conditionals.diffusion import bound as our_parts
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

LIBS = PyroLibrary(), NumPyroLibrary()
SMALL = {"hidden": (5,), "ode_steps": 2}
CONTEXT = ((2,), Labels(3))
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "noise": (2, {**SMALL, "schedule": VP(6), "variance": "optimal"}),
    "data": ((2, 2), {**SMALL, "schedule": Linear(50), "predict": "data", "variance": "large"}),
    "velocity": (
        2,
        {
            **SMALL,
            "schedule": "learned",
            "predict": "velocity",
            "context_shape": CONTEXT,
            "drop_context": 0.2,
        },
    ),
    "score": (3, {**SMALL, "schedule": VE(8), "predict": "score", "variance": "learned"}),
    "image": ((1, 4, 3), {"schedule": VP(4), "num_levels": 3, "ode_steps": 1}),
}


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def twins(name: str) -> tuple[Any, Any]:
    """The same diffusion in both libraries."""
    dim, settings = CASES[name]
    made = []
    for lib, learned in zip(LIBS, (LearnedSchedule, TheirSchedule)):
        own = {"schedule": learned(5, gamma_min=-5.0)} if settings["schedule"] == "learned" else {}
        made.append(lib.build("conditionals", "Diffusion", dim, **{**settings, **own}))
    ours = shake(made[0]).double()
    return ours, copy_weights(ours, made[1])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow("score", "image", "data", "velocity")
def test_twins(name: str) -> None:
    """Losses of single steps, of ends and of bins, densities along the flow and DDIM draws, with
    all their gradients in weights and values."""
    ours, theirs = modules = twins(name)
    assert repr(ours) == repr(theirs)
    assert type(ours.net).__name__ == ("UNet" if name == "image" else "TimeMLP")
    rng, event = np.random.default_rng(0), ours.event_shape
    x = (
        rng.integers(0, 3, (4, *event)) - 1.0
        if ours.num_levels
        else rng.standard_normal((4, *event))
    )
    noise, index = rng.standard_normal((2, 4, *event)), np.array([0, 1, 3, 2])
    numbers = rng.integers(0, 3, 4)
    context = (rng.standard_normal((4, 2)), numbers) if ours.context_shape else ()

    def weighted(module: Any, x: Any, noise: Any, *context: Any) -> list[Any]:
        lib, parts = (LIBS[0], our_parts) if module is ours else (LIBS[1], their_parts)
        given = context or None
        p = module(given)
        steps = module.steps(None, x)
        at = steps.at(lib.array(index))
        losses = [
            parts.step_loss(module, x, p.context, at, noise[0], below) for below in (None, noise[1])
        ]
        losses.append(parts.prior_loss(module, x, at.alpha, at.sigma, noise[0]))
        losses.append(parts.decoder_loss(module, x, at.alpha, at.sigma, noise[1], False))
        losses.append(parts.step_shares(steps) + parts.constants(module, steps))
        inside = p.log_prob(x) if module.num_levels is None else p.encode((x + 1) / 2)
        drawn = p.decode(x, method="ddim", num_steps=3)
        total = sum(part.sum() * (i + 1) for i, part in enumerate([*losses, inside, drawn]))
        return [
            total,
            *losses,
            inside,
            drawn,
            p.score(x if module.num_levels is None else (x + 1) / 2, 0.4),
        ]

    gradients, _ = compare(LIBS, weighted, modules, x, noise, *context)
    for path, gradient in gradients.items():
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0) or path == "null", path


@pytest.mark.slow
def test_the_chain_in_both_libraries() -> None:
    """The log-densities of all its sites at the same values, and of its guide."""
    modules = twins("velocity")
    rng = np.random.default_rng(0)
    values = {f"x_{t}": rng.standard_normal((4, 2)) for t in range(6)}
    x, context = rng.standard_normal((4, 2)), (rng.standard_normal((4, 2)), np.array([0, 2, 1, 1]))
    found = []
    for lib, module in zip(LIBS, modules):
        chain = module.chain()
        assert isinstance(chain, lib.package.conditionals.Chain) and chain.num_steps == 5
        arrays = {name: lib.array(value) for name, value in values.items()}
        own = lib.array(x), tuple(map(lib.array, context))
        for program in (chain.model, chain.guide):
            trace = lib.trace(program, *own, substituted=arrays)
            scores = {n: s["log_prob"] for n, s in trace.items() if n.startswith("x")}
            found.append({n: np.asarray(lib.numpy(s)) for n, s in scores.items()})
    for one, other in ((found[0], found[2]), (found[1], found[3])):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-9, atol=1e-9)
    assert set(found[0]) == {"x", *values} and set(found[1]) == set(values)


def test_files_and_evaluation(tmp_path: Any) -> None:
    """Weights that are saved and loaded give the same; in evaluation no context is left out."""
    ours, _ = twins("velocity")
    torch.save(ours.state_dict(), tmp_path / "net.pt")
    again, _ = twins("velocity")
    with torch.no_grad():
        for weight in again.parameters():
            weight.zero_()
    again.load_state_dict(torch.load(tmp_path / "net.pt"))
    context = torch.zeros(4, 2), torch.tensor([0, 1, 2, 0])
    x = torch.randn(4, 2)
    assert torch.equal(ours(context).log_prob(x), again(context).log_prob(x))
    seen = ours(context).context
    assert all(torch.equal(*pair) for pair in zip(ours.eval().dropped(seen), seen))
    torch.manual_seed(0)
    left_out = [ours.train().dropped(seen)[1].eq(ours.null[2:]).all(-1) for _ in range(50)]
    assert 20 < torch.stack(left_out).sum() < 60
