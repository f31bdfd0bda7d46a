"""The networks of a program in Pyro: those that it belongs to, calls or registers, wherever it has
them from, and no others.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pyro_dgm import fit
from pyro_dgm.evaluation import log_weights
from pyro_dgm.nn import register
from pyro_dgm.training import load_run
from pyro_dgm.training.batches import Stream
from pyro_dgm.training.weights import networks_of

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)


class Coder(nn.Module):
    """A network that is used by its method alone."""

    def __init__(self, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.layer = nn.Linear(*sizes)
        self.offset = nn.Parameter(torch.zeros(sizes[1]))
        self.norm = nn.BatchNorm1d(sizes[1])

    def encode(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x)) + self.offset


def program(registering: Any = pyro.module) -> SimpleNamespace:
    """Model and guide as functions that close over their networks; one network is never used."""
    parts = {"encoder": Coder((3, 2)), "decoder": nn.Linear(2, 3), "unused": nn.Linear(7, 7)}

    def model(x: Tensor) -> None:
        decoder = registering("decoder", parts["decoder"])
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        encoder = registering("encoder", parts["encoder"])
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(encoder.encode(x), 0.5).to_event(1))

    return SimpleNamespace(model=model, guide=guide, parts=parts)


@pytest.mark.parametrize("registering", [pyro.module, register])
def test_what_a_program_registers_or_calls_is_found(registering: Any) -> None:
    own = program(registering)
    found = networks_of(own.model, own.guide, (torch.tensor(X),), {})
    assert found == [own.parts["encoder"], own.parts["decoder"]]
    assert all(part.training for network in found for part in network.modules())
    assert own.parts["encoder"].norm.num_batches_tracked == 0
    assert not list(pyro.get_param_store().keys())


def test_a_program_that_fails_shows_what_it_met() -> None:
    own = program()
    own.parts["encoder"].layer = nn.Linear(5, 2)
    assert networks_of(own.model, own.guide, (torch.tensor(X),), {}) == [own.parts["encoder"]]


@pytest.mark.parametrize("registering", [pyro.module, register])
def test_a_run_of_functions_keeps_its_weights(registering: Any, tmp_path: Any) -> None:
    own = program(registering)
    run = fit(own.model, own.guide, X, num_epochs=2, batch_size=8, progress=False)
    before = log_weights(run, X, num_particles=2)
    assert list(run.networks) == [own.parts["encoder"], own.parts["decoder"]]
    assert own.parts["encoder"].norm.num_batches_tracked == 6
    own.parts["unused"].bias = None  # whatever becomes of it
    fit(own.model, own.guide, X + 3, num_epochs=2, progress=False)
    np.testing.assert_array_equal(log_weights(run, X, num_particles=2), before)
    run.save(tmp_path / "own.run")
    other = program(registering)
    read = load_run(tmp_path / "own.run", other.model, other.guide)
    np.testing.assert_array_equal(log_weights(read, X, num_particles=2), before)


@pytest.mark.parametrize("registering", [pyro.module, register])
def test_a_network_that_the_fit_did_not_meet_is_refused(registering: Any) -> None:
    own = program(registering)
    run = fit(own.model, own.guide, X, progress=False)
    own.parts["decoder"] = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"uses a network, Linear.*, that it did not use when"):
        log_weights(run, X)
    own.parts["decoder"].requires_grad_(False).eval()  # nothing that a fit would have trained
    assert np.isfinite(log_weights(run, X)).all()


def test_batches_move_to_where_the_parameters_are() -> None:
    def batches() -> Iterator[Any]:
        yield from (torch.full((2, 3), float(i)) for i in range(3))

    stream = Stream(batches(), device=torch.device("cpu"))
    stream.first()
    stream.to(torch.device("meta"))
    assert [batch.device.type for batch in stream.epoch(0)] == ["meta"] * 3
    again = Stream(batches, 2, device=torch.device("cpu"))
    again.first()
    again.to(torch.device("meta"))
    assert again.first().device.type == "meta"
    assert [batch.device.type for batch in again.epoch(0)] == ["meta"] * 3
