"""Draws from posteriors: the density against closed forms, the draws against quadrature."""

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.backends import PyroBackend
from tests.evaluation import other_models as m
from tests.evaluation.posteriors import density

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
SCHOOLS = {"sigma": SIGMA, "y": Y}
PROBS = np.array([0.25, 0.5, 0.9])


def exact_schools() -> dict[str, Any]:
    """Means and standard deviations of mu and the first effect and quantiles of tau, by quadrature
    over tau; given tau all is normal."""
    log_tau = np.linspace(np.log(1e-3), np.log(300), 4000)
    tau = np.exp(log_tau)[:, None]
    precision = 1 / (SIGMA**2 + tau**2)
    total = 1 / 25 + precision.sum(1)
    mean = (precision * Y).sum(1) / total
    weight = stats.halfcauchy(scale=5).logpdf(tau[:, 0]) + log_tau - 0.5 * np.log(total)
    weight += 0.5 * np.log(precision).sum(1) - 0.5 * (precision * Y**2).sum(1)
    weight = np.exp(weight + 0.5 * total * mean**2)
    weight /= weight.sum()
    pull = tau[:, 0] ** 2 / (tau[:, 0] ** 2 + SIGMA[0] ** 2)
    first = mean + pull * (Y[0] - mean)
    spread = pull * SIGMA[0] ** 2 + (1 - pull) ** 2 / total

    def moments(center: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
        middle = weight @ center
        return middle, np.sqrt(weight @ (variance + center**2) - middle**2)

    quantiles = np.interp(PROBS, np.cumsum(weight), tau[:, 0])
    return {"mu": moments(mean, 1 / total), "theta": moments(first, spread), "tau": quantiles}


def check_schools(chains: Any) -> None:
    """Means and sds of mu and the first effect; of the heavy-tailed tau the quantiles."""
    exact = exact_schools()
    for name, values in (("mu", chains["mu"]), ("theta", chains["theta"][..., 0])):
        mean, sd = exact[name]
        assert values.mean() == pytest.approx(mean, abs=0.3 * sd), name
        assert values.std() == pytest.approx(sd, rel=0.3), name
    below = [(chains["tau"] < q).mean() for q in exact["tau"]]
    np.testing.assert_allclose(below, PROBS, atol=0.1)


@pytest.mark.slow
def test_eight_schools(backend: Any) -> None:
    """The deterministic site as well; the guide's draws are where the chains start."""
    kind = m.schools(backend)
    run = backend.run(kind.model, kind.guide, {"loc": 4.0})
    chains = backend.evaluation.nuts(
        kind.model, SCHOOLS, start=run, num_draws=400, num_warmup=200, num_chains=2, seed=1
    )
    assert chains["theta"].shape == (2, 400, 8)
    assert list(chains) == ["mu", "tau", "trans", "theta"]
    assert chains.rhat() < 1.05
    assert chains.diverging.mean() < 0.02
    check_schools(chains)
    idata = chains.to_arviz()
    assert idata.posterior["theta"].dims == ("chain", "draw", "schools")
    assert idata.sample_stats["diverging"].shape == (2, 400)


def simplex(b: Any) -> Any:
    """The bound of one latent is another; with the factor, both are uniform on a triangle."""

    def model() -> None:
        first = b.sample("first", b.dist.Uniform(b.array(0.0), 1.0))
        b.sample("second", b.dist.Uniform(0.0, 1 - first))
        b.factor("jacobian", b.np.log(1 - first) + 0.7 * first)

    return model


def test_a_bound_that_depends_on_another_site(backend: Any) -> None:
    """u = logit(a), v = logit(b / (1 - a)): the density is exp(.7 a) |d(a, b) / d(u, v)|."""
    value, gradient, values = density(backend, simplex(backend), (), np.array([0.4, -1.1]))
    a, share = 1 / (1 + np.exp(-0.4)), 1 / (1 + np.exp(1.1))
    exact = 0.7 * a + np.log(a * (1 - a)) + np.log((1 - a) * share * (1 - share))
    assert value == pytest.approx(exact, rel=1e-12)
    assert values["second"] == pytest.approx((1 - a) * share, rel=1e-12)
    np.testing.assert_allclose(gradient, [0.7 * a * (1 - a) + 1 - 3 * a, 1 - 2 * share], rtol=1e-10)


def test_what_a_mask_takes_out_is_standard_normal(backend: Any) -> None:
    b, seen = backend, np.array([True, False, True])

    def model(x: Any) -> None:
        with b.plate("data", 3), b.mask(b.np.asarray(seen)):
            z = b.sample("z", b.dist.LogNormal(b.array(0.5), 2.0))
            b.sample("x", b.dist.Normal(z, 1.0), obs=x)

    x, u = np.array([1.0, np.nan, -2.0]), np.array([0.3, 1.7, -0.4])
    value, gradient, _ = density(b, model, (x,), u)
    z = np.exp(u)
    parts = stats.norm(0.5, 2.0).logpdf(u) + stats.norm(z, 1.0).logpdf(x)
    assert value == pytest.approx(parts[seen].sum() - 0.5 * u[1] ** 2, rel=1e-12)
    assert gradient[1] == -1.7 and np.isfinite(gradient).all()


def test_through_an_exact_guide_the_posterior_is_standard_normal(backend: Any) -> None:
    """A network of two conditionals that see each other's draws, and the evidence as constant."""
    kind = m.network(backend)
    e = np.random.default_rng(0).normal(size=(2, 4))
    (first, gradient, values), (second, _, _) = (
        density(backend, kind.model, (kind.data,), row, guide=kind.guide) for row in e
    )
    half = 0.5 * (e**2).sum(1)
    assert first + half[0] == pytest.approx(second + half[1], rel=1e-12)
    np.testing.assert_allclose(gradient, -e[0], rtol=1e-9)
    log_w = backend.evaluation.log_weights(
        backend.run(kind.model, kind.guide), kind.data, num_particles=1
    )
    assert first + half[0] + 2 * np.log(2 * np.pi) == pytest.approx(log_w[0, 0], rel=1e-9)
    assert values.keys() == {"a.weight", "c.weight"}


def vector_guide(b: Any) -> Any:
    """A vector that two constrained sites follow from, and a hierarchy on top."""
    d = b.dist

    def guide(sigma: Any, y: Any = None) -> None:
        loc, factor = b.array([4.0, 1.0]), b.array([[2.0], [0.3]])
        vector = d.LowRankMultivariateNormal(loc, factor, b.array([0.5, 0.1]))
        v = b.sample("vector", vector, infer={"is_auxiliary": True})
        b.sample("mu", d.Delta(v[0], log_density=0.0 * v[0]))
        tau = b.sample("tau", d.Delta(b.np.exp(v[1]), log_density=-v[1]))
        with b.plate("schools", len(sigma)):
            b.sample("trans", d.Normal(0.1 * tau, 0.9))

    return guide


def test_through_a_vector_that_others_follow_from(backend: Any) -> None:
    """log w, plus the density of the noise."""
    b, kind, e = backend, m.schools(backend), np.random.default_rng(1).normal(size=6)
    value, _, found = density(b, kind.model, (kind.data,), e, guide=vector_guide(b))
    cov = np.array([[2.0], [0.3]]) @ np.array([[2.0, 0.3]]) + np.diag([0.5, 0.1])
    v = np.array([4.0, 1.0]) + np.linalg.cholesky(cov) @ e[:2]
    trans = 0.1 * np.exp(v[1]) + 0.9 * e[2:]
    assert found["tau"] == pytest.approx(np.exp(v[1]), rel=1e-12)
    np.testing.assert_allclose(found["trans"], trans, rtol=1e-12)
    theta = v[0] + np.exp(v[1]) * trans
    exact = stats.norm(0, 5).logpdf(v[0]) + stats.halfcauchy(scale=5).logpdf(np.exp(v[1])) + v[1]
    exact += stats.norm.logpdf(trans).sum() + 4 * np.log(0.9)
    exact += stats.norm(theta, kind.data["sigma"]).logpdf(kind.data["y"]).sum()
    assert value == pytest.approx(exact + 0.5 * np.linalg.slogdet(cov)[1], rel=1e-10)


@pytest.mark.long("[pyro")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["AutoIAFNormal", "AutoMultivariateNormal", "AutoNormal"])
def test_draws_through_stock_guides(backend: Any, name: str) -> None:
    b = backend
    if b.name == "pyro":
        from pyro.infer import autoguide

        from pyro_dgm import fit
    else:
        from numpyro.infer import autoguide

        from numpyro_dgm import fit
    model = m.schools(b).model
    run = fit(model, getattr(autoguide, name)(model), SCHOOLS, num_steps=300, progress=False)
    chains = b.evaluation.nuts(
        model, SCHOOLS, through=run, num_draws=400, num_warmup=200, num_chains=2
    )
    check_schools(chains)


