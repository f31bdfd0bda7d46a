"""Nested containers as flat dictionaries, which is how a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np


def is_scalar(value: Any) -> bool:
    """Whether a leaf is kept as it is: a number, a string or None."""
    return value is None or isinstance(value, (bool, int, float, str))


def flatten(tree: Any) -> dict[str, Any]:
    """A nested dict / list / tuple of arrays, numbers, strings, booleans and None as one dict path
    -> leaf.

    The path keeps the kinds of the containers and keys (`unflatten` restores them all): "/" joins,
    "#0" is the integer key 0, "[0]" a list item, "(0)" a tuple item. Arrays of other libraries are
    converted with `numpy.asarray`.

    Raises:
        TypeError: for a leaf or key that a checkpoint cannot hold, naming its path.

    Example:
        >>> flatten({"state": {0: {"step": 5}}, "betas": (0.9, 0.999)})
        {'state/#0/step': 5, 'betas/(0)': 0.9, 'betas/(1)': 0.999}
    """
    flat: dict[str, Any] = {}
    _flatten(tree, [], flat)
    return flat


def unflatten(flat: Mapping[str, Any]) -> Any:
    """The tree that `flatten` took apart; its arrays are numpy arrays.

    Example:
        >>> unflatten(flatten({"state": {0: {"step": 5}}, "groups": [], "betas": (0.9, 0.999)}))
        {'state': {0: {'step': 5}}, 'groups': [], 'betas': (0.9, 0.999)}
    """
    if list(flat) == [""]:
        return flat[""]
    root: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = root
        for segment in parents:
            node = node.setdefault(segment, {})
        node[last] = leaf
    return _rebuild(root)


_EMPTY: dict[str, type] = {"{}": dict, "[]": list, "()": tuple}


def _flatten(tree: Any, parents: list[str], flat: dict[str, Any]) -> None:
    if isinstance(tree, Mapping):
        items: list[tuple[str, Any]] = [
            (_segment(key, parents), value) for key, value in tree.items()
        ]
    elif isinstance(tree, (list, tuple)):
        left, right = "[]" if isinstance(tree, list) else "()"
        items = [(f"{left}{index}{right}", value) for index, value in enumerate(tree)]
    elif is_scalar(tree):
        flat["/".join(parents)] = tree
        return
    elif hasattr(tree, "__array__"):
        flat["/".join(parents)] = np.asarray(tree)
        return
    else:
        raise TypeError(
            f"A checkpoint holds arrays, numbers, strings and None, got {type(tree)} at "
            f"{'/'.join(parents)!r}."
        )
    if not items:
        kind = dict if isinstance(tree, Mapping) else type(tree)
        items = [(next(mark for mark, empty in _EMPTY.items() if issubclass(kind, empty)), None)]
    for segment, value in items:
        _flatten(value, [*parents, segment], flat)


def _segment(key: Any, parents: list[str]) -> str:
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return f"#{key}"
    if not isinstance(key, str) or not key:
        raise TypeError(
            f"The keys of a checkpoint are integers or strings that are not empty, got {key!r} "
            f"at {'/'.join(parents)!r}."
        )
    key = key.replace("%", "%25").replace("/", "%2F")
    return f"%{ord(key[0]):02X}{key[1:]}" if key[0] in "#[({" else key


def _rebuild(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    first = next(iter(node))
    if first in _EMPTY:
        return _EMPTY[first]()
    if first[:1] in ("[", "("):
        items = [
            _rebuild(node[segment])
            for segment in sorted(node, key=lambda segment: int(segment[1:-1]))
        ]
        return items if first[0] == "[" else tuple(items)
    return {_key(segment): _rebuild(value) for segment, value in node.items()}


def _key(segment: str) -> str | int:
    if segment.startswith("#"):
        return int(segment[1:])
    return unquote(segment)
