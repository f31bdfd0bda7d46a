"""Draws before and after enumerated sites: what they share, and the gradients through them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.toys import log_normal, log_softmax

X = np.linspace(-2.0, 2.5, 6)
DEEP = {
    "m": 0.4,
    "mu": np.array([-1.3, 0.2, 1.1]),
    "a": 0.6,
    "slope": np.array([0.5, -0.2, 0.7]),
    "b": np.array([0.3, -0.4, 0.1]),
    "s": -0.3,
}


def deep(backend: Any, order: str) -> tuple[Callable[..., None], Callable[..., None]]:
    """z1 ~ Normal(m, 1), c | z1 in three classes, z2 ~ Normal(mu_c, 1), x ~ Normal(z1 + z2, 0.8);
    in the guide z1 before c, z2 after it, the classes seeing z1.
    """
    dist, array, param, np_ = backend.dist, backend.array, backend.param, backend.np

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z1 = backend.sample("z1", dist.Normal(param("m"), array(1.0)))
            logits = z1[..., None] * array([0.3, -0.5, 0.1])
            c = backend.sample("c", dist.Categorical(logits=logits))
            z2 = backend.sample("z2", dist.Normal(param("mu")[c], array(1.0)))
            backend.sample("x", dist.Normal(z1 + z2, array(0.8)), obs=x)

    def guide(x: Any) -> None:
        scale = np_.exp(param("s"))
        with backend.plate("data", len(x)):
            z1 = backend.sample("z1", dist.Normal(param("a") * x, scale))
            mean = 0.2 * x
            if order == "drawn":
                logits = (x + z1)[..., None] * param("slope")
                mean = mean + param("b")[backend.sample("c", dist.Categorical(logits=logits))]
            else:
                mean = mean + param("b")[0] + 0.0 * param("slope").sum()
            backend.sample("z2", dist.Normal(mean, scale))

    return model, guide


def at_draws(backend: Any, order: str, num: int, vectorize: bool | None = None) -> dict[str, Any]:
    """Values, log-densities and the bound of a joint with enumerated sites."""
    model, guide = deep(backend, order)
    loss = backend.losses.ELBO(num_particles=num, enumerate="c", vectorize=vectorize)

    def read(joints: Any) -> dict[str, Any]:
        joint = joints.inference(enumerate=("c",))
        found = {name: joint.values(name) for name in ("z1", "c", "z2")}
        return {**found, "log_w": joint.log_w, "bound": loss.estimate(joints, 0)[0]}

    if backend.name == "pyro":
        run = backend.run(model, guide, DEEP)
        backend.torch.manual_seed(0)
        found = read(loss.joints(run.model, run.guide, (backend.array(X),)))
        return {name: x.detach().numpy() for name, x in found.items()}
    params = {name: backend.array(value) for name, value in DEEP.items()}
    key = backend.jax.random.key(0)
    found = backend.jax.jit(lambda x: read(loss.joints(key, params, model, guide, (x,))))(
        backend.array(X)
    )
    return {name: np.asarray(x) for name, x in found.items()}


@pytest.mark.parametrize("order", ["drawn", "summed"])
@pytest.mark.parametrize("vectorize", [None, False])
def test_sum_at_the_draws(backend: Any, order: str, vectorize: bool | None) -> None:
    """z1 is shared by the classes; z2, drawn after the class, has a draw for each, and where the
    guide draws no class one for all.
    """
    found = at_draws(backend, order, 2, vectorize)
    z1, c, z2 = (found[name].reshape(3, 2, len(X)) for name in ("z1", "c", "z2"))
    assert (c == np.arange(3)[:, None, None]).all()
    assert np.array_equal(z1[1], z1[0]) and np.array_equal(z1[2], z1[0])
    assert np.array_equal(z2[1], z2[0]) == (order == "summed")
    assert len(np.unique(z1)) == 2 * len(X)
    c = c.astype(int)
    log_p = log_normal(z1, DEEP["m"], 1.0) + log_normal(X, z1 + z2, 0.8)
    log_p = log_p + log_normal(z2, DEEP["mu"][c], 1.0)
    logits = log_softmax(z1[..., None] * np.array([0.3, -0.5, 0.1]))
    log_p = log_p + np.take_along_axis(logits, c[..., None], -1)[..., 0]
    scale = math.exp(DEEP["s"])
    log_q = log_normal(z1, DEEP["a"] * X, scale)
    if order == "summed":
        log_q = log_q + log_normal(z2, 0.2 * X + DEEP["b"][0], scale)
        expected = np.logaddexp.reduce(log_p - log_q, 0)
        bound = expected.mean()
    else:
        log_q = log_q + log_normal(z2, 0.2 * X + DEEP["b"][c], scale)
        log_c = log_softmax((X + z1)[..., None] * DEEP["slope"])
        log_c = np.take_along_axis(log_c, c[..., None], -1)[..., 0]
        expected = np.logaddexp.reduce(log_p - log_q, 0)
        bound = (np.exp(log_c) * (log_p - log_q - log_c)).sum(0).mean()
    np.testing.assert_allclose(found["log_w"], expected, rtol=1e-10, atol=1e-10)
    assert found["bound"] == pytest.approx(bound, abs=1e-10)


def gradients(backend: Any, loss: Any, pair: Any, params: Any, num: int, seed: int) -> Any:
    rng = np.random.default_rng(3)
    x = rng.normal(size=5)
    found = [
        backend.evaluate(loss, *pair, x, params=params, seed=seed * num + index)[2]
        for index in range(num)
    ]
    return {name: np.array([np.ravel(one[name]) for one in found]) for name in params}


@pytest.mark.slow
@pytest.mark.parametrize("written", ["stl", "score", "plain"])
def test_gradients_have_one_mean(backend: Any, written: str) -> None:
    """Those of the enumerated bound, and those of score functions alone."""
    losses, pair = backend.losses, deep(backend, "drawn")
    plain = losses.ELBO(num_particles=40, vectorize=True)
    loss = {
        "plain": losses.ELBO(num_particles=2, vectorize=True, enumerate="c"),
        "stl": losses.ELBO(num_particles=2, vectorize=True, estimator="stl", enumerate="c"),
        "score": losses.ELBO(num_particles=6, vectorize=True, estimator="score", enumerate="c"),
    }[written]
    ours = gradients(backend, loss, pair, DEEP, 300, 0)
    theirs = gradients(backend, plain, pair, DEEP, 300, 1)
    for name, draws in ours.items():
        error = np.sqrt((draws.var(0) + theirs[name].var(0)) / 300)
        assert (np.abs(draws.mean(0) - theirs[name].mean(0)) < 4.5 * error + 1e-12).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("order", ["summed", "drawn"])
def test_dreg_has_the_mean_of_the_plain_gradient(backend: Any, order: str) -> None:
    losses, pair = backend.losses, deep(backend, order)
    if order == "drawn":  # z1 before the class and z2 after it
        loss = losses.IWAE(3, estimator="dreg", enumerate="c")
        with pytest.raises(ValueError, match="all before the enumerated sites"):
            backend.evaluate(loss, *pair, X, params=DEEP)
        return
    how = {"vectorize": True, "enumerate": "c"}
    plain = gradients(backend, losses.IWAE(3, **how), pair, DEEP, 400, 0)
    dreg = losses.IWAE(3, estimator="dreg", **how)
    for name, draws in gradients(backend, dreg, pair, DEEP, 400, 1).items():
        error = np.sqrt((draws.var(0) + plain[name].var(0)) / 400)
        assert (np.abs(draws.mean(0) - plain[name].mean(0)) < 4.5 * error + 1e-12).all(), name


AFTER = {"slope": np.array([0.5, -0.2, 0.7]), "b": np.array([0.3, -0.4, 0.1]), "s": -0.3}


def after_the_class(backend: Any, discrete: bool) -> Any:
    """c in three classes, z | c normal or binary, x | c, z normal; the guide draws c, then z."""
    dist, array, param, np_ = backend.dist, backend.array, backend.param, backend.np
    centers = [-1.0, 0.4, 1.6]

    def drawn(mean: Any, scale: Any) -> Any:
        return dist.Bernoulli(logits=mean) if discrete else dist.Normal(mean, scale)

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            c = backend.sample("c", dist.Categorical(logits=array([0.2, -0.4, 0.5])))
            z = backend.sample("z", drawn(array(centers)[c], array(1.0)))
            backend.sample("x", dist.Normal(z + 0.3 * c, array(0.6)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            c = backend.sample("c", dist.Categorical(logits=x[:, None] * param("slope")))
            backend.sample("z", drawn(0.4 * x + param("b")[c], np_.exp(param("s"))))

    return model, guide


@pytest.mark.slow
@pytest.mark.parametrize("discrete", [False, True])
def test_draws_after_the_class(backend: Any, discrete: bool) -> None:
    """Doubly reparameterized, and by the score function: the gradient is that of the mean of the
    values, found by differences.
    """
    losses, pair = backend.losses, after_the_class(backend, discrete)
    how = {"vectorize": True, "enumerate": "c"}
    loss = losses.IWAE(3, estimator="reparam" if discrete else "dreg", **how)
    ours = gradients(backend, loss, pair, AFTER, 600, 0)
    plain = losses.IWAE(3, **how)
    rng = np.random.default_rng(3)
    x = np.repeat(rng.normal(size=5), 2000)
    for index in range(3):
        ends = []
        for change in (0.1, -0.1):
            moved = {**AFTER, "b": AFTER["b"] + change * np.eye(3)[index]}
            values = [
                backend.evaluate(plain, *pair, x, params=moved, seed=seed)[0] / 2000
                for seed in range(20)
            ]
            ends.append(np.array(values))
        slopes = (ends[0] - ends[1]) / 0.2
        draws = ours["b"][:, index]
        error = math.hypot(slopes.std() / math.sqrt(20), draws.std() / math.sqrt(600))
        assert abs(draws.mean() - slopes.mean()) < 4 * error + 0.01 * abs(slopes.mean()), index
    assert not np.abs(ours["slope"]).max() > 1e-10  # q(c) cancels in the weights
