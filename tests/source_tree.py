"""What the structural tests share: the packages' files, what they import, and their
public names.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
TWINS = ("pyro_dgm", "numpyro_dgm")
PACKAGES = ("dgm_core", *TWINS)
OWN = ("self", "cls", "super()")  # an object of the class that uses it
LIBRARIES = {
    "pyro_dgm": {"torch", "pyro", "zuko"},
    "numpyro_dgm": {
        "jax",
        "jaxlib",
        "numpyro",
        "equinox",
        "optax",
        "flowjax",
        "jaxtyping",
        "paramax",
    },
}


def sources(package: str) -> list[Path]:
    """The Python files of a package, sorted."""
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """`pyro_dgm/models/vae.py` -> `pyro_dgm.models.vae.vae`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top(name: str) -> str:
    """The package that a dotted name belongs to."""
    return name.split(".")[0]


@cache
def imports(path: Path) -> set[str]:
    """Absolute dotted names of all that a file imports, anywhere in it; `from a import b` counts as
    `a.b` where that is a module of ours.
    """
    here = module_name(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                target = ROOT.joinpath(*origin.split("."), alias.name)
                found.add(
                    f"{origin}.{alias.name}"
                    if target.with_suffix(".py").exists() or target.is_dir()
                    else origin
                )
    return found


def for_each(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """A test of one file as one test of all of them, which tells every file that fails."""
    files = list(paths)

    def decorate(test: Callable[[Path], None]) -> Callable[[], None]:
        def all_files() -> None:
            failed = []
            for path in files:
                try:
                    test(path)
                except AssertionError as error:
                    failed.append(f"{module_name(path)}: {error}")
            assert files and not failed, "\n".join(failed)

        all_files.__doc__ = test.__doc__
        return all_files

    return decorate


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def definitions(tree: ast.Module) -> set[str]:
    """The names that a file defines: functions, classes, variables, and attributes of `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if ast.unparse(node.value) in OWN else set()
    return found


def private_uses(tree: ast.Module, *, strings: bool) -> list[tuple[int, str, str, str]]:
    """(line, owner, name, source) of every name with one leading underscore that a file looks up in
    an object or a module, gives as an argument by name or, with `strings`, spells in a string.
    """
    found: list[tuple[int, str, str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            found.append((node.lineno, owner, node.attr, f"{owner}.{node.attr}"))
        elif isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [(node.lineno, "", part, f"import of {part}") for part in parts]
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names for part in alias.name.split(".")]
            found += [(node.lineno, "", part, f"import of {part}") for part in parts]
        elif isinstance(node, ast.keyword) and node.arg:
            found.append((node.value.lineno, "", node.arg, f"{node.arg}="))
        elif strings and isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append((node.lineno, "", node.value, repr(node.value)))
    return [use for use in found if re.fullmatch(r"_[A-Za-z]\w*", use[2])]


def public_names(module: ModuleType) -> dict[str, Any]:
    """The public classes and functions that a module defines itself: those of `__all__`, or where
    there is none all without an underscore.
    """
    listed = getattr(module, "__all__", None)
    return {
        name: value
        for name, value in vars(module).items()
        if (not name.startswith("_") if listed is None else name in listed)
        and (inspect.isclass(value) or inspect.isroutine(value) or hasattr(value, "__wrapped__"))
        and getattr(value, "__module__", None) == module.__name__
    }


def public_methods(cls: type) -> set[str]:
    """The names of the public functions and properties that a class defines in its own body,
    `__call__` among them.
    """
    return {
        name
        for name, value in vars(cls).items()
        if (not name.startswith("_") or name == "__call__")
        and (isinstance(value, property) or inspect.isroutine(getattr(cls, name)))
    }


def load(path: Path) -> ModuleType:
    """Import the module that a file of the packages holds."""
    return importlib.import_module(module_name(path))
