"""Descriptions by structure and numbers, which a resumed run is recognized by."""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import io
import json
import logging
import math
import re
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from dgm_core.compat import COMPUTED, GIVEN

_OURS = ("dgm_core", "pyro_dgm", "numpyro_dgm")
_DEPTH, _SHOWN = 60, 60
_LONG = 20_000  # characters of a description of code, beyond which its hash stands for it
_WRAPPERS: dict[type, str] = {
    property: "fget",
    staticmethod: "__func__",
    classmethod: "__func__",
    functools.cached_property: "func",
}

Special = Callable[[Any, Callable[[Any], Any]], Any]


def describe(value: Any, special: Special | None = None) -> Any:
    """A JSON-able description of an argument: equal for equal arguments, also in another process.

    Numbers, strings and None stay; dicts, sequences, partials, methods and objects are described
    part by part; arrays become dtype, shape and the SHA-256 of their contents; functions and
    classes of the user their code with all it encloses, those of libraries their name. What cannot
    be looked into is `{"unchecked": its type}`; see `unchecked`.

    Args:
        special: `special(value, inner)` gives the description of what the backend knows better,
            with `inner` for the parts, and NotImplemented for all else.

    Example:
        >>> describe({"weights": np.zeros(3, np.float32), "loss": len, "size": (2, None)})["size"]
        [2, None]
        >>> describe(np.zeros(3, np.float32))[:12]
        'float32 (3,)'
        >>> describe(lambda x: 2 * x) == describe(lambda x: 3 * x)
        False
    """
    return _Describer(special).of(value)


def unchecked(description: Any, path: str = "") -> list[str]:
    """The places of a description that could not be looked into, with their types.

    Example:
        >>> unchecked(describe({"rng": np.random.default_rng()}))
        ['rng (numpy.random._generator.Generator)']
    """
    if isinstance(description, list):
        description = {f"[{index}]": item for index, item in enumerate(description)}
    if not isinstance(description, dict):
        return []
    if list(description) == ["unchecked"]:
        return [f"{path} ({description['unchecked']})"]
    return [place for key, item in description.items() for place in unchecked(item, _at(path, key))]


def difference(before: Any, now: Any, path: str = "") -> list[str]:
    """Where two descriptions differ, each place in words.

    Example:
        >>> now = {"seed": 0, "sizes": [2, 4], "drop_last": False}
        >>> difference({"seed": 0, "sizes": [2, 3]}, now)
        ['drop_last was absent and is False', 'sizes[1] was 3 and is 4']
    """
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        before, now = (
            {f"[{index}]": item for index, item in enumerate(items)} for items in (before, now)
        )
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found = []
        for key in sorted(before.keys() | now.keys()):
            found += difference(before.get(key, _ABSENT), now.get(key, _ABSENT), _at(path, key))
        return found
    if _equal(before, now):
        return []
    return [f"{path} was {_shown(before)} and is {_shown(now)}"]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


