"""Hamiltonian guides: exact bounds on normal targets, volume, energy, gradients, refusals."""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from tests.guides.test_amortized import Identity, fitted, key
from tests.guides.test_auxiliary import BATCH, ROWS, evidence, gradients_of, linear, rows
from tests.guides.test_joint import EVIDENCE
from tests.losses.test_any_model import eight_schools

LOG_SEEN = -0.5 * np.log(2 * np.pi)


def target(b: Any, rho: float | None = None) -> Callable:
    """A normal posterior of evidence 1 (but for what is seen): z of sd 2 about 1, or two of
    correlation rho."""
    d = b.dist

    def model() -> None:
        if rho is None:
            b.sample("z", d.Normal(b.array(1.0), b.array(2.0)))
        else:
            covariance = b.array([[1.0, rho], [rho, 1.0]])
            b.sample("z", d.MultivariateNormal(b.array(np.zeros(2)), covariance))
        b.sample("y", d.Normal(b.array(0.0), b.array(1.0)), obs=b.array(0.0))

    return model


@pytest.mark.slow
@pytest.mark.long("[pyro")
@pytest.mark.parametrize(
    ("rho", "num_steps", "scale", "low", "high", "training"),
    [
        (None, 1, 0.8, -0.005, 0.002, {"steps": 1500, "lr": 0.03}),
        (0.9, 1, 0.8, -0.147, -0.107, {"steps": 1500, "lr": 0.03}),
        (0.9, 2, 0.4, -0.03, 0.002, {"steps": 1500, "lr": 0.03}),
    ],
)
def test_bounds_on_normal_targets(
    backend: Any,
    rho: float | None,
    num_steps: int,
    scale: float,
    low: float,
    high: float,
    training: dict[str, Any],
) -> None:
    """One step is exact in one dimension; a diagonal base with one step leaves 0.127 to 0.140 at
    correlation 0.9, with two steps 0.007 or less (a start too wide ends at another optimum, where
    the base is a point)."""
    b = backend
    model = target(b, rho)
    if b.name == "pyro":
        b.pyro.clear_param_store()
    diagonal = b.conditionals.DiagonalNormal
    base = b.guides.JointGuide(model, diagonal, init="prior", init_scale=scale)
    guide = b.guides.HamiltonianGuide(
        base, num_steps=num_steps, max_step=3.0, step_size=0.5, max_force=1e3, **key(b)
    )
    bound = fitted(b, model, guide, num_particles=16, draws=100_000, **training)
    assert low < bound - LOG_SEEN < high


def moves(b: Any, model: Callable, settings: dict[str, Any]) -> Callable[[Any], Any]:
    """(e_0, v_0) side by side -> (e_T, v_T), of a guide over a joint vector."""
    from importlib import import_module

    name = "pyro_dgm" if b.name == "pyro" else "numpyro_dgm"
    passes = import_module(f"{name}.guides.passes")
    base = b.guides.JointGuide(model, b.conditionals.DiagonalNormal)
    guide = b.guides.HamiltonianGuide(base, **settings, **key(b))
    guide.prepare()
    size = len(base.parts[0].shift)

    def moved(state: Any) -> Any:
        with nullcontext() if b.name == "pyro" else b.numpyro.handlers.seed(rng_seed=0):
            call = guide.called((), {})
        first = passes.First()
        momentum = guide.parts[0].momentum(guide.parts[0].groups[0])
        if b.name == "pyro":
            handed = b.joints.handlers.GivenDraws(
                {"latent.vector/0": state[:size], f"{momentum}/0": state[size:]}
            )
        else:
            handed = b.numpyro.handlers.substitute(
                data={"latent.vector/0": state[:size], f"{momentum}/0": state[size:]}
            )
        seeded = nullcontext() if b.name == "pyro" else b.numpyro.handlers.seed(rng_seed=0)
        with seeded, handed, first:
            call.answers()
            guide.parts[0].draw(call, None)
        found = guide.parts[0].moved(model, call, first)
        join = b.torch.cat if b.name == "pyro" else b.np.concatenate
        return join([found.parts[0], found.momenta[0]], -1)

    return moved


