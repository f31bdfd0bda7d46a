"""Models of clusters against exact values: y in three classes (0.5, 0.3, 0.2), z | y ~ Normal((-2,
0, 3), (0.5, 1, 0.25)), x ~ Normal(z, 0.2) at x = 0.7; sticks broken by Kumaraswamy's distribution.
"""

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special
from scipy.stats import beta, dirichlet, norm

from dgm_core.mixtures import fitted_mixture
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.structured.exact import bound, built, evaluated, raw

P, MU, V, NOISE = (
    np.array([0.5, 0.3, 0.2]),
    np.array([-2.0, 0.0, 3.0]),
    np.array([0.5, 1, 0.25]),
    0.2,
)
EVIDENCE, UNIFORM, ONE, MARGINAL = -2.40000627, -4.59006446, -2.44429847, -2.40060044
RESPONSIBILITIES = np.array([0.01439485, 0.98193269, 0.00367246])
MEAN, SPREAD = 0.5780906559728438, 0.17702710952554984**0.5  # of z given x


def joint_at(x: float) -> np.ndarray:
    """log p(x, y)."""
    return np.log(P) + norm.logpdf(x, MU, np.sqrt(V + NOISE))


def exact(backend: Any, q: np.ndarray, **settings: Any) -> Any:
    """A GMVAE without hidden layers, which is this model, with q(y | x) = q; with `summed` q(z | x)
    is the normal distribution with the moments of p(z | x), else q(z | x, y) is exact.
    """
    gain = V / (V + NOISE)
    spread = np.sqrt(gain * NOISE)
    weights = {
        "likelihood.head.weight": [[1.0], [0.0]],
        "likelihood.head.bias": [0.0, raw(NOISE**0.5)],
        "prior.head.weight": np.stack([MU, [raw(v**0.5) for v in V]]),
        "class_prior.free": np.log(P),
    }
    if settings.get("summed"):
        weights |= {
            "posterior.head.bias": [MEAN, raw(SPREAD)],
        }
    else:
        weights |= {
            "classes.head.bias": np.log(q),
            # The gain depends on the class: the mean is exact at x = 0.7 alone.
            "posterior.head.weight": np.stack(
                [[0.0, *(gain * 0.7 + (1 - gain) * MU)], [0.0, *map(raw, spread)]]
            ),
        }
    likelihood = ("DiagonalNormal", 1, 1)
    return built(
        backend, "GMVAE", 1, 1, 3, hidden=(), likelihood=likelihood, weights=weights, **settings
    )


def test_gmvae(backend: Any) -> None:
    joint, x = joint_at(0.7), np.array([[0.7]])
    np.testing.assert_allclose(np.logaddexp.reduce(joint), EVIDENCE, atol=1e-8)
    np.testing.assert_allclose(np.exp(joint - EVIDENCE), RESPONSIBILITIES, atol=1e-8)
    np.testing.assert_allclose(joint.mean() + np.log(3), UNIFORM, atol=1e-8)
    loss = backend.losses.ELBO(enumerate="y")
    for q, value in ((RESPONSIBILITIES, EVIDENCE), (np.full(3, 1 / 3), UNIFORM)):
        found, slopes = evaluated(
            backend, lambda pair: [bound(backend, loss, pair, x)], exact(backend, q)
        )
        np.testing.assert_allclose(-found, value, atol=1e-7)
        f = joint - np.log(q)
        slope = q * (f - (q * f).sum())
        np.testing.assert_allclose(slopes[0]["classes.head.bias"], -slope, atol=1e-7)


