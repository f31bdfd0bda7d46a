"""Bounds on the mutual information, against bivariate Gaussians."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.arrays import assert_within_three_errors
from tests.losses.test_ratio import as_critic
from tests.losses.training import build, fit, package

RHO = 0.5
MI = -0.5 * math.log(1 - RHO**2)  # 0.143841
PARAMS = {"slope": RHO, "log_sd": 0.5 * math.log(1 - RHO**2), "weight": RHO}


def bivariate(backend: Any, transform: Callable = lambda x: x) -> tuple[Callable, Callable]:
    """c ~ Normal(0, 1), x | c ~ Normal(weight c, 1 - RHO^2); the guide Normal(slope x, sd^2) is the
    posterior at PARAMS.  A second latent plays no part.
    """
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            c = backend.sample("c", dist.Normal(array(0.0), array(1.0)))
            backend.sample("noise", dist.Normal(array(0.0), array(1.0)))
            backend.sample(
                "x",
                dist.Normal(backend.param("weight", array(0.5)) * c, array(math.sqrt(1 - RHO**2))),
                obs=transform(x),
            )

    def guide(x: Any) -> None:
        slope, log_sd = backend.param("slope", array(0.1)), backend.param("log_sd", array(0.0))
        with backend.plate("data", len(x)):
            backend.sample("c", dist.Normal(slope * x, backend.np.exp(log_sd)))
            backend.sample("noise", dist.Normal(array(0.0), array(1.0)))

    return model, guide


def estimates(
    backend: Any,
    loss: Any,
    num_seeds: int = 12,
    num_data: int = 1000,
    params: dict[str, float] = PARAMS,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Values and gradients of the bound per datum; the data themselves must not matter."""
    model, guide = bivariate(backend)
    values, gradients = [], []
    for seed in range(num_seeds):
        total, terms, gradient = backend.evaluate(
            loss, model, guide, np.full(num_data, 77.0), params=params, seed=seed
        )
        assert total == pytest.approx(-num_data * next(iter(terms.values())))
        values.append(-total / num_data)
        gradients.append([-gradient[name] / num_data for name in params])
    return np.array(values), dict(zip(params, np.array(gradients).T))


def test_barber_agakov_is_exact_with_the_posterior(backend: Any) -> None:
    """The value, and the gradients: none in the guide, which is at its best, and dI/dw in the
    model, I(w) = log(1 + w^2 / (1 - rho^2)) / 2.
    """
    values, gradients = estimates(backend, backend.losses.MutualInformation("c"), num_seeds=30)
    assert_within_three_errors(values, MI)
    assert_within_three_errors(gradients["slope"], 0.0)
    assert_within_three_errors(gradients["log_sd"], 0.0)
    assert_within_three_errors(gradients["weight"], RHO / (RHO**2 + 1 - RHO**2))


def test_barber_agakov_with_a_worse_guide(backend: Any) -> None:
    """E log q(c | x) + H(c) at any guide in closed form, with its gradients; always below the
    mutual information.
    """
    slope, log_sd = 0.2, 0.1
    var = math.exp(2 * log_sd)
    error = 1 - 2 * slope * RHO + slope**2  # E (c - slope x)^2
    values, gradients = estimates(
        backend,
        backend.losses.MutualInformation("c"),
        params={"slope": slope, "log_sd": log_sd, "weight": RHO},
        num_seeds=30,
    )
    truth = -0.5 * math.log(var) - 0.5 * error / var + 0.5
    assert truth < MI
    assert_within_three_errors(values, truth)
    assert_within_three_errors(gradients["slope"], (RHO - slope) / var)
    assert_within_three_errors(gradients["log_sd"], error / var - 1)
    assert_within_three_errors(gradients["weight"], (slope - slope**2 * RHO) / var)


def log_ratio(pair: Any) -> Any:
    """log p(c, x) - log p(c) - log p(x)."""
    c, x = pair[:, 0], pair[:, 1]
    return MI - (RHO**2 * (c**2 + x**2) - 2 * RHO * c * x) / (2 * (1 - RHO**2))


