"""Particles at once or one after the other: chosen by itself, the same in the end."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.poutine.messenger import Messenger

from pyro_dgm import fit
from pyro_dgm.joints import Joints
from pyro_dgm.losses import ELBO, IWAE

X = np.linspace(-1.0, 2.0, 10)
ROWS = torch.arange(10) % 4


def matrix_product(x: Any) -> None:
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", 10):
        features = torch.stack([x, x**2], -1)
        pyro.sample("x", dist.Normal(features @ beta, 1.0), obs=x)


def indexed(x: Any) -> None:
    with pyro.plate("groups", 4):
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10):
        pyro.sample("x", dist.Normal(beta[ROWS], 1.0), obs=x)


def averaged(x: Any) -> None:
    """Raises nothing at any number of particles, and mixes them."""
    with pyro.plate("groups", 4):
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10):
        pyro.sample("x", dist.Normal(beta.mean(), 1.0), obs=x)


def counted(x: Any) -> None:
    beta = pyro.sample("beta", dist.Poisson(2.0))
    with pyro.plate("data", 10):
        pyro.sample("x", dist.Normal(torch.ones(int(beta) + 1).sum(), 1.0), obs=x)


def broadcasting(x: Any) -> None:
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", 10):
        loc = beta[..., 0] * x + beta[..., 1] * x**2
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def vector_guide(x: Any) -> None:
    loc = pyro.param("loc", torch.zeros(2))
    pyro.sample("beta", dist.Normal(loc, 0.5).to_event(1))


def group_guide(x: Any) -> None:
    loc = pyro.param("loc", torch.zeros(4))
    with pyro.plate("groups", 4):
        pyro.sample("beta", dist.Normal(loc, 0.5))


def count_guide(x: Any) -> None:
    pyro.sample("beta", dist.Poisson(1.0 + pyro.param("loc", torch.zeros(1)).exp().sum()))


LOOPED = {
    "matrix product": (matrix_product, vector_guide),
    "indexed": (indexed, group_guide),
    "averaged": (averaged, group_guide),
    "a Python number": (counted, count_guide),
}


@pytest.fixture(autouse=True)
def double(torch_x64: None) -> None:
    """Double precision."""


def value_and_gradient(loss: Any, model: Callable, guide: Callable) -> tuple[float, torch.Tensor]:
    pyro.clear_param_store()
    torch.manual_seed(0)
    total = loss.evaluate(model, guide, (torch.as_tensor(X),)).loss
    (gradient,) = torch.autograd.grad(total, [pyro.get_param_store()._params["loc"]])
    return total.item(), gradient


@pytest.mark.parametrize("name", LOOPED)
def test_what_does_not_broadcast_runs_in_a_loop(name: str) -> None:
    """With one warning, at every number of particles, the sizes of the plates among them."""
    loss = IWAE(10)
    with pytest.warns(UserWarning, match="does not broadcast") as caught:
        value_and_gradient(loss, *LOOPED[name])
    loss.num_particles = 4
    found = value_and_gradient(loss, *LOOPED[name])
    assert len(caught) == 1
    expected = value_and_gradient(IWAE(4, vectorize=False), *LOOPED[name])
    assert found[0] == pytest.approx(expected[0])
    torch.testing.assert_close(found[1], expected[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value_and_gradient(IWAE(4, vectorize=False), *LOOPED[name])


def test_a_loop_that_is_not_wanted_shows_what_fails() -> None:
    with pytest.raises(RuntimeError):
        value_and_gradient(ELBO(num_particles=3, vectorize=True), matrix_product, vector_guide)
    with pytest.raises(ValueError, match="vectorize must be True, False or None, got 'no'"):
        ELBO().evaluate(matrix_product, vector_guide, (torch.as_tensor(X),), vectorize="no")


class Noise(Messenger):
    """Draws Normals from given noise, one entry after the other; not while one only looks."""

    def __init__(self, noise: list[torch.Tensor]) -> None:
        super().__init__()
        self.noise = list(noise)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "beta" and torch.is_grad_enabled() and not msg["done"]:
            normal = msg["fn"].base_dist
            noise = self.noise.pop(0).reshape(normal.loc.shape)
            msg["value"], msg["done"] = normal.loc + normal.scale * noise, True


@pytest.mark.parametrize(
    "loss",
    [ELBO(num_particles=5), ELBO(num_particles=5, estimator="stl"), IWAE(5), IWAE(5, "dreg")],
    ids=repr,
)
def test_both_ways_have_the_same_numbers(loss: Any, no_warnings: None) -> None:
    """At the same draws: values and gradients."""
    noise = torch.randn(5, 2)
    with Noise([noise]):
        together = value_and_gradient(loss, broadcasting, vector_guide)
    loss = copy.copy(loss)
    loss.vectorize = False
    with Noise(list(noise)):
        alone = value_and_gradient(loss, broadcasting, vector_guide)
    assert together[0] == pytest.approx(alone[0], rel=1e-12)
    torch.testing.assert_close(together[1], alone[1], rtol=1e-10, atol=1e-12)


def test_fit_takes_the_choice() -> None:
    run = fit(
        matrix_product,
        vector_guide,
        X,
        loss=ELBO(num_particles=3),
        num_epochs=2,
        vectorize=False,
        progress=False,
    )
    assert run.epoch == 2


def test_joints_run_a_loop_on_the_same_rows() -> None:
    """A plate that draws its rows draws them once for all particles."""

    def model(x: Any) -> None:
        with pyro.plate("data", 10, subsample_size=3) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    def guide(x: Any) -> None:
        with pyro.plate("data", 10, subsample_size=3) as rows:
            pyro.sample("z", dist.Normal(x[rows], 1.0))

    joint = Joints(
        model, guide, (torch.as_tensor(X),), num_particles=4, vectorize=False
    ).inference()
    rows = [run[0].nodes["x"]["value"] for run in joint.runs]
    assert joint.log_w.shape == (4, 3)
    assert all(torch.equal(row, rows[0]) for row in rows)


def late_rows(x: Any) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), subsample_size=3) as rows:
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])


def test_rows_that_the_model_alone_draws_are_those_of_all_particles() -> None:
    """They are drawn anew in every run of the model, but are no reason for a loop."""
    x, guide = torch.arange(7.0) ** 2, lambda x: pyro.sample("z", dist.Normal(0.5, 2.0))
    (run,) = Joints(late_rows, guide, (x,), num_particles=4).inference().runs
    assert run[0].nodes["x"]["fn"].batch_shape == (4, 3)
    looped = Joints(late_rows, guide, (x,), num_particles=4, vectorize=False).inference()
    seen = [model.nodes["x"]["value"].tolist() for model, _ in looped.runs]
    assert len(seen) == 4 and seen[1:] == seen[:-1]
    again = Joints(late_rows, guide, (x,)).rescored(looped, torch.full((4,), 2.0), ("z",))
    assert [model.nodes["x"]["value"].tolist() for model, _ in again.runs] == seen
