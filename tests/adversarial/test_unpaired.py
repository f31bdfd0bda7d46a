"""Data without pairs, and translation between two domains: linear maps G = a x, F = b y between
x ~ N(0, 1) and y ~ N(0, 4), in which everything is known.
"""

import re
from importlib import import_module
from math import log, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from dgm_core.training.unpaired import Unpaired


def quantiles(num: int, scale: float) -> np.ndarray:
    """A normal sample whose mean absolute value is exact."""
    x = norm.ppf((np.arange(num) + 0.5) / num)
    return (scale * sqrt(2 / pi) / abs(x).mean() * x)[:, None]


def linear(lib: Any, a: float, b: float) -> Any:
    """A CycleGAN with G = a x, F = b y."""
    maps = []
    for slope in (a, b):
        layer, zero = lib.build("nn", "Linear", 1, 1), lib.array(np.zeros(1))
        weight = lib.array(np.array([[slope]]))
        if hasattr(lib, "torch"):
            layer.weight.data, layer.bias.data = weight, zero
        else:
            layer = lib.eqx.tree_at(lambda own: (own.weight, own.bias), layer, (weight, zero))
        maps.append(layer)
    return lib.build("models", "CycleGAN", 1, to_y=maps[0], to_x=maps[1])


def evaluated(lib: Any, loss: Any, gan: Any, *data: Any) -> tuple[dict[str, float], list[float]]:
    """The terms, and the derivatives of the loss per datum with respect to a and b."""
    data = tuple(map(lib.array, data))
    if hasattr(lib, "torch"):
        gan.zero_grad()
        out = loss.evaluate(gan.model, gan.guide, data)
        out.per_datum.backward()
        slopes = [float(layer.weight.grad) for layer in (gan.to_y, gan.to_x)]
    else:

        def total(params: Any) -> Any:
            out = loss.evaluate(lib.key(0), params, gan.model, gan.guide, data)
            return out.per_datum, out.terms

        params = {f"{name}$params": getattr(gan, name) for name in ("to_y", "to_x")}
        slopes, terms = lib.jax.jit(lib.jax.grad(total, has_aux=True))(params)
        slopes = [float(slopes[f"{name}$params"].weight[0, 0]) for name in ("to_y", "to_x")]
        return {name: float(value) for name, value in terms.items()}, slopes
    return {name: float(value) for name, value in out.terms.items()}, slopes


def test_linear_maps(lib: Any, x64: None) -> None:
    """Cycle, identity and Wasserstein distances with their derivatives: both signs bring all data
    back, and the identity loss tells them apart."""
    losses, x, y = lib.package.losses, quantiles(60, 1.0), quantiles(60, 2.0)
    cycle, same = losses.Cycle(("x", "y")), losses.Identity(("x", "y"))
    distance = losses.SlicedWasserstein("y", num_directions=1, p=1.0)
    loss = cycle + 0.5 * same + distance
    means = abs(x).mean(), abs(y).mean()
    wanted = {
        (2.0, 0.5): (0.0, 1.99471140),
        (-2.0, -0.5): (0.0, 5.98413421),
        (2.0, 0.4): (0.47873074, None),
        (1.0, 1.0): (0.0, 0.0),
        (-1.7, 0.3): (None, None),
    }
    for (a, b), (back, stay) in wanted.items():
        terms, slopes = evaluated(lib, loss, linear(lib, a, b), x, y)
        exact = abs(a * b - 1) * sum(means), abs(b - 1) * means[0] + abs(a - 1) * means[1]
        for term, own, printed in zip((cycle, same), exact, (back, stay), strict=True):
            assert terms[term.name] == pytest.approx(own, abs=1e-10)
            assert printed is None or terms[term.name] == pytest.approx(printed, abs=5.1e-9)
        assert terms["Cycle(x, y)/y"] == pytest.approx(abs(a * b - 1) * means[1], abs=1e-10)
        assert terms[distance.name] == pytest.approx(abs(abs(a) - 2) * means[0], abs=1e-10)
        if a != 1 and abs(a) != 2:
            turn, total = np.sign(a * b - 1), sum(means)
            by_a = turn * b * total + 0.5 * np.sign(a - 1) * means[1] - np.sign(a) * means[0]
            by_b = turn * a * total + 0.5 * np.sign(b - 1) * means[0]
            np.testing.assert_allclose(slopes, (by_a, by_b), rtol=1e-10)
    terms, _ = evaluated(lib, loss, linear(lib, 1.0, 1.0), x, y)
    assert terms[distance.name] == pytest.approx(0.79788456, abs=5.1e-9)
    assert log(2) + 1 / 8 - 1 / 2 == pytest.approx(0.31814718, abs=5.1e-9)  # KL(N(0,1), N(0,4))


