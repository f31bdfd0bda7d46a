"""The compiled step of the Pyro training loop does what the plain one does, and gives way to it
where it cannot.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor
from torch.distributions import constraints

from dgm_core.schedules import linear
from pyro_dgm import ELBO, NLL
from pyro_dgm.losses import Term
from pyro_dgm.training import Adam, compiling, fit

from .pyro_pairs import Network, binary, density, regression, regression_data

quiet = functools.partial(fit, progress=False)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Whether each attempt to compile succeeded."""
    outcomes: list[Any] = []
    original = compiling.compiled_step

    def spy(*args: Any) -> Any:
        outcomes.append(original(*args))
        return outcomes[-1]

    monkeypatch.setattr("pyro_dgm.training.trainer.compiled_step", spy)
    return outcomes


def both(
    make: Callable[[], tuple[Callable, Any]], data: Any, **options: Any
) -> list[tuple[Any, list[Tensor]]]:
    """Runs and final tensors of the plain and the compiled path, from the same start."""
    results = []
    for compiled in (False, True):
        pyro.clear_param_store()
        torch.manual_seed(0)
        model, guide = make()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            run = quiet(model, guide, data, compile=compiled, **options)
        states = getattr(model, "__self__", None)
        results.append(
            (run, [*run.params.values(), *(states.buffers() if states is not None else ())])
        )
    return results


def network() -> tuple[Callable, Callable]:
    made = Network()
    return made.model, made.guide


@pytest.mark.slow
def test_it_follows_the_plain_path_with_drop_out_and_batch_normalization(
    compilations: list[Any],
) -> None:
    options = {
        "loss": ELBO(beta=linear(10)),
        "optim": Adam(1e-2),
        "clip_norm": 1.0,
        "average": 0.9,
        "batch_size": 24,
        "num_epochs": 4,
    }
    (plain, expected), (fast, tensors) = both(
        network, binary(60), **options
    )  # the last batch of an epoch has 12 rows
    assert compilations[0] is None and compilations[1] is not None
    for a, b in zip(expected, tensors, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for name in ("loss", "ELBO", "ELBO/KL"):
        torch.testing.assert_close(
            plain.history.column(name), fast.history.column(name), rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_it_follows_the_plain_path_with_subsampling_automatic_guides_and_free_parameters(
    compilations: list[Any],
) -> None:
    x, y, _, _ = regression_data(40)
    base = regression(40)

    def model(x: Tensor, y: Tensor) -> None:
        pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        base(x, y * pyro.param("scale"))

    (_, expected), (_, tensors) = both(
        lambda: (model, AutoNormal(model)),
        {"x": x, "y": y},
        batch_size=10,
        num_epochs=3,
        loss=ELBO(num_particles=2),
    )
    assert compilations[1] is not None
    for a, b in zip(expected, tensors, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


class Surrogate(Term):
    """A term whose value is the squared mean and whose gradient is that of three times the mean."""

    name = "surrogate"
    details = ()

    def estimate(self, joints: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        mean = joints.inference().runs[0][0].nodes["x"]["fn"].mean.mean()
        value, surrogate = mean**2, 3.0 * mean
        return value.detach() + surrogate - surrogate.detach(), {}


def test_detached_values_stay_detached(compilations: list[Any]) -> None:
    model, guide = density(2.0)
    run = quiet(
        model,
        guide,
        torch.ones(5),
        loss=Surrogate(),
        optim=functools.partial(torch.optim.SGD, lr=0.1),
        num_epochs=2,
        compile=True,
    )
    assert compilations[0] is not None
    assert run.history.column("surrogate").tolist() == pytest.approx([4.0, 1.7**2])
    assert run.params["mean"].item() == pytest.approx(2.0 - 2 * 0.3)


def branching() -> tuple[Callable, None]:
    def model(x: Tensor) -> None:
        mean = pyro.param("mean", torch.tensor(0.5))
        shift = 1.0 if mean.item() > 0 else 0.0  # depends on a value: it cannot be exported
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean + shift, 1.0), obs=x)

    return model, None


def test_a_model_that_cannot_be_exported_takes_the_plain_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, guide = branching()
    with pytest.warns(UserWarning, match="The step is not compiled"):
        run = quiet(model, guide, torch.ones(5), loss=NLL(), compile=True, num_epochs=3)
    assert run.epoch == 3
    monkeypatch.setattr(compiling, "_REPAID_AFTER", 1)
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quiet(model, guide, torch.ones(5), loss=NLL(), num_epochs=3).epoch == 3


def test_without_a_compiler_the_plain_path_is_taken() -> None:
    from torch._inductor import config, utils

    model, guide = density(0.123)
    with (
        config.patch({"cpp.cxx": ("/no/such/compiler",)}),
        utils.fresh_cache(),
        pytest.warns(UserWarning, match="The step is not compiled"),
    ):
        run = quiet(model, guide, torch.ones(17), loss=NLL(), compile=True, num_epochs=2)
    assert run.epoch == 2


def test_a_step_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    original = compiling._Compiled.__call__
    monkeypatch.setattr(
        compiling._Compiled, "__call__", lambda self, *args: original(self, *args) + 0.1
    )
    model, guide = density()
    with pytest.warns(UserWarning, match="differs from the plain one in values"):
        quiet(model, guide, torch.ones(5), loss=NLL(), compile=True)


@pytest.mark.filterwarnings("ignore:Pyro.s parameter store holds other values")
def test_the_number_of_planned_steps_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    decisions: list[bool] = []
    monkeypatch.setattr(
        compiling,
        "_Compiled",
        lambda *_: decisions.append(True) or (_ for _ in ()).throw(RuntimeError("not here")),
    )
    model, guide = density()
    for num_epochs, expected in ((2, 0), (4, 1)):
        monkeypatch.setattr(compiling, "_REPAID_AFTER", 16)
        decisions.clear()
        quiet(
            model, guide, torch.ones(22), batch_size=5, loss=NLL(), num_epochs=num_epochs
        )  # four full batches an epoch
        assert len(decisions) == expected
