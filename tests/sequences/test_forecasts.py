"""Forecasts against conditional normal distributions and enumeration; what has no forecast."""

from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels
from tests.sequences.building import linear, with_weights
from tests.sequences.oracle import A2, OTHER, Model
from tests.sequences.test_paths import library
from tests.sequences.test_unroll import sequences

NUM, T, HORIZON = 8000, 7, 2
LENGTHS = np.array([5, 3, 0])
SEEN = np.ones((3, T), bool)
SEEN[0, 2] = SEEN[1, 0] = SEEN[1, 2] = False  # the last step of the second is missing


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Latents of the guide and exact filters."""


def following(model: Model, x: np.ndarray, length: int, seen: np.ndarray) -> tuple[Any, Any]:
    """Mean and covariance of the next HORIZON steps, one behind the other, given those seen."""
    dim, steps = x.shape[1], length + HORIZON
    mean, cov = model.prior(steps)
    H, d, R = model.emission(steps)
    mean, cov = H @ mean + d, H @ cov @ H.T + R
    known = np.repeat(np.append(seen[:length], np.zeros(HORIZON, bool)), dim)
    ahead = np.arange(length * dim, steps * dim)
    gain = np.linalg.solve(cov[np.ix_(known, known)], cov[np.ix_(known, ahead)]).T
    rest = x[:steps].ravel()[known] - mean[known]
    return mean[ahead] + gain @ rest, cov[np.ix_(ahead, ahead)] - gain @ cov[np.ix_(known, ahead)]


def pair(backend: Any, model: Model, *, latent: bool, unrolled: bool = False) -> tuple[Any, Any]:
    """A linear-Gaussian model with its exact posterior as guide, or with its states summed out."""
    lib = library(backend)
    system = linear(lib, model, T)
    steps = lib.build("conditionals", "Steps", system.emission, T)
    smoother = lib.build("conditionals", "KalmanSmoother", system.prior, system.emission)

    unroll = sequences(backend).unroll
    first = backend.array((np.arange(T) == 0)[:, None] * 1.0)
    eye, zeros = backend.array(np.eye(len(model.F))), backend.array(np.zeros(len(model.F)))

    def step(last: Any, is_first: Any, x_t: Any) -> Any:
        prior, now = system.prior.transition(last), is_first[..., None]
        scale = now * eye + (1 - now) * prior.scale_tril
        prior = backend.dist.MultivariateNormal((1 - is_first) * prior.mean, scale_tril=scale)
        z = backend.sample("z", prior)
        backend.sample("x", system.emission(z), obs=x_t)
        return z

    def program(x: Any, lengths: Any, seen: Any) -> None:
        with backend.plate("data", len(x), dim=-1):
            if unrolled:
                unroll(step, zeros, x, lengths=lengths, observed=seen, inputs=first)
            elif latent:
                z = backend.sample("z", system.prior(lengths=lengths))
                backend.sample("x", steps(z, lengths, seen), obs=x)
            else:
                backend.sample("x", system(None, lengths, seen), obs=x)

    def guide(x: Any, lengths: Any, seen: Any) -> None:
        if latent:
            with backend.plate("data", len(x), dim=-1):
                backend.sample("z", smoother(x, lengths, seen))

    return program, guide


@pytest.mark.slow("numpyro-latent", "unrolled")
@pytest.mark.parametrize("kind", ["latent", "summed out", "unrolled"])
def test_forecasts_of_linear_models_are_exact(
    backend: Any, kind: str, rng: np.random.Generator
) -> None:
    """Mean and covariance over steps and entries, each sequence at its own end, steps missing."""
    model = A2 if kind == "summed out" else OTHER
    x = rng.standard_normal((3, T, len(model.H)))
    x[~SEEN | (np.arange(T) >= LENGTHS[:, None])] = np.nan
    kinds = {"latent": kind != "summed out", "unrolled": kind == "unrolled"}
    run = backend.run(*pair(backend, model, **kinds))
    found = backend.evaluation.forecast(
        run, x, LENGTHS, SEEN, horizon=HORIZON, num_draws=NUM, chunk_size=12_000
    )
    assert list(found.draws) == (["x"] if kind == "summed out" else ["z", "x"])
    draws = found.of("x")
    assert draws.shape == (NUM, 3, HORIZON, len(model.H))
    for row, length in enumerate(LENGTHS):
        mean, cov = following(model, x[row], length, SEEN[row])
        own = draws[:, row].reshape(NUM, -1)
        spread = np.sqrt(cov.diagonal())
        assert (abs(own.mean(0) - mean) < 5 * spread / NUM**0.5).all()
        error = np.sqrt((np.outer(spread, spread) ** 2 + cov**2) / NUM)
        assert (abs(np.cov(own.T) - cov) < 5 * error).all()
        lower, upper = found.interval(0.9, "x")
        assert np.allclose((upper - lower)[row].ravel(), 2 * 1.6449 * spread, rtol=0.1)


@pytest.mark.slow("numpyro")
def test_time_has_a_name_in_arviz(backend: Any) -> None:
    """Of paths of states and of data; the log-likelihood has one number for each sequence."""
    run = backend.run(*pair(backend, A2, latent=True))
    data = np.zeros((3, T, 1)), np.array([7, 3, 2]), np.ones((3, T), bool)
    found = backend.evaluation.to_arviz(run, *data, num_draws=4, num_particles=25)
    assert found.posterior["z"].dims[:4] == ("chain", "draw", "datum", "time")
    assert found.posterior_predictive["x"].dims[:4] == ("chain", "draw", "datum", "time")
    assert found.observed_data["x"].dims[:2] == ("datum", "time")
    assert found.log_likelihood["x"].dims == ("chain", "draw", "datum")


def hidden(lib: Any, length: int) -> tuple[Any, Any, Any, Any]:
    """A3 of this length, and its numbers."""
    pi, A = np.array([0.6, 0.4]), np.array([[0.7, 0.3], [0.2, 0.8]])
    B = np.array([[0.5, 0.4, 0.1], [0.1, 0.3, 0.6]])
    emission = lib.build("conditionals", "Categorical", 1, 3, context_shape=Labels(2))
    values = {
        "initial": np.log(pi),
        "transition": np.log(A),
        "emission.head.weight": np.log(B).T,
        "emission.head.bias": np.zeros(3),
    }
    module = lib.build("conditionals", "HiddenMarkov", emission, length)
    return with_weights(module, values), pi, A, B


@pytest.mark.slow("numpyro")
def test_forecasts_and_filter_of_hidden_markov_models(backend: Any) -> None:
    """The distribution of x_{L+2}, and of each step given those before."""
    lib = library(backend)
    module, pi, A, B = hidden(lib, 5)
    x, lengths = np.array([[0, 2, 1, 0, 0], [2, 0, 0, 0, 0]])[..., None], np.array([3, 1])

    def program(x: Any, lengths: Any) -> None:
        with backend.plate("data", len(x), dim=-1):
            backend.sample("x", module(lengths=lengths), obs=x)

    run = backend.run(program, lambda x, lengths: None)
    draws = backend.evaluation.forecast(run, x, lengths, horizon=2, num_draws=NUM).of()
    filtered = module.filtered(lib.array(x), lib.array(lengths))
    log_probs, log_odds = lib.numpy(filtered.log_probs), lib.numpy(filtered.log_odds)
    for row, length in enumerate(lengths):
        state = pi
        for t in range(length):
            predicted = (state @ B)[x[row, t, 0]]
            assert log_probs[row, t] == pytest.approx(np.log(predicted), abs=1e-10)
            state = state * B[:, x[row, t, 0]] / predicted
            np.testing.assert_allclose(np.exp(log_odds[row, t]), state, atol=1e-10)
            state = state @ A
        both = np.einsum("i,ia,ij,jb->ab", state, B, A, B).ravel()
        counts = np.bincount(draws[:, row, 0, 0] * 3 + draws[:, row, 1, 0], minlength=9) / NUM
        assert (abs(counts - both) < 5 * np.sqrt(both / NUM)).all()
    assert not log_probs[1, 1:].any()


def test_affine_paths_go_on_from_what_is_given(lib: Any, rng: np.random.Generator) -> None:
    """z_t = a_t z_{t-1} + b_t + s_t e_t behind a prefix, and nothing behind the lengths."""
    path = lib.shaken(lib.build("conditionals", "AffineMarkov", (4, 2)), 0.5)
    value = np.where((np.arange(4) < 2)[:, None], rng.standard_normal((4, 2)), np.nan)
    prefix, longer = lib.array(np.full(NUM, 2)), lib.array(np.full(NUM, 3))
    value = lib.array(np.broadcast_to(value, (NUM, 4, 2)).copy())

    def run(value: Any) -> Any:
        keys = () if hasattr(lib, "torch") else (lib.key(0),)
        p = path(lengths=longer)
        return [p.continued(*keys, value, prefix), p.gains[0], p.offsets[0], p.scales[0]]

    drawn, gains, offsets, scales = map(lib.numpy, lib.call(run, value))
    np.testing.assert_array_equal(drawn[:, :2], lib.numpy(value)[:, :2])
    assert not drawn[:, 3].any()
    mean = gains[2] * drawn[0, 1] + offsets[2]
    assert (abs(drawn[:, 2].mean(0) - mean) < 5 * scales[2] / NUM**0.5).all()
    assert (abs(drawn[:, 2].std(0) - scales[2]) < 5 * scales[2] / (2 * NUM) ** 0.5).all()


def test_global_latents_differ_from_draw_to_draw(backend: Any) -> None:
    """x_t ~ Normal(m, 1) in all sequences, m ~ Normal(2, 3): draws have variance 1 + 9, and those
    of two sequences covariance 9.
    """
    lib, np_ = library(backend), backend.np
    steps = lib.build("conditionals", "Steps", step(lib), 3)

    def program(x: Any, lengths: Any) -> None:
        m = backend.sample("m", backend.dist.Normal(2.0, 3.0))
        with backend.plate("data", len(x), dim=-1):
            mean = m * np_.ones((len(x), 3, 1))
            backend.sample("x", steps(mean, lengths), obs=x)

    def guide(x: Any, lengths: Any) -> None:
        backend.sample("m", backend.dist.Normal(2.0, 3.0))

    run = backend.run(program, guide)
    data = np.zeros((2, 3, 1)), np.array([2, 1])
    draws = backend.evaluation.forecast(run, *data, horizon=1, num_draws=800).of("x")[:, :, 0, 0]
    cov = np.cov(draws.T)
    assert abs(draws.mean() - 2) < 5 * (9.5 / 800) ** 0.5
    assert (abs(cov - np.array([[10, 9], [9, 10]])) < 5 * 10 * (2 / 800) ** 0.5).all()


def step(lib: Any) -> Any:
    """x ~ Normal(c, 1)."""
    made = lib.build("conditionals", "LinearNormal", 1, context_shape=1, min_scale=0.0)
    ones = {"head.weight": np.ones((1, 1)), "head.bias": np.zeros(1)}
    return with_weights(made, ones)


def test_what_has_no_forecast(backend: Any) -> None:
    lib = library(backend)
    model, guide = pair(backend, A2, latent=True)
    x, seen = np.zeros((3, T, 1)), SEEN
    flow = lib.build("conditionals", "FullRankNormal", T)
    flow = lib.build("conditionals", "Reshaped", flow, (T, 1))

    def flat(x: Any, lengths: Any) -> None:
        with backend.plate("data", len(x), dim=-1):
            backend.sample("x", flow(), obs=x)

    def static(x: Any, lengths: Any) -> None:
        with backend.plate("data", len(x), dim=-1):
            backend.sample("x", backend.dist.Normal(0.0, 1.0), obs=x[:, 0, 0])

    nothing = lambda x, lengths: None  # noqa: E731
    data = x, LENGTHS, seen
    for program, proposal, given, options, message in (
        (model, guide, data, {"horizon": 3}, "3 steps do not fit behind 5 of the 7"),
        (model, guide, data, {"horizon": 0}, "horizon must be an integer of at least 1"),
        (model, guide, data, {"lengths": "ends"}, "argument 'ends'.* takes x, lengths, seen"),
        (model, guide, (x, LENGTHS[:2], seen), {}, "one for each of the 3 sequences"),
        (model, guide, (x, LENGTHS * 1.0, seen), {}, "lengths must be an array of integers"),
        (flat, nothing, (x, LENGTHS), {}, "Site 'x' has a value in every step.* continued"),
        (static, nothing, (x, LENGTHS), {}, "no path to forecast"),
    ):
        run = backend.run(program, proposal)
        with pytest.raises(ValueError, match=message):
            backend.evaluation.forecast(run, *given, **{"horizon": 1, "num_draws": 2, **options})


def test_what_a_filter_refuses(lib: Any) -> None:
    for module, kind in ((linear(lib, A2, 3), float), (hidden(lib, 3)[0], int)):
        value = lib.array(np.zeros((2, 3, 1), kind))
        for options, message in (
            ({"lengths": lib.array(np.array([2, 4]))}, "integers from 0 to 3, got 4"),
            ({"lengths": lib.array(np.array([2.0, 1.0]))}, "lengths must be an array of integers"),
            ({"observed": lib.array(np.ones((2, 2), bool))}, "observed must be an array of truth"),
        ):
            with pytest.raises(ValueError, match=message):
                module.filtered(value, **options)
        with pytest.raises(ValueError, match="value of this path must have the shape"):
            module.filtered(value[:, :2])


def test_a_recurrent_model_goes_on(rng: np.random.Generator) -> None:
    """Draws of a VRNN behind each prefix: zeros and ones, not the data, also without a prefix."""
    import torch

    from pyro_dgm.evaluation import forecast
    from pyro_dgm.models import VRNN

    torch.manual_seed(0)
    vrnn = VRNN(3, 2, T, hidden=4, features=4)
    x = np.full((3, T, 3), np.nan)
    for row, length in enumerate(LENGTHS):
        x[row, :length] = rng.integers(0, 2, (length, 3))
    found = forecast(vrnn, x, LENGTHS, horizon=HORIZON, num_draws=200)
    draws = found.of("x")
    assert draws.shape == (200, 3, HORIZON, 3) and found.of("z").shape == (200, 3, HORIZON, 2)
    assert set(np.unique(draws)) == {0.0, 1.0} and (abs(draws.mean(0) - 0.5) < 0.4).all()