def banana(b: Any) -> Callable:
    d = b.dist

    def model() -> None:
        z = b.sample("z", d.Normal(b.array(np.zeros(2)), b.array(1.0)).to_event(1))
        b.sample("y", d.Normal(z[0] ** 2 - z[1], b.array(0.3)), obs=b.array(0.7))

    return model


@pytest.mark.parametrize("annealed", [False, True])
def test_volume_is_kept_with_a_bounded_force(backend: Any, annealed: bool) -> None:
    """log |det d(e_T, v_T) / d(e_0, v_0)| = 0, by automatic differentiation; the bound matters."""
    b = backend
    settings = {"num_steps": 3, "step_size": 0.3, "annealed": annealed}
    state = b.array(np.random.default_rng(0).standard_normal(2 + 2 * (3 if annealed else 1)))
    ends = []
    for max_force in (0.5, 50.0):
        moved = moves(b, banana(b), {**settings, "max_force": max_force})
        if b.name == "pyro":
            matrix = b.torch.autograd.functional.jacobian(moved, state)
        else:
            matrix = b.jax.jit(b.jax.jacfwd(moved))(state)
        matrix = np.asarray(matrix)
        assert np.linalg.slogdet(matrix)[1] == pytest.approx(0.0, abs=1e-9)
        assert np.abs(matrix - np.eye(len(matrix))).max() > 0.1
        ends.append(np.asarray(matrix))
    assert np.abs(ends[0] - ends[1]).max() > 1e-3


def test_energy_is_kept_to_second_order(backend: Any) -> None:
    """Without the bound the error of the energy over a fixed time falls as the square of the step:
    16 times from h to h / 4."""
    b = backend
    model = banana(b)
    state = b.array(np.array([0.4, -0.3, 0.8, -0.5]))
    base = b.guides.JointGuide(model, b.conditionals.DiagonalNormal)
    base.prepare()
    part = base.parts[0]
    places = (part.start, part.spread)
    start, spread = (np.asarray(x if b.name == "pyro" else x.value) for x in places)

    def energy(state: np.ndarray) -> float:
        z = start + spread * 0.1 * state[:2]
        log_p = -0.5 * (z**2).sum() - 0.5 * ((0.7 - z[0] ** 2 + z[1]) / 0.3) ** 2
        return 0.5 * (state[2:] ** 2).sum() - log_p

    errors = []
    for num_steps, step in ((3, 0.4), (12, 0.1)):
        settings = {"num_steps": num_steps, "step_size": step, "max_force": np.inf}
        end = moves(b, model, settings)(state)
        end = np.asarray(end.detach() if b.name == "pyro" else end)
        errors.append(abs(energy(end) - energy(np.asarray(state))))
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.15)


@pytest.mark.parametrize("annealed", [False, True])
def test_weights_of_eight_schools(backend: Any, annealed: bool) -> None:
    """The importance-weighted bound of an untrained guide tends to the evidence."""
    b = backend
    model, y = eight_schools(b)
    base = b.guides.JointGuide(model, init_scale=1.0)
    guide = b.guides.HamiltonianGuide(base, annealed=annealed, **key(b))
    bound = -b.evaluate(b.losses.IWAE(20_000), model, guide, y, seed=3)[0]
    assert bound == pytest.approx(EVIDENCE, abs=0.1)


@pytest.mark.parametrize("loss", ["ELBO", "stl", "dreg"])
def test_r_and_steps_learn_with_every_estimator(backend: Any, loss: str) -> None:
    b = backend
    model, y = eight_schools(b)
    guide = b.guides.HamiltonianGuide(b.guides.JointGuide(model), num_steps=2, **key(b))
    losses = {
        "ELBO": b.losses.ELBO(num_particles=3),
        "stl": b.losses.ELBO(num_particles=3, estimator="stl"),
        "dreg": b.losses.IWAE(num_particles=3, estimator="dreg"),
    }
    for name, gradient in gradients_of(b, losses[loss], model, guide, y).items():
        assert np.isfinite(gradient).all(), name
        if "family" in name or "steps" in name:
            assert gradient.any(), name


