"""`fit` against training done by hand, and what each of its arguments does, in both backends."""

import itertools
from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import linear
from tests.training.faces import BITS, X


def still(face: Any) -> dict[str, Any]:
    """Options of a run that needs no guide and learns by plain gradient descent."""
    return {"loss": face.losses.NLL(), "optim": face.sgd(0.3)}


def mu(face: Any, run: Any) -> np.ndarray:
    return np.asarray(run.params["mu"])


def test_steps_of_gradient_descent_are_those_done_by_hand(face) -> None:
    """Clipping, schedule and average; d loss / d mu = mu - mean(x)."""
    decay, average, value, seen = 0.9, None, np.zeros(3), []
    for step in range(6):
        gradient = value - X.mean(0)
        gradient *= min(1.0, 0.7 / (np.linalg.norm(gradient) + 1e-6))
        value = value - 0.3 * linear(4, 1.0, 0.5)(step) * gradient
        d = min(decay, (1 + step) / (10 + step)) if step else 0.0
        average = value if average is None else d * average + (1 - d) * value
        seen.append(value)
    options = {**still(face), "num_epochs": 6, "clip_norm": 0.7, "lr_schedule": linear(4, 1.0, 0.5)}
    np.testing.assert_allclose(
        mu(face, face.quiet(face.mean_model, None, X, **options)), value, 1e-5
    )
    run = face.quiet(face.mean_model, None, X, average=decay, **options)
    np.testing.assert_allclose(mu(face, run), average, rtol=1e-5)
    assert run.history.column("step").tolist() == [1, 2, 3, 4, 5, 6]
    at = np.array([np.zeros(3), *seen[:-1]])[:, None]
    expected = 0.5 * ((X - at) ** 2 + np.log(2 * np.pi)).sum(-1).mean(-1)
    np.testing.assert_allclose(run.history.column("loss"), expected, rtol=1e-5)
    np.testing.assert_allclose(run.history.column("NLL"), expected, rtol=1e-5)


def test_steps_of_adam_are_those_done_by_hand(face) -> None:
    """A location, and a scale that is kept positive: its logarithm is what moves."""
    x = X[:, 0].astype(float)

    def model(x: Any) -> None:
        mean = face.param("mean", face.np.zeros(()))
        positive = face.constraints.positive
        scale = face.param("scale", face.np.ones(()), constraint=positive)
        with face.plate("data", len(x)):
            face.sample("x", face.dist.Normal(mean, scale), obs=x)

    options = {"clip_norm": 0.3, "lr_schedule": linear(20, start=1.0, end=0.2), "average": 0.9}
    adam, losses = face.training.Adam(0.1), face.losses
    run = face.quiet(model, None, X[:, 0], loss=losses.NLL(), num_epochs=20, optim=adam, **options)
    w, m, v, averages, seen = np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2), []
    for step in range(20):
        z = (x - w[0]) * np.exp(-w[1])
        seen.append(0.5 * np.mean(z**2) + w[1] + 0.5 * np.log(2 * np.pi))
        gradient = np.array([-np.mean(z) * np.exp(-w[1]), 1.0 - np.mean(z**2)])
        gradient *= min(1.0, 0.3 / (np.linalg.norm(gradient) + 1e-6))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        rate = 0.1 * (1 - 0.04 * step)
        root = np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8
        w = w - rate * m / (1 - 0.9 ** (step + 1)) / root
        decay = min(0.9, (1 + step) / (10 + step)) if step else 0.0
        averages = decay * averages + (1 - decay) * w
    np.testing.assert_allclose(run.params["mean"], averages[0], rtol=1e-4)
    np.testing.assert_allclose(run.params["scale"], np.exp(averages[1]), rtol=1e-4)
    np.testing.assert_allclose(run.history.column("loss"), seen, rtol=1e-4)


def test_history_and_run(face) -> None:
    vae = face.vae()
    options = {"batch_size": 16, "num_epochs": 3, "optim": face.training.Adam(1e-2)}
    run = face.quiet(vae.model, vae.guide, BITS, validation=BITS[:10], **options)
    columns = ["epoch", "step", "loss", "ELBO", "ELBO/log_likelihood", "ELBO/KL"]
    scores = ["validation", *(f"validation/{name}" for name in columns[3:])]
    assert run.history.columns == [*columns, *scores, "seconds"]
    assert run.history.column("step").tolist() == [3, 6, 9]
    np.testing.assert_allclose(run.history.column("loss"), -run.history.column("ELBO"), rtol=1e-6)
    assert (run.data_size, run.epoch, run.history.last["step"]) == (40, 3, 9)
    assert repr(run).startswith("Run(epoch 3 of 3, step 9, loss ")
    assert run.config["batch_size"] == 16 and run.config["loss"] == "ELBO()"


