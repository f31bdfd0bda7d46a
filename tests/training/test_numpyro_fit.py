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
from numpyro_dgm.losses import IWAE, NLL
from numpyro_dgm.nn import MLP, BatchNorm, Dropout, Linear, register
from numpyro_dgm.training import Adam, binarize, fit, trainer

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


@pytest.mark.slow
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


def test_transform_is_applied_to_training_batches_with_fresh_randomness():
    gray = np.full((64, 16), 0.3, np.float32)
    run = quiet(
        vae().model,
        vae().guide,
        gray,
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


class Regression:
    """y ~ Normal(net(x), 1) with drop-out and batch normalization."""

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
def test_optimizers_of_both_libraries(optim):
    run = quiet(mean_model, None, X, loss=NLL(), optim=optim, num_epochs=5)
    expected = quiet(mean_model, None, X, loss=NLL(), optim=Adam(0.05), num_epochs=5)
    np.testing.assert_allclose(run.params["mu"], expected.params["mu"], rtol=1e-4)


def test_an_optimizer_with_a_line_search():
    run = quiet(mean_model, None, X, loss=NLL(), optim=optax.lbfgs(), num_epochs=6)
    np.testing.assert_allclose(run.params["mu"], X.mean(0), rtol=1e-4)


def test_no_global_state_is_changed(no_warnings):
    before = dict(jax.config.values)
    quiet(vae().model, vae().guide, BITS, batch_size=16, validation=BITS)
    assert dict(jax.config.values) == before
    assert numpyro.distributions.distribution._VALIDATION_ENABLED


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="learning_rate must be a positive number"):
        Adam(-1.0)
