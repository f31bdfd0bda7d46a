"""The architecture, read from the imports.

`dgm_core | compat -> nn -> mcmc -> conditionals -> flows, joints -> sequences -> guides, models
-> losses -> training -> evaluation -> __main__`.
"""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.source_tree import (
    LIBRARIES,
    OWN,
    PACKAGES,
    ROOT,
    TWINS,
    definitions,
    for_each,
    imports,
    load,
    module_name,
    private_uses,
    sources,
    top,
    tree_of,
)

LAYERS = (
    {"compat"},
    {"nn"},
    {"mcmc"},
    {"conditionals"},
    {"flows", "joints"},
    {"sequences"},
    {"guides", "models"},
    {"losses"},
    {"training"},
    {"evaluation"},
    {"__main__"},
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
NEEDS_NO_MODEL = {
    "guides",
    "losses",
    "training",
    "evaluation",
}  # they know model/guide callables, never a concrete model
DISTRIBUTIONS = {
    "PIL": "pillow",
    "pyro": "pyro-ppl",
    "sklearn": "scikit-learn",
}  # what a library is called on PyPI, where that differs
MAX_LINES = 400
NAMED_TUPLE = {"_replace", "_fields", "_asdict"}  # public, whatever their names say


ALL = [path for package in PACKAGES for path in sources(package)]


@for_each(ALL)
def test_a_file_imports_only_what_its_package_may(path: Path) -> None:
    package = top(module_name(path))
    forbidden = set(TWINS) - {package}
    for twin, libraries in LIBRARIES.items():
        if twin != package:
            forbidden |= libraries
    assert not {top(name) for name in imports(path)} & forbidden


def test_every_library_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        "dgm_core": project["dependencies"],
        "pyro_dgm": extras["pyro"] + extras["zuko"] + extras["torchdiffeq"],
        "numpyro_dgm": extras["numpyro"] + extras["flowjax"] + extras["diffrax"],
    }
    for package in PACKAGES:
        requirements = {
            re.split(r"[<>=\[]", r)[0] for r in declared[package] + declared["dgm_core"]
        }
        used = (
            {top(name) for path in sources(package) for name in imports(path)}
            - set(sys.stdlib_module_names)
            - set(PACKAGES)
        )
        assert {DISTRIBUTIONS.get(name, name) for name in used} <= requirements, package


@for_each(path for path in ALL if top(module_name(path)) != "dgm_core")
def test_imports_point_to_the_left(path: Path) -> None:
    name = module_name(path)
    if "." not in name:  # the package's own __init__ collects names from everywhere
        return
    package, here = name.split(".")[:2]
    assert here in LAYER, f"{name} belongs to no layer: {LAYERS}."
    for imported in imports(path):
        if top(imported) != package:
            continue
        assert imported != package, (
            f"{name} imports from the package's root; import from the module that defines the name."
        )
        there = imported.split(".")[1]
        assert LAYER[there] <= LAYER[here], f"{name} imports {imported}, which is to its right."
        assert not (here in NEEDS_NO_MODEL and there == "models"), (
            f"{name} must not know a concrete model, imports {imported}."
        )


@for_each(ALL)
def test_no_private_name_is_imported(path: Path) -> None:
    ours = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and top(node.module or "") in PACKAGES
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not ours, f"{module_name(path)} imports private names of other modules: {ours}."


@cache
def inherited(package: str) -> set[str]:
    """What a class may use of itself: the names that the package defines, and the libraries' own
    that its `compat` lists."""
    table = getattr(load(ROOT / package / "compat.py"), "INHERITED", {})
    return set().union(*table.values(), *(definitions(tree_of(path)) for path in sources(package)))


@for_each(path for path in ALL if path.stem != "compat")
def test_private_parts_are_used_in_compat_alone(path: Path) -> None:
    """Of the libraries, and of our own modules those of another file."""
    package = module_name(path).partition(".")[0]
    own = inherited(package)
    used = [
        f"{place} (line {line})"
        for line, owner, name, place in private_uses(tree_of(path), strings=package in TWINS)
        if not (
            name in NAMED_TUPLE
            or name in definitions(tree_of(path))
            or (owner in OWN and name in own)
        )
    ]
    assert not used, (
        f"{module_name(path)} uses private parts: {used}. Those of a library go into "
        f"{package}/compat.py and its table; those of our modules are made public, or functions of "
        "the file that has them."
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_cycles(package: str) -> None:
    files = {module_name(path): path for path in sources(package)}
    graph = {
        name: {i for i in imports(path) if i in files and i != name}
        for name, path in files.items()
        if "." in name
    }
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert not graph, f"These modules import each other in a circle: {sorted(graph)}."


@for_each([*ALL, *sorted((ROOT / "tests").rglob("*.py"))])
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (MAX_LINES if path.parts[-2] != "training" else 470), (
        f"{path.relative_to(ROOT)} has {lines} lines; at 250 it wants to be two, {MAX_LINES} is "
        "the end."
    )
