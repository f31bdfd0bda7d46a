"""The NumPyro `fit` against training done by hand, and what each of its arguments does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

from dgm_core.schedules import linear
from numpyro_dgm import VAE
from numpyro_dgm.losses import ELBO, IWAE, NLL
from numpyro_dgm.nn import MLP, BatchNorm, Dropout, Linear, register
from numpyro_dgm.training import Adam, binarize, fit, trainer

AS_USERS_COMPILE = True

X = np.random.default_rng(0).normal(1.0, 2.0, (20, 3)).astype(np.float32)
BITS = (np.random.default_rng(1).random((70, 16)) < 0.4).astype(np.float32)


def mean_model(x):
    """x_n ~ Normal(mu, 1): the gradient of the loss per datum is mu - mean(x)."""
    mu = numpyro.param("mu", jnp.zeros(3))
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", dist.Normal(mu, 1.0).to_event(1), obs=x)


def quiet(*args, **kwargs):
    return fit(*args, progress=False, **kwargs)


def leaves(run):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((run.params, run.mutable_state))]


def assert_equal(a, b):
    """Parameters and history are equal to the bit."""
    for left, right in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)
    rows = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]
        for run in (a, b)
    ]
    assert rows[0] == rows[1]


def vae(**kwargs):
    return VAE(16, 2, hidden=(8,), key=jax.random.key(0), **kwargs)


def test_steps_are_those_done_by_hand():
    decay, average, mu, seen = 0.9, None, np.zeros(3), []
    for step in range(6):
        gradient = mu - X.mean(0)
        gradient *= min(1.0, 0.7 / (np.linalg.norm(gradient) + 1e-6))
        mu = mu - 0.3 * linear(4, 1.0, 0.5)(step) * gradient
        d = min(decay, (1 + step) / (10 + step)) if step else 0.0
        average = mu if average is None else d * average + (1 - d) * mu
        seen.append(mu)
    arguments = {
        "loss": NLL(),
        "optim": optax.sgd(0.3),
        "num_epochs": 6,
        "clip_norm": 0.7,
        "lr_schedule": linear(4, 1.0, 0.5),
    }
    np.testing.assert_allclose(quiet(mean_model, None, X, **arguments).params["mu"], mu, rtol=1e-5)
    run = quiet(mean_model, None, X, average=decay, **arguments)
    np.testing.assert_allclose(run.params["mu"], average, rtol=1e-5)
    assert [row["step"] for row in run.history] == [1, 2, 3, 4, 5, 6]
    expected = 0.5 * (
        (X - np.array([np.zeros(3), *seen[:-1]])[:, None]) ** 2 + np.log(2 * np.pi)
    ).sum(-1).mean(-1)
    np.testing.assert_allclose(run.history.column("loss"), expected, rtol=1e-5)
    np.testing.assert_allclose(run.history.column("NLL"), expected, rtol=1e-5)


def test_every_datum_is_seen_once_per_epoch_in_a_new_order():
    numbers, epochs = np.arange(23), []

    def model(i):
        jax.debug.callback(lambda i: epochs.append(np.asarray(i)), i, ordered=True)
        with numpyro.plate("data", len(i)):
            numpyro.sample("x", dist.Normal(numpyro.param("mu", 0.0), 1.0), obs=jnp.zeros(len(i)))

    def seen(**kwargs):
        def start(run):
            jax.effects_barrier()
            epochs.append(None)

        epochs.clear()
        quiet(
            model,
            None,
            numbers,
            loss=NLL(),
            batch_size=5,
            num_epochs=3,
            callbacks=[start],
            **kwargs,
        )
        marks = [index for index, entry in enumerate(epochs) if entry is None]
        return [np.concatenate(epochs[a + 1 : b]) for a, b in itertools.pairwise(marks)]

    second, third = seen()
    assert sorted(second) == sorted(third) == list(numbers)
    assert list(second) != list(third)
    other = seen(seed=1)[0]
    assert list(other) != list(second)
    short = seen(drop_last=True)[0]
    assert len(short) == 20 == len(set(short))


def test_the_same_seed_gives_the_same_run_however_it_is_divided_into_calls(monkeypatch):
    def run():
        return quiet(
            vae().model,
            vae().guide,
            BITS[:64],
            batch_size=8,
            num_epochs=3,
            optim=Adam(1e-2),
            clip_norm=1.0,
            average=0.9,
        )

    first = run()
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(trainer, "_SECONDS_PER_CALL", seconds)
        assert_equal(first, run())


def test_without_compilation_the_numbers_are_the_same():
    arguments = {
        "loss": NLL(),
        "batch_size": 8,
        "optim": Adam(0.1),
        "clip_norm": 1.0,
        "average": 0.9,
        "num_epochs": 2,
        "validation": X[:5],
        "validation_loss": NLL(),
    }
    jitted, plain = (
        quiet(mean_model, None, X, compile=compile, **arguments) for compile in ("auto", False)
    )
    np.testing.assert_allclose(jitted.params["mu"], plain.params["mu"], rtol=1e-5)
    for a, b in zip(jitted.history, plain.history, strict=True):
        assert {name: value for name, value in a.items() if name != "seconds"} == pytest.approx(
            {name: b[name] for name in a if name != "seconds"}, rel=1e-5
        )


def test_history_and_run():
    run = quiet(vae().model, vae().guide, BITS, batch_size=32, num_epochs=2, validation=BITS[:20])
    columns = ["epoch", "step", "loss", "ELBO", "ELBO/log_likelihood", "ELBO/KL"]
    assert run.history.columns == [
        *columns,
        "validation",
        *(f"validation/{name}" for name in columns[3:]),
        "seconds",
    ]
    assert run.history.last["loss"] == pytest.approx(-run.history.last["ELBO"])
    assert (run.data_size, run.epoch, run.history.last["step"]) == (70, 2, 6)
    assert set(run.params) == {
        f"{name}$params" for name in ("encoder", "posterior", "decoder", "likelihood")
    }
    assert repr(run).startswith("Run(epoch 2 of 2, step 6, loss ")
    assert run.config["batch_size"] == 32
    assert run.config["loss"] == "ELBO()"


def test_training_learns():
    bits = np.repeat(BITS[:2], 50, axis=0)
    run = quiet(
        vae().model,
        vae().guide,
        bits,
        batch_size=20,
        num_epochs=60,
        optim=Adam(2e-2),
        loss=IWAE(num_particles=5),
    )
    assert run.history.column("loss")[0] > 9.0
    assert run.history.last["loss"] < 2.0  # ln 2, and what is left to learn


def test_forms_of_data():
    def model(x, y=None):
        numpyro.param("scale", 1.0)
        with numpyro.plate("data", len(x)):
            numpyro.sample("y", dist.Normal(numpyro.param("a", 0.0) * x, 1.0), obs=y)

    x = np.linspace(-1.0, 1.0, 12).astype(np.float32)
    y = 3.0 * x
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]
    arguments = {"loss": NLL(), "optim": optax.sgd(0.5), "num_epochs": 40}
    forms = {
        "tuple": (x, y),
        "dict": {"y": y, "x": x},
        "list": batches,
        "lists": [list(batch) for batch in batches],
        "dicts": [{"y": b, "x": a} for a, b in batches],
        "function": lambda: iter(batches),
    }
    for name, data in forms.items():
        size = {"batch_size": 5} if name in ("tuple", "dict") else {}
        run = quiet(model, None, data, **arguments, **size)
        np.testing.assert_allclose(run.params["a"], 3.0, atol=1e-2, err_msg=name)
        assert run.data_size == 12
        assert run.history.last["step"] in (80, 120)
    once = quiet(model, None, iter(batches), loss=NLL(), num_epochs=1)
    assert once.history.last["step"] == 2


def test_an_entry_may_be_missing():
    def model(x, y):
        assert y is None
        mean_model(x)

    quiet(model, None, (X, None), loss=NLL(), batch_size=8)


def test_transform_is_applied_to_training_batches_with_fresh_randomness():
    grey = np.full((64, 16), 0.3, np.float32)
    run = quiet(
        vae().model,
        vae().guide,
        grey,
        batch_size=16,
        num_epochs=3,
        transform=binarize,
        validation=BITS,
    )
    assert len(set(run.history.column("ELBO/log_likelihood"))) == 3
    batch = {"x": jnp.full((500, 2), 0.3), "a": jnp.full((500,), 0.3)}
    bits = binarize(batch, key=jax.random.key(0))
    assert set(np.unique(bits["x"])) == {0.0, 1.0}
    assert abs(float(bits["x"].mean()) - 0.3) < 0.1
    assert bits["a"] is batch["a"]
    assert set(np.unique(binarize((batch["x"], batch["a"]), key=jax.random.key(0))[0])) == {
        0.0,
        1.0,
    }


def test_validation_keeps_the_best_weights_and_patience_stops():
    seen = []
    held_out = np.ones((4, 3), np.float32)
    run = quiet(
        mean_model,
        None,
        np.full((6, 3), 5.0, np.float32),
        loss=NLL(),
        validation_loss=NLL(),
        optim=optax.sgd(0.05),
        num_epochs=100,
        validation=held_out,
        patience=3,
        callbacks=[lambda run: seen.append(float(run.params["mu"][0]))],
    )
    best = int(np.argmin(np.abs(np.array(seen) - 1.0)))
    assert run.best_epoch == best + 1 == run.history.best("validation")["epoch"]
    assert run.epoch == run.best_epoch + 3 == len(run.history)
    np.testing.assert_allclose(run.params["mu"], seen[best])


def test_validation_uses_the_average():
    arguments = {
        "loss": NLL(),
        "validation_loss": NLL(),
        "optim": optax.sgd(0.5),
        "num_epochs": 4,
        "validation": X,
    }
    plain, averaged = (
        quiet(mean_model, None, X, average=average, **arguments) for average in (None, 0.9)
    )
    assert averaged.history.last["validation"] > plain.history.last["validation"] + 1e-4
    np.testing.assert_allclose(
        averaged.history.column("loss"), plain.history.column("loss"), rtol=1e-5
    )


def test_callbacks_may_stop():
    epochs = []
    run = quiet(
        mean_model,
        None,
        X,
        loss=NLL(),
        num_epochs=10,
        callbacks=[lambda run: epochs.append(run.epoch), lambda run: run.epoch == 3],
    )
    assert epochs == [1, 2, 3]
    assert run.epoch == 3


class Regression:
    """y ~ Normal(net(x), 1) with drop-out and batch normalisation."""

    def __init__(self):
        keys = jax.random.split(jax.random.key(0))
        self.net = MLP(3, (8,), 1, batch_norm=True, dropout=0.5, key=keys[0])

    def model(self, x, y):
        net = register("net", self.net)
        with numpyro.plate("data", len(x)):
            numpyro.sample("y", dist.Normal(net(x)[..., 0], 1.0), obs=y)


def test_mutable_state_is_carried_and_validation_is_in_evaluation_mode():
    y = X.sum(-1)
    regression = Regression()
    run = quiet(
        regression.model,
        None,
        (X, y),
        loss=NLL(),
        validation_loss=NLL(),
        optim=optax.sgd(0.0),
        num_epochs=60,
        batch_size=10,
        validation=(X, y),
    )
    (state,) = run.mutable_state.values()
    (statistics,) = state.values()
    first = regression.net.layers[0]
    features = X @ np.asarray(first.weight).T + np.asarray(first.bias)
    np.testing.assert_allclose(statistics["running_mean"], features.mean(0), atol=0.5)
    assert len(set(run.history.column("loss"))) == 60  # drop-out draws anew
    last = run.history.column("validation")[-20:]
    assert np.ptp(last) < 0.1 * np.ptp(
        run.history.column("loss")
    )  # only the running statistics still move


def test_layers_used_above_are_those_of_the_package():
    assert {
        type(layer).__name__
        for layer in (BatchNorm(2), Dropout(0.1), Linear(1, 1, key=jax.random.key(0)))
    } == {"BatchNorm", "Dropout", "Linear"}


@pytest.mark.parametrize(
    "optim",
    [numpyro.optim.Adam(0.05), optax.adam(0.05), numpyro.optim.optax_to_numpyro(optax.adam(0.05))],
)
def test_optimisers_of_both_libraries(optim):
    run = quiet(mean_model, None, X, loss=NLL(), optim=optim, num_epochs=5)
    expected = quiet(mean_model, None, X, loss=NLL(), optim=Adam(0.05), num_epochs=5)
    np.testing.assert_allclose(run.params["mu"], expected.params["mu"], rtol=1e-4)


def test_an_optimiser_with_a_line_search():
    run = quiet(mean_model, None, X, loss=NLL(), optim=optax.lbfgs(), num_epochs=6)
    np.testing.assert_allclose(run.params["mu"], X.mean(0), rtol=1e-4)


def test_schedules_inside_the_loss_see_the_step():
    run = quiet(
        vae().model, vae().guide, BITS, loss=ELBO(beta=linear(6)), batch_size=35, num_epochs=4
    )
    first, *_, last = run.history
    assert first["loss"] == pytest.approx(-first["ELBO"], rel=1e-6)
    assert -last["ELBO/log_likelihood"] + last["ELBO/KL"] == pytest.approx(-last["ELBO"], rel=1e-5)
    assert first["ELBO"] > first["ELBO/log_likelihood"] - first["ELBO/KL"]  # beta was 0 and 1/6


def test_the_progress_line_names_every_term(capsys):
    fit(vae().model, vae().guide, BITS, batch_size=10, num_epochs=2)
    line = capsys.readouterr().err
    for word in ("epoch 2 of 2", "14/14", "loss", "ELBO", "ELBO/KL"):
        assert word in line


def test_no_global_state_is_changed(no_warnings):
    before = dict(jax.config.values)
    quiet(vae().model, vae().guide, BITS, batch_size=16, validation=BITS)
    assert dict(jax.config.values) == before
    assert numpyro.distributions.distribution._VALIDATION_ENABLED


def test_double_precision(jax_x64):
    run = quiet(
        vae().model,
        vae().guide,
        BITS.astype(np.float64),
        batch_size=16,
        num_epochs=2,
        average=0.9,
        lr_schedule=linear(3),
        clip_norm=1.0,
    )
    assert {leaf.dtype for leaf in leaves(run)} == {np.dtype(np.float64)}


def test_a_named_device():
    run = quiet(mean_model, None, X, loss=NLL(), batch_size=10, device="cpu")
    assert run.params["mu"].devices() == {jax.devices("cpu")[0]}


def test_adam_refuses_bad_arguments():
    assert repr(Adam(1e-2, betas=(0.5, 0.9))) == "Adam(0.01, betas=(0.5, 0.9))"
    with pytest.raises(ValueError, match="positive learning_rate"):
        Adam(-1.0)
