"""Several fits in one process: in threads they wait for each other, after a fork JAX is refused."""

import importlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.faces import X

ROOT = Path(__file__).parents[2]


def test_fits_in_threads_end_as_they_do_alone(face) -> None:
    def run(seed: int) -> Any:
        options = {"loss": face.losses.NLL(), "batch_size": 5, "num_epochs": 2, "seed": seed}
        return face.fit(face.mean_model, None, X, progress=False, **options)

    def alone(seed: int) -> Any:
        face.forget()
        return face.params(run(seed)).popitem()[1]

    expected, found = [alone(seed) for seed in range(3)], {}

    def work(seed: int) -> None:
        options = {"loss": face.losses.NLL(), "batch_size": 5, "num_epochs": 2, "seed": seed}

        def named(x: Any) -> None:  # a parameter of its own, as the store is that of the process
            mu = face.param(f"mu {seed}", face.np.zeros(3))
            with face.plate("data", len(x)):
                face.sample("x", face.dist.Normal(mu, 1.0).to_event(1), obs=x)

        run = face.fit(named, None, X, progress=False, **options)
        found[seed] = face.params(run).popitem()[1]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, value in enumerate(expected):
        np.testing.assert_array_equal(found[seed], value)


@pytest.mark.filterwarnings("ignore:Pyro.s parameter store holds other values")
def test_a_fit_inside_a_callback_does_not_wait(face) -> None:
    options = {"loss": face.losses.NLL(), "progress": False}
    inner: list[int] = []

    def callback(run: Any) -> None:
        inner.append(face.fit(face.mean_model, None, X, **options).epoch)

    assert (
        face.fit(face.mean_model, None, X, callbacks=[callback], num_epochs=2, **options).epoch == 2
    )
    assert inner == [1, 1]


def test_evaluations_in_threads_wait_for_each_other(face) -> None:
    inside, most = 0, 0

    def model(x: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)  # lets another thread in that does not wait
        face.mean_model(x)
        inside -= 1

    run = face.fit(model, None, X, progress=False, loss=face.losses.NLL())
    generate = importlib.import_module(f"{face.name}_dgm.evaluation").generate
    threads = [threading.Thread(target=generate, args=(run, X)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and inside == 0


FORK = """
import os, warnings
import numpy as np
import {package}
from {package}.losses import NLL
from {package}.training import fit
import {library} as library, {library}.distributions as dist
{before}
warnings.simplefilter("ignore")
if (child := os.fork()) == 0:
    def model(x):
        with library.plate("data", len(x)):
            library.sample("x", dist.Normal(library.param("mu", {zero}), 1.0), obs=x)
    try:
        fit(model, None, np.zeros(3, np.float32), loss=NLL(), progress=False)
        print("done", flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("package", "before", "expected"),
    [
        (
            "numpyro_dgm",
            "import jax.numpy as jnp; jnp.zeros(1)",
            "forked from one that had used JAX",
        ),
        ("numpyro_dgm", "", "done"),
        ("pyro_dgm", "import torch; torch.zeros(3) + 1", "done"),
    ],
)
def test_a_forked_process_trains_or_says_why_not(package, before, expected) -> None:
    library = package.removesuffix("_dgm")
    zero = "__import__('torch').zeros(())" if library == "pyro" else "0.0"
    script = FORK.format(package=package, library=library, before=before, zero=zero)
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True
    )
    assert expected in done.stdout
