"""Checkpoints that survive a kill, a full disk and a damaged file, in one format for both backends.

A checkpoint is one `.npz` file without pickles: arrays, a JSON header (`meta`), and a SHA-256 over
all of it. It is written to a temporary file and moved into place; the file it replaces, if it is
good, is kept as `<name>.previous`. `load` falls back to that one, and then to what a killed writer
left, when the newer file does not pass its checksum.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import shutil
import stat
import textwrap
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.files import created, path_of, plain, replacing, temporaries, unused
from dgm_core.training.trees import flatten, is_scalar, unflatten

__all__ = [
    "CheckpointError",
    "exists",
    "flatten",
    "load",
    "previous",
    "save",
    "unflatten",
    "usable_folder",
]

_HEADER, _CHECKSUM, _ARRAY = "header", "checksum", "arrays/"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which file and why.

    Attributes:
        run: from `fit`: a Run with the weights that could not be saved.
        else: None.
    """

    run: Any = None


def save(path: str | os.PathLike[str], arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint. Whatever happens during the call, what was saved before stays readable.

    Args:
        path: the file; its predecessor is kept as `<path>.previous`.
        arrays: name -> numpy array, or anything that numpy takes as one without objects; also
            numbers, strings and None, so that the result of `flatten` goes in as it is.
        meta: what JSON can hold (configuration, epoch, history); numpy numbers become numbers.

    Raises:
        CheckpointError: when the file cannot be written (full disk, no permission).
        ValueError: for names and arrays that `.npz` cannot hold without pickling, and for anything
            but a path.

    Cost:
        one copy of the arrays on disk, an fsync, and two hashes (about 1 GB/s): of what is written,
        and of the file that becomes the predecessor.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "last.npz"
        >>> save(path, {"weight": np.eye(2), "epoch": 3}, {"loss": "ELBO()"})
        >>> arrays, meta = load(path)
        >>> arrays["epoch"], arrays["weight"].shape, meta
        (3, (2, 2), {'loss': 'ELBO()'})
    """
    path = path_of(path)
    scalars = {_storable_name(name): value for name, value in arrays.items() if is_scalar(value)}
    contents = {
        _storable_name(name): _storable(name, value)
        for name, value in arrays.items()
        if name not in scalars
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
            f"The checkpoint {path} could not be written ({error}); the one saved before it "
            f"is untouched. {_advice(error)}"
        ) from error


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint: (arrays, meta) as given to `save`.

    A file that is damaged in whatever way, or whose checksum does not match, is passed over with a
    warning for the one saved before it, and that for what a killed writer has left.

    Raises:
        CheckpointError: when none of them can be read; the message gives the reason for each.
    """
    path = path_of(path)
    reasons = []
    for candidate in (path, previous(path), *temporaries(path)):
        try:
            contents = _read(candidate)
        except Exception as error:  # whatever a damaged file leads to
            reasons.append(f"{candidate}: {_reason(error)}")
            continue
        if reasons:
            message = f"Falling back to the checkpoint saved before ({candidate}); {reasons[0]}."
            warnings.warn(message, UserWarning, stacklevel=2)
        return contents
    advice = "Put back a whole copy or start anew in another folder." if exists(path) else ""
    raise CheckpointError(f"No readable checkpoint ({'; '.join(reasons)}). {advice}".rstrip())


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether `load` would find a file to try.

    That is the checkpoint, its predecessor, or one that a killed writer had finished.
    """
    path = path_of(path)
    return path.is_file() or previous(path).is_file() or any(map(_is_good, temporaries(path)))


def previous(path: str | os.PathLike[str]) -> Path:
    """Where `save` keeps the checkpoint that it replaces.

    Example:
        >>> previous("run/last.npz").name
        'last.npz.previous'
    """
    path = path_of(path)
    return path.with_name(path.name + ".previous")


def usable_folder(folder: Any) -> Path:
    """The folder for the checkpoints of a run, created and tried out before the first step.

    Args:
        folder: a path; `~` is the home folder.

    Raises:
        ValueError: for anything but the path of a folder.
        CheckpointError: when the folder cannot be created or written to.

    Example:
        >>> usable_folder(5)
        Traceback (most recent call last):
        ValueError: checkpoint must be the path of a folder, got 5.
    """
    text = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError(f"checkpoint must be the path of a folder, got {folder!r}.")
    try:
        path = Path(text).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        trial = unused(path / "trial")
        with created(trial) as file:
            file.write(b"0")
        trial.unlink()
        if (path / "last.npz").is_dir():
            raise IsADirectoryError(errno.EISDIR, "last.npz is a folder")
    except (OSError, RuntimeError, UnicodeError) as error:
        raise CheckpointError(
            f"The folder {text} cannot hold checkpoints ({error}). {_advice(error)}"
        ) from error
    return path


def _advice(error: BaseException) -> str:
    """What to do about an error of the operating system."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return "Free some space or choose another folder, then resume."
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Make the folder writable or choose another one."
    return "Choose another folder."


def _storable_name(name: Any) -> str:
    if isinstance(name, str) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name):
        return name
    raise ValueError(f"The names in a checkpoint are strings of whole characters, got {name!r}.")


def _storable(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biufcSU":
        raise ValueError(
            f"The array {name!r} has dtype {array.dtype}, which a checkpoint cannot hold; convert "
            "it first, for example to float32."
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
    """Keep the file at `path` under its second name, unless it is damaged.

    A damaged one must not push out the good one before it. `path` exists at every moment.
    """
    if not _is_good(path):
        return
    spare = unused(path)
    try:
        try:
            os.link(os.path.realpath(path), spare)  # a second name
        except OSError:  # a file system without them
            with open(path, "rb") as source, created(spare) as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
        os.replace(spare, previous(path))
    finally:
        spare.unlink(missing_ok=True)  # after an error, and where both were names of one file


def _is_good(path: Path) -> bool:
    try:
        _read(path)
    except Exception:
        return False
    return True


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of a file that passes its checksum; any exception for one that does not."""
    members = _members(path)
    header, checksum = members.pop(_HEADER).tobytes(), members.pop(_CHECKSUM).tobytes()
    arrays = {name.removeprefix(_ARRAY): value for name, value in members.items()}
    if _checksum(arrays, header) != checksum:
        raise ValueError("the contents do not match the checksum")
    contents = json.loads(header)
    found: dict[str, Any] = {**arrays, **contents["scalars"]}
    return {name: found[name] for name in contents["names"]}, contents["meta"]


def _members(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file as `save` writes them, never more bytes than the file has."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a file")
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        size, entries = os.fstat(file.fileno()).st_size, archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise ValueError("its directory is not one that a checkpoint has")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("two of its members have one name")
        return {
            entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries
        }


def _array(contents: bytes) -> np.ndarray:
    """The array of an `.npy` file, whose header must fit the number of bytes behind it."""
    stream = io.BytesIO(contents)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("a member is no array that a checkpoint has")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(contents) - stream.tell():
        raise ValueError("the header of a member does not fit its length")
    order: Any = "F" if by_column else "C"
    return np.ndarray(shape, dtype, contents, stream.tell(), order=order).copy(order="C")


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, KeyError):
        return "not a checkpoint of this package"
    what = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
    return f"damaged or not a checkpoint ({what})"
