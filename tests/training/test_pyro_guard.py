"""Bad input, and numbers that are not finite, in the Pyro training loop."""

import functools
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from pyro_dgm import ELBO, NLL, VAE
from pyro_dgm.training import Adam, NonFiniteError, fit

from .pyro_pairs import binary, regression

quiet = functools.partial(fit, progress=False)


def guide_that_misses(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pass


def guide_with_more(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(2)), 1.0).to_event(1))
        pyro.sample("extra", dist.Normal(0.0, 1.0))


def per_datum(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


BAD: dict[str, tuple[dict[str, Any], type, str]] = {
    "wrong shape": ({"data": torch.ones(10, 5)}, ValueError, r"\(10, 5\)"),
    "empty": ({"data": torch.ones(0, 6)}, ValueError, "The data are empty"),
    "no batches": ({"data": []}, ValueError, "gives no batches"),
    "not data": ({"data": 3.5}, TypeError, "data must be an array"),
    "objects": ({"data": np.array(["a", "b"])}, ValueError, "array of numbers"),
    "lengths": ({"data": (torch.ones(10, 6), torch.ones(9))}, ValueError, "equally many rows"),
    "batch too large": (
        {"batch_size": 41},
        ValueError,
        "between 1 and the number of data 40, got 41",
    ),
    "batch of an iterable": (
        {"data": [torch.ones(4, 6)], "batch_size": 2},
        ValueError,
        "an iterable gives its own batches",
    ),
    "gray": (
        {"data": torch.full((10, 6), 0.25)},
        ValueError,
        r"Site 'x' observes 0.25, outside the support of Bernoulli .*transform=binarize",
    ),
    "late NaN": (
        {"data": torch.cat([binary(39), torch.full((1, 6), torch.nan)]), "batch_size": 10},
        ValueError,
        "Site 'x' observes nan",
    ),
    "NaN in validation": (
        {"validation": torch.full((3, 6), torch.nan)},
        ValueError,
        "Site 'x' observes nan",
    ),
    "gray iterable": ({"data": [torch.full((10, 6), 0.25)]}, ValueError, "Site 'x' observes 0.25"),
    "unknown optimizer": ({"optim": "adam"}, ValueError, "optim must be Adam"),
    "optimizer object": (
        {"optim": torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)},
        ValueError,
        "optim must be Adam",
    ),
    "clipping optimizer": (
        {"optim": pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 1.0})},
        ValueError,
        "clip_norm",
    ),
    "unknown loss": ({"loss": "elbo"}, ValueError, r"loss must be a loss such as ELBO\(\)"),
    "guide misses a site": ({"guide": guide_that_misses}, ValueError, r"misses \['z'\]"),
    "guide has an extra site": ({"guide": guide_with_more}, ValueError, r"\['extra'\]"),
    "guide is no function": ({"guide": 3}, TypeError, "guide must be callable"),
    "epochs": ({"num_epochs": 0}, ValueError, "num_epochs must be an integer of at least 1, got 0"),
    "patience alone": ({"patience": 3}, ValueError, "pass validation data as well"),
    "average": ({"average": 1.5}, ValueError, "average must be a number in \\(0, 1\\)"),
    "clip norm": ({"clip_norm": -1.0}, ValueError, "clip_norm must be a positive number"),
    "compile": ({"compile": "yes"}, ValueError, "compile must be True, False"),
    "device": ({"device": "abacus"}, ValueError, "device must be one that torch can use here"),
    "prior counted often": (
        {
            "model": lambda x, y: regression(len(x))(x, y),
            "guide": AutoNormal(lambda x, y: regression(len(x))(x, y)),
            "data": (torch.ones(40, 2), torch.ones(40)),
            "batch_size": 10,
        },
        ValueError,
        r"\['w'\] lie outside the data plate.*40, subsample_size=len\(x\)",
    ),
    "shared latents": (
        {
            "model": per_datum,
            "guide": AutoNormal(per_datum),
            "data": torch.ones(40),
            "batch_size": 10,
        },
        ValueError,
        "The guide does not follow the batch",
    ),
    "nothing to learn": ({"model": lambda x: None, "guide": None, "loss": NLL()}, ValueError, "."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_words(case: str) -> None:
    changes, kind, message = BAD[case]
    vae = VAE(6, 2, hidden=(8,))
    before = [value.clone() for value in vae.parameters()]
    arguments = {"model": vae.model, "guide": vae.guide, "data": binary(40), **changes}
    with pytest.raises(kind, match=message):
        quiet(**arguments)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters()))


def test_masked_values_are_not_looked_at() -> None:
    def model(x: Tensor, seen: Tensor) -> None:
        mean = pyro.param("mean", torch.tensor(0.0))
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=seen):
            pyro.sample("x", dist.Exponential(mean.exp()), obs=x)

    x, seen = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([True, True, False, True])
    assert quiet(model, None, (x, seen), loss=NLL(), batch_size=2).epoch == 1
    with pytest.raises(ValueError, match="Site 'x' observes -1"):
        quiet(model, None, (x, torch.ones(4, dtype=torch.bool)), loss=NLL(), batch_size=2)


def test_a_nan_in_a_late_batch_stops_with_site_step_and_epoch_and_keeps_the_weights() -> None:
    vae, x = VAE(6, 2, hidden=(8,)), binary(40)
    passes = iter(range(10))

    def batches() -> Any:
        spoilt = next(passes) == 3  # the look at the first batch counts
        yield x[:20]
        yield torch.full((20, 6), torch.nan) if spoilt else x[20:]

    kept: list[dict[str, Tensor]] = []
    with pytest.raises(
        NonFiniteError,
        match=r"ELBO is nan at step 5 \(epoch 3\): site 'x' of the model observes nan",
    ) as info:
        quiet(
            vae.model,
            vae.guide,
            batches,
            num_epochs=6,
            callbacks=[lambda run: kept.append(run.params)],
        )
    error = info.value
    assert (error.site, error.step, error.epoch, error.run.epoch) == ("x", 5, 3, 2)
    assert all(value.isfinite().all() for value in vae.parameters())
    assert torch.equal(error.run.params["encoder$$$layers.0.weight"], vae.encoder.layers[0].weight)
    assert len(error.run.history) == 2


def test_after_a_nan_the_best_weights_are_kept_if_there_is_validation() -> None:
    vae, x = VAE(6, 2, hidden=(8,)), binary(40)
    passes = iter(range(10))
    data = lambda: [torch.full((20, 6), torch.nan) if next(passes) == 3 else x]  # noqa: E731
    kept: list[dict[str, Tensor]] = []
    with pytest.raises(NonFiniteError, match="The weights of epoch 2 are kept") as info:
        quiet(
            vae.model,
            vae.guide,
            data,
            num_epochs=6,
            validation=x,
            optim=Adam(0.01),
            callbacks=[lambda run: kept.append(run.params)],
        )
    assert info.value.run.best_epoch == 2
    for name, value in info.value.run.params.items():
        assert torch.equal(value, kept[1][name])


def test_the_rate_of_an_elbo_with_a_wrong_plate_is_not_hidden() -> None:
    """A plate that declares all the data makes the same model right."""
    x, y = torch.ones(40, 2), torch.ones(40)
    model = regression(40)
    assert quiet(model, AutoNormal(model), (x, y), batch_size=10, loss=ELBO()).epoch == 1
