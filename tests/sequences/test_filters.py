"""Particle filter and smoother against the exact values of linear-Gaussian models."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from tests.sequences.filters import linear_gaussian, part
from tests.sequences.oracle import A1, A2, OTHER, X1, X2, Model

ROWS, K = 40, 1000
PROBS = (0.1, 0.5, 0.8)


def close(found: np.ndarray, exact: Any, num: int = K) -> None:
    """The mean over the first axis, within its error; means of weighted particles are biased by
    the order of 1 / K."""
    error = 4.5 * found.std(0) / np.sqrt(len(found)) + 4 / num
    gap = np.abs(found.mean(0) - exact)
    assert (gap < error).all(), (found.mean(0), exact, error)


def exact_filter(model: Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and variances of z_t given x_1, ..., x_t, and log p(x_t | x_1, ..., x_{t-1})."""
    found = [model.posterior(x[: t + 1]) for t in range(len(x))]
    dim = len(model.F)
    means = np.stack([mean[-1] for mean, _ in found])
    variances = np.stack([np.diag(cov)[-dim:] for _, cov in found])
    evidence = np.array([0.0] + [model.evidence(x[: t + 1]) for t in range(len(x))])
    return means, variances, np.diff(evidence)


def filtered(
    backend: Any, model: Model, x: np.ndarray, optimal: bool, name: str, **options: Any
) -> Any:
    """What a function of the evaluation finds for copies of a sequence."""
    run = backend.run(*linear_gaussian(backend, model, optimal=optimal))
    data = np.repeat(x[None], ROWS, 0)
    with backend.double_precision():
        function = getattr(backend.evaluation, name)
        return function(run, data, num_particles=K, probs=PROBS, seed=1, **options)


CASES = {
    "bootstrap": (A1, X1, False, {"resample": "always", "scheme": "multinomial"}),
    "optimal": (A1, X1, True, {"chunk_size": 17 * K}),
    "of the model": (A1, X1, True, {"bootstrap": True, "resample": 0.9, "scheme": "stratified"}),
    "plane": (OTHER, np.linspace(-1.0, 1.5, 12).reshape(4, 3) ** 3, True, {"scheme": "residual"}),
}


