"""Data of several modalities: how they come in, and which of them a guide is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from dgm_core.arguments import check_shape, refuse, shown
from dgm_core.contexts import Labels

__all__ = ["check_given", "check_modalities", "conditioned"]

RESERVED = ("z", "component", "has", "size")


def check_modalities(modalities: Any) -> dict[str, tuple[int, ...]]:
    """{name: shape of a datum, or Labels}, from sizes, shapes and labels.

    Example:
        >>> check_modalities({"image": (1, 8, 8), "label": Labels(10), "row": 5})
        {'image': (1, 8, 8), 'label': Labels(10), 'row': (5,)}
    """
    wanted = (
        "a dict {name: size, shape or Labels(num_classes)}, with names such as 'image' that an "
        f"argument can have, none of {RESERVED}"
    )
    if not isinstance(modalities, Mapping) or not modalities:
        refuse("modalities", wanted, modalities)
    for name in modalities:
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
            refuse("modalities", wanted, modalities)
    return {
        name: shape if isinstance(shape, Labels) else check_shape(f"modalities[{name!r}]", shape)
        for name, shape in modalities.items()
    }


def check_parts(role: str, parts: Any, names: Iterable[str]) -> dict[str, Any]:
    """Parts of some modalities by name, {} of None; ValueError for other names."""
    names = list(names)
    if parts is not None and not isinstance(parts, Mapping):
        refuse(role, f"a dict with some of the keys {names}", parts)
    found = dict(parts or {})
    if unknown := sorted(set(found) - set(names)):
        raise ValueError(f"{role} names {unknown}, but the modalities are {names}.")
    return found


def entries(shape: tuple[int, ...]) -> int:
    """The numbers that a network sees of a datum, labels one-hot."""
    return prod(shape)


def event_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a datum comes: a label is one integer, (1,)."""
    return (1,) if isinstance(shape, Labels) else tuple(shape)


def check_data(
    data: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], has: Any, size: int
) -> int:
    """The number of data: that of the arrays which are there, `size` where none is.

    Raises:
        ValueError: for names that are no modality, arrays of other shapes or numbers of data, and a
            mask that does not fit.
    """
    if unknown := sorted(set(data) - set(shapes)):
        raise ValueError(
            f"The data name {unknown}, but the modalities are {list(shapes)}: hand each over by "
            "its name, and leave out what is missing."
        )
    numbers = {}
    for name, x in data.items():
        if x is None:
            continue
        found, wanted = tuple(getattr(x, "shape", ())), event_shape(shapes[name])
        if found[1:] != wanted or not found:
            raise ValueError(
                f"{name} must have shape (batch, {', '.join(map(str, wanted))}), got "
                f"{found if hasattr(x, 'shape') else shown(x)}."
            )
        numbers[name] = found[0]
    if len(set(numbers.values())) > 1:
        raise ValueError(f"All modalities must have the same number of data, got {numbers}.")
    number = next(iter(numbers.values()), size)
    check_has(has, number, tuple(shapes), bool(numbers))
    return number


def check_has(has: Any, number: int, names: tuple[str, ...], given: bool) -> None:
    """ValueError unless `has` is None, or says of each datum which modalities are there."""
    if has is None:
        return
    wanted = f"booleans of shape ({number}, {len(names)}), in the order {list(names)}"
    is_bool = str(getattr(has, "dtype", "")).rsplit(".", 1)[-1] == "bool"
    if not given or not is_bool or tuple(has.shape) != (number, len(names)):
        refuse("has", wanted if given else "left out where there are no data", has)


def no_data(names: Iterable[str]) -> str:
    """What to say of a guide that is called without data."""
    return f"The guide infers z from data: call it with one of {list(names)} at least, by its name."


def in_order(role: str, values: Any, names: tuple[str, ...]) -> list[Any] | None:
    """The values of all modalities, in their order; None of None.

    Example:
        >>> in_order("weights", {"b": 1, "a": 3}, ("a", "b"))
        [3, 1]
    """
    if values is None:
        return None
    found = check_parts(role, values, names)
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{role} must name all modalities, but misses {missing}.")
    return [found[name] for name in names]