def test_minibatches_estimate_the_bound_of_all_data(backend: Any) -> None:
    """The force on a latent of a datum is that of the datum, whatever N / B."""
    b = backend
    x = rows()
    base = b.guides.AmortizedGuide(
        linear(b),
        lambda x: x[..., None],
        b.conditionals.DiagonalNormal,
        inputs=lambda x: x,
        **key(b),
    )
    guide = b.guides.HamiltonianGuide(base, num_steps=2, step_size=0.3, **key(b))
    loss = b.losses.ELBO(num_particles=4000)
    whole = -b.evaluate(loss, linear(b), guide, x)[0]
    part, parts = linear(b, BATCH), []
    for start in range(0, ROWS, BATCH):
        batch = x[start : start + BATCH]
        parts.append(-b.evaluate(loss, part, guide, batch, seed=start)[0])
    assert np.mean(parts) == pytest.approx(whole, rel=0.02)
    assert whole < evidence(x)


@pytest.mark.slow("numpyro")
def test_evaluation_finds_the_extended_model(backend: Any) -> None:
    b = backend
    model, y = eight_schools(b)
    guide = b.guides.HamiltonianGuide(b.guides.JointGuide(model, init_scale=1.0), **key(b))
    run, e = b.run(model, guide), b.evaluation
    if b.name == "numpyro":
        run.params = b.parameters(guide, b.array(y))
    latents = ["mu", "tau", "theta_trans"]
    assert list(e.sample_posterior(run, y, num_draws=3)) == latents
    assert sorted(e.generate(run, y)) == sorted([*latents, "y"])
    log_w = np.asarray(e.log_weights(run, y, num_particles=20_000))
    assert np.log(np.mean(np.exp(log_w))) == pytest.approx(EVIDENCE, abs=0.15)
    assert (
        np.asarray(e.resample(run, y, num_draws=50, num_particles=2000, force=True).draws["tau"])
        > 0
    ).all()


def test_the_first_call_may_be_compiled() -> None:
    import jax
    import jax.numpy as jnp

    from tests.backends import NumPyroBackend

    b = NumPyroBackend()
    with b.double_precision():
        model, y = eight_schools(b)
        guide = b.guides.HamiltonianGuide(b.guides.JointGuide(model), num_steps=2, **key(b))
        loss = b.losses.ELBO()

        def total(y: Any) -> Any:
            return loss.evaluate(jax.random.key(0), {}, model, guide, (y,), {}).loss

        first = jax.jit(total)(jnp.asarray(y))
        np.testing.assert_allclose(first, jax.jit(lambda y: total(y))(jnp.asarray(y)), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.long("[pyro")
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "1"))))
def test_eight_schools(backend: Any, seed: int) -> None:
    """Three steps are above the best normal, -31.534, and below the evidence."""
    b = backend
    model, y = eight_schools(b)
    if b.name == "pyro":
        b.torch.manual_seed(seed)
    guide = b.guides.HamiltonianGuide(b.guides.JointGuide(model), **key(b, seed))
    bound = fitted(
        b, model, guide, y, steps=1500, lr=0.02, num_particles=16, draws=40_000, seed=seed
    )
    assert -31.534 < bound < EVIDENCE
    assert bound == pytest.approx(-31.49, abs=0.03)