@pytest.mark.slow("numpyro bootstrap", "numpyro optimal", "numpyro of")
@pytest.mark.long("numpyro optimal", "numpyro of")
@pytest.mark.parametrize("case", CASES)
def test_filter(backend: Any, case: str) -> None:
    """E Zhat = p(x); the latents given the data so far, and each step given those before it."""
    model, x, optimal, options = CASES[case]
    means, variances, steps = exact_filter(model, x)
    found = filtered(backend, model, x, optimal, "particle_filter", **options)
    ratio = np.exp(found.log_likelihood - steps.sum())
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(ROWS)
    np.testing.assert_allclose(found.step_log_likelihood.sum(1), found.log_likelihood)
    close(found.step_log_likelihood, steps)
    close(found.means["z"], means)
    close(found.variances["z"], variances)
    quantiles = means + np.sqrt(variances) * norm.ppf(PROBS)[:, None, None]
    close(found.quantiles["z"].swapaxes(0, 1), quantiles, K // 4)
    assert found.probs == PROBS
    assert found.ess.shape == (ROWS, len(x))
    assert (found.ess <= K + 1e-6).all()
    assert (found.ess >= 1).all()
    assert not found.resampled[:, -1].any()
    if options.get("resample") == "always":
        assert found.resampled[:, :-1].all()
    assert f"{ROWS} sequences of {len(x)} steps, {K} particles" in repr(found)


@pytest.mark.slow("numpyro")
@pytest.mark.long("numpyro-False")
@pytest.mark.parametrize("optimal", [False, True])
def test_smoother(backend: Any, optimal: bool) -> None:
    """The latents of each step given all of x, their paths too."""
    mean, cov = A1.posterior(X1)
    found = filtered(backend, A1, X1, optimal, "particle_smoother", num_draws=400)
    close(found.means["z"], mean, K // 3)
    close(found.variances["z"][..., 0], np.diag(cov), K // 3)
    drawn = found.draws["z"][..., 0]  # (draws, rows, T)
    lags = np.stack([np.cov(drawn[:, row].T) for row in range(ROWS)])
    close(lags, cov, K // 6)
    quantiles = mean + np.sqrt(np.diag(cov))[:, None] * norm.ppf(PROBS)[:, None, None]
    close(found.quantiles["z"].swapaxes(0, 1), quantiles, K // 12)
    assert (found.distinct[:, -1] == K).all()
    assert (np.diff(found.distinct, axis=1) >= 0).all()
    assert (found.distinct > 1).all()


@pytest.mark.slow("numpyro")
def test_paths_drawn_backward(backend: Any) -> None:
    """They are those of the exact smoother, also where few particles of the end have ancestors of
    their own, in a padded batch and in blocks of draws; a state that remembers is refused.
    """
    x, lengths = np.stack([X1, 0 * X1]), np.array([5, 3])
    x[1, 3:] = np.nan
    x[1, :3] = [[-1.0], [0.5], [1.5]]
    run = backend.run(*linear_gaussian(backend, A1, optimal=False))
    data, lengths = np.tile(x, (ROWS // 2, 1, 1)), np.tile(lengths, ROWS // 2)
    options = {"num_particles": 400, "num_draws": 100, "probs": PROBS, "seed": 3}
    options |= {"resample": "always", "backward": True, "chunk_size": 400 * 60}
    with backend.double_precision():
        found = backend.evaluation.particle_smoother(run, (data, lengths), **options)
    for row, length in enumerate((5, 3)):
        mean, cov = A1.posterior(x[row, :length])
        drawn = found.draws["z"][:, row::2, :length, 0]  # (draws, sequences, T)
        close(found.means["z"][row::2, :length], mean, 400)
        close(np.stack([np.cov(own.T) for own in drawn.swapaxes(0, 1)]), cov, 400)
        np.testing.assert_allclose(found.means["z"][row::2, :length, 0], drawn.mean(0))
        assert not found.draws["z"][:, row::2, length:].any()
        assert (found.distinct[row::2, :length] > 50).all()  # of at most 100

    run, options["bootstrap"] = backend.run(*recurrent(backend)), True
    with pytest.raises(ValueError, match="the states of this model remember more"):
        backend.evaluation.particle_smoother(run, X1[None], **options)


def recurrent(backend: Any) -> tuple[Any, Any]:
    """z_t ~ Normal(h_{t-1}, 1), x_t ~ Normal(z_t, 1), h_t = h_{t-1} / 2 + z_t."""
    normal, unroll, start = backend.dist.Normal, part(backend, "sequences").unroll, np.zeros(1)

    def step(h: Any, inputs: Any, x_t: Any) -> Any:
        z = backend.sample("z", normal(h, 1.0).to_event(1))
        backend.sample("x", normal(z, 1.0).to_event(1), obs=x_t)
        return h / 2 + z

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            unroll(step, backend.array(start), x)

    def guide(x: Any) -> None:
        pass

    return model, guide


@pytest.mark.slow("numpyro")
def test_lengths(backend: Any) -> None:
    """A padded batch, NaN in its padding, has the values of its sequences, zero in the padding."""
    run = backend.run(*linear_gaussian(backend, A2, optimal=True))
    data, lengths = np.tile(X2, (ROWS, 1, 1)), np.tile([5, 3], ROWS)
    with backend.double_precision():
        found = backend.evaluation.particle_smoother(run, (data, lengths), num_particles=K, seed=2)
    for row, (length, exact) in enumerate(((5, -4.27886280), (3, -3.08730947))):
        x = X2[row, :length]
        assert A2.evidence(x) == pytest.approx(exact, abs=5e-9)
        own = found.log_likelihood[row::2]
        ratio = np.exp(own - exact)
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(ROWS)
        mean, cov = A2.posterior(x)
        close(found.means["z"][row::2, :length], mean, K // 3)
        close(found.variances["z"][row::2, :length], np.diag(cov).reshape(-1, 2), K // 3)
        for own in (found.step_log_likelihood, found.means["z"], found.ess, found.distinct):
            assert not own[row::2, length:].any()
        assert not found.draws["z"][:, row::2, length:].any()
        assert not found.resampled[row::2, length - 1 :].any()


def test_refusals(backend: Any) -> None:
    """Bad arguments, in one sentence each, before anything runs."""
    run = backend.run(*linear_gaussian(backend, A1, optimal=False))
    for settings, sentence in (
        ({"num_particles": 0}, "num_particles must be an integer of at least 1, got 0"),
        ({"chunk_size": 1.5}, "chunk_size must be an integer of at least 1, got 1.5"),
        ({"resample": 2}, "resample must be 'always', 'never' or a share of the particles"),
        ({"scheme": "alias"}, "scheme must be one of"),
        ({"bootstrap": "yes"}, "bootstrap must be True or False, got 'yes'"),
        ({"progress": 3}, "progress must be True or False, got 3"),
        ({"probs": (0.5, 1.5)}, r"probs must be a number in \[0, 1\]"),
        ({"seed": "0"}, "seed must be an integer"),
    ):
        for name in ("particle_filter", "particle_smoother"):
            with pytest.raises(ValueError, match=sentence):
                getattr(backend.evaluation, name)(run, X1[None], **settings)
    with pytest.raises(ValueError, match="num_draws must be an integer of at least 1, got 0"):
        backend.evaluation.particle_smoother(run, X1[None], num_draws=0)
