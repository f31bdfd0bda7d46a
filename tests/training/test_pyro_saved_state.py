"""What a checkpoint of torch's networks holds beside weights, and what must not have changed."""

import functools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from dgm_core.training.checkpoint import CheckpointError
from pyro_dgm import NLL
from pyro_dgm.training import fit

pytestmark = pytest.mark.filterwarnings("ignore:.* was not registered in the param store")

X = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)


class Network(nn.Module):
    """x_n ~ Normal(network(mu), scale), the scale a buffer, the last layer frozen."""

    def __init__(self, scale: float = 1.0, frozen: float = 1.0, dtype: torch.dtype | None = None):
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(2, dtype=dtype))
        self.norm = nn.BatchNorm1d(2)
        self.last = nn.Linear(2, 2)
        nn.init.constant_(self.last.weight, frozen)
        self.last.requires_grad_(False)
        self.last.bias.zero_()
        self.register_buffer("scale", torch.tensor(scale))

    def model(self, x: Tensor) -> None:
        pyro.module("network", self)
        with pyro.plate("data", len(x)):
            loc = self.last(self.norm(x)) + self.mu.float()
            pyro.sample("x", dist.Normal(loc, self.scale).to_event(1), obs=x)


def train(network: Network, folder, num_epochs: int, **options):
    pyro.clear_param_store()
    options = {"batch_size": 4, "num_epochs": num_epochs, "progress": False, **options}
    return fit(network.model, None, X, loss=NLL(), checkpoint=folder, **options)


def test_running_statistics_may_change_and_constants_may_not(tmp_path):
    network = Network()
    train(network, tmp_path, 1)
    assert train(network, tmp_path, 2).epoch == 2  # its statistics are no longer those of before
    assert train(Network(), tmp_path, 3).epoch == 3
    with pytest.raises(CheckpointError, match=r"scale was .* and is .*resume=False"):
        train(Network(scale=2.0), tmp_path, 4)
    with pytest.raises(CheckpointError, match=r"last\.weight was .* and is .*resume=False"):
        train(Network(frozen=2.0), tmp_path, 4)
    with pytest.raises(CheckpointError, match=r"training was True and is False"):
        train(Network().train(False), tmp_path, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_type_come_back_to_the_bit(tmp_path, dtype):
    expected = train(Network(dtype=dtype), None, 4)
    train(Network(dtype=dtype), tmp_path, 2)
    run = train(Network(dtype=dtype), tmp_path, 4)
    assert run.params["network$$$mu"].dtype == dtype
    assert run.params["network$$$mu"].abs().sum() > 0
    for name, value in expected.params.items():
        assert torch.equal(run.params[name], value), name


class Forgetful(torch.optim.SGD):
    """An optimizer that keeps what no file can hold."""

    def state_dict(self):
        return {**super().state_dict(), "function": print}


def test_a_state_that_no_file_can_hold(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot be saved .*function.*take another") as error:
        train(Network(), tmp_path, 3, optim=functools.partial(Forgetful, lr=0.1))
    assert error.value.run.epoch == 1
