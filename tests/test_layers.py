"""The architecture, read from the imports: `dgm_core | nn -> flows, likelihoods, priors -> guides, models -> losses -> training -> evaluation -> __main__`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TWINS = ("pyro_dgm", "numpyro_dgm")
LIBRARIES = {
    "pyro_dgm": {"torch", "pyro", "zuko"},
    "numpyro_dgm": {"jax", "jaxlib", "numpyro", "equinox", "optax", "flowjax", "jaxtyping", "paramax"},
}
LAYERS = (
    {"nn"},
    {"flows", "likelihoods", "priors"},
    {"guides", "models"},
    {"losses"},
    {"training"},
    {"evaluation"},
    {"__main__"},
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
NEEDS_NO_MODEL = {"guides", "losses", "training", "evaluation"}  # they know model/guide callables, never a concrete model
MAX_LINES = 400


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Absolute dotted names of all that a file imports, anywhere in it; `from a import b` counts as `a.b` where that is a module."""
    here = module_name(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])]
            origin = ".".join(base) if node.level else node.module or ""
            for alias in node.names:
                target = ROOT.joinpath(*origin.split("."), alias.name)
                found.add(f"{origin}.{alias.name}" if target.with_suffix(".py").exists() or target.is_dir() else origin)
    return found


def top(name: str) -> str:
    return name.split(".")[0]


ALL = [pytest.param(path, id=module_name(path)) for package in ("dgm_core", *TWINS) for path in sources(package)]


@pytest.mark.parametrize("path", ALL)
def test_a_file_imports_only_what_its_package_may(path: Path) -> None:
    package = top(module_name(path))
    forbidden = set(TWINS) - {package}
    for twin, libraries in LIBRARIES.items():
        if twin != package:
            forbidden |= libraries
    assert not {top(name) for name in imports(path)} & forbidden


@pytest.mark.parametrize("path", [p for p in ALL if not p.id.startswith("dgm_core")])
def test_imports_point_to_the_left(path: Path) -> None:
    name = module_name(path)
    if "." not in name:  # the package's own __init__ collects names from everywhere
        return
    package, here = name.split(".")[:2]
    assert here in LAYER, f"{name} belongs to no layer: {LAYERS}."
    for imported in imports(path):
        if top(imported) != package:
            continue
        assert imported != package, f"{name} imports from the package's root; import from the module that defines the name."
        there = imported.split(".")[1]
        assert LAYER[there] <= LAYER[here], f"{name} imports {imported}, which is to its right."
        assert not (here in NEEDS_NO_MODEL and there == "models"), f"{name} must not know a concrete model, imports {imported}."


@pytest.mark.parametrize("package", ["dgm_core", *TWINS])
def test_no_import_cycles(package: str) -> None:
    files = {module_name(path): path for path in sources(package)}
    graph = {name: {i for i in imports(path) if i in files and i != name} for name, path in files.items() if "." in name}
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert not graph, f"These modules import each other in a circle: {sorted(graph)}."


@pytest.mark.parametrize("path", [*ALL, *(pytest.param(p, id=p.stem) for p in sorted((ROOT / "tests").rglob("*.py")))])
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines; at 250 it wants to be two, {MAX_LINES} is the end."
