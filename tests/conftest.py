"""Every test starts from the same global state, on the CPU, with one thread and without
a display; those of `devices` alone look for a GPU.
"""

import ctypes
import gc
import os
import random
import sys
from pathlib import Path

# What JAX compiles, for the other processes and the next run.
COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "jax"

# Tests that `make test` leaves out, and that `make test-long` alone runs.
SLOW, LONG = (Path(__file__).with_name(name) for name in ("slow.txt", "long.txt"))

# Before torch, jax or matplotlib is imported by any test.
for name, value in {
    "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    # Fused code is emitted so that it runs a little faster and compiles three times longer.
    "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(name, value)

import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest


def pytest_configure() -> None:
    """Traces are many objects and hold few cycles: the garbage collector need not look so often."""
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`@pytest.mark.slow("numpyro alone", ...)`: of the cases, those with all words of one of these
    in their names are slow; `@pytest.mark.long("pyro")`, long, likewise. Those of `slow.txt`
    are slow, those of `long.txt` both.
    """
    slow, long = _named(SLOW), _named(LONG)
    for item in items:
        for mark in [m for m in item.own_markers if m.name in ("slow", "long") and m.args]:
            if not any(all(w in item.name for w in words.split()) for words in mark.args):
                item.own_markers.remove(mark)
        name = item.nodeid.removeprefix("tests/")
        for mark, names in (("slow", slow | long), ("long", long)):
            if name in names:
                item.add_marker(mark)
    found = {item.nodeid.removeprefix("tests/") for item in items}
    if len(found) > 5_000 and (gone := sorted((slow | long) - found)):
        raise pytest.UsageError(
            f"slow.txt or long.txt name tests that are no more: {', '.join(gone)}."
        )


def _named(path: Path) -> set[str]:
    """The tests that a list names, each behind its seconds."""
    lines = path.read_text().splitlines()
    return {line.split(maxsplit=1)[1] for line in lines if line[:1].isdigit()}


def pytest_collection_finish() -> None:
    """Libraries and tests stay until the end: no garbage to look for."""
    gc.collect()
    gc.freeze()


def _reset() -> None:
    """Empty parameter store, seeds 0, single precision. Libraries that are not imported stay so:
    they start in this state.
    """
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the one that libraries draw from)
    if "torch" in sys.modules:
        import torch

        torch.set_default_dtype(torch.float32)
        torch.default_generator.manual_seed(0)  # manual_seed formats the stack, for other devices
    if "pyro" in sys.modules:
        import pyro

        pyro.clear_param_store()


@pytest.fixture(autouse=True, scope="module")
def compilation(request: pytest.FixtureRequest) -> None:
    """JAX compiles without most optimizations, and random bits of a kind that compiles quickly:
    most tests compile far longer than they run.

    Modules that train long, look at compiled code or compare with other processes say
    `AS_USERS_COMPILE = True`; those that need JAX's own random bits alone, as draws of a Poisson
    distribution do, `OWN_BITS = True`.
    """
    if find_spec("jax"):
        import jax

        quickly = not getattr(request.module, "AS_USERS_COMPILE", False)
        own_bits = getattr(request.module, "OWN_BITS", not quickly)
        jax.config.update("jax_disable_most_optimizations", quickly)
        jax.config.update("jax_default_prng_impl", "threefry2x32" if own_bits else "rbg")


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """No test sees the parameters, seeds or default dtype that another one left."""
    _reset()
    yield
    _reset()
    _forget_compiled()


_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes, of the machine
_LIMIT = max(5e9, _MEMORY / (_WORKERS + 1))
_memory_limit = _LIMIT  # of one process


def _forget_compiled() -> None:
    """Drop what JAX has compiled when this process has grown past its share of the memory, so that
    several of them fit beside each other; memory that is not given back does not count again.
    """
    global _memory_limit
    if "jax" in sys.modules and _resident() > _memory_limit:
        import jax

        jax.clear_caches()
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        _memory_limit = max(_LIMIT, _resident() + 2e9)


def _resident() -> float:
    """The memory of this process in bytes, 0 where it is not told."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096.0 if statm.exists() else 0.0


@pytest.fixture
def torch_x64() -> Iterator[None]:
    """Double precision as torch's default."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def jax_x64() -> Iterator[None]:
    """Double precision in JAX, switched back afterwards."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def x64(torch_x64: None, jax_x64: None) -> None:
    """Double precision in both backends, for twin tests at 1e-10."""


@pytest.fixture
def no_warnings() -> Iterator[None]:
    """Any warning, whoever raises it, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
