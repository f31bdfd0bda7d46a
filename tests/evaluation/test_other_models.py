"""Models of other people: weights beside the stock bound, predictions, and the way into ArviZ."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.evaluation import other_models as m

OWN_BITS = True  # the quick ones have no Poisson draws

PARAMS = {"loc": 0.3}
QUICK = (m.schools, m.flat_regression)
SLOW = (
    m.hidden_markov,
    m.volatility,
    m.marginalized_mixture,
    m.crossed,
    m.process,
    m.network,
    m.factorization,
    m.missing_entries,
    m.factor_mixture,
    m.supports,
)
IMPROPER = (m.flat_regression, m.volatility)

each_kind = pytest.mark.parametrize(
    "make",
    [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)],
    ids=lambda kind: kind.__name__,
)


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Models that do not broadcast say so; that is tested elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stock_bound(b: Any, kind: m.Kind, num_particles: int) -> float:
    """The backend's own Trace_ELBO."""
    data = {name: b.np.asarray(np.nan_to_num(x)) for name, x in kind.data.items()}
    if b.name == "pyro":
        loss = b.pyro.infer.Trace_ELBO(num_particles=num_particles)
        return -loss.loss(kind.model, kind.guide, **data)
    from numpyro.infer import Trace_ELBO

    values = {name: b.array(x) for name, x in PARAMS.items()}
    loss = Trace_ELBO(num_particles=num_particles)
    return -float(loss.loss(b.jax.random.key(0), values, kind.model, kind.guide, **data))


@each_kind
def test_weights_predictions_and_exports(backend: Any, make: Any) -> None:
    b = backend
    kind = make(b)
    run = b.run(kind.model, kind.guide, PARAMS)
    log_w = b.evaluation.log_weights(run, kind.data, num_particles=100)
    assert log_w.shape == (100, kind.weights)
    totals = log_w.sum(1)
    error = max(totals.std() * np.sqrt(1 / 100 + 1 / 60), 1e-5)
    assert stock_bound(b, kind, 60) == pytest.approx(totals.mean(), abs=5 * error)

    predicted = b.evaluation.predict(run, kind.new, num_draws=3)
    assert {name: x.shape for name, x in predicted.items()} == {
        name: (3, *shape) for name, shape in kind.predicted.items()
    }
    idata = b.evaluation.to_arviz(run, kind.data, num_draws=4, num_particles=30)
    for group, dims in (("posterior", kind.posterior), ("log_likelihood", kind.observed)):
        found = idata[group] if dims else {}
        assert {name: values.dims[2:] for name, values in found.items()} == dims, group
        assert all(np.isfinite(values).all() for values in found.values())


@each_kind
def test_prior_predictive(backend: Any, make: Any) -> None:
    kind = make(backend)
    if make in IMPROPER:
        with pytest.raises(
            ValueError,
            match=r"Site '\w+' has a ImproperUniform distribution, which cannot be drawn",
        ):
            backend.evaluation.prior_predictive(kind.model, kind.new, num_draws=3)
        return
    drawn = backend.evaluation.prior_predictive(kind.model, kind.new, num_draws=3)
    assert {name: x.shape[1:] for name, x in drawn.items()} == kind.predicted


@pytest.mark.slow("numpyro")
def test_new_groups_under_a_stock_guide(backend: Any) -> None:
    """Its local draws are of other schools, and of another number: they are not for these."""
    if backend.name == "pyro":
        from pyro.infer.autoguide import AutoNormal

        from pyro_dgm import fit
    else:
        from numpyro.infer.autoguide import AutoNormal

        from numpyro_dgm import fit
    kind = m.schools(backend)
    run = fit(kind.model, AutoNormal(kind.model), kind.data, num_steps=1, progress=False)
    predicted = backend.evaluation.predict(run, kind.new, num_draws=3)
    assert {name: x.shape[1:] for name, x in predicted.items()} == kind.predicted


def gaussian(x: np.ndarray, covariance: np.ndarray) -> float:
    return -0.5 * (
        x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )


@pytest.mark.slow("numpyro")
def test_exact_evidence_of_a_network(backend: Any) -> None:
    """Under the exact posterior every weight is the evidence."""
    kind = m.network(backend)
    x, a, c = kind.data.values()
    exact = sum(
        gaussian(out, 0.25 * np.eye(5) + inputs @ inputs.T)
        for inputs, out in ((x, a), (np.stack([a, x[:, 0]], -1), c))
    )
    run = backend.run(kind.model, kind.guide)
    log_w = backend.evaluation.log_weights(run, kind.data, num_particles=7)
    np.testing.assert_allclose(log_w, exact, rtol=1e-9)


def test_exact_evidence_of_missing_entries(backend: Any) -> None:
    kind = m.missing_entries(backend)
    exact = [
        gaussian(x[seen], 0.25 * np.eye(seen.sum()) + m.W[:, seen].T @ m.W[:, seen])
        for x, seen in zip(kind.data["x"], kind.data["seen"])
    ]
    run = backend.run(kind.model, kind.guide)
    log_w = backend.evaluation.log_weights(run, kind.data, num_particles=7)
    np.testing.assert_allclose(log_w, np.broadcast_to(exact, (7, 6)), rtol=1e-9)