class _Describer:
    """One walk through a value: each object is described once, and a circle is cut."""

    def __init__(self, special: Special | None) -> None:
        self.special = special
        self.done: dict[int, tuple[Any, Any]] = {}  # with the value, so that no id is used twice
        self.open: set[int] = set()

    def of(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float) and not isinstance(value, enum.Enum):
            return value
        if id(value) in self.done:
            return self.done[id(value)][1]
        if id(value) in self.open:
            return "(part of itself)"
        if len(self.open) > _DEPTH:
            return _unchecked(value)
        self.open.add(id(value))
        try:
            found = self.special(value, self.of) if self.special else NotImplemented
            if found is NotImplemented:
                found = self._structure(value)
            if isinstance(value, FunctionType | type):
                found = _short(found)
        except Exception:  # an object that does not like to be looked at
            found = _unchecked(value)
        finally:
            self.open.discard(id(value))
        self.done[id(value)] = value, found
        return found

    def _structure(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): self.of(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            own = [self.of(vars(value))] if getattr(value, "__dict__", None) else []  # a subclass's
            return [*map(self.of, value), *own]
        if isinstance(value, set | frozenset):
            return sorted(map(self.of, value), key=_text)
        if isinstance(value, functools.partial):
            parts = (("args", value.args), ("keywords", value.keywords))
            return {"partial": self.of(value.func), **{name: self.of(part) for name, part in parts}}
        if isinstance(value, MethodType):
            return {"method": self.of(value.__func__), "of": self.of(value.__self__)}
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, BuiltinFunctionType | np.ufunc):
            owner = getattr(value, "__self__", None)
            if owner is not None and not isinstance(owner, ModuleType | type):
                return {"method": value.__name__, "of": self.of(owner)}
            return f"{getattr(value, '__module__', None) or ''}.{value.__name__}".lstrip(".")
        if hasattr(value, "__array__"):
            return self._array(value)
        return self._object(value)

    def _array(self, value: Any) -> Any:
        if isinstance(value, np.ma.MaskedArray):
            return {"data": self.of(value.filled(0)), "mask": self.of(np.ma.getmaskarray(value))}
        array = np.ascontiguousarray(value)
        if array.dtype.hasobject:
            return {"dtype": str(array.dtype), "values": self.of(array.tolist())}
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        return f"{array.dtype} {np.shape(value)} {digest}"

    def _function(self, value: FunctionType) -> Any:
        closure = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        enclosed = {}
        for name, cell in closure.items():
            try:
                enclosed[name] = self.of(cell.cell_contents)
            except ValueError:  # not bound yet
                enclosed[name] = None
        if value.__module__ not in (None, "builtins") and is_foreign(value.__module__):
            name = f"{value.__module__}.{value.__qualname__}"
            if "<" in value.__qualname__:  # the name does not say which one
                name += f" {_hash(_code(value.__code__, value.__doc__))}"
            return {"function": name, **enclosed} if enclosed else name
        outside = _globals(value.__code__) & value.__globals__.keys()
        defaults = (value.__defaults__ or (), value.__kwdefaults__ or {})
        attributes = {name: x for name, x in vars(value).items() if name != "__wrapped__"}
        return {
            "function": value.__qualname__,
            "code": _hash(_code(value.__code__, value.__doc__)),
            **({"defaults": self.of(defaults)} if any(defaults) else {}),
            **({"attributes": self.of(attributes)} if attributes else {}),
            **enclosed,
            **{name: self._outside(value, name) for name in sorted(outside)},
        }

    def _outside(self, function: FunctionType, name: str) -> Any:
        """What a function finds in its module; of other modules of the user what it names."""
        found = function.__globals__[name]
        if not isinstance(found, ModuleType) or is_foreign(found.__name__):
            return self.of(found)
        used = sorted(_names(function.__code__) & vars(found).keys())
        return {"module": found.__name__, **{part: self.of(vars(found)[part]) for part in used}}

    def _class(self, value: type) -> Any:
        if is_foreign(value.__module__):
            return f"{value.__module__}.{value.__qualname__}"
        parts: dict[str, Any] = {}
        for base in reversed(value.__mro__):
            if not is_foreign(base.__module__):
                parts |= vars(base)
        kept = {}
        for name, part in parts.items():
            for kind, inside in _WRAPPERS.items():
                part = getattr(part, inside) if isinstance(part, kind) else part
            if isinstance(part, FunctionType) or not name.startswith(("__", "_abc_")):
                kept[name] = self.of(part)
        return {"class": value.__qualname__, **kept}

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, enum.Enum):
            return f"{kind.__qualname__}.{value.name}"
        if isinstance(value, logging.Logger):
            return f"logger {value.name}"
        if isinstance(value, io.IOBase):
            return _unchecked(value)
        if kind is object:
            return "object"
        kept = attributes(value)
        if callable(wrapped := getattr(value, "__wrapped__", None)):
            kept["wrapped"] = wrapped
        if not kept and is_foreign(kind.__module__):
            everything, text = _attributes(value), _text_of(value)
            if text is not None or not (everything or hasattr(value, "__dict__")):
                return _unchecked(value) if text is None else text
            kept = everything
        return {"type": self.of(kind), **{name: self.of(part) for name, part in kept.items()}}


