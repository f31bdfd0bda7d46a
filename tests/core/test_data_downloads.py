"""Downloads that go wrong: broken off, by two processes at once, into read-only folders."""

import hashlib
import http.server
import os
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

from dgm_core import data
from dgm_core.data import images, tabular
from dgm_core.data.files import DataError
from tests.core.published import sha256, write_mnist

pytestmark = pytest.mark.usefixtures("cache")


def publish_archive(folder):
    """An archive with two tables; its checksum."""
    with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
        for name, columns in (("miniboone", 5), ("power", 8)):
            np.save(folder / "table.npy", np.random.default_rng(0).normal(size=(3000, columns)))
            archive.add(folder / "table.npy", f"data/{name}/data.npy")
    return "md5:" + hashlib.md5((folder / "data.tar.gz").read_bytes()).hexdigest()


LOADING = """
import sys
from pathlib import Path
from dgm_core import data
from dgm_core.data import files, tabular
cache, url, checksum = sys.argv[1:4]
files.cache_folder = lambda: Path(cache)
tabular._MAF_URL, tabular._MAF_MD5 = url, checksum
for name in sys.argv[4:]:
    assert data.load(name).train.shape[0] == 2430
"""


def test_two_processes_download_at_once(server, cache):
    folder, url = server
    checksum = publish_archive(folder)
    command = [sys.executable, "-c", LOADING, str(cache), url + "data.tar.gz", checksum]
    orders = (("miniboone", "power"), ("power", "miniboone"), ("power", "miniboone"))
    processes = [
        subprocess.Popen([*command, *names], stderr=subprocess.PIPE, text=True) for names in orders
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    kept = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    assert kept == {"data.tar.gz", "miniboone/data.npy", "power/data.npy"}


@pytest.fixture
def breaking():
    """The address of a server that announces more than it sends."""

    class Breaking(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(bytes(500))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def test_a_download_that_breaks_off_leaves_nothing(breaking, server, cache, monkeypatch):
    folder, url = server
    write_mnist(folder / "mnist", np.random.default_rng(0))
    checksums = tuple(sha256(folder / "mnist" / file) for file in images._IDX_FILES.values())
    monkeypatch.setitem(images._SHA256, "mnist", checksums)
    monkeypatch.setattr(images, "_MNIST_URLS", (breaking,))
    with pytest.raises(DataError, match=r"could not be downloaded .*train-images"):
        data.load("mnist")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    monkeypatch.setattr(images, "_MNIST_URLS", (breaking, url + "mnist/"))
    assert data.load("mnist", num_validation=2).train.shape == (10, 784)


def test_a_cached_file_that_was_damaged_is_fetched_again(server, cache, monkeypatch):
    folder, url = server
    write_mnist(folder / "mnist", np.random.default_rng(0))
    checksums = tuple(sha256(folder / "mnist" / file) for file in images._IDX_FILES.values())
    monkeypatch.setitem(images._SHA256, "mnist", checksums)
    monkeypatch.setattr(images, "_MNIST_URLS", (url + "mnist/",))
    before = data.load("mnist", num_validation=2)
    file = cache / "mnist" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    np.testing.assert_array_equal(data.load("mnist", num_validation=2).train, before.train)


@pytest.mark.parametrize("member", ["missing", "folder"])
def test_an_archive_without_the_file(server, monkeypatch, member):
    folder, url = server
    with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("data/miniboone/data.npy" if member == "folder" else "data")
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    checksum = "md5:" + hashlib.md5((folder / "data.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(tabular, "_MAF_URL", url + "data.tar.gz")
    monkeypatch.setattr(tabular, "_MAF_MD5", checksum)
    with pytest.raises(DataError, match=r"miniboone/data\.npy"):
        data.load("miniboone")


@pytest.mark.parametrize("taken", ["cache", "cache/mnist", "cache/data.tar.gz"])
def test_a_cache_that_cannot_be_written_to(server, cache, monkeypatch, taken):
    """A file where a folder should be, which also the super-user cannot write through."""
    folder, url = server
    checksum = publish_archive(folder)
    monkeypatch.setattr(tabular, "_MAF_URL", url + "data.tar.gz")
    monkeypatch.setattr(tabular, "_MAF_MD5", checksum)
    monkeypatch.setattr(images, "_MNIST_URLS", (url,))
    path = cache.parent / taken
    path.parent.mkdir(exist_ok=True)
    if taken.endswith("gz"):
        (path / "folder").mkdir(parents=True)
    else:
        path.write_text("")
    name = "mnist" if taken.endswith("mnist") else "miniboone"
    with pytest.raises(DataError, match=rf"{name}.* could not be downloaded") as caught:
        data.load(name)
    assert "\n" not in str(caught.value)


def test_drawings_are_read_where_they_cannot_be_kept(server, cache, monkeypatch):
    import io
    import zipfile

    from PIL import Image

    folder, url = server
    stream, checksums = io.BytesIO(), []
    Image.new("1", (105, 105), 1).save(stream, "PNG")
    for part in ("background", "evaluation"):
        with zipfile.ZipFile(folder / f"images_{part}.zip", "w") as archive:
            for number in range(3):
                archive.writestr(f"images_{part}/character{number}/1.png", stream.getvalue())
        checksums.append(sha256(folder / f"images_{part}.zip"))
    monkeypatch.setattr(images, "_OMNIGLOT_URL", url)
    monkeypatch.setitem(images._SHA256, "omniglot", tuple(checksums))
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError("read-only")))
    loaded = data.load("omniglot", num_validation=1, num_test=1)
    assert loaded.train.shape == (4, 784)
    assert [path.name for path in (cache / "omniglot").iterdir() if "28" in path.name] == []
