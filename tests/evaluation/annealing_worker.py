"""Annealing in a process of its own, to be killed: `python annealing_worker.py BACKEND FOLDER`.

With a third argument it goes on from the folder, and compares with a call that was left alone.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from dgm_core.annealing import store
from tests.backends import NumPyroBackend, PyroBackend
from tests.evaluation import closed_forms as c
from tests.mcmc.faces import kernels


def main(name: str, folder: str, *compare: str) -> None:
    store.SECONDS = 0.0
    b = PyroBackend() if name == "pyro" else NumPyroBackend()
    options = {"steps": 400, "chains": 4, "chunk_size": 8, "progress": False}
    options |= {"kernel": kernels(b).HMC(0.3, 2), "schedule": "adaptive"}
    with b.double_precision():
        run = b.run(*c.beta_binomial(b))
        found = b.evaluation.ais(run, c.SUCCESSES, checkpoint=folder, **options)
        if compare:
            expected = b.evaluation.ais(run, c.SUCCESSES, **options)
            np.testing.assert_array_equal(found.forward, expected.forward)
            np.testing.assert_array_equal(found.reverse, expected.reverse)
            print("equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