def test_refusals(backend: Any) -> None:
    b, c, d, g = backend, backend.conditionals, backend.dist, backend.guides
    model, y = eight_schools(b)
    h = g.HamiltonianGuide

    def discrete() -> None:
        b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        b.sample("k", d.Bernoulli(b.array(0.5)))

    def masked() -> None:
        with b.mask(b.np.asarray(np.array([True, False]))), b.plate("data", 2):
            b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))

    def outer(x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", ROWS, subsample_size=len(x)):
            b.sample("x", d.Normal(mu, b.array(1.0)), obs=x)

    def bounded() -> None:
        a = b.sample("a", d.Gamma(b.array(2.0), b.array(3.0)))
        b.sample("b", d.Uniform(-a, 2 * a))

    joint = g.JointGuide(model)
    for build, match in (
        (lambda: h(model), "base must be a guide that is made of parts"),
        (lambda: h(h(joint)), "base must be a guide that is made of parts"),
        (lambda: h(joint, num_steps=0), "num_steps must be"),
        (lambda: h(joint, step_size=0.5), "step_size must be below max_step"),
        (lambda: h(joint, max_force=0.0), "max_force must be"),
        (lambda: h(joint, annealed=1), "annealed must be"),
        (lambda: h(joint, annealed=True, reverse=c.DiagonalNormal), "annealed=True has no reverse"),
    ):
        with pytest.raises(ValueError, match=match):
            build()
    x = b.array(np.zeros(3))
    for guide, args, match in (
        (h(g.JointGuide(discrete, sites=["w"]), **key(b)), (), "site 'k' is discrete"),
        (h(g.Guide(masked), **key(b)), (), "site 'z' lies under a mask"),
        (h(g.JointGuide(bounded, sites=["a"]), **key(b)), (), r"moves \['b'\] as the base draws"),
        (h(g.JointGuide(outer), **key(b)), (x,), "site 'mu', which lies outside the subsampled"),
        (h(g.AuxiliaryGuide(model, **key(b)), **key(b)), (b.array(y),), "its base has the parts"),
    ):
        with pytest.raises(ValueError, match=match):
            guide.prepare(*args)


def test_a_site_that_the_base_leaves_to_the_model(backend: Any) -> None:
    """rate ~ Gamma(2, 3), under its own conditional;  k ~ Poisson(1.5 rate): the mean weight is the
    evidence, negative binomial."""
    b, d = backend, backend.dist
    k, a = np.array([1.0, 4.0, 2.0]), 2.0

    def model(k: Any) -> None:
        b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        rate = b.sample("rate", d.Gamma(b.array(a), b.array(3.0)))
        with b.plate("data", len(k)):
            b.sample("k", d.Poisson(1.5 * rate), obs=k)

    base = b.guides.JointGuide(model, sites=["w"], init_scale=1.0)
    guide = b.guides.HamiltonianGuide(base, num_steps=2, step_size=0.2, **key(b))
    evidence = math.lgamma(a + k.sum()) - math.lgamma(a) + a * math.log(3) + k.sum() * math.log(1.5)
    evidence -= (a + k.sum()) * math.log(3 + 1.5 * len(k)) + sum(math.lgamma(n + 1) for n in k)
    bound = -b.evaluate(b.losses.IWAE(20_000), model, guide, k, seed=1)[0]
    assert bound == pytest.approx(evidence, abs=0.02)
    assert np.isfinite(b.evaluate(b.losses.ELBO(), model, guide, k, seed=1)[0])  # a single particle


def test_running_statistics_are_refused(backend: Any) -> None:
    b, d = backend, backend.dist
    if b.name == "pyro":
        from pyro_dgm.nn import MLP, register
    else:
        from numpyro_dgm.nn import MLP, register
    decoder = MLP(1, (3,), 1, batch_norm=True, **key(b))

    def model(x: Any) -> None:
        network = register("decoder", decoder)
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(b.array(np.zeros(1)), b.array(1.0)).to_event(1))
            b.sample("x", d.Normal(network(z), b.array(1.0)).to_event(1), obs=x)

    base = b.guides.AmortizedGuide(model, Identity(), b.conditionals.DiagonalNormal, **key(b))
    guide = b.guides.HamiltonianGuide(base, **key(b))
    with pytest.raises(ValueError, match="keeps running statistics"):
        guide.prepare(b.array(np.zeros((4, 1))))
