"""What each number says of one trained model, in the order that theory has them in."""

import importlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dgm_core.data import load
from dgm_core.diagnostics import iwae_bound, summary
from tests.mcmc.faces import kernels

pytestmark = pytest.mark.slow
FEW, STEPS, CHAINS = 24, 50, 16


def in_standard_errors(differences: np.ndarray, errors: Any = 0.0) -> float:
    """The mean of differences of the same data, in standard errors of the data and the chains."""
    num = len(differences)
    own = np.hypot(differences.std(ddof=1) / num**0.5, np.sqrt(np.sum(errors**2)) / num)
    return float(differences.mean() / own)


def test_bounds_of_a_trained_vae(backend: Any) -> None:
    """ELBO < IWAE-10 < JVI-1 < JVI-2 from the same weights, IWAE-2 < AIS from below <= AIS from
    above on digits and, where the upper bound is one, on images that the model makes."""
    package = importlib.import_module(f"{backend.name}_dgm")
    digits = load("digits")
    train, test = ((x > 0.5).astype(np.float32) for x in (digits.train, digits.test))
    if backend.name == "pyro":
        backend.torch.manual_seed(0)
        vae = package.VAE(64, 8, hidden=(40,))
    else:
        vae = package.VAE(64, 8, hidden=(40,), key=backend.jax.random.key(0))
    options = {"num_epochs": 40, "progress": False, "optim": package.training.Adam(3e-3)}
    run = package.fit(vae.model, vae.guide, train, **options)
    log_w = np.asarray(package.log_weights(run, test, num_particles=1000))
    parts = [summary(part) for part in np.split(log_w, 100)]
    names = ("ELBO", "IWAE", "JVI-1", "JVI-2")
    found = {name: np.mean([part[name] for part in parts], 0) for name in names}
    for below, above in pairwise(names):
        assert in_standard_errors(found[above] - found[below]) > 5, (below, above)
    pairs = iwae_bound(log_w.reshape(2, 500, -1)).mean(0)  # IWAE-2

    kernel, options = kernels(backend).HMC(0.1, 5), {"steps": STEPS, "chains": CHAINS}
    evaluation, few = package.evaluation, test[:FEW]
    bounds = evaluation.ais(run, few, kernel=kernel, progress=False, **options)
    assert in_standard_errors(bounds.lower - pairs[:FEW], bounds["AIS error"]) > 3
    many = evaluation.log_likelihood(run, few, num_particles=3000, progress=False)
    errors = np.hypot(many["IWAE error"], bounds["AIS error"])
    assert in_standard_errors(bounds.lower - many["IWAE"], errors) > -3
    both = evaluation.bdmc(run, few, kernel=kernel, progress=False, **options)
    for sides in (bounds, both):
        errors = np.hypot(sides["AIS error"], sides["reverse AIS error"])
        assert in_standard_errors(sides.gap, errors) > -3
        assert sides.gap.mean() < 0.5
