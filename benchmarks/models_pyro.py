"""Thirteen models as people write them in Pyro, each with a guide: nothing of this package."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from pyro.distributions import transforms as T
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal, init_to_median
from pyro.nn import PyroModule, PyroSample
from torch import nn

positive, lower = constraints.positive, constraints.lower_cholesky


def eight_schools(sigma, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("J", len(sigma)):
        trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * trans)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def kidiq(mom_hs, mom_iq, kid_score=None):
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (4,)))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    X = torch.stack([torch.ones_like(mom_hs), mom_hs, mom_iq, mom_hs * mom_iq], -1)
    with pyro.plate("data", len(X)):
        pyro.sample("kid_score", dist.Normal(X @ beta, sigma), obs=kid_score)


def kidiq_guide(start):
    loc, tril, noise = map(torch.as_tensor, start)

    def guide(*args):
        moved = pyro.param("moved", torch.zeros(4))
        inner = pyro.param("inner", torch.eye(4), constraint=lower)
        pyro.sample("beta", dist.MultivariateNormal(loc + tril @ moved, scale_tril=tril @ inner))
        scale = pyro.param("scale", torch.tensor(0.05), constraint=positive)
        at = pyro.param("at", noise.log())
        pyro.sample("sigma", dist.LogNormal(at, scale))

    return guide


def diamonds(X, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 1.0).expand([24]).to_event(1))
    intercept = pyro.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    sigma = pyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(intercept + X @ b, sigma), obs=y)


def diamonds_guide(start):
    loc, tril, noise = map(torch.as_tensor, start)
    part = tril[:24, :24]

    def guide(*args):
        moved = pyro.param("moved", torch.zeros(24))
        inner = pyro.param("inner", torch.eye(24), constraint=lower)
        mean = loc[:24] + part @ moved
        pyro.sample("b", dist.MultivariateNormal(mean, scale_tril=part @ inner))
        at = pyro.param("at", torch.zeros(2))
        scale = pyro.param("scale", 0.01 * torch.ones(2), constraint=positive)
        pyro.sample("Intercept", dist.Normal(loc[24] + 0.01 * at[0], scale[0]))
        pyro.sample("sigma", dist.LogNormal(noise.log() + 0.01 * at[1], scale[1]))

    return guide


def garch(y):
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    alpha0 = pyro.sample("alpha0", dist.ImproperUniform(positive, (), ()))
    alpha1 = pyro.sample("alpha1", dist.Uniform(0.0, 1.0))
    beta1 = pyro.sample("beta1", dist.Uniform(0.0, 1 - alpha1))
    pyro.factor("flat", torch.log1p(-alpha1))  # over the triangle
    variance = [torch.tensor(0.25)]
    for before in y[:-1]:
        variance.append(alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variance[-1])
    with pyro.plate("time", len(y)):
        pyro.sample("y", dist.Normal(mu, torch.stack(variance).sqrt()), obs=y)


def garch_guide(y):
    loc = pyro.param("loc", torch.tensor([5.0, 0.3, 0.0, -0.5]))
    scale = pyro.param("scale", 0.3 * torch.ones(4), constraint=positive)
    slope = pyro.param("slope", torch.zeros(3))
    pyro.sample("mu", dist.Normal(loc[0], scale[0]))
    alpha0 = pyro.sample("alpha0", dist.LogNormal(loc[1], scale[1]))
    at = loc[2] + slope[0] * alpha0.log()
    logistic = T.SigmoidTransform()
    alpha1 = pyro.sample(
        "alpha1", dist.TransformedDistribution(dist.Normal(at, scale[2]), [logistic])
    )
    at = loc[3] + slope[1] * alpha0.log() + slope[2] * alpha1.logit()
    within = [logistic, T.AffineTransform(0.0, 1 - alpha1)]
    pyro.sample("beta1", dist.TransformedDistribution(dist.Normal(at, scale[3]), within))


def gauss_mix(y=None, size=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
    theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
    parts = dist.Categorical(probs=torch.stack([theta, 1 - theta], -1))
    with pyro.plate("data", size or len(y)):
        mixed = dist.MixtureSameFamily(parts, dist.Normal(mu, sigma))
        pyro.sample("y", mixed, obs=y)


def gauss_mix_guide(y=None, size=None):
    loc = pyro.param("loc", torch.tensor([-1.0, 1.0, 0.0, 0.0, 0.0]))
    scale = pyro.param("scale", 0.1 * torch.ones(5), constraint=positive)
    pyro.sample("mu", dist.Normal(loc[:2], scale[:2]).to_event(1))
    pyro.sample("sigma", dist.LogNormal(loc[2:4], scale[2:4]).to_event(1))
    at = dist.Normal(loc[4], scale[4])
    pyro.sample("theta", dist.TransformedDistribution(at, [T.SigmoidTransform()]))


def students(y, num_students=200):
    spread = pyro.sample("spread", dist.HalfNormal(2.0))
    items = pyro.plate("items", y.shape[1], dim=-1)
    with items:
        difficulty = pyro.sample("difficulty", dist.Normal(0.0, 2.0))
    with pyro.plate("students", num_students, subsample_size=len(y), dim=-2):
        ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
        with items:
            pyro.sample("y", dist.Bernoulli(logits=spread * ability - difficulty), obs=y)


def students_guide(y, num_students=200):
    at = pyro.param("at", torch.tensor([0.0, -1.0, 2.0, 0.0]))
    scale = pyro.param("scale", torch.tensor([0.1, 0.5]), constraint=positive)
    pyro.sample("spread", dist.LogNormal(at[0], scale[0]))
    with pyro.plate("items", y.shape[1], dim=-1):
        loc = pyro.param("loc", torch.zeros(y.shape[1]))
        wide = pyro.param("wide", 0.2 * torch.ones(y.shape[1]), constraint=positive)
        pyro.sample("difficulty", dist.Normal(loc, wide))
    share = y.mean(1, keepdim=True)
    with pyro.plate("students", num_students, subsample_size=len(y), dim=-2):
        pyro.sample("ability", dist.Normal(at[1] + at[2] * share, scale[1]))


def _kernel(x, z, length):
    return (-0.5 * ((x[:, None] - z) / length) ** 2).exp()


def gp_poisson(x, y=None, x_new=None):
    length = pyro.sample("length", dist.LogNormal(0.0, 0.5))
    eta = pyro.sample("eta", dist.Normal(0.0, 1.0).expand([len(x)]).to_event(1))
    tril = torch.linalg.cholesky(_kernel(x, x, length) + 1e-3 * torch.eye(len(x)))
    f = pyro.deterministic("f", 1.0 + tril @ eta)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Poisson(f.exp()), obs=y)
    if x_new is not None:
        solved = torch.linalg.solve_triangular(tril, _kernel(x, x_new, length), upper=False)
        mean = 1.0 + solved.T @ eta
        var = (1.0 - (solved**2).sum(0)).clip(1e-6)
        with pyro.plate("new", len(x_new)):
            f_new = pyro.sample("f_new", dist.Normal(mean, var.sqrt()))
            pyro.sample("y_new", dist.Poisson(f_new.exp()))


def hmm(y):
    counts = torch.tensor([[4.0, 1.0], [1.0, 4.0]])
    transition = pyro.sample("transition", dist.Dirichlet(counts).to_event(1))
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
    sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    emitted = dist.Normal(mu, sigma).log_prob(y[:, None])
    alpha = emitted[0] - torch.tensor(2.0).log()
    for now in emitted[1:]:
        alpha = (alpha[:, None] + transition.log()).logsumexp(0) + now
    pyro.factor("forward", alpha.logsumexp(0))


def hmm_guide(y):
    start = torch.tensor([[8.0, 2.0], [2.0, 8.0]])
    counts = pyro.param("counts", start, constraint=positive)
    loc = pyro.param("loc", torch.tensor([-1.0, 1.0, 0.0]))
    scale = pyro.param("scale", 0.1 * torch.ones(3), constraint=positive)
    pyro.sample("transition", dist.Dirichlet(counts).to_event(1))
    pyro.sample("mu", dist.Normal(loc[:2], scale[:2]).to_event(1))
    pyro.sample("sigma", dist.LogNormal(loc[2], scale[2]))


class Linear(PyroModule):
    """A linear map with priors over its weights."""

    def __init__(self):
        super().__init__()
        self.weight = PyroSample(dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        self.bias = PyroSample(dist.Normal(0.0, 1.0))

    def forward(self, inputs):
        return inputs @ self.weight + self.bias


class BayesNet(PyroModule):
    """x -> a -> c <- x, all linear with noise of 0.5."""

    def __init__(self):
        super().__init__()
        self.a, self.c = Linear(), Linear()

    def forward(self, x, a=None, c=None):
        mean, rows = self.a(x), pyro.plate("rows", len(x))
        with rows:
            a = pyro.sample("a", dist.Normal(mean, 0.5), obs=a)
        mean = self.c(torch.stack([a, x[:, 0]], -1))
        with rows:
            pyro.sample("c", dist.Normal(mean, 0.5), obs=c)


bayes_net = BayesNet()


def factorization(y, seen):
    n, m = y.shape
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    rows, columns = pyro.plate("rows", n, dim=-2), pyro.plate("columns", m, dim=-1)
    with rows:
        u = pyro.sample("u", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with columns:
        v = pyro.sample("v", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    mean = pyro.deterministic("mean", (u * v).sum(-1))
    with rows, columns, pyro.poutine.mask(mask=seen):
        pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def factorization_guide(y, seen):
    n, m = y.shape
    at = pyro.param("at", torch.tensor(-0.7))
    scale = pyro.param("scale", torch.tensor(0.1), constraint=positive)
    pyro.sample("sigma", dist.LogNormal(at, scale))
    for name, plate, shape in (
        ("u", pyro.plate("rows", n, dim=-2), (n, 1, 2)),
        ("v", pyro.plate("columns", m, dim=-1), (m, 2)),
    ):
        loc = pyro.param(f"{name}.loc", lambda shape=shape: 0.5 * torch.randn(shape))
        eye = 0.3 * torch.eye(2).expand(*shape, 2)
        tril = pyro.param(f"{name}.tril", eye, constraint=lower)
        with plate:
            pyro.sample(name, dist.MultivariateNormal(loc, scale_tril=tril))


def vae_missing(x, seen):
    W = pyro.param("W", lambda: 0.3 * torch.randn(2, 6))
    bias = pyro.param("bias", torch.zeros(6))
    noise = pyro.param("noise", torch.tensor(1.0), constraint=positive)
    with pyro.plate("data", 400, subsample_size=len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pixels = dist.Normal(z @ W + bias, noise).mask(seen).to_event(1)
        pyro.sample("x", pixels, obs=x)


class VAEGuide(nn.Module):
    """A network of the seen entries and of where they are."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 4))

    def forward(self, x, seen):
        pyro.module("encoder", self.network)
        out = self.network(torch.cat([x.masked_fill(~seen, 0.0), seen.float()], -1))
        with pyro.plate("data", 400, subsample_size=len(x)):
            pyro.sample("z", dist.Normal(out[:, :2], out[:, 2:].exp()).to_event(1))