def settings(lib: Any) -> dict[str, Any]:
    quick = {"compile": False} if hasattr(lib, "torch") else {}
    return {"optim": lib.package.Adam(0.03), "progress": False, **quick}


@pytest.mark.slow
@pytest.mark.long("numpyro")
def test_the_identity_loss_decides_the_sign(lib: Any) -> None:
    """From maps of the wrong sign, on data sets of 150 and 90 rows: without it they keep their
    sign, with it they turn."""
    losses, data = lib.package.losses, Unpaired(quantiles(150, 1.0), quantiles(90, 2.0))
    fit_to = losses.SlicedWasserstein("x", num_directions=1, p=1.0)
    fit_to += losses.SlicedWasserstein("y", num_directions=1, p=1.0)
    for weight, sign in ((0.0, -1), (2.0, 1)):
        loss = fit_to + losses.Cycle(("x", "y")) + weight * losses.Identity(("x", "y"))
        if not weight:
            loss = fit_to + losses.Cycle(("x", "y"))
        gan = linear(lib, -1.2, -0.8)
        run = lib.package.fit(
            gan.model,
            None,
            data,
            loss=loss,
            batch_size=30,
            num_epochs=40,
            lr_schedule=lambda step: 1.0 / (1.0 + 0.02 * step),
            **settings(lib),
        )
        one = np.float32([[1.0]])
        ends = lib.package.generate(run, one)["y"], lib.package.generate(run, None, one)["x"]
        found = [float(end.ravel()[0]) for end in ends]
        assert found[0] * found[1] == pytest.approx(1.0, abs=0.25), (weight, found)
        assert np.sign(found).tolist() == [sign, sign], (weight, found)


@pytest.mark.slow("numpyro")
def test_a_run_is_resumed(lib: Any, tmp_path: Path) -> None:
    """With critics and past fakes, the same to the last bit."""
    losses, data = lib.package.losses, Unpaired(quantiles(50, 1.0), quantiles(30, 2.0))

    def train(num_epochs: int, **kept: Any) -> Any:
        critics = [lib.build("losses", "Critic", 1, hidden=(4,)) for _ in range(2)]
        loss = losses.Cycle(("x", "y"))
        for site, critic in zip("xy", critics):
            loss += losses.JensenShannon(site, critic, past_fakes=12)
        gan = linear(lib, 0.5, 1.5)
        return lib.package.fit(
            gan.model,
            None,
            data,
            loss=loss,
            batch_size=20,
            num_epochs=num_epochs,
            **settings(lib),
            **kept,
        )

    whole = train(4)
    train(2, checkpoint=tmp_path)
    again = train(4, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.history.column("loss"), whole.history.column("loss"))
    assert again.history.column("step").tolist() == [3, 6, 9, 12]  # of 50 rows by 20