def numbered(subsets: Any, names: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Sets of modalities as the numbers of their experts.

    Example:
        >>> numbered([("a",), ("b", "a")], ("a", "b"))
        [(0,), (1, 0)]
    """
    wanted = f"a list of tuples of the modalities {list(names)}"
    if isinstance(subsets, str) or not isinstance(subsets, list | tuple):
        refuse("subsets", wanted, subsets)
    for subset in subsets:
        if isinstance(subset, str) or not set(subset) <= set(names):
            refuse("subsets", wanted, subsets)
    return [tuple(map(names.index, subset)) for subset in subsets]


def check_given(given: Any) -> tuple[str, ...]:
    """The names of observed sites, one or several; () of none.

    Example:
        >>> check_given("image"), check_given(["image", "label"]), check_given(())
        (('image',), ('image', 'label'), ())
    """
    names = (given,) if isinstance(given, str) else given
    usable = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not usable or len(set(names)) != len(names):
        refuse("given", "the name of an observed site, or a tuple of different names", given)
    return tuple(names)


def check_sets(sets: Any) -> tuple[tuple[str, ...], ...]:
    """Names of observed sites, each by itself or several together as a tuple.

    Example:
        >>> check_sets(("image", ("image", "label")))
        (('image',), ('image', 'label'))
    """
    found = (sets,) if isinstance(sets, str) else sets
    if not isinstance(found, list | tuple):
        refuse("names", "a tuple of names of observed sites, or of tuples of these", sets)
    checked = tuple(map(check_given, found))
    if not all(checked) or len(set(map(frozenset, checked))) != len(checked):
        refuse("names", "different names of observed sites, or tuples of these", sets)
    return checked


def named(term: str, given: tuple[str, ...]) -> str:
    """The name of a term that is given some of the observed sites.

    Example:
        >>> named("ELBO", ("image", "label")), named("ELBO", ())
        ('ELBO given image, label', 'ELBO')
    """
    return f"{term} given {', '.join(given)}" if given else term


def check_left(given: tuple[str, ...], observed: Iterable[str]) -> None:
    """ValueError unless the given sites are observed, and others beside them."""
    observed = list(observed)
    if unknown := sorted(set(given) - set(observed)):
        raise ValueError(f"given names {unknown}, but the observed sites are {observed}.")
    if set(observed) == set(given):
        raise ValueError(
            f"given names all observed sites, {observed}: nothing is left whose likelihood could "
            "be asked for. Name some of them."
        )


def left(given: tuple[str, ...], names: Iterable[str], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a model of modalities in which only the given ones are there."""
    names = tuple(names)
    if unknown := sorted(set(given) - set(names)):
        raise ValueError(f"given names {unknown}, but the modalities are {list(names)}.")
    return {name: x for name, x in kwargs.items() if name not in names or name in given}


def tells(guide: Any) -> Any:
    """The function `given(names, args, kwargs)` of a guide, or of the object whose method it is,
    also beneath handlers; None where there is none."""
    while guide is not None:
        owner = getattr(guide, "__self__", None)
        found = getattr(guide, "given", None) or getattr(owner, "given", None)
        if callable(found):
            return found
        guide = getattr(guide, "fn", None)
    return None


def conditioned(
    guide: Any, given: tuple[str, ...], args: tuple, kwargs: Mapping[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    """The arguments with which model and guide are given some of the observed sites alone.

    Raises:
        ValueError: for a guide that does not say how.
    """
    tell = tells(guide)
    if tell is None:
        raise ValueError(
            f"given={list(given)} asks for a guide that sees these sites alone, which this one "
            "does not know how to do: give it an attribute given(names, args, kwargs) that "
            "returns the arguments without the others, or use a multimodal model such as MVAE."
        )
    found, more = tell(given, tuple(args), dict(kwargs))
    return tuple(found), dict(more)
