"""A sequence model as one step: exact values, padding, draws that never see the data, and particles
that take one step together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.test_scan import SERIES, SHIFT, A, Q, R, log_evidence, messages

LENGTHS = np.array([5, 3])
FIRST = np.array([1.0, 0.0, 0.0, 0.0, 0.0])[:, None]


def sequences(backend: Any) -> Any:
    """The package of steps of a library."""
    if backend.name == "pyro":
        from pyro_dgm import sequences
    else:
        from numpyro_dgm import sequences
    return sequences


def normal(backend: Any, mean: Any, variance: Any) -> Any:
    return backend.dist.Normal(mean, backend.np.sqrt(variance)).to_event(1)


def features() -> np.ndarray:
    """What the exact smoother is told in each step: whether it is the first, the precision and the
    shift of what is still to come (series, time, 3).
    """
    found = np.zeros((2, 5, 3))
    found[..., 0] = FIRST[:, 0]
    for row, length in enumerate(LENGTHS):
        precision, shift = messages(SERIES[:length, row])
        found[row, :length, 1], found[row, :length, 2] = precision, shift
    return found


def chain(backend: Any) -> tuple[Callable, Callable]:
    """The state-space model of A1 and its posterior, for series of lengths 5 and 3."""
    unroll = sequences(backend).unroll
    first, told = backend.array(FIRST), backend.array(features())
    lengths = backend.np.asarray(LENGTHS)
    zero, noise = backend.array(np.zeros(1)), backend.array(R)

    def variance(is_first: Any) -> Any:
        return is_first + (1 - is_first) * Q

    def model(x: Any) -> Any:
        def step(last: Any, is_first: Any, x_t: Any) -> Any:
            z = backend.sample("z", normal(backend, A * last, variance(is_first)))
            backend.sample("x", normal(backend, z + SHIFT, noise), obs=x_t)
            return z

        with backend.plate("series", 2):
            unroll(step, zero, x, inputs=first, lengths=lengths)

    def guide(x: Any) -> Any:
        def step(last: Any, now: Any, x_t: Any) -> Any:
            prior = variance(now[..., :1])
            own = 1 / (1 / prior + now[..., 1:2])
            return backend.sample(
                "z", normal(backend, own * (A * last / prior + now[..., 2:]), own)
            )

        with backend.plate("series", 2):
            unroll(step, zero, x, inputs=told, lengths=lengths)

    return model, guide


def padded() -> np.ndarray:
    """The series, NaN in the padding."""
    return np.where(np.arange(5) < LENGTHS[:, None], SERIES.T, np.nan)[..., None]


def test_the_exact_posterior(backend: Any) -> None:
    """Every bound is the evidence of A1 and of a shorter series, without variance, whatever stands
    in the padding.
    """
    losses = backend.losses
    exact = -sum(log_evidence(SERIES[:n, i]) for i, n in enumerate(LENGTHS))
    loss = losses.ELBO(num_particles=2) + losses.IWAE(2, "dreg") + losses.ELBO(estimator="score")
    found = backend.evaluate(loss, *chain(backend), padded())[0]
    assert found == pytest.approx(3 * exact, rel=1e-10)


def test_one_step_of_many_particles(backend: Any) -> None:
    """Of all particles that go on from the first, the weights add up to the evidence; without a
    guide the model draws, and E [weight] is the evidence.
    """
    package, (model, guide), args = sequences(backend), chain(backend), (backend.array(padded()),)
    exact = [log_evidence(SERIES[:n, i]) for i, n in enumerate(LENGTHS)]

    def weights(key: Any, own: Any, num: int) -> Any:
        pair = package.step_pair(model, own, args)
        assert pair.batch_shape == (2,) and pair.length == 5 and pair.reparameterized
        states, total = pair.initial(num), 0.0
        ancestors = backend.np.ones((num, 2), dtype=int) * 0
        for t in range(pair.length):
            if backend.name == "pyro":
                found = pair.step(states, pair.at(t))
            else:
                import jax

                found = pair.step(states, pair.at(t), key=jax.random.fold_in(key, t))
            states = found.states if own is None else pair.chosen(found.states, ancestors)
            total = total + found.log_weight
        return total

    if backend.name == "pyro":
        found, free = weights(None, guide, 3), weights(None, None, 20_000)
    else:
        import jax
        import numpyro

        def run(key: Any) -> Any:
            with numpyro.handlers.seed(rng_seed=key):
                return weights(key, guide, 3), weights(key, None, 20_000)

        found, free = jax.jit(run)(jax.random.key(0))
    np.testing.assert_allclose(np.asarray(found)[0], exact, rtol=1e-10)
    ratio = np.exp(np.asarray(free) - exact)
    error = ratio.std(0) / np.sqrt(len(ratio))
    assert (abs(ratio.mean(0) - 1) < 4 * error).all() and (error < 0.05).all()


NUM = 4000
FAR = np.full((NUM, 4, 1), 100.0)  # data that the model never draws


def running(backend: Any, **settings: Any) -> tuple[Callable, Callable]:
    """z_t ~ Normal(x_{t-1} / 2, 1),  x_t ~ Normal(z_t, 1), and a guide that sees x_t."""
    unroll = sequences(backend).unroll
    zero, one = backend.array(np.zeros(1)), backend.array(1.0)

    def step(last: Any, inputs: Any, x_t: Any) -> Any:
        z = backend.sample("z", normal(backend, last / 2, one))
        return backend.sample("x", normal(backend, z, one), obs=x_t)

    def seeing(last: Any, inputs: Any, x_t: Any) -> Any:
        backend.sample("z", normal(backend, (last / 2 + x_t) / 2, one / 2))
        return x_t

    def model(x: Any) -> Any:
        with backend.plate("series", NUM):
            return unroll(step, zero, x, **settings)

    def guide(x: Any) -> Any:
        with backend.plate("series", NUM):
            return unroll(seeing, zero, x, **settings)

    return model, guide


def draws(backend: Any) -> tuple[np.ndarray, ...]:
    """Data and draws of a comparison of x; and x, z of a model that goes on after two steps."""
    package, programs, x = sequences(backend), running(backend), backend.array(FAR)
    z = backend.array(np.full((NUM, 4, 1), 7.0))

    def run(key: Any) -> tuple[Any, ...]:
        joints = backend.joints.Joints(*key, *programs, (x,))
        data, drawn = joints.samples(("x",))
        with package.continuing({"z": z, "x": x}, backend.np.asarray(np.full(NUM, 2))):
            path = programs[0](x)
        return data, drawn, path.values["x"], path.values["z"]

    if backend.name == "pyro":
        return tuple(part.numpy() for part in run(()))
    import jax
    import numpyro

    def seeded(key: Any) -> tuple[Any, ...]:
        with numpyro.handlers.seed(rng_seed=key):
            return run((key, {}))

    return tuple(map(np.asarray, jax.jit(seeded)(jax.random.key(0))))


def test_draws_never_see_the_data(backend: Any) -> None:
    """Moments of what a term on "x" compares with the data: var_t = var_{t-1} / 4 + 2, and half of
    it with the next step. A model that goes on from a prefix keeps it, and runs free behind it.
    """
    data, drawn, x, z = draws(backend)
    np.testing.assert_array_equal(data, FAR)
    variances = 8 / 3 * (1 - 0.25 ** np.arange(1, 5))
    drawn = drawn[..., 0].T
    assert (abs(drawn.mean(1)) < 5 * np.sqrt(variances / NUM)).all()
    found, error = np.cov(drawn), 5 * np.sqrt(2 / NUM)
    assert (abs(found.diagonal() - variances) < error * variances).all()
    assert (abs(found.diagonal(1) - variances[:-1] / 2) < error * variances[1:]).all()
    assert (x[:, :2] == 100).all() and (z[:, :2] == 7).all()
    assert abs(x[:, 2:, 0].mean(0) - [50, 25]).max() < 0.2
    assert abs(x[:, 2:, 0].var(0) - [2, 2.5]).max() < 0.3
