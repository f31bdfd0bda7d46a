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

from pyro_dgm import ELBO, NLL, VQVAE, Bucketed
from pyro_dgm.conditionals import Energy, Normal, VectorQuantizer
from pyro_dgm.losses import (
    Commitment,
    Constraint,
    ContrastiveDivergence,
    JensenShannon,
    Loss,
    Persistent,
    Term,
)
from pyro_dgm.losses.state import tensors_of
from pyro_dgm.mcmc import MALA
from pyro_dgm.models import RNN
from pyro_dgm.nn import MLP, register
from pyro_dgm.training import fit

from .pyro_pairs import binary


def pair() -> Callable:
    """x_n,2: ~ Normal(network(x_n,:2), 1): no latent draws, so that the steps can be compared."""
    network = nn.Linear(2, 4)
    unused = nn.Linear(3, 3)

    def model(x: Tensor) -> None:
        pyro.module("network", network)
        pyro.module("unused", unused)
        with pyro.plate("data", 30, subsample_size=len(x)):
            pyro.sample("x", dist.Normal(network(x[:, :2]), 1.0).to_event(1), obs=x[:, 2:])

    return model


def coded() -> tuple[Callable, Callable]:
    """An autoencoder with a codebook of moving averages, which draws nothing."""
    vae = VQVAE(6, 2, hidden=(5,), quantizer=VectorQuantizer((2, 2), 4, decay=0.8))
    return vae.model, vae.guide


def energy() -> Callable:
    """An energy of three numbers."""
    made = Energy(3, MLP(3, (5,), 1, activation="silu"))

    def model(x: Tensor) -> None:
        own = register("energy", made)
        with pyro.plate("data", 30, subsample_size=len(x)):
            pyro.sample("x", own(), obs=x[:, :3])

    return model


class RunningMean(Term):
    """The running mean of the data times the log-likelihood."""

    name, details, guided = "RunningMean", ("mean",), False

    def init_state(self, joints: Any) -> dict[str, Tensor]:
        return {"mean": torch.zeros(()), "updates": torch.tensor(0)}

    def update(self, state: dict[str, Tensor], joints: Any, step: Any) -> dict[str, Tensor]:
        mean = joints.samples(("x",))[0].mean()
        return {"mean": 0.9 * state["mean"] + 0.1 * mean, "updates": state["updates"] + 1}

    def estimate(self, joints: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        mean = joints.state(self)["mean"]
        log_likelihood = joints.inference().log_likelihood.mean()
        return mean * log_likelihood, {"mean": mean}


def loss_of(kind: str) -> Loss:
    """A loss that keeps nothing, one of codes, which the guide keeps, one with a multiplier and a
    running mean, one of chains, one with a critic.
    """
    if kind == "codes":
        return ELBO() + 6.0 * Commitment("z")
    if kind in ("plain", "steps"):
        return NLL()
    if kind == "chains":  # that would be the same in both processes, were their noise
        chains = Persistent(8, per_step=4, start=Normal(3, scale=1e-6))
        return ContrastiveDivergence("x", kernel=MALA(0.3), steps=3, chains=chains)
    if kind == "states":
        return NLL() + Constraint(NLL(), at_most=2.0) + 0.3 * RunningMean()
    return NLL() + JensenShannon("x", critic_steps=2)


def programs_of(kind: str) -> tuple[Callable, Callable | None]:
    """The pair that it is evaluated on."""
    if kind == "codes":
        return coded()
    if kind == "steps":
        network = RNN(3, 4, hidden=4, features=5)
        return network.model, network.guide
    return (energy() if kind == "chains" else pair()), None


def data_of(kind: str) -> Any:
    """Thirty rows; of steps, sequences of 0 to 4 steps, those of similar lengths in one batch."""
    if kind != "steps":
        return binary(30)
    lengths = torch.arange(30) % 5
    padding = torch.arange(4) >= lengths[:, None]
    x = binary(30, 12).reshape(30, 4, 3).masked_fill(padding[..., None], torch.nan)
    return Bucketed(x, lengths, width=2)


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
    folder, rank, kind = Path(sys.argv[1]), int(os.environ["RANK"]), sys.argv[2]
    torch.manual_seed(rank)  # the parameters of the first process count
    model, guide = programs_of(kind)
    loss = loss_of(kind)
    settings = {"loss": loss, "checkpoint": folder / "run", **options()}
    run = fit(model, guide, data_of(kind), **settings)
    again = fit(model, guide, data_of(kind), progress=False, **settings)
    assert again.epoch == run.epoch
    torch.distributed.barrier()  # nobody takes the group down while another process is in it
    torch.distributed.destroy_process_group()
    np.savez(
        folder / f"rank{rank}.npz",
        loss=run.history.column("loss"),
        **{name: value.numpy() for name, value in run.params.items()},
        **{path: value.numpy() for path, value in run.mutable_state.items()},
        **{path: value.detach().numpy() for path, value in tensors_of(run.term_state).items()},
    )
