"""The Pyro training loop: what it optimizes, what it takes, what it returns and what it leaves
alone.
"""

import functools
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import Tensor
from torch.distributions import constraints

from dgm_core.schedules import linear
from pyro_dgm import ELBO, NLL, VAE
from pyro_dgm.training import Adam, Run, binarize, fit

from .pyro_pairs import Network, binary, density, regression, regression_data

quiet = functools.partial(fit, progress=False)


def test_the_history_has_a_row_per_epoch_and_the_modules_are_trained_in_place() -> None:
    vae, x = VAE(6, 2, hidden=(8,)), binary(50)
    before = {name: value.detach().clone() for name, value in vae.named_parameters()}
    run = quiet(
        vae.model, vae.guide, x, batch_size=20, num_epochs=3, validation=x[:10], optim=Adam(1e-2)
    )
    assert isinstance(run, Run) and run.epoch == 3 and run.data_size == 50
    assert run.history.columns[:7] == [
        "epoch",
        "step",
        "loss",
        "ELBO",
        "ELBO/log_likelihood",
        "ELBO/KL",
        "validation",
    ]
    assert run.history.column("step").tolist() == [3, 6, 9]
    assert run.history.column("loss").tolist() == (-run.history.column("ELBO")).tolist()
    assert all(not torch.equal(value, before[name]) for name, value in vae.named_parameters())
    assert torch.equal(run.params["encoder$$$layers.0.weight"], vae.encoder.layers[0].weight)
    assert (
        pyro.get_param_store()._params["encoder$$$layers.0.weight"] is vae.encoder.layers[0].weight
    )


