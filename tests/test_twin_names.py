"""The twins are the same library twice: same files, same public names, same arguments and defaults,
same docstrings.
"""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.source_tree import (
    ROOT,
    TWINS,
    for_each,
    load,
    public_methods,
    public_names,
    sources,
    top,
    tree_of,
)

# A torch module defines `forward` where an Equinox module defines `__call__`; NumPyro hands over
# the state that Pyro keeps in global stores.
SAME_ROLE = {"forward": "__call__"}
EXPLICIT_STATE = {"key", "rng_key", "params", "mutable_state"}
# How each library's own engine calls a loss, and a distribution.
DISTRIBUTION = ("expand", "log_prob", "rsample", "sample", "sample_with_intermediates")
ENGINE = {"Loss.__call__", "Loss.loss", "Loss.loss_and_grads", "Loss.loss_with_mutable_state"}
ENGINE |= {
    f"{distribution}.{name}"
    for distribution in (
        "AutoregressiveDistribution",
        "CodePrior",
        "DiffusionDistribution",
        "FlowDistribution",
        "ImplicitDistribution",
        "NormalizedDistribution",
        "Quantized",
        "UnnormalizedDistribution",
    )
    for name in DISTRIBUTION
}
KEEPERS = ("BatchNorm", "ConditionalBatchNorm", "Growth", "SpectralNorm", "VectorQuantizer")
ENGINE |= {f"{keeper}.initial_state" for keeper in KEEPERS}  # JAX asks
ENGINE |= {"SpectralNorm.u", "Growth.count"}  # buffers in torch
ENGINE |= {"Joints.key"}  # where a term's own draws come from in JAX
# Made by the library from the traces of its backend, never by a user: only their methods must
# agree.
MADE_INSIDE = {"Joints", "InferenceJoint", "Evaluation"}


def twin(path: Path) -> Path:
    """The file of the same name in NumPyro."""
    return ROOT / "numpyro_dgm" / path.relative_to(ROOT / "pyro_dgm")


def text(docstring: str | None) -> str:
    """A docstring without its examples: a line that starts with `>>>`, and what follows it up to
    the next blank line, may differ.
    """
    kept, in_example = [], False
    for line in inspect.cleandoc(docstring or "").splitlines():
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            kept.append(line.rstrip())
    return "\n".join(kept).strip()


def exported(module: ModuleType) -> list[str]:
    """The public names of `__all__`."""
    return sorted(name for name in getattr(module, "__all__", ()) if not name.startswith("_"))


def is_ours(value: Any) -> bool:
    return top(getattr(value, "__module__", None) or "") in TWINS


def parameters(function: Callable[..., Any]) -> list[tuple[str, str, str]]:
    """Name, kind and default of each argument but the explicit state; annotations differ, they name
    each library's own arrays.
    """
    if not is_ours(function):
        return []
    return [
        (p.name, p.kind.description, repr(p.default).replace("numpyro_dgm", "pyro_dgm"))
        for p in inspect.signature(function).parameters.values()
        if p.name not in EXPLICIT_STATE
    ]


def constructor(cls: type) -> Callable[..., Any]:
    """`__init__`, or `__new__` for a named tuple."""
    return cls if issubclass(cls, tuple) else cls.__init__


def differences(name: str, ours: Any, theirs: Any) -> list[str]:
    """What is not equal between two twins, in words."""
    found = []
    if text(ours.__doc__) != text(theirs.__doc__):
        found.append(
            f"docstring of {name}:\n{text(ours.__doc__)}\n--- but ---\n{text(theirs.__doc__)}"
        )
    if not inspect.isclass(ours):
        pairs = [(name, ours, theirs)]
    else:
        pairs = [] if name in MADE_INSIDE else [(name, constructor(ours), constructor(theirs))]
        methods = (
            {SAME_ROLE.get(m, m): getattr(cls, m) for m in public_methods(cls)}
            for cls in (ours, theirs)
        )
        left, right = methods
        for method in sorted(m for m in left.keys() | right.keys() if f"{name}.{m}" not in ENGINE):
            if not (hasattr(ours, method) and hasattr(theirs, method)):
                found.append(f"{name}.{method} exists in one twin only")
            elif method in left and method in right:
                pairs.append((f"{name}.{method}", left[method], right[method]))
                if text(inspect.getdoc(left[method])) != text(inspect.getdoc(right[method])):
                    found.append(
                        f"docstring of {name}.{method}: {inspect.getdoc(left[method])} --- but "
                        f"--- {inspect.getdoc(right[method])}"
                    )
    for label, a, b in pairs:
        if callable(a) and callable(b) and parameters(a) != parameters(b):
            found.append(f"arguments of {label}: {parameters(a)} --- but --- {parameters(b)}")
    return found


def test_same_files() -> None:
    ours, theirs = (
        {path.relative_to(ROOT / package) for path in sources(package)} for package in TWINS
    )
    assert ours == theirs


@for_each(sources("pyro_dgm"))
def test_module_docstrings_are_equal(path: Path) -> None:
    ours, theirs = (ast.get_docstring(tree_of(p)) for p in (path, twin(path)))
    assert text(ours) == text(theirs)


@for_each(sources("pyro_dgm"))
def test_public_names_signatures_and_docstrings_are_equal(path: Path) -> None:
    ours, theirs = public_names(load(path)), public_names(load(twin(path)))
    assert ours.keys() == theirs.keys()
    assert exported(load(path)) == exported(load(twin(path)))
    found = [
        difference for name in ours for difference in differences(name, ours[name], theirs[name])
    ]
    assert not found, "\n".join(found)
