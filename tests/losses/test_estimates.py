"""What terms report and how they add up: N(0, 1) against N(1, 1) through a model, weights at every
batch size, a model that was not written for them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.arrays import assert_within_three_errors, value
from tests.losses.test_divergences import NORMALS, row
from tests.losses.test_ratio import as_critic
from tests.losses.training import build, fit, package, parameter

NUM = 50_000
MEAN_DISTANCE = 2 / math.sqrt(math.pi)  # E |X - X'| of two draws of Normal(0, 1)


def shifted(backend: Any) -> tuple[Callable, Callable]:
    """x_n ~ Normal(mu, 1), and no latent site."""
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample(
                "x", dist.Normal(backend.param("mu", backend.array(1.0)), backend.array(1.0)), obs=x
            )

    return model, lambda x: None


def standard(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(num)


def logged(backend: Any, term: Any, x: np.ndarray, seed: int = 0) -> float:
    return backend.evaluate(term, *shifted(backend), x, params={"mu": 1.0}, seed=seed)[1][term.name]


@pytest.mark.parametrize(
    "name", [name for name in NORMALS if name != "alpha(3.0)"]
)  # its estimates have tails without a variance to speak of
def test_f_divergences(backend: Any, name: str) -> None:
    """With the exact critic, log p/q = 1/2 - x, the logged bound is the divergence."""
    f = row(backend, name)
    term = backend.losses.FDivergence(
        "x", as_critic(backend, lambda x: f.optimal_output(0.5 - x)), f=f
    )
    on_real, on_fake = (
        value(backend, lambda x, g=g: g(f.optimal_output(0.5 - x)), x)
        for g, x in (
            (f.activation, standard(NUM)),
            (f.conjugate_of_activation, 1 + standard(NUM, 1)),
        )
    )
    error = math.sqrt((on_real.var() + on_fake.var()) / NUM)
    assert logged(backend, term, standard(NUM)) == pytest.approx(NORMALS[name], abs=3 * error)
    assert error < 0.25 * abs(NORMALS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kl", "jensen_shannon", "squared_hellinger"])
def test_trained_critics_reach_the_divergence(backend: Any, name: str) -> None:
    """A network that is trained against a model which does not move reports the divergence of the
    two, from below but for noise.
    """
    dgm, x = package(backend), standard(16_384)
    critic = build(backend, dgm.losses.Critic, 1, hidden=(32,), activation="tanh")
    term = dgm.losses.FDivergence("x", critic, f=row(backend, name), optim=dgm.Adam(0.01))
    run = fit(
        backend,
        shifted(backend)[0],
        None,
        x,
        loss=term,
        optim=dgm.Adam(0.01),
        num_epochs=24,
        batch_size=1024,
        lr_schedule=lambda step: 0.0,
    )
    assert float(parameter(run, "mu")) == 1.0
    found = run.history.column("FDivergence(x)")[-8:].mean()  # over 131,072 draws each
    noise = {"kl": 0.006, "jensen_shannon": 0.003, "squared_hellinger": 0.005}[
        name
    ]  # three standard errors of F with the best critic
    assert 0.95 * NORMALS[name] - noise < found < NORMALS[name] + noise


def test_wasserstein(backend: Any) -> None:
    """A shift by one, seen by the best critic V(x) = -x, whose slope is one everywhere and costs no
    penalty.
    """
    critic = as_critic(backend, lambda x: -x)
    found = logged(backend, backend.losses.Wasserstein("x", critic), standard(NUM))
    assert found == pytest.approx(1.0, abs=3 * math.sqrt(2 / NUM))
    key = None if backend.name == "pyro" else backend.jax.random.key(0)
    points = backend.array(standard(50)), backend.array(standard(50, 1))
    assert float(backend.losses.GradientPenalty(10.0)(critic, *points, key)) == pytest.approx(
        0.0, abs=1e-10
    )


@pytest.mark.slow
def test_trained_wasserstein_critic(backend: Any) -> None:
    """A shift of length one in the plane. (On the line a critic that starts with the wrong slope
    stays there: the penalty bars the way through slope zero.)
    """
    dgm, dist = package(backend), backend.dist
    critic = build(backend, dgm.losses.Critic, 2, hidden=(32,), activation="tanh")
    term = dgm.losses.Wasserstein("x", critic, optim=dgm.Adam(0.01), critic_steps=1)

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample(
                "x",
                dist.Normal(
                    backend.param("mu", backend.array([0.6, 0.8])), backend.array(1.0)
                ).to_event(1),
                obs=x,
            )

    x = standard(32_768).reshape(-1, 2)
    run = fit(
        backend,
        model,
        None,
        x,
        loss=term,
        optim=dgm.Adam(0.01),
        num_epochs=25,
        batch_size=512,
        lr_schedule=lambda step: 0.0,
    )
    assert (
        0.93 < run.history.column("Wasserstein(x)")[-5:].mean() < 1.08
    )  # the best penalized critic has slope 1.05


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("MMD", 0.177268),
        ("linear", 0.177268),
        ("EnergyScore", 0.541807 / 2 + MEAN_DISTANCE / 2),
        ("SlicedWasserstein", 1.0),
    ],
)
def test_terms_without_a_critic(backend: Any, name: str, truth: float) -> None:
    losses = backend.losses
    kernel = losses.RBF((1.0,))
    term = {
        "MMD": losses.MMD("x", kernel),
        "linear": losses.MMD("x", kernel, linear=True),
        "EnergyScore": losses.EnergyScore("x", num_samples=3),
        "SlicedWasserstein": losses.SlicedWasserstein("x", num_directions=1, p=1.0),
    }[name]
    model, guide = shifted(backend)
    num = 2000 if name == "SlicedWasserstein" else 200  # whose bias fades with their number
    found = [
        backend.evaluate(term, model, guide, standard(num, seed), params={"mu": 1.0}, seed=seed)[1][
            term.name
        ]
        for seed in range(40)
    ]
    assert_within_three_errors(np.array(found), truth)


POPULATION = 1024
X = np.random.default_rng(5).normal(1.0, 1.0, POPULATION)


def latent(backend: Any) -> tuple[Callable, Callable]:
    """z_n ~ Normal(0, 1), x_n | z_n ~ Normal(w z_n + b, 1) in a plate of which a batch is present,
    with the guide Normal(a x_n, 0.7).
    """
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        with backend.plate("data", POPULATION, subsample_size=len(x)):
            z = backend.sample("z", dist.Normal(array(0.0), array(1.0)))
            backend.sample(
                "x", dist.Normal(backend.param("w") * z + backend.param("b"), array(1.0)), obs=x
            )

    def guide(x: Any) -> None:
        with backend.plate("data", POPULATION, subsample_size=len(x)):
            backend.sample("z", dist.Normal(backend.param("a") * x, array(0.7)))

    return model, guide


@pytest.mark.long("[numpyro")
@pytest.mark.slow
def test_weights_mean_the_same_at_every_batch_size(backend: Any) -> None:
    """The gradient of a weighted sum has equal expectations for batches of 16 and 256 out of 1024,
    and for all at once.
    """
    losses = backend.losses
    on_x, on_both = (
        as_critic(backend, lambda x: 0.4 * x),
        as_critic(backend, lambda v: v[:, 0] * v[:, 1] - 0.5 * v[:, 0]),
    )
    loss = (
        losses.ELBO()
        + 2.0 * losses.JensenShannon("x", on_x)
        + 0.5 * losses.FDivergence(("x", "z"), on_both, f="pearson")
        + 3.0 * losses.MMD("z", losses.RBF(1.0))
    )
    loss = loss + 0.7 * losses.EnergyScore("x")
    model, guide = latent(backend)
    params = {"w": 0.8, "b": 0.3, "a": 0.5}
    rng = np.random.default_rng(0)
    means, errors = [], []
    for size, num in ((16, 400), (256, 60), (POPULATION, 30)):
        batches = [rng.choice(X, size, replace=False) for _ in range(num)]
        found = [
            backend.evaluate(loss, model, guide, batch, params=params, seed=seed)[2]
            for seed, batch in enumerate(batches)
        ]
        gradients = np.array(
            [[gradient[name] for name in params] for gradient in found]
        )  # (num, 3)
        means.append(gradients.mean(0))
        errors.append(gradients.std(0, ddof=1) / math.sqrt(num))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        z = (means[i] - means[j]) / np.hypot(errors[i], errors[j])
        assert np.abs(z).max() < 3.5, z
    assert (np.abs(means[2]) > 10 * errors[2]).all()  # there is a gradient to compare


MASK = np.arange(12) % 3 > 0


def foreign(backend: Any) -> tuple[Callable, Callable]:
    """A hierarchical model: a global latent, a subsampled plate with a local one, two observed
    sites of which one is masked.
    """
    dist, array, exp = backend.dist, backend.array, backend.np.exp

    def model(x: Any, y: Any) -> None:
        shift = backend.sample("shift", dist.Normal(array(0.0), array(1.0)))
        with backend.plate("data", 48, subsample_size=len(x)):
            z = backend.sample("z", dist.Normal(shift, exp(backend.param("log_scale"))))
            backend.sample(
                "x",
                dist.Normal(
                    array(np.zeros(2)) + z[..., None] * backend.param("w"), array(0.5)
                ).to_event(1),
                obs=x,
            )
            with backend.mask(backend.np.asarray(MASK)):
                backend.sample("y", dist.Normal(z + backend.param("b"), array(1.0)), obs=y)

    def guide(x: Any, y: Any) -> None:
        backend.sample("shift", dist.Normal(backend.param("m"), array(0.3)))
        with backend.plate("data", 48, subsample_size=len(x)):
            backend.sample("z", dist.Normal((x * backend.param("a")).sum(-1), array(0.4)))

    return model, guide


FOREIGN = {
    "log_scale": 0.1,
    "w": np.array([1.0, -0.5]),
    "b": 0.5,
    "m": 0.2,
    "a": np.array([0.6, 0.1]),
}


@pytest.mark.slow("numpyro")
def test_a_model_that_was_not_written_for_it(backend: Any) -> None:
    """All terms of one sum find their sites in it, every parameter gets a gradient, and only the
    density terms are masked.
    """
    losses = backend.losses
    model, guide = foreign(backend)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 2)) + 1.0, rng.normal(size=12)

    def critic(seed: int, size: int) -> Any:
        return build(backend, losses.Critic, size, hidden=(8,), activation="tanh", seed=seed)

    terms = {
        1.0: losses.ELBO(),
        2.0: losses.JensenShannon(("x", "y"), critic(0, 3)),
        0.5: losses.Wasserstein("z", critic(1, 1)),
        0.3: losses.MMD(("x", "z")),
        0.7: losses.EnergyScore("y"),
        0.2: losses.DensityRatio(("shift", "z"), critic(2, 2)),
    }
    loss = sum((weight * term for weight, term in list(terms.items())[1:]), start=terms[1.0])
    total, logs, gradients = backend.evaluate(loss, model, guide, x, y, params=FOREIGN)
    assert total == pytest.approx(
        48 * sum(weight * term.sign * logs[term.name] for weight, term in terms.items()), rel=1e-10
    )
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all() and (np.abs(gradient) > 1e-6).all(), name

    changed = np.where(MASK, y, 100.0)
    for term, is_equal in ((terms[1.0], True), (terms[0.7], False)):
        before, after = (
            backend.evaluate(term, model, guide, x, data, params=FOREIGN)[1][term.name]
            for data in (y, changed)
        )
        assert (before == pytest.approx(after, abs=1e-12)) == is_equal


@pytest.mark.slow
def test_it_trains_in_fit(backend: Any) -> None:
    """Both players move in a run over minibatches of such a model, and the moments of the data are
    found.
    """
    dgm, losses = package(backend), package(backend).losses
    dist, array = backend.dist, backend.array
    data = np.random.default_rng(2).normal(2.0, 1.0, (512, 1)) * np.array(
        [1.0, 0.5]
    ) + 0.3 * np.random.default_rng(3).standard_normal((512, 2))

    def model(x: Any, y: Any) -> None:
        shift = backend.sample("shift", dist.Normal(array(0.0), array(3.0)))
        with backend.plate("data", 512, subsample_size=len(x)):
            z = backend.sample("z", dist.Normal(shift, array(1.0)))
            backend.sample("x", dist.Normal(z, array(0.3)), obs=x)
            backend.sample("y", dist.Normal(backend.param("w", array(0.0)) * z, array(0.3)), obs=y)

    def guide(x: Any, y: Any) -> None:
        backend.sample("shift", dist.Normal(backend.param("m", array(0.0)), array(0.05)))
        with backend.plate("data", 512, subsample_size=len(x)):
            backend.sample(
                "z",
                dist.Normal(
                    backend.param("a", array(0.5)) * x + backend.param("c", array(0.0)), array(0.28)
                ),
            )

    critic = build(backend, losses.Critic, 2, hidden=(32,), activation="tanh")
    loss = (
        losses.ELBO()
        + 0.2 * losses.JensenShannon(("x", "y"), critic, regularizer=losses.R1(0.1))
        + losses.MMD(("x", "y"))
    )
    run = fit(
        backend,
        model,
        guide,
        (data[:, 0], data[:, 1]),
        loss=loss,
        optim=dgm.Adam(0.02),
        num_epochs=80,
        batch_size=64,
        average=0.99,
    )
    assert float(parameter(run, "m")) == pytest.approx(2.0, abs=0.15)
    assert float(parameter(run, "w")) == pytest.approx(0.5, abs=0.06)