def test_python_that_looks_at_a_value() -> None:
    """In Pyro such a model is not traced into a graph, in which one branch would be taken for all:
    a normal with another scale on each side, whose mean is (4 - 1) sqrt(2 / pi) / (1 + 2)."""
    b = PyroBackend()

    def model() -> None:
        x = b.sample("x", b.dist.Normal(0.0, 1.0).mask(False))
        scale = 2.0 if x > 0 else 1.0
        b.factor("density", -0.5 * (x / scale) ** 2)

    chains = b.evaluation.nuts(model, num_draws=400, num_warmup=50, num_chains=1)
    assert chains["x"].mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.4)
    assert chains["x"].max() > 3.5 and chains["x"].min() < -1.5


def test_what_is_refused(backend: Any) -> None:
    b, nuts = backend, backend.evaluation.nuts

    def discrete(x: Any) -> None:
        k = b.sample("k", b.dist.Bernoulli(b.array(0.3)))
        b.sample("x", b.dist.Normal(k, 1.0), obs=x)

    def partial(x: Any) -> None:
        z = b.sample("z", b.dist.Normal(b.array(0.0), 1.0))
        with b.plate("data", 10, subsample_size=3):
            b.sample("x", b.dist.Normal(z, 1.0), obs=x)

    def gamma(x: Any) -> None:
        b.sample("z", b.dist.Gamma(b.array(2.0), 1.0))

    def model(x: Any) -> None:
        z = b.sample("z", b.dist.Gamma(b.array(2.0), 1.0))
        with b.plate("data", 3):
            b.sample("x", b.dist.Normal(z, 1.0), obs=x)

    x, run = np.ones(3), b.run(model, gamma)
    for arguments, options, words in (
        ((discrete, x), {}, "Site 'k' has the support .*sum a discrete latent out in the model"),
        ((partial, x), {}, r"Plate 'data' \(at site 'x'\) holds a part of its data"),
        ((model, x), {"start": run, "through": run}, "Pass start=run or through=run, not both"),
        ((model, x), {"through": run}, "draws site 'z' from Gamma, which is not normal noise"),
        ((partial, x), {"start": run}, "must be that of a guide of this model"),
        ((None, x), {}, "model must be callable, or a run, got None"),
        ((None, x), {"start": run}, "model must be callable, or a run, got None"),
        ((model, x), {"num_draws": 2}, "num_draws must be an integer of at least 4, got 2"),
        ((model, x), {"target_accept": 1}, r"target_accept must be a number in \(0, 1\), got 1"),
        ((model, np.full(3, np.inf)), {}, "0 of 100 places to start from have a finite"),
    ):
        with pytest.raises(ValueError, match=words):
            nuts(*arguments, **options)


