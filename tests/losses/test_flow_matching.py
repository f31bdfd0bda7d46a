"""Flow matching as a term: its value and gradients in both libraries, per datum of a subsampled
plate; what it trains and what not; runs that are stopped and go on.
"""

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend, PyroBackend
from tests.flows.velocities import straight_velocity, velocity
from tests.losses.training import fit

RNG = np.random.default_rng(0)
X, NOISE, TIMES = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3)), RNG.uniform(size=4)
WEIGHT, SHIFT = RNG.standard_normal((3, 3)), np.array([0.3, -0.2, 0.5])


def regressed(backend: Any) -> tuple[Any, Any]:
    """z ~ Normal(0, I), x | z from a flow with the velocity  tanh(x W) t + z  in an affine map."""
    flows, conditionals = (
        import_module(f"{backend.name}_dgm.{part}") for part in ("flows", "conditionals")
    )
    dist, array, np_ = backend.dist, backend.array, backend.np
    base = conditionals.StandardNormal(3)

    def model(x: Any) -> None:
        weight, scale = backend.param("W"), backend.param("s")
        net = velocity(backend, lambda x, t, c: np_.tanh(x @ weight) * t[..., None] + c)
        moved = flows.Diagonal(3)
        stack = [flows.ContinuousTransform(net, context_shape=3), moved]
        flow = flows.Flow(3, stack, context_shape=3, base=base)
        with backend.plate("data", 40, subsample_size=len(x)):
            z = backend.sample("z", dist.Normal(array(SHIFT) * scale, array(1e-12)).to_event(1))
            backend.sample("x", flow(z), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", 40, subsample_size=len(x)):
            backend.sample("z", dist.Normal(backend.param("m"), array(1e-12)).to_event(1))

    return model, guide


def test_values_and_gradients(x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With given noise and times: the formula, times the data size; gradients reach the velocity
    and, through its context, the guide.
    """
    found, params = [], {"W": WEIGHT, "m": SHIFT, "s": np.array(1.0)}
    for backend in (PyroBackend(), NumPyroBackend()):
        module = import_module(f"{backend.name}_dgm.flows.matching")
        monkeypatch.setattr(module, "drawn_noise", partial(given, backend, NOISE))
        monkeypatch.setattr(module, "times", partial(given, backend, TIMES))
        loss = backend.losses.FlowMatching("x")
        with backend.double_precision():
            found.append(backend.evaluate(loss, *regressed(backend), X, params=params))
    here = (1 - TIMES[:, None]) * NOISE + TIMES[:, None] * X
    away = np.tanh(here @ WEIGHT) * TIMES[:, None] + SHIFT - (X - NOISE)
    for total, terms, gradients in found:
        assert terms == {"FlowMatching(x)": pytest.approx((away**2).sum() / 4, abs=1e-10)}
        assert total == pytest.approx(10 * (away**2).sum(), abs=1e-9)
        np.testing.assert_allclose(gradients["m"], 20 * away.sum(0), atol=1e-9)
        inner = 20 * away * (1 - np.tanh(here @ WEIGHT) ** 2) * TIMES[:, None]
        np.testing.assert_allclose(gradients["W"], here.T @ inner, atol=1e-9)
        assert not np.any(gradients.get("s", 0.0))


def given(backend: Any, values: np.ndarray, *_: Any, **__: Any) -> Any:
    return backend.array(values)


def plane(backend: Any, net: Any, **settings: Any) -> tuple[Any, Any]:
    """x in the plane, from a flow."""
    package = import_module(f"{backend.name}_dgm")
    transform = package.flows.ContinuousTransform
    made = (
        partial(transform, key=backend.jax.random.key(0))
        if backend.name == "numpyro"
        else transform
    )
    flow = package.flows.Flow(2, [made(net, **settings)])

    def model(x: Any) -> None:
        own = package.nn.register("flow", flow)
        with backend.plate("data", len(x)):
            backend.sample("x", own(), obs=x)

    return model, flow


def test_masks_and_contexts_are_refused(backend: Any) -> None:
    losses = backend.losses
    assert repr(losses.FlowMatching("x")) == "FlowMatching('x')"
    model, _ = plane(backend, straight_velocity(backend, 1.0, 2.0))

    def masked(x: Any) -> None:
        with backend.mask(backend.array([1, 0, 1, 1]) > 0):
            model(x)

    for loss, program, message in (
        (
            losses.FlowMatching("x", coupling="optimal"),
            masked,
            "may lie under the mask of site 'x'",
        ),
        (losses.FlowMatching("y"), model, r"no sample site \['y'\]; it has \['x'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            backend.evaluate(loss, program, lambda x: None, X[:, :2], params={})
    with pytest.raises(ValueError, match="coupling must be one of 'independent', 'optimal', got"):
        losses.FlowMatching("x", coupling="sinkhorn")


@pytest.mark.slow
def test_runs_that_stop_go_on(backend: Any, tmp_path: Any) -> None:
    """In steps of minibatches, compiled ones in NumPyro: the same numbers."""
    x = np.float32(RNG.standard_normal((64, 2)) * [0.3, 1.5] + [2.0, -1.0])
    package, ends = import_module(f"{backend.name}_dgm"), []
    loss = backend.losses.FlowMatching("x", coupling="optimal")
    for steps in ((24,), (12, 24)):
        if backend.name == "pyro":
            backend.torch.manual_seed(0)
            backend.pyro.clear_param_store()
        model, _ = plane(backend, 2, hidden=(8,), num_steps=2)
        folder = tmp_path / str(len(steps))
        for num in steps:
            run = fit(
                backend, model, None, x, loss=loss, num_steps=num, batch_size=16, checkpoint=folder
            )
        ends.append(run.history.column("loss"))
        after = package.log_weights(run, x, num_particles=1)
        assert np.isfinite(after).all()
    np.testing.assert_array_equal(*ends)
    run.save(tmp_path / "run")
    again = package.load_run(tmp_path / "run", model, run.guide)
    np.testing.assert_array_equal(package.log_weights(again, x, num_particles=1), after)
