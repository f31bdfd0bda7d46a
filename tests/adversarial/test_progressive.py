"""Generators and critics that grow while they are trained: what is seen at each level by value, the
count that the level follows, twins, and a run that goes on.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import growing
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake

SHAPE = (2, 8, 4)
X = np.random.default_rng(0).random((12, *SHAPE))


def doubled(x: np.ndarray, times: int = 1) -> np.ndarray:
    for _ in range(times):
        x = x.repeat(2, -1).repeat(2, -2)
    return x


def means(x: np.ndarray) -> np.ndarray:
    *batch, height, width = x.shape
    return x.reshape(*batch, height // 2, 2, width // 2, 2).mean((-3, -1))


def test_levels_of_images(lib: Any, x64: None) -> None:
    """At a whole level the stage alone, repeated or as means; between two, their mixture."""
    small = means(means(X))
    stages = [small, means(X), X]
    wanted = {
        0.0: doubled(small, 2),
        1.0: doubled(means(X)),
        1.25: 0.75 * doubled(means(X)) + 0.25 * X,
        0.5: doubled(0.5 * doubled(small) + 0.5 * means(X)),
        2.0: X,
        9.0: X,
    }
    nn, arrays = lib.package.nn, list(map(lib.array, stages))
    found = lib.call(
        lambda x, levels: [(nn.grown(arrays, level), nn.at_level(x, level, 2)) for level in levels],
        lib.array(X),
        lib.array(np.array(list(wanted))),
    )
    for (of_stages, of_data), exact in zip(found, wanted.values(), strict=True):
        np.testing.assert_allclose(lib.numpy(of_stages), exact, rtol=1e-12)
        np.testing.assert_allclose(lib.numpy(of_data), exact, rtol=1e-12)


def networks(lib: Any, level: float) -> list[Any]:
    settings = {"hidden_channels": (3, 4)}
    return [
        lib.build("nn", "ProgressiveGenerator", 3, SHAPE, **settings),
        lib.build("losses", "ProgressiveCritic", SHAPE, level, **settings),
    ]


def outputs(parts: Any, z: Any, x: Any, levels: Any) -> list[Any]:
    """The sum of squares of all, images at each level and alone, and what the critic says."""
    found = [*(parts[0](z, level) for level in levels), parts[0](z), parts[1](x)]
    return [sum((part**2).sum() for part in found), *found]


def test_twins(x64: None) -> None:
    """Values and gradients of both networks with the same weights, but of the smallest size, which
    the critic does not see at level 1.3; a whole level is its stage."""
    libs = PyroLibrary(), NumPyroLibrary()
    ours = shake(libs[0].torch.nn.ModuleList(networks(libs[0], 1.3)), scale=0.1)
    theirs = copy_weights(ours, networks(libs[1], 1.3))
    z, levels = np.random.default_rng(1).standard_normal((5, 3)), np.array([0, 0.25, 1.0, 1.6])
    results = [
        lib.values_and_gradients(outputs, module, *map(lib.array, (z, X[:5], levels)))
        for lib, module in zip(libs, (ours, theirs))
    ]
    (values, gradients, by_input), (twin_values, twin_gradients, twin_by_input) = results
    pairs = zip((*values, *by_input[:2]), (*twin_values, *twin_by_input[:2]), strict=True)
    for value, twin in pairs:  # the level is not differentiated: it has kinks
        np.testing.assert_allclose(twin, value, rtol=1e-10, atol=1e-10)
    assert gradients.keys() == twin_gradients.keys()
    for path, gradient in gradients.items():
        np.testing.assert_allclose(twin_gradients[path], gradient, rtol=1e-9, atol=1e-10)
        assert abs(gradient).max() > 1e-9 or path.startswith("1.entries.2"), path
    assert [repr(part) for part in ours] == [repr(part) for part in theirs]
    (_, low, between, one, later, full, _) = values
    np.testing.assert_array_equal(low, doubled(low[..., ::4, ::4], 2))
    np.testing.assert_array_equal(one, doubled(one[..., ::2, ::2]))
    np.testing.assert_allclose(between, 0.75 * low + 0.25 * one, rtol=1e-12)
    np.testing.assert_allclose(later, 0.4 * one + 0.6 * full, rtol=1e-12)


def test_a_stage_that_has_not_begun_has_no_part(lib: Any, x64: None) -> None:
    """The critic at level 0 sees means of pixels alone; the level of a stage is exact."""
    critics = [networks(lib, level)[1] for level in (0.0, 1.0, 2.0)]
    fine = lib.array(X - doubled(means(X)) + doubled(means(X[::-1])))
    coarse = lib.array(doubled(means(X[::-1])))
    low, middle, high = (
        [lib.numpy(lib.call(lambda x, critic=critic: critic(x), x)) for x in (fine, coarse)]
        for critic in critics
    )
    np.testing.assert_allclose(low[0], low[1], rtol=1e-10)
    np.testing.assert_allclose(middle[0], middle[1], rtol=1e-10)
    assert abs(high[0] - high[1]).max() > 1e-5 and abs(low[0] - middle[0]).max() > 1e-5


def train(lib: Any, **settings: Any) -> Any:
    growth = growing(2, 3, 4)
    small = {"hidden_channels": (2, 2)}
    gan = lib.build("models", "ProgressiveGAN", SHAPE, 2, growth, **small)
    critic = lib.build("losses", "ProgressiveCritic", SHAPE, growth, **small)
    steps = {"critic_steps": settings.pop("critic_steps", 1)}
    loss = lib.package.losses.JensenShannon("x", critic, **steps)
    quick = {"compile": False} if hasattr(lib, "torch") else {}
    settings = {"num_steps": 6, **settings, **quick}
    run = lib.package.fit(gan.model, None, X, loss=loss, batch_size=4, progress=False, **settings)
    return run, counts(lib, run, gan, next(iter(loss.critics(run.term_state).values())))


def counts(lib: Any, run: Any, gan: Any, critic: Any) -> tuple[int, int]:
    """What model and critic have counted."""
    if hasattr(lib, "torch"):
        return int(gan.growth.count), int(critic.growth.count)
    (state,) = run.mutable_state["growth$state"].values()
    return int(state["count"]), int(critic.growth.count)


@pytest.mark.slow("numpyro")
def test_a_run(lib: Any, tmp_path: Path) -> None:
    """The count is that of the steps; draws are as coarse as the level says; a run that goes on is
    the same; evaluation counts nothing."""
    whole, counted = train(lib, num_steps=6)
    assert counted == (6, 5)
    drawn = [lib.package.generate(whole, size=3, seed=1)["x"] for _ in range(2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], doubled(drawn[0][..., ::2, ::2]))  # level 0.75
    assert abs(drawn[0] - doubled(drawn[0][..., ::4, ::4], 2)).max() > 1e-6
    train(lib, num_steps=3, checkpoint=tmp_path)
    again, counted = train(lib, num_steps=6, checkpoint=tmp_path)
    assert counted == (6, 5)
    np.testing.assert_array_equal(again.history.column("loss"), whole.history.column("loss"))
    again.save(tmp_path / "run")
    gan = lib.build("models", "ProgressiveGAN", SHAPE, 2, growing(2, 3, 4), hidden_channels=(2, 2))
    loaded = lib.package.load_run(tmp_path / "run", gan.model, None)
    np.testing.assert_array_equal(lib.package.generate(loaded, size=3, seed=1)["x"], drawn[0])


@pytest.mark.slow("numpyro")
def test_several_updates_of_the_critic_are_one_step(lib: Any) -> None:
    """What the model keeps moves once, and the critic has its level."""
    assert train(lib, num_steps=2, critic_steps=3)[1] == (2, 1)


def test_what_is_refused(lib: Any) -> None:
    build = lib.build
    critic = build("losses", "ProgressiveCritic", (1, 4, 4), 0.5, hidden_channels=(2,))
    generator = build("nn", "ProgressiveGenerator", 2, (1, 4, 4), hidden_channels=(2,))
    for call, message in (
        (lambda: critic(lib.array(np.zeros((3, 4, 4, 1)))), "of shape .1, 4, 4., channels first"),
        (lambda: generator(lib.array(np.zeros((3, 1)))), "expects a last dimension of 2"),
        (lambda: build("models", "ProgressiveGAN", (1, 9, 8), 2, 0.0), "must be divisible by 4"),
        (lambda: build("models", "ProgressiveGAN", (1, 8, 8), 2, growing(2, 0, 1)), "hold must be"),
        (lambda: build("models", "ProgressiveGAN", (1, 8, 8), 2, -1), "growth must be a number"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