def test_summed_out_by_bayes_rule(backend: Any) -> None:
    """One q(z | x) for all y: against the mixture as prior the bound is tighter than that of a
    guide that draws y, and the classes are those of Bayes' rule.
    """
    pair, loss = exact(backend, P, summed=True), backend.losses.ELBO(enumerate="y", num_particles=4)

    def value(pair: Any) -> list[Any]:
        return [bound(backend, loss, pair, np.full((4000, 1), 0.7))]

    found, slopes = evaluated(backend, value, pair)
    assert -found[0] == pytest.approx(MARGINAL, abs=2e-3)
    assert abs(-found[0] - ONE) > 0.02
    mean, scale = MEAN, SPREAD

    def averaged(f: Any) -> Any:
        z = mean + scale * np.linspace(-8, 8, 4001)
        w = np.exp(norm.logpdf(z, mean, scale)) * (z[1] - z[0])
        return (f(z) * w).sum(-1)

    prior = np.log(P)[:, None]

    def each(z: np.ndarray) -> np.ndarray:
        fit = norm.logpdf(0.7, z, NOISE**0.5) - norm.logpdf(z, mean, scale)
        return prior + norm.logpdf(z, MU[:, None], np.sqrt(V)[:, None]) + fit

    assert averaged(lambda z: np.logaddexp.reduce(each(z), 0)) == pytest.approx(MARGINAL, abs=1e-7)
    drawn = (RESPONSIBILITIES * (averaged(each) - np.log(RESPONSIBILITIES))).sum()
    assert drawn == pytest.approx(ONE, abs=1e-7)  # q(y | x) q(z | x), which draws y
    shares = averaged(lambda z: np.exp(each(z) - np.logaddexp.reduce(each(z), 0)))
    assert slopes[0]["class_prior.free"] == pytest.approx(-(shares - P), abs=5e-3)
    ask = backend.evaluation.class_probabilities
    bayes = ask(pair, np.array([[0.7]]), by="bayes", num_draws=4000)[0]
    np.testing.assert_allclose(bayes, RESPONSIBILITIES, atol=2e-2)


def divergence(a: float, b: float, p: float, q: float) -> float:
    """KL(Kumaraswamy(a, b), Beta(p, q)), the one hard part by adaptive quadrature over -log u."""

    def log_rest(t: float) -> float:
        gap = -np.log1p(-np.exp(-t / b)) / a if t / b < 30 else np.exp(-t / b) / a
        return np.exp(-t) * (np.log(-np.expm1(-gap)) if gap > 0 else -t / b - np.log(a))

    parts = [integrate.quad(log_rest, *ends, limit=400)[0] for ends in ((0, 1), (1, 8), (8, 60))]
    log_x = (special.digamma(1) - special.digamma(1 + b)) / a
    known = np.log(a * b) + special.betaln(p, q) + (a - p) * log_x - (b - 1) / b
    return known - (q - 1) * sum(parts)


def test_sticks(backend: Any) -> None:
    """The divergence by quadrature, where the series of 11 terms is off, and its gradient."""
    cases = np.array([(1.2, 3.0, 1.0, 5.0), (0.5, 0.7, 1.0, 2.0), (5.0, 0.3, 2.0, 0.5)])
    cases = np.concatenate([cases, [(0.05, 20.0, 1.0, 3.0), (30.0, 0.05, 1.0, 4.0)]])
    kumaraswamy = type(base_of(backend.conditionals.Kumaraswamy(1)()))

    def total(a: Any, b: Any) -> Any:
        p, q = backend.array(cases[:, 2]), backend.array(cases[:, 3])
        kl = divergence_of(backend)
        return kl(kumaraswamy(a, b), backend.dist.Beta(p, q))

    found, slopes = with_slopes(backend, total, cases[:, 0], cases[:, 1])
    np.testing.assert_allclose(found, [divergence(*case) for case in cases], rtol=1e-7)
    step = 1e-5
    for index in range(3):
        for place in range(2):
            moved = [cases[index] + sign * step * np.eye(4)[place] for sign in (1, -1)]
            slope = (divergence(*moved[0]) - divergence(*moved[1])) / (2 * step)
            assert slopes[place][index] == pytest.approx(slope, rel=1e-4)
    a, b, p, q = cases[1]
    terms = sum(special.beta(m / a, b) / (m + a * b) for m in range(1, 12))
    log_x = (special.digamma(1) - special.digamma(b) - 1 / b) / a
    cut = (a - p) * log_x + np.log(a * b) + special.betaln(p, q) - (b - 1) / b + (q - 1) * b * terms
    assert abs(cut - found[1]) > 0.1


def base_of(fn: Any) -> Any:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def divergence_of(backend: Any) -> Any:
    if backend.name == "pyro":
        return backend.torch.distributions.kl_divergence
    return backend.dist.kl_divergence


