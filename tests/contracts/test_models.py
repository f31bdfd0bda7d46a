"""What every model promises: its sites and shapes, a gradient for every parameter, and sentences
for what does not fit.
"""

from typing import Any

import numpy as np
import pytest

from tests.bad_cases import BAD_PARTS
from tests.cases import MODELS
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.kinds import Model

EACH = [pytest.param(case, id=name) for name, case in MODELS.items()]


def arrays(lib: Any, case: Model, rng: np.random.Generator, batch: int = 5) -> list[Any]:
    return [lib.array(d) for d in case.data(rng, batch)]


@pytest.mark.parametrize("case", EACH)
def test_sites(lib: Any, case: Model, rng: np.random.Generator) -> None:
    vae, data = lib.model(case), arrays(lib, case, rng)

    def run() -> tuple[Any, ...]:
        model, guide = lib.trace(vae.model, *data), lib.trace(vae.guide, *data)
        assert {name for name, site in model.items() if "value" in site} == {"z", "x"}
        assert {name for name, site in guide.items() if "value" in site} == {"z"}
        assert model["x"]["observed"]
        scores = [site["log_prob"] for site in (model["z"], model["x"], guide["z"])]
        return guide["z"]["value"], scores

    z, scores = lib.call(run)
    for score in scores:
        assert tuple(score.shape) == (5,)
        assert np.isfinite(lib.numpy(score)).all()
    assert tuple(z.shape) == (5, 2)


@pytest.mark.parametrize("case", EACH)
def test_generation(lib: Any, case: Model, rng: np.random.Generator) -> None:
    """Without data: as many as are asked for, or as there are contexts."""
    vae, (_, *y) = lib.model(case), arrays(lib, case, rng, 3)
    kwargs = {"y": y[0]} if y else {"size": 3}

    def run() -> Any:
        x = lib.trace(lambda: vae.model(**kwargs))["x"]
        assert not x["observed"]
        return x["value"]

    assert tuple(lib.call(run).shape) == (3, *case.x_shape)


@pytest.mark.parametrize("case", EACH)
def test_particles_broadcast(lib: Any, case: Model, rng: np.random.Generator) -> None:
    vae, data = lib.model(case), arrays(lib, case, rng)

    def repeated(program: Any) -> Any:
        def run() -> None:
            with lib.plate("particles", 4, dim=-2):
                program(*data)

        return run

    z = lib.shapes(lambda: lib.trace(repeated(vae.guide))["z"]["value"])
    assert tuple(z.shape) == (4, 5, 2)
    for name in ("z", "x"):
        log_prob = lib.shapes(lambda name=name: lib.trace(repeated(vae.model))[name]["log_prob"])
        assert tuple(log_prob.shape) == (4, 5)


@pytest.mark.parametrize("case", EACH)
def test_every_parameter_gets_a_gradient(lib: Any, case: Model, rng: np.random.Generator) -> None:
    vae, data = lib.model(case), arrays(lib, case, rng)

    def elbo(vae: Any) -> Any:
        guide = lib.trace(vae.guide, *data)["z"]
        model = lib.trace(vae.model, *data, substituted={"z": guide["value"]})
        return model["x"]["log_prob"] + model["z"]["log_prob"] - guide["log_prob"]

    gradients, _ = lib.gradients(elbo, vae)
    assert len(gradients) > 6 or not case.settings.get("hidden")
    for path, gradient in gradients.items():
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0), path


@pytest.mark.parametrize("case", EACH)
def test_wrong_data_are_refused(lib: Any, case: Model, rng: np.random.Generator) -> None:
    vae, (x, *y) = lib.model(case), arrays(lib, case, rng)
    wrong = lib.array(np.zeros((5, *case.x_shape[:-1], case.x_shape[-1] + 1)))
    for program in (vae.model, vae.guide):
        with pytest.raises(ValueError, match=r"x must have shape \(batch, .*got \(5, "):
            lib.trace(program, wrong, *y)
        with pytest.raises(ValueError, match=r"x must have shape"):
            lib.trace(program, x[0], *y)
    with pytest.raises(ValueError, match="The guide infers z from data"):
        lib.trace(lambda: vae.guide())
    if y:
        with pytest.raises(ValueError, match=r"y must be .* got none"):
            lib.trace(vae.model, x)
        for bad in (np.zeros((5, 3)), np.zeros(5), np.zeros((4, *y[0].shape[1:]))):
            with pytest.raises(ValueError, match=r"y must be|same number of data"):
                lib.trace(vae.model, x, lib.array(bad))
    else:
        with pytest.raises(ValueError, match="size must be an integer of at least 1, got 0"):
            lib.trace(lambda: vae.model(size=0))


