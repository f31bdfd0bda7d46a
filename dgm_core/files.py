"""Files that are either entirely written or not touched at all; folders that one run holds."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from dgm_core.arguments import refuse

_ABANDONED = 3600.0  # seconds after which a temporary file belongs to a process that was killed


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], *, before: Callable[[Path], None] | None = None
) -> Iterator[IO[bytes]]:
    """Open a temporary file next to `path` and move it onto `path` when the block ends well.

    The bytes reach the disk (fsync) before the move, so whoever reads `path` sees the old contents
    or the new ones, never a part. After an error, Ctrl-C included, the temporary file is removed
    and `path` is as it was. Its name is new and it is created exclusively: several writers do not
    meet, and no link is followed. What a killed process leaves is removed by a later call.

    Args:
        path: the file to replace; its folder is created when missing.
        before: called with `path` between the fsync and the move (a checkpoint keeps its
            predecessor here).

    Raises:
        ValueError: for anything but a path.
        OSError: where it cannot be written, and where something that is no file has this name.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with replacing(target) as file:
        ...     _ = file.write(b"all or nothing")
        >>> target.read_text()
        'all or nothing'
    """
    path = path_of(path)
    if path.exists() and not path.is_file():
        number = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(number, "What has this name is not a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unused(path)
    file = created(temporary)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            before(path)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)
    _remove_abandoned(path)


def path_of(path: Any) -> Path:
    """A path as such; ValueError for anything else.

    Example:
        >>> path_of(None)
        Traceback (most recent call last):
        ValueError: path must be the path of a file, got None.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        refuse("path", "the path of a file", path)
    return Path(text)


def unused(path: Path) -> Path:
    """A name next to `path` that nobody has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def created(path: Path) -> IO[bytes]:
    """A new file, open for writing; FileExistsError where there is one, or a link, already."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def temporaries(path: Path) -> list[Path]:
    """What killed writers of `path` have left next to it, the newest first; links do not count."""
    found = []
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(f".{path.name}.") and entry.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        found.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
    return [Path(name) for _, name in sorted(found, reverse=True)]


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold a folder against other runs; gives False where another one, or thread, holds it.

    The hold ends with the block and with the process, and leaves no file behind. Where the system
    cannot lock a folder (some network drives, Windows) it is given to everybody.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with claimed(folder) as first, claimed(folder) as second:
        ...     first, second
        (True, False)
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with contextlib.ExitStack() as stack:
        free = True
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:
            pass
        yield free


def plain(value: Any) -> Any:
    """The `default=` of our JSON: numpy values as numbers and lists, all else as its `repr`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return repr(value)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        now = path.lstat().st_ctime  # of the same clock as theirs
        for temporary in temporaries(path):
            if now - temporary.lstat().st_ctime > _ABANDONED:
                temporary.unlink()
