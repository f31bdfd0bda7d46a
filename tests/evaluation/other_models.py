"""Models as people write them, once for both backends, small, each with an ordinary guide."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NAN = float("nan")
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(8, 8))


@dataclass
class Kind:
    """A model and a guide, what they are called on, and what should come back.

    Attributes:
        data, new: arguments by name.
        predicted: shape of one draw of every site at the new inputs.
        posterior, observed: the dimensions of every variable in ArviZ, behind chain and draw.
        weights: what `log_weights` has data for.
    """

    model: Callable
    guide: Callable
    data: dict[str, Any]
    new: dict[str, Any]
    predicted: dict[str, tuple[int, ...]]
    posterior: dict[str, tuple[str, ...]]
    observed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    weights: int = 1


def schools(b: Any) -> Kind:
    """A hierarchy with a deterministic site; new schools."""
    d = b.dist

    def model(sigma: Any, y: Any = None) -> None:
        mu = b.sample("mu", d.Normal(0.0, 5.0))
        tau = b.sample("tau", d.HalfCauchy(5.0))
        with b.plate("schools", len(sigma)):
            trans = b.sample("trans", d.Normal(0.0, 1.0))
            theta = b.deterministic("theta", mu + tau * trans)
            b.sample("y", d.Normal(theta, sigma), obs=y)

    def guide(sigma: Any, y: Any = None) -> None:
        b.sample("mu", d.Normal(b.param("loc"), 0.5))
        b.sample("tau", d.LogNormal(1.0, 0.1))
        with b.plate("schools", len(sigma)):
            b.sample("trans", d.Normal(0.1, 0.9))

    data = {"sigma": np.array([15.0, 10.0, 16.0, 11.0]), "y": np.array([28.0, 8.0, -3.0, 7.0])}
    here = ("datum",)
    return Kind(
        model,
        guide,
        data,
        {"sigma": np.array([9.0, 10.0])},
        {"mu": (), "tau": (), "trans": (2,), "theta": (2,), "y": (2,)},
        {"mu": (), "tau": (), "trans": here, "theta": here},
        {"y": here},
    )


def flat_regression(b: Any) -> Kind:
    """Flat priors, and a product that does not broadcast over draws."""
    d = b.dist

    def model(X: Any, y: Any = None) -> None:
        beta = b.sample("beta", d.ImproperUniform(d.constraints.real_vector, (), (3,)))
        sigma = b.sample("sigma", d.HalfCauchy(2.5))
        with b.plate("data", len(X)):
            b.sample("y", d.Normal(X @ beta, sigma), obs=y)

    def guide(X: Any, y: Any = None) -> None:
        b.sample("beta", d.Normal(b.param("loc") * b.array(np.ones(3)), 0.1).to_event(1))
        b.sample("sigma", d.LogNormal(0.0, 0.1))

    return Kind(
        model,
        guide,
        {"X": NOISE[:5, :3], "y": NOISE[:5, 3]},
        {"X": NOISE[:2, :3]},
        {"beta": (3,), "sigma": (), "y": (2,)},
        {"beta": ("beta_dim_0",), "sigma": ()},
        {"y": ("datum",)},
    )


def volatility(b: Any) -> Kind:
    """A support that depends on another latent, and a loop over time."""
    d = b.dist

    def model(y: Any) -> None:
        alpha0 = b.sample("alpha0", d.ImproperUniform(d.constraints.positive, (), ()))
        alpha1 = b.sample("alpha1", d.Uniform(0.0, 1.0))
        beta1 = b.sample("beta1", d.Uniform(0.0, 1 - alpha1))
        variance = [b.array(0.25)]
        for before in y[:-1]:
            variance.append(alpha0 + alpha1 * before**2 + beta1 * variance[-1])
        with b.plate("time", len(y)):
            b.sample("y", d.Normal(0.0, b.np.sqrt(b.np.stack(variance))), obs=y)

    def guide(y: Any) -> None:
        b.sample("alpha0", d.LogNormal(b.param("loc"), 0.1))
        alpha1 = b.sample("alpha1", d.Beta(8.0, 8.0))
        within = d.transforms.AffineTransform(0.0, 1 - alpha1)
        b.sample("beta1", d.TransformedDistribution(d.Beta(8.0, 8.0), [within]))

    names = ("alpha0", "alpha1", "beta1")
    return Kind(
        model,
        guide,
        {"y": NOISE[0]},
        {"y": NOISE[1, :3]},
        {**dict.fromkeys(names, ()), "y": (3,)},
        dict.fromkeys(names, ()),
        {"y": ("datum",)},
    )


def marginalized_mixture(b: Any) -> Kind:
    """The component of every datum is summed out by the distribution."""
    d = b.dist

    def model(y: Any = None, size: int = 5) -> None:
        mu = b.sample("mu", d.Normal(0.0, 2.0).expand([2]).to_event(1))
        theta = b.sample("theta", d.Beta(5.0, 5.0))
        parts = d.Categorical(probs=b.np.stack([theta, 1 - theta], -1))
        with b.plate("data", size):
            b.sample("y", d.MixtureSameFamily(parts, d.Normal(mu, b.array([1.0, 1.0]))), obs=y)

    def guide(y: Any = None, size: int = 5) -> None:
        b.sample("mu", d.Normal(b.param("loc") * b.array([-1.0, 1.0]), 0.2).to_event(1))
        b.sample("theta", d.Beta(9.0, 9.0))

    return Kind(
        model,
        guide,
        {"y": NOISE[2, :5]},
        {"size": 3},
        {"mu": (2,), "theta": (), "y": (3,)},
        {"mu": ("mu_dim_0",), "theta": ()},
        {"y": ("datum",)},
    )


def crossed(b: Any) -> Kind:
    """Students and items, students subsampled: no common plate of latents and data."""
    d = b.dist

    def model(y: Any) -> None:
        items = b.plate("items", 3, dim=-1)
        with items:
            difficulty = b.sample("difficulty", d.Normal(0.0, 2.0))
        with b.plate("students", 6, len(y), dim=-2):
            ability = b.sample("ability", d.Normal(0.0, 1.0))
            with items:
                b.sample("y", d.Bernoulli(logits=ability - difficulty), obs=y)

    def guide(y: Any) -> None:
        with b.plate("items", 3, dim=-1):
            b.sample("difficulty", d.Normal(b.param("loc"), 0.3))
        with b.plate("students", 6, len(y), dim=-2):
            b.sample("ability", d.Normal(y.mean(1)[:, None] - 0.5, 0.7))

    y = 1.0 * (NOISE[:6, :3] > 0)
    return Kind(
        model,
        guide,
        {"y": y},
        {"y": y},
        {"difficulty": (3,), "ability": (6, 1), "y": (6, 3)},
        {"difficulty": ("items",), "ability": ("students", "ability_dim_1")},
        {"y": ("students", "items")},
    )


def process(b: Any) -> Kind:
    """A Gaussian process under a Poisson likelihood, asked for new inputs by an argument."""
    d = b.dist

    def kernel(x: Any, z: Any, length: Any) -> Any:
        return b.np.exp(-0.5 * ((x[:, None] - z) / length) ** 2)

    def model(x: Any, y: Any = None, x_new: Any = None) -> None:
        length = b.sample("length", d.LogNormal(0.0, 0.5))
        eta = b.sample("eta", d.Normal(0.0, 1.0).expand([len(x)]).to_event(1))
        covariance = kernel(x, x, length) + 1e-3 * b.array(np.eye(len(x)))
        f = b.deterministic("f", b.np.linalg.cholesky(covariance) @ eta)
        with b.plate("data", len(x)):
            b.sample("y", d.Poisson(b.np.exp(f)), obs=y)
        if x_new is not None:
            mean = kernel(x_new, x, length) @ b.np.linalg.solve(covariance, f)
            with b.plate("new", len(x_new)):
                f_new = b.sample("f_new", d.Normal(mean, 0.1))
                b.sample("y_new", d.Poisson(b.np.exp(f_new)))

    def guide(x: Any, y: Any = None, x_new: Any = None) -> None:
        b.sample("length", d.LogNormal(b.param("loc"), 0.1))
        b.sample("eta", d.Normal(0.0, 0.9).expand([len(x)]).to_event(1))

    x = np.linspace(-1.0, 1.0, 4)
    return Kind(
        model,
        guide,
        {"x": x, "y": np.array([0.0, 2.0, 1.0, 0.0])},
        {"x": x, "x_new": np.array([-0.5, 2.0])},
        {"length": (), "eta": (4,), "f": (4,), "y": (4,), "f_new": (2,), "y_new": (2,)},
        {"length": (), "eta": ("eta_dim_0",), "f": ("f_dim_0",)},
        {"y": ("datum",)},
    )


def hidden_markov(b: Any) -> Kind:
    """The states are summed out by the forward algorithm: nothing but a factor sees the data."""
    d = b.dist

    def model(y: Any) -> None:
        counts = b.array([[4.0, 1.0], [1.0, 4.0]])
        transition = b.sample("transition", d.Dirichlet(counts).to_event(1))
        mu = b.sample("mu", d.Normal(b.array([-1.0, 1.0]), 1.0).to_event(1))
        emitted = b.np.exp(d.Normal(mu, 0.7).log_prob(y[:, None]))
        alpha = emitted[0] / 2
        for now in emitted[1:]:
            alpha = (alpha @ transition) * now
        b.factor("forward", b.np.log(alpha.sum()))

    def guide(y: Any) -> None:
        counts = b.array([[8.0, 2.0], [2.0, 8.0]])
        b.sample("transition", d.Dirichlet(counts).to_event(1))
        b.sample("mu", d.Normal(b.param("loc") * b.array([-1.0, 1.0]), 0.2).to_event(1))

    shapes = {"transition": (2, 2), "mu": (2,)}
    dims = {"transition": ("transition_dim_0", "transition_dim_1"), "mu": ("mu_dim_0",)}
    return Kind(model, guide, {"y": NOISE[3]}, {"y": NOISE[4, :3]}, shapes, dims)


def network(b: Any) -> Kind:
    """A Bayesian network whose code takes one draw at a time, with its exact posterior as guide."""
    d = b.dist

    def linear(name: str, inputs: Any) -> Any:
        return inputs @ b.sample(f"{name}.weight", d.Normal(0.0, 1.0).expand([2]).to_event(1))

    def model(x: Any, a: Any = None, c: Any = None) -> None:
        mean = linear("a", x)
        assert mean.shape == (len(x),)
        with b.plate("rows", len(x)):
            a = b.sample("a", d.Normal(mean, 0.5), obs=a)
        mean = linear("c", b.np.stack([a, x[:, 0]], -1))
        with b.plate("more", len(x)):
            b.sample("c", d.Normal(mean, 0.5), obs=c)

    def posterior(inputs: Any, out: Any) -> Any:
        precision = b.array(np.eye(2)) + inputs.T @ inputs / 0.25
        mean = b.np.linalg.solve(precision, inputs.T @ out / 0.25)
        return d.MultivariateNormal(mean, precision_matrix=precision)

    def guide(x: Any, a: Any, c: Any) -> None:
        b.sample("a.weight", posterior(x, a))
        b.sample("c.weight", posterior(b.np.stack([a, x[:, 0]], -1), c))

    x = NOISE[:5, :2]
    weights = {"a.weight": (2,), "c.weight": (2,)}
    return Kind(
        model,
        guide,
        {"x": x, "a": NOISE[:5, 2], "c": NOISE[:5, 3]},
        {"x": x, "a": NOISE[:5, 2], "c": NOISE[:5, 3]},
        {**weights, "a": (5,), "c": (5,)},
        {name: (f"{name}_dim_0",) for name in weights},
        {"a": ("rows",), "c": ("more",)},
    )


def factorization(b: Any) -> Kind:
    """Two plates, latents in each, data in both, with missing entries."""
    d = b.dist

    def model(y: Any, seen: Any) -> None:
        rows, columns = b.plate("rows", 4, dim=-2), b.plate("columns", 3, dim=-1)
        with rows:
            u = b.sample("u", d.Normal(0.0, 1.0).expand([2]).to_event(1))
        with columns:
            v = b.sample("v", d.Normal(0.0, 1.0).expand([2]).to_event(1))
        mean = b.deterministic("mean", (u * v).sum(-1))
        with rows, columns, b.mask(seen):
            b.sample("y", d.Normal(mean, 0.5), obs=y)

    def guide(y: Any, seen: Any) -> None:
        with b.plate("rows", 4, dim=-2):
            loc = b.param("loc") * b.array(NOISE[:4, None, :2])
            b.sample("u", d.Normal(loc, 0.3).to_event(1))
        with b.plate("columns", 3, dim=-1):
            b.sample("v", d.Normal(b.array(NOISE[:3, 2:4]), 0.3).to_event(1))

    seen = NOISE[:4, :3] < 0.8
    data = {"y": np.where(seen, NOISE[4:, :3], NAN), "seen": seen}
    return Kind(
        model,
        guide,
        data,
        data,
        {"u": (4, 1, 2), "v": (3, 2), "mean": (4, 3), "y": (4, 3)},
        {
            "u": ("rows", "u_dim_1", "u_dim_2"),
            "v": ("columns", "v_dim_1"),
            "mean": ("mean_dim_0", "mean_dim_1"),
        },
        {"y": ("rows", "columns")},
    )


W = NOISE[5:7, :3]


def missing_entries(b: Any) -> Kind:
    """A decoder of data with missing entries, with its exact posterior as guide."""
    d = b.dist

    def model(x: Any, seen: Any) -> None:
        with b.plate("data", 6, len(x)):
            z = b.sample("z", d.Normal(0.0, 1.0).expand([2]).to_event(1))
            entries = d.Normal(z @ b.array(W), 0.5).mask(seen).to_event(1)
            b.sample("x", entries, obs=x)

    def guide(x: Any, seen: Any) -> None:
        weight = b.array(W)[None] * b.np.where(seen, b.array(1.0), b.array(0.0))[:, None]
        precision = b.array(np.eye(2)) + weight @ b.array(W).T / 0.25
        known = b.np.where(seen, x, b.array(0.0))[:, :, None]
        mean = b.np.linalg.solve(precision, b.array(W) @ known / 0.25)[..., 0]
        with b.plate("data", 6, len(x)):
            b.sample("z", d.MultivariateNormal(mean, precision_matrix=precision))

    seen = NOISE[:6, 3:6] < 0.7
    x = np.where(seen, NOISE[:6, 5:], NAN)
    return Kind(
        model,
        guide,
        {"x": x, "seen": seen},
        {"x": x[:2], "seen": seen[:2]},
        {"z": (2, 2), "x": (2, 3)},
        {"z": ("datum", "z_dim_1")},
        {"x": ("datum",)},
        weights=6,
    )


def factor_mixture(b: Any) -> Kind:
    """The component is summed out by hand, in a factor inside the plate of the data."""
    d = b.dist

    def model(x: Any) -> None:
        share = b.sample("share", d.Dirichlet(b.array([2.0, 2.0])))
        centers = b.sample("centers", d.Normal(0.0, 3.0).expand([2]).to_event(1))
        with b.plate("data", len(x)):
            parts = b.np.exp(d.Normal(centers, 0.7).log_prob(x[:, None]))
            b.factor("component", b.np.log(parts @ share))

    def guide(x: Any) -> None:
        b.sample("share", d.Dirichlet(b.array([5.0, 5.0])))
        b.sample("centers", d.Normal(b.param("loc") * b.array([-1.0, 1.0]), 0.2).to_event(1))

    shapes = {"share": (2,), "centers": (2,)}
    dims = {name: (f"{name}_dim_0",) for name in shapes}
    return Kind(model, guide, {"x": NOISE[6]}, {"x": NOISE[7, :3]}, shapes, dims)


def supports(b: Any) -> Kind:
    """A correlation, a simplex, an interval, and two data sets of different sizes."""
    d = b.dist

    def model(series: Any, label: Any) -> None:
        tril = b.sample("tril", d.LKJCholesky(2, 2.0))
        rho = b.sample("rho", d.Uniform(-1.0, 1.0))
        share = b.sample("share", d.Dirichlet(b.array(np.ones(3))))
        with b.plate("time", len(series) - 1):
            noise = d.MultivariateNormal(rho * series[:-1], scale_tril=tril)
            b.sample("series", noise, obs=series[1:])
        with b.plate("people", len(label)):
            b.sample("label", d.Categorical(share), obs=label)

    def guide(series: Any, label: Any) -> None:
        b.sample("tril", d.LKJCholesky(2, 4.0))
        interval = [d.transforms.AffineTransform(-1.0, 2.0)]
        b.sample("rho", d.TransformedDistribution(d.Beta(5.0, 5.0), interval))
        b.sample("share", d.Dirichlet(b.np.exp(b.param("loc")) + b.array([2.0, 2.0, 1.0])))

    data = {"series": NOISE[:5, :2], "label": np.array([0, 1, 1, 0, 2, 0])}
    return Kind(
        model,
        guide,
        data,
        data,
        {"tril": (2, 2), "rho": (), "share": (3,), "series": (4, 2), "label": (6,)},
        {"tril": ("tril_dim_0", "tril_dim_1"), "rho": (), "share": ("share_dim_0",)},
        {"series": ("time",), "label": ("people",)},
    )
