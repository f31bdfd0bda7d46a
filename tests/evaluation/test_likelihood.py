"""The streamed log-likelihood against weights that are held, and against closed forms."""

from functools import partial
from typing import Any

import numpy as np
import pyro
import pytest
from scipy.stats import multivariate_normal

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


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize("sideways", [False, True])
def test_data_that_cannot_be_cut_into_rows(backend: Any, sideways: bool) -> None:
    """A plate of a size of its own, and one along the columns: held at once, whatever the chunk.

    The guide is the exact posterior, so that all weights are the evidence.
    """
    b, d, y = backend, backend.dist, np.random.default_rng(0).normal(size=(5, 3))
    num, axis = (3, 0) if sideways else (5, 1)

    def model(y: Any) -> None:
        with b.plate("data", num):
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            each = z[..., None] + b.array(np.zeros(y.shape[axis]))
            b.sample("y", d.Normal(each, b.array(1.0)).to_event(1), obs=y.T if sideways else y)

    def guide(y: Any) -> None:
        size = 1 + y.shape[axis]
        with b.plate("data", num):
            b.sample("z", d.Normal(y.sum(axis) / size, b.array(size**-0.5)))

    run, values = b.run(model, guide), y.T if sideways else y
    exact = multivariate_normal(cov=np.eye(values.shape[1]) + 1.0).logpdf(values)
    log_w = b.evaluation.log_weights(run, b.array(y), num_particles=4, chunk_size=1)
    np.testing.assert_allclose(log_w, np.broadcast_to(exact, (4, num)), rtol=1e-9)
    options = {"num_particles": 4, "progress": False}
    report = b.evaluation.log_likelihood(run, b.array(y), chunk_size=3, **options)
    np.testing.assert_allclose(report["IWAE"], exact, rtol=1e-9)
    assert report.notes[-1].endswith("for all data.")


@pytest.mark.slow("numpyro")
def test_a_scale_is_told_of(backend: Any) -> None:
    """It counts, and what it leads to is not log p(x); that of a subsample is none."""
    b, d, x = backend, backend.dist, backend.array(np.array([0.3, -1.0]))

    def model(x: Any, weight: float = 1.0) -> None:
        with b.plate("data", 8, subsample_size=len(x)):
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            with b.scale(weight):
                b.sample("x", d.Normal(z, b.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", 8, subsample_size=len(x)):
            b.sample("z", d.Normal(x / 2, b.array(0.5**0.5)))

    plain, halved = b.run(model, guide), b.run(partial(model, weight=0.5), guide)
    evaluation, options = b.evaluation, {"num_particles": 30}
    for run, wanted in ((plain, False), (halved, True)):
        notes = [
            evaluation.log_likelihood(run, x, progress=False, **options).notes,
            summary(evaluation.log_weights(run, x, **options)).notes,
            evaluation.ais(run, x, steps=2, chains=2, progress=False).notes,
        ]
        words = "A scale weighs sites ['x'], and counts"
        assert [any(note.startswith(words) for note in said) for said in notes] == [wanted] * 3


def test_data_that_are_nan_are_named() -> None:
    """In place of what Pyro says of a value; NumPyro looks at none inside compiled code."""
    b, counts = PyroBackend(), np.where(np.arange(len(c.COUNTS)) == 2, np.nan, c.COUNTS)
    words = r"data holds NaN in row 2, which model or guide cannot take: leave .*\(ValueError: "
    run = b.run(*c.gamma_poisson(b))
    with pyro.validation_enabled(), pytest.raises(ValueError, match=words):
        b.evaluation.log_likelihood(run, counts, num_particles=20, vectorize=False, progress=False)
