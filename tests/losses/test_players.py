"""Two players: what each receives, against steps written by hand on the same draws.

One loss of an ELBO and three adversarial terms, on a model that was not written for it: a global
latent, a plate, several sites.
"""

import copy
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as jdist
import optax
import pyro
import pyro.distributions as tdist
import pytest
import torch
from jax.nn import softplus
from torch.nn.functional import softplus as torch_softplus

import numpyro_dgm.losses as jlosses
import numpyro_dgm.training as jtraining
import pyro_dgm.losses as tlosses
import pyro_dgm.training as ttraining
from numpyro_dgm.joints import Joints as JaxJoints
from pyro_dgm.joints import Joints
from tests.twins.copying import arrays_of, leaf_at

X = np.random.default_rng(0).standard_normal((12, 2)) @ np.array([[1.0, 0.4], [0.0, 0.5]]) + 1.0
WEIGHTS = (0.7, 1.3, 0.4)
SITES = (("x",), ("z",), ("x", "z"))
LR = 0.05


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


# Pyro


def pyro_model(x: torch.Tensor) -> None:
    scale = pyro.param("scale", torch.tensor([0.5, 0.8]), constraint=tdist.constraints.positive)
    shift = pyro.sample("shift", tdist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", tdist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample(
            "x",
            tdist.Normal(shift + z * pyro.param("w", torch.tensor([1.0, -0.5])), scale).to_event(1),
            obs=x,
        )


