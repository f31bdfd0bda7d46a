"""Folders, configurations and sizes that the command line cannot use: one line, status 2."""

import json
from pathlib import Path

import pytest

from dgm_core.cli.arguments import DEFAULTS
from dgm_core.files import claimed
from tests.core.fake_backend import FakeBackend, one_line

pytestmark = pytest.mark.usefixtures("here", "no_pictures")

RUN = ("fit", "vae", "--epochs", "1", "--eval-particles", "3", "--output", "run")


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["fit", "vae", "--output", ""], "--output: must be the path of a folder, got ''"),
        (["fit", "vae", "--output", " "], "--output: must be the path of a folder"),
        (["fit", "vae", "--output", "a\0b"], "--output: must be the path of a folder"),
        (["fit", "vae", "--output", "~nobody-here/run"], "--output: must be a folder"),
        (["fit", "vae", "--output", "/dev/null/run"], "/dev/null"),
        (["fit", "vae", "--output", "x" * 300], "File name too long"),
        (
            ["fit", "vae", "--z-dim", str(10**12)],
            "--z-dim: must be a whole number from 1 to 1000000, got",
        ),
        (["fit", "vae", "--hidden", f"20,{10**12}"], "--hidden: must be sizes"),
        (["fit", "vae", "--epochs", "9" * 5000], "--epochs: must be a whole number"),
        (
            ["fit", "vae", "--seed", str(2**70)],
            "--seed: must be a whole number from 0 to 4294967295",
        ),
        (
            ["fit", "vae", "--num-particles", str(10**9)],
            "--num-particles: must be a whole number from 1",
        ),
        (
            ["fit", "vae", "--eval-particles", str(10**9)],
            "--eval-particles: must be a whole number from 1",
        ),
        (["fit", "vae", "--learning-rate", "1e400"], "--learning-rate: must be a positive number"),
        (["fit", "vae", "--beta", "inf"], "--beta: must be a number of at least 0"),
        (["compare", ""], "must be the path of a folder"),
        (["compare", "a\0b"], "must be the path of a folder"),
        (["compare", "\ud800"], "does not hold the results of a finished run"),
        (["compare", "/dev/null"], "does not hold the results of a finished run"),
    ],
)
def test_bad_flags(capsys, flags, match):
    assert FakeBackend()(*flags) == 2
    assert match in one_line(capsys)
    assert not Path("runs").exists()


def test_the_home_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert FakeBackend()(*RUN[:-1], "~/run") == 0
    assert (tmp_path / "home" / "run" / "config.json").is_file()


