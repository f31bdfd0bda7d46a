"""Guides put together of parts, those of the libraries among them, and guides without a density."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tests.guides.test_amortized import Identity, key
from tests.guides.test_joint import drawn
from tests.losses.training import package

X = np.array([1.3, -0.4, 2.2, 0.9, -1.7])


def levels(b: Any) -> Callable:
    """mu ~ Normal(0, 1),  z_n ~ Normal(mu, 1),  x_n ~ Normal(z_n, 1)."""
    d = b.dist

    def model(x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(mu, b.array(1.0)))
            b.sample("x", d.Normal(z, b.array(1.0)), obs=x)

    return model


def scaled(b: Any) -> Callable:
    """The same with a positive latent."""
    d = b.dist

    def model(x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(1.0)))
        tau = b.sample("tau", d.Gamma(b.array(2.0), b.array(2.0)))
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(mu, tau))
            b.sample("x", d.Normal(z, b.array(1.0)), obs=x)

    return model


def evidence() -> float:
    return float(multivariate_normal(np.zeros(5), 2 * np.eye(5) + 1).logpdf(X))


def exact(b: Any, outer: float = 1.0, inner: float = 1.0, name: str = "exact") -> Any:
    """The posterior itself:  q(mu), and q(z_n | x_n, mu), at weights worked out by hand; too narrow
    by the factors `outer` and `inner`."""
    normal = b.conditionals.Normal
    parts = {
        "mu": b.guides.JointGuide.part(partial(normal, scale=1.0), init="prior"),
        ("z",): b.guides.AmortizedGuide.part(Identity(), partial(normal, scale=inner * 0.5**0.5)),
    }
    guide = b.guides.CompositeGuide(levels(b), parts, complete=True, name=name, **key(b))
    guide.prepare(b.array(X))
    vector, local = guide.parts
    start, spread = (float(getattr(v, "value", v)[0]) for v in (vector.start, vector.spread))
    precision = 1 + len(X) / 2
    sd, mean = outer * precision**-0.5, X.sum() / 2 / precision
    weights = {
        "log_scale": [np.log(sd / spread)],
        "shift": [(mean - start) / sd],
        "weight": [[0.5, 0.5 * spread]],
        "bias": [0.5 * start],
    }
    if b.name == "pyro":
        head = local.families[0].head
        places = {"log_scale": vector, "shift": vector, "weight": head, "bias": head}
        for path, value in weights.items():
            getattr(places[path], path).data.copy_(b.array(value))
        return guide
    import equinox as eqx

    def places(parts: Any) -> list[Any]:
        head = parts[1].families[0].head
        return [parts[0].log_scale, parts[0].shift, head.weight, head.bias]

    guide.parts = eqx.tree_at(places, guide.parts, [b.array(x) for x in weights.values()])
    return guide


def test_two_exact_conditionals_give_the_evidence(backend: Any) -> None:
    b = backend
    run = b.run(levels(b), exact(b))
    weights = package(b).log_weights(run, X, num_particles=6)
    np.testing.assert_allclose(weights, evidence(), rtol=1e-10)


@pytest.mark.parametrize("name", ["AutoNormal", "AutoMultivariateNormal", "AutoIAFNormal"])
@pytest.mark.slow
def test_automatic_guides_as_parts(backend: Any, name: str) -> None:
    """They answer their sites, the others see the model's; the bound is one."""
    b, p, g = backend, package(backend), backend.guides
    infer = getattr(b, b.name).infer
    model = scaled(b)
    if b.name == "pyro":
        b.pyro.clear_param_store()
    parts = {
        ("mu", "tau"): getattr(infer.autoguide, name),
        "z": g.AmortizedGuide.part(Identity(), {"z": g.Merged()}),
    }
    guide = g.CompositeGuide(model, parts, **key(b))
    run = p.fit(model, guide, X, num_steps=300, optim=p.Adam(0.02), progress=False)
    before, after = run.history.column("loss")[[0, -1]]
    assert after < before
    sums = p.log_weights(run, X, num_particles=2000)
    best = np.log(np.mean(np.exp(sums - sums.max()))) + sums.max()
    assert sums.mean() < best < -7.0
    wide = g.JointGuide(model, b.conditionals.DiagonalNormal, init_scale=1.0, name="wide")
    own = p.log_weights(b.run(model, wide), X, num_particles=40_000)
    expected = np.log(np.mean(np.exp(own - own.max()))) + own.max()
    assert best == pytest.approx(expected, abs=0.15)


def test_a_point_part_brings_no_density(backend: Any) -> None:
    b, p, g = backend, package(backend), backend.guides
    infer = getattr(b, b.name).infer
    model = scaled(b)
    if b.name == "pyro":
        b.pyro.clear_param_store()
    guide = g.CompositeGuide(model, {("mu", "tau"): infer.autoguide.AutoDelta}, **key(b))
    run = p.fit(model, guide, X, num_steps=3, progress=False)
    with pytest.raises(ValueError, match=r"Sites \['mu', 'tau'\] are point masses"):
        p.log_weights(run, X, num_particles=3)


