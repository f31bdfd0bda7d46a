"""Sequences: a scan with a plate in its body (NumPyro), plates run through one by one (Pyro)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

A, Q, R, SHIFT = 0.9, 0.25, 0.49, 0.1
SERIES = np.array([[0.5, -0.3, 1.2, 0.8, 2.0], [0.1, 0.4, -0.6, 0.9, 1.5]]).T  # (time, series)


def log_evidence(x: np.ndarray) -> float:
    """log p of one series: z_1 ~ Normal(0, 1), z_t = A z_{t-1} + e_t, x_t = z_t + SHIFT+ e'_t."""
    times = np.arange(len(x))
    variance = A ** (2 * times) + Q * (1 - A ** (2 * times)) / (1 - A**2)
    lag = np.abs(times[:, None] - times)
    cov = A**lag * np.minimum(variance[:, None], variance) + R * np.eye(len(x))
    centered = x - SHIFT
    log_det = np.linalg.slogdet(2 * math.pi * cov)[1]
    return -0.5 * (centered @ np.linalg.solve(cov, centered) + log_det)


def messages(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and shift of p(x_t, ..., x_T | z_t), for the exact smoother."""
    precision, shift = np.zeros(len(x)), np.zeros(x.shape)
    for t in reversed(range(len(x))):
        precision[t], shift[t] = 1 / R, (x[t] - SHIFT) / R
        if t + 1 < len(x):
            kept = 1 / (1 + Q * precision[t + 1])
            precision[t] += A**2 * precision[t + 1] * kept
            shift[t] += A * shift[t + 1] * kept
    return precision, shift


def smoothing(size: int | None = None) -> tuple[Callable, Callable]:
    """The model as a scan, and its posterior as another; `size` series are declared."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.contrib.control_flow import scan

    def series(x: Any) -> Any:
        return numpyro.plate("series", size or x.shape[1], subsample_size=x.shape[1])

    def model(x: Any) -> None:
        def step(z: Any, now: Any) -> Any:
            first, x_t = now
            with series(x):
                scale = jnp.where(first, 1.0, math.sqrt(Q))
                z = numpyro.sample("z", dist.Normal(A * z, scale))
                numpyro.sample("x", dist.Normal(z + SHIFT, math.sqrt(R)), obs=x_t)
            return z, None

        scan(step, jnp.zeros(x.shape[1]), (jnp.arange(len(x)) == 0, x))

    def guide(x: Any) -> None:
        def step(z: Any, now: Any) -> Any:
            first, precision, shift = now
            prior = jnp.where(first, 1.0, Q)
            variance = 1 / (1 / prior + precision)
            with series(x):
                mean = variance * (A * z / prior + shift)
                return numpyro.sample("z", dist.Normal(mean, jnp.sqrt(variance))), None

        precision, shift = map(jnp.asarray, messages(SERIES))
        scan(step, jnp.zeros(x.shape[1]), (jnp.arange(len(x)) == 0, precision, shift))

    return model, guide


def evaluate(loss: Any, model: Callable, guide: Callable) -> Any:
    import jax

    with jax.enable_x64(True):
        x, sizes = jax.numpy.asarray(SERIES), []

        def total(key: Any) -> Any:
            out = loss.evaluate(key, {}, model, guide, (x,))
            sizes.append(out.data_size)
            return out.loss

        return float(jax.jit(total)(jax.random.key(0))), sizes[0]


@pytest.mark.parametrize("size", [None, 20])
def test_a_scan_with_a_plate_in_its_body(size: int | None) -> None:
    """At the exact posterior all bounds are the evidence, without variance; a minibatch of series
    counts N / B times."""
    from numpyro_dgm.losses import ELBO, IWAE

    exact = np.mean([log_evidence(x) for x in SERIES.T])
    assert log_evidence(SERIES[:, 0]) == pytest.approx(-6.77260623)
    for loss in (ELBO(), IWAE(2, "dreg")):
        total, data_size = evaluate(loss, *smoothing(size))
        assert data_size == (size or 2)
        assert total == pytest.approx(-data_size * exact, rel=1e-9)


def test_a_scan_under_the_score_function() -> None:
    """No gradient passes from step to step inside the body: that of the loc of the first draw is
    the score function's alone, which is zero where all weights are equal."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.contrib.control_flow import scan

    from numpyro_dgm.losses import ELBO

    def path(shift: Any) -> None:
        def step(z: Any, _: Any) -> Any:
            z = numpyro.sample("z", dist.Normal(z + shift, 1.0))
            return z, None

        scan(step, jnp.zeros(()), None, length=3)

    def guide() -> None:
        path(numpyro.param("shift", 0.3))

    def total(shift: Any) -> Any:
        loss = ELBO(num_particles=4000, estimator="score")
        params = {"shift": shift}
        return loss.evaluate(jax.random.key(0), params, lambda: path(0.0), guide).loss

    with jax.enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(total))(0.3)
    assert float(value) == pytest.approx(1.5 * 0.3**2, abs=0.05)
    assert float(gradient) == pytest.approx(3 * 0.3, abs=0.15)


def test_plates_run_through_one_by_one(torch_x64: None) -> None:
    """The rows are drawn anew in each call, and so are the names of the sites."""
    import pyro
    import pyro.distributions as dist
    import torch

    from pyro_dgm.losses import ELBO, IWAE

    x = torch.linspace(-1.0, 2.0, 24)

    def model() -> None:
        for i in pyro.plate("data", 24, subsample_size=8):
            z = pyro.sample(f"z{i}", dist.Normal(0.0, 1.0))
            pyro.sample(f"x{i}", dist.Normal(z, 0.5), obs=x[i])

    def guide() -> None:
        for i in pyro.plate("data", 24, subsample_size=8):
            pyro.sample(f"z{i}", dist.Normal(0.8 * x[i], math.sqrt(0.2)))

    evidence = dist.Normal(0.0, math.sqrt(1.25)).log_prob(x)
    loss = ELBO(num_particles=3)
    totals = torch.stack([loss.evaluate(model, guide).loss.detach() for _ in range(60)])
    error = 3 * 24 * evidence.std() / math.sqrt(8 * 60)
    assert -totals.mean() == pytest.approx(evidence.sum().item(), abs=float(error))
    with pytest.raises(ValueError, match=r"plate 'data' .* inside the logarithm"):
        IWAE(3).evaluate(model, guide)


@pytest.mark.parametrize("num_particles", [1, 4])
def test_series_of_another_length_in_each_batch(backend: Any, num_particles: int) -> None:
    """Sites that come and go with the length: every bound is the evidence at the posterior."""
    d = backend.dist

    def model(x: Any) -> None:
        for t in range(len(x)):
            z = backend.sample(f"z{t}", d.Normal(backend.array(0.0), backend.array(1.0)))
            backend.sample(f"x{t}", d.Normal(z, backend.array(1.0)), obs=x[t])

    def guide(x: Any) -> None:
        for t in range(len(x)):
            fn = d.Normal(x[t] / 2, backend.array(math.sqrt(0.5)))
            backend.sample(f"z{t}", fn)

    loss = backend.losses.IWAE(num_particles)
    for length in (3, 5, 2):
        x = np.arange(float(length))
        exact = (-(x**2) / 4 - 0.5 * math.log(4 * math.pi)).sum()
        assert -backend.evaluate(loss, model, guide, x)[0] == pytest.approx(exact, rel=1e-9)


def test_a_plate_without_a_size(torch_x64: None) -> None:
    """Its size is that of the data: the loss has the right sign, and the weight of other terms."""
    import pyro
    import pyro.distributions as dist
    import torch

    from pyro_dgm.losses import ELBO, IWAE

    def model(x: torch.Tensor) -> None:
        with pyro.plate("data"):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: torch.Tensor) -> None:
        with pyro.plate("data"):
            pyro.sample("z", dist.Normal(x / 2, math.sqrt(0.5)))

    x = 3.0 * torch.ones(20)
    exact = -20 * dist.Normal(0.0, math.sqrt(2.0)).log_prob(torch.tensor(3.0)).item()
    for loss in (ELBO(), IWAE(4), 2.0 * ELBO(num_particles=2) + -1.0 * ELBO()):
        out = loss.evaluate(model, guide, (x,))
        assert out.data_size == 20
        assert out.loss.item() == pytest.approx(exact, rel=1e-9)
