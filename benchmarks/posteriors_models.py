"""The models of posteriors.py, written so that they broadcast over particles in Pyro."""

import importlib
from collections.abc import Callable
from typing import Any


def model_of(backend: str, name: str) -> Any:
    """A model of benchmarks/posteriors.py; what is not written here is in models_<backend>.py."""
    engine = importlib.import_module(backend)
    dist = importlib.import_module(f"{backend}.distributions")
    xp = importlib.import_module("torch" if backend == "pyro" else "jax.numpy")
    written: dict[str, Callable] = {
        "centered": centered,
        "gauss_mix": ordered_mixture,
        "kidiq": kidiq,
        "diamonds": diamonds,
    }
    if backend == "pyro":
        written["garch"] = garch_in_a_loop
    if name in written:
        return written[name](engine, dist, xp)
    return importlib.import_module(f"models_{backend}").MODELS[name][0]


def centered(engine: Any, dist: Any, xp: Any) -> Any:
    """Eight schools whose effects are drawn about mu, tau apart."""

    def model(sigma: Any, y: Any = None) -> None:
        mu = engine.sample("mu", dist.Normal(0.0, 5.0))
        tau = engine.sample("tau", dist.HalfCauchy(5.0))
        with engine.plate("J", len(sigma)):
            theta = engine.sample("theta", dist.Normal(mu, tau))
            engine.sample("y", dist.Normal(theta, sigma), obs=y)

    return model


def kidiq(engine: Any, dist: Any, xp: Any) -> Any:
    """A regression with an interaction and flat priors."""

    def model(mom_hs: Any, mom_iq: Any, kid_score: Any = None) -> None:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), (4,))
        beta = engine.sample("beta", flat)
        sigma = engine.sample("sigma", dist.HalfCauchy(2.5))
        X = xp.stack([xp.ones_like(mom_hs), mom_hs, mom_iq, mom_hs * mom_iq], -1)
        with engine.plate("data", len(X)):
            engine.sample("kid_score", dist.Normal((X * beta).sum(-1), sigma), obs=kid_score)

    return model


def diamonds(engine: Any, dist: Any, xp: Any) -> Any:
    """A regression with a condition number of 2.6e5."""

    def model(X: Any, y: Any = None) -> None:
        b = engine.sample("b", dist.Normal(0.0, 1.0).expand([24]).to_event(1))
        intercept = engine.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
        sigma = engine.sample("sigma", dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)))
        with engine.plate("data", len(X)):
            engine.sample("y", dist.Normal(intercept + (X * b).sum(-1), sigma), obs=y)

    return model


def garch_in_a_loop(engine: Any, dist: Any, xp: Any) -> Any:
    """GARCH(1, 1) with a loop over time in the program."""
    constraints = dist.constraints

    def model(y: Any) -> None:
        mu = engine.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        alpha0 = engine.sample("alpha0", dist.ImproperUniform(constraints.positive, (), ()))
        alpha1 = engine.sample("alpha1", dist.Uniform(0.0, 1.0))
        beta1 = engine.sample("beta1", dist.Uniform(0.0, 1 - alpha1))
        engine.factor("flat", xp.log1p(-alpha1))  # over the triangle
        a0, a1, b1 = (x.reshape(x.shape or (1,)) for x in (alpha0, alpha1, beta1))
        shocks = a0 + a1 * (y[:-1] - mu) ** 2  # (*particles, T - 1)
        variance = [xp.full_like(a0, 0.25)]
        for shock in shocks.unbind(-1):
            variance.append(shock[..., None] + b1 * variance[-1])
        with engine.plate("time", len(y)):
            engine.sample("y", dist.Normal(mu, xp.cat(variance, -1).sqrt()), obs=y)

    return model


def ordered_mixture(engine: Any, dist: Any, xp: Any) -> Any:
    """The mixture with ordered means, as its reference has it."""

    def model(y: Any, size: Any = None) -> None:
        flat = dist.ImproperUniform(dist.constraints.ordered_vector, (), (2,))
        mu = engine.sample("mu", flat)
        engine.factor("prior", dist.Normal(0.0, 2.0).log_prob(mu).sum(-1))
        sigma = engine.sample("sigma", dist.HalfNormal(xp.full((2,), 2.0)).to_event(1))
        theta = engine.sample("theta", dist.Beta(5.0, 5.0))
        parts = dist.Categorical(probs=xp.stack([theta, 1 - theta], -1))
        with engine.plate("data", len(y)):
            mixed = dist.MixtureSameFamily(parts, dist.Normal(mu, sigma))
            engine.sample("y", mixed, obs=y)

    return model
