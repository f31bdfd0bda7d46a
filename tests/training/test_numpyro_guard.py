"""When a number is not finite the NumPyro `fit` stops, says where, and keeps the weights before
that step.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

from numpyro_dgm.losses import ELBO, NLL
from numpyro_dgm.training import NonFiniteError, fit

X = np.arange(1.0, 41.0, dtype=np.float32)


def quiet(*args, **kwargs):
    return fit(*args, progress=False, **kwargs)


def regression(x, y):
    w = numpyro.param("w", jnp.zeros(()))
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(w * x + 0.0 * z, 1.0), obs=y)


def guide(x, y):
    with numpyro.plate("data", len(x)):
        numpyro.sample("z", dist.Normal(0.0 * x, 1.0))


def steps_before(bad_row, batch_size, num_rows):
    """After how many steps of the first epoch the batch with this row comes, from a run that
    counts.
    """
    seen = []

    def spy(x, y):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x, ordered=True)
        regression(x, y)

    x = np.arange(num_rows, dtype=np.float32)
    quiet(
        spy,
        guide,
        (x, x),
        batch_size=batch_size,
        optim=optax.sgd(0.0),
        callbacks=[lambda run: jax.effects_barrier()],
    )
    return next(i for i, batch in enumerate(seen[-(num_rows // batch_size) :]) if bad_row in batch)


@pytest.mark.parametrize("as_stream", [False, True])
def test_nan_in_a_batch_names_site_step_and_epoch(as_stream):
    """The input is no observed site, so that only the step itself can notice it."""
    x = X.copy()
    x[25] = np.nan
    data = [(x[i : i + 4], X[i : i + 4]) for i in range(0, 40, 4)] if as_stream else (x, X)
    size = {} if as_stream else {"batch_size": 4}
    with pytest.raises(
        NonFiniteError,
        match=r"ELBO.* is nan at step \d+ \(epoch 1\): site 'z' of the guide .* kept in error.run",
    ) as caught:
        quiet(regression, guide, data, optim=optax.sgd(1e-4), num_epochs=3, **size)
    error = caught.value
    assert (error.site, error.epoch) == ("z", 1)
    assert error.step == (6 if as_stream else steps_before(25, 4, 40))
    assert f"step {error.step} " in str(error)
    assert np.isfinite(error.run.params["w"])
    if as_stream:
        before = quiet(regression, guide, data[: error.step], optim=optax.sgd(1e-4))
        np.testing.assert_array_equal(error.run.params["w"], before.params["w"])


def test_the_weights_kept_are_those_before_the_step():
    """w doubles its error at every step until the loss overflows; all before is kept exactly."""
    arguments = {"loss": NLL(), "optim": optax.sgd(3.0), "batch_size": 4}

    def model(y):
        with numpyro.plate("data", len(y)):
            numpyro.sample("y", dist.Normal(numpyro.param("w", jnp.zeros(())), 1.0), obs=y)

    y = np.ones(4 * 200, np.float32)
    with pytest.raises(NonFiniteError, match="site 'y' of the model has log_prob -inf") as caught:
        quiet(model, None, y, **arguments)
    error = caught.value
    w = 0.0
    for _ in range(error.step):
        w = w - 3.0 * (w - 1.0)
    np.testing.assert_allclose(error.run.params["w"], w, rtol=1e-3)
    assert 50 < error.step < 80


def test_a_gradient_that_is_not_finite_names_its_parameter():
    def model(y):
        w = numpyro.param("w", jnp.zeros(()))
        with numpyro.plate("data", len(y)):
            numpyro.sample("y", dist.Normal(jnp.sqrt(jnp.abs(w)), 1.0), obs=y)

    with pytest.raises(NonFiniteError, match="gradient with respect to parameter 'w'") as caught:
        quiet(model, None, np.ones(5, np.float32), loss=NLL(), num_epochs=3)
    assert (caught.value.site, caught.value.step) == ("w", 0)
    np.testing.assert_array_equal(caught.value.run.params["w"], 0.0)


def test_with_validation_the_best_weights_are_kept():
    def model(y):
        with numpyro.plate("data", len(y)):
            numpyro.sample("y", dist.Normal(numpyro.param("w", jnp.zeros(())), 1.0), obs=y)

    y = np.ones(8, np.float32)
    seen = []
    with pytest.raises(NonFiniteError, match="The weights of epoch 1 are kept") as caught:
        quiet(
            model,
            None,
            y,
            loss=NLL(),
            optim=optax.sgd(5.0),
            num_epochs=100,
            validation=y,
            validation_loss=NLL(),
            callbacks=[lambda run: seen.append(run.params["w"])],
        )
    np.testing.assert_array_equal(caught.value.run.params["w"], seen[0])
    assert caught.value.run.best_epoch == 1


@pytest.mark.parametrize("compile", ["auto", False])
def test_several_particles(compile):
    def model(y):
        w = numpyro.param("w", jnp.array(30.0))
        with numpyro.plate("data", len(y)):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0))
            numpyro.sample("y", dist.Normal(jnp.exp(w) + z, 1.0), obs=y)

    def guide(y):
        with numpyro.plate("data", len(y)):
            numpyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(NonFiniteError, match="site 'y' of the model") as caught:
        quiet(
            model,
            guide,
            X,
            loss=ELBO(num_particles=3),
            optim=optax.sgd(-1e-26),
            num_epochs=20,
            compile=compile,
        )
    assert caught.value.site == "y"
