"""Weights, draws and the ArviZ export against exact values, on models of several kinds."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgm_core.diagnostics import summary
from tests.losses.test_any_model import eight_schools, prior_guide
from tests.losses.test_bounds import regression, regression_evidence
from tests.losses.toys import ELBO_AT_Q, IWAE_AT_Q, LOG_EVIDENCE, Q, conjugate, ones


def test_summary_of_the_conjugate_toy(backend: Any) -> None:
    """ELBO, L_10, JVI and k-hat; q has a smaller variance than 1 but a larger one than the
    posterior, so the weights are bounded: k <= 0 up to noise.
    """
    model, guide = conjugate(backend)
    log_w = backend.evaluation.log_weights(
        backend.run(model, guide, Q), ones(3000), num_particles=10
    )
    report = summary(log_w)
    assert log_w.shape == (10, 3000)
    assert report.mean("ELBO") == pytest.approx(ELBO_AT_Q, abs=4 * report.standard_error("ELBO"))
    assert report.mean("IWAE") == pytest.approx(
        IWAE_AT_Q[10], abs=4 * report.standard_error("IWAE")
    )
    for name in ("JVI-1", "JVI-2"):
        assert report.mean(name) == pytest.approx(LOG_EVIDENCE, abs=4 * report.standard_error(name))
    many = backend.evaluation.log_weights(
        backend.run(model, guide, Q), ones(20), num_particles=5000
    )
    assert np.mean(summary(many)["k-hat"]) < 0.2
    assert summary(many).mean("IWAE") == pytest.approx(LOG_EVIDENCE, abs=0.01)


def test_chunks_and_rows_do_not_change_the_distribution(backend: Any) -> None:
    model, guide = conjugate(backend)
    run = backend.run(model, guide, Q)
    small = backend.evaluation.log_weights(run, ones(600), num_particles=7, chunk_size=100)
    assert small.shape == (7, 600)
    assert small.mean() == pytest.approx(ELBO_AT_Q, abs=4 * small.std() / math.sqrt(small.size))
    assert np.unique(small.round(9)).size > 0.99 * small.size  # every draw is its own
    again = backend.evaluation.log_weights(run, ones(600), num_particles=7, chunk_size=100)
    np.testing.assert_array_equal(small, again)


def test_global_latents_give_weights_of_the_whole_data(backend: Any) -> None:
    x = np.linspace(-1.0, 2.0, 6)
    evidence, posterior = regression_evidence(x)
    model, guide = regression(backend, len(x))
    log_w = backend.evaluation.log_weights(
        backend.run(model, guide, posterior), x, num_particles=11
    )
    np.testing.assert_allclose(log_w, np.full((11, 1), evidence), atol=1e-9)
    with pytest.raises(ValueError, match=r"global latents \(w\).*pass all 6 data instead of 3"):
        backend.evaluation.log_weights(backend.run(model, guide, posterior), x[:3])


def test_eight_schools_evidence(backend: Any) -> None:
    model, y = eight_schools(backend)
    log_w = backend.evaluation.log_weights(
        backend.run(model, prior_guide(backend)), y, num_particles=40_000
    )
    report = summary(log_w)
    assert report["IWAE"][0] == pytest.approx(-31.31135, abs=0.05)


def several_sites(backend: Any) -> tuple[Callable, Callable]:
    """z ~ Normal(0, 1); x | z ~ Normal(z, 1), y | z ~ Normal(-z, 2), y missing (masked) where its
    flag is 0.
    """
    dist, np_ = backend.dist, backend.np

    def model(x: Any, y: Any, seen: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(backend.array(0.0), backend.array(1.0)))
            backend.sample("x", dist.Normal(z, backend.array(1.0)), obs=x)
            with backend.mask(seen > 0):
                backend.sample("y", dist.Normal(-z, backend.array(2.0)), obs=y)

    def guide(x: Any, y: Any, seen: Any) -> None:
        precision = 2.0 + 0.25 * seen
        with backend.plate("data", len(x)):
            backend.sample(
                "z", dist.Normal((x - 0.25 * y * seen) / precision, 1.0 / np_.sqrt(precision))
            )

    return model, guide


def test_several_observed_sites_and_missing_data(backend: Any) -> None:
    x, y, seen = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.0, -3.0]), np.array([1.0, 0.0, 1.0])
    model, guide = several_sites(backend)
    data = tuple(backend.array(a) for a in (x, y, seen))
    log_w = backend.evaluation.log_weights(backend.run(model, guide), *data, num_particles=4)
    for i in range(3):
        if seen[i]:
            cov = np.array([[2.0, -1.0], [-1.0, 5.0]])
            v = np.array([x[i], y[i]])
            exact = (
                -math.log(2 * math.pi)
                - 0.5 * np.linalg.slogdet(cov)[1]
                - 0.5 * v @ np.linalg.solve(cov, v)
            )
        else:
            exact = -0.5 * math.log(4 * math.pi) - x[i] ** 2 / 4
        np.testing.assert_allclose(log_w[:, i], exact, atol=1e-9)


def test_latents_reconstructions_and_generation(backend: Any) -> None:
    model, guide = several_sites(backend)
    run = backend.run(model, guide)
    data = tuple(
        backend.array(a)
        for a in (np.array([0.5, -1.0]), np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    )
    draws = backend.evaluation.latents(run, *data, num_draws=4000)["z"]
    assert draws.shape == (4000, 2)
    np.testing.assert_allclose(draws.mean(0), [0.25, -0.5], atol=0.06)
    np.testing.assert_allclose(
        backend.evaluation.latents(run, *data, means=True)["z"], [0.25, -0.5]
    )
    means = backend.evaluation.reconstruct(run, *data)
    np.testing.assert_allclose(means["x"], -means["y"])
    forward = backend.evaluation.generate(run, *data)
    assert set(forward) == {"z", "x", "y"}
    np.testing.assert_allclose(
        backend.evaluation.generate(run, *data, means=True)["x"], forward["z"]
    )
    assert np.abs(forward["x"] - np.array([0.5, -1.0])).min() > 0  # drawn anew
    given = {"z": np.array([3.0, -7.0])}
    moved = backend.evaluation.generate(run, *data, given=given, means=True)
    np.testing.assert_array_equal(moved["x"], given["z"])
    np.testing.assert_array_equal(moved["z"], given["z"])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_arviz_reads_what_is_exported(backend: Any, tmp_path: Path) -> None:
    import arviz as az

    model, guide = conjugate(backend)
    idata = backend.evaluation.to_arviz(
        backend.run(model, guide, Q), backend.array(np.linspace(-1, 1, 5)), num_draws=400
    )
    idata.to_netcdf(tmp_path / "posterior.nc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = az.from_netcdf(tmp_path / "posterior.nc")
        table = az.summary(read, var_names=["z"])
        assert table["mean"].between(0.3, 0.7).all()
        loo = az.loo(read, pointwise=True)
        assert loo.loo_i.shape == (5,)
        assert az.plot_pair(read, var_names=["z"], coords={"datum": [0, 1]}) is not None
    assert set(read.groups()) >= {
        "posterior",
        "log_likelihood",
        "posterior_predictive",
        "observed_data",
        "sample_stats",
    }
    assert read.sample_stats["khat"].shape == (5,)
    assert read.posterior_predictive["x"].shape == (1, 400, 5)
    assert abs(float(read.posterior_predictive["x"].var()) - (0.8 + 1.0)) < 0.2


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_arviz_with_global_latents(backend: Any) -> None:
    model, y = eight_schools(backend)
    idata = backend.evaluation.to_arviz(
        backend.run(model, prior_guide(backend)), backend.array(y), num_draws=50
    )
    assert idata.posterior["mu"].shape == (1, 50)
    assert idata.posterior["theta_trans"].shape == (1, 50, 8)
    assert idata.log_likelihood["y"].shape == (1, 50, 8)
    assert "khat" not in getattr(idata, "sample_stats", {})


def test_bad_arguments_are_refused(backend: Any) -> None:
    model, guide = conjugate(backend)
    run = backend.run(model, guide, Q)
    with pytest.raises(ValueError, match="num_particles must be an integer of at least 1, got 0"):
        backend.evaluation.log_weights(run, backend.array(ones(3)), num_particles=0)
    with pytest.raises(ValueError, match="num_draws must be an integer of at least 1, got 0"):
        backend.evaluation.latents(run, backend.array(ones(3)), num_draws=0)


def test_elbo_surgery_of_the_conjugate_toy(backend: Any) -> None:
    """x ~ Normal(0, 2) under the posterior Normal(x / 2, 1 / 2): q(z) is the prior up to the
    sample, and I = log(2) / 2; the parts sum to the mean KL.
    """
    dist = backend.dist
    model, _ = conjugate(backend)

    def guide(x: Any, size: int | None = None) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(x / 2, backend.array(math.sqrt(0.5))))

    x = math.sqrt(2) * np.random.default_rng(0).standard_normal(700)
    found = backend.evaluation.elbo_surgery(backend.run(model, guide), x)
    assert found.mutual_information == pytest.approx(0.5 * math.log(2), abs=0.06)
    assert found.marginal_kl == pytest.approx(0.0, abs=0.02)
    assert found.mean_kl == pytest.approx(
        np.mean(0.5 * (0.5 + x**2 / 4 - 1 + math.log(2))), abs=0.06
    )
    with pytest.raises(
        ValueError, match=r"all latents inside one plate of the data.* got \['w'\] outside"
    ):
        backend.evaluation.elbo_surgery(
            backend.run(*regression(backend, 6), {"loc": 0.4, "log_scale": -0.3}), x[:6]
        )
