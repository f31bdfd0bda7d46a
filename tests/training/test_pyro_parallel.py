"""Several processes on one batch take the steps of one process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dgm import NLL
from pyro_dgm.training import fit

from .pyro_pairs import binary
from .pyro_worker import options, pair

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = fit(pair(), None, binary(30), loss=NLL(), progress=False, **options())
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.training.pyro_worker",
        str(tmp_path),
    ]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    ranks = [dict(np.load(tmp_path / f"rank{rank}.npz")) for rank in (0, 1)]
    for name, value in expected.params.items():
        np.testing.assert_allclose(
            ranks[0][name], value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name
        )
        np.testing.assert_array_equal(ranks[0][name], ranks[1][name])
    for rank in ranks:
        np.testing.assert_allclose(rank["loss"], expected.history.column("loss"), rtol=1e-5)
    assert process.stderr.count("epoch 3 of 3") == 1  # one process shows its progress