def attributes(value: Any) -> dict[str, Any]:
    """The attributes that say how an object was made, without what it only remembers.

    Of an object of a library the public ones; of the user's all that are not a library's.
    """
    classes = type(value).__mro__
    theirs = [base for base in classes if is_foreign(base.__module__) and base is not object]

    def tells(name: str) -> bool:
        if type(getattr(type(value), name, None)).__name__ in COMPUTED:
            return False
        if not name.startswith("_") or name in GIVEN:
            return True
        return theirs[:1] != [classes[0]] and not any(_knows(base, name) for base in theirs)

    return {name: part for name, part in _attributes(value).items() if tells(name)}


def loss_parts(loss: Any, inner: Callable[[Any], Any]) -> Any:
    """The `special` description of a loss of either backend: its weights and terms.

    What a term remembers of its use does not count.
    """
    (weight, term), *others = loss.terms
    if others or not _equal(weight, 1.0):
        return [[inner(weight), inner(term)] for weight, term in loss.terms]
    base = next(base for base in type(loss).__mro__ if base.__name__ == "Loss")
    used = vars(base(loss.terms))
    kept = {name: x for name, x in attributes(term).items() if name not in used}
    return {"term": inner(type(term)), **{name: inner(part) for name, part in kept.items()}}


def _knows(base: type, name: str) -> bool:
    return name in vars(base) or name in vars(base).get("__annotations__", {})


def _attributes(value: Any) -> dict[str, Any]:
    parts = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                parts[name] = getattr(value, name)
    return parts


def _text_of(value: Any) -> str | None:
    """The text of a library's object that hides its parts, where it can be trusted."""
    top, text = type(value).__module__.partition(".")[0], repr(value)
    trusted = top in sys.stdlib_module_names or top in ("numpy", "torch")
    return text if trusted and not re.search(r" at 0x[0-9a-fA-F]", text) else None


def _short(description: Any) -> Any:
    """The description of a function or class, or of a long one its name and hash: code whose parts
    use each other would else be written out once for each way that leads to it.
    """
    text = _text(description)
    if len(text) <= _LONG or not isinstance(description, dict):
        return description
    kind = next(iter(description))
    places = (place.rpartition(" (") for place in unchecked(description)[:5])
    return {
        kind: description[kind],
        "parts": hashlib.sha256(text.encode()).hexdigest()[:16],
        **{path: {"unchecked": name.rstrip(")")} for path, _, name in places},
    }


def _unchecked(value: Any) -> dict[str, str]:
    return {"unchecked": f"{type(value).__module__}.{type(value).__qualname__}"}


@functools.cache
def is_foreign(module: str | None) -> bool:
    """Whether a module belongs to a library: its names say what is in it."""
    top = (module or "builtins").partition(".")[0]
    if top in _OURS or top in sys.builtin_module_names:
        return True
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return top != "__main__" and top in sys.stdlib_module_names
    path, library = Path(file), Path(sysconfig.get_paths()["stdlib"])
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or library in path.parents


def _globals(code: CodeType) -> set[str]:
    """The names that a function and the functions inside it look up in their module."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return names.union(*(_globals(c) for c in code.co_consts if isinstance(c, CodeType)))


def _names(code: CodeType) -> set[str]:
    """All names in a function and the functions inside it."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _code(code: CodeType, doc: str | None = None) -> list[Any]:
    """What a function does, without its documentation and its place in the file."""
    constants = [
        _code(constant) if isinstance(constant, CodeType) else _constant(constant)
        for index, constant in enumerate(code.co_consts)
        if not (index == 0 and constant == doc)
    ]
    return [code.co_code.hex(), code.co_names, constants]


def _constant(value: Any) -> Any:
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


def _hash(value: Any) -> str:
    return hashlib.sha256(_text(value).encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _equal(before: Any, now: Any) -> bool:
    numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (before, now)]
    if all(numbers):
        return bool(before == now) or (math.isnan(before) and math.isnan(now))
    return type(before) is type(now) and before == now


def _at(path: str, key: str) -> str:
    return f"{path}{key}" if key.startswith("[") or not path else f"{path}.{key}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."
