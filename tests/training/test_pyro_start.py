"""Where a fit in Pyro starts when the parameter store is not empty."""

import warnings
from typing import Any

import pyro
import pytest
import torch
from pyro import distributions as dist

from pyro_dgm import fit
from pyro_dgm.training import Run

X = torch.tensor([3.0, 4.0, 5.5])


def model(x: torch.Tensor) -> None:
    loc = pyro.param("loc", torch.tensor(0.5))
    scale = pyro.param("scale", lambda: torch.tensor(2.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, scale), obs=x)


def guide(x: torch.Tensor) -> None:
    """Nothing is latent."""


def train(**changes: Any) -> Run:
    return fit(model, guide, X, num_epochs=3, progress=False, **changes)


def test_a_fit_starts_from_what_its_program_states_and_says_so() -> None:
    first = train()
    with pytest.warns(UserWarning, match=r"store holds other values of \['loc', 'scale'\]"):
        second = train()
    assert first.params.keys() == second.params.keys() == {"loc", "scale"}
    assert all(torch.equal(first.params[name], second.params[name]) for name in first.params)
    assert not torch.equal(first.params["loc"], torch.tensor(0.5))


def test_what_is_stated_without_a_value_comes_from_the_store() -> None:
    first = train()

    def later(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("loc"), 1.0), obs=x)

    run = fit(later, guide, X, num_epochs=1, lr_schedule=lambda step: 0.0, progress=False)
    assert torch.equal(run.params["loc"], first.params["loc"])


def test_a_resumed_run_goes_on_without_a_warning(tmp_path: Any) -> None:
    train(checkpoint=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fit(model, guide, X, num_epochs=5, checkpoint=tmp_path, progress=False)
    pyro.clear_param_store()
    whole = fit(model, guide, X, num_epochs=5, progress=False)
    assert all(torch.equal(run.params[name], whole.params[name]) for name in whole.params)
