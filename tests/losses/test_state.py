"""A loss is a description: what its terms keep belongs to a run, not to the loss."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import linear
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.identity import describe
from tests.losses.training import fit, package

X = np.random.default_rng(0).normal(1.0, 0.5, (60, 1))


def pair(backend: Any, data_dim: int = 1) -> tuple[Callable, Callable]:
    """z ~ Normal(0, 1), x ~ Normal(b + z, 0.3); guide z ~ Normal(a x, 1)."""
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        b = backend.param("b", array(np.zeros(data_dim)))
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array(np.zeros(data_dim)), array(1.0)).to_event(1))
            backend.sample("x", dist.Normal(b + z, array(0.3)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        a = backend.param("a", array(0.0))
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(a * x, array(1.0)).to_event(1))

    return model, guide


def running_mean(backend: Any) -> Any:
    """The squared difference of the mean of the model's draws from a running mean of the data, as a
    user writes it.
    """
    Term, np_ = package(backend).losses.Term, backend.np

    class RunningMean(Term):
        name, details, guided = "RunningMean", ("mean",), False

        def init_state(self, joints: Any, **key: Any) -> dict[str, Any]:
            return {"mean": np_.zeros(())}

        def update(
            self, state: dict[str, Any], joints: Any, step: Any, **key: Any
        ) -> dict[str, Any]:
            return {"mean": 0.9 * state["mean"] + 0.1 * joints.samples(("x",))[0].mean()}

        def estimate(self, joints: Any, step: Any) -> tuple[Any, dict[str, Any]]:
            mean = joints.state(self)["mean"]
            return (joints.samples(("x",))[1].mean() - mean) ** 2, {"mean": mean}

    return RunningMean()


def test_one_critic_in_two_terms_is_refused(backend: Any) -> None:
    """Each would train it: one network in Pyro, two copies in NumPyro. One term twice is one."""
    losses = package(backend).losses
    key = {} if backend.name == "pyro" else {"key": backend.jax.random.key(0)}
    critic = losses.Critic(1, hidden=(4,), **key)
    one, two = losses.JensenShannon("x", critic), losses.Wasserstein("z", critic)
    with pytest.raises(
        ValueError, match=r"JensenShannon\(x\) and Wasserstein\(z\) share one critic"
    ):
        one + losses.ELBO() + two
    assert len((one + 2.0 * one).stateful) == 1


class Engine:
    """The stock engine of either library, one step at a time."""

    def __init__(self, backend: Any, model: Callable, guide: Callable, loss: Any) -> None:
        self.backend, self.loss = backend, loss
        self.x = backend.array(X)
        if backend.name == "pyro":
            pyro = backend.pyro
            pyro.clear_param_store()
            pyro.set_rng_seed(0)
            self.svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss)
            return
        self.svi = backend.numpyro.infer.SVI(
            model, loss.attach(guide), backend.numpyro.optim.Adam(0.01), loss
        )
        self.state = self.svi.init(backend.jax.random.key(0), self.x)
        self.update = backend.jax.jit(self.svi.update)

    def steps(self, number: int) -> list[float]:
        if self.backend.name == "pyro":
            return [float(self.svi.step(self.x)) for _ in range(number)]
        losses = []
        for _ in range(number):
            self.state, loss = self.update(self.state, self.x)
            losses.append(float(loss))
        return losses


def test_a_second_fit_repeats_the_first(backend: Any) -> None:
    """With the same loss object, whose default critic is made anew, also for data of
    another width.
    """
    loss = backend.losses.JensenShannon("x") + backend.losses.ELBO(beta=linear(10))
    settings: dict[str, Any] = {"loss": loss, "num_epochs": 3, "batch_size": 20, "seed": 3}
    before = repr(loss)
    first, second = (fit(backend, *pair(backend), X, **settings) for _ in range(2))
    for name in ("loss", "JensenShannon(x)", "ELBO"):
        one, two = (run.history.column(name) for run in (first, second))
        np.testing.assert_allclose(one, two, rtol=1e-14)  # sums of steps, by calls of any length
    assert describe(first.params) == describe(second.params)
    wide = fit(backend, *pair(backend, 3), np.tile(X, 3), **settings)
    assert np.isfinite(wide.history.column("loss")).all() and repr(loss) == before


@pytest.mark.parametrize("name", ["schedule", "critic", "running mean"])
def test_a_second_engine_starts_anew(backend: Any, name: str) -> None:
    model, guide = pair(backend)
    losses = backend.losses

    def loss_of() -> Any:
        if name == "critic":
            size = (
                {}
                if backend.name == "pyro"
                else {"critic": losses.Critic(1, key=backend.jax.random.key(0))}
            )
            return losses.JensenShannon("x", **size)
        return losses.ELBO(beta=linear(3)) if name == "schedule" else running_mean(backend)

    loss = loss_of()
    first = Engine(backend, model, guide, loss).steps(4)
    assert Engine(backend, model, guide, loss).steps(4) == first
    assert Engine(backend, model, guide, loss_of()).steps(4) == first


def test_two_engines_of_one_loss_do_not_mix(backend: Any) -> None:
    loss = running_mean(backend)
    alone = Engine(backend, *pair(backend), loss).steps(3)
    if backend.name == "pyro":
        one = Engine(backend, *pair(backend), loss)
        store = backend.pyro.get_param_store().get_state()
        other = backend.pyro.infer.SVI(*pair(backend), backend.pyro.optim.Adam({"lr": 0.0}), loss)
        noise = backend.pyro.util.get_rng_state()
        other.step(one.x)
        backend.pyro.util.set_rng_state(noise)
        backend.pyro.get_param_store().set_state(store)
        assert one.steps(3) == alone
    else:
        one, other = Engine(backend, *pair(backend), loss), Engine(backend, *pair(backend), loss)
        other.steps(2)
        assert one.steps(3) == alone


def test_a_running_mean_in_the_stock_engine(backend: Any) -> None:
    loss = running_mean(backend)
    engine = Engine(backend, *pair(backend), loss)
    engine.steps(5)
    if backend.name == "pyro":
        mean = loss.log["RunningMean/mean"]
    else:
        mean = engine.state.mutable_state["loss$state"]["RunningMean"]["mean"]
    assert float(mean) == pytest.approx((1 - 0.9**5) * X.mean(), rel=1e-6)
    if backend.name == "pyro":
        value = engine.svi.evaluate_loss(engine.x)
        assert float(loss.log["RunningMean/mean"]) == float(mean)
    else:
        with pytest.raises(ValueError, match=r"SVI\.evaluate leaves it out"):
            engine.svi.evaluate(engine.state, engine.x)
        out = loss.evaluate(
            backend.jax.random.key(1),
            engine.svi.get_params(engine.state),
            *pair(backend),
            (engine.x,),
            mutable_state=engine.state.mutable_state,
        )
        value = out.loss
        assert float(out.terms["RunningMean/mean"]) == float(mean)
    assert np.isfinite(float(value))


def test_a_running_mean_in_fit_and_after_resuming(backend: Any, tmp_path: Any) -> None:
    settings: dict[str, Any] = {
        "loss": 2.0 * running_mean(backend) + backend.losses.ELBO(),
        "batch_size": len(X),
    }
    settings |= {"validation": X, "validation_loss": running_mean(backend)}
    whole = fit(backend, *pair(backend), X, num_epochs=6, **settings)
    fit(backend, *pair(backend), X, num_epochs=2, checkpoint=tmp_path, **settings)
    resumed = fit(backend, *pair(backend), X, num_epochs=6, checkpoint=tmp_path, **settings)
    np.testing.assert_array_equal(whole.history.column("loss"), resumed.history.column("loss"))
    np.testing.assert_array_equal(
        whole.history.column("validation"), resumed.history.column("validation")
    )
    expected = (1 - 0.9 ** np.arange(1, 7)) * X.mean()
    np.testing.assert_allclose(whole.history.column("RunningMean/mean"), expected, rtol=1e-5)


def test_the_stock_engine_asks_for_attach() -> None:
    """NumPyro's engine keeps nothing for a loss by itself: without `attach` the first step would be
    repeated for ever.
    """
    import numpyro

    from tests.backends import NumPyroBackend

    backend = NumPyroBackend()
    losses = backend.losses
    with backend.double_precision():
        critic = losses.Critic(1, key=backend.jax.random.key(0))
        for loss in (
            losses.ELBO(beta=linear(3)),
            losses.JensenShannon("x", critic),
            running_mean(backend),
        ):
            model, guide = pair(backend)
            svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.01), loss)
            state = svi.init(backend.jax.random.key(0), backend.array(X))
            with pytest.raises(
                ValueError, match=r"to train write SVI\(model, loss\.attach\(guide\), optim, loss\)"
            ):
                svi.update(state, backend.array(X))


def test_weights_that_are_no_number_are_refused(backend: Any) -> None:
    losses = backend.losses
    for weight in (np.ones(3), np.array([float("nan")]), None, "2"):
        with pytest.raises(ValueError, match="The weight of a loss must be a finite number"):
            weight * losses.ELBO()
    for schedule in (lambda step: None, lambda step: backend.array(np.ones(3))):
        for loss in (losses.ELBO(beta=schedule), schedule * losses.ELBO()):
            with pytest.raises(ValueError, match="A schedule must give one number at each step"):
                backend.evaluate(loss, *pair(backend), X)


def test_a_run_is_recognized_by_the_numbers_of_its_losses(backend: Any, tmp_path: Any) -> None:
    """Terms of a sum and weights of a user's term are compared, none is left unchecked."""
    losses, settings = backend.losses, {"num_epochs": 1, "checkpoint": tmp_path}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(backend, *pair(backend), X, loss=losses.ELBO() + running_mean(backend), **settings)
    other = losses.ELBO(beta=0.5) + running_mean(backend)
    with pytest.raises(CheckpointError, match="beta"):
        fit(backend, *pair(backend), X, loss=other, **settings)
