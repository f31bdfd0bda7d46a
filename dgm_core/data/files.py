"""Where files of data come from: `DGM_DATA_DIR`, a cache, a download with a checksum, or an error
that says what to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch

from dgm_core.files import replacing


class DataError(RuntimeError):
    """A data file is missing and cannot be downloaded, or is damaged; the message says which and
    what to do.
    """


@dataclass(frozen=True)
class Remote:
    """A published file.

    Args:
        path: where it lies below `DGM_DATA_DIR` and in the cache,
            "mnist/train-images-idx3-ubyte.gz".
        urls: where it is published; tried in order.
        checksum: SHA-256 of the published file ("md5:..." where the publisher gives no other).
        member: for a file inside a `.tar.gz` archive, its path in there; `urls` and `checksum` are
            the archive's.
    """

    path: str
    urls: Sequence[str]
    checksum: str
    member: str | None = None


def cache_folder() -> Path:
    """The folder that downloads go to: the operating system's place for caches, in a folder
    `ppl-dgm`.
    """
    return Path(pooch.os_cache("ppl-dgm"))


def locate(remote: Remote) -> Path:
    """The path of the file on this machine, downloaded first when it is neither in `DGM_DATA_DIR`
    nor in the cache.

    Files below `DGM_DATA_DIR` are taken as they are, compressed or not (with or without the `.gz`
    at the end of the name); downloads must match their checksum.

    Raises:
        DataError: when it cannot be had, with the file's name, where it is published and where to
            put it.
    """
    if (found := on_disk(remote.path, cached=remote.member is not None)) is not None:
        return found  # a cached member of an archive had the archive's checksum
    reasons = []
    for url in remote.urls:
        try:
            return _download(remote, url)
        except Exception as error:  # no network, a wrong checksum, a folder that is read-only
            reasons.append(f"{url}: {_brief(error)}")
    inside = "" if remote.member is None else f" (there: {remote.member})"
    raise DataError(
        f"The data file {remote.path} is not on this machine and could not be downloaded "
        f"({'; '.join(reasons)}). It is published at {remote.urls[0]}{inside}. Put it at "
        f"{cache_folder() / remote.path}, or set DGM_DATA_DIR to a folder that has it at "
        f"{remote.path}."
    )


def on_disk(path: str, *, cached: bool = True) -> Path | None:
    """The file below `DGM_DATA_DIR`, else (when `cached`) in the cache, else None; `.gz` at the end
    of the name may lack.

    Raises:
        DataError: when `DGM_DATA_DIR` is not a folder.
    """
    folders = [cache_folder()] if cached else []
    if directory := os.environ.get("DGM_DATA_DIR"):
        folders.insert(0, Path(directory))
        if not folders[0].is_dir():
            raise DataError(
                f"DGM_DATA_DIR is set to {directory}, which is not a folder. Correct it or "
                "unset it."
            )
    candidates = [folder / name for folder in folders for name in (path, path.removesuffix(".gz"))]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a `DataError` that names the file."""
    try:
        with np.errstate(all="ignore"):  # what comes of absurd numbers is looked at
            yield
    except Exception as error:
        raise DataError(
            f"The data file {path} is damaged or not what its name says ({_brief(error)}). "
            f"{_remedy(path)}"
        ) from error


def _remedy(path: Path) -> str:
    if cache_folder() in path.parents:
        return "Delete it to have it downloaded again, or put a whole copy in its place."
    return "Put a whole copy in its place."


def _download(remote: Remote, url: str) -> Path:
    target = cache_folder() / (remote.path if remote.member is None else url.rsplit("/", 1)[-1])
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # the progress bar says it, and an error is to be one line
    try:
        archive = pooch.retrieve(
            url, known_hash=remote.checksum, fname=target.name, path=target.parent, progressbar=True
        )
    finally:
        logger.setLevel(level)
    if remote.member is None:
        return Path(archive)
    path = cache_folder() / remote.path
    with tarfile.open(archive) as members:
        member = members.extractfile(remote.member)
        if member is None:
            raise ValueError(f"{remote.member} is no file in {target.name}")
        with replacing(path) as file:
            shutil.copyfileobj(member, file)
    return path


def _brief(error: BaseException) -> str:
    if "Max retries exceeded" in str(error):
        return "no connection"
    return textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" ...")
