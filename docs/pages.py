"""Writes a page for every public name, an index of all of them by family, and the lessons."""

import importlib
import inspect
import re
import shutil
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext

FAMILIES = {
    "models": "Models and their guides",
    "conditionals": "Conditional distributions: priors, guides and likelihoods",
    "flows": "Normalizing flows, conditionals as well",
    "losses": "Training objectives",
    "guides": "Guides for any model",
    "sequences": "Sequences from one step",
    "joints": "The two joints, for authors of terms",
    "mcmc": "Transition kernels on unconstrained values",
    "nn": "Networks",
    "training": "Training",
    "evaluation": "Evaluation",
}
CORE = (
    "annealing",
    "data",
    "schedules",
    "spectral",
    "truncation",
    "latex",
    "report",
    "diagnostics",
    "forecasting",
    "surgery",
    "geometry",
    "representation",
    "restoration",
    "arviz_export",
    "plots",
    "results",
    "chains",
    "studies",
    "samples.distances",
    "samples.two_sample",
    "samples.quality",
    "training.checkpoint",
)


TWICE = {("pyro_dgm.nn", "Adam")}  # names that stand on two pages


def write(folder: Path) -> None:
    """Write reference/ and lessons/ below `folder`; what was there before is replaced."""
    for name in ("reference", "lessons"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    _write_reference(folder / "reference")
    _write_lessons(folder / "lessons", folder.parent / "notebooks")


def names_of(module: ModuleType) -> list[str]:
    """The public classes and functions of a module, sorted without regard to case."""
    listed = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return sorted(
        (n for n in listed if callable(getattr(module, n)) or hasattr(module, n)), key=str.lower
    )


def one_line(value: Any) -> str:
    """The first paragraph of a docstring on one line."""
    text = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def _write_reference(folder: Path) -> None:
    index = ["# All public names", "", "Every name on one page, with a line each. The first part"]
    index += ["exists twice, as `pyro_dgm` and as `numpyro_dgm`: same names, same arguments, and"]
    index += ["`key=` where weights are drawn in NumPyro.", ""]
    for family, title in FAMILIES.items():
        ours = importlib.import_module(f"pyro_dgm.{family}")
        theirs = importlib.import_module(f"numpyro_dgm.{family}")
        index += [f"## {title}", "", f"`from pyro_dgm.{family} import ...`", "", *_head()]
        for name in names_of(ours):
            page = f"{family}.{name}"
            index.append(f"| [`{name}`]({page}.rst) | {one_line(getattr(ours, name))} |")
            text = _page(f"pyro_dgm.{family}", name, getattr(ours, name))
            text += _in_numpyro(family, name, getattr(theirs, name))
            (folder / f"{page}.rst").write_text(text, encoding="utf-8")
        index.append("")
    for module_name in CORE:
        module = importlib.import_module(f"dgm_core.{module_name}")
        index += [f"## dgm_core.{module_name}", "", one_line(module), "", *_head()]
        for name in names_of(module):
            page = f"dgm_core.{module_name}.{name}"
            index.append(f"| [`{name}`]({page}.rst) | {one_line(getattr(module, name))} |")
            text = _page(f"dgm_core.{module_name}", name, getattr(module, name))
            (folder / f"{page}.rst").write_text(text, encoding="utf-8")
        index.append("")
    (folder / "index.md").write_text("\n".join(index), encoding="utf-8")


def escape(lines: list[str]) -> None:
    """Turn a docstring of plain text into reStructuredText, in place."""
    escaped: list[str] = []
    in_example, in_section = False, False
    for line in lines:
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        in_section |= bool(re.fullmatch(r"[A-Z]\w+:", line))
        before = escaped[-1] if escaped else ""
        depth = 8 if in_section else 0  # deeper stand formulas and lists
        if line.strip() and before.strip() and not in_example:
            inside, was_inside = (len(x) - len(x.lstrip()) for x in (line, before))
            if (inside > depth) != (was_inside > depth) and min(inside, was_inside) >= depth:
                escaped.append("")
        escaped.append(line if in_example else _escaped(line))
    lines[:] = escaped


def _escaped(line: str) -> str:
    parts = re.split(r"(`[^`]+`)", line)
    for index, part in enumerate(parts):
        if index % 2:
            parts[index] = f"`{part}`"
        else:
            part = re.sub(r"(?<![\w*])\*(\w[\w ]*)\*(?![\w*])", "\0\\1\0", part)
            part = re.sub(r"([*|]|_\b)", r"\\\1", part)
            parts[index] = part.replace("\0", "*")
    return "".join(parts)


def _head() -> list[str]:
    return ["| name | what it is |", "|---|---|"]


def _page(module: str, name: str, value: Any) -> str:
    kind = "autoclass" if inspect.isclass(value) else "autofunction"
    if not callable(value):
        kind = "autodata"
    options = "   :members:\n" if kind == "autoclass" else ""
    if (module, name) in TWICE:
        options += "   :no-index:\n"
    # an orphan, as hundreds of names beside every page help nobody and take minutes to draw
    return f":orphan:\n\n{_title(name, '=')}.. {kind}:: {module}.{name}\n{options}"


def _in_numpyro(family: str, name: str, value: Any) -> str:
    if not (inspect.isroutine(value) or inspect.isclass(value)):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    shown = re.sub(r"<class '[\w.]*\.(\w+)'>", r"\1", str(inspect.Signature(bare)))
    call = f"numpyro_dgm.{family}.{name}{shown}"
    lines = textwrap.wrap(call, 80, subsequent_indent="    ", break_long_words=False)
    code = textwrap.indent("\n".join(lines), "   ")
    return f"\n{_title('In NumPyro', '-')}.. code-block:: python\n\n{code}\n"


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _write_lessons(folder: Path, notebooks: Path) -> None:
    entries = []
    for backend in ("pyro", "numpyro"):
        for path in sorted((notebooks / backend).glob("*.py")):
            name = f"{backend}_{path.stem}"
            jupytext.write(jupytext.read(path), folder / f"{name}.ipynb")
            entries.append(name)
    text = "# Lessons\n\nThe same lessons for both backends; `make notebooks` executes them.\n\n"
    text += "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(entries) + "\n```\n"
    (folder / "index.md").write_text(text, encoding="utf-8")