WRONG = {
    "unknown": {"color": "red"},
    "command": {"command": "list"},
    "resume": {"resume": False},
    "output": {"output": "elsewhere"},
    "zero epochs": {"epochs": 0},
    "zero batch": {"batch_size": 0},
    "text": {"epochs": "3"},
    "text of a size": {"z_dim": "8"},
    "fraction": {"batch_size": 12.5},
    "whole fraction": {"z_dim": 8.0},
    "negative": {"seed": -1},
    "huge": {"z_dim": 10**12},
    "boolean": {"epochs": True},
    "nothing": {"epochs": None},
    "no rate": {"learning_rate": 0},
    "rate that is none": {"learning_rate": float("nan")},
    "infinite": {"beta": float("inf")},
    "no data": {"data": "minst"},
    "no data set": {"data": 5},
    "no loss": {"loss": "elboo"},
    "list": {"posterior": ["iaf"]},
    "sizes": {"hidden": [200, 0]},
    "size": {"hidden": "200"},
    "nested": {"hidden": [[200]]},
    "number as hidden": {"hidden": 200},
    "device": {"device": 5},
    "mapping": {"prior": {}},
    "another flag": {"data": "digits --seed 3"},
    "together": {"estimator": "dreg"},
    "together too": {"loss": "iwae", "beta": 2.0},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_configuration_is_looked_at_as_flags_are(capsys, change):
    fake = FakeBackend()
    Path("run").mkdir()
    arguments = {**DEFAULTS, **change}
    stored = {"backend": "fake_dgm", "model": "vae", "arguments": arguments}
    Path("run/config.json").write_text(json.dumps(stored))
    assert fake("fit", "vae", "--output", "run", "--resume") == 2
    assert not fake.calls
    line = one_line(capsys)
    assert any(name in line or f"--{name.replace('_', '-')}" in line for name in change)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '"text"', "[" * 100_000, '{"arguments": []}', "\ud800", "\0"]
    + [json.dumps({"backend": "fake_dgm", "model": "vae", "arguments": a}) for a in ([], 3, "x")]
    + [json.dumps({"backend": 5, "model": "vae", "arguments": DEFAULTS})]
    + [json.dumps({"backend": "fake_dgm", "model": m, "arguments": {}}) for m in (5, None, "gann")],
)
def test_a_file_that_is_no_configuration(capsys, text):
    Path("run").mkdir()
    Path("run/config.json").write_bytes(text.encode(errors="surrogatepass"))
    assert FakeBackend()("fit", "vae", "--output", "run", "--resume") == 2
    assert "run" in one_line(capsys)
    assert FakeBackend()("compare", "run") == 2
    assert "run does not hold the results" in one_line(capsys)
    for command in ("evaluate", "sample", "report"):
        assert FakeBackend()(command, "run") == 2
        assert "run" in one_line(capsys)


def test_what_compare_refuses(capsys):
    assert FakeBackend()(*RUN) == 0
    capsys.readouterr()
    good = json.loads(Path("run/results.json").read_text())
    for wrong in (
        [], 3, "text", None, {}, {**good, "mean": []}, {**good, "khat_counts": 5},
        {**good, "khat_counts": {"k >= 1": None}}, {**good, "mean": None},
    ):  # fmt: skip
        Path("run/results.json").write_text(json.dumps(wrong))
        assert FakeBackend()("compare", "run") == 2
        assert "run does not hold the results of a finished run" in one_line(capsys)
    Path("run/results.json").unlink()
    Path("run/results.json").mkdir()
    assert FakeBackend()("compare", "run") == 2


def test_what_a_file_lacks_is_said_in_words(capsys):
    assert FakeBackend()(*RUN) == 0
    capsys.readouterr()
    path = Path("run/config.json")
    good = json.loads(path.read_text())
    lacking = {name: x for name, x in good.items() if name != "arguments"}
    for wrong, said in (
        (lacking, "'arguments' is missing"),
        ({**good, "model": "gann"}, "unknown model 'gann'"),
        ({**good, "arguments": 3}, "some of it is of another kind"),
    ):
        path.write_text(json.dumps(wrong))
        assert FakeBackend()("compare", "run") == 2
        assert f"results of a finished run ({said})." in one_line(capsys)
    path.write_text(json.dumps(lacking))
    assert FakeBackend()("fit", "vae", "--output", "run", "--resume") == 2
    assert "does not describe a run ('arguments' is missing): restore it" in one_line(capsys)


def test_a_folder_that_another_run_writes_to(capsys):
    fake = FakeBackend()
    Path("run").mkdir()
    with claimed(Path("run")):
        assert fake(*RUN) == 2
    assert "Another run writes to run" in one_line(capsys)
    assert not fake.calls
    assert not Path("run/config.json").exists()
    assert fake(*RUN) == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8000000000000 bytes."),
        ValueError("Unable to allocate 7.28 TiB for an array"),
    ],
)
def test_too_little_memory(capsys, error):
    assert FakeBackend(error)(*RUN) == 2
    one_line(capsys)


def test_an_error_of_ours_is_not_hidden():
    for error in (ZeroDivisionError("ours"), RuntimeError("ours"), OverflowError("ours")):
        with pytest.raises(type(error), match="ours"):
            FakeBackend(error)(*RUN[:-1], type(error).__name__)
