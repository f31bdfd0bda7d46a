"""Kernels leave their target as it is: exactly where they say so, with the bias that they state
where they do not.
"""

from typing import Any

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from tests.mcmc.faces import kernels, run_chain, transition

SHAPE = 2.5  # of a log-gamma variable, whose density is asymmetric


def log_gamma(b: Any) -> Any:
    return lambda x: (SHAPE * x - b.np.exp(x)).sum(-1)


def bent(b: Any) -> Any:
    """A target without symmetry, of two coordinates that depend on each other."""

    def log_density(x: Any) -> Any:
        u, v = x[..., 0], x[..., 1]
        return 1.5 * u - b.np.exp(u) - 0.5 * (v - 0.7 * u**2) ** 2 / 0.6

    return log_density


def test_the_corrected_kernels_leave_an_asymmetric_target_as_it_is(backend: Any) -> None:
    """Chains that start in the target are still there after many transitions; and the same test
    finds the uncorrected kernel."""
    m, num = kernels(backend), 8_000
    mean, variance, third = digamma(SHAPE), polygamma(1, SHAPE), polygamma(2, SHAPE)
    fourth = polygamma(3, SHAPE) + 3 * variance**2
    sixth = 15 * variance**3 + 10 * third**2 + 15 * variance * polygamma(3, SHAPE)
    sixth += polygamma(5, SHAPE)  # central moments from cumulants
    exact = np.array([mean, variance, third])
    errors = np.sqrt([variance, fourth - variance**2, sixth - third**2])
    start = np.log(np.random.default_rng(0).gamma(SHAPE, size=(num, 1)))

    def z_scores(kernel: Any) -> tuple[np.ndarray, float]:
        positions, acceptance = run_chain(backend, kernel, log_gamma(backend), start, 6)
        x = positions[-1, :, 0]
        found = np.array([x.mean(), *(np.mean((x - mean) ** k) for k in (2, 3))])
        return (found - exact) / errors * np.sqrt(num), acceptance.mean()

    for kernel in (m.HMC(0.9, 3, inverse_mass=1.3), m.MALA(1.2)):
        z, acceptance = z_scores(kernel)
        assert 0.5 < acceptance < 0.95
        assert np.abs(z).max() < 4
    assert np.abs(z_scores(m.Langevin(0.9))[0]).max() > 6


def test_chains_find_the_target_from_anywhere(backend: Any) -> None:
    kernel = kernels(backend).HMC(0.5, 5)
    positions, _ = run_chain(backend, kernel, log_gamma(backend), np.full((4000, 1), -4.0), 30)
    z = (positions[-1].mean() - digamma(SHAPE)) / np.sqrt(polygamma(1, SHAPE) / 4000)
    assert abs(z) < 4


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_langevin_steps_have_the_variance_that_they_state(backend: Any, temperature: float) -> None:
    scale, step = 0.8, 1.0
    kernel = kernels(backend).Langevin(step, 25, temperature=temperature)
    positions, _ = run_chain(
        backend, kernel, lambda x: -0.5 * (x / scale) ** 2, np.zeros(40_000), 1
    )
    stated = temperature * scale**2 / (1 - step**2 / (4 * scale**2))
    assert positions[-1].var() / stated == pytest.approx(1, abs=4 * np.sqrt(2 / 40_000))


def test_flux_is_equal_in_both_directions(backend: Any) -> None:
    """pi(x) N(p) a(x, p -> x', p') = pi(x') N(p') a(x', -p' -> x, -p), also with a mass."""
    b, mass = backend, np.array([0.5, 2.0])
    log_density, rng = bent(b), np.random.default_rng(1)
    kernel = kernels(b).HMC(0.25, 3, inverse_mass=b.array(1 / mass))
    x, normal = 0.5 * rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    there, info = transition(b, kernel, log_density, x, normal, np.zeros(50))  # 0: always taken
    assert info.accepted.all()
    force = lambda y: kernels(b).start(log_density, y).gradient  # noqa: E731
    momentum = b.array(normal * np.sqrt(mass))
    y, p = kernels(b).leapfrog(force, b.array(x), momentum, 0.25, 3, inverse_mass=b.array(1 / mass))
    y, p = (np.asarray(part.detach() if b.name == "pyro" else part) for part in (y, p))
    np.testing.assert_allclose(there.position, y, rtol=1e-12)
    back, back_info = transition(b, kernel, log_density, y, -p / np.sqrt(mass), np.zeros(50))
    np.testing.assert_allclose(back.position, x, atol=1e-10)
    before = np.asarray(log_density(b.array(x))) - 0.5 * (normal**2).sum(1)
    after = there.log_density - 0.5 * (p**2 / mass).sum(1)
    assert 0.1 < np.mean(info.acceptance < 1) < 0.9
    np.testing.assert_allclose(
        before + np.log(info.acceptance), after + np.log(back_info.acceptance), atol=1e-10
    )


