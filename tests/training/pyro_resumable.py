"""A run with everything that has a state, for the test that kills it: `python -m
tests.training.pyro_resumable CHECKPOINT RESULT EPOCH`.
"""

import os
import random
import signal
import sys
import threading
from typing import Any

import numpy as np
import torch

from dgm_core.schedules import cyclical, linear
from pyro_dgm.losses import ELBO, R1, GradientPenalty, JensenShannon, Loss
from pyro_dgm.training import Adam, Run, binarize, fit

from .pyro_pairs import Network, binary


def train(
    checkpoint: Any, *, num_epochs: int = 16, critics: bool = False, **options: Any
) -> tuple[Run, dict[str, np.ndarray]]:
    """The run, and all that it ends with: parameters, buffers, critics, history."""
    torch.manual_seed(0)
    network = Network()
    loss: Loss = ELBO(beta=cyclical(40))
    if critics:
        loss = (
            loss
            + 0.3 * JensenShannon("z", critic_steps=2, regularizer=R1(0.1))
            + JensenShannon(("z",), regularizer=GradientPenalty())
        )
    run = fit(
        network.model,
        network.guide,
        0.1 + 0.8 * binary(300),
        transform=binarize,
        loss=loss,
        optim=Adam(3e-3),
        num_epochs=num_epochs,
        batch_size=32,
        validation=binary(40, seed=1),
        patience=10,
        clip_norm=0.5,
        lr_schedule=linear(200, start=1.0, end=0.1),
        average=0.95,
        checkpoint=checkpoint,
        progress=False,
        **options,
    )
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    for name, critic in loss.critics(run.term_state).items():
        state |= {f"{name} {path}": value.numpy() for path, value in critic.state_dict().items()}
    history = {name: run.history.column(name) for name in run.history.columns if name != "seconds"}
    return run, {**state, **history, "best_epoch": np.array(run.best_epoch)}


def dying(run: Run) -> None:
    """Kill this process at a random moment soon after the epoch given."""
    print(run.epoch, flush=True)
    if run.epoch == int(sys.argv[3]):
        threading.Timer(
            random.SystemRandom().uniform(0, 0.05), os.kill, (os.getpid(), signal.SIGKILL)
        ).start()


if __name__ == "__main__":
    _, result = train(sys.argv[1], critics=True, callbacks=[dying])
    np.savez(sys.argv[2], **result)
