"""Discrete latents as particles: values and gradients are those of the sum written out."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.toys import log_normal, log_softmax

X = np.linspace(-2.0, 2.5, 6)
CLASSES = (2, 3, 5)
SCALE = 0.7


def params_of(size: int) -> dict[str, np.ndarray]:
    """Numbers of no special value: of the model, and of a guide that classifies."""
    rng = np.random.default_rng(size)
    names = {"logits": size, "mu": size, "slope": size, "bias": size, "loc": (), "log_scale": ()}
    return {name: 0.7 * rng.standard_normal(shape) for name, shape in names.items()}


def mixture(backend: Any) -> Callable[..., None]:
    """c_n ~ Categorical(logits), x_n | c_n ~ Normal(mu_c, 0.7)."""
    dist, param = backend.dist, backend.param

    def model(x: Any, size: int | None = None) -> None:
        logits, mu = param("logits"), param("mu")
        with backend.plate("data", size or len(x), subsample_size=len(x)):
            c = backend.sample("c", dist.Categorical(logits=logits))
            backend.sample("x", dist.Normal(mu[c], backend.array(SCALE)), obs=x)

    return model


def marginal(backend: Any) -> Callable[..., None]:
    """The same without c."""
    dist, param = backend.dist, backend.param

    def model(x: Any, size: int | None = None) -> None:
        logits, mu = param("logits"), param("mu")
        with backend.plate("data", size or len(x), subsample_size=len(x)):
            parts = dist.Normal(mu, backend.array(SCALE) + 0.0 * mu)
            mix = dist.MixtureSameFamily(dist.Categorical(logits=logits), parts)
            backend.sample("x", mix, obs=x)

    return model


def nothing(x: Any, size: int | None = None) -> None:
    """A guide that draws nothing."""


def classifier(backend: Any) -> Callable[..., None]:
    """c_n ~ Categorical(slope x_n + bias)."""
    dist, param = backend.dist, backend.param

    def guide(x: Any, size: int | None = None) -> None:
        with backend.plate("data", size or len(x), subsample_size=len(x)):
            logits = x[:, None] * param("slope") + param("bias")
            backend.sample("c", dist.Categorical(logits=logits))

    return guide


def assert_equal(found: Any, expected: Any) -> None:
    """Losses, and gradients by name."""
    assert found[0] == pytest.approx(expected[0], rel=1e-10, abs=1e-10)
    for name, gradient in expected[2].items():
        np.testing.assert_allclose(found[2][name], gradient, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("size", CLASSES)
@pytest.mark.parametrize("written", ["ELBO", "ELBO one by one", "IWAE"])
def test_summed_out_is_the_marginal_model(backend: Any, size: int, written: str) -> None:
    losses, params = backend.losses, params_of(size)
    loss = {
        "ELBO": lambda: losses.ELBO(enumerate="c"),
        "ELBO one by one": lambda: losses.ELBO(num_particles=2, vectorize=False, enumerate="c"),
        "IWAE": lambda: losses.IWAE(3, enumerate="c"),
    }[written]()
    found = backend.evaluate(loss, mixture(backend), nothing, X, params=params, size=30)
    exact = backend.evaluate(losses.NLL(), marginal(backend), nothing, X, params=params, size=30)
    assert_equal(found, exact)


def written_out(backend: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """sum_c q(c) [log p(x, c) - log q(c)] as a factor."""
    dist, param, np_ = backend.dist, backend.param, backend.np

    def model(x: Any, size: int | None = None) -> None:
        logits, mu = param("logits"), param("mu")
        q = dist.Categorical(logits=x[:, None] * param("slope") + param("bias"))
        p, total = dist.Categorical(logits=logits), 0.0
        for c in range(len(mu)):
            value = np_.zeros_like(x, dtype=int) + c
            log_p = dist.Normal(mu[c], backend.array(SCALE)).log_prob(x) + p.log_prob(value)
            log_q = q.log_prob(value)
            total = total + np_.exp(log_q) * (log_p - log_q)
        with backend.plate("data", size or len(x), subsample_size=len(x)):
            backend.factor("total", total)

    return model, nothing


@pytest.mark.parametrize("size", CLASSES)
@pytest.mark.parametrize("estimator", ["reparam", "stl", "score", "analytic"])
def test_classifier_is_the_sum_over_classes(backend: Any, size: int, estimator: str) -> None:
    losses, params = backend.losses, params_of(size)
    how = {"analytic_kl": True} if estimator == "analytic" else {"estimator": estimator}
    loss = losses.ELBO(enumerate="c", **how)
    found = backend.evaluate(loss, mixture(backend), classifier(backend), X, params=params, size=30)
    exact = backend.evaluate(losses.ELBO(), *written_out(backend), X, params=params, size=30)
    assert_equal(found, exact)
    tilted = losses.ELBO(enumerate="c", beta=0.3, **how)
    terms = backend.evaluate(
        tilted, mixture(backend), classifier(backend), X, params=params, size=30
    )[1]
    assert terms["ELBO"] == pytest.approx(
        terms["ELBO/log_likelihood"] - 0.3 * terms["ELBO/KL"], abs=1e-12
    )
    assert terms["ELBO/log_likelihood"] - terms["ELBO/KL"] == pytest.approx(
        -exact[0] / 30, abs=1e-10
    )


def test_no_noise_of_the_classifier(backend: Any) -> None:
    """The gradient of a classifier does not vary where the score function's does."""
    losses, pair = backend.losses, (mixture(backend), classifier(backend))
    params = params_of(3)
    exact, plain = (
        np.array(
            [
                backend.evaluate(loss, *pair, X, params=params, seed=seed)[2]["slope"]
                for seed in range(8)
            ]
        )
        for loss in (losses.ELBO(enumerate="c"), losses.ELBO())
    )
    assert exact.std(0).max() < 1e-12 and plain.std(0).min() > 0.1


