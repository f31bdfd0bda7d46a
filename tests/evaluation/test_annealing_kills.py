"""A call of `ais` that is killed goes on in the numbers of one that was left alone."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "annealing_worker.py"


@pytest.mark.long("[numpyro")
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pyro", "numpyro"])
def test_killed_in_the_middle(backend: str, tmp_path: Path) -> None:
    command = [sys.executable, str(WORKER), backend, str(tmp_path)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not (tmp_path / "annealing.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0.1, 0.4))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*command, "compare"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout
