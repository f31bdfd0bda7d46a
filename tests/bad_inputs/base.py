"""What the tables of bad inputs share: a row, the public names of a twin, and the bad values of
each kind of argument.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

PACKAGES = ("nn", "conditionals", "flows", "models", "losses", "training", "evaluation")
NAN, INF = float("nan"), float("inf")


class Row(NamedTuple):
    """A bad input: in words; the call; what its sentence must contain, a regular expression."""

    situation: str
    call: Callable[[], Any]
    sentence: str


class Twin(SimpleNamespace):
    """The public names of a twin, whose constructors get a key where they take one."""

    def __init__(self, name: str) -> None:
        self.package = importlib.import_module(name)
        self.jax = name == "numpyro_dgm"
        for package in PACKAGES:
            module = importlib.import_module(f"{name}.{package}")
            for public in module.__all__:
                setattr(self, public, self.keyed(getattr(module, public)))

    def keyed(self, function: Any) -> Any:
        if not self.jax or not callable(function) or "key" not in signature(function):
            return function
        import jax

        return partial(function, key=jax.random.key(0))

    def constructors(self) -> set[str]:
        """The public classes that take arguments of users, and the functions that make losses."""
        found = set()
        for package in PACKAGES:
            module = importlib.import_module(f"{self.package.__name__}.{package}")
            for name in module.__all__:
                made = getattr(module, name)
                is_class = inspect.isclass(made) and not inspect.isabstract(made)
                if is_class or (package == "losses" and name[0].isupper()):
                    found.add(name)
        return {name for name in found if signature(self.plain(name)).keys() - {"key"}}

    def plain(self, name: str) -> Any:
        """A public class as it is."""
        made = getattr(self, name)
        return made.func if isinstance(made, partial) else made

    def seeded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A model or guide that can be called by itself."""
        if not self.jax:
            return function
        from numpyro.handlers import seed

        return seed(function, 0)

    def nameless(self) -> Any:
        """A user's term that forgot its name."""

        class Nameless(self.Term):  # type: ignore[name-defined]
            def estimate(self, joints: Any, step: Any) -> Any:
                return 0.0, {}

        return Nameless()

    def array(self, values: Any) -> Any:
        """An array of the backend."""
        if self.jax:
            import jax.numpy as jnp

            return jnp.asarray(values)
        import torch

        return torch.as_tensor(values)


def signature(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a function or class; none where Python knows none."""
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:
        return {}


# What no argument of a kind may be.
BAD: dict[str, tuple[Any, ...]] = {
    "count": ("2", 2.5, 2.0, True, -1, NAN, None, (2,)),
    "context": ("2", 2.5, 2.0, True, -1, NAN, None, (2, 0), (2, "2"), (2.5,), ((2, 3), -1), {2}),
    "count from zero": ("2", 2.5, True, -1, NAN, None, (2,)),
    "probes": ("2", 2.5, True, -1, NAN, (2,)),
    "divisor or none": ("2", 4, 2.5, 0, -1, True),
    "count or none": ("2", 2.5, True, -1, (2,)),
    "shape": ("2", 2.5, True, 0, -1, (), (2, 0), (2, "2"), None),
    "shape or class": ("2", 2.5, True, 0, -1, (2, 0), (2, "2"), None),
    "shape or none": ("2", 2.5, True, 0, -1, (), (2, 0), (2, "2")),
    "range or none": ("01", 3, (1.0, 0.0), (0.0,), (0.0, NAN), (0.0, INF), True),
    "mean or none": ("half", NAN, INF, {1}),
    "rows": ("ab", 3, (1.0, 2.0), ((NAN,),), ((), ()), None),
    "rows or none": ("ab", 3, (1.0, 2.0), ((NAN,),), ((), ())),
    "image": ("188", 8, (8, 8), (1, 8, 8.0), (1, 0, 8), (1, 8, True), None),
    "sizes": ("88", 8, (8, 2.5), (8, 0), (8, True), (8, "8"), None, {8}),
    "sizes or none": ("88", 8, (8, 2.5), (8, 0), (8, True), (8, "8"), {8}),
    "order": ("012", 3, (0, 0, 1), (0, 1, 2.0), (1, 2, 3), (0, 1)),
    "permutation": ("012", 3, (), (0, 0, 1), (0, 1, 2.0), (1, 2, 3)),
    "positive": ("1", NAN, INF, 0, -1.0, True, None, (1.0,)),
    "positive or none": ("1", NAN, INF, 0, -1.0, True, (1.0, "a")),
    "number": ("1", NAN, INF, True, None),
    "share": ("0.5", NAN, 1.0, 2, -0.1, True, None),
    "share or none": ("0.5", NAN, 1.0, 2, -0.1, True),
    "flag": ("no", 1, None, 0.0),
    "flag or none": ("no", 1, 0.0, 0),
    "word": ("nosuch", "", 3, None, True),
    "weight": ("1", NAN, INF, -1.0, True, None),
    "sites": (3, "", (), ("z", "z"), ("z", 3), None, {"z": 1}),
    "site": (3, "", ("z", "x"), None),
    "site or none": (3, "", ("z", "x")),
    "module": (3, "critic"),
    "optim": ("adam", 0.001),
    "function": (3, "R1"),
    "conditional": (3, "IAF"),
    "network": (3, "MLP"),
    "scalar": (3, "affine"),
    "numbers": ("1", NAN, 0, -1, (), (1.0, 0.0), (1.0, "1"), True),
    "term": (3, "MMD"),
    "divergence": ("nosuch", 3, ""),
    "transform": (3, "affine", None),
    "betas": (0.9, "0.9", (0.9,), (0.9, 1.0), (0.9, "0.999"), (NAN, 0.9), None, (True, 0.9)),
    "transforms": (3, "affine", (3,), None),
    "frequencies": (
        0.5,
        "abc",
        (0.5, 0.5),
        (0.5, 0.6, -0.1),
        (1, 1, 1),
        (NAN, 0.5, 0.5),
        ("a", "b", "c"),
    ),
}


def table(
    make: Callable[..., Any], given: dict[str, Any], bad: dict[str, tuple[tuple[Any, ...], str]]
) -> Iterator[Row]:
    """One argument after the other with each of its bad values."""
    for name, (values, sentence) in bad.items():
        for value in values:
            yield Row(f"{name}={value!r:.60}", partial(make, **{**given, name: value}), sentence)