@pytest.mark.parametrize(
    ("batch_size", "num_steps", "steps"),
    [(None, 300, 3), (5, 300, 4), (5, 30, 4), (5, 3, 3), (8, 10, 3)],
)
def test_a_run_may_be_so_many_steps(face, batch_size, num_steps, steps) -> None:
    """An epoch is a whole number of passes, about a hundred a run: callbacks, history, patience."""
    seen: list[int] = []
    options = {**still(face), "batch_size": batch_size, "num_steps": num_steps}
    callbacks = [lambda run: seen.append(run.history.last["step"])]
    run = face.quiet(face.mean_model, None, X, callbacks=callbacks, **options)
    expected = [*range(steps, num_steps, steps), num_steps]
    assert seen == run.history.column("step").tolist() == expected
    assert run.epoch == len(expected) <= 110 and run.history.column("epoch")[-1] == run.epoch
    if batch_size == 5 and num_steps == 30:
        other = {**options, "num_steps": None, "num_epochs": 7}
        longer = face.quiet(face.mean_model, None, X, **other)
        assert longer.history.column("loss")[:7].tolist() == run.history.column("loss")[:7].tolist()
    with pytest.raises(ValueError, match="num_epochs or num_steps, not both, got 2 and 3"):
        face.quiet(face.mean_model, None, X, **still(face), num_epochs=2, num_steps=3)


def test_a_stream_without_an_end_serves_a_run_in_steps(face) -> None:
    drawn: list[int] = []

    def batches() -> Any:
        for index in itertools.count():
            drawn.append(index)
            yield X[:5]

    run = face.quiet(face.mean_model, None, batches, num_steps=20, **still(face))
    assert run.history.column("step").tolist() == list(range(1, 21))
    assert drawn[-1] < 40
    with pytest.raises(ValueError, match="used up"):
        face.quiet(face.mean_model, None, iter([X, X]), num_steps=3, **still(face))


def test_batches_of_a_stream_are_fetched_as_memory_allows(face) -> None:
    """Batches of 4 MB: a handful of them is ahead of the steps, or kept, however short a step."""
    x = np.zeros((10**6, 1), np.float32)
    ahead, steps = [], [0]

    def model(x: Any) -> None:
        with face.plate("data", len(x)):
            value = face.param("mu", face.np.zeros(1))[0] + 0.0 * x[:2, 0]
            face.sample("x", face.dist.Normal(value.mean(), 1.0), obs=x[:1, 0].mean())

    def batches() -> Any:
        for index in range(40):
            ahead.append(index - steps[0])
            yield x

    def count(run: Any) -> None:
        steps[0] = run.history.last["step"]

    options = {**still(face), "num_steps": 40, "callbacks": [count]}
    face.quiet(model, None, batches, **options)
    assert max(ahead) <= 8


def test_forms_of_data(face) -> None:
    def model(x: Any, y: Any = None) -> None:
        with face.plate("data", len(x)):
            a = face.param("a", face.np.zeros(()))
            face.sample("y", face.dist.Normal(a * x, 1.0), obs=y)

    x = np.linspace(-1.0, 1.0, 12).astype(np.float32)
    batches = [(x[:5], 3 * x[:5]), (x[5:], 3 * x[5:])]
    forms = {
        "tuple": (x.astype(float), 3 * x),
        "dict": {"y": 3 * x, "x": x},
        "list": batches,
        "lists": [list(batch) for batch in batches],
        "dicts": [{"y": y, "x": x} for x, y in batches],
        "function": lambda: iter(batches),
    }
    options = {"loss": face.losses.NLL(), "optim": face.sgd(0.5), "num_epochs": 40}
    for name, data in forms.items():
        size = {"batch_size": 5} if name in ("tuple", "dict") else {}
        run = face.quiet(model, None, data, **options, **size)
        np.testing.assert_allclose(run.params["a"], 3.0, atol=1e-2, err_msg=name)
        assert run.data_size == 12 and run.history.last["step"] in (80, 120)
    once = face.quiet(model, None, iter(batches), loss=face.losses.NLL())
    assert once.history.last["step"] == 2
    with pytest.raises(ValueError, match="used up after one epoch"):
        face.quiet(model, None, iter(batches), loss=face.losses.NLL(), num_epochs=2)


def test_an_entry_may_be_missing(face) -> None:
    def model(x: Any, y: Any) -> None:
        assert y is None
        face.mean_model(x)

    assert face.quiet(model, None, (X, None), batch_size=8, **still(face)).epoch == 1


def test_binarization_is_drawn_anew_at_every_pass(face) -> None:
    def model(x: Any) -> None:
        with face.plate("data", len(x)):
            unit = face.constraints.unit_interval
            p = face.param("p", face.np.full((3,), 0.5), constraint=unit)
            face.sample("x", face.dist.Bernoulli(p).to_event(1), obs=x)

    gray = np.full((200, 3), 0.3, np.float32)
    options = {"loss": face.losses.NLL(), "transform": face.training.binarize, "num_epochs": 60}
    run = face.quiet(model, None, gray, optim=face.training.Adam(0.1), **options)
    assert len(set(run.history.column("loss").tolist())) == 60
    np.testing.assert_allclose(run.params["p"], 0.3, atol=0.1)


