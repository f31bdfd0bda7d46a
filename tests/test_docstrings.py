"""Every public name says what it is, and every example in a docstring or in the README runs."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

from tests.source_tree import (
    PACKAGES,
    ROOT,
    for_each,
    load,
    module_name,
    public_methods,
    public_names,
    sources,
    top,
)

FILES = [
    pytest.param(path, id=module_name(path))
    for package in PACKAGES
    for path in sources(package)
    if path.name != "__main__.py"
]
AT_HAND = {  # what every example may use without importing it
    "dgm_core": {"np": "numpy"},
    "pyro_dgm": {"np": "numpy", "pyro": "pyro", "torch": "torch"},
    "numpyro_dgm": {
        "np": "numpy",
        "numpyro": "numpyro",
        "jax": "jax",
        "jnp": "jax.numpy",
        "optax": "optax",
    },
}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("path", FILES)
@pytest.mark.slow(
    *(f"numpyro_dgm.{part}" for part in ("flows", "guides", "models", "training", "evaluation")),
    "pyro_dgm.evaluation.nuts",
)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    names = {
        name: importlib.import_module(library)
        for name, library in AT_HAND[top(module_name(path))].items()
    }
    for example in doctest.DocTestFinder(exclude_empty=True).find(load(path), extraglobs=names):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


@for_each(param.values[0] for param in FILES)
def test_public_names_have_docstrings(path: Path) -> None:
    module = load(path)
    missing = [] if module.__doc__ else [module.__name__]
    for name, value in public_names(module).items():
        missing += [] if inspect.getdoc(value) else [name]
        if inspect.isclass(value):
            missing += [
                f"{name}.{method}"
                for method in sorted(public_methods(value))
                if not inspect.getdoc(getattr(value, method))
            ]
    assert not missing, f"without a docstring in {module.__name__}: {missing}"


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
