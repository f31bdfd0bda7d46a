"""A sequence model as one step: exact values, padding, draws that never see the data, and particles
that take one step together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.test_scan import SERIES, SHIFT, A, Q, R
from tests.sequences.oracle import scalar

DATA = np.stack([SERIES[:, 0], SERIES[:, 1], SERIES[:, 0]])  # (series, time)
LENGTHS = np.array([5, 3, 5])
OBSERVED = np.array([[True] * 5, [True] * 5, [True, True, False, True, True]])
FIRST = np.array([1.0, 0.0, 0.0, 0.0, 0.0])[:, None]
EXACT = np.array(
    [
        scalar(A, Q, R, SHIFT).evidence(x[:n, None], seen[:n])
        for x, n, seen in zip(DATA, LENGTHS, OBSERVED)
    ]
)


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
    found = np.zeros((3, 5, 3))
    found[..., 0] = FIRST[:, 0]
    for row, length in enumerate(LENGTHS):
        precision = shift = 0.0
        for t in reversed(range(length)):
            kept, seen = 1 / (1 + Q * precision), OBSERVED[row, t]
            precision = A**2 * precision * kept + seen / R
            shift = A * shift * kept + seen * (DATA[row, t] - SHIFT) / R
            found[row, t, 1:] = precision, shift
    return found


def chain(backend: Any) -> tuple[Callable, Callable]:
    """The state-space model of A1 and its posterior, for three series: all of it, another of length
    3, and one with a step missing.
    """
    unroll = sequences(backend).unroll
    first, told = backend.array(FIRST), backend.array(features())
    lengths, observed = backend.np.asarray(LENGTHS), backend.np.asarray(OBSERVED)
    zero, noise = backend.array(np.zeros(1)), backend.array(R)

    def variance(is_first: Any) -> Any:
        return is_first + (1 - is_first) * Q

    def model(x: Any) -> Any:
        def step(last: Any, is_first: Any, x_t: Any) -> Any:
            z = backend.sample("z", normal(backend, A * last, variance(is_first)))
            backend.sample("x", normal(backend, z + SHIFT, noise), obs=x_t)
            return z

        with backend.plate("series", 3):
            unroll(step, zero, x, inputs=first, lengths=lengths, observed=observed)

    def guide(x: Any) -> Any:
        def step(last: Any, now: Any, x_t: Any) -> Any:
            prior = variance(now[..., :1])
            own = 1 / (1 / prior + now[..., 1:2])
            return backend.sample(
                "z", normal(backend, own * (A * last / prior + now[..., 2:]), own)
            )

        with backend.plate("series", 3):
            unroll(step, zero, x, inputs=told, lengths=lengths)

    return model, guide


def padded() -> np.ndarray:
    """The series, NaN in the padding and where they are missing."""
    known = (np.arange(5) < LENGTHS[:, None]) & OBSERVED
    return np.where(known, DATA, np.nan)[..., None]


def test_the_exact_posterior(backend: Any) -> None:
    """Every bound is the evidence, without variance, whatever stands in the padding and in a step
    that is missing.
    """
    losses = backend.losses
    loss = losses.ELBO(num_particles=2) + losses.IWAE(2, "dreg") + losses.ELBO(estimator="score")
    found = backend.evaluate(loss, *chain(backend), padded())[0]
    assert found == pytest.approx(-3 * EXACT.sum(), rel=1e-10)
    np.testing.assert_allclose(EXACT[[0, 2]], [-6.77260623, -5.72972717], atol=5e-9)


def test_one_step_of_many_particles(backend: Any) -> None:
    """Of all particles that go on from the first, the weights add up to the evidence; without a
    guide the model draws, and E [weight] is the evidence.
    """
    package, (model, guide), args = sequences(backend), chain(backend), (backend.array(padded()),)

    def weights(key: Any, own: Any, num: int) -> Any:
        pair = package.step_pair(model, own, args)
        assert pair.batch_shape == (3,) and pair.length == 5 and pair.reparameterized
        states, total = pair.initial(num), 0.0
        ancestors = backend.np.zeros((num, 3), dtype=int)
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
    np.testing.assert_allclose(np.asarray(found)[0], EXACT, rtol=1e-10)
    ratio = np.exp(np.asarray(free) - EXACT)
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


def autoregression(backend: Any, x: Any, impute: str | None) -> Any:
    """x_t ~ Normal(0.8 x_{t-1} + 0.3, 1), of which the second of three is missing."""
    seen = backend.np.asarray(np.array([True, False, True]))

    def step(last: Any, inputs: Any, x_t: Any) -> Any:
        fn = normal(backend, 0.8 * last + 0.3, backend.array(1.0))
        return backend.sample("x", fn, obs=x_t)

    zero = backend.array(np.zeros(1))
    unroll = sequences(backend).unroll
    with backend.plate("series", len(x)):
        return unroll(step, zero, x, observed=seen, impute=impute).log_probs["x"]


def test_missing_steps_that_later_ones_depend_on(backend: Any) -> None:
    """What is drawn in their place integrates them out: E [p(x | what is drawn)] is the density of
    the rest. The mean in their place is another model, with this value.
    """
    x = np.array([0.7, np.nan, -1.1])

    def run(key: Any) -> Any:
        rows = backend.array(np.tile(x, (NUM, 1))[..., None])
        return autoregression(backend, rows, None), autoregression(backend, rows[:1], "mean")

    if backend.name == "pyro":
        drawn, mean = run(None)
    else:
        import jax
        import numpyro

        drawn, mean = jax.jit(numpyro.handlers.seed(run, rng_seed=0))(0)

    def log_p(rest: Any, variance: float) -> Any:
        return -0.5 * (rest**2 / variance + np.log(2 * np.pi * variance))

    second = 0.8 * x[0] + 0.3
    last = x[2] - 0.8 * second - 0.3
    np.testing.assert_allclose(mean, [[log_p(x[0] - 0.3, 1), 0, log_p(last, 1)]], rtol=1e-10)
    found = np.exp(np.asarray(drawn)[:, 2])
    exact = np.exp(log_p(last, 1.64))
    assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(NUM) < 0.1 * exact


def test_each_particle_draws_what_is_missing(backend: Any) -> None:
    """Also where nothing else is drawn: the weights differ, and come together to the density of the
    rest.
    """
    losses = backend.losses
    loss = losses.ELBO(num_particles=NUM, vectorize=True) + losses.IWAE(NUM, vectorize=True)
    x = np.array([[0.7, np.nan, -1.1]])[..., None]
    _, terms, _ = backend.evaluate(loss, lambda x: autoregression(backend, x, None), nothing, x)
    first, rest = 0.7 - 0.3, -1.1 - 0.8 * (0.8 * 0.7 + 0.3) - 0.3
    log_p = -0.5 * (first**2 + rest**2 / 1.64 + np.log(1.64)) - np.log(2 * np.pi)
    mean = -0.5 * (first**2 + rest**2 + 0.64) - np.log(2 * np.pi)
    assert terms["ELBO"] == pytest.approx(mean, abs=0.12)
    assert terms["IWAE"] == pytest.approx(log_p, abs=0.12)


def nothing(x: Any) -> None:
    """A guide that draws nothing."""


def test_what_a_step_may_not_do(lib: Any) -> None:
    normal, package = lib.dist.Normal, lib.package
    zero, x = lib.array(np.zeros(2)), lib.array(np.zeros((3, 4, 2)))
    library = lib.pyro if hasattr(lib, "pyro") else lib.numpyro

    def with_step(body: Any, first: Any = zero, **settings: Any) -> Any:
        def program() -> Any:
            with lib.plate("data", 3):
                return package.sequences.unroll(body, first, x, **settings)

        return program

    def drawn(last: Any) -> Any:
        return lib.sample("z", normal(last, 1.0).to_event(1))

    def plate(last: Any, inputs: Any, x_t: Any) -> Any:
        with lib.plate("own", 3):
            return drawn(last)

    def twice(last: Any, inputs: Any, x_t: Any) -> Any:
        return drawn(last) + drawn(last)

    def elsewhere(last: Any, inputs: Any, x_t: Any) -> Any:
        lib.sample("x", normal(last, 1.0).to_event(1), obs=x_t + 1.0)
        return last

    def parameter(last: Any, inputs: Any, x_t: Any) -> Any:
        return drawn(last) * library.param("w", zero)

    def factors(last: Any, inputs: Any, x_t: Any) -> Any:
        library.factor("f", last.sum())
        return last

    def wider(last: Any, inputs: Any, x_t: Any) -> Any:
        return drawn(last)[..., :1]

    def pairs(last: Any, inputs: Any, x_t: Any) -> Any:
        return drawn(last), last

    def total(last: Any, inputs: Any, x_t: Any) -> Any:
        return last + x_t.sum(-1)

    def flips(last: Any, inputs: Any, x_t: Any) -> Any:
        fn = lib.dist.Bernoulli(logits=last).to_event(1)
        return lib.sample("x", fn, obs=x_t)

    def fine(last: Any, inputs: Any, x_t: Any) -> Any:
        return drawn(last)

    some = lib.array(np.ones((3, 4), bool))
    alone = "A step must contain sample statements alone, got "
    for program, message in (
        (with_step(plate), f"{alone}a plate"),
        (with_step(twice), "a name of its own, got 'z' twice"),
        (with_step(elsewhere), "'x' of a step must observe x_t"),
        (with_step(parameter), f"{alone}the parameter 'w'"),
        (with_step(factors), f"{alone}a deterministic site or a factor"),
        (with_step(wider), r"of the form that it was given, .*\(2,\)"),
        (with_step(pairs), "must return a state of the form"),
        (with_step(total, first=zero[0]), "must return a state of the form"),
        (with_step(flips, observed=some), "Steps of 'x' are missing, and no gradient"),
        (with_step(fine, observed=some[:, :3]), "observed must be an array of truth values"),
        (with_step(fine, lengths=np.array([1, 2])), r"lengths must be one for each .* \(3,\), got"),
        (with_step(fine, length=5), r"x must have shape \(\*batch, 5, features\), got \(3, 4, 2\)"),
        (with_step(fine, inputs=x[:, :3]), r"inputs must have shape \(\*batch, 4, features\)"),
        (with_step(fine, impute="zero"), "impute must be one of"),
        (with_step(None), "step must be a function"),
    ):
        with pytest.raises(ValueError, match=message):
            lib.trace(program)
    unroll, step_pair = package.sequences.unroll, package.sequences.step_pair

    def other() -> None:
        with lib.plate("data", 3):
            lib.sample("w", normal(zero[0], 1.0))
            unroll(fine, zero, x)

    def several() -> None:
        with lib.plate("data", 3):
            unroll(fine, zero, x)
            unroll(flips, zero, x)

    for program, message in (
        (other, r"the model also has \['w'\]"),
        (lambda: None, "the model calls it 0 times"),
        (several, "the model calls it 2 times"),
    ):
        with pytest.raises(ValueError, match=message):
            lib.trace(lambda program=program: step_pair(program, None))
