"""What a guide states but does not draw, factors and determined values: gradients are pathwise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

NUM, Y = 6000, 1.0
PARAMS = {"m": 0.2, "t": np.log(0.8), "s": 0.3}  # of Normal(m, exp(t)) and of the factor s z


def factor(backend: Any, name: str, value: Any) -> None:
    if backend.name == "pyro":
        backend.pyro.factor(name, value, has_rsample=True)
    else:
        backend.numpyro.factor(name, value)


def model_of(backend: Any, size: int) -> Callable:
    def model(y: Any) -> None:
        with backend.plate("data", size, subsample_size=len(y)):
            z = backend.sample("z", backend.dist.Normal(backend.array(0.0), 1.0))
            backend.sample("y", backend.dist.Normal(z, 1.0), obs=y)

    return model


def drawn(backend: Any, m: Any, sd: Any) -> None:
    """z ~ Normal(m, sd)."""
    return backend.sample("z", backend.dist.Normal(m, sd))


def determined(backend: Any, m: Any, sd: Any) -> Any:
    """z = m + sd e, e ~ Normal(0, 1), with the density of z as the change of variables gives it."""
    auxiliary = {"is_auxiliary": True}
    e = backend.sample("e", backend.dist.Normal(backend.array(0.0), 1.0), infer=auxiliary)
    log_density = -backend.np.log(sd) + 0.0 * e
    return backend.sample("z", backend.dist.Delta(m + sd * e, log_density=log_density))


def masked(backend: Any, m: Any, sd: Any) -> Any:
    """z = e, e ~ Normal(m, sd) drawn under a mask and scored by a factor, as the annealed guides
    do.
    """
    fn = backend.dist.Normal(m, sd)
    e = backend.sample("e", fn.mask(False), infer={"is_auxiliary": True})
    factor(backend, "density", fn.log_prob(e))
    return backend.sample("z", backend.dist.Delta(e))


GUIDES = {"drawn": drawn, "determined": determined, "masked": masked}


def guide_of(backend: Any, draw: Callable, size: int) -> Callable:
    def guide(y: Any) -> None:
        m, t, s = (backend.param(name, backend.array(value)) for name, value in PARAMS.items())
        with backend.plate("data", size, subsample_size=len(y)):
            z = draw(backend, m, backend.np.exp(t))
            factor(backend, "f", s * z)

    return guide


def bound(num_particles: int) -> tuple[float, dict[str, float]]:
    """-L_K per datum and its gradient by quadrature: -log 1/K sum_k p(y, z_k) / (q(z_k) exp(s
    z_k)).
    """
    import torch

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    e = torch.as_tensor(nodes)
    grid = torch.cartesian_prod(*[e] * num_particles).reshape(-1, num_particles)
    mass = torch.as_tensor(weights / weights.sum())
    mass = torch.cartesian_prod(*[mass] * num_particles).reshape(-1, num_particles).prod(1)
    m, t, s = leaves = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in PARAMS.values()
    ]
    z = m + t.exp() * grid
    normal = torch.distributions.Normal
    log_w = normal(0.0, 1.0).log_prob(z) + normal(z, 1.0).log_prob(torch.tensor(Y, dtype=z.dtype))
    log_w = log_w - normal(m, t.exp()).log_prob(z) - s * z
    value = -(mass * (log_w.logsumexp(1) - np.log(num_particles))).sum()
    gradients = torch.autograd.grad(value, leaves)
    return value.item(), dict(zip(PARAMS, (g.item() for g in gradients), strict=True))


LOSSES: dict[str, tuple[Callable, int]] = {
    "ELBO": (lambda losses: losses.ELBO(), 1),
    "two particles": (lambda losses: losses.ELBO(num_particles=2), 1),
    "stl": (lambda losses: losses.ELBO(estimator="stl"), 1),
    "score": (lambda losses: losses.ELBO(num_particles=2, estimator="score"), 1),
    "halves": (lambda losses: losses.Reconstruction() + losses.KL(), 1),
    "IWAE": (lambda losses: losses.IWAE(2), 2),
    "dreg": (lambda losses: losses.IWAE(2, estimator="dreg"), 2),
}


# A drawn site beside a factor, and the two ways of stating its density, each where it differs.
CASES = [("drawn", loss) for loss in LOSSES] + [
    (draw, loss) for draw in ("determined", "masked") for loss in ("stl", "score", "dreg")
]


@pytest.mark.parametrize(("draw", "loss"), CASES)
def test_factors_and_determined_values_have_pathwise_gradients(
    backend: Any, loss: str, draw: str
) -> None:
    make, num_particles = LOSSES[loss]
    size = 3 * NUM  # a third of the data at a time
    found, _, gradients = backend.evaluate(
        make(backend.losses),
        model_of(backend, size),
        guide_of(backend, GUIDES[draw], size),
        np.full(NUM, Y),
        params=PARAMS,
    )
    value, expected = bound(num_particles)
    assert found / size == pytest.approx(value, abs=0.06)
    found_gradients = {name: float(gradient) / size for name, gradient in gradients.items()}
    assert found_gradients == pytest.approx(expected, abs=0.1 if loss == "score" else 0.06)
