"""What only JAX has in a checkpoint: keys, half precision, functions that enclose numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

from dgm_core.training.checkpoint import CheckpointError
from numpyro_dgm.losses import NLL
from numpyro_dgm.training import Adam, fit, resuming

X = np.arange(30, dtype=np.float32).reshape(10, 3)


def model(x):
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", dist.Normal(numpyro.param("mu", jnp.zeros(3)), 1.0).to_event(1), obs=x)


def small(folder, num_epochs, **changes):
    """A run that compiles in no time."""
    arguments = {
        "loss": NLL(),
        "optim": Adam(0.1),
        "batch_size": 5,
        "checkpoint": folder,
        "num_epochs": num_epochs,
        "progress": False,
        **changes,
    }
    return fit(model, None, X, **arguments)


@pytest.mark.parametrize("name", ["adam", "chain", "numpyro", "schedule"])
def test_numbers_inside_functions_count(tmp_path, name):
    optimizers = {
        "adam": optax.adam,
        "chain": lambda rate: optax.chain(optax.clip(1.0), optax.sgd(rate)),
        "numpyro": numpyro.optim.Adam,
    }

    def arguments(rate):
        return (
            {"lr_schedule": lambda step: rate}
            if name == "schedule"
            else {"optim": optimizers[name](rate)}
        )

    small(tmp_path, 1, **arguments(0.1))
    assert small(tmp_path, 2, **arguments(0.1)).epoch == 2
    with pytest.raises(CheckpointError, match="lr_schedule" if name == "schedule" else "optim"):
        small(tmp_path, 3, **arguments(0.2))


def test_every_kind_of_leaf_survives(tmp_path):
    tree = {
        "typed key": jax.random.key(1),
        "typed keys": jax.random.split(jax.random.key(2, impl="rbg"), 3),
        "raw key": jax.random.PRNGKey(3),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "bits": jnp.array([True, False]),
        "count": jnp.zeros((), jnp.int32),
        "nothing": None,
    }
    resuming.save(tmp_path, tree, {"identity": {}})
    arrays, _ = resuming.load(tmp_path, {})
    back = resuming.rebuilt(arrays, tree)
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(back), strict=True
    ):
        assert before.dtype == after.dtype, path
        if jnp.issubdtype(before.dtype, jax.dtypes.prng_key):
            before, after = jax.random.key_data(before), jax.random.key_data(after)
        np.testing.assert_array_equal(before, after)
    with pytest.raises(CheckpointError, match="another state"):
        resuming.rebuilt(arrays, {"other": jnp.zeros(2)})
