"""A run that is killed at random moments ends in the numbers of a run that was left alone."""

import subprocess
import sys

import pytest

from tests.source_tree import ROOT


@pytest.mark.long("[numpyro")
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pyro", "numpyro"])
def test_killed_runs_end_in_the_same_numbers(tmp_path, backend: str) -> None:
    """Running statistics, averages, the best weights; a critic with an optimizer of its own;
    sequences with lengths; chains of an energy; a diffusion with the average of its weights.
    """
    script = [sys.executable, "benchmarks/kills.py", backend, "--kills", "5"]
    scenarios = ["vae", "bigan", "dmm", "energy", "diffusion"]
    options = ["--scenarios", *scenarios, "--results", str(tmp_path)]
    done = subprocess.run(
        [*script, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills in" in done.stdout
