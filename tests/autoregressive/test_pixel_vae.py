"""PixelVAE: a GatedPixelCNN as the likelihood of a decoder's map, or as the prior of a code."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import NumPyroLibrary, PyroLibrary

SIZES = {"hidden_channels": (3, 4), "features": 6, "pixel_features": 2}
SMALL = {"hidden_channels": 3, "num_layers": 2}


def pixel_vae(lib: Any) -> Any:
    """A vector z of 6 numbers is drawn as a map of 2x3 pixels, one after the other."""
    build, conditionals = lib.build, lib.package.conditionals
    normal = partial(conditionals.DiagonalNormal, min_scale=0.1)
    prior = build("conditionals", "GatedPixelCNN", (1, 2, 3), normal, **SMALL)
    return build(
        "models",
        "ConvVAE",
        (1, 8, 8),
        6,
        **SIZES,
        prior=conditionals.Reshaped(prior, 6),
        likelihood=build(
            "conditionals", "GatedPixelCNN", (1, 8, 8), context_shape=(2, 8, 8), **SMALL
        ),
    )


@pytest.mark.long("[numpyro")
@pytest.mark.parametrize("lib", [PyroLibrary(), NumPyroLibrary()], ids=["pyro", "numpyro"])
@pytest.mark.slow("numpyro")
def test_it_is_trained_and_evaluated_as_any_other_model(lib: Any) -> None:
    vae, package = pixel_vae(lib), lib.package
    x = np.random.default_rng(0).integers(0, 2, (24, 1, 8, 8)).astype(np.float32)
    settings = {"compile": False} if isinstance(lib, PyroLibrary) else {}
    before = {path: weight.copy() for path, weight in lib.weights(vae).items()}
    run = package.fit(
        vae.model,
        vae.guide,
        x,
        loss=package.losses.ELBO(),
        num_steps=2,
        batch_size=12,
        progress=False,
        **settings,
    )
    assert np.isfinite(run.history.last["ELBO"])
    if isinstance(lib, PyroLibrary):
        moved = {path for path, w in lib.weights(vae).items() if np.any(w != before[path])}
        assert moved == before.keys()
    report = package.evaluation.log_likelihood(run, x[:3], num_particles=4, progress=False)
    assert np.isfinite(report["IWAE"]).all()
    drawn = package.evaluation.prior_predictive(run, size=5)
    (images,) = [value for name, value in drawn.items() if name == "x"]
    assert images.shape[-4:] == (5, 1, 8, 8)
    assert set(np.unique(images)) <= {0.0, 1.0}


@pytest.mark.parametrize("lib", [PyroLibrary(), NumPyroLibrary()], ids=["pyro", "numpyro"])
def test_a_likelihood_of_another_map_is_refused(lib: Any) -> None:
    pixels = lib.build("conditionals", "GatedPixelCNN", (1, 8, 8), context_shape=(3, 8, 8), **SMALL)
    with pytest.raises(ValueError, match=r"likelihood .*\(2, 8, 8\).*\(3, 8, 8\)"):
        lib.build("models", "ConvVAE", (1, 8, 8), 6, **SIZES, likelihood=pixels)
