"""The streamed log-likelihood against weights that are held, and against closed forms."""

from typing import Any

import numpy as np
import pyro
import pytest

from dgm_core.diagnostics import summary
from tests.backends import PyroBackend
from tests.evaluation import closed_forms as c


def test_it_is_the_summary_of_all_weights(backend: Any) -> None:
    """In chunks of 300 draws for 2 of 3 data, with as many particles as wanted and no more."""
    b = backend
    run = b.run(*c.beta_binomial(b))
    report = b.evaluation.log_likelihood(
        run, c.SUCCESSES, num_particles=3000, chunk_size=600, progress=False
    )
    exact = c.log_beta_binomial()
    assert report.num_particles == 3000 and report["IWAE"].shape == (3,)
    assert (np.abs(report["IWAE"] - exact) < 4 * report["IWAE error"]).all()
    assert (report["IWAE error"] < 0.02).all() and (report["ELBO"] < report["IWAE"]).all()
    held = summary(b.evaluation.log_weights(run, c.SUCCESSES, num_particles=3000))
    for name in ("ELBO", "KL p"):  # of other draws
        np.testing.assert_allclose(report[name], held[name], atol=0.25)
    np.testing.assert_allclose(report["ESS"], held["ESS"], rtol=0.1)
    assert report.notes[-1] == "Held at once: 300 draws for 2 data."


def test_one_evidence_of_all_data(backend: Any) -> None:
    b = backend
    report = b.evaluation.log_likelihood(
        b.run(*c.gamma_poisson(b)), c.COUNTS, num_particles=4001, chunk_size=1000, progress=False
    )
    assert report["IWAE"] == pytest.approx(c.log_gamma_poisson(), abs=0.05)
    assert report.num_particles == 4001


def test_data_that_are_nan_are_named() -> None:
    """In place of what Pyro says of a value; NumPyro looks at none inside compiled code."""
    b, counts = PyroBackend(), np.where(np.arange(len(c.COUNTS)) == 2, np.nan, c.COUNTS)
    words = r"data holds NaN in row 2, which model or guide cannot take: leave .*\(ValueError: "
    run = b.run(*c.gamma_poisson(b))
    with pyro.validation_enabled(), pytest.raises(ValueError, match=words):
        b.evaluation.log_likelihood(run, counts, num_particles=20, vectorize=False, progress=False)