def test_refusals(backend: Any) -> None:
    b, g = backend, backend.guides
    model, joint = levels(b), g.JointGuide.part
    infer = getattr(b, b.name).infer
    for parts, match in (
        ({}, "parts must be a dict"),
        ({3: joint()}, "named by a site or a tuple of sites, got 3"),
        ({"mu": joint(), ("z", "mu"): joint()}, r"\['mu'\] twice"),
        ({"mu": joint(sites=["mu"])}, "names sites by itself"),
        ({"mu": 3}, "must build a part, got 3"),
    ):
        with pytest.raises(ValueError, match=match):
            g.CompositeGuide(model, parts)
    for parts, match in (
        ({"w": joint()}, r"\['w'\], which are no latent sites"),
        ({"mu": joint()}, r"No part answers the sites \['z'\]"),
        ({"mu": g.Prior(), "z": g.AmortizedGuide.part(Identity(), {})}, r"answers \[\]"),
        ({"mu": lambda model: model, "z": g.Prior()}, "an automatic guide of a model"),
    ):
        with pytest.raises(ValueError, match=match):
            g.CompositeGuide(model, parts, complete=True, name="c", **key(b)).prepare(b.array(X))

    def subsampled(x: Any) -> None:
        with b.plate("data", 9, subsample_size=5):
            b.sample("z", b.dist.Normal(b.array(0.0), b.array(1.0)))

    guide = g.CompositeGuide(subsampled, {"z": infer.autoguide.AutoNormal}, name="sub")
    with pytest.raises(ValueError, match="subsampled plate"):
        drawn(b, guide, X)


def test_sites_without_a_part_are_the_models_own(backend: Any) -> None:
    b, g = backend, backend.guides
    guide = g.CompositeGuide(levels(b), {"mu": g.JointGuide.part(), "z": g.Prior()}, name="own")
    value, _, _ = b.evaluate(b.losses.ELBO(num_particles=3), levels(b), guide, X)
    assert np.isfinite(value) and set(drawn(b, guide, X)) == {"mu", "z"}


def test_an_implicit_guide_has_no_density(backend: Any) -> None:
    b, g, p = backend, backend.guides, package(backend)
    model = scaled(b)
    amortized = g.ImplicitGuide(levels(b), Identity(), name="local", **key(b))
    for guide in (g.ImplicitGuide(model, sites=["mu", "tau"], **key(b)), amortized):
        found = drawn(b, guide, X)
        assert found["z"].shape == (5,) and found.get("tau", 1.0) > 0
        with pytest.raises(ValueError, match="has no density"):
            b.evaluate(b.losses.IWAE(3), guide.model, guide, X)
        with pytest.raises(ValueError, match="has no density"):
            p.log_weights(b.run(guide.model, guide), X, num_particles=3)
    with pytest.raises(ValueError, match=r"inputs: .* no meaning without an encoder"):
        g.ImplicitGuide(model, inputs="x")
    with pytest.raises(ValueError, match=r"init: .* no meaning without a joint vector"):
        g.ImplicitGuide(model, Identity(), init="map")


@pytest.mark.slow
def test_an_implicit_guide_learns_a_posterior(backend: Any) -> None:
    """mu ~ Normal(0, 1), five numbers of mean 0.46 and sd 1: Normal(2.3 / 6, 1 / sqrt(6))."""
    b, d, p = backend, backend.dist, package(backend)

    def model(x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", len(x)):
            b.sample("x", d.Normal(mu, b.array(1.0)), obs=x)

    if b.name == "pyro":
        b.pyro.clear_param_store()
        b.torch.manual_seed(0)
    generator = partial(b.conditionals.Generator, hidden=(16,))
    guide = b.guides.ImplicitGuide(model, None, generator, init="prior", **key(b))
    loss = b.losses.RatioELBO(contrast="adaptive", num_particles=64)
    run = p.fit(model, guide, X, loss=loss, num_steps=800, optim=p.Adam(0.01), progress=False)
    draws = package(b).evaluation.sample_posterior(run, X, num_draws=4000)["mu"]
    assert draws.mean() == pytest.approx(2.3 / 6, abs=0.08)
    assert draws.std() == pytest.approx(6**-0.5, rel=0.15)


@pytest.mark.slow("numpyro-local", "numpyro-moved")
@pytest.mark.parametrize("kind", ["joint", "stock", "local", "moved"])
def test_a_mask_that_is_switched_on_is_refused(backend: Any, kind: str) -> None:
    """A program that masks a site of a vector after the guide was built: q would count entries that
    p does not."""
    b, g, normal = backend, backend.guides, backend.conditionals.DiagonalNormal
    infer = getattr(b, b.name).infer
    masks: list[Any] = []

    def model(y: Any) -> None:
        with b.plate("rows", 3), ExitStack() as stack:
            z = b.sample("z", b.dist.Normal(b.array(0.0), b.array(1.0)))
            for mask in masks:
                stack.enter_context(b.mask(b.np.asarray(mask)))
            u = b.sample("u", b.dist.Normal(b.array(0.0), b.array(1.0)))
            b.sample("y", b.dist.Normal(z + u, b.array(1.0)), obs=y)

    guide = {
        "joint": lambda: g.JointGuide(model, normal),
        "stock": lambda: g.CompositeGuide(model, {("z", "u"): infer.autoguide.AutoDiagonalNormal}),
        "local": lambda: g.AmortizedGuide(model, Identity(), normal, plate="rows", **key(b)),
        "moved": lambda: g.HamiltonianGuide(
            g.AmortizedGuide(model, Identity(), {"z": normal, "u": normal}, **key(b)), **key(b)
        ),
    }[kind]()
    y = b.array([1.0, -1.0, 0.5])
    guide.prepare(y)
    masks.append(np.array([True, False, True]))
    with pytest.raises(ValueError, match=r"(?i)site 'u' lies under a mask"):
        drawn(b, guide, y)
