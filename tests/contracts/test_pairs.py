"""What a model promises that a critic trains together with its guide: sites, a loss that trains all
of it, sentences for what does not fit.
"""

from typing import Any

import numpy as np
import pytest

from tests.cases import PAIRS
from tests.contracts.test_gans import _flat, data_of, run
from tests.kinds import Pair

EACH = [pytest.param(case, id=name) for name, case in PAIRS.items()]


@pytest.mark.parametrize("case", EACH)
def test_sites(lib: Any, case: Pair) -> None:
    pair, (x,) = lib.model(case), data_of(lib, case)

    def check() -> None:
        model, guide = run(lib, pair.model, x), run(lib, pair.guide, x)
        assert set(model) - {"data"} == {"x", *case.latents}
        assert set(guide) - {"data"} == set(case.latents)
        for name, shape in case.latents.items():
            for sites in (model, guide):
                assert tuple(sites[name]["value"].shape) == (6, *shape)
                assert not sites[name]["is_observed"]
        assert model["x"]["is_observed"]
        assert tuple(run(lib, pair.model, size=3)["x"]["value"].shape) == (3, *case.x_shape)

    lib.shapes(check)


@pytest.mark.parametrize("case", EACH[:-1])
@pytest.mark.slow("numpyro")
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
