"""What the bound of a run is made of, against closed forms, for programs of several kinds."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.evaluation import gaussians as g

X = g.data(1000)  # one size for all: JAX compiles each anew


def test_all_parts_of_a_linear_gaussian_pair(backend: Any) -> None:
    """Exactly and by minibatches; both add up, and the latter bound the former."""
    run = backend.run(*g.pair(backend))
    exact = backend.evaluation.elbo_surgery(run, X)
    g.assert_near(exact, g.exact())
    g.assert_adds_up(exact)
    assert exact.num_data == len(X) and not exact.notes
    assert exact.elbo == pytest.approx(exact.reconstruction - exact.mean_kl)
    assert "total_correlation" in repr(exact)
    found = backend.evaluation.elbo_surgery(run, X, aggregate="stratified", batch_size=250, seed=1)
    g.assert_near(found, g.exact())
    g.assert_adds_up(found)
    crude = backend.evaluation.elbo_surgery(run, X, aggregate="weighted", batch_size=250, seed=1)
    g.assert_adds_up(crude)
    assert crude.mean_kl == pytest.approx(found.mean_kl, abs=1e-10)  # the same draws
    assert 3 < crude.mutual_information - g.exact()["mutual_information"] < math.log(len(X))


@pytest.mark.slow("numpyro")
def test_identity_and_bound_where_codes_never_overlap(backend: Any) -> None:
    """Few data far apart: I = log N up to nothing, with several draws of each."""
    run = backend.run(*g.pair(backend))
    far = 300.0 * np.eye(3)[:2]
    found = backend.evaluation.elbo_surgery(run, far, num_draws=3)
    assert found.mutual_information == pytest.approx(math.log(2), abs=1e-12)
    g.assert_adds_up(found, 1e-8)
    run = backend.run(*intervals(backend))
    found = backend.evaluation.elbo_surgery(run, np.array([0.0, 0.25, 0.5, 0.75]))
    assert found.mutual_information == pytest.approx(math.log(4), abs=1e-6)
    assert found.marginal_kl == pytest.approx(0.0, abs=1e-6)
    assert found.dimension_wise_kl == pytest.approx(0.0, abs=1e-6)


def intervals(b: Any) -> tuple[Callable, Callable]:
    """z ~ Uniform(0, 1), q(z | x) = Uniform(x, x + 1 / 4): supports that do not overlap."""

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", b.dist.Uniform(b.array(0.0), b.array(1.0)))
            b.sample("x", b.dist.Normal(z, b.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("z", b.dist.Uniform(x, x + 0.25))

    return model, guide


def two_sites(b: Any, slope: float) -> tuple[Callable, Callable]:
    """The same pair, of two sites u and v; with a slope the guide's v depends on u."""
    d, numbers = b.dist, {n: b.array(x) for n, x in vars(g).items() if isinstance(x, np.ndarray)}

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            u = b.sample("u", d.Normal(g.PRIOR_MEAN[0], g.PRIOR_SD[0]))
            v = b.sample("v", d.Normal(b.array([g.PRIOR_MEAN[1]]), g.PRIOR_SD[1]).to_event(1))
            z = b.np.concatenate([u[..., None], v], -1)
            b.sample("x", d.Normal(z @ numbers["W"].T + numbers["C"], g.NOISE).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            loc = x @ numbers["A"].T + numbers["SHIFT"]
            u = b.sample("u", d.Normal(loc[:, 0], g.SD[0]))
            mean = b.np.concatenate([loc, u[..., None]], -1)  # does not broadcast
            v = mean[:, 1:2] + slope * (mean[:, 2:] - mean[:, :1])
            b.sample("v", d.Normal(v, g.SD[1]).to_event(1))

    return model, guide


@pytest.mark.slow("numpyro")
def test_two_sites_are_one_code(backend: Any) -> None:
    found = backend.evaluation.elbo_surgery(backend.run(*two_sites(backend, 0.0)), X)
    g.assert_near(found, g.exact())
    g.assert_adds_up(found)
    assert found.entry_kl.shape == (2,)


@pytest.mark.slow("numpyro")
def test_a_site_that_depends_on_another(backend: Any) -> None:
    """q(u, v | x) has a full covariance: no total correlation, all else as it is known."""
    slope = 0.8
    factor = np.array([[g.SD[0], 0.0], [slope * g.SD[0], g.SD[1]]])
    found = backend.evaluation.elbo_surgery(backend.run(*two_sites(backend, slope)), X)
    wanted = g.exact(factor @ factor.T)
    del wanted["total_correlation"], wanted["dimension_wise_kl"]
    for name, value in wanted.items():
        assert abs(getattr(found, name) - value) < 3 * found.standard_errors[name], name
    assert found.total_correlation is None and found.dimension_wise_kl is None
    assert "the guide's entries of ['v'] are not independent" in found.notes[0]


def constrained(b: Any) -> tuple[Callable, Callable]:
    """The same pair in w = exp(z)."""
    d, numbers = b.dist, {n: b.array(x) for n, x in vars(g).items() if isinstance(x, np.ndarray)}

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            prior = d.LogNormal(numbers["PRIOR_MEAN"], numbers["PRIOR_SD"])
            z = b.np.log(b.sample("w", prior.to_event(1)))
            b.sample("x", d.Normal(z @ numbers["W"].T + numbers["C"], g.NOISE).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            loc = x @ numbers["A"].T + numbers["SHIFT"]
            base = d.Normal(loc, numbers["SD"]).to_event(1)
            b.sample("w", d.TransformedDistribution(base, [d.transforms.ExpTransform()]))

    return model, guide


@pytest.mark.slow("numpyro")
def test_a_constrained_latent(backend: Any) -> None:
    """No part depends on how a latent is written."""
    found = backend.evaluation.elbo_surgery(backend.run(*constrained(backend)), X)
    g.assert_near(found, g.exact())
    g.assert_adds_up(found)


def changed(b: Any, what: str) -> tuple[Callable, Callable]:
    """The pair with one thing changed."""
    d, (_, guide) = b.dist, g.pair(b)
    numbers = {n: b.array(x) for n, x in vars(g).items() if isinstance(x, np.ndarray)}
    full = b.array([[1.5, 0.4], [0.4, 0.9]])

    def other(x: Any) -> None:
        with b.plate("data", len(x)):
            loc, scale = numbers["PRIOR_MEAN"], numbers["PRIOR_SD"]
            prior = d.Normal(loc + x[:, :2] if what == "reads" else loc, scale).to_event(1)
            prior = d.MultivariateNormal(loc, full) if what == "full prior" else prior
            if what == "mask":
                with b.mask(x[:, 0] > 0):
                    z = b.sample("z", prior)
            elif what == "scale":
                with b.scale(4.0):
                    z = b.sample("z", prior)
            else:
                z = b.sample("z", prior)
            seen = x[:, 1] > 0 if what == "hidden data" else x[:, 0] == x[:, 0]
            with b.mask(seen):
                b.sample(
                    "x", d.Normal(z @ numbers["W"].T + numbers["C"], g.NOISE).to_event(1), obs=x
                )

    def full_guide(x: Any) -> None:
        with b.plate("data", len(x)):
            loc = x @ numbers["A"].T + numbers["SHIFT"]
            b.sample("z", d.MultivariateNormal(loc, full))

    return other, full_guide if what == "full guide" else guide


@pytest.mark.parametrize(("what", "words"), [
    ("mask", "A scale, a mask or a factor changes the log-density of the latents in the model"),
    ("scale", "A scale, a mask or a factor changes the log-density of the latents in the model"),
    ("reads", "prior of the latents differs from datum to datum"),
])  # fmt: skip
def test_what_has_no_such_parts_is_refused(backend: Any, what: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backend.evaluation.elbo_surgery(backend.run(*changed(backend, what)), X)


@pytest.mark.slow("numpyro")
def test_parts_that_are_not_known(backend: Any) -> None:
    """A full guide has no total correlation, a full prior no dimension-wise KL."""
    surgery = backend.evaluation.elbo_surgery
    found = surgery(backend.run(*changed(backend, "full guide")), X)
    assert found.total_correlation is None and "of ['z']" in found.notes[0]
    assert found.mean_kl == pytest.approx(found.mutual_information + found.marginal_kl, abs=1e-10)
    found = surgery(backend.run(*changed(backend, "full prior")), X)
    wanted = g.exact()
    assert abs(found.total_correlation - wanted["total_correlation"]) < 0.08
    assert found.dimension_wise_kl is None and "No dimension-wise KL: the prior" in found.notes[0]


@pytest.mark.parametrize("prob", [0.0, 1e-9, 0.4])
def test_a_parent_that_is_the_same_in_all_draws(backend: Any, prob: float) -> None:
    """A guide whose z follows a discrete k has no entries, whatever k the data happen to have."""
    b, d = backend, backend.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("k", d.Bernoulli(b.array([0.3, 0.6])).to_event(1))
            z = b.sample("z", d.Normal(b.array(0.0), 1.0))
            b.sample("x", d.Normal(z, 1.0), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            k = b.sample("k", d.Bernoulli(b.array([prob, prob])).to_event(1))
            b.sample("z", d.Normal(0.5 * x + k[..., 0] - 2 * k[..., 1], 0.7))

    def counts(x: Any) -> None:
        with b.plate("data", len(x)):
            k = b.sample("k", d.Geometric(b.array([1 - 1e-9, 1 - 1e-9])).to_event(1))
            b.sample("z", d.Normal(0.5 * x + k.sum(-1), 0.7))

    def counted(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("k", d.Geometric(b.array([0.3, 0.6])).to_event(1))
            z = b.sample("z", d.Normal(b.array(0.0), 1.0))
            b.sample("x", d.Normal(z, 1.0), obs=x)

    pair = (model, guide) if prob else (counted, counts)
    found = b.evaluation.elbo_surgery(b.run(*pair), b.array([-0.4, 1.3, 0.2]), num_draws=2)
    assert found.total_correlation is None and "of ['z'] are not independent" in found.notes[0]


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize("apart", [False, True])
def test_parents_that_cancel(backend: Any, apart: bool) -> None:
    """z follows from whether two bits differ, which they do as before when both are turned."""
    b, d = backend, backend.dist

    def bits(x: Any, prob: float) -> Any:
        if apart:
            each = [b.sample(name, d.Bernoulli(b.array(prob))) for name in "kl"]
            return b.np.stack(each, -1)
        return b.sample("k", d.Bernoulli(b.array([prob, prob])).to_event(1))

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            bits(x, 0.5)
            z = b.sample("z", d.Normal(b.array(0.0), 1.0))
            b.sample("x", d.Normal(z, 1.0), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            k = bits(x, 0.4)
            differ = (k[..., 0] - k[..., 1]) ** 2
            b.sample("z", d.Normal(0.5 * x + differ, 0.7))

    found = b.evaluation.elbo_surgery(b.run(model, guide), b.array([-0.4, 1.3, 0.2]))
    assert found.total_correlation is None and "of ['z'] are not independent" in found.notes[0]
    assert found.mean_kl == pytest.approx(found.mutual_information + found.marginal_kl, abs=1e-10)


def test_hidden_data_do_not_count(backend: Any) -> None:
    """A mask on the observed site: the reconstruction is that of the rest, the KL as before."""
    run, plain = (backend.run(*changed(backend, what)) for what in ("hidden data", ""))
    found, whole = (backend.evaluation.elbo_surgery(r, X) for r in (run, plain))
    assert found.mean_kl == pytest.approx(whole.mean_kl, abs=1e-10)
    assert 0.2 < found.reconstruction / whole.reconstruction < 0.5


def test_minibatches_need_rows(backend: Any) -> None:
    surgery, run = backend.evaluation.elbo_surgery, backend.run(*g.pair(backend))
    with pytest.raises(ValueError, match="batch_size is that of the minibatch estimators"):
        surgery(run, X, batch_size=10)
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 2, got None"):
        surgery(run, X, aggregate="stratified")
    with pytest.raises(
        ValueError, match="aggregate must be one of 'exact', 'stratified', 'weighted'"
    ):
        surgery(run, X, aggregate="all")


def test_rate_and_distortion_of_runs(backend: Any) -> None:
    run = backend.run(*g.pair(backend))
    found = backend.evaluation.rate_distortion({0.5: run, "full": run}, X)
    alone = backend.evaluation.elbo_surgery(run, X)
    np.testing.assert_allclose(found.column("rate"), alone.mean_kl)
    np.testing.assert_allclose(found.column("distortion"), -alone.reconstruction)
    assert [row["run"] for row in found.rows] == ["0.5", "full"]
    with pytest.raises(ValueError, match="runs must be a dict of one run or more, by label"):
        backend.evaluation.rate_distortion([run], X)
