"""What the NumPyro `fit` refuses before the first step, in words that say what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

from numpyro_dgm import VAE
from numpyro_dgm.losses import ELBO, NLL
from numpyro_dgm.training import binarize, fit

BITS = (np.random.default_rng(0).random((20, 6)) < 0.5).astype(np.float32)
GRAY, NAN = (
    np.full((20, 6), 0.5, np.float32),
    np.where(np.arange(120).reshape(20, 6) == 77, np.nan, BITS).astype(np.float32),
)
VAE6 = VAE(6, 2, hidden=(4,), key=jax.random.key(0))


def guide_without_sites(x):
    numpyro.param("a", 0.0)


def guide_with_an_extra_site(x):
    VAE6.guide(x)
    numpyro.sample("w", dist.Normal(0.0, 1.0))


def half_normal_model(x):
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.HalfNormal(numpyro.param("s", 1.0)).expand([6]).to_event(1), obs=x)


def global_model(x):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", dist.Normal(mu, 1.0).expand([6]).to_event(1), obs=x)


def global_guide(x):
    numpyro.sample("mu", dist.Normal(numpyro.param("loc", 0.0), 1.0))


def local_model(x):
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(z[..., None], 1.0).expand([len(x), 6]).to_event(1), obs=x)


CASES = {
    "empty data": ({"data": BITS[:0]}, ValueError, "data are empty: data has no rows"),
    "an empty tuple": ({"data": ()}, ValueError, "infers z from data: call it with x"),
    "an empty list": ({"data": []}, ValueError, "iterable gives no batches"),
    "no data": ({"data": 3}, TypeError, "data must be an array"),
    "a scalar entry": (
        {"data": {"x": BITS, "size": 3}},
        ValueError,
        r"data\['size'\] must be an array of numbers with one row per datum, got a single number",
    ),
    "texts": ({"data": np.array(["a", "b"])}, ValueError, "data must be an array of numbers"),
    "unequal lengths": (
        {"data": (BITS, BITS[:5])},
        ValueError,
        r"equally many rows, got \{'data\[0\]': 20, 'data\[1\]': 5\}",
    ),
    "batch larger than data": (
        {"batch_size": 21},
        ValueError,
        "batch_size must lie between 1 and the number of data 20, got 21",
    ),
    "batch size 0": (
        {"batch_size": 0},
        ValueError,
        "batch_size must be an integer of at least 1, got 0",
    ),
    "batch size for an iterable": (
        {"data": [BITS], "batch_size": 5},
        ValueError,
        "batch_size is for arrays",
    ),
    "an iterator for two epochs": (
        {"data": iter([BITS]), "num_epochs": 2},
        ValueError,
        "used up after one epoch",
    ),
    "epochs": ({"num_epochs": 0}, ValueError, "num_epochs must be an integer of at least 1, got 0"),
    "wrong width": ({"data": BITS[:, :5]}, ValueError, "6"),
    "wrong rank": ({"data": BITS[0]}, ValueError, "6"),
    "gray pixels": (
        {"data": GRAY},
        ValueError,
        r"Site 'x' observes 0.5, outside the support of Bernoulli.*transform=binarize",
    ),
    "gray pixels in the last batch": (
        {"data": np.r_[BITS, GRAY[:1]], "batch_size": 20},
        ValueError,
        "Site 'x' observes 0.5",
    ),
    "gray pixels in an iterable": ({"data": [GRAY]}, ValueError, "Site 'x' observes 0.5"),
    "gray validation": ({"validation": GRAY}, ValueError, "Site 'x' observes 0.5"),
    "NaN data": (
        {"data": NAN, "batch_size": 5},
        ValueError,
        "Site 'x' observes nan.*remove or fill in",
    ),
    "negative data": (
        {"model": half_normal_model, "guide": None, "data": -BITS - 1.0, "loss": NLL()},
        ValueError,
        "Site 'y' observes -[12], .*HalfNormal",
    ),
    "unknown loss": (
        {"loss": "elbo"},
        ValueError,
        r"loss must be a loss such as ELBO\(\), got 'elbo'",
    ),
    "unknown validation loss": (
        {"validation_loss": "elbo", "validation": np.ones((3, 6))},
        ValueError,
        "validation_loss must be a loss",
    ),
    "unknown optimizer": ({"optim": "adam"}, ValueError, r"optim must be Adam\(...\).*got 'adam'"),
    "an optimizer that minimizes by itself": (
        {"optim": numpyro.optim.Minimize()},
        ValueError,
        "optim must be",
    ),
    "a schedule for numpyro.optim": (
        {"optim": numpyro.optim.Adam(0.1), "lr_schedule": lambda step: 1.0},
        ValueError,
        "lr_schedule needs",
    ),
    "no model": ({"model": None}, TypeError, "model must be callable"),
    "a guide that misses a site": ({"guide": guide_without_sites}, ValueError, r"misses \['z'\]"),
    "no guide": ({"guide": None}, ValueError, r"misses \['z'\]"),
    "a guide with an extra site": ({"guide": guide_with_an_extra_site}, ValueError, r"\['w'\]"),
    "patience without validation": (
        {"patience": 3},
        ValueError,
        "patience counts epochs without a better validation score",
    ),
    "patience 0": (
        {"patience": 0, "validation": BITS},
        ValueError,
        "patience must be an integer of at least 1",
    ),
    "clip": ({"clip_norm": 0.0}, ValueError, "clip_norm must be a positive number"),
    "average": ({"average": 1.0}, ValueError, "average must be a number in \\(0, 1\\)"),
    "schedule": ({"lr_schedule": 0.1}, ValueError, "lr_schedule must be a schedule"),
    "transform": ({"transform": "binarize"}, ValueError, "transform must be a function of a batch"),
    "callbacks": ({"callbacks": [1]}, ValueError, "callbacks must be functions"),
    "seed": ({"seed": 0.5}, ValueError, "seed must be an integer"),
    "compile": ({"compile": "yes"}, ValueError, "compile must be True, False or"),
    "device": ({"device": "abacus"}, ValueError, "device must be a jax.Device"),
    "no devices": ({"device": []}, ValueError, "at least one device"),
    "a global latent in minibatches": (
        {"model": global_model, "guide": global_guide, "batch_size": 5},
        ValueError,
        (
            r"\['mu'\] lie outside the data plate.* would count 4 times: write plate\(\"data\", "
            r"20, "
            r"subsample_size=len\(x\)\)"
        ),
    ),
    "local parameters that all batches share": (
        {"model": local_model, "guide": AutoNormal(local_model), "batch_size": 5},
        ValueError,
        "does not follow the batch",
    ),
    "the same with another guide": (
        {"model": local_model, "guide": AutoDiagonalNormal(local_model), "batch_size": 4},
        ValueError,
        "does not follow the batch: at 2 rows instead of 4",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused(name):
    arguments, error, match = CASES[name]
    arguments = {
        "model": VAE6.model,
        "guide": VAE6.guide,
        "data": BITS,
        "loss": ELBO(),
        "progress": False,
        **arguments,
    }
    with pytest.raises(error, match=match):
        fit(**arguments)


def test_what_is_not_refused():
    """Gray pixels that a transform makes binary; masked NaN; a global latent when a batch holds all
    data, or whose likelihood is scaled by hand.
    """
    quiet = {"progress": False, "optim": optax.sgd(1e-3)}
    fit(VAE6.model, VAE6.guide, GRAY, transform=binarize, batch_size=5, **quiet)
    fit(global_model, global_guide, BITS, **quiet)

    def scaled(x):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.handlers.scale(scale=4.0), numpyro.plate("data", len(x)):
            numpyro.sample("x", dist.Normal(mu, 1.0).expand([6]).to_event(1), obs=x)

    fit(scaled, global_guide, BITS, batch_size=5, **quiet)

    def masked(x):
        with numpyro.plate("data", len(x)):
            fn = (
                dist.Bernoulli(logits=numpyro.param("l", jnp.zeros(6)))
                .mask(~jnp.isnan(x))
                .to_event(1)
            )
            numpyro.sample("x", fn, obs=x)

    fit(
        masked,
        None,
        NAN,
        loss=NLL(),
        batch_size=5,
        num_epochs=2,
        optim=optax.set_to_zero(),
        progress=False,
    )
