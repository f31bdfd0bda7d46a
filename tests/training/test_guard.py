"""When a number is not finite `fit` stops, says where, and everything is as before that step."""

import math
from typing import Any

import numpy as np
import pytest

from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from tests.training.faces import BITS, X


def spoilt_gradient(face: Any) -> Any:
    """Finite values, whose derivative at w = 0 is not."""

    def model(y: Any) -> None:
        w = face.param("w", face.np.zeros(3))
        with face.plate("data", len(y)):
            face.sample("y", face.dist.Normal(face.np.sqrt(face.np.abs(w)), 1.0).to_event(1), obs=y)

    return model


@pytest.mark.parametrize("average", [None, 0.9])
def test_the_last_update_of_a_run_is_looked_at(face, tmp_path, average) -> None:
    """The loss is finite and its gradient is not: nothing is kept, saved or handed over."""
    seen: list[Any] = []
    options = {"loss": face.losses.NLL(), "average": average, "callbacks": [seen.append]}
    message = r"update is not finite at step 0 \(epoch 1\): the gradient .* parameter 'w'"
    with pytest.raises(face.training.NonFiniteError, match=message) as caught:
        face.quiet(spoilt_gradient(face), None, X, checkpoint=tmp_path, **options)
    error = caught.value
    assert (error.site, error.step, error.epoch, error.run.epoch) == ("w", 0, 1, 0)
    np.testing.assert_array_equal(face.params(error.run).popitem()[1], 0.0)
    assert not seen and not list(tmp_path.glob("*.npz")) and len(error.run.history) == 0


@pytest.mark.parametrize(("late", "bad"), [(False, math.nan), (True, math.nan), (True, -2.0)])
def test_a_schedule_that_gives_no_rate_is_named(face, tmp_path, late, bad) -> None:
    """NaN, or a negative number between the steps that `fit` asks beforehand."""

    def schedule(step: Any) -> Any:
        spoilt = bad if face.name == "pyro" and step == 3 else 1.0
        if face.name == "numpyro":
            spoilt = face.np.where(step == 3, bad, 1.0)
        return spoilt if late else bad

    options = {"loss": face.losses.NLL(), "optim": face.sgd(0.1), "checkpoint": tmp_path}
    with pytest.raises(face.training.NonFiniteError, match=f"lr_schedule gives {bad}") as caught:
        face.quiet(face.mean_model, None, X, lr_schedule=schedule, num_epochs=40, **options)
    error = caught.value
    assert (error.step, error.epoch) == ((3, 4) if late else (0, 1))
    assert [row["step"] for row in error.run.history] == list(range(1, error.step + 1))
    expected = X.mean(0) * (1 - 0.9**error.step)
    np.testing.assert_allclose(face.params(error.run).popitem()[1], expected, rtol=1e-5)


def test_the_weight_of_a_term_is_named(face) -> None:
    loss = (lambda step: math.nan * step) * face.losses.NLL()
    with pytest.raises(face.training.NonFiniteError, match="weight of NLL is nan") as caught:
        face.quiet(face.mean_model, None, X, loss=loss, num_epochs=3)
    assert caught.value.step == 0


def test_a_negative_weight_inside_a_term_is_named(face) -> None:
    """Between the steps that `fit` asks beforehand, in compiled steps too."""
    loss = face.losses.ELBO(free_bits=lambda step: 1.0 - 3.0 * (step == 3))
    vae = face.vae()
    with pytest.raises(face.training.NonFiniteError, match=r"inside ELBO is -2\.0") as caught:
        face.quiet(vae.model, vae.guide, BITS, loss=loss, num_steps=40)
    assert caught.value.step == 3


@pytest.mark.parametrize("as_stream", [False, True])
@pytest.mark.slow("numpyro")
def test_everything_is_as_before_the_step(face, as_stream) -> None:
    """Drop-out, batch normalization and a critic: weights, statistics and critics go back."""
    x = np.where(np.arange(40)[:, None] == 25, np.nan, BITS)  # seen by the encoder only

    def run(data: Any, **options: Any) -> Any:
        network = face.network()

        def guide(batch: Any) -> None:
            network.guide(batch)

        def model(batch: Any) -> None:
            network.model(face.np.nan_to_num(batch))

        # the running statistics belong to the object that the functions are bound to
        model.__self__ = network  # type: ignore[attr-defined]
        loss = face.losses.ELBO() + face.losses.JensenShannon("z", face.critic(2))
        size = {} if as_stream else {"batch_size": 4}
        options = {"optim": face.training.Adam(1e-2), "average": 0.9, "loss": loss, **options}
        return face.quiet(model, guide, data, **size, **options)

    data = [x[i : i + 4] for i in range(0, 40, 4)] if as_stream else x
    with pytest.raises(face.training.NonFiniteError, match="site 'z' of the guide") as caught:
        run(data, num_epochs=3)
    error = caught.value
    assert error.epoch == 1 and error.site == "z" and f"step {error.step} " in str(error)
    assert error.step == 6 or not as_stream
    state = face.state(error.run)
    assert len(state) > 10 and all(np.isfinite(value).all() for value in state.values())
    before = run(data, num_steps=error.step) if error.step else None
    if before is not None:
        for name, value in face.state(before).items():
            np.testing.assert_array_equal(state[name], value, err_msg=name)


@pytest.mark.slow("numpyro")
def test_a_critic_that_breaks_is_named_and_goes_back(face) -> None:
    critic, vae = face.critic(2), face.vae()
    term = face.losses.JensenShannon("z", critic, optim=face.sgd(math.inf))
    with pytest.raises(face.training.NonFiniteError, match="critic of JensenShannon") as caught:
        face.quiet(vae.model, vae.guide, BITS, loss=face.losses.ELBO() + term, num_epochs=4)
    assert caught.value.site == "JensenShannon(z)"
    state = face.state(caught.value.run)
    assert all(np.isfinite(value).all() for value in state.values())


