"""One process of a run that `torchrun` has started: `torchrun --nproc-per-node 2 -m
tests.training.pyro_worker FOLDER`.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_dgm import NLL
from pyro_dgm.training import fit

from .pyro_pairs import binary


def pair() -> Callable:
    """x_n,2: ~ Bernoulli(logits = network(x_n,:2)): no draws, so that the steps can be compared."""
    network = nn.Linear(2, 4)
    unused = nn.Linear(3, 3)

    def model(x: Tensor) -> None:
        pyro.module("network", network)
        pyro.module("unused", unused)
        with pyro.plate("data", 30, subsample_size=len(x)):
            pyro.sample("x", dist.Bernoulli(logits=network(x[:, :2])).to_event(1), obs=x[:, 2:])

    return model


def options() -> dict[str, Any]:
    """An optimizer in which the size of the gradient counts; the last batch has six rows, and
    shares of nine rows are unequal.
    """
    return {
        "optim": functools.partial(torch.optim.SGD, lr=0.5, momentum=0.5),
        "num_epochs": 3,
        "batch_size": 9,
        "clip_norm": 0.2,
    }


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    torch.manual_seed(rank)  # the parameters of the first process count
    model = pair()
    run = fit(model, None, binary(30), loss=NLL(), checkpoint=folder / "run", **options())
    again = fit(
        model, None, binary(30), loss=NLL(), checkpoint=folder / "run", progress=False, **options()
    )
    assert again.epoch == run.epoch
    torch.distributed.barrier()  # nobody takes the group down while another process is in it
    torch.distributed.destroy_process_group()
    np.savez(
        folder / f"rank{rank}.npz",
        loss=run.history.column("loss"),
        **{name: value.numpy() for name, value in run.params.items()},
    )
