"""A GAN with the default critic finds all modes: one cheap seed of benchmarks/modes.py."""

from typing import Any

import numpy as np
import pytest

from dgm_core.data.toys import eight_gaussians
from dgm_core.samples.quality import mode_counts
from tests.losses.training import build, fit, package

pytestmark = pytest.mark.slow


def test_eight_gaussians(backend: Any) -> None:
    dgm = package(backend)
    gan = build(backend, dgm.GAN, 2, 2)
    loss, optim = (
        dgm.losses.JensenShannon("x", regularizer=dgm.losses.R1()),
        dgm.Adam(1e-3, betas=(0.5, 0.99)),
    )
    x = eight_gaussians(40 * 256).astype(float)
    run = fit(
        backend,
        gan.model,
        None,
        x,
        loss=loss,
        optim=optim,
        batch_size=256,
        num_epochs=20,
        average=0.99,
    )
    angles = 2 * np.pi * np.arange(8) / 8
    counts = mode_counts(
        dgm.generate(run, size=4000)["x"],
        4 / np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], -1),
        sd=0.5 / np.sqrt(2),
        least=100,
    )
    assert counts.found == 8 and counts.share >= 0.85
