"""Flows where conditionals go: priors of models that are sampled by NUTS or fitted by stock guides,
posteriors and priors of a VAE, densities.
"""

from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend, PyroBackend


@pytest.fixture(params=["pyro", "numpyro"])
def package(request: pytest.FixtureRequest) -> Any:
    import importlib

    return importlib.import_module(f"{request.param}_dgm")


def keyed(package: Any, seed: int = 0) -> dict[str, Any]:
    """The key that JAX wants."""
    if package.__name__ == "pyro_dgm":
        import torch

        torch.manual_seed(seed)
        return {}
    import jax

    return {"key": jax.random.key(seed)}


X = np.random.default_rng(0).standard_normal((60, 2)) @ np.array(
    [[1.0, 0.8], [0.0, 0.6]]
) + np.array([1.0, -2.0])


def density_model(package: Any, flow: Any) -> Any:
    if package.__name__ == "pyro_dgm":
        from pyro import plate, sample
    else:
        from numpyro import plate, sample

    def model(x: Any) -> None:
        with plate("data", len(x)):
            sample("x", package.nn.register("flow", flow)(), obs=x)

    return model


@pytest.mark.parametrize("name", ["MAF", "RealNVP"])
@pytest.mark.slow("numpyro")
def test_a_density_fits_a_normal_distribution(package: Any, name: str) -> None:
    """NLL of data from a correlated normal distribution comes within 0.02 nat of the best normal
    distribution for them.
    """
    x = X.astype(np.float32)
    flow = (
        getattr(package.flows, name)(2, num_layers=2, hidden=(), **keyed(package))
        if name == "MAF"
        else package.flows.RealNVP(2, **keyed(package))
    )
    run = package.fit(
        density_model(package, flow),
        None,
        x,
        loss=package.NLL(),
        optim=package.Adam(2e-2),
        num_epochs=300,
        progress=False,
    )
    best = (
        0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(X.T, bias=True))[1]
    )  # of normal distributions, which both can be
    assert best - 0.3 < run.history.last["NLL"] < best + 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("posterior", "prior", "estimator"),
    [
        ("IAF", "MAF", "reparam"),
        ("IAF", "MAF", "stl"),
        ("Sylvester", None, "stl"),
        ("Planar", "RealNVP", "reparam"),
    ],
)
def test_flows_in_a_vae(package: Any, posterior: str, prior: str | None, estimator: str) -> None:
    """Train, score, draw and infer with a flow on either side; the bound rises and stays below the
    importance-weighted one.
    """
    x = (X[:, :1] + X > 0).astype(np.float32)
    parts = {
        "posterior": getattr(package.flows, posterior)(
            2, context_shape=8, num_layers=2, **keyed(package, 1)
        )
    }
    if prior:
        parts["prior"] = getattr(package.flows, prior)(2, num_layers=2, **keyed(package, 2))
    vae = package.VAE(2, 2, hidden=(8,), **parts, **keyed(package))
    loss = package.ELBO(estimator=estimator)
    run = package.fit(
        vae.model,
        vae.guide,
        x,
        loss=loss,
        optim=package.Adam(1e-2),
        num_epochs=40,
        batch_size=20,
        progress=False,
    )
    bounds = run.history.column("ELBO")
    assert bounds[-1] > bounds[0] + 0.05
    log_w = package.log_weights(run, x, num_particles=64)
    assert np.isfinite(log_w).all()
    assert log_w.mean() < np.log(np.exp(log_w).mean(0)).mean() < 0
    assert package.generate(run, size=5)["z"].shape == (5, 2)
    assert package.latents(run, x, num_draws=8, means=True)["z"].shape == (60, 2)