def with_slopes(backend: Any, function: Any, *arrays: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """The values of a function of arrays, and the gradients of their sum."""
    given = [backend.array(x) for x in arrays]
    if backend.name == "pyro":
        given = [x.requires_grad_() for x in given]
        found = function(*given)
        slopes = backend.torch.autograd.grad(found.sum(), given)
        return found.detach().numpy(), [slope.numpy() for slope in slopes]
    found, slopes = backend.jax.jit(
        lambda *given: (
            function(*given),
            backend.jax.grad(lambda given: function(*given).sum())(given),
        )
    )(*given)
    return np.asarray(found), [np.asarray(slope) for slope in slopes]


def test_a_start_from_the_run_of_a_vae(backend: Any) -> None:
    """Networks with the weights of the run, and the mixture of its codes as prior; what gives no
    codes is refused."""
    library = importlib.import_module(f"{backend.name}_dgm")
    key = {} if backend.name == "pyro" else {"key": backend.jax.random.key(0)}
    x = np.repeat(np.eye(6, dtype=np.float32), 3, 0)
    vae = library.VAE(6, 2, hidden=(5,), **key)
    run = library.fit(vae.model, vae.guide, x, num_epochs=2, progress=False)
    pair = library.GMVAE.from_run(run, x, 3, seed=4)
    codes = library.latents(run, x, means=True)["z"]
    log_weights, means, scales = fitted_mixture(codes, 3, 4)
    found = [pair.prior(backend.np.arange(3)), pair.class_prior()]
    ours = [found[0].mean, found[0].variance, found[1].probs]
    for one, two in zip(ours, (means, scales**2, np.exp(log_weights)), strict=True):
        np.testing.assert_allclose(asarray(backend, one), two, rtol=1e-4, atol=1e-5)
    features = pair.encoder(backend.array(x))
    np.testing.assert_allclose(asarray(backend, pair.posterior(features).mean), codes, atol=1e-5)
    odd = SimpleNamespace(model=pair.model, params={})
    for bad, message in (
        ((odd, x, 3), "run must be what fit returns for the model and guide of a VAE"),
        ((run, x[:, :5], 3), "x must have shape"),
        ((run, x[:5], 3), "at least 6 codes, got 5"),
        ((run, np.full_like(x, np.nan), 3), "not finite"),
        ((run, x, 1), "num_classes must be an integer of at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            library.GMVAE.from_run(*bad)


def asarray(backend: Any, x: Any) -> np.ndarray:
    return x.detach().numpy() if backend.name == "pyro" else np.asarray(x)


@pytest.mark.parametrize("lib", [PyroLibrary, NumPyroLibrary])
def test_symmetric_sticks(lib: Any, x64: None) -> None:
    """The weights of a symmetric DLGMM are of Dirichlet(0.3) with four classes, in the density of v
    by the change of variables, and the guide starts at that prior whatever the concentration.
    """
    lib, v = lib(), np.array([[0.2, 0.6, 0.1], [0.9, 0.5, 0.7]])
    left = np.cumprod(np.concatenate([np.ones((2, 1)), 1 - v], 1), 1)
    weights = left * np.concatenate([v, np.ones((2, 1))], 1)
    wanted = dirichlet([0.3] * 4).logpdf(weights.T) + np.log(left[:, :3]).sum(1)
    for symmetric, second in ((True, [0.9, 0.6, 0.3]), (False, [0.3, 0.3, 0.3])):
        options = {"hidden": (5,), "concentration": 0.3, "symmetric": symmetric}
        pair = lib.build("models", "DLGMM", 6, 2, 4, **options)
        density = lib.call(
            lambda v, pair=pair: lib.trace(
                pair.model, lib.array(np.zeros((2, 6))), substituted={"v": v}
            )["v"]["log_prob"],
            lib.array(v),
        )
        other = beta(1, 0.3).logpdf(v).sum(1)
        np.testing.assert_allclose(density, wanted if symmetric else other, rtol=1e-10)
        q = pair.sticks.build(pair.sticks.head.bias).base_dist
        first = [0.3 if symmetric else 1.0] * 3
        np.testing.assert_allclose(lib.numpy(q.concentration1), first, rtol=1e-6)
        np.testing.assert_allclose(lib.numpy(q.concentration0), second, rtol=1e-6)