def test_binarization_is_drawn_anew_at_every_pass() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor) -> None:
        seen.append(x)
        with pyro.plate("data", len(x)):
            pyro.sample(
                "x",
                dist.Bernoulli(pyro.param("p", torch.tensor(0.5))).expand([3]).to_event(1),
                obs=x,
            )

    run = quiet(
        model,
        None,
        torch.full((200, 3), 0.3),
        loss=NLL(),
        transform=binarize,
        num_epochs=60,
        optim=Adam(0.1),
    )
    assert not torch.equal(seen[-1], seen[-2]) and set(seen[-1].unique().tolist()) == {0.0, 1.0}
    assert abs(run.params["p"].item() - 0.3) < 0.05
    x, y = binarize((torch.full((5,), 1.0), torch.full((5,), 0.5)))
    assert torch.equal(x, torch.ones(5)) and torch.equal(y, torch.full((5,), 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("family", [AutoNormal, AutoDiagonalNormal, AutoDelta])
def test_global_latents_under_subsampling_reach_the_exact_posterior(family: type) -> None:
    x, y, mean, scale = regression_data(100)
    model = regression(100)
    guide = family(model)
    options = {
        "optim": Adam(0.03),
        "lr_schedule": linear(600, start=1.0, end=0.02),
        "average": 0.99,
    }
    quiet(
        model, guide, (x, y), batch_size=30, num_epochs=150, loss=ELBO(num_particles=16), **options
    )
    torch.testing.assert_close(guide.median(x, y)["w"], mean, atol=0.03, rtol=0)
    if family is not AutoDelta:
        quantiles = guide.quantiles([0.158655, 0.841345], x, y)["w"]
        spread = torch.as_tensor(quantiles[1]) - torch.as_tensor(quantiles[0])
        torch.testing.assert_close(spread / 2, scale, atol=0.01, rtol=0)


def test_latents_of_a_datum_meet_their_datum_in_every_order() -> None:
    x = torch.linspace(-3, 3, 50)

    def model(x: Tensor) -> None:
        with pyro.plate("data", 50, subsample_size=len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    guide = AutoNormal(model)
    options = {
        "optim": Adam(0.05),
        "lr_schedule": linear(600, start=1.0, end=0.05),
        "loss": ELBO(num_particles=8),
    }
    quiet(
        model, guide, x, batch_size=20, num_epochs=200, **options
    )  # the last batch of an epoch has ten rows
    torch.testing.assert_close(guide.locs.z, x / 2, atol=0.2, rtol=0)


def test_pyro_modules_are_trained() -> None:
    class Regression(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.slope = PyroSample(lambda self: dist.Normal(0.0, 1.0))
            self.offset = PyroParam(torch.tensor(0.5))
            self.scale = PyroParam(torch.tensor(1.0), constraint=constraints.positive)
            self.layer = PyroModule[torch.nn.Linear](1, 1)

        def forward(self, x: Tensor, y: Tensor) -> None:
            slope = self.slope
            with pyro.plate("data", len(x)):
                pyro.sample(
                    "y",
                    dist.Normal(
                        slope * x + self.offset + self.layer(x[:, None])[:, 0] * 0, self.scale
                    ),
                    obs=y,
                )

    x = torch.linspace(-2, 2, 60)
    for _ in range(2):  # the second time the store holds the parameters of the first
        model = Regression()
        guide = AutoNormal(model)
        run = quiet(
            model,
            guide,
            (x, 0.8 * x + 2.0 + 0.1 * torch.sin(40 * x)),
            num_epochs=400,
            optim=Adam(0.05),
        )
        assert (
            abs(model.offset.item() - 2.0) < 0.1 and abs(guide.median()["slope"].item() - 0.8) < 0.1
        )
        assert run.params["scale"] == model.scale and run.params["scale"] < 0.3
        assert {"offset", "scale", "layer.weight", "AutoNormal.locs.slope"} <= set(run.params)


def test_a_new_instance_with_the_same_names_is_trained() -> None:
    x = binary(40)
    for make in (lambda: VAE(6, 2, hidden=(8,)), Network):
        first, second = make(), make()
        quiet(first.model, first.guide, x)
        kept = [value.clone() for value in first.parameters()]
        before = [value.clone() for value in second.parameters()]
        quiet(second.model, second.guide, x)
        assert all(not torch.equal(a, b) for a, b in zip(before, second.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(kept, first.parameters()))


def test_free_parameters_start_where_they_are_stated_and_end_in_the_store() -> None:
    model, guide = density()
    x = torch.full((10,), 4.0)
    pyro.param("mean", torch.tensor(2.5))
    pyro.param("scale", torch.ones(3), constraint=constraints.positive)
    with pytest.warns(UserWarning, match="holds other values of"):
        run = quiet(model, guide, x, loss=NLL(), optim=functools.partial(torch.optim.SGD, lr=0.0))
    stated = run.params["mean"].item()
    assert stated != 2.5 and run.params["scale"].shape == ()
    quiet(model, guide, x, loss=NLL(), optim=functools.partial(torch.optim.SGD, lr=0.5))
    slope = (4.0 - stated) / run.params["scale"].item() ** 2
    assert pyro.param("mean").item() == pytest.approx(stated + 0.5 * slope)
    assert pyro.param("scale").shape == ()


OPTIMIZERS = {
    "class": torch.optim.RMSprop,
    "partial": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "pyro": pyro.optim.ClippedAdam({"lr": 0.1}),
    "per parameter": pyro.optim.Adam(lambda name: {"lr": 0.3 if name == "mean" else 0.1}),
    "search": functools.partial(torch.optim.LBFGS, lr=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_serves(name: str) -> None:
    model, guide = density()
    run = quiet(
        model,
        guide,
        torch.tensor([1.0, 2.0, 3.0]),
        loss=NLL(),
        optim=OPTIMIZERS[name],
        num_epochs=40,
    )
    assert run.history.last["loss"] < run.history[0]["loss"] - 0.5


def test_validation_is_in_evaluation_mode_with_the_same_numbers_and_the_best_weights_are_kept() -> (
    None
):
    network, x = Network(rate=0.5), binary(60)
    network.encoder[1].momentum = 0.0
    modes: list[bool] = []
    network.encoder[3].register_forward_hook(lambda module, *_: modes.append(module.training))
    still = functools.partial(torch.optim.SGD, lr=0.0)
    run = quiet(
        network.model,
        network.guide,
        x[:40],
        num_epochs=3,
        optim=still,
        validation=x[40:],
        average=0.5,
    )
    assert True in modes and False in modes and network.encoder.training
    assert run.best_epoch == 1 and len(set(run.history.column("validation"))) == 1

    model, guide = density()
    run = quiet(
        model,
        guide,
        torch.full((8,), 5.0),
        loss=NLL(),
        num_epochs=200,
        optim=Adam(0.1),
        validation=torch.full((8,), 2.0),
        validation_loss=NLL(),
        patience=5,
    )
    scores = run.history.column("validation")
    assert run.best_epoch == scores.argmin() + 1 and run.epoch == run.best_epoch + 5 < 200
    expected = -dist.Normal(run.params["mean"], run.params["scale"]).log_prob(torch.tensor(2.0))
    assert expected.item() == pytest.approx(scores.min(), rel=1e-5)


def test_statistics_of_batch_normalization_move_in_training_alone() -> None:
    network, x = Network(), binary(60)
    run = quiet(network.model, network.guide, x, batch_size=30, num_epochs=2, validation=x)
    assert network.encoder[1].num_batches_tracked == 2 * run.best_epoch


def test_the_state_of_the_caller_is_left_alone() -> None:
    vae, x = VAE(6, 2, hidden=(8,)), binary(40)
    pyro.set_rng_seed(7)
    expected = torch.rand(3)
    pyro.set_rng_seed(7)
    pyro.enable_validation(True)
    store = pyro.get_param_store()
    pyro.param("other", torch.tensor(1.0))
    threads = torch.get_num_threads()
    quiet(
        vae.model,
        vae.guide,
        x,
        num_epochs=2,
        batch_size=8,
        callbacks=[lambda run: torch.rand(5) is None],
    )
    assert torch.equal(torch.rand(3), expected)
    assert dist.is_validation_enabled() and torch.get_num_threads() == threads and "other" in store
    assert torch.tensor(1e-39) * 1.0 > 0
    assert vae.training


def mixed(model: Callable) -> AutoGuideList:
    guide = AutoGuideList(model)
    guide.append(AutoNormal(pyro.poutine.block(model, expose=["loc"])))
    guide.append(AutoDelta(pyro.poutine.block(model, expose=["scale"])))
    return guide


GUIDES = {
    "list": mixed,
    "low rank": AutoLowRankMultivariateNormal,
    "full rank": AutoMultivariateNormal,
    "flow": functools.partial(AutoIAFNormal, hidden_dim=[8]),
}


@pytest.mark.parametrize("name", GUIDES)
@pytest.mark.slow
def test_automatic_guides_learn_a_location_and_a_scale(name: str) -> None:
    def model(x: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", 200, subsample_size=len(x)):
            pyro.sample("x", dist.Normal(loc, scale), obs=x)

    x = 3.0 + 0.5 * torch.randn(200, generator=torch.Generator().manual_seed(0))
    guide = GUIDES[name](model)
    run = quiet(
        model,
        guide,
        x,
        batch_size=60,
        num_epochs=150,
        optim=Adam(0.02),
        lr_schedule=linear(600, start=1.0, end=0.05),
        device="cpu",
    )
    with torch.no_grad():
        draws = [guide(x) for _ in range(50)]
    assert abs(torch.stack([draw["loc"] for draw in draws]).mean() - 3.0) < 0.1
    assert (
        name == "flow" or abs(torch.stack([draw["scale"] for draw in draws]).mean() - 0.5) < 0.1
    )  # the flow takes longer
    assert run.history.last["loss"] < 1.0


def test_a_model_may_draw_its_own_subsample() -> None:
    def model(x: Tensor) -> None:
        mean = pyro.param("mean", torch.tensor(0.0))
        with pyro.plate("data", len(x), subsample_size=10) as rows:
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x[rows])

    x = torch.linspace(1.0, 3.0, 100)
    run = quiet(
        model,
        None,
        x,
        loss=NLL(),
        num_epochs=300,
        optim=functools.partial(torch.optim.SGD, lr=0.05),
        average=0.99,
    )
    assert abs(run.params["mean"].item() - 2.0) < 0.1


def test_parameters_of_a_datum_are_those_of_its_rows() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", 40, subsample_size=len(x)):
            mean = pyro.param("mean", torch.zeros(40), event_dim=0)
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    x = torch.linspace(-2.0, 2.0, 40)
    run = quiet(
        model,
        None,
        x,
        loss=NLL(),
        batch_size=12,
        num_epochs=40,
        optim=functools.partial(torch.optim.SGD, lr=5.0),
    )
    torch.testing.assert_close(run.params["mean"], x, atol=1e-3, rtol=0)