def test_what_the_model_is_not_given_is_named(backend: Any) -> None:
    """One sentence, without what Python or Pyro add."""
    evaluation, dist = backend.evaluation, backend.dist

    def model(x: Any, sd: Any) -> None:
        mu = backend.sample("mu", dist.Normal(backend.array(0.0), backend.array(1.0)))
        with backend.plate("data", len(x)):
            backend.sample("x", dist.Normal(mu, sd), obs=x)

    def guide(x: Any, sd: Any) -> None:
        backend.sample("mu", dist.Normal(x.mean(), backend.array(1.0)))

    run, x = SimpleNamespace(model=model, guide=guide), np.zeros(3)
    for call in (
        lambda: evaluation.nuts(model, x),
        lambda: evaluation.sample_posterior(run, x),
        lambda: evaluation.quantiles(run, x),
        lambda: evaluation.median(run, x),
        lambda: evaluation.calibrate(model, run, x),
        lambda: evaluation.log_weights(run, x),
        lambda: evaluation.predict(run, x),
        lambda: evaluation.prior_predictive(model, x),
    ):
        with pytest.raises(ValueError, match=r"called with \.\.\.: missing .* 'sd'\.$"):
            call()


def test_data_that_are_nan_leave_no_place_to_start_from(backend: Any) -> None:
    def model(x: Any) -> None:
        mu = backend.sample("mu", backend.dist.Normal(backend.array(0.0), backend.array(1.0)))
        with backend.plate("data", 2):
            backend.sample("x", backend.dist.Normal(mu, backend.array(1.0)), obs=x)

    with pytest.raises(ValueError, match=r"Only 0 of 100 places .* look at the model and its data"):
        backend.evaluation.nuts(model, np.array([1.0, np.nan]))


def test_no_shapes_stand_behind_a_sentence_of_ours() -> None:
    """Those of all sites, which Pyro adds; they stay where somebody else's code fails."""
    import torch

    pyro = PyroBackend()
    vae = importlib.import_module("pyro_dgm").VAE(4, 2, hidden=(8,))
    with pytest.raises(ValueError, match=r"got \(3, 5\)\.$"):
        pyro.evaluation.log_weights(vae, np.ones((3, 5)))

    def model(x: Any) -> None:
        pyro.sample("mu", pyro.dist.Normal(torch.zeros(7), 1.0).to_event(1))
        torch.zeros(2) + torch.zeros(3)

    with pytest.raises(RuntimeError, match="Trace Shapes:"):
        pyro.evaluation.prior_predictive(model, np.ones(3))
