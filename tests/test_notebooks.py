"""The notebooks run from top to bottom with a small budget, and both twins tell the same story."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from tests.source_tree import ROOT

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.py"))


def prose(path: Path) -> list[str]:
    """The texts of a notebook's markdown cells."""
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown"]


@pytest.mark.long(*(f"numpyro-{n:02}" for n in range(2, 19)))
@pytest.mark.parametrize(
    "path", [pytest.param(p, id=f"{p.parent.name}-{p.stem}") for p in NOTEBOOKS]
)
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    quick = {
        "DGM_NOTEBOOK_FAST": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
    }  # compiling is most of the time
    environment = os.environ | quick | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_twins_have_the_same_lessons() -> None:
    lessons = {
        twin: {p.name for p in NOTEBOOKS if p.parent.name == twin} for twin in ("pyro", "numpyro")
    }
    assert lessons["pyro"] == lessons["numpyro"] != set()


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem) for p in NOTEBOOKS if p.parent.name == "pyro"]
)
def test_the_twins_prose_is_equal(path: Path) -> None:
    assert prose(path) == prose(ROOT / "notebooks" / "numpyro" / path.name)


def test_what_make_notebooks_calls_is_installed(tmp_path: Path) -> None:
    head = NOTEBOOKS[0].read_text().split("# %%")[0]
    (tmp_path / "tiny.py").write_text(f"{head}# %%\nprint(6 * 7)\n")
    command = [sys.executable, "-m", "jupytext", "--to", "ipynb", "--execute", "tiny.py"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "42" in (tmp_path / "tiny.ipynb").read_text()
