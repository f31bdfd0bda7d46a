"""What critics and generators keep from step to step: moved once in an update, left alone in
evaluation, saved and resumed.
"""

from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgm_core.spectral import matrix_norm, start_vector
from tests.contracts.libraries import NumPyroLibrary

X = np.random.default_rng(0).normal(0.5, 0.3, (24, 1, 4, 4))


def pair(lib: Any) -> Any:
    """z ~ Normal(0, I), x = A z, A with spectral norm one."""
    network = lib.build("nn", "SpectralNorm", lib.build("nn", "Linear", 2, 16))
    register = lib.package.nn.register
    given = import_module(f"{lib.package.__name__}.models.parts").given

    def model(x: Any = None, size: int = 1) -> Any:
        net = register("net", network)
        with lib.plate("data", size if x is None else len(x)):
            z = lib.sample("z", lib.build("conditionals", "StandardNormal", 2)())
            image = net(z).reshape(*z.shape[:-1], 1, 4, 4)
            return lib.sample("x", given(image, 3), obs=x)

    return network, model


def train(lib: Any, model: Any, critic: Any, **settings: Any) -> tuple[Any, Any]:
    adam = lib.package.Adam
    loss = lib.package.losses.Hinge(
        "x", critic, critic_steps=2, optim=adam(settings.pop("rate", 1e-3)), past_fakes=7
    )
    quick = {"compile": False} if hasattr(lib, "torch") else {}
    settings = {"optim": adam(0.01), "num_epochs": 4, **settings, **quick}
    run = lib.package.fit(model, None, X, loss=loss, batch_size=12, progress=False, **settings)
    return run, next(iter(loss.critics(run.term_state).values()))


def kept(lib: Any, critic: Any) -> dict[str, np.ndarray]:
    parts = {"first": critic.blocks[0].first, "skip": critic.blocks[0].skip, "out": critic.output}
    return {name: lib.numpy(part.u) for name, part in parts.items()}


@pytest.mark.slow("numpyro")
def test_a_run(lib: Any, x64: None, tmp_path: Path) -> None:
    """Power steps in each update of the critic, and in each step of the model; the norms are
    exact after training; a resumed run is the same; evaluation leaves all of it alone."""

    def critic() -> Any:
        return lib.build("losses", "ResidualCritic", (1, 4, 4), hidden_channels=(2,))

    whole, trained = train(lib, pair(lib)[1], critic(), num_epochs=40)
    for part in (trained.blocks[0].first, trained.blocks[0].second, trained.output):
        weight = lib.numpy(part.layer.weight)
        found = lib.numpy(part.estimate(part.u)[0])
        assert float(found) == pytest.approx(matrix_norm(weight), rel=1e-3)
    train(lib, pair(lib)[1], critic(), num_epochs=20, checkpoint=tmp_path)
    again, resumed = train(lib, pair(lib)[1], critic(), num_epochs=40, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.history.column("loss"), whole.history.column("loss"))
    for name, u in kept(lib, resumed).items():
        np.testing.assert_array_equal(u, kept(lib, trained)[name])
    again.save(tmp_path / "run")
    model = pair(lib)[1]
    loaded = lib.package.load_run(tmp_path / "run", model, None)
    drawn = [lib.package.generate(run, size=3, seed=1)["x"] for run in (again, loaded, loaded)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], drawn[2])  # and the norm has not moved on


@pytest.mark.slow
def test_norms_follow_weights_that_move_fast(lib: Any, x64: None) -> None:
    """Within 1e-3 of the exact ones; one step in an update left one of them .05 below here."""
    critic = lib.build("losses", "ResidualCritic", (1, 4, 4), hidden_channels=(12,), num_flat=1)
    _, trained = train(lib, pair(lib)[1], critic, num_epochs=30, rate=0.03)
    for block in trained.blocks:
        for part in (block.first, block.second):
            found = float(lib.numpy(part.estimate(part.u)[0]))
            assert found == pytest.approx(matrix_norm(lib.numpy(part.layer.weight)), rel=1e-3)


@pytest.mark.slow("numpyro")
def test_steps_in_an_update(lib: Any, x64: None) -> None:
    """Of weights that stay: as many as the critic had updates, of 1024 each. The second singular
    value is close enough to the first for the number to be seen."""
    critic = lib.build("losses", "ResidualCritic", (1, 4, 4), hidden_channels=(2,))
    kernel, ratio = np.zeros((2, 2, 3, 3)), 1 - 1e-4
    kernel[0, 0, 1, 1], kernel[1, 1, 0, 2] = 1.5, 1.5 * ratio
    if hasattr(lib, "torch"):
        critic.blocks[0].second.layer.weight.data = lib.array(kernel)
    else:
        where = attrgetter("second.layer.weight")
        tree_at = import_module("equinox").tree_at
        critic = tree_at(lambda own: where(own.blocks[0]), critic, lib.array(kernel))
    u = start_vector((2,))
    np.testing.assert_allclose(lib.numpy(critic.blocks[0].second.u), u)
    _, trained = train(lib, pair(lib)[1], critic, num_epochs=1, rate=1e-300)
    u[1] *= ratio ** (2 * 1024 * 2 * 2)  # batches, critic_steps
    u /= np.sqrt((u**2).sum())
    np.testing.assert_allclose(lib.numpy(trained.blocks[0].second.u), u, rtol=1e-9)


def test_states_are_found_by_their_paths() -> None:
    """Compiled functions give dicts back sorted, "10" before "2"."""
    from numpyro_dgm.nn.register import initial_states, with_states

    lib = NumPyroLibrary()
    parts = [lib.build("nn", "SpectralNorm", lib.build("nn", "Linear", 2, n)) for n in range(1, 13)]
    states = dict(sorted(initial_states(parts).items()))
    assert [len(part.u) for part in with_states(parts, states)] == list(range(1, 13))
