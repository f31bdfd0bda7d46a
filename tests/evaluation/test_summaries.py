"""Posterior draws, quantiles, medians and resampled draws, against closed forms."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.evaluation import other_models as m


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Models that do not broadcast say so; that is tested elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def schools_guide(b: Any) -> Any:
    """Skewed, constrained, and with a site of its own that tau follows from."""
    d = b.dist

    def guide(sigma: Any, y: Any = None) -> None:
        b.sample("mu", d.Normal(b.array(3.0), 2.0))
        v = b.sample("log_tau", d.Normal(b.array(1.0), 0.5), infer={"is_auxiliary": True})
        b.sample("tau", d.Delta(b.np.exp(v), log_density=-v))
        with b.plate("schools", len(sigma)):
            b.sample("trans", d.Normal(b.array([0.1, 0.2, 0.3, -0.4]), 0.7))

    return guide


def test_draws_and_quantiles_of_the_model_s_sites(backend: Any) -> None:
    b, kind = backend, m.schools(backend)
    run = b.run(kind.model, schools_guide(b))
    draws = b.evaluation.sample_posterior(run, kind.data, num_draws=50)
    assert {name: x.shape for name, x in draws.items()} == {
        "mu": (50,),
        "tau": (50,),
        "trans": (50, 4),
        "theta": (50, 4),
    }
    theta = draws["mu"][:, None] + draws["tau"][:, None] * draws["trans"]
    np.testing.assert_allclose(draws["theta"], theta, rtol=1e-12)
    probs = (0.1, 0.5, 0.9)
    found = b.evaluation.quantiles(run, kind.data, probs=probs, num_draws=3000)
    exact = {
        "mu": stats.norm(3.0, 2.0).ppf(probs),
        "tau": np.exp(stats.norm(1.0, 0.5).ppf(probs)),
        "trans": stats.norm([0.1, 0.2, 0.3, -0.4], 0.7).ppf(np.array(probs)[:, None]),
    }
    for name, values in exact.items():
        np.testing.assert_allclose(found[name], values, atol=0.25, err_msg=name)
    middle = b.evaluation.median(run, kind.data, num_draws=3000)
    np.testing.assert_array_equal(middle["trans"], found["trans"][1])
    with pytest.raises(ValueError, match=r"probs must be a number in \[0, 1\], or a non-empty"):
        b.evaluation.quantiles(run, kind.data, probs=(0.5, 1.5))


def pair(b: Any, shift: float = 0.3, scale: float = 1.3) -> tuple[Any, Any]:
    """z_n ~ N(0, 1), x_n ~ N(z_n, 1/2), a function of z; the guide is off by shift and scale."""
    d = b.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(b.array(0.0), 1.0))
            b.deterministic("square", z**2)
            b.sample("x", d.Normal(z, 0.5**0.5), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("z", d.Normal(2 * x / 3 + shift, scale / 3**0.5))

    return model, guide


def test_resampled_draws_are_those_of_the_posterior(backend: Any) -> None:
    """Datum by datum: moments of Normal(2 x / 3, 1/3) from a guide that is wrong in both."""
    b, x = backend, np.array([0.6, -1.5, 2.4])
    run = b.run(*pair(b))
    found = b.evaluation.resample(run, x, num_draws=2000, num_particles=8000)
    assert found.draws["z"].shape == found.draws["square"].shape == (2000, 3)
    np.testing.assert_array_equal(found.draws["square"], found.draws["z"] ** 2)
    assert (found.khat < 0.5).all() and found.ess.shape == (3,)
    np.testing.assert_allclose(found.draws["z"].mean(0), 2 * x / 3, atol=0.06)
    np.testing.assert_allclose(found.draws["z"].var(0), 1 / 3, rtol=0.12)
    correlation = np.corrcoef(found.draws["z"].T)
    assert np.abs(correlation - np.eye(3)).max() < 0.1


def test_with_global_latents_all_sites_are_resampled_together(backend: Any) -> None:
    """The deterministic site still follows, and the means are those of the weights."""
    b, kind = backend, m.network(backend)
    run = b.run(kind.model, kind.guide)  # exact: nothing is lost
    found = b.evaluation.resample(run, kind.data, num_draws=100, num_particles=100)
    assert found.khat.tolist() == [-np.inf] and found.ess[0] == pytest.approx(100)
    weight = found.draws["a.weight"]
    assert len(np.unique(weight[:, 0])) == 100  # each particle once
    schools = m.schools(b)
    run = b.run(schools.model, schools_guide(b))
    found = b.evaluation.resample(run, schools.data, num_draws=50, num_particles=100, force=True)
    draws = found.draws
    theta = draws["mu"][:, None] + draws["tau"][:, None] * draws["trans"]
    np.testing.assert_allclose(draws["theta"], theta, rtol=1e-12)


def test_bad_weights_are_refused(backend: Any) -> None:
    b, x = backend, np.array([0.6, -1.5, 2.4])
    run = b.run(*pair(b, shift=0.0, scale=0.35))
    words = r"k-hat is .*, above 0.7 or NaN in [123] of 3 weights.*force=True goes on"
    with pytest.raises(ValueError, match=words) as caught:
        b.evaluation.resample(run, x, num_particles=2000)
    assert (caught.value.khat > 0.7).any()
    found = b.evaluation.resample(run, x, num_draws=10, num_particles=2000, force=True)
    assert found.draws["z"].shape == (10, 3) and (found.khat > 0.7).any()


@pytest.mark.parametrize(
    "make",
    [
        m.schools,
        m.flat_regression,
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in (m.volatility, m.crossed, m.factorization, m.missing_entries, m.supports)
        ),
    ],
    ids=lambda kind: kind.__name__,
)
def test_models_of_other_people(backend: Any, make: Any) -> None:
    """Crossed plates, dynamic supports, missing entries, models that do not broadcast."""
    b, kind = backend, make(backend)
    run = b.run(kind.model, kind.guide, {"loc": 0.3})
    draws = b.evaluation.sample_posterior(run, kind.data, num_draws=3)
    found = b.evaluation.resample(run, kind.data, num_draws=3, num_particles=30, force=True)
    assert found.khat.shape == (kind.weights,)
    assert set(draws) == set(found.draws) == set(kind.posterior)
    for name, dims in kind.posterior.items():
        assert draws[name].shape == found.draws[name].shape
        assert draws[name].shape[0] == 3 and draws[name].ndim == 1 + len(dims)
        assert np.isfinite(draws[name]).all() and np.isfinite(found.draws[name]).all()
