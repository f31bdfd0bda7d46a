"""The rows and the pictures that reports are made of."""

import math
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from dgm_core.diagnostics import summary
from dgm_core.report import pictures, rows
from dgm_core.report.facts import Observed
from dgm_core.results import History

RNG = np.random.default_rng(0)


def weights(log_w):
    return pictures.plot_weights(log_w, summary(log_w))


# ------------------------------------------------------------
# Rows


def test_standard_errors_of_a_single_weight_are_those_over_the_draws():
    """Against the spread of many such estimates."""
    log_w = np.random.default_rng(3).normal(-7, 0.5, size=(2000, 400, 1))
    found = rows.bound_rows(log_w[:, 0], summary(log_w[:, 0]))
    error = {row["quantity"]: row["s.e."] for row in found}
    iwae = [np.log(np.mean(np.exp(x))) for x in log_w.swapaxes(0, 1)]
    assert error["ELBO"] == pytest.approx(log_w.mean(0).std(), rel=0.12)
    assert error["IWAE-2000"] == pytest.approx(np.std(iwae), rel=0.12)
    assert all(math.isnan(error[name]) for name in ("ESS", "k-hat", "JVI-1"))


def test_bounds_of_several_data():
    log_w = RNG.normal(size=(100, 30))
    log_w[:, 4] = -np.inf
    found = rows.bound_rows(log_w[:, :4], summary(log_w[:, :4]))
    by_name = {row["quantity"]: row for row in found}
    assert by_name["ELBO"]["value"] == pytest.approx(log_w[:, :4].mean())
    error = log_w[:, :4].mean(0).std(ddof=1) / 2
    assert by_name["ELBO"]["s.e."] == pytest.approx(error)
    assert by_name["k-hat above 0.7"]["about"] == "of 4"
    with np.errstate(all="ignore"):
        found = rows.bound_rows(log_w, summary(log_w))
    assert {r["quantity"]: r["value"] for r in found}["k-hat above 0.7"] >= 1  # NaN is not good


def test_surgery_of_whichever_fields():
    Found = namedtuple("Found", "mean_kl total entry_kl kept standard_errors notes aggregate many")
    many = np.arange(12.0)
    made = Found(1.5, None, np.array([1.0, 0.5]), True, {"mean_kl": 0.1}, ("a",), "exact", many)
    found, notes = rows.surgery_rows(made, "9 data")
    assert [(r["quantity"], r["value"]) for r in found] == [
        ("mean kl", 1.5),
        ("entry kl 1", 1.0),
        ("entry kl 2", 0.5),
        ("kept", True),
        ("aggregate", "exact"),
        ("many, mean of 12", 5.5),
    ]
    assert found[0]["s.e."] == 0.1 and math.isnan(found[1]["s.e."]) and notes == ("a",)


def test_training_rows_are_those_of_the_weights_that_were_kept():
    history = History(
        {"epoch": i, "step": 5 * i, "loss": 9.0 / i, "seconds": 0.5} for i in (1, 2, 3)
    )
    run = SimpleNamespace(history=history, best_epoch=2)
    found = {row["quantity"]: row["value"] for row in rows.training_rows(run)}
    assert found == {
        "epochs": 3, "epoch of these weights": 2, "steps": 15, "seconds": 1.5, "loss": 4.5
    }  # fmt: skip
    assert rows.training_rows(SimpleNamespace()) == []


def test_the_data_are_described():
    x = np.array([[0.0, np.nan], [3.0, 1.0]])
    found = rows.data_rows(({"x": x, "n": 3, "y": None, "empty": x[:0]},), np.array([1, 1]))
    assert [(r["quantity"], r["value"], r["about"]) for r in found] == [
        ("data['x']", "(2, 2) float64", "0 to 3, mean 1.333, 1 not finite"),
        ("data['n']", "3", ""),
        ("data['y']", "None", ""),
        ("data['empty']", "(0, 2) float64", ""),
        ("labels", "(2,) int64", "1 kinds"),
    ]


# ------------------------------------------------------------
# Pictures


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize(
    "draw",
    [
        lambda: weights(RNG.normal(size=(40, 30))),
        lambda: weights(RNG.normal(size=(40, 1))),
        lambda: weights(RNG.normal(size=(3, 2))),
        lambda: weights(np.zeros((40, 5))),
        lambda: weights(np.zeros((1, 1))),
        lambda: weights(np.full((30, 1), -np.inf)),
        lambda: pictures.plot_draws({"a": RNG.normal(size=(9, 2)), "b$": np.ones(9)}, ["a", "b$"]),
        *(
            lambda shape=shape, draw=draw: draw(
                Observed(RNG.random((7, *shape)), len(shape)), RNG.random((5, *shape)), None
            )
            for draw in (pictures.plot_reconstructions, pictures.plot_samples)
            for shape in ((), (2,), (9,), (64,))
        ),
        lambda: pictures.plot_samples(Observed(np.full(4, np.nan), 0), np.ones(3), None),
        lambda: pictures.plot_reconstructions(
            Observed(np.array([[1.0, np.nan], [0, 1]]), 1), np.ones((2, 2)), None
        ),
        lambda: pictures.plot_samples(Observed(np.ones((3, 64)), 1), np.ones((3, 64)), (1, 8, 8)),
    ],
)
def test_every_picture_can_be_drawn(draw):
    assert pictures.png_of(draw())[:4] == b"\x89PNG"


def test_what_is_an_image():
    gray, flat = Observed(RNG.random((5, 1, 4, 4)), 3), Observed(RNG.random((5, 16)), 1)
    assert pictures.image_shape_of(gray, None) == (1, 4, 4)
    assert pictures.image_shape_of(Observed(gray.values * 300, 3), None) is None
    assert pictures.image_shape_of(flat, None) is None
    assert pictures.image_shape_of(flat, (1, 4, 4)) == (1, 4, 4)
    assert pictures.image_shape_of(Observed(RNG.random(5), 0), (1, 4, 4)) is None