@pytest.mark.slow
def test_a_flow_prior_under_nuts_and_a_stock_guide() -> None:
    """z ~ flow, y ~ Normal(z, 1), where the flow is affine, so that the posterior is normal: NUTS
    finds its mean, AutoNormal its evidence bound.
    """
    import jax
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoMultivariateNormal

    from numpyro_dgm.flows import MAF

    flow = MAF(2, num_layers=1, hidden=(), key=jax.random.key(1))
    y = jax.numpy.array([1.0, -0.5])

    def model() -> None:
        z = numpyro.sample("z", flow())
        numpyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)

    draws = np.asarray(flow().sample(jax.random.key(0), (200_000,)))
    log_weights = -0.5 * ((np.asarray(y) - draws) ** 2).sum(1)
    weights = np.exp(log_weights)
    mean, log_evidence = weights @ draws / weights.sum(), np.log(weights.mean()) - np.log(2 * np.pi)
    mcmc = MCMC(NUTS(model), num_warmup=300, num_samples=1000, progress_bar=False)
    mcmc.run(jax.random.key(2))
    np.testing.assert_allclose(mcmc.get_samples()["z"].mean(0), mean, atol=0.12)
    guide = AutoMultivariateNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(2e-2), Trace_ELBO(num_particles=8))
    result = svi.run(jax.random.key(3), 1500, progress_bar=False)
    np.testing.assert_allclose(-np.mean(result.losses[-300:]), log_evidence, atol=0.05)


@pytest.mark.slow
def test_a_flow_prior_under_pyros_nuts_and_stock_guide() -> None:
    """The same in Pyro."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoMultivariateNormal

    from pyro_dgm.flows import MAF

    torch.manual_seed(1)
    flow = MAF(2, num_layers=1, hidden=()).requires_grad_(False)
    y = torch.tensor([1.0, -0.5])

    def model() -> None:
        z = pyro.sample("z", flow())
        pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)

    draws = flow().sample((200_000,)).numpy()
    weights = np.exp(-0.5 * ((y.numpy() - draws) ** 2).sum(1))
    mean, log_evidence = weights @ draws / weights.sum(), np.log(weights.mean()) - np.log(2 * np.pi)
    mcmc = MCMC(NUTS(model), num_samples=400, warmup_steps=200, disable_progbar=True)
    mcmc.run()
    np.testing.assert_allclose(mcmc.get_samples()["z"].mean(0), mean, atol=0.15)
    guide = AutoMultivariateNormal(model)
    svi = SVI(
        model,
        guide,
        pyro.optim.Adam({"lr": 2e-2}),
        Trace_ELBO(num_particles=8, vectorize_particles=True),
    )
    losses = [svi.step() for _ in range(1000)]
    np.testing.assert_allclose(-np.mean(losses[-300:]), log_evidence, atol=0.05)


@pytest.mark.parametrize("backend", [PyroBackend, NumPyroBackend])
def test_a_draw_is_scored_without_another_pass(backend: Any) -> None:
    """The loss of a model with an IAF guide never asks for the inverse of a draw that it has just
    made.
    """
    library = backend()
    package = __import__(f"{library.name}_dgm")
    flow = package.flows.IAF(2, num_layers=1, **keyed(package))
    calls = []

    class Watched(type(flow.transforms[0])):  # type: ignore[misc]
        def inverse_and_log_det(self, x: Any, context: Any = None) -> Any:
            calls.append(x)
            return super().inverse_and_log_det(x, context)

    watched = Watched(2, **keyed(package))
    flow = package.flows.Flow(2, [watched])

    def model() -> None:
        z = library.sample("z", library.dist.Normal(library.np.zeros(2), 1.0).to_event(1))
        library.sample("y", library.dist.Normal(z, 1.0).to_event(1), obs=library.np.zeros(2))

    several = package.ELBO(num_particles=3, vectorize=True)  # without a look at single runs before
    library.evaluate(several, model, lambda: library.sample("z", flow()))
    assert not calls
    library.evaluate(package.ELBO(estimator="stl"), model, lambda: library.sample("z", flow()))
    assert calls  # which needs log q as a function of the value