def test_validation_keeps_the_best_weights_and_patience_stops(face) -> None:
    seen: list[np.ndarray] = []
    options = {"loss": face.losses.NLL(), "validation_loss": face.losses.NLL(), "num_epochs": 100}
    options |= {"validation": np.ones((4, 3), np.float32), "patience": 3, "optim": face.sgd(0.05)}
    callbacks = [lambda run: seen.append(mu(face, run).copy())]
    x = np.full((6, 3), 5.0, np.float32)
    run = face.quiet(face.mean_model, None, x, callbacks=callbacks, **options)
    best = int(np.argmin(np.abs(np.array(seen)[:, 0] - 1.0)))
    assert run.best_epoch == best + 1 == run.history.best("validation")["epoch"]
    assert run.epoch == run.best_epoch + 3 == len(run.history)
    np.testing.assert_allclose(mu(face, run), seen[best])


def test_validation_uses_the_average(face) -> None:
    options = {"loss": face.losses.NLL(), "validation_loss": face.losses.NLL(), "num_epochs": 4}
    options |= {"optim": face.sgd(0.5), "validation": X}
    plain = face.quiet(face.mean_model, None, X, **options)
    averaged = face.quiet(face.mean_model, None, X, average=0.9, **options)
    assert averaged.history.last["validation"] > plain.history.last["validation"] + 1e-4
    left, right = plain.history.column("loss"), averaged.history.column("loss")
    np.testing.assert_allclose(left, right, rtol=1e-5)


def test_an_interrupt_in_validation_leaves_the_weights_of_the_last_step(face) -> None:
    """Validation looks at the average; the average must not stay in the modules."""
    calls: list[int] = []

    def model(x: Any) -> None:
        calls.append(len(x))
        if len(x) == 7 and calls.count(7) > 2:  # the look before the first step counts
            raise KeyboardInterrupt
        face.mean_model(x)

    options = {**still(face), "average": 0.9, "num_epochs": 5, "compile": False}
    with pytest.raises(KeyboardInterrupt):
        face.quiet(model, None, X, validation=X[:7], validation_loss=face.losses.NLL(), **options)
    if face.name == "pyro":
        steps = len([size for size in calls if size == 20])
        assert steps and np.isfinite(face.pyro.param("mu").detach().numpy()).all()
        expected = [X.mean(0) * (1 - 0.7**k) for k in (1, 2, 3)]
        distance = [np.abs(face.pyro.param("mu").detach().numpy() - e).max() for e in expected]
        assert min(distance) < 1e-5


def test_callbacks_see_the_run_and_may_stop_it(face) -> None:
    epochs: list[int] = []
    rows: list[int] = []
    callbacks = [
        lambda run: epochs.append(run.epoch),
        lambda run: run.epoch == 3,
        lambda run: rows.append(len(run.history)),
    ]
    run = face.quiet(face.mean_model, None, X, num_epochs=10, callbacks=callbacks, **still(face))
    assert epochs == rows == [1, 2, 3] and run.epoch == 3


def test_schedules_inside_the_loss_see_the_step(face) -> None:
    vae = face.vae()
    loss = face.losses.ELBO(beta=linear(4))
    options = {"loss": loss, "batch_size": 10, "num_epochs": 2, "optim": face.sgd(0.0)}
    first, second = face.quiet(vae.model, vae.guide, BITS, **options).history
    whole = -second["ELBO/log_likelihood"] + second["ELBO/KL"]
    assert second["loss"] == pytest.approx(whole, rel=1e-4)
    least = -first["ELBO/log_likelihood"]
    assert least < first["loss"] < least + first["ELBO/KL"]


def test_statistics_move_in_training_alone(face) -> None:
    """Drop-out draws anew in every step; validation is in evaluation mode, with equal draws."""
    network = face.network()
    options = {"optim": face.sgd(0.0), "num_epochs": 3, "batch_size": 20}
    run = face.quiet(network.model, network.guide, BITS, **options)
    assert len(set(run.history.column("loss").tolist())) == 3
    vae = face.vae()
    run = face.quiet(vae.model, vae.guide, BITS, validation=BITS[:9], **options)
    assert len(set(run.history.column("validation").tolist())) == 1


def test_the_progress_line_names_every_term(face, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    vae = face.vae()
    face.fit(vae.model, vae.guide, BITS, batch_size=10, num_epochs=2, validation=BITS)
    line = capsys.readouterr().err
    for word in ("epoch 2 of 2: loss", "validation", "best epoch", "8/8", "ELBO", "ELBO/KL"):
        assert word in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("compile", ["auto", False])
def test_the_last_batch_may_be_smaller_or_left_out(face, compile) -> None:
    options = {**still(face), "batch_size": 8, "num_epochs": 2, "compile": compile}
    run = face.quiet(face.mean_model, None, X, **options)
    assert run.history.column("step").tolist() == [3, 6]
    short = face.quiet(face.mean_model, None, X, drop_last=True, **options)
    assert short.history.column("step").tolist() == [2, 4]
    again = face.quiet(face.mean_model, None, X, **options)
    face.assert_equal(run, again)
    other = face.quiet(face.mean_model, None, X, **options, seed=1)
    assert run.history.column("loss")[1] != other.history.column("loss")[1]
