"""A prior fitted afterwards: what it becomes, what stays, and what is refused."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

X = np.random.default_rng(0).normal(1.0, 1.0, (64, 2)) * [1.0, 0.3]


def trained(backend: Any, *programs: Any, **options: Any) -> Any:
    """A run of programs that nothing has been stated for before."""
    if backend.name == "pyro":
        backend.pyro.clear_param_store()
    return package(backend).fit(*programs, X, progress=False, **options)


def package(backend: Any) -> Any:
    return importlib.import_module(f"{backend.name}_dgm")


def made(backend: Any, module: str, name: str, *sizes: Any, **settings: Any) -> Any:
    if backend.name == "numpyro":
        settings["key"] = backend.jax.random.key(0)
    else:
        backend.torch.manual_seed(0)
    try:
        return getattr(getattr(package(backend), module), name)(*sizes, **settings)
    except TypeError:
        settings.pop("key")
        return getattr(getattr(package(backend), module), name)(*sizes, **settings)


def pair(backend: Any) -> tuple[Callable, Callable]:
    """z_n ~ Normal(0, I); x_n ~ Normal(z_n, 1); q(z | x) = Normal(x + b, .5), b learned."""
    dist, array = backend.dist, backend.array

    def model(x: Any = None, size: int = 1) -> Any:
        with backend.plate("data", size if x is None else len(x)):
            z = backend.sample("z", dist.Normal(array(np.zeros(2)), array(1.0)).to_event(1))
            return backend.sample("x", dist.Normal(z, array(1.0)).to_event(1), obs=x)

    def guide(x: Any = None, size: int = 1) -> None:
        shift = backend.param("b", array([2.0, -1.0]))
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(x + shift, array(0.5)).to_event(1))

    return model, guide


RUNS: dict[str, Any] = {}


def fitted(backend: Any) -> Any:
    if backend.name not in RUNS:
        optim = package(backend).training.Adam(1e-3)
        RUNS[backend.name] = trained(backend, *pair(backend), optim=optim)
    return RUNS[backend.name]


def refit(backend: Any, run: Any, conditional: Any, data: Any = X, **settings: Any) -> Any:
    settings = {"progress": False, "num_epochs": 1, **settings}
    return package(backend).evaluation.fit_prior(run, data, conditional, **settings)


@pytest.mark.slow("numpyro")
def test_the_maximum_likelihood_of_the_codes(backend: Any) -> None:
    """Of a normal prior: mean and variance of the aggregate posterior; the bound gains by as much
    as the mismatch loses, and the run before is as it was."""
    run = fitted(backend)
    before = package(backend).log_weights(run, X, num_particles=20)
    prior = made(backend, "conditionals", "DiagonalNormal", 2)
    settings = {"optim": package(backend).training.Adam(0.1), "batch_size": 32}
    settings["lr_schedule"] = lambda step: 1 / (1 + step / 100)
    better = refit(backend, run, prior, num_epochs=200, **settings)
    assert better.epoch == len(better.history) == 200
    names = [name for name in better.params if name.startswith("z_prior")]
    assert len(names) == 1 and better.params.keys() - set(names) == run.params.keys()
    leaf = better.params[names[0]]
    free = np.asarray(leaf.free if backend.name == "numpyro" else leaf.detach())
    shift = np.asarray(run.params["b"]) if backend.name == "numpyro" else run.params["b"].numpy()
    mean, scale = (X + shift).mean(0), np.sqrt(X.var(0) + 0.25)
    np.testing.assert_allclose(free[:2], mean, atol=0.06)
    floor = 1e-4
    found = floor + np.logaddexp(0, free[2:] + np.log(np.expm1(1 - floor)))
    np.testing.assert_allclose(found, scale, rtol=0.06)
    after = package(backend).log_weights(better, X, num_particles=20)
    codes_kl = 0.5 * ((scale**2 + mean**2 - 1).sum() - 2 * np.log(scale).sum())
    np.testing.assert_allclose((after - before).mean(), codes_kl, atol=0.15)
    np.testing.assert_array_equal(package(backend).log_weights(run, X, num_particles=20), before)
    drawn = package(backend).generate(better, size=2000)
    assert drawn["x"].shape == (2000, 2)
    np.testing.assert_allclose(drawn["z"].mean(0), mean, atol=0.15)
    np.testing.assert_allclose(drawn["z"].std(0), scale, rtol=0.1)


@pytest.mark.slow("numpyro")
@pytest.mark.long("numpyro")
def test_a_prior_given_another_site(backend: Any, tmp_path: Path) -> None:
    """w = 2 z + 1 and noise of 0.5 in the guide, independent in the model: the prior of w given z
    learns that, draws follow it, the bound gains what is known of w; saved and read."""
    dist, array = backend.dist, backend.array

    def model(x: Any = None, size: int = 1) -> Any:
        unit = dist.Normal(array(np.zeros(2)), array(1.0)).to_event(1)
        with backend.plate("data", size if x is None else len(x)):
            z, w = backend.sample("z", unit), backend.sample("w", unit)
            return backend.sample("x", dist.Normal(z + w, array(1.0)).to_event(1), obs=x)

    def guide(x: Any = None, size: int = 1) -> None:
        shift = backend.param("b", array([0.0, 0.0]))
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(x + shift, array(0.5)).to_event(1))
            backend.sample("w", dist.Normal(2 * z + 1, array(0.5)).to_event(1))

    run = trained(backend, model, guide, num_epochs=1)
    settings: dict[str, Any] = {"optim": package(backend).training.Adam(0.1), "batch_size": 32}
    settings["lr_schedule"] = lambda step: 1 / (1 + step / 100)
    prior = made(backend, "conditionals", "DiagonalNormal", 2, context_shape=2)
    better = refit(backend, run, prior, site="w", given="z", num_epochs=250, **settings)
    drawn = package(backend).generate(better, size=4000)
    slope, shift = np.polyfit(drawn["z"][:, 0], drawn["w"][:, 0], 1)
    assert abs(slope - 2) < 0.15 and abs(shift - 1) < 0.15
    assert abs((drawn["w"] - 2 * drawn["z"] - 1).std() - 0.5) < 0.1
    first, last = (package(backend).log_weights(r, X, num_particles=50) for r in (run, better))
    w = 2 * (X[:, None] + 0.5 * np.random.default_rng(1).normal(size=(64, 400, 2))) + 1
    w = w + 0.5 * np.random.default_rng(2).normal(size=w.shape)
    known = -np.log(0.5) - 0.5 + (w**2).mean() / 2  # log N(w; 2z + 1, .5) - log N(w; 0, 1)
    assert (last - first).mean() == pytest.approx(2 * known, rel=0.05)
    better.save(tmp_path / "file")
    ask = package(backend).evaluation
    again = ask.with_prior(model, "w", prior, given="z")
    read = package(backend).load_run(tmp_path / "file", again, guide)
    np.testing.assert_array_equal(package(backend).log_weights(read, X, num_particles=50), last)
    for site, given, said in (
        ("z", "w", r"given must be a latent site that the model states before 'z', one of \[\]"),
        ("w", "x", r"one of \['z'\], got 'x'"),
    ):
        with pytest.raises(ValueError, match=said):
            refit(backend, run, prior, site=site, given=given)
    late = SimpleNamespace(model=ask.with_prior(model, "w", prior, given="x"), guide=guide)
    with pytest.raises(ValueError, match="or states it before 'x', which may be missing too"):
        package(backend).generate(late, size=2)
    wide = made(backend, "conditionals", "DiagonalNormal", 2, context_shape=3)
    with pytest.raises(ValueError, match=r"context_shape=\(2,\), or of maps .*, got"):
        refit(backend, run, wide, site="w", given="z")


@pytest.mark.slow("numpyro")
def test_saved_read_and_fitted_again(backend: Any, tmp_path: Path) -> None:
    run, mixture = fitted(backend), made(backend, "conditionals", "MixturePrior", 2, 3)
    better = refit(backend, run, mixture, validation=X[:10], num_epochs=2)
    expected = package(backend).log_weights(better, X, num_particles=2)
    better.save(tmp_path / "file")
    model = package(backend).evaluation.with_prior(run.model, "z", mixture)
    read = package(backend).load_run(tmp_path / "file", model, run.guide)
    np.testing.assert_array_equal(package(backend).log_weights(read, X, num_particles=2), expected)
    again = refit(backend, better, made(backend, "conditionals", "DiagonalNormal", 2))
    assert len(again.params) == len(better.params)
    np.testing.assert_array_equal(
        package(backend).log_weights(better, X, num_particles=2), expected
    )


@pytest.mark.slow("numpyro")
def test_of_a_vae(backend: Any, tmp_path: Path) -> None:
    """The weights of encoder and decoder stay, and a prior without weights is taken as it is."""
    vae = made(
        backend,
        "models",
        "VAE",
        2,
        2,
        hidden=(4,),
        likelihood=made(backend, "conditionals", "Normal", 2, context_shape=4),
    )
    run = trained(backend, vae.model, vae.guide)
    flow = made(backend, "flows", "MAF", 2, num_layers=1, hidden=(4,))
    better = refit(backend, run, flow, num_epochs=2)
    kept = package(backend).evaluation.reconstruct
    np.testing.assert_array_equal(kept(better, X, seed=1)["x"], kept(run, X, seed=1)["x"])
    standard = refit(backend, run, made(backend, "conditionals", "StandardNormal", 2))
    weights = package(backend).log_weights
    np.testing.assert_allclose(
        weights(standard, X, num_particles=2), weights(run, X, num_particles=2), rtol=1e-6
    )


@pytest.mark.slow("numpyro")
def test_what_is_refused(backend: Any) -> None:
    dist, array = backend.dist, backend.array
    run, normal = fitted(backend), made(backend, "conditionals", "DiagonalNormal", 2)

    def wider(x: Any) -> None:
        w = backend.sample("w", dist.Normal(array(0.0), array(1.0)))
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array(np.zeros(2)), array(1.0)).to_event(1))
            backend.sample("x", dist.Normal(z + w, array(1.0)).to_event(1), obs=x)

    def for_wider(x: Any) -> None:
        backend.sample("w", dist.Normal(backend.param("m", array(0.0)), array(1.0)))
        pair(backend)[1](x)

    def deep(x: Any) -> None:
        with backend.plate("data", len(x)):
            top = backend.sample("top", dist.Normal(array(np.zeros(2)), array(1.0)).to_event(1))
            z = backend.sample("z", dist.Normal(top, array(1.0)).to_event(1))
            backend.sample("x", dist.Normal(z, array(1.0)).to_event(1), obs=x)

    def for_deep(x: Any) -> None:
        shift = backend.param("b", array([2.0, -1.0]))
        with backend.plate("data", len(x)):
            top = backend.sample("top", dist.Normal(x + shift, array(0.5)).to_event(1))
            backend.sample("z", dist.Normal(top, array(0.5)).to_event(1))

    def positive(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Exponential(array(np.ones(2))).to_event(1))
            backend.sample("x", dist.Normal(z, array(1.0)).to_event(1), obs=x)

    def for_positive(x: Any) -> None:
        loc = backend.param("b", array([0.0, 0.0]))
        with backend.plate("data", len(x)):
            backend.sample("z", dist.LogNormal(loc + 0 * x, array(0.5)).to_event(1))

    def masked(x: Any) -> None:
        with backend.plate("data", len(x)), backend.mask(array(np.arange(64)) < 40):
            z = backend.sample("z", dist.Normal(array(np.zeros(2)), array(1.0)).to_event(1))
            backend.sample("x", dist.Normal(z, array(1.0)).to_event(1), obs=x)

    def for_masked(x: Any) -> None:
        with backend.mask(array(np.arange(64)) < 40):
            pair(backend)[1](x)

    def scalar(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array(0.0), array(1.0)))
            backend.sample("x", dist.Normal(z[..., None] + 0 * x, array(1.0)).to_event(1), obs=x)

    def for_scalar(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", dist.Normal(backend.param("m", array(0.0)) + x[:, 0], array(1.0)))

    with pytest.raises(ValueError, match=r"the model has global latents, \['w'\]"):
        refit(backend, trained(backend, wider, for_wider), normal)
    two = trained(backend, deep, for_deep)
    with pytest.raises(ValueError, match=r"several latent sites, \['top', 'z'\]: say whose"):
        refit(backend, two, normal)
    with pytest.raises(ValueError, match="prior of site 'z' differs from datum to datum"):
        refit(backend, two, normal, site="z")
    assert refit(backend, two, normal, site="top").epoch == 1
    with pytest.raises(ValueError, match=r"site must be one of .*'top', 'z'.*, got 'x'"):
        refit(backend, two, normal, site="x")
    with pytest.raises(ValueError, match="cannot be replaced: it is masked"):
        refit(backend, trained(backend, masked, for_masked), normal)
    with pytest.raises(ValueError, match="values of site 'z' are single numbers"):
        refit(backend, trained(backend, scalar, for_scalar), normal)
    with pytest.raises(ValueError, match="must give values inside its support"):
        refit(backend, trained(backend, positive, for_positive), normal)
    with pytest.raises(ValueError, match=r"must give values of shape \(2,\) without a context"):
        refit(backend, run, made(backend, "conditionals", "DiagonalNormal", 3))
    with pytest.raises(ValueError, match="this one has those of encoder and posterior"):
        refit(backend, run, made(backend, "conditionals", "VampPrior"))


@pytest.mark.slow("numpyro")
def test_the_aggregate_posterior_after_training(backend: Any, tmp_path: Path) -> None:
    """Nothing is trained: it has the weights of the run, and no mismatch to its own data."""
    normal = made(backend, "conditionals", "Normal", 2, context_shape=4)
    vae = made(backend, "models", "VAE", 2, 2, hidden=(4,), likelihood=normal)
    run = trained(backend, vae.model, vae.guide, num_epochs=5)

    def aggregate(parts: Any) -> Any:
        return made(
            backend,
            "conditionals",
            "VampPrior",
            parts.encoder,
            parts.posterior,
            pseudo_inputs=X,
            learned=False,
        )

    prior, evaluation = aggregate(vae), package(backend).evaluation
    better = refit(backend, run, prior)
    assert abs(evaluation.elbo_surgery(run, X).marginal_kl) > 1e-3
    assert abs(evaluation.elbo_surgery(better, X).marginal_kl) < 1e-10
    better.save(tmp_path / "file")
    model = evaluation.with_prior(vae.model, "z", prior)
    read = package(backend).load_run(tmp_path / "file", model, vae.guide)
    weights = package(backend).log_weights
    np.testing.assert_array_equal(
        weights(read, X, num_particles=2), weights(better, X, num_particles=2)
    )
    with pytest.raises(ValueError, match="made of an encoder and a posterior that the guide"):
        refit(backend, run, aggregate(made(backend, "models", "VAE", 2, 2, hidden=(4,))))


def test_codes_that_are_not_drawn_all_at_once(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgm_core.prior_fits._KEPT", 2 * X.size)
    """And that a fit has made less likely, by too large a step: a warning says so."""
    prior = made(backend, "conditionals", "DiagonalNormal", 2)
    settings = {"num_epochs": 5, "optim": package(backend).training.Adam(30.0)}
    with pytest.warns(UserWarning, match="'z' are .* nats less likely under the fitted prior"):
        better = refit(backend, fitted(backend), prior, **settings)
    assert len(better.history) == 5


def test_a_site_that_the_model_does_not_have(backend: Any) -> None:
    normal = made(backend, "conditionals", "DiagonalNormal", 2)
    model = package(backend).evaluation.with_prior(pair(backend)[0], "w", normal)
    with pytest.raises(ValueError, match="prior of site 'w' cannot be replaced: the model has no"):
        backend.evaluation.elbo_surgery(backend.run(model, pair(backend)[1]), X)