def test_one_step_is_the_proposal_of_langevin_with_its_correction(backend: Any) -> None:
    b, step = backend, 0.6
    log_density, rng = bent(b), np.random.default_rng(2)
    x, normal = 0.5 * rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    moved, info = transition(b, kernels(b).MALA(step), log_density, x, normal, np.zeros(30))

    def drift(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state, _ = transition(
            b, kernels(b).Langevin(step, temperature=0.0), log_density, y, y[None], np.zeros(30)
        )
        return state.position, np.asarray(log_density(b.array(y)))

    (ahead, before), (behind, after) = drift(x), drift(moved.position)
    np.testing.assert_allclose(moved.position, ahead + step * normal, rtol=1e-12)
    forth = -0.5 * ((moved.position - ahead) ** 2).sum(1) / step**2
    back = -0.5 * ((x - behind) ** 2).sum(1) / step**2
    ratio = np.exp(after + back - before - forth)
    np.testing.assert_allclose(info.acceptance, np.minimum(1, ratio), rtol=1e-10)
    assert 0 < np.sum(ratio < 1) < 30


def test_leapfrog_steps_are_undone_and_keep_volume(backend: Any) -> None:
    b, mcmc = backend, kernels(backend)

    def steps(both: Any) -> Any:
        force = lambda y: mcmc.bounded(  # noqa: E731
            b.np.stack([1.5 - b.np.exp(y[0]) + y[1], -3 * y[1] + b.np.sin(y[0])]), 1.5
        )
        x, p = mcmc.leapfrog(force, both[:2], both[2:], 0.3, 4, inverse_mass=1.7)
        return b.np.concatenate([x, p])

    both = b.array([0.3, -1.2, 0.8, 0.5])
    if b.name == "pyro":
        jacobian = b.torch.autograd.functional.jacobian(steps, both)
    else:
        jacobian = b.jax.jacobian(steps)(both)
    assert np.linalg.det(np.asarray(jacobian)) == pytest.approx(1, abs=1e-12)
    assert np.abs(np.asarray(jacobian) - np.eye(4)).max() > 0.3
    turn = b.array([1.0, 1.0, -1.0, -1.0])
    np.testing.assert_allclose(np.asarray(turn * steps(turn * steps(both))), both, atol=1e-12)


def test_the_energy_error_falls_with_the_square_of_the_step(backend: Any) -> None:
    rng = np.random.default_rng(3)
    x, normal = rng.normal(size=(1, 2)), rng.normal(size=(1, 2))

    def error(num_steps: int) -> float:
        kernel = kernels(backend).HMC(0.8 / num_steps, num_steps)
        return transition(backend, kernel, bent(backend), x, normal, np.ones(1))[
            1
        ].energy_error.item()

    errors = [error(num_steps) for num_steps in (40, 80, 160)]
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, abs=0.03)


def test_any_batch_and_event(backend: Any) -> None:
    """Chains in two dimensions with images as events move as each by itself, with a step each."""
    b, rng = backend, np.random.default_rng(4)
    x, normal = rng.normal(size=(2, 2, 3, 1, 2, 2))
    uniform = rng.uniform(size=(2, 3))
    steps = np.array([0.3, 0.9]).reshape(2, 1, 1, 1, 1)
    log_density = lambda x: -(x**4).sum((-3, -2, -1)) + x[..., 0, 0, 1]  # noqa: E731
    together, info = transition(
        b, kernels(b).HMC(b.array(steps), 2), log_density, x, normal, uniform
    )
    assert info.accepted.shape == (2, 3) and 0 < info.accepted.sum() < 6
    for i in range(2):
        alone, own = transition(
            b, kernels(b).HMC(steps[i].item(), 2), log_density, x[i, 1], normal[i, 1], uniform[i, 1]
        )
        np.testing.assert_allclose(together.position[i, 1], alone.position, rtol=1e-12)
        assert own.acceptance == pytest.approx(info.acceptance[i, 1])


def test_a_proposal_without_a_density_is_refused(backend: Any) -> None:
    b = backend
    log_density = lambda x: b.np.log(x).sum(-1) - x.sum(-1)  # noqa: E731  # NaN below zero
    x, normal = np.array([[0.1], [2.0]]), np.array([[-5.0], [0.1]])
    state, info = transition(b, kernels(b).HMC(1.0, 1), log_density, x, normal, np.zeros(2))
    assert info.accepted.tolist() == [False, True]
    assert info.energy_error[0] == np.inf and info.acceptance[0] == 0
    assert state.position[0] == 0.1 and np.isfinite(state.gradient).all()


def test_what_is_refused(backend: Any) -> None:
    b, m = backend, kernels(backend)
    ones = b.array(np.ones((3, 2)))
    shape = r"one number for each chain, got shape \(2,\) for positions of shape \(3, 2\)"
    for make, words in (
        (lambda: m.HMC(0.0, 3), "step_size must be a positive number, got 0.0"),
        (lambda: m.HMC(0.1, 0), "num_steps must be an integer of at least 1, got 0"),
        (lambda: m.MALA(0.1, inverse_mass="I"), "inverse_mass must be a positive number, got 'I'"),
        (lambda: m.Langevin(np.arange(3)), "a positive number or an array of real numbers"),
        (lambda: m.Langevin(0.1, temperature=-1), "temperature must be a number of at least 0"),
        (lambda: m.start(lambda x: x.sum(0), ones), shape),
    ):
        with pytest.raises(ValueError, match=words):
            make()