def test_critics_that_know_the_ratio(backend: Any) -> None:
    """NWJ with T = 1 + log-ratio has the mutual information as its mean; InfoNCE is below it, the
    less so the larger the batch, and below log K.
    """
    losses = backend.losses
    nwj, _ = estimates(
        backend,
        losses.MutualInformation(
            "c", "x", as_critic(backend, lambda v: 1 + log_ratio(v)), estimator="nwj"
        ),
    )
    assert_within_three_errors(nwj, MI)
    nce = losses.MutualInformation("c", "x", as_critic(backend, log_ratio), estimator="infonce")
    small, large = (
        estimates(backend, nce, num_seeds=seeds, num_data=num)[0]
        for seeds, num in ((200, 2), (12, 256))
    )
    for values, num in ((small, 2), (large, 256)):
        assert values.max() <= math.log(num)
        assert values.mean() < MI + 3 * values.std() / math.sqrt(len(values))
    assert (
        small.mean() + 3 * small.std() / math.sqrt(len(small)) < MI
    )  # log 2 is far above, and two draws still see less than there is
    assert large.mean() == pytest.approx(MI, abs=0.03)


@pytest.mark.long("[pyro")
@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["nwj", "infonce"])
def test_critics_learn_the_bound(backend: Any, estimator: str) -> None:
    """From below: what a network finds in a model that does not move."""
    dgm = package(backend)
    critic = build(backend, dgm.losses.Critic, 2, hidden=(32,), activation="tanh")
    term = dgm.losses.MutualInformation("c", "x", critic, estimator=estimator, optim=dgm.Adam(0.01))
    settings = {"num_epochs": 20, "batch_size": 128, "lr_schedule": lambda step: 0.0}
    run = fit(
        backend,
        bivariate(backend)[0],
        None,
        np.zeros(4096),
        loss=term,
        optim=dgm.Adam(0.01),
        **settings,
    )
    found = run.history.column("MutualInformation(c, x)")[-8:].mean()  # over 32,768 draws
    assert 0.8 * MI < found < MI + 0.012


def test_errors_are_sentences(backend: Any) -> None:
    losses = backend.losses
    bound = losses.MutualInformation("c")
    changed = bivariate(backend, lambda x: 2 * x)
    with pytest.raises(
        ValueError,
        match=(
            r"which of the arguments \[0\] that site observes: the model passes obs= something "
            r"made of it.* arguments={'x': 0}"
        ),
    ):
        backend.evaluate(bound, *changed, np.zeros(3), params=PARAMS)
    with pytest.raises(ValueError, match=r"{'x': 'y'} names none of them"):
        backend.evaluate(
            losses.MutualInformation("c", arguments={"x": "y"}),
            *changed,
            np.zeros(3),
            params=PARAMS,
        )
    with pytest.raises(ValueError, match="Model and guide must both draw 'b'"):
        backend.evaluate(
            losses.MutualInformation("b"), *bivariate(backend), np.zeros(3), params=PARAMS
        )
    with pytest.raises(ValueError, match=r"no sample site \['b'\]"):
        backend.evaluate(
            losses.MutualInformation("b", "x", as_critic(backend, log_ratio), estimator="nwj"),
            *bivariate(backend),
            np.zeros(3),
            params=PARAMS,
        )
    for make, message in [
        (lambda: losses.MutualInformation("c", estimator="mine"), "estimator must be one of"),
        (lambda: losses.MutualInformation("c", "x"), "takes no other site and no critic"),
        (lambda: losses.MutualInformation("c", estimator="nwj"), "needs the other site"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    total, _, _ = backend.evaluate(
        losses.MutualInformation("c", arguments={"x": 0}), *changed, np.zeros(3000), params=PARAMS
    )
    assert -total / 3000 == pytest.approx(MI, abs=0.06)
    assert (
        repr(losses.MutualInformation("c", arguments={"x": 0}))
        == "MutualInformation('c', arguments={'x': 0})"
    )