def test_an_optimizer_that_overflows_is_named(face) -> None:
    """Adam's second moment becomes infinite, and the weight would never move again."""

    def model(y: Any) -> None:
        w = face.param("w", face.np.ones(()))
        with face.plate("data", len(y)):
            face.sample("y", face.dist.Normal(1e12 * (w - 1.0), 1e-8), obs=y)

    y = np.full(4, 1e-3, np.float32)
    with pytest.raises(face.training.NonFiniteError, match="state of the optimizer") as caught:
        face.quiet(model, None, y, loss=face.losses.NLL(), num_epochs=3)
    assert caught.value.step == 0


def test_a_validation_score_that_is_nan_is_no_score(face) -> None:
    def model(x: Any, scale: Any) -> None:
        mu = face.param("mu", face.np.zeros(()))
        with face.plate("data", len(x)):
            face.sample("x", face.dist.Normal(mu * scale, 1.0), obs=x)

    x = np.ones(8, np.float32)
    options = {"loss": face.losses.NLL(), "validation_loss": face.losses.NLL(), "num_epochs": 3}
    message = r"validation score is nan after epoch 1: site 'x' of the model has log_prob nan"
    with pytest.raises(face.training.NonFiniteError, match=message) as caught:
        face.quiet(model, None, (x, x), validation=(x, x * np.nan), **options)
    assert np.isfinite(face.params(caught.value.run).popitem()[1])


def test_nan_before_the_first_step_is_refused(face) -> None:
    def model(x: Any) -> None:
        start = face.array(np.array([0.0, np.nan, 0.0], np.float32))
        with face.plate("data", len(x)):
            face.sample("x", face.dist.Normal(face.param("mu", start), 1.0).to_event(1), obs=x)

    with pytest.raises(ValueError, match="'mu' holds NaN before the first step"):
        face.quiet(model, None, X, loss=face.losses.NLL())


def test_a_checkpoint_with_nan_is_refused(face, tmp_path) -> None:
    options = {"loss": face.losses.NLL(), "checkpoint": tmp_path}
    face.quiet(face.mean_model, None, X, **options)
    arrays, meta = checkpoint.load(tmp_path / "last.npz")
    name = next(name for name in arrays if name.endswith(("parameters/mu", "params['mu']")))
    checkpoint.save(tmp_path / "last.npz", {**arrays, name: arrays[name] * np.nan}, meta)
    with pytest.raises(CheckpointError, match=r"not finite, in parameter 'mu'.*resume=False"):
        face.quiet(face.mean_model, None, X, num_epochs=2, **options)


def test_divergence_keeps_what_was_before(face) -> None:
    """w doubles its error at every step until the loss overflows; all before is kept exactly."""

    def model(y: Any) -> None:
        with face.plate("data", len(y)):
            w = face.param("w", face.np.zeros(()))
            face.sample("y", face.dist.Normal(w, 1.0), obs=y)

    y = np.ones(4 * 200, np.float32)
    options = {"loss": face.losses.NLL(), "optim": face.sgd(3.0), "batch_size": 4}
    message = "site 'y' of the model has log_prob -inf.*weights before that step"
    with pytest.raises(face.training.NonFiniteError, match=message) as caught:
        face.quiet(model, None, y, **options)
    w = 0.0
    for _ in range(caught.value.step):
        w = w - 3.0 * (w - 1.0)
    np.testing.assert_allclose(face.params(caught.value.run).popitem()[1], w, rtol=1e-3)
    assert 50 < caught.value.step < 80


def test_with_validation_the_best_weights_are_kept(face) -> None:
    def model(y: Any) -> None:
        with face.plate("data", len(y)):
            w = face.param("w", face.np.zeros(()))
            face.sample("y", face.dist.Normal(w, 1.0), obs=y)

    y, seen = np.ones(8, np.float32), []
    options = {"loss": face.losses.NLL(), "validation_loss": face.losses.NLL(), "validation": y}
    options |= {"callbacks": [lambda run: seen.append(face.params(run))], "num_epochs": 100}
    message = "The weights of epoch 1 are kept"
    with pytest.raises(face.training.NonFiniteError, match=message) as caught:
        face.quiet(model, None, y, optim=face.sgd(5.0), **options)
    np.testing.assert_array_equal(face.params(caught.value.run).popitem()[1], seen[0].popitem()[1])
    assert caught.value.run.best_epoch == 1


@pytest.mark.parametrize("compile", ["auto", False])
def test_several_particles(face, compile) -> None:
    def model(y: Any) -> None:
        w = face.param("w", 30.0 * face.np.ones(()))
        with face.plate("data", len(y)):
            z = face.sample("z", face.dist.Normal(0.0, 1.0))
            face.sample("y", face.dist.Normal(face.np.exp(w) + z, 1.0), obs=y)

    def guide(y: Any) -> None:
        with face.plate("data", len(y)):
            face.sample("z", face.dist.Normal(0.0, 1.0))

    y = np.arange(1.0, 41.0, dtype=np.float32)
    options = {"loss": face.losses.ELBO(num_particles=3), "optim": face.sgd(-1e-26)}
    with pytest.raises(face.training.NonFiniteError, match="site 'y' of the model") as caught:
        face.quiet(model, guide, y, num_epochs=20, compile=compile, **options)
    assert caught.value.site == "y"
