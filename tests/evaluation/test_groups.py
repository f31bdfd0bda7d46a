"""Weights of the local latents given the globals, and of the globals with the local ones summed
out, for a guide that is the posterior, or too narrow by known factors."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dgm_core.diagnostics import psis_khat
from tests.backends import NumPyroBackend, PyroBackend
from tests.guides.test_amortized import chain, key
from tests.guides.test_composite import X, evidence, exact, levels


@pytest.fixture(params=[PyroBackend, NumPyroBackend], ids=["pyro", "numpyro"])
def b(request: pytest.FixtureRequest) -> Iterator[Any]:
    backend = request.param()
    with backend.double_precision():
        yield backend


@pytest.mark.slow("numpyro")
def test_the_posterior_has_equal_weights(b: Any) -> None:
    """Of the globals all are the evidence; of the local latents of a datum all are
    p(x_n | mu) at one mu."""
    run = b.run(levels(b), exact(b))
    found = b.evaluation.global_log_weights(run, X, num_particles=7, num_inner=3)
    assert found.shape == (7, 1)
    np.testing.assert_allclose(found, evidence(), rtol=1e-10)
    local = b.evaluation.local_log_weights(run, X, num_particles=6)
    assert local.shape == (6, 5)
    np.testing.assert_allclose(local, local[:1].repeat(6, 0), rtol=1e-10)
    ratio = local[0] + 0.5 * np.log(4 * np.pi)  # -(x_n - mu)^2 / 4
    mus = np.stack([X + 2 * (-ratio) ** 0.5, X - 2 * (-ratio) ** 0.5])
    best = min(np.abs(mus - mu).min(0).max() for mu in mus.ravel())
    assert best < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("narrow", ["global", "local"])
def test_a_guide_too_narrow_by_c_has_the_shape_one_minus_c_squared(b: Any, narrow: str) -> None:
    """With z = c e and log w = (1 - c^2) e^2 / 2, P(w > t) falls as t^(-1 / (1 - c^2))."""
    factors = {"outer": 0.5} if narrow == "global" else {"inner": 0.5}
    run = b.run(levels(b), exact(b, **factors))
    num, inner = (2000, 40) if narrow == "global" else (200, 40)
    of_globals = b.evaluation.global_log_weights(run, X, num_particles=num, num_inner=inner)
    of_locals = b.evaluation.local_log_weights(run, X, num_particles=8000)
    if narrow == "global":
        assert psis_khat(of_globals)[0] == pytest.approx(0.75, abs=0.2)
        assert np.isneginf(psis_khat(of_locals)).all()
    else:
        assert psis_khat(of_locals).mean() == pytest.approx(0.75, abs=0.12)
        assert np.std(of_globals) > 0.01  # noise of the local draws alone
        assert np.mean(of_globals) == pytest.approx(evidence(), abs=0.5)


@pytest.mark.slow("numpyro")
def test_what_has_no_such_weights(b: Any) -> None:
    g, d = b.guides, b.dist
    together = b.run(levels(b), g.JointGuide(levels(b), **key(b)))
    with pytest.raises(ValueError, match=r"local latents \['z'\] as entries of a vector"):
        b.evaluation.local_log_weights(together, X, num_particles=3)

    def flat(x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", len(x)):
            b.sample("x", d.Normal(mu, b.array(1.0)), obs=x)

    run = b.run(flat, g.JointGuide(flat, name="flat", **key(b)))
    with pytest.raises(ValueError, match="no latent sites inside the data plates"):
        b.evaluation.local_log_weights(run, X)
    parts = {"z1": g.Prior(), "z2": g.Prior()}
    run = b.run(chain(b), g.CompositeGuide(chain(b), parts, name="local", **key(b)))
    with pytest.raises(ValueError, match="nothing outside the data plates"):
        b.evaluation.global_log_weights(run, X)
    assert b.evaluation.local_log_weights(run, X, num_particles=4).shape == (4, 5)
