"""Files that are either entirely written or not touched at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], *, before: Callable[[Path], None] | None = None
) -> Iterator[IO[bytes]]:
    """Open a temporary file next to `path` and move it onto `path` when the block ends without an
    error.

    The bytes reach the disk (fsync) before the move, so whoever reads `path` sees the old contents
    or the new ones, never a part. After an error, Ctrl-C included, the temporary file is removed
    and `path` is as it was.

    Args:
        path: the file to replace; its folder is created when missing.
        before: called with `path` between the fsync and the move (a checkpoint keeps its
            predecessor here).

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with replacing(target) as file:
    ...     _ = file.write(b"all or nothing")
    >>> target.read_text()
    'all or nothing'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        path.name + ".tmp"
    )  # one fixed name: what a killed process leaves is overwritten
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            before(path)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def plain(value: Any) -> Any:
    """The `default=` of our JSON: numpy numbers and arrays as numbers and lists, all else as its
    `repr`.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return repr(value)