def test_two_sites(backend: Any) -> None:
    """One of them in the guide, the product of their values as particles."""
    dist, array, param = backend.dist, backend.array, backend.param
    table = np.array([[0.3, -1.2, 0.8], [1.5, 0.1, -0.6]])
    log_a, log_b = log_softmax(np.array([0.4, -0.2])), log_softmax(np.array([0.1, 0.9, -0.5]))

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            a = backend.sample("a", dist.Categorical(logits=array(log_a)))
            b = backend.sample("b", dist.Categorical(logits=array(log_b)))
            backend.sample("x", dist.Normal(array(table)[a, b], array(0.9)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("a", dist.Categorical(logits=x[:, None] * param("w")))

    w = np.array([0.4, -0.7])
    loss = backend.losses.ELBO(enumerate=("b", "a"))
    found = backend.evaluate(loss, model, guide, X, params={"w": w})[0]
    log_q = log_softmax(X[:, None] * w)
    log_p = log_a[:, None] + log_b + log_normal(X[:, None, None], table, 0.9)
    ratio = np.logaddexp.reduce(log_p, -1) - log_q
    assert -found == pytest.approx((np.exp(log_q) * ratio).sum(), abs=1e-10)


SEEN = np.array([True, False, True, False, False, True])
LABELS = np.array([0, 0, 2, 0, 0, 1])


@pytest.mark.parametrize("drawn", [False, True])
def test_labels_of_some_data(backend: Any, drawn: bool) -> None:
    """obs_mask: what is labeled counts by its label, what is not by the sum."""
    dist, array, np_ = backend.dist, backend.array, backend.np
    log_c, mu = log_softmax(np.array([0.2, -0.5, 0.9])), np.array([-1.0, 0.3, 2.0])
    weight = np.array([0.4, -0.3, 0.2])

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            fn = dist.Categorical(logits=array(log_c))
            obs, mask = np_.asarray(LABELS), np_.asarray(SEEN)
            c = backend.sample("c", fn, obs=obs, obs_mask=mask)
            backend.sample("x", dist.Normal(array(mu)[c], array(SCALE)), obs=x)

    def guide(x: Any) -> None:
        if drawn:
            with backend.plate("data", len(x)), backend.mask(~np_.asarray(SEEN)):
                fn = dist.Categorical(logits=x[:, None] * array(weight))
                backend.sample("c_unobserved", fn)

    loss = backend.losses.ELBO(enumerate="c")
    found = backend.evaluate(loss, model, guide, X)[0]
    log_p = log_c + log_normal(X[:, None], mu, SCALE)
    log_q = log_softmax(X[:, None] * weight)
    unseen = (np.exp(log_q) * (log_p - log_q)).sum(-1) if drawn else np.logaddexp.reduce(log_p, -1)
    expected = np.where(SEEN, log_p[np.arange(len(X)), LABELS], unseen).sum()
    assert -found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("kind", ["Bernoulli", "Binomial"])
def test_kinds_of_values(backend: Any, kind: str) -> None:
    dist, array = backend.dist, backend.array
    fn = {
        "Bernoulli": lambda: dist.Bernoulli(probs=array(0.3)),
        "Binomial": lambda: dist.Binomial(3, probs=array(0.4)),
    }[kind]()
    log_p, center = {
        "Bernoulli": (np.log([0.7, 0.3]), np.array([0.0, 1.0])),
        "Binomial": (
            np.log([math.comb(3, k) * 0.4**k * 0.6 ** (3 - k) for k in range(4)]),
            np.arange(4.0),
        ),
    }[kind]

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            c = backend.sample("c", fn)
            backend.sample("x", dist.Normal(1.0 * c, array(SCALE)), obs=x)

    found = backend.evaluate(backend.losses.ELBO(enumerate="c"), model, nothing, X)[0]
    expected = np.logaddexp.reduce(log_p + log_normal(X[:, None], center, SCALE), -1).sum()
    assert -found == pytest.approx(expected, abs=1e-10)


def test_a_guide_that_leaves_the_site_to_the_model(backend: Any) -> None:
    """A joint guide of the global sites: the others are summed out at its draws."""
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        mu = backend.sample("mu", dist.Normal(array([-1.0, 1.5]), array(1.0)).to_event(1))
        with backend.plate("data", len(x)):
            c = backend.sample("c", dist.Categorical(logits=array([0.3, -0.6])))
            backend.sample(
                "x", dist.Normal(mu[..., 0] * (1 - c) + mu[..., 1] * c, array(SCALE)), obs=x
            )

    extra = {} if backend.name == "pyro" else {"key": backend.jax.random.key(1)}
    guide = backend.guides.JointGuide(model, sites=["mu"], name=f"left_{backend.name}", **extra)
    loss = backend.losses.ELBO(num_particles=2, enumerate="c")

    def read(joints: Any) -> tuple[Any, Any]:
        joint = joints.inference(enumerate=("c",))
        assert joint.summed_sites == ("c",)
        return joint.values("mu"), joint.log_w

    if backend.name == "pyro":
        found = read(loss.joints(model, guide, (backend.array(X),)))
        mu, log_w = (x.detach().numpy() for x in found)
    else:

        def evaluated(x: Any) -> tuple[Any, Any]:
            params = backend.parameters(guide, x)
            return read(loss.joints(backend.jax.random.key(0), params, model, guide, (x,)))

        mu, log_w = map(np.asarray, backend.jax.jit(evaluated)(backend.array(X)))
    assert np.array_equal(mu[:2], mu[2:])
    log_c = log_softmax(np.array([0.3, -0.6]))
    expected = np.logaddexp.reduce(log_c + log_normal(X[:, None], mu[:2, None], SCALE), -1)
    np.testing.assert_allclose(log_w, expected, rtol=1e-10)


def test_weights_of_a_run(backend: Any) -> None:
    params = params_of(3)
    run = backend.run(mixture(backend), nothing, params)
    log_w = backend.evaluation.log_weights(run, X, num_particles=2, enumerate="c")
    log_p = log_softmax(params["logits"]) + log_normal(X[:, None], params["mu"], SCALE)
    expected = np.logaddexp.reduce(log_p, -1)
    np.testing.assert_allclose(log_w, np.stack([expected] * 2), rtol=1e-6)
    with pytest.raises(ValueError, match=r"misses \['c'\].*enumerate="):
        backend.evaluation.log_weights(run, X, num_particles=2)


def test_posterior_of_a_run(backend: Any) -> None:
    """Of a site that the guide does not draw: p(c | x), and in one that it leaves to the model."""
    params, names = params_of(3), {"num_draws": 3000, "enumerate": "c", "seed": 3}
    run = backend.run(mixture(backend), nothing, params)
    log_p = log_softmax(params["logits"]) + log_normal(X[:, None], params["mu"], SCALE)
    found = backend.evaluation.sample_posterior(run, X, **names)
    assert found["c"].shape == (3000, len(X))
    shares = np.stack([(found["c"] == c).mean(0) for c in range(3)], -1)
    np.testing.assert_allclose(shares, np.exp(log_softmax(log_p)), atol=0.05)
    e = backend.evaluation
    draws = e.latents(run, X, **names)["c"]
    assert np.array_equal(draws, found["c"])
    mean = e.latents(run, X, means=True, **names)["c"]
    np.testing.assert_allclose(mean, draws.mean(0))
    assert np.array_equal(e.median(run, X, **names)["c"], np.median(draws, 0))
    quantiles = e.quantiles(run, X, probs=(0.2, 0.9), **names)["c"]
    assert np.array_equal(quantiles, np.quantile(draws, (0.2, 0.9), 0))
    with pytest.raises(ValueError, match=r"misses \['c'\]"):
        backend.evaluation.sample_posterior(run, X, num_draws=2)


def test_refusals(backend: Any) -> None:
    dist, array, losses = backend.dist, backend.array, backend.losses
    one, flat = array(1.0), array([0.0, 0.0])

    def program(kind: str) -> Callable[..., None]:
        def model(x: Any) -> None:
            if kind == "global":
                c = backend.sample("c", dist.Categorical(logits=flat))
            with backend.plate("data", len(x)):
                if kind in ("coupled", "late"):
                    c = backend.sample("c", dist.Categorical(logits=flat))
                elif kind == "count":
                    c = backend.sample("c", dist.Poisson(one))
                elif kind == "scaled":
                    with backend.scale(0.5):
                        c = backend.sample("c", dist.Categorical(logits=flat))
                elif kind == "many":
                    c = backend.sample("c", dist.Categorical(logits=array(np.zeros(2000))))
                elif kind == "real":
                    c = backend.sample("c", dist.Normal(0.0 * one, one))
                elif kind == "marked":
                    infer = {"enumerate": "parallel"}
                    c = backend.sample("c", dist.Categorical(logits=flat), infer=infer)
                elif kind == "plain":
                    c = backend.sample("c", dist.Categorical(logits=flat))
                if kind != "coupled":
                    backend.sample("x", dist.Normal(1.0 * c, one), obs=x)
            if kind == "late":
                backend.sample("w", dist.Normal(0.0 * one, one))
            if kind == "coupled":
                w = backend.sample("w", dist.Normal(0.0 * one, one))
                with backend.plate("again", len(x)):
                    backend.sample("x", dist.Normal(w + c, one), obs=x)

        return model

    def with_w(x: Any) -> None:
        backend.sample("w", dist.Normal(0.0 * one, one))

    for kind, sentence in {
        "global": r"must lie in the data plates \['data'\]",
        "coupled": r"must lie in the data plates \['again'\]",
        "late": "'w' lies outside the data plates and comes after the enumerated site 'c'",
        "count": "the values of Poisson cannot be listed",
        "scaled": "Site 'c' is summed out, but a handler scales its density by 0.5",
        "many": r"have 2000 values together, each of them a particle, of which 1024",
        "real": "the values of Normal cannot be listed",
    }.items():
        guide = with_w if kind in ("coupled", "late") else nothing
        with pytest.raises(ValueError, match=sentence):
            backend.evaluate(losses.ELBO(enumerate="c"), program(kind), guide, X)
    for names, sentence in {
        "k": r"enumerate names \['k'\], which the model does not have; its latent sites are",
        (): r"\['c'\] ask to be enumerated .* ELBO\(enumerate=\('c',\)\)",
    }.items():
        loss, kind = losses.ELBO(enumerate=names), "plain" if names else "marked"
        with pytest.raises(ValueError, match=sentence):
            backend.evaluate(loss, program(kind), classifier(backend), X, params=params_of(2))
    found = backend.evaluate(losses.ELBO(enumerate="c"), program("marked"), nothing, X)
    assert math.isfinite(found[0])
    with pytest.raises(ValueError, match="must be the name of a discrete latent site or a tuple"):
        losses.ELBO(enumerate=["c"])

    def other(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("c", dist.Categorical(logits=array([0.0, 0.0, 0.0])))

    with pytest.raises(ValueError, match="has 2 values in the model and 3 in the guide"):
        backend.evaluate(losses.ELBO(enumerate="c"), program("marked"), other, X)
