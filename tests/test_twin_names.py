"""The twins are the same library twice: same files, same public names, same arguments and defaults, same docstrings."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.source_tree import ROOT, load, module_name, public_methods, public_names, sources

# What a backend's own protocol asks for. A torch module is called through `forward`, a distribution is written against the base class of
# its library, and in NumPyro a loss is given the random key and the parameters that Pyro keeps in global stores.
SAME_ROLE = {"forward": "__call__"}
PROTOCOL: dict[str, set[str]] = {"pyro_dgm": set(), "numpyro_dgm": set()}
EXPLICIT_STATE = {"key", "rng_key", "params", "mutable_state"}


def twin(path: Path) -> Path:
    return ROOT / "numpyro_dgm" / path.relative_to(ROOT / "pyro_dgm")


def text(docstring: str | None) -> str:
    """A docstring without its examples: a `>>>` line, and what follows it up to the next blank line, may differ."""
    kept, example = [], False
    for line in inspect.cleandoc(docstring or "").splitlines():
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            kept.append(line.rstrip())
    return "\n".join(kept).strip()


def parameters(function: Callable[..., Any]) -> list[tuple[str, str, str]]:
    """Name, kind and default of each argument; annotations name each library's own arrays."""
    return [
        (p.name, p.kind.description, repr(p.default))
        for p in inspect.signature(function).parameters.values()
        if not (p.name == "key" and p.kind is p.KEYWORD_ONLY)
    ]


def own_methods(cls: type) -> dict[str, Any]:
    protocol = PROTOCOL[cls.__module__.split(".")[0]]
    return {SAME_ROLE.get(name, name): value for name, value in public_methods(cls).items() if name not in protocol}


FILES = [pytest.param(path, id=module_name(path).partition(".")[2] or "package") for path in sources("pyro_dgm")]


def test_same_files() -> None:
    names = [{path.relative_to(ROOT / package) for path in sources(package)} for package in ("pyro_dgm", "numpyro_dgm")]
    assert names[0] == names[1]


@pytest.mark.parametrize("path", FILES)
def test_module_docstrings_are_equal(path: Path) -> None:
    ours, theirs = (ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) for p in (path, twin(path)))
    assert text(ours) == text(theirs)


@pytest.mark.parametrize("path", FILES)
def test_public_names_are_equal(path: Path) -> None:
    ours, theirs = public_names(load(path)), public_names(load(twin(path)))
    assert set(ours) == set(theirs)
    for name in ours:
        assert text(ours[name].__doc__) == text(theirs[name].__doc__), name
        if not inspect.isclass(ours[name]):
            assert parameters(ours[name]) == parameters(theirs[name]), name