def mixture(x):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    centers = pyro.sample("centers", dist.Normal(0.0, 3.0).expand([3, 2]).to_event(2))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    parts = dist.Normal(centers, scale).to_event(1)
    with pyro.plate("data", len(x)):
        log_p = parts.log_prob(x[:, None]) + weights.log()
        pyro.factor("component", log_p.logsumexp(-1))


def mixture_guide(x):
    counts = pyro.param("counts", torch.tensor([50.0, 50.0, 50.0]), constraint=positive)
    loc = pyro.param("loc", torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
    wide = pyro.param("wide", 0.1 * torch.ones(3, 2), constraint=positive)
    at = pyro.param("at", torch.tensor(0.0))
    narrow = pyro.param("narrow", torch.tensor(0.1), constraint=positive)
    pyro.sample("weights", dist.Dirichlet(counts))
    pyro.sample("centers", dist.Normal(loc, wide).to_event(2))
    pyro.sample("scale", dist.LogNormal(at, narrow))


def lkj(series, label):
    tril = pyro.sample("tril", dist.LKJCholesky(3, 2.0))
    scale = pyro.sample("scale", dist.HalfNormal(2.0).expand([3]).to_event(1))
    rho = pyro.sample("rho", dist.Uniform(-1.0, 1.0))
    share = pyro.sample("share", dist.Dirichlet(torch.ones(4)))
    pyro.deterministic("corr", tril @ tril.mT)
    with pyro.plate("time", len(series) - 1):
        noise = dist.MultivariateNormal(rho * series[:-1], scale_tril=scale[:, None] * tril)
        pyro.sample("series", noise, obs=series[1:])
    with pyro.plate("people", len(label)):
        pyro.sample("label", dist.Categorical(share), obs=label)


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
    "vae_missing": (vae_missing, lambda _: VAEGuide()),
    "mixture": (mixture, lambda _: mixture_guide),
    "lkj": (lkj, lambda _: stock(AutoNormal, lkj)),
}
