"""Draws, predictions and exports of models with all kinds of sites."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dgm_core.diagnostics import summary

RNG = np.random.default_rng(0)
Arrays = dict[str, np.ndarray]


def automatic(backend: Any, family: str, model: Callable) -> Any:
    import importlib

    infer = "pyro.infer.autoguide" if backend.name == "pyro" else "numpyro.infer.autoguide"
    return getattr(importlib.import_module(infer), family)(model)


def fit(backend: Any, model: Callable, guide: Callable, data: Any, **options: Any) -> Any:
    import importlib

    package = importlib.import_module(f"{backend.name}_dgm")
    options = {"num_epochs": 3, "progress": False, "seed": 0, "lr": 0.05, **options}
    optim = package.training.Adam(options.pop("lr"))
    return package.fit(model, guide, data, optim=optim, **options)


def factor(backend: Any, name: str, value: Any) -> None:
    (backend.pyro if backend.name == "pyro" else backend.numpyro).factor(name, value)


def regression(backend: Any) -> tuple[Callable, Callable]:
    """w ~ Normal(0, 1); y_n ~ Normal(w x_n, 1/2), mean_n = w x_n; the guide w ~ Normal(2, 0.1)."""
    dist = backend.dist

    def model(x: Any, y: Any = None) -> None:
        w = backend.sample("w", dist.Normal(backend.array(0.0), backend.array(1.0)))
        with backend.plate("data", 30, subsample_size=len(x)):
            mean = backend.deterministic("mean", w * x)
            backend.sample("y", dist.Normal(mean, backend.array(0.5)), obs=y)

    def guide(x: Any, y: Any = None) -> None:
        backend.sample("w", dist.Normal(backend.array(2.0), backend.array(0.1)))

    return model, guide


@pytest.mark.parametrize("size", [7, 30, 100])
def test_a_regression_predicts_at_new_covariates(backend: Any, size: int) -> None:
    run = backend.run(*regression(backend))
    x = np.linspace(-1.0, 3.0, size)
    new = backend.evaluation.predict(run, x, num_draws=300)
    assert list(new) == ["w", "mean", "y"]
    assert new["w"].shape == (300,) and new["y"].shape == new["mean"].shape == (300, size)
    np.testing.assert_allclose(new["mean"], new["w"][:, None] * x)
    np.testing.assert_allclose(new["y"].mean(0), 2.0 * x, atol=0.2)
    assert (new["y"] - new["mean"]).std() == pytest.approx(0.5, rel=0.05)
    prior = backend.evaluation.prior_predictive(run.model, {"x": x}, num_draws=300)
    assert prior["w"].mean() == pytest.approx(0.0, abs=0.2) and prior["y"].shape == (300, size)
    assert prior["w"].std() == pytest.approx(1.0, rel=0.15)


def test_flat_priors_do_not_keep_from_predicting(backend: Any) -> None:
    dist = backend.dist

    def model(x: Any, y: Any = None) -> None:
        real = dist.constraints.real
        w = backend.sample("w", dist.ImproperUniform(real, (), ()))
        with backend.plate("data", len(x)):
            backend.sample("y", dist.Normal(w * x, backend.array(0.5)), obs=y)

    run = backend.run(model, regression(backend)[1])
    new = backend.evaluation.predict(run, np.ones(4), num_draws=20)
    assert new["y"].mean() == pytest.approx(2.0, abs=0.3)


def hierarchy(backend: Any) -> tuple[Callable, Callable]:
    """w global, z_n ~ Normal(w, 1) local, x_n ~ Normal(z_n, 0.1); the guide reads x."""
    dist = backend.dist

    def model(x: Any = None, size: int = 5) -> None:
        w = backend.sample("w", dist.Normal(backend.array(0.0), backend.array(9.0)))
        with backend.plate("data", size if x is None else len(x)):
            z = backend.sample("z", dist.Normal(w, backend.array(1.0)))
            backend.sample("x", dist.Normal(z, backend.array(0.1)), obs=x)

    def guide(x: Any = None, size: int = 5) -> None:
        backend.sample("w", dist.Normal(backend.array(40.0), backend.array(0.1)))
        with backend.plate("data", size if x is None else len(x)):
            loc = backend.array(np.zeros(size)) if x is None else x
            backend.sample("z", dist.Normal(loc, backend.array(0.1)))

    return model, guide


def test_local_latents_come_from_the_guide_where_data_are_given_else_from_the_prior(
    backend: Any,
) -> None:
    run = backend.run(*hierarchy(backend))
    given = backend.evaluation.predict(run, np.array([1.0, 2.0, 3.0]), num_draws=50)
    np.testing.assert_allclose(given["z"].mean(0), [1.0, 2.0, 3.0], atol=0.1)
    np.testing.assert_allclose(given["x"].mean(0), [1.0, 2.0, 3.0], atol=0.1)
    assert given["w"].mean() == pytest.approx(40.0, abs=0.1)
    new = backend.evaluation.predict(run, {"size": 4}, num_draws=50)
    assert new["z"].shape == (50, 4)
    assert new["z"].mean() == pytest.approx(40.0, abs=0.5)


def test_a_guide_that_needs_what_is_predicted(backend: Any) -> None:
    """Local latents alone need no guide; a global one does, and the sentence says so."""
    dist = backend.dist

    def local(x: Any, y: Any = None) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(x, backend.array(0.1)))
            backend.sample("y", dist.Normal(z, backend.array(0.1)), obs=y)

    def guide(x: Any, y: Any = None) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal((x + y) / 2, backend.array(0.1)))

    def both(x: Any, y: Any = None) -> None:
        backend.sample("w", dist.Normal(backend.array(0.0), backend.array(1.0)))
        local(x, y)

    new = backend.evaluation.predict(backend.run(local, guide), np.arange(4.0), num_draws=60)
    np.testing.assert_allclose(new["y"].mean(0), np.arange(4.0), atol=0.1)
    with pytest.raises(ValueError, match=r"predict takes global latents .* fails on these inputs"):
        backend.evaluation.predict(backend.run(both, guide), np.arange(4.0))


def all_kinds(backend: Any) -> tuple[Callable, Callable, Arrays]:
    """Crossed plates, an event-shaped site, a scalar outside the plates, a factor, a deterministic
    site, and a masked one."""
    dist, np_ = backend.dist, backend.np

    def model(pairs: Any, rows: Any, total: Any, seen: Any) -> None:
        zero, one = backend.array(0.0), backend.array(1.0)
        w = backend.sample("w", dist.Normal(zero, one))
        backend.deterministic("twice", 2.0 * w)
        factor(backend, "soft", -w * w)
        backend.sample("total", dist.Normal(w, one), obs=total)
        students = backend.plate("students", 4, dim=-2)
        items = backend.plate("items", 3, dim=-1)
        with students:
            a = backend.sample("a", dist.Normal(zero, one))
        with items:
            b = backend.sample("b", dist.Normal(zero, one))
            backend.sample("rows", dist.Normal(np_.zeros((3, 2)), one).to_event(1), obs=rows)
        with students, items, backend.mask(seen):
            backend.sample("pairs", dist.Normal(a + b, one), obs=pairs)

    def guide(pairs: Any, rows: Any, total: Any, seen: Any) -> None:
        zero, one = backend.array(0.0), backend.array(1.0)
        with backend.plate("items", 3, dim=-1):
            backend.sample("b", dist.Normal(zero, one))
        with backend.plate("students", 4, dim=-2):
            backend.sample("a", dist.Normal(zero, one))
        backend.sample("w", dist.Normal(one, one))

    pairs = RNG.normal(size=(4, 3))
    seen = np.ones((4, 3), bool)
    pairs[1, 2], seen[1, 2] = np.nan, False
    data = {
        "pairs": backend.array(pairs),
        "rows": backend.array(RNG.normal(size=(3, 2))),
        "total": backend.array(0.3),
        "seen": backend.np.asarray(seen),
    }
    return model, guide, data


def test_latents_are_those_of_the_model_in_its_order(backend: Any) -> None:
    model, guide, data = all_kinds(backend)
    draws = backend.evaluation.latents(backend.run(model, guide), data, num_draws=3)
    assert list(draws) == ["w", "a", "b"]
    assert [x.shape for x in draws.values()] == [(3,), (3, 4, 1), (3, 3)]
    forward = backend.evaluation.generate(backend.run(model, guide), data)
    assert list(forward) == ["w", "twice", "total", "a", "b", "rows", "pairs"]
    means = backend.evaluation.reconstruct(backend.run(model, guide), data)
    assert {name: x.shape for name, x in means.items()} == {
        "total": (),
        "rows": (3, 2),
        "pairs": (4, 3),
    }


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_arviz_takes_every_site(backend: Any, tmp_path: Any) -> None:
    import arviz as az

    model, guide, data = all_kinds(backend)
    idata = backend.evaluation.to_arviz(backend.run(model, guide), data, num_draws=6)
    idata.to_netcdf(str(tmp_path / "sites.nc"))
    read = az.from_netcdf(str(tmp_path / "sites.nc"))
    assert list(read.posterior) == ["w", "twice", "a", "b"]
    np.testing.assert_allclose(read.posterior["twice"], 2 * read.posterior["w"])
    assert dict(read.log_likelihood["pairs"].sizes) == {
        "chain": 1,
        "draw": 6,
        "students": 4,
        "items": 3,
    }
    assert read.log_likelihood["rows"].dims[2:] == ("items",)
    assert read.log_likelihood["total"].shape == (1, 6)
    assert (read.log_likelihood["pairs"].sel(students=1, items=2) == 0).all()
    a, b = read.posterior["a"].values[0], read.posterior["b"].values[0]
    residual = np.asarray(data["pairs"])[None] - a.reshape(6, 4, 1) - b[:, None]
    expected = np.nan_to_num(-0.5 * residual**2 - 0.5 * math.log(2 * math.pi))
    expected[:, 1, 2] = 0.0
    np.testing.assert_allclose(read.log_likelihood["pairs"].values[0], expected, atol=1e-6)
    assert read.posterior_predictive["rows"].shape == (1, 6, 3, 2)
    predicted = read.posterior_predictive["pairs"].values[0]
    assert np.nanmin(np.abs(predicted - np.asarray(data["pairs"]))) > 0
    assert az.loo(read, var_name="pairs").n_data_points == 12


@pytest.mark.parametrize("family", ["AutoNormal", "AutoMultivariateNormal", "AutoDelta"])
@pytest.mark.slow("numpyro-Auto")
def test_automatic_guides_show_the_latents_of_the_model(backend: Any, family: str) -> None:
    """And their means; but a point that follows from other draws has no mean of its own."""
    dist = backend.dist

    def model(y: Any) -> None:
        scale = backend.sample("scale", dist.Gamma(backend.array(2.0), backend.array(1.0)))
        loc = backend.sample("loc", dist.Normal(backend.array(0.0), backend.array(5.0)))
        with backend.plate("data", len(y)):
            backend.sample("y", dist.Normal(loc, scale), obs=y)

    run = fit(backend, model, automatic(backend, family, model), RNG.normal(size=6))
    assert list(backend.evaluation.latents(run, RNG.normal(size=6), num_draws=2)) == [
        "scale",
        "loc",
    ]
    if family == "AutoDelta":
        means = backend.evaluation.latents(run, RNG.normal(size=6), means=True)
        assert means["loc"].shape == ()
        with pytest.raises(ValueError, match=r"Sites \['scale', 'loc'\] are point masses"):
            backend.evaluation.log_weights(run, RNG.normal(size=6))
        idata = backend.evaluation.to_arviz(run, RNG.normal(size=6), num_draws=4)
        assert "khat" not in getattr(idata, "sample_stats", {})
    else:
        assert backend.evaluation.log_weights(run, RNG.normal(size=6), num_particles=3).shape == (
            3,
            1,
        )
    if family == "AutoMultivariateNormal":
        with pytest.raises(ValueError, match="mean of site 'scale' is not known"):
            backend.evaluation.latents(run, RNG.normal(size=6), means=True)


def test_models_without_latents(backend: Any) -> None:
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("x", dist.Normal(backend.array(0.0), backend.array(1.0)), obs=x)

    run = backend.run(model, lambda x: None)
    log_w = backend.evaluation.log_weights(run, np.zeros(5), num_particles=30)
    np.testing.assert_allclose(log_w, np.full((30, 5), -0.5 * math.log(2 * math.pi)), atol=1e-6)
    assert (summary(log_w)["k-hat"] == -np.inf).all()
    idata = backend.evaluation.to_arviz(run, np.zeros(5), num_draws=4)
    assert idata.log_likelihood["x"].shape == (1, 4, 5)
    assert backend.evaluation.latents(run, np.zeros(5)) == {}


def test_data_in_every_form(backend: Any) -> None:
    pandas = pytest.importorskip("pandas")
    model, guide = regression(backend)
    run = backend.run(model, guide)
    x, y = np.linspace(0.0, 1.0, 30), np.linspace(0.0, 2.0, 30)
    expected = backend.evaluation.log_weights(run, x, y, num_particles=4)
    frame = pandas.DataFrame({"x": x, "y": y})
    forms = [((x, y),), ({"y": y, "x": x},), (list(x), list(y)), (frame["x"], frame["y"])]
    for data in forms:
        found = backend.evaluation.log_weights(run, *data, num_particles=4)
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"must be an array of numbers.*got list"):
        backend.evaluation.log_weights(run, (x, ["a"] * 30))
    with pytest.raises(ValueError, match=r"run must be what fit returns.*got \{\}"):
        backend.evaluation.latents({}, x)
    with pytest.raises(ValueError, match="The data are empty"):
        backend.evaluation.latents(run, x[:0])
    with pytest.raises(ValueError, match="has 30 masked entries"):
        backend.evaluation.latents(run, np.ma.masked_array(x, np.ones(30)))
