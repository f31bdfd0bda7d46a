"""The pages of the documentation: their code runs, and they are there for every public name."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

from tests.source_tree import ROOT, TWINS

PAGES = sorted((ROOT / "docs").glob("*.md"))
TAB = re.compile(r":::\{tab-item\} (\w+)\n```python\n(.*?)```", re.DOTALL)
BACKEND = {"Pyro": "pyro_dgm", "NumPyro": "numpyro_dgm"}


@pytest.mark.slow("NumPyro")  # they train, and compile it
@pytest.mark.long(
    "[guides-NumPyro",
    "[comparing_guides-NumPyro",
    "[surgery-NumPyro",
    "[geometry-NumPyro",
    "[sequences-NumPyro",
    "[codes-NumPyro",
    "[energies-NumPyro",
    "[continuous-NumPyro",
)
@pytest.mark.parametrize("backend", BACKEND)
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: Path, backend: str, tmp_path: Path
) -> None:
    blocks = [code for tab, code in TAB.findall(page.read_text()) if tab == backend]
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks))
    runpy.run_path(str(script))


def test_both_libraries_are_shown() -> None:
    for page in PAGES:
        tabs = [tab for tab, _ in TAB.findall(page.read_text())]
        assert tabs == ["Pyro", "NumPyro"] * (len(tabs) // 2), page.name


def test_every_question_is_answered_by_a_page_that_is_there() -> None:
    answers = re.findall(r"<reference/([\w.]+)>", (ROOT / "docs" / "find.md").read_text())
    assert len(answers) >= 15
    for answer in answers:
        family, _, name = answer.rpartition(".")
        for module in (
            [family] if family.startswith("dgm_core") else [f"{t}.{family}" for t in TWINS]
        ):
            assert hasattr(importlib.import_module(module), name), answer
