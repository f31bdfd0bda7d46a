"""History, tables and JSON."""

import os
from pathlib import Path

import numpy as np
import pytest

from dgm_core.results import History, format_table, read_json, write_json

ROWS = [
    {"epoch": 1, "loss": 9.5, "ELBO/KL": 1 / 3},
    {"epoch": 2, "loss": float("inf"), "validation": np.float32(8.25)},
    {"epoch": 3, "loss": 7.0, "validation": 9.0, "note": "restarted, twice"},
]


def test_history_columns_and_rows():
    history = History(ROWS[:1])
    history.append(ROWS[1])
    history.append(ROWS[2])
    assert len(history) == 3
    assert list(history) == ROWS
    assert history[-1] == history.last == ROWS[2]
    assert history.columns == ["epoch", "loss", "ELBO/KL", "validation", "note"]
    np.testing.assert_array_equal(history.column("validation"), [np.nan, 8.25, 9.0])
    assert history.best("validation")["epoch"] == 2
    assert history.best("validation", largest=True)["epoch"] == 3
    assert history.best("loss")["epoch"] == 3
    assert "restarted, twice" in repr(history)
    assert repr(History()) == "History()"


def test_rows_are_copies():
    row = {"epoch": 1}
    history = History([row])
    row["epoch"] = 2
    history.last["epoch"] = 3
    next(iter(history))["epoch"] = 4
    assert history == History([{"epoch": 1}])
    assert history != History()


def test_csv_comes_back_to_the_last_digit(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    History(ROWS).to_csv(path)
    assert path.read_text().splitlines()[0] == "epoch,loss,ELBO/KL,validation,note"
    again = History.from_csv(path)
    assert again == History(ROWS)
    assert type(again[0]["epoch"]) is int
    assert os.listdir(tmp_path / "run") == ["metrics.csv"]


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (lambda: History().last, "no epoch has ended"),
        (lambda: History(ROWS).column("elbo"), "no column 'elbo'; it has epoch, loss"),
        (lambda: History([{"loss": np.nan}]).best("loss"), "missing or NaN"),
        (lambda: format_table(ROWS, ["epoch", "lost"]), r"\['lost'\]"),
    ],
)
def test_history_refuses(use, match):
    with pytest.raises(ValueError, match=match):
        use()


def test_table():
    rows = [
        {"bound": "ELBO", "nats": -104.25, "n": 10},
        {"bound": "IWAE-500", "nats": np.nan},
        {"bound": "k", "nats": 1e-7},
    ]
    assert format_table(rows, digits=2).splitlines() == [
        "bound        nats   n",
        "--------  -------  --",
        "ELBO      -104.25  10",
        "IWAE-500      nan   -",
        "k           1e-07   -",
    ]
    assert format_table([{"a": 0.0, "b": True}], ["b"]).splitlines() == ["b", "----", "True"]


def test_json(tmp_path):
    class Loss:
        def __repr__(self):
            return "ELBO()"

    path = tmp_path / "config.json"
    write_json(
        path,
        {
            "lr": np.float64(1e-3),
            "n": np.int32(3),
            "v": np.arange(2),
            "out": Path("runs"),
            "loss": Loss(),
        },
    )
    assert read_json(path) == {"lr": 1e-3, "n": 3, "v": [0, 1], "out": "runs", "loss": "ELBO()"}
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON file"):
        read_json(path)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_json(path, {"epoch": 1})

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"epoch": 2})
    assert read_json(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize(
    "contents",
    [
        b"epoch,loss\n1,2",
        b"epoch,loss\n1\n",
        b"epoch,loss\n1,2,3\n",
        b'a,b\n1,"2\n',
        b"\xff\n",
        b"a\n\0,1\n",
    ],
)
def test_a_damaged_table(tmp_path, contents):
    path = tmp_path / "metrics.csv"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"metrics\.csv is not a table of metrics"):
        History.from_csv(path)


def test_every_prefix_of_a_table_is_refused_or_shorter(tmp_path):
    path = tmp_path / "metrics.csv"
    History(ROWS).to_csv(path)
    contents = path.read_bytes()
    for size in range(1, len(contents)):
        path.write_bytes(contents[:size])
        if contents[:size].endswith(b"\n"):
            assert list(History.from_csv(path)) == list(ROWS[: contents[:size].count(b"\n") - 1])
        else:
            with pytest.raises(ValueError, match="is not a table"):
                History.from_csv(path)


def test_truth_values_and_texts_in_tables(tmp_path):
    history = History([{"epoch": 1, "done": True, "note": "a"}, {"epoch": 2, "done": False}])
    history.to_csv(tmp_path / "metrics.csv")
    again = History.from_csv(tmp_path / "metrics.csv")
    assert again == history
    assert again[0]["done"] is True
    with pytest.raises(ValueError, match="column 'note' holds text"):
        again.column("note")