@pytest.mark.parametrize(("name", "role", "part", "message"), BAD_PARTS)
def test_parts_that_do_not_fit_are_refused(
    lib: Any, name: str, role: str, part: tuple, message: str
) -> None:
    case, conditional = MODELS[name], lib.build(*part[:2], *part[2], **part[3])
    with pytest.raises(ValueError, match=message):
        lib.build("models", name, *case.sizes, **case.settings, **{role: conditional})


def test_gray_pixels_are_refused_in_words(lib: Any) -> None:
    vae = lib.model(MODELS["VAE"])
    with pytest.raises(ValueError, match="binarize the data"):
        lib.trace(vae.model, lib.array(np.full((5, 9), 0.5)))


def test_repr_shows_the_parts(lib: Any) -> None:
    text = repr(lib.model(MODELS["VAE-mixture"]))
    for part in (
        "VAE(",
        "MixturePrior(2, 3)",
        "LowRankNormal(2, 1, context_shape=6)",
        "MLP(9, (7, 6), activation='relu')",
    ):
        assert part in text
    assert len(text) < 600


def normed(lib: Any) -> Any:
    """A VAE whose networks have batch normalization and drop-out."""
    encoder = lib.build("nn", "MLP", 9, (7, 6), batch_norm=True)
    decoder = lib.build("nn", "MLP", 2, (6, 7), batch_norm=True, dropout=0.2)
    return lib.build("models", "VAE", 9, 2, encoder=encoder, decoder=decoder)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
def test_batch_norm_and_drop_out_train_in_pyro(
    lib: PyroLibrary, rng: np.random.Generator, no_warnings: None
) -> None:
    vae, (x,) = normed(lib), arrays(lib, MODELS["VAE"], rng, 20)
    infer = lib.pyro.infer
    svi = infer.SVI(vae.model, vae.guide, lib.pyro.optim.Adam({"lr": 1e-2}), infer.Trace_ELBO())
    losses = [svi.step(x) for _ in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    means = [part.running_mean.clone() for part in vae.modules() if hasattr(part, "running_mean")]
    assert len(means) == 4
    assert all((mean != 0).any() for mean in means)
    with lib.package.nn.evaluation_mode(vae.model, vae.guide):
        assert svi.evaluate_loss(x[:1]) > 0  # a batch of one has no variance, and needs none
    assert all(part.training for part in vae.modules())


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
@pytest.mark.slow
def test_batch_norm_and_drop_out_train_in_numpyro(
    lib: NumPyroLibrary, rng: np.random.Generator, no_warnings: None
) -> None:
    vae, (x,) = normed(lib), arrays(lib, MODELS["VAE"], rng, 20)
    infer, handlers = lib.numpyro.infer, lib.numpyro.handlers
    svi = infer.SVI(vae.model, vae.guide, lib.numpyro.optim.Adam(1e-2), infer.Trace_ELBO())
    result = svi.run(lib.key(0), 60, x, progress_bar=False)
    losses, state = lib.numpy(result.losses), result.state.mutable_state
    assert losses[-10:].mean() < losses[:10].mean()
    assert set(state) == {"encoder$state", "decoder$state"}
    assert all(
        (layer["running_mean"] != 0).any() for site in state.values() for layer in site.values()
    )
    with lib.package.nn.evaluation_mode():
        data = {**svi.get_params(result.state), **state}
        trace = lib.trace(handlers.substitute(vae.guide, data=data), x[:1])
    assert np.isfinite(lib.numpy(trace["z"]["log_prob"])).all()


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
def test_a_second_instance_trains_its_own_weights(
    lib: PyroLibrary, rng: np.random.Generator
) -> None:
    """Pyro's parameter store is global: the weights of an earlier model with equal names must not
    be trained instead.
    """
    (x,) = arrays(lib, MODELS["VAE"], rng, 20)
    infer = lib.pyro.infer
    for seed in (0, 1):
        vae = lib.model(MODELS["VAE"], seed=seed)
        before = lib.weights(vae)
        svi = infer.SVI(vae.model, vae.guide, lib.pyro.optim.Adam({"lr": 1e-2}), infer.Trace_ELBO())
        for _ in range(2):
            svi.step(x)
        assert all((weight != before[path]).any() for path, weight in lib.weights(vae).items())
