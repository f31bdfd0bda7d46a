"""Folders, pictures and servers of the tests of what needs no tensor library."""

import functools
import http.server
import threading
from pathlib import Path

import pytest

from dgm_core import plots
from dgm_core.data import files, images, sequences, tabular
from tests.core.published import NOWHERE


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures are drawn and written as empty files, which is quicker."""
    monkeypatch.setattr(plots, "save", lambda figure, path: Path(path).touch())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no DGM_DATA_DIR, no network."""
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(images, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("DGM_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for module, name, value in [
        (images, "_MNIST_URLS", (NOWHERE,)),
        (images, "_FASHION_URLS", (NOWHERE,)),
        (images, "_OMNIGLOT_URL", NOWHERE),
        (sequences, "_URL", NOWHERE),
        (tabular, "_MAF_URL", NOWHERE + "data.tar.gz"),
        (tabular, "_UCI_URL", NOWHERE + "{}/data.csv.gz"),
    ]:
        monkeypatch.setattr(module, name, value)
    return tmp_path / "cache"


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """The folder that DGM_DATA_DIR points to."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setenv("DGM_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def server(tmp_path):
    """A folder and the address under which its files can be downloaded."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
