"""The NumPyro `fit` on models that users write: global latents, constraints, subsampling, automatic
guides.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.distributions import constraints
from numpyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from numpyro.primitives import mutable

from numpyro_dgm.evaluation import log_weights, predict
from numpyro_dgm.guides import JointGuide
from numpyro_dgm.losses import ELBO
from numpyro_dgm.training import Adam, fit

N = 40
Y = np.random.default_rng(0).normal(1.5, 1.0, N).astype(np.float32)
POSTERIOR_MEAN, POSTERIOR_SCALE = (
    Y.sum() / (N + 1),
    (N + 1) ** -0.5,
)  # of mu ~ Normal(0, 1), y_n ~ Normal(mu, 1)


def quiet(*args, **kwargs):
    return fit(*args, progress=False, **kwargs)


def model(y, size=N):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("data", size, subsample_size=len(y)):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def guide(y):
    loc = numpyro.param("loc", jnp.zeros(()))
    scale = numpyro.param("scale", jnp.ones(()), constraint=constraints.positive)
    numpyro.sample("mu", dist.Normal(loc, scale))


SLOW = {"optim": Adam(0.03), "loss": ELBO(num_particles=10), "average": 0.99}


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_global_latent_finds_its_posterior(batch_size):
    run = quiet(
        model,
        guide,
        Y,
        batch_size=batch_size,
        num_epochs=800 if batch_size is None else 250,
        **SLOW,
    )
    np.testing.assert_allclose(run.params["loc"], POSTERIOR_MEAN, atol=0.03)
    np.testing.assert_allclose(
        run.params["scale"], POSTERIOR_SCALE, rtol=0.15
    )  # the constrained value
    evidence = dist.MultivariateNormal(jnp.zeros(N), jnp.eye(N) + 1.0).log_prob(Y) / N
    last = run.history.column("ELBO")[-50:].mean()
    assert last == pytest.approx(float(evidence), abs=0.02)


@pytest.mark.parametrize(
    "kind", [AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal, AutoDelta]
)
@pytest.mark.slow
def test_automatic_guides(kind):
    auto = kind(model)
    run = quiet(model, auto, Y, batch_size=20, num_epochs=200, optim=Adam(0.03))
    median = auto.median(run.params)["mu"]
    np.testing.assert_allclose(median, POSTERIOR_MEAN, atol=0.1)
    again = quiet(model, auto, Y, batch_size=20, num_epochs=1, optim=Adam(0.0 + 1e-6))
    assert (
        abs(float(auto.median(again.params)["mu"]) - POSTERIOR_MEAN) > 0.2
    )  # a second fit starts anew


def local_model(y):
    """z_n ~ Normal(0, 1), y_n ~ Normal(z_n, 1/2): E[z_n | y_n] = 0.8 y_n."""
    with numpyro.plate("data", N, subsample_size=len(y)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(z, 0.5), obs=y)


@pytest.mark.slow
def test_parameters_of_a_datum_meet_that_datum():
    """NumPyro's plate draws rows at random; `fit` hands it those of the batch, the smaller last
    batch included.
    """
    auto = AutoNormal(local_model)
    run = quiet(local_model, auto, Y, batch_size=16, num_epochs=250, **SLOW)
    assert run.params["z_auto_loc"].shape == (N,)
    np.testing.assert_allclose(run.params["z_auto_loc"], 0.8 * Y, atol=0.15)
    full = quiet(local_model, AutoNormal(local_model), Y, num_epochs=500, **SLOW)
    np.testing.assert_allclose(full.params["z_auto_loc"], 0.8 * Y, atol=0.15)


def test_subsampling_inside_the_model():
    def inside(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", len(y), subsample_size=10) as rows:
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y[rows])

    run = quiet(inside, guide, Y, num_epochs=1000, **SLOW)
    np.testing.assert_allclose(run.params["loc"], POSTERIOR_MEAN, atol=0.06)


def test_a_mask_leaves_out_what_is_missing():
    missing = np.where(np.arange(N) % 2, Y, np.nan).astype(np.float32)

    def masked(y):
        known = jnp.isfinite(y)
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", N, subsample_size=len(y)), numpyro.handlers.mask(mask=known):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=jnp.where(known, y, 0.0))

    run = quiet(masked, guide, missing, batch_size=20, num_epochs=250, **SLOW)
    half = Y[np.arange(N) % 2 == 1]
    np.testing.assert_allclose(run.params["loc"], half.sum() / (len(half) + 1), atol=0.05)


def test_discrete_latents_train_by_the_score_function():
    """k_n ~ Bernoulli(1/2), y_n ~ Normal(3 k_n, 1); the guide learns one probability."""
    y = np.full(30, 3.0, np.float32)

    def discrete(y):
        with numpyro.plate("data", len(y)):
            k = numpyro.sample("k", dist.Bernoulli(0.5))
            numpyro.sample("y", dist.Normal(3.0 * k, 1.0), obs=y)

    def probabilities(y):
        p = numpyro.param("p", jnp.array(0.5), constraint=constraints.unit_interval)
        with numpyro.plate("data", len(y)):
            numpyro.sample("k", dist.Bernoulli(p))

    run = quiet(discrete, probabilities, y, batch_size=10, num_epochs=100, optim=Adam(0.05))
    assert run.params["p"] > 0.9


def test_parameters_made_from_random_keys_depend_on_the_seed():
    def random_start(y):
        numpyro.param("w", lambda key: jax.random.normal(key, (3,)))
        model(y)

    starts = [
        quiet(random_start, guide, Y, optim=optax.sgd(0.0), seed=seed).params["w"]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.allclose(starts[0], starts[2])


def normalized_module(name, size):
    """A network and its running mean as numpyro.contrib.module.flax_module holds them: it asks
    whether there are any, sets them where there are none, and writes into the state.
    """
    weight, state = numpyro.param(f"{name}$params"), mutable(f"{name}$state")
    assert (weight is None) == (state is None)
    if weight is None:
        weight, state = jnp.ones(size), {"mean": jnp.zeros(size)}
        mutable(f"{name}$state", state)
        numpyro.param(f"{name}$params", weight)

    def apply(x):
        state["mean"] = 0.9 * state["mean"] + 0.1 * jax.lax.stop_gradient(x.mean(0))
        return (x - state["mean"]) @ weight

    return apply


@pytest.mark.parametrize("joint", [False, True])
def test_modules_that_ask_for_their_state(joint, tmp_path):
    def regression(x, y=None):
        net = normalized_module("net", 3)
        sigma = numpyro.sample("sigma", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("data", len(x)):
            numpyro.sample("y", dist.Normal(net(x), sigma), obs=y)

    def by_hand(x, y=None):
        numpyro.sample("sigma", dist.LogNormal(numpyro.param("loc", 0.0), 0.1))

    def new_guide():
        return JointGuide(regression, key=jax.random.key(0)) if joint else by_hand

    x = np.random.default_rng(1).normal(2.0, 1.0, (30, 3)).astype(np.float32)
    data = x, x @ np.float32([1.0, -0.5, 0.2])
    options = {"optim": Adam(0.01), "checkpoint": tmp_path}
    quiet(regression, new_guide(), data, num_steps=3, **options)
    run = quiet(regression, new_guide(), data, num_steps=5, resume=True, **options)
    mean = np.asarray(run.mutable_state["net$state"]["mean"])
    np.testing.assert_allclose(mean, (1 - 0.9**5) * x.mean(0), rtol=1e-5)
    assert np.isfinite(log_weights(run, data, num_particles=2)).all()
    assert predict(run, (x,), num_draws=2)["y"].shape == (2, 30)
    np.testing.assert_array_equal(run.mutable_state["net$state"]["mean"], mean)  # as it was
