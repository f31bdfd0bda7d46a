"""What images given images compose with: a critic that sees both, saving, draws for new images."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.faces import NumPyroFace, PyroFace

rng = np.random.default_rng(0)
X, Y = (rng.standard_normal((6, 1, 4, 4)).astype(np.float32) for _ in range(2))


def product_critic(face: Any) -> Any:
    """w times the inner product of x and y, w = 2 at first."""
    if face.name == "pyro":
        import torch

        class Critic(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.tensor(2.0))

            def forward(self, both: Any) -> Any:
                return self.weight * (both[:, :16] * both[:, 16:]).sum(1)

        return Critic()
    import equinox as eqx
    import jax.numpy as jnp

    class JaxCritic(eqx.Module):
        weight: Any

        def __call__(self, both: Any) -> Any:
            return self.weight * (both[:, :16] * both[:, 16:]).sum(1)

    return JaxCritic(jnp.asarray(2.0))


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize("face", [PyroFace, NumPyroFace], ids=["pyro", "numpyro"])
def test_a_critic_sees_pairs_and_new_images_are_drawn_from_the_prior(
    face: Any, tmp_path: Path
) -> None:
    """The logged mean of the critic over the data is that of their pairs; a run that was saved
    draws what the run drew, other images for another seed.
    """
    face = face()
    package = importlib.import_module(f"{face.name}_dgm")
    key = {}
    if face.name == "numpyro":
        import jax

        key = {"key": jax.random.key(0)}
    model = package.models.ImageToImage(
        (1, 4, 4), z_dim=2, channels=(2,), pixel_features=2, features=3, **key
    )
    critic = package.losses.JensenShannon(("x", "y"), product_critic(face))
    run = face.quiet(
        model.model, model.guide, (X, Y), loss=package.losses.ELBO() + critic, num_steps=1
    )
    row = run.history[-1]
    np.testing.assert_allclose(
        row["JensenShannon(x, y)/real"], 2 * (X * Y).sum((1, 2, 3)).mean(), rtol=1e-5
    )
    assert np.isfinite(row["ELBO"])
    predict = package.evaluation.predict
    draws = predict(run, None, Y, num_draws=3)
    assert {name: x.shape for name, x in draws.items()} == {
        "y": (3, 6, 1, 4, 4),
        "z": (3, 6, 2),
        "x": (3, 6, 1, 4, 4),
    }
    np.testing.assert_array_equal(draws["y"][1], Y)
    assert abs(draws["z"].mean()) < 1.5 and (draws["z"][0] != draws["z"][1]).all()
    run.save(tmp_path / "run")
    again = package.training.load_run(tmp_path / "run", model.model, model.guide)
    np.testing.assert_array_equal(predict(again, None, Y, num_draws=3)["x"], draws["x"])
    assert (predict(again, None, Y, num_draws=3, seed=1)["x"] != draws["x"]).all()
