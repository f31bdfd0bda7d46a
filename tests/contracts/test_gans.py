"""What every generative adversarial network promises: its sites, losses that train all of it, and
sentences for what does not fit.
"""

from typing import Any

import numpy as np
import pytest

from tests.cases import GANS
from tests.kinds import Model

EACH = [pytest.param(case, id=name) for name, case in GANS.items()]


def run(
    lib: Any, program: Any, *args: Any, substituted: dict[str, Any] | None = None, **kwargs: Any
) -> dict[str, Any]:
    """The sites of a run, none of them scored."""
    data = {name: lib.array(value) for name, value in (substituted or {}).items()}
    if hasattr(lib, "pyro"):
        nodes = (
            lib.pyro.poutine.trace(lib.pyro.poutine.condition(program, data))
            .get_trace(*args, **kwargs)
            .nodes
        )
    else:
        handlers = lib.numpyro.handlers
        nodes = handlers.trace(
            handlers.seed(handlers.condition(program, data), lib.key(0))
        ).get_trace(*args, **kwargs)
    return {name: site for name, site in nodes.items() if site["type"] == "sample"}


def data_of(lib: Any, case: Model, num: int = 6) -> tuple[Any, ...]:
    return tuple(lib.array(part) for part in case.data(np.random.default_rng(0), num))


@pytest.mark.parametrize("case", EACH)
def test_sites(lib: Any, case: Model) -> None:
    gan, data = lib.model(case), data_of(lib, case)

    def check() -> None:
        model, guide = run(lib, gan.model, *data), run(lib, gan.guide, *data)
        names = {"z", "x"} if case.labels is None else {"z", "y", "x"}
        assert (
            names <= set(model) and "x" not in guide and tuple(guide["z"]["value"].shape) == (6, 2)
        )
        assert (
            all(model[name]["is_observed"] for name in names - {"z"})
            and not model["z"]["is_observed"]
        )
        assert tuple(run(lib, gan.model, size=3)["x"]["value"].shape) == (3, *case.x_shape)
        with pytest.raises(
            lib.package.conditionals.NoDensityError,
            match="has no density: use a loss that needs none",
        ):
            model["x"]["fn"].log_prob(model["x"]["value"])

    lib.shapes(check)


@pytest.mark.parametrize("case", EACH)
@pytest.mark.slow("numpyro")
def test_losses_without_a_density_train_all_of_it(lib: Any, case: Model) -> None:
    """One `fit` with terms that read x, with the default critics, under minibatches; every weight
    moves.
    """
    losses, gan = lib.package.losses, lib.model(case)
    sites = "x" if case.labels is None else ("x", "y")
    loss = losses.JensenShannon(sites, regularizer=losses.R1(0.1))
    if case.name == "GAN":
        loss = loss + losses.FDivergence("x", f="pearson") + losses.MMD("x")
    before, data = (
        {path: weight.copy() for path, weight in lib.weights(gan).items()},
        case.data(np.random.default_rng(0), 12),
    )
    settings = {"compile": False} if hasattr(lib, "pyro") else {}
    trained = lib.package.fit(
        gan.model,
        None,
        data if len(data) > 1 else data[0],
        loss=loss,
        batch_size=6,
        progress=False,
        **settings,
    )
    assert all(
        np.isfinite(value) for name, value in trained.history.last.items() if value is not None
    )
    after = {name.replace("$$$", "."): value for name, value in trained.params.items()}
    weights = lib.weights(gan) if hasattr(lib, "pyro") else _flat(lib, after)
    moved = [np.any(weights[path] != weight) for path, weight in before.items()]
    assert len(moved) >= 5 and all(moved)


def _flat(lib: Any, params: Any) -> dict[str, np.ndarray]:
    """Parameters by path, without the `$params` of the sites."""
    return {name.replace("$params", ""): value for name, value in lib.weights(params).items()}


@pytest.mark.parametrize("case", EACH)
def test_densities_are_refused_by_name(lib: Any, case: Model) -> None:
    gan, losses = lib.model(case), lib.package.losses
    with pytest.raises(lib.package.conditionals.NoDensityError, match="Site 'x' is implicit"):
        lib.package.fit(
            gan.model,
            gan.guide,
            case.data(np.random.default_rng(0), 6),
            loss=losses.ELBO(),
            progress=False,
        )


@pytest.mark.parametrize("case", EACH)
def test_wrong_data_are_refused(lib: Any, case: Model) -> None:
    gan, (x, *y) = lib.model(case), data_of(lib, case)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, "):
        run(lib, gan.model, x[..., :-1], *y)
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got 0"):
        run(lib, gan.guide, size=0)
    with pytest.raises(ValueError, match="The prior must give values of shape"):
        lib.build(
            "models", case.name, *case.sizes, prior=lib.build("conditionals", "StandardNormal", 3)
        )
    with pytest.raises(ValueError, match="The generator must"):
        lib.build("models", case.name, *case.sizes, generator=lib.build("nn", "MLP", 2, (5,)))
    if y:
        for bad, message in (
            (np.zeros(6), "y must be an array of integer labels"),
            (np.zeros(5, int), "same number of data, got 6 and 5"),
        ):
            with pytest.raises(ValueError, match=message):
                run(lib, gan.model, x, lib.array(bad))
        for frequencies, wanted in (
            ((0.5, 0.5), "frequencies must be 4 positive numbers that sum to one"),
            ((0.5, 0.5, 0.5, -0.5), "frequencies must be a positive number, or"),
        ):
            with pytest.raises(ValueError, match=wanted):
                lib.build("models", case.name, *case.sizes, frequencies=frequencies)


@pytest.mark.slow
def test_a_conditional_gan_learns_which_label_is_which(lib: Any) -> None:
    """x_n | y_n ~ Normal(3 (y_n - 1), 0.5): the draws of each class have its mean."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 3840)
    x = (3.0 * (y - 1) + 0.5 * rng.standard_normal(len(y)))[:, None].astype(np.float32)
    gan, losses = lib.build("models", "ConditionalGAN", 1, 2, 3, hidden=(32,)), lib.package.losses
    critic = lib.build(
        "losses",
        "ProjectionCritic",
        1,
        3,
        encoder=lib.build("nn", "MLP", 1, (32, 32), activation="leaky_relu"),
    )
    adam = lib.package.Adam(3e-3, betas=(0.5, 0.99))
    loss = losses.JensenShannon(("x", "y"), critic, regularizer=losses.R1(0.1), optim=adam)
    settings = {"compile": False} if hasattr(lib, "pyro") else {}
    trained = lib.package.fit(
        gan.model,
        None,
        (x, y),
        loss=loss,
        optim=adam,
        batch_size=128,
        num_epochs=20,
        progress=False,
        **settings,
    )
    drawn = lib.package.generate(trained, size=1500)
    assert [drawn["x"][drawn["y"] == label].mean() for label in range(3)] == pytest.approx(
        [-3.0, 0.0, 3.0], abs=0.5
    )