def pyro_guide(x: torch.Tensor) -> None:
    pyro.sample("shift", tdist.Normal(pyro.param("m", torch.tensor([0.9, 1.1])), 0.1).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample(
            "z", tdist.Normal(x * pyro.param("a", torch.tensor([0.3, 0.2])), 0.7).to_event(1)
        )


def pyro_loss(critic_steps: int) -> tuple[tlosses.Loss, list[torch.nn.Module]]:
    torch.manual_seed(0)
    critics = [tlosses.Critic(2 * len(sites), hidden=(8,), activation="tanh") for sites in SITES]
    loss: tlosses.Loss = tlosses.ELBO()
    for weight, sites, critic in zip(WEIGHTS, SITES, critics):
        regularizer = tlosses.R1(0.3) if sites == ("x",) else None
        optim = lambda params: torch.optim.SGD(params, LR)  # noqa: E731
        term = tlosses.JensenShannon(
            sites,
            critic,
            optim=optim,
            critic_steps=1 if sites == ("z",) else critic_steps,
            regularizer=regularizer,
        )
        loss = loss + weight * term
    return loss, critics


def pyro_by_hand(critics: list[torch.nn.Module], critic_steps: int) -> dict[str, torch.Tensor]:
    """Trains the critics in place; the gradient of model and guide with the critics as
    constants.
    """
    x = torch.as_tensor(X)
    for left in reversed(range(critic_steps)):
        joints = Joints(pyro_model, pyro_guide, (x,))
        samples = [joints.samples(sites) for sites in SITES]
        for sites, critic, (real, fake) in zip(SITES, critics, samples):
            if sites == ("z",) and left > 0:  # has one step only
                continue
            real, fake = real.detach().requires_grad_(), fake.detach()
            out = critic(real)
            cost = torch_softplus(-out).mean() + torch_softplus(critic(fake)).mean()
            if sites == ("x",):
                (slope,) = torch.autograd.grad(out.sum(), real, create_graph=True)
                cost = cost + 0.15 * (slope**2).sum(1).mean()
            gradients = torch.autograd.grad(cost, list(critic.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(critic.parameters(), gradients):
                    parameter -= LR * gradient
    joint = joints.inference()
    total = -joint.per_datum(joint.log_w, joint.global_log_w).mean()
    for weight, critic, (real, fake) in zip(WEIGHTS, critics, samples):
        frozen = copy.deepcopy(critic).requires_grad_(False)
        total = total + weight * (
            torch_softplus(-frozen(fake)).mean() + torch_softplus(frozen(real)).mean()
        )
    store = pyro.get_param_store()
    names = sorted(store._params)
    return dict(
        zip(names, torch.autograd.grad(len(X) * total, [store._params[name] for name in names]))
    )


@pytest.mark.parametrize("critic_steps", [1, 5])
def test_pyro_gradients_of_both_players(critic_steps: int) -> None:
    pyro.clear_param_store()
    loss, critics = pyro_loss(critic_steps)
    byhand = [copy.deepcopy(critic) for critic in critics]
    for _ in range(2):  # consecutive steps, the second from the critics that the first left
        torch.manual_seed(1)
        expected = pyro_by_hand(byhand, critic_steps)
        torch.manual_seed(1)
        loss(pyro_model, pyro_guide, torch.as_tensor(X)).backward()
        for name, parameter in pyro.get_param_store()._params.items():
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-10)
            parameter.grad = None
        for ours, theirs in zip(critics, byhand):
            for a, b in zip(ours.parameters(), theirs.parameters()):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
                assert a.grad is None and a.requires_grad


def test_pyro_stock_engine_moves_the_parameters_by_these_gradients() -> None:
    pyro.clear_param_store()
    loss, critics = pyro_loss(2)
    byhand = [copy.deepcopy(critic) for critic in critics]
    torch.manual_seed(1)
    expected = pyro_by_hand(byhand, 2)
    before = {
        name: parameter.detach().clone()
        for name, parameter in pyro.get_param_store()._params.items()
    }
    svi = pyro.infer.SVI(pyro_model, pyro_guide, pyro.optim.SGD({"lr": 1e-3}), loss)
    torch.manual_seed(1)
    svi.step(torch.as_tensor(X))
    assert before.keys() == expected.keys() == {"scale", "w", "m", "a"}
    for name, parameter in pyro.get_param_store()._params.items():
        torch.testing.assert_close(
            parameter.detach(), before[name] - 1e-3 * expected[name], rtol=1e-10, atol=1e-10
        )
    for a, b in zip(critics[2].parameters(), byhand[2].parameters()):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    before = copy.deepcopy(critics)
    svi.evaluate_loss(torch.as_tensor(X))
    assert all(
        (a == b).all()
        for old, new in zip(before, critics)
        for a, b in zip(old.parameters(), new.parameters())
    )


def pyro_fit(checkpoint: Any, num_epochs: int, **changes: Any) -> list[torch.Tensor]:
    pyro.clear_param_store()
    loss, critics = pyro_loss(2)
    run = ttraining.fit(
        pyro_model,
        pyro_guide,
        X,
        loss=loss,
        optim=ttraining.Adam(0.01),
        num_epochs=num_epochs,
        checkpoint=checkpoint,
        progress=False,
        **changes,
    )
    return [*run.params.values(), *(p.detach() for critic in critics for p in critic.parameters())]


# NumPyro


def numpyro_model(x: jax.Array) -> None:
    scale = numpyro.param("scale", jnp.array([0.5, 0.8]), constraint=jdist.constraints.positive)
    shift = numpyro.sample("shift", jdist.Normal(jnp.zeros(2), 1.0).to_event(1))
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", jdist.Normal(jnp.zeros(2), 1.0).to_event(1))
        numpyro.sample(
            "x",
            jdist.Normal(shift + z * numpyro.param("w", jnp.array([1.0, -0.5])), scale).to_event(1),
            obs=x,
        )


def numpyro_guide(x: jax.Array) -> None:
    numpyro.sample(
        "shift", jdist.Normal(numpyro.param("m", jnp.array([0.9, 1.1])), 0.1).to_event(1)
    )
    with numpyro.plate("data", len(x)):
        numpyro.sample(
            "z", jdist.Normal(x * numpyro.param("a", jnp.array([0.3, 0.2])), 0.7).to_event(1)
        )


PARAMS = {
    "scale": np.array([0.5, 0.8]),
    "w": np.array([1.0, -0.5]),
    "m": np.array([0.9, 1.1]),
    "a": np.array([0.3, 0.2]),
}


def numpyro_loss(critic_steps: int) -> tuple[jlosses.Loss, list[Any]]:
    critics = [
        jlosses.Critic(2 * len(sites), hidden=(8,), activation="tanh", key=jax.random.key(i))
        for i, sites in enumerate(SITES)
    ]
    loss: jlosses.Loss = jlosses.ELBO()
    for weight, sites, critic in zip(WEIGHTS, SITES, critics):
        regularizer = jlosses.R1(0.3) if sites == ("x",) else None
        steps = 1 if sites == ("z",) else critic_steps
        loss = loss + weight * jlosses.JensenShannon(
            sites, critic, optim=optax.sgd(LR), critic_steps=steps, regularizer=regularizer
        )
    return loss, critics


def numpyro_by_hand(
    key: jax.Array, params: dict[str, Any], critics: list[Any], critic_steps: int
) -> tuple[list[Any], dict[str, Any]]:
    """The critics after their updates, and the gradient of model and guide with these
    as constants.
    """
    x = jnp.asarray(X)

    def critic_cost(
        critic: Any, sites: tuple[str, ...], real: jax.Array, fake: jax.Array
    ) -> jax.Array:
        cost = softplus(-critic(real)).mean() + softplus(critic(fake)).mean()
        if sites == ("x",):
            cost += 0.15 * (jax.grad(lambda real: critic(real).sum())(real) ** 2).sum(1).mean()
        return cost

    def samples(key: jax.Array, params: dict[str, Any]) -> tuple[Any, list[Any]]:
        joints = JaxJoints(key, params, numpyro_model, numpyro_guide, (x,))
        return joints, [joints.samples(sites) for sites in SITES]

    for left in reversed(range(critic_steps)):
        draws = samples(key if left == 0 else jax.random.fold_in(key, left), params)[1]
        for i, sites in enumerate(SITES):
            if sites != ("z",) or left == 0:
                gradient = jax.grad(
                    lambda arrays, i=i, sites=sites, drawn=draws[i]: critic_cost(
                        _with(critics[i], arrays), sites, *drawn
                    )
                )(arrays_of(critics[i]))
                critics[i] = _with(
                    critics[i],
                    {
                        path: value - LR * gradient[path]
                        for path, value in arrays_of(critics[i]).items()
                    },
                )

    def cost(params: dict[str, Any]) -> jax.Array:
        joints, draws = samples(key, params)
        joint = joints.inference()
        total = -joint.per_datum(joint.log_w, joint.global_log_w).mean()
        for weight, critic, (real, fake) in zip(WEIGHTS, critics, draws):
            total += weight * (softplus(-critic(fake)).mean() + softplus(critic(real)).mean())
        return len(X) * total

    return critics, jax.grad(cost)(params)


def _with(critic: Any, arrays: dict[str, Any]) -> Any:
    for path, value in arrays.items():
        critic = eqx.tree_at(leaf_at(path), critic, value)
    return critic


@pytest.mark.parametrize("critic_steps", [1, 5])
@pytest.mark.slow("5")
def test_numpyro_gradients_of_both_players(critic_steps: int) -> None:
    loss, critics = numpyro_loss(critic_steps)
    params = {name: jnp.asarray(value) for name, value in PARAMS.items()}
    state = {"loss$state": loss.init_states(None, jax.random.key(0))}

    def total(params: dict[str, Any], state: Any, key: jax.Array) -> Any:
        args, options = (jnp.asarray(X),), {"update": True, "mutable_state": state}
        out = loss.evaluate(key, params, numpyro_model, numpyro_guide, args, **options)
        return out.loss, out.mutable_state

    both_players = eqx.filter_jit(eqx.filter_grad(total, has_aux=True))
    by_hand = eqx.filter_jit(numpyro_by_hand)
    for key in jax.random.split(jax.random.key(3), 2):
        critics, expected = by_hand(key, params, critics, critic_steps)
        gradients, state = both_players(params, state, key)
        for name in params:
            np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(loss.critics(state).values(), critics):
            for path, value in arrays_of(ours).items():
                np.testing.assert_allclose(value, arrays_of(theirs)[path], rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_numpyro_stock_engine_moves_the_parameters_by_these_gradients() -> None:
    loss, critics = numpyro_loss(2)
    svi = numpyro.infer.SVI(numpyro_model, loss.attach(numpyro_guide), optax.sgd(1e-3), loss)
    state = svi.init(jax.random.key(0), jnp.asarray(X))
    before = svi.get_params(state)
    _, key = jax.random.split(state.rng_key)
    unconstrained = {**before, "scale": jnp.log(before["scale"])}
    critics, expected = eqx.filter_jit(numpyro_by_hand)(key, before, critics, 2)
    expected["scale"] = expected["scale"] * before["scale"]
    after, _ = jax.jit(svi.update)(state, jnp.asarray(X))
    moved = svi.get_params(after)
    moved = {**moved, "scale": jnp.log(moved["scale"])}
    for name in PARAMS:
        np.testing.assert_allclose(
            moved[name], unconstrained[name] - 1e-3 * expected[name], rtol=1e-9, atol=1e-10
        )
    for ours, theirs in zip(loss.critics(after.mutable_state).values(), critics):
        for path, value in arrays_of(ours).items():
            np.testing.assert_allclose(value, arrays_of(theirs)[path], rtol=1e-10, atol=1e-10)


def numpyro_fit(checkpoint: Any, num_epochs: int, **changes: Any) -> list[np.ndarray]:
    loss, _ = numpyro_loss(2)
    run = jtraining.fit(
        numpyro_model,
        numpyro_guide,
        X,
        loss=loss,
        optim=jtraining.Adam(0.01),
        num_epochs=num_epochs,
        checkpoint=checkpoint,
        progress=False,
        **changes,
    )
    return [
        *run.params.values(),
        *(
            leaf
            for critic in loss.critics(run.term_state).values()
            for leaf in arrays_of(critic).values()
        ),
    ]


# Both


@pytest.mark.parametrize("fit", [pyro_fit, numpyro_fit])
@pytest.mark.slow("numpyro")
def test_fit_is_repeatable_and_resumes_with_its_critics(fit: Any, tmp_path: Any) -> None:
    once, again = fit(None, 3), fit(None, 3)
    fit(tmp_path, 1)
    resumed = fit(tmp_path, 3)
    for a, b, c in zip(once, again, resumed, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("fit", [pyro_fit, numpyro_fit])
@pytest.mark.slow("numpyro")
def test_each_player_moves_by_its_own_optimizer_only(fit: Any) -> None:
    """Where the model's learning rate is zero, it stays; the critics do not."""
    start, end = (
        fit(None, 1, lr_schedule=lambda step: 0.0),
        fit(None, 5, lr_schedule=lambda step: 0.0),
    )
    assert all(np.array_equal(a, b) for a, b in zip(start[:4], end[:4]))
    assert not any(np.array_equal(a, b) for a, b in zip(start[4:], end[4:]))
