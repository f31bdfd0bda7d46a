"""Checkpoints that survive a kill, a full disk and a truncated file, in one format for both
backends.

A checkpoint is one `.npz` file without pickles: arrays, a JSON header (`meta`), and a SHA-256 over
all of it. It is written to a temporary file and moved into place; the file it replaces is kept as
`<name>.previous`, and `load` falls back to that one when the newer file does not pass its checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from dgm_core.files import plain, replacing

_HEADER, _CHECKSUM, _ARRAY = "header", "checksum", "arrays/"
_BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which file and why."""


def save(path: str | os.PathLike[str], arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint. Whatever happens during the call, what was saved before stays readable.

    Args:
        path: the file; its predecessor is kept as `<path>.previous`.
        arrays: name -> numpy array, or anything that numpy takes as one without objects; also
            numbers, strings and None, so that the result of `flatten` goes in as it is.
        meta: what JSON can hold (configuration, epoch, history); numpy numbers become numbers.

    Raises:
        CheckpointError: when the file cannot be written (full disk, no permission).
        ValueError: for arrays that `.npz` cannot hold without pickling.

    Cost: one copy of the arrays on disk, a hash over them (about 1 GB/s) and an fsync.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "last.npz"
    >>> save(path, {"weight": np.eye(2), "epoch": 3}, {"loss": "ELBO()"})
    >>> arrays, meta = load(path)
    >>> arrays["epoch"], arrays["weight"].shape, meta
    (3, (2, 2), {'loss': 'ELBO()'})
    """
    path = Path(path)
    scalars = {name: value for name, value in arrays.items() if _is_scalar(value)}
    contents = {
        name: _storable(name, value) for name, value in arrays.items() if name not in scalars
    }
    header = json.dumps(
        {"meta": dict(meta), "scalars": scalars, "names": list(arrays)}, default=plain
    ).encode()
    members = {_ARRAY + name: value for name, value in contents.items()}
    members[_HEADER] = np.frombuffer(header, np.uint8)
    members[_CHECKSUM] = np.frombuffer(_checksum(contents, header), np.uint8)
    try:
        with replacing(path, before=_keep_previous) as file:
            np.savez(file, **members)  # type: ignore[arg-type]
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({error}); the one saved before it is "
            "untouched. "
            "Free some space or choose another folder, then resume."
        ) from error


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint: (arrays, meta) as given to `save`.

    A file that is truncated, or whose checksum does not match, is passed over with a warning for
    the one saved before it.

    Raises:
        CheckpointError: when neither file can be read; the message gives the reason for each.
    """
    path = Path(path)
    reasons = []
    for candidate in (path, previous(path)):
        try:
            contents = _read(candidate)
        except _BROKEN as error:
            reasons.append(f"{candidate}: {_reason(error)}")
            continue
        if reasons:
            warnings.warn(
                f"Falling back to the checkpoint saved before ({candidate}); {reasons[0]}.",
                UserWarning,
                stacklevel=2,
            )
        return contents
    raise CheckpointError(
        f"No readable checkpoint ({'; '.join(reasons)}). Start anew in an empty folder."
    )


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether `load` would find a file to try: the checkpoint or its predecessor."""
    return Path(path).is_file() or previous(path).is_file()


def previous(path: str | os.PathLike[str]) -> Path:
    """Where `save` keeps the checkpoint that it replaces.

    >>> previous("run/last.npz").name
    'last.npz.previous'
    """
    path = Path(path)
    return path.with_name(path.name + ".previous")


def flatten(tree: Any) -> dict[str, Any]:
    """A nested dict / list / tuple of arrays, numbers, strings, booleans and None as one dict path
    -> leaf.

    The path keeps the kinds of the containers and keys (`unflatten` restores them all): "/" joins,
    "#0" is the integer key 0, "[0]" a list item, "(0)" a tuple item. Arrays of other libraries are
    converted with `numpy.asarray`.

    Raises:
        TypeError: for a leaf or key that a checkpoint cannot hold, naming its path.

    >>> flatten({"state": {0: {"step": 5}}, "betas": (0.9, 0.999)})
    {'state/#0/step': 5, 'betas/(0)': 0.9, 'betas/(1)': 0.999}
    """
    flat: dict[str, Any] = {}
    _flatten(tree, [], flat)
    return flat


def unflatten(flat: Mapping[str, Any]) -> Any:
    """The tree that `flatten` took apart; its arrays are numpy arrays.

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
    elif _is_scalar(tree):
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


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _storable(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biufcSU":
        raise ValueError(
            f"The array {name!r} has dtype {array.dtype}, which a checkpoint cannot hold; "
            "convert it first, for example to float32."
        )
    return np.ascontiguousarray(array).reshape(array.shape)


def _checksum(arrays: Mapping[str, np.ndarray], header: bytes) -> bytes:
    digest = hashlib.sha256(header)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()


def _keep_previous(path: Path) -> None:
    """Keep the file at `path` under its second name; a damaged one must not push out the good one
    before it.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return
    spare = path.with_name(path.name + ".link")
    try:
        with contextlib.suppress(FileNotFoundError):
            spare.unlink()
        os.link(path, spare)  # a second name, so that `path` exists at every moment
        os.replace(spare, previous(path))
    except OSError:  # a file system without hard links
        os.replace(path, previous(path))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("not an .npz file")
        members = {name: archive[name] for name in archive.files}
    header, checksum = members[_HEADER].tobytes(), members[_CHECKSUM].tobytes()
    arrays = {
        name.removeprefix(_ARRAY): value
        for name, value in members.items()
        if name.startswith(_ARRAY)
    }
    if _checksum(arrays, header) != checksum:
        raise ValueError("the contents do not match the checksum")
    contents = json.loads(header)
    arrays.update(contents["scalars"])
    return {name: arrays[name] for name in contents["names"]}, contents["meta"]


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, KeyError):
        return "not a checkpoint of this package"
    return f"damaged or not a checkpoint ({error})"
