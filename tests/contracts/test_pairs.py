"""What a model promises that a critic trains together with its guide: sites, a loss that trains all
of it, twins, sentences for what does not fit.
"""

from typing import Any

import numpy as np
import pytest

from tests.cases import PAIRS
from tests.contracts.libraries import LIBRARIES
from tests.contracts.test_gans import _flat, data_of, run
from tests.kinds import Pair
from tests.twins.copying import arrays_of, copy_weights

EACH = [pytest.param(case, id=name) for name, case in PAIRS.items()]


@pytest.mark.parametrize("case", EACH)
def test_sites(lib: Any, case: Pair) -> None:
    pair, (x,) = lib.model(case), data_of(lib, case)
    model, guide = run(lib, pair.model, x), run(lib, pair.guide, x)
    assert set(model) - {"data"} == {"x", *case.latents}
    assert set(guide) - {"data"} == set(case.latents)
    for name, shape in case.latents.items():
        for sites in (model, guide):
            assert tuple(sites[name]["value"].shape) == (6, *shape)
            assert not sites[name]["is_observed"]
    assert model["x"]["is_observed"]
    assert tuple(run(lib, pair.model, size=3)["x"]["value"].shape) == (3, *case.x_shape)


@pytest.mark.parametrize("case", EACH[:-1])
@pytest.mark.slow("numpyro-InfoGAN")
def test_its_loss_trains_all_of_it(lib: Any, case: Pair) -> None:
    pair, (x,) = lib.model(case), case.data(np.random.default_rng(0), 12)
    before = {path: weight.copy() for path, weight in lib.weights(pair).items()}
    settings = {"compile": False} if hasattr(lib, "pyro") else {}
    trained = lib.package.fit(
        pair.model,
        pair.guide,
        x,
        loss=case.loss(lib.package.losses),
        batch_size=6,
        num_epochs=2,
        progress=False,
        **settings,
    )
    assert all(np.isfinite(value) for value in trained.history.last.values() if value is not None)
    weights = lib.weights(pair) if hasattr(lib, "pyro") else _flat(lib, trained.params)
    moved = {path: bool(np.any(weights[path] != weight)) for path, weight in before.items()}
    assert len(moved) >= 6
    assert all(moved.values()), moved


@pytest.mark.parametrize("case", EACH)
def test_wrong_data_are_refused(lib: Any, case: Pair) -> None:
    pair, (x,) = lib.model(case), data_of(lib, case)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, "):
        run(lib, pair.model, x[..., :-1])
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got 0"):
        run(lib, pair.model, size=0)
    if case.latents:
        with pytest.raises(ValueError, match=r"The guide infers .* from data"):
            run(lib, pair.guide)


@pytest.mark.parametrize(
    ("name", "role", "message"),
    [
        (
            "BiGAN",
            "generator",
            (
                r"The generator must give values of shape \(3,\) with context_shape=2, got "
                r"StandardNormal\(5\)"
            ),
        ),
        (
            "BiGAN",
            "posterior",
            r"The posterior must give values of shape \(2,\) with context_shape=3",
        ),
        (
            "AVB",
            "posterior",
            r"The posterior must give values of shape \(2,\) with context_shape=6",
        ),
        ("FlowGAN", "flow", r"The flow must give values of shape \(3,\) with context_shape=0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(lib: Any, name: str, role: str, message: str) -> None:
    case, part = PAIRS[name], lib.build("conditionals", "StandardNormal", 5)
    with pytest.raises(ValueError, match=message):
        lib.build("models", name, *case.sizes, **case.settings, **{role: part})
    with pytest.raises(ValueError, match="The generator must give"):
        lib.build("models", "InfoGAN", 3, 2, 4, generator=lib.build("nn", "MLP", 6, (5,)))


@pytest.mark.parametrize("case", EACH)
def test_twins_agree(x64: None, case: Pair) -> None:
    """Equal parameters under equal names, and equal densities (draws, of a generator) at the same
    latents.
    """
    torch_lib, jax_lib = LIBRARIES["pyro"](), LIBRARIES["numpyro"]()
    pair = torch_lib.shaken(torch_lib.model(case), 0.3)
    twin = copy_weights(pair, jax_lib.model(case, seed=1))
    assert repr(pair) == repr(twin)
    assert {path for path, _ in pair.named_parameters()} == set(arrays_of(twin))
    rng = np.random.default_rng(1)
    latents = {
        name: rng.integers(0, 4, (6, *shape)) if name == "c" else rng.standard_normal((6, *shape))
        for name, shape in case.latents.items()
    }
    compared = {
        "BiGAN": [],
        "AVB": ["x"],
        "FlowGAN": ["x"],
        "InfoGAN": ["c", *(["s"] if "s" in latents else [])],
    }[case.name]
    for name in compared:
        values = []
        for lib, module in ((torch_lib, pair), (jax_lib, twin)):
            (x,) = data_of(lib, case)
            site = run(lib, module.model if name == "x" else module.guide, x, substituted=latents)[
                name
            ]
            values.append(
                np.asarray(
                    site["fn"].log_prob(site["value"]).detach()
                    if lib is torch_lib
                    else site["fn"].log_prob(site["value"])
                )
            )
        np.testing.assert_allclose(values[1], values[0], rtol=1e-10, atol=1e-10)
    if case.name == "InfoGAN":
        ours, theirs = (
            run(lib, module.model, substituted=latents, size=6)["x"]["value"]
            for lib, module in ((torch_lib, pair), (jax_lib, twin))
        )
        np.testing.assert_allclose(
            np.asarray(theirs), ours.detach().numpy(), rtol=1e-10, atol=1e-10
        )
