"""Several processes on one batch take the steps of one process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dgm.losses.state import tensors_of
from pyro_dgm.training import fit

from .pyro_worker import data_of, loss_of, options, programs_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["plain", "steps", "codes", "states", "critic", "chains"])
def test_two_processes_take_the_steps_of_one(tmp_path: Path, kind: str) -> None:
    """Weights, codes, running means and multipliers; what hangs on draws is the same in both."""
    torch.manual_seed(0)
    settings = {"loss": loss_of(kind), "progress": False, **options()}
    expected = fit(*programs_of(kind), data_of(kind), **settings)
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
        kind,
    ]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    ranks = [dict(np.load(tmp_path / f"rank{rank}.npz")) for rank in (0, 1)]
    for name, value in ranks[0].items():
        np.testing.assert_array_equal(ranks[1][name], value, err_msg=name)
    assert process.stderr.count("epoch 3 of 3") == 1  # one process shows its progress
    if kind == "chains":  # each process moves its own
        (chains,) = (value for name, value in ranks[0].items() if name.endswith(".chains"))
        apart = np.abs(chains[:, None] - chains).max(-1) + np.eye(len(chains))
        assert apart.min() > 1e-3
    if kind in ("critic", "chains"):
        return
    kept = tensors_of(expected.term_state) | dict(expected.mutable_state)
    for name, value in (expected.params | kept).items():
        np.testing.assert_allclose(
            ranks[0][name], value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(ranks[0]["loss"], expected.history.column("loss"), rtol=1e-5)
