"""How a run is divided into epochs, and the progress line."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from dgm_core.training.epochs import Plan
from dgm_core.training.progress import fitting

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("plan", "length", "num_epochs", "num_steps"),
    [
        (Plan(), None, 1, None),
        (Plan(3, None, 7), None, 3, 21),
        (Plan(num_steps=1500, num_batches=1), 15, 100, 1500),  # all data in one batch
        (Plan(num_steps=1500, num_batches=7), 14, 108, 1500),
        (Plan(num_steps=30, num_batches=50), 50, 1, 30),  # less than a pass
        (Plan(num_steps=20000, num_batches=5000), 5000, 4, 20000),
        (Plan(num_steps=1000), 10, 100, 1000),  # a stream of unknown length
        (Plan(num_steps=3), 1, 3, 3),
    ],
)
def test_epochs_of_a_plan(plan, length, num_epochs, num_steps) -> None:
    assert (plan.length, plan.num_epochs, plan.num_steps) == (length, num_epochs, num_steps)
    epoch = step = 0
    while not plan.is_over(epoch, step):
        epoch, step = epoch + 1, step + (plan.next_length(step) or 7)
    assert epoch == num_epochs and step == (num_steps or step)


VALUES = {"loss": 4.0365, "ELBO": -4.0365, "ELBO/log_likelihood": -10.5, "validation": 5.1234}
STEPS = ["12345/20000 steps", "01:23 left", "24.5/s"]


def test_what_is_wanted_most_comes_first() -> None:
    values = VALUES | {"best epoch": 12}
    line = fitting("epoch 12 of 200", values, STEPS, 79)
    assert line == "epoch 12 of 200: loss 4.0365, validation 5.1234, best epoch 12, 01:23 left"
    assert "ELBO/log_likelihood -10.5" in fitting("epoch 12 of 200", values, STEPS, 200)
    for width in range(16, 200):
        assert len(fitting("epoch 12 of 200", values, STEPS, width)) <= width


LINE = """
from dgm_core.training.progress import Progress
with Progress(400) as bar:
    for step in range(400):
        bar.advance()
        bar.show("epoch 1 of 2", {"loss": 4.0365, "ELBO": -4.0365, "ELBO/log_likelihood": -10.5})
    bar.show("epoch 1 of 2", {"loss": 4.0365, "validation": 5.1234, "best epoch": 1})
"""


def test_a_terminal_of_80_columns_shows_the_validation_score() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)
    subprocess.run([sys.executable, "-c", LINE], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    text = ""
    with contextlib.suppress(OSError):  # how a terminal says that there is no more
        while part := os.read(ours, 4096):
            text += part.decode()
    os.close(ours)
    last = re.split(r"[\r\n]+", text.strip())[-1].strip()
    assert last.startswith("epoch 1 of 2: loss 4.0365, validation 5.1234, best epoch 1, 400/400")
    assert all(len(line.rstrip()) < 80 for line in re.split(r"[\r\n]+", text))
