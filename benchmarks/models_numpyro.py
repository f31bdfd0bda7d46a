"""Thirteen models as people write them in NumPyro, each with a guide: nothing of this package."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions import transforms as T
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.initialization import init_to_median

positive, lower = constraints.positive, constraints.lower_cholesky


def eight_schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("J", len(sigma)):
        trans = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * trans)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def kidiq(mom_hs, mom_iq, kid_score=None):
    beta = numpyro.sample("beta", dist.ImproperUniform(constraints.real, (), (4,)))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    X = jnp.stack([jnp.ones_like(mom_hs), mom_hs, mom_iq, mom_hs * mom_iq], -1)
    with numpyro.plate("data", len(X)):
        numpyro.sample("kid_score", dist.Normal(X @ beta, sigma), obs=kid_score)


def kidiq_guide(start):
    loc, tril, noise = start

    def guide(*args):
        moved = numpyro.param("moved", jnp.zeros(4))
        inner = numpyro.param("inner", jnp.eye(4), constraint=lower)
        numpyro.sample("beta", dist.MultivariateNormal(loc + tril @ moved, scale_tril=tril @ inner))
        scale = numpyro.param("scale", jnp.array(0.05), constraint=positive)
        at = numpyro.param("at", jnp.log(noise))
        numpyro.sample("sigma", dist.LogNormal(at, scale))

    return guide


def diamonds(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([24]).to_event(1))
    intercept = numpyro.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    absolute = dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0))
    sigma = numpyro.sample("sigma", absolute)
    with numpyro.plate("data", len(X)):
        numpyro.sample("y", dist.Normal(intercept + X @ b, sigma), obs=y)


def diamonds_guide(start):
    loc, tril, noise = start

    def guide(*args):
        moved = numpyro.param("moved", jnp.zeros(24))
        inner = numpyro.param("inner", jnp.eye(24), constraint=lower)
        T24 = tril[:24, :24]
        numpyro.sample("b", dist.MultivariateNormal(loc[:24] + T24 @ moved, scale_tril=T24 @ inner))
        at = numpyro.param("at", jnp.zeros(2))
        scale = numpyro.param("scale", 0.01 * jnp.ones(2), constraint=positive)
        numpyro.sample("Intercept", dist.Normal(loc[24] + 0.01 * at[0], scale[0]))
        numpyro.sample("sigma", dist.LogNormal(jnp.log(noise) + 0.01 * at[1], scale[1]))

    return guide


def garch(y):
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    alpha0 = numpyro.sample("alpha0", dist.ImproperUniform(positive, (), ()))
    alpha1 = numpyro.sample("alpha1", dist.Uniform(0.0, 1.0))
    beta1 = numpyro.sample("beta1", dist.Uniform(0.0, 1 - alpha1))
    numpyro.factor("flat", jnp.log1p(-alpha1))  # over the triangle

    def step(variance, before):
        variance = alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variance
        return variance, variance

    _, later = jax.lax.scan(step, jnp.array(0.25), y[:-1])
    sigma = jnp.sqrt(jnp.concatenate([jnp.array([0.25]), later]))
    with numpyro.plate("time", len(y)):
        numpyro.sample("y", dist.Normal(mu, sigma), obs=y)


def garch_guide(y):
    loc = numpyro.param("loc", jnp.array([5.0, 0.3, 0.0, -0.5]))
    scale = numpyro.param("scale", 0.3 * jnp.ones(4), constraint=positive)
    slope = numpyro.param("slope", jnp.zeros(3))
    numpyro.sample("mu", dist.Normal(loc[0], scale[0]))
    alpha0 = numpyro.sample("alpha0", dist.LogNormal(loc[1], scale[1]))
    at = loc[2] + slope[0] * jnp.log(alpha0)
    sigmoid = T.SigmoidTransform()
    alpha1 = numpyro.sample(
        "alpha1", dist.TransformedDistribution(dist.Normal(at, scale[2]), sigmoid)
    )
    at = loc[3] + slope[1] * jnp.log(alpha0) + slope[2] * jnp.log(alpha1 / (1 - alpha1))
    within = [sigmoid, T.AffineTransform(0.0, 1 - alpha1, domain=constraints.unit_interval)]
    numpyro.sample("beta1", dist.TransformedDistribution(dist.Normal(at, scale[3]), within))


def gauss_mix(y=None, size=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
    parts = dist.Categorical(probs=jnp.stack([theta, 1 - theta], -1))
    with numpyro.plate("data", size or len(y)):
        mixed = dist.MixtureSameFamily(parts, dist.Normal(mu, sigma))
        numpyro.sample("y", mixed, obs=y)


def gauss_mix_guide(y=None, size=None):
    loc = numpyro.param("loc", jnp.array([-1.0, 1.0, 0.0, 0.0, 0.0]))
    scale = numpyro.param("scale", 0.1 * jnp.ones(5), constraint=positive)
    numpyro.sample("mu", dist.Normal(loc[:2], scale[:2]).to_event(1))
    numpyro.sample("sigma", dist.LogNormal(loc[2:4], scale[2:4]).to_event(1))
    at = dist.Normal(loc[4], scale[4])
    numpyro.sample("theta", dist.TransformedDistribution(at, T.SigmoidTransform()))


def students(y, num_students=200):
    spread = numpyro.sample("spread", dist.HalfNormal(2.0))
    items = numpyro.plate("items", y.shape[1], dim=-1)
    with items:
        difficulty = numpyro.sample("difficulty", dist.Normal(0.0, 2.0))
    with numpyro.plate("students", num_students, subsample_size=len(y), dim=-2):
        ability = numpyro.sample("ability", dist.Normal(0.0, 1.0))
        with items:
            numpyro.sample("y", dist.Bernoulli(logits=spread * ability - difficulty), obs=y)


def students_guide(y, num_students=200):
    at = numpyro.param("at", jnp.array([0.0, -1.0, 2.0, 0.0]))
    scale = numpyro.param("scale", jnp.array([0.1, 0.5]), constraint=positive)
    numpyro.sample("spread", dist.LogNormal(at[0], scale[0]))
    with numpyro.plate("items", y.shape[1], dim=-1):
        loc = numpyro.param("loc", jnp.zeros(y.shape[1]))
        wide = numpyro.param("wide", 0.2 * jnp.ones(y.shape[1]), constraint=positive)
        numpyro.sample("difficulty", dist.Normal(loc, wide))
    share = y.mean(1, keepdims=True)
    with numpyro.plate("students", num_students, subsample_size=len(y), dim=-2):
        numpyro.sample("ability", dist.Normal(at[1] + at[2] * share, scale[1]))


def _kernel(x, z, length):
    return jnp.exp(-0.5 * ((x[:, None] - z) / length) ** 2)


def gp_poisson(x, y=None, x_new=None):
    length = numpyro.sample("length", dist.LogNormal(0.0, 0.5))
    eta = numpyro.sample("eta", dist.Normal(0.0, 1.0).expand([len(x)]).to_event(1))
    tril = jnp.linalg.cholesky(_kernel(x, x, length) + 1e-3 * jnp.eye(len(x)))
    f = numpyro.deterministic("f", 1.0 + tril @ eta)
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Poisson(jnp.exp(f)), obs=y)
    if x_new is not None:
        solved = jax.scipy.linalg.solve_triangular(tril, _kernel(x, x_new, length), lower=True)
        mean = 1.0 + solved.T @ eta
        var = jnp.clip(1.0 - (solved**2).sum(0), 1e-6)
        with numpyro.plate("new", len(x_new)):
            f_new = numpyro.sample("f_new", dist.Normal(mean, jnp.sqrt(var)))
            numpyro.sample("y_new", dist.Poisson(jnp.exp(f_new)))


def hmm(y):
    transition = numpyro.sample(
        "transition", dist.Dirichlet(jnp.array([[4.0, 1.0], [1.0, 4.0]])).to_event(1)
    )
    mu = numpyro.sample("mu", dist.Normal(jnp.array([-1.0, 1.0]), 1.0).to_event(1))
    sigma = numpyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    emitted = dist.Normal(mu, sigma).log_prob(y[:, None])

    def step(alpha, now):
        return jax.nn.logsumexp(alpha[:, None] + jnp.log(transition), 0) + now, None

    alpha, _ = jax.lax.scan(step, emitted[0] - jnp.log(2.0), emitted[1:])
    numpyro.factor("forward", jax.nn.logsumexp(alpha))


def hmm_guide(y):
    counts = numpyro.param("counts", jnp.array([[8.0, 2.0], [2.0, 8.0]]), constraint=positive)
    loc = numpyro.param("loc", jnp.array([-1.0, 1.0, 0.0]))
    scale = numpyro.param("scale", 0.1 * jnp.ones(3), constraint=positive)
    numpyro.sample("transition", dist.Dirichlet(counts).to_event(1))
    numpyro.sample("mu", dist.Normal(loc[:2], scale[:2]).to_event(1))
    numpyro.sample("sigma", dist.LogNormal(loc[2], scale[2]))


def bayes_net(x, a=None, c=None):
    def linear(name, inputs):
        weight = numpyro.sample(f"{name}.weight", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        bias = numpyro.sample(f"{name}.bias", dist.Normal(0.0, 1.0))
        return inputs @ weight + bias

    mean, rows = linear("a", x), numpyro.plate("rows", len(x))
    with rows:
        a = numpyro.sample("a", dist.Normal(mean, 0.5), obs=a)
    mean = linear("c", jnp.stack([a, x[:, 0]], -1))
    with rows:
        numpyro.sample("c", dist.Normal(mean, 0.5), obs=c)


def factorization(y, seen):
    n, m = y.shape
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    rows, columns = numpyro.plate("rows", n, dim=-2), numpyro.plate("columns", m, dim=-1)
    with rows:
        u = numpyro.sample("u", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with columns:
        v = numpyro.sample("v", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    mean = numpyro.deterministic("mean", (u * v).sum(-1))
    with rows, columns, numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def factorization_guide(y, seen):
    n, m = y.shape
    at = numpyro.param("at", jnp.array(-0.7))
    scale = numpyro.param("scale", jnp.array(0.1), constraint=positive)
    numpyro.sample("sigma", dist.LogNormal(at, scale))
    keys = jax.random.split(jax.random.key(0))
    for name, plate, shape, key in (
        ("u", numpyro.plate("rows", n, dim=-2), (n, 1, 2), keys[0]),
        ("v", numpyro.plate("columns", m, dim=-1), (m, 2), keys[1]),
    ):
        loc = numpyro.param(f"{name}.loc", 0.5 * jax.random.normal(key, shape))
        eye = jnp.broadcast_to(0.3 * jnp.eye(2), (*shape, 2))
        tril = numpyro.param(f"{name}.tril", eye, constraint=lower)
        with plate:
            numpyro.sample(name, dist.MultivariateNormal(loc, scale_tril=tril))


def vae_missing(x, seen):
    W = numpyro.param("W", 0.3 * jax.random.normal(jax.random.key(0), (2, 6)))
    bias = numpyro.param("bias", jnp.zeros(6))
    noise = numpyro.param("noise", jnp.array(1.0), constraint=positive)
    with numpyro.plate("data", 400, subsample_size=len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pixels = dist.Normal(z @ W + bias, noise).mask(seen).to_event(1)
        numpyro.sample("x", pixels, obs=x)


def vae_missing_guide(x, seen):
    keys = jax.random.split(jax.random.key(1))
    first = numpyro.param("first", 0.3 * jax.random.normal(keys[0], (12, 64)))
    second = numpyro.param("second", 0.1 * jax.random.normal(keys[1], (64, 4)))
    shift = numpyro.param("shift", jnp.zeros(64)), numpyro.param("shift2", jnp.zeros(4))
    inputs = jnp.concatenate([jnp.where(seen, x, 0.0), 1.0 * seen], -1)
    out = jnp.tanh(inputs @ first + shift[0]) @ second + shift[1]
    with numpyro.plate("data", 400, subsample_size=len(x)):
        numpyro.sample("z", dist.Normal(out[:, :2], jnp.exp(out[:, 2:])).to_event(1))


def mixture(x):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    centers = numpyro.sample("centers", dist.Normal(0.0, 3.0).expand([3, 2]).to_event(2))
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
    parts = dist.Normal(centers, scale).to_event(1)
    with numpyro.plate("data", len(x)):
        log_p = parts.log_prob(x[:, None]) + jnp.log(weights)
        numpyro.factor("component", jax.nn.logsumexp(log_p, -1))


def mixture_guide(x):
    counts = numpyro.param("counts", jnp.array([50.0, 50.0, 50.0]), constraint=positive)
    start = jnp.array([[-1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    loc = numpyro.param("loc", start)
    wide = numpyro.param("wide", 0.1 * jnp.ones((3, 2)), constraint=positive)
    numpyro.sample("weights", dist.Dirichlet(counts))
    numpyro.sample("centers", dist.Normal(loc, wide).to_event(2))
    at = numpyro.param("at", jnp.array(0.0))
    narrow = numpyro.param("narrow", jnp.array(0.1), constraint=positive)
    numpyro.sample("scale", dist.LogNormal(at, narrow))


def lkj(series, label):
    tril = numpyro.sample("tril", dist.LKJCholesky(3, 2.0))
    scale = numpyro.sample("scale", dist.HalfNormal(2.0).expand([3]).to_event(1))
    rho = numpyro.sample("rho", dist.Uniform(-1.0, 1.0))
    share = numpyro.sample("share", dist.Dirichlet(jnp.ones(4)))
    numpyro.deterministic("corr", tril @ tril.T)
    with numpyro.plate("time", len(series) - 1):
        noise = dist.MultivariateNormal(rho * series[:-1], scale_tril=scale[:, None] * tril)
        numpyro.sample("series", noise, obs=series[1:])
    with numpyro.plate("people", len(label)):
        numpyro.sample("label", dist.Categorical(share), obs=label)


def stock(kind: Any, model: Callable) -> Callable:
    return kind(model, init_loc_fn=init_to_median(num_samples=50), init_scale=0.1)


MODELS: dict[str, tuple[Callable, Callable[[Any], Callable]]] = {
    "eight_schools": (eight_schools, lambda _: stock(AutoMultivariateNormal, eight_schools)),
    "kidiq": (kidiq, kidiq_guide),
    "garch": (garch, lambda _: garch_guide),
    "gauss_mix": (gauss_mix, lambda _: gauss_mix_guide),
    "diamonds": (diamonds, diamonds_guide),
    "students": (students, lambda _: students_guide),
    "gp_poisson": (gp_poisson, lambda _: stock(AutoMultivariateNormal, gp_poisson)),
    "hmm": (hmm, lambda _: hmm_guide),
    "bayes_net": (bayes_net, lambda _: stock(AutoMultivariateNormal, bayes_net)),
    "factorization": (factorization, lambda _: factorization_guide),
    "vae_missing": (vae_missing, lambda _: vae_missing_guide),
    "mixture": (mixture, lambda _: mixture_guide),
    "lkj": (lkj, lambda _: stock(AutoNormal, lkj)),
}
