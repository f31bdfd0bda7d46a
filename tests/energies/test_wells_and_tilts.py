"""Energies in one and two dimensions that are no normal distributions, and a tilted prior."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.energies.toys import hadamard, numbers, part, tilted, unnormalized

LOG_Z, LOG_P = -0.19389333, -1.15649846
TILT = {"A": np.array(0.8), "B": np.array(0.6)}


def well(value: Any) -> Any:
    """-(x^2 - 1)^2 / .5."""
    return -((value[..., 0] ** 2 - 1) ** 2) / 0.5


def ring(value: Any) -> Any:
    """-((|x| - 2) / .4)^2 / 2."""
    return -((((value**2).sum(-1) ** 0.5 - 2) / 0.4) ** 2) / 2


def test_a_double_well(backend: Any) -> None:
    """ln Z, E x^2 and E x U'(x) by quadrature of what the library evaluates; uncorrected steps end
    where the discretized chain is stationary: that operator on a grid, from the library's drift.
    """
    mcmc = part(backend, "mcmc")
    x = np.linspace(-2.4, 2.4, 481)
    state = mcmc.start(unnormalized(backend, well).unnormalized_log_prob, backend.array(x[:, None]))
    density, slope = np.exp(numbers(state.log_density)), numbers(state.gradient)[:, 0]
    z = density.sum() * (x[1] - x[0])
    assert np.log(z) == pytest.approx(0.34423822, abs=5e-9)
    weights = density / density.sum()
    assert weights @ x**2 == pytest.approx(0.85213615, abs=5e-9)
    assert weights @ (-x * slope) == pytest.approx(1, abs=1e-8)
    for h, expected in ((0.002, 0.85010), (0.01, 0.84126)):
        noise = mcmc.Noise(backend.array(np.zeros((1, len(x), 1))), None)
        moved = mcmc.Langevin((2 * h) ** 0.5)(well, state, noise)[0].position
        drift = numbers(moved)[:, 0]
        operator = np.exp(-((x[None] - drift[:, None]) ** 2) / (4 * h))
        operator /= operator.sum(1, keepdims=True)
        stationary = np.linalg.matrix_power(operator, 2**15)[0]
        assert stationary @ x**2 == pytest.approx(expected, abs=2e-5)


def test_a_ring(backend: Any) -> None:
    grid = np.linspace(-4.5, 4.5, 361)
    x = np.stack(np.meshgrid(grid, grid), -1)
    energy = unnormalized(backend, ring, 2)
    found = np.exp(np.asarray(energy.unnormalized_log_prob(backend.array(x))))
    assert np.log(found.sum() * (grid[1] - grid[0]) ** 2) == pytest.approx(2.53367206, abs=1e-6)
    radius = np.linalg.norm(x, axis=-1)
    assert (found * radius).sum() / found.sum() == pytest.approx(2.08, abs=1e-6)


def test_the_gradient_of_a_tilted_prior(backend: Any) -> None:
    """E_post - E_prior of -z^2 / 2 and z: -.03231764 and .35087719, at draws of exact moments."""
    columns = hadamard(2)
    chains = 1 / 3 + (5 / 9) ** 0.5 * columns[:, 1:2]
    z = 2.6 / 3.8 + 3.8**-0.5 * columns[:, 2:3]
    losses, x = backend.losses, np.ones((4, 1))
    loss = losses.ContrastiveDivergence("z", chains=losses.Persistent(4))
    model, guide = tilted(backend, guide_at_z=True)
    array = backend.array
    state = {"chains": array(chains), "restarts": array(0.0), "acceptance": array(1.0)}
    if backend.name == "pyro":
        torch, store = backend.torch, backend.pyro.get_param_store()
        for name, value in TILT.items():
            store.setdefault(name, array(value).clone())
        state["turn"] = torch.tensor(0)
        out = loss.evaluate(model, guide, (array(x), array(z)), states={loss.name: state})
        leaves = [store._params[name] for name in TILT]
        slopes = [float(g) for g in torch.autograd.grad(out.per_datum, leaves)]
    else:
        jax = backend.jax
        state["turn"] = jax.numpy.zeros((), int)

        def total(params: Any) -> Any:
            out = loss.evaluate(
                jax.random.key(0),
                params,
                model,
                guide,
                (array(x), array(z)),
                states={loss.name: state},
            )
            return out.per_datum

        found = jax.jit(jax.grad(total))({name: array(value) for name, value in TILT.items()})
        slopes = [float(found[name]) for name in TILT]
    assert -slopes[0] == pytest.approx(-0.03231764, abs=5e-9)
    assert -slopes[1] == pytest.approx(0.35087719, abs=5e-9)


def test_a_tilted_prior_in_bounds(backend: Any) -> None:
    """With its constant stated, bounds and weights are log p = -1.15649846 without variance; with
    an estimate of it they are too high on average; without, they are refused."""
    losses, (model, guide) = backend.losses, tilted(backend)
    x = np.ones((3, 1))
    known = part(backend, "evaluation").normalized(model, {"z": LOG_Z})
    loss = losses.ELBO() + losses.IWAE(num_particles=3)
    _, terms, _ = backend.evaluate(loss, known, guide, x, params=TILT)
    assert terms["ELBO"] == pytest.approx(LOG_P, abs=1e-8)
    assert terms["IWAE"] == pytest.approx(LOG_P, abs=1e-8)
    error = backend.conditionals.UnnormalizedError
    with pytest.raises(error, match=r"Site 'z' is unnormalized.*ContrastiveDivergence\(site"):
        backend.evaluate(losses.ELBO(), model, guide, x, params=TILT)
    loss = losses.ELBO(beta=1.0) + losses.ContrastiveDivergence("z", log_z=20_000)
    _, terms, _ = backend.evaluate(loss, model, guide, x, params=TILT)
    assert terms["ELBO"] == pytest.approx(LOG_P, abs=0.02) and terms["ELBO"] != LOG_P
    assert terms["ContrastiveDivergence(z)/log_z"] == pytest.approx(LOG_Z, abs=0.02)
    alone = losses.ContrastiveDivergence("z", log_z=1)
    found = [
        backend.evaluate(alone, model, guide, x, params=TILT, seed=seed)[1][f"{alone.name}/log_z"]
        for seed in range(100)
    ]
    assert np.mean(found) == pytest.approx(-0.4, abs=0.25)  # E f, below ln Z
    assert np.mean(found) < LOG_Z - 0.05


def test_what_a_run_is_evaluated_with(backend: Any) -> None:
    """`log_weights` of a run whose constants are stated."""
    evaluation, (model, guide) = part(backend, "evaluation"), tilted(backend)
    run, x = backend.run(model, guide, TILT), backend.array(np.ones((3, 1)))
    with pytest.raises(backend.conditionals.UnnormalizedError, match="Site 'z' is unnormalized"):
        evaluation.log_weights(run, x, num_particles=2)
    found = evaluation.log_weights(evaluation.normalized(run, {"z": LOG_Z}), x, num_particles=2)
    np.testing.assert_allclose(found, LOG_P, atol=1e-7)
    with pytest.raises(ValueError, match=r"constants of \['y'\], which are no unnormalized sites"):
        evaluation.log_weights(evaluation.normalized(run, {"z": LOG_Z, "y": 0.0}), x)


@pytest.mark.slow
def test_an_interval_for_a_run(backend: Any) -> None:
    evaluation, (model, guide) = part(backend, "evaluation"), tilted(backend)
    run, x = backend.run(model, guide, TILT), backend.array(np.ones((3, 1)))
    settings: dict[str, Any] = {"steps": 60, "chains": 60, "seed": 1, "progress": False}
    bounds = evaluation.annealed_log_z(run, x, site="z", **settings)
    assert bounds.lower[0] - 0.05 < LOG_Z < bounds.upper[0] + 0.05
    assert abs(bounds.gap[0]) < 0.1


def test_no_chain_runs_for_an_interval_of_a_latent() -> None:
    """Densities of the temperatures come from the potential; in NumPyro compiled code leaves out
    the draws of the site that nothing reads, Pyro must not make them.
    """
    from pyro_dgm.conditionals import UnnormalizedDistribution
    from pyro_dgm.evaluation import annealed_log_z
    from tests.backends import PyroBackend

    backend = PyroBackend()
    model, guide = tilted(backend)
    run, x = backend.run(model, guide, TILT), backend.array(np.ones((3, 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnnormalizedDistribution, "sample", None)
        bounds = annealed_log_z(run, x, site="z", steps=3, chains=4, progress=False)
    assert np.isfinite(bounds.lower).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("potential", "dim", "variance", "log_z"),
    [(well, 1, 1.0, 0.34423822), (ring, 2, 4.0, 2.53367206)],
)
def test_intervals_of_ln_z(
    backend: Any, potential: Callable, dim: int, variance: float, log_z: float
) -> None:
    """The ends are within four of their errors of ln Z. (MALA leaves a reverse chain on a steep
    wall now and then, and its error is then .25.)"""
    energy = unnormalized(backend, potential, dim, variance)
    settings: dict[str, Any] = {"steps": 200, "chains": 2_000, "progress": False}
    settings["kernel"] = part(backend, "mcmc").HMC(0.1, 5)
    bounds = part(backend, "evaluation").annealed_log_z(energy, seed=3, **settings)
    below, above = (bounds[f"{name} error"][0] for name in ("AIS", "reverse AIS"))
    assert max(below, above) < 0.02
    assert bounds.lower[0] - 4 * below < log_z < bounds.upper[0] + 4 * above
    assert abs(bounds.upper[0] - bounds.lower[0]) < 0.1