def test_every_set_has_an_order_of_its_own(lib: Any) -> None:
    """Each row of the longest once in an epoch, those of a shorter one equally often, apart."""
    x, y = np.arange(10.0), np.arange(4.0) + 100
    batches = import_module(f"{lib.package.__name__}.training.batches")
    place = {"device": lib.torch.device("cpu")} if hasattr(lib, "torch") else {}
    data = batches.Arrays(Unpaired(x, y), 3, **place)
    assert (data.num_data, data.num_full, data.num_batches) == (10, 3, 4)
    epochs = []
    for seed in (1, 2):
        if hasattr(lib, "torch"):
            parts = [batch.arrays for batch in data.epoch(seed)]
        else:
            order = data.order(lib.key(seed))
            parts = [batches.take_rows(data.arrays, order[i : i + 3]) for i in range(0, 10, 3)]
        epochs.append([np.concatenate([lib.numpy(part[i]) for part in parts]) for i in (0, 1)])
    for first, second in epochs:
        assert sorted(first) == list(x)
        assert sorted(second[:4]) == sorted(second[4:8]) == list(y)
    assert any(a != b - 100 for a, b in zip(*epochs[0]))
    assert (epochs[0][0] != epochs[1][0]).any() and (epochs[0][1] != epochs[1][1]).any()


@pytest.mark.slow("numpyro")
def test_whole_numbers_are_data_too(lib: Any) -> None:
    """Bits, which networks and critics are given as numbers."""
    x = np.arange(8)[:, None] % 2 == 0
    data, loss = Unpaired(x, x[:6]), lib.package.losses.Hinge("x", past_fakes=4)
    loss = loss + lib.package.losses.Cycle(("x", "y"))
    gan = linear(lib, 1.0, 1.0)
    options = {**settings(lib), "num_steps": 1, "batch_size": 4}
    run = lib.package.fit(gan.model, None, data, loss=loss, **options)
    assert run.history.last["Cycle(x, y)"] == 0
    assert np.isfinite(run.history.last["Hinge(x)"])


def test_what_is_refused(lib: Any) -> None:
    losses, build = lib.package.losses, lib.build
    gan, both = linear(lib, 1.0, 1.0), losses.Cycle(("x", "y"))
    x, y = np.zeros((8, 1), np.float32), np.zeros((5, 1), np.float32)

    def fit(data: Any, model: Any = gan.model, loss: Any = both, **how: Any) -> Any:
        return lib.package.fit(model, None, data, loss=loss, **{**settings(lib), **how})

    def hidden(x: Any, y: Any) -> None:
        gan.model(x + 1, y)

    wide, pictures = build("models", "CycleGAN", 1, 2), build("models", "CycleGAN", (1, 2, 2))
    gray = np.full((3, 1, 2, 2), 255, np.uint8)
    for call, message in (
        (lambda: Unpaired(x), "Unpaired takes two or more arrays"),
        (lambda: fit((x, y)), "sets without pairs are given as Unpaired(x, y)"),
        (lambda: fit(Unpaired(x, y)), "rows need a batch_size below 8"),
        (lambda: fit(Unpaired(x, y), batch_size=8), "rows need a batch_size below 8"),
        (lambda: fit(Unpaired(x, y[:0]), batch_size=2), "The data are empty: data[1] has no rows"),
        (lambda: gan.model(lib.array(x), lib.array(y)), "need not be pairs, but a batch holds"),
        (lambda: gan.model(lib.array(x[:, 0])), "x must have shape (batch, 1), got (8,)"),
        (lambda: gan.model(), "CycleGAN translates data"),
        (lambda: build("models", "CycleGAN", (1, 8, 8), (1, 8, 4)), "of one height and width"),
        (lambda: build("models", "CycleGAN", 1, to_x=3), "to_x must be a network"),
        (lambda: losses.Cycle("x"), "sites must be the names of two sites"),
        (
            lambda: fit((gray, gray), pictures.model),
            "observes 255, outside the support of ImplicitDistribution",
        ),
        (lambda: fit((gray, gray), pictures.model), "images of bytes by x / 255"),
        (lambda: fit((x, x + 1), hidden), "Site 'x' observes no argument of the model"),
        (
            lambda: fit((x, np.ones((8, 2))), wide.model, losses.Identity(("x", "y"))),
            "which needs one shape, got (8, 1) at 'x', (8, 2) at 'y'",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            call()
