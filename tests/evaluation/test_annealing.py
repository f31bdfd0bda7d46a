"""Annealed bounds against closed forms: with perfect transitions the Riemann sums, with Hamiltonian
ones the evidence between them.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dgm_core.annealing import AnnealedBounds, inverse_temperatures, store
from tests.evaluation import closed_forms as c
from tests.mcmc.faces import kernels


def below_and_above(bounds: AnnealedBounds, exact: Any, *, errors: float = 4.0) -> None:
    """The exact value lies between the bounds up to their errors, and the mean weight is right."""
    slack = errors * np.hypot(bounds["AIS error"], 1e-3)
    assert (bounds.lower <= exact + slack).all(), (bounds.lower, exact)
    assert (bounds.lower >= exact - slack).all(), (bounds.lower, exact)
    if bounds.reverse is not None:
        slack = errors * np.hypot(bounds["reverse AIS error"], 1e-3)
        assert (np.abs(bounds.upper - exact) <= slack).all(), (bounds.upper, exact)
    assert (bounds["AIS error"] < 0.2).all()


@pytest.mark.slow("numpyro linear")
@pytest.mark.parametrize("schedule", ["linear", "power"])
def test_perfect_transitions_give_the_riemann_sums(backend: Any, schedule: str) -> None:
    """Left and right sums of a linear-Gaussian model at K = 10, the spread of the linear ones."""
    table = {"linear": (-4.77654, -2.09134, 2.68), "power": (-3.96401, -2.33225, 1.60)}[schedule]
    b, num = backend, 3000
    bounds = b.evaluation.ais(
        c.linear(b)[0],
        c.X,
        steps=10,
        chains=num,
        schedule=schedule,
        start="prior",
        kernel=c.perfect(b),
        reverse_from=c.exact_draws(num),
        progress=False,
    )
    sums = c.riemann_sums(inverse_temperatures(schedule, 10))
    np.testing.assert_allclose(sums, table[:2], atol=1e-5)
    for log_w, mean in zip((bounds.forward, bounds.reverse), sums, strict=True):
        assert log_w.mean() == pytest.approx(mean, abs=4 * log_w.std() / num**0.5)
    assert bounds.forward.std() == pytest.approx(table[2], rel=0.1)
    ratio = np.exp(bounds.forward - c.LOG_P)  # E w = p(x)
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / num**0.5)
    assert not bounds.exact and "approximate" in bounds.notes[0]


def test_hamiltonian_transitions_have_the_evidence_between_them(backend: Any) -> None:
    """Gap below 0.1 nat from 64 chains of 100 steps of 5 leapfrog steps; one chain loses at least
    what it loses under perfect transitions."""
    b, num = backend, 64
    bounds = b.evaluation.ais(
        c.linear(b)[0],
        c.X,
        steps=100,
        chains=num,
        schedule="power",
        start="prior",
        kernel=kernels(b).HMC(0.1, 5),
        reverse_from=c.exact_draws(num),
        progress=False,
    )
    below_and_above(bounds, c.LOG_P)
    assert abs(bounds.gap) < 0.1
    left, right = c.riemann_sums(inverse_temperatures("power", 100))
    assert bounds.forward.mean() < left + 4 * bounds.forward.std() / num**0.5
    assert bounds.reverse.mean() > right - 4 * bounds.reverse.std() / num**0.5
    assert 0.5 < bounds.acceptance["forward"] < 0.8


def test_the_adaptive_schedule_is_better_than_the_others(backend: Any) -> None:
    """Under perfect transitions, where the gap is a sum: close to the smallest there is."""
    b = backend
    bounds = b.evaluation.ais(
        c.linear(b)[0],
        c.X,
        steps=10,
        chains=200,
        schedule="adaptive",
        start="prior",
        kernel=c.perfect(b),
        reverse_from=None,
        progress=False,
    )
    gaps = {}
    for name in ("linear", "power", "sigmoid"):
        left, right = c.riemann_sums(inverse_temperatures(name, 10))
        gaps[name] = right - left
    left, right = c.riemann_sums(bounds.schedule)
    assert right - left < 0.95 * min(gaps.values())
    assert bounds.forward.mean() == pytest.approx(left, abs=4 * bounds.forward.std() / 200**0.5)
    with pytest.raises(ValueError, match="no reverse chains were run: leave out reverse_from=None"):
        _ = bounds.upper


def test_from_a_guide_of_each_datum(backend: Any) -> None:
    """Probabilities under the beta-binomial law; the guide is off, and the data run in parts."""
    b = backend
    bounds = b.evaluation.ais(
        b.run(*c.beta_binomial(b)),
        c.SUCCESSES,
        steps=30,
        chains=40,
        chunk_size=80,
        kernel=kernels(b).HMC(0.3, 3),
        progress=False,
    )
    below_and_above(bounds, c.log_beta_binomial())
    assert bounds.lower.shape == (3,) and bounds.forward.shape == (40, 3)


@pytest.mark.parametrize("name", ["gamma_poisson", "hierarchy"])
def test_one_evidence_of_all_data(backend: Any, name: str) -> None:
    """A global rate, and globals and locals in two plates: draws move together."""
    b = backend
    data, exact = {
        "gamma_poisson": (c.COUNTS, c.log_gamma_poisson()),
        "hierarchy": (c.GROUPS, c.log_hierarchy()),
    }[name]
    run = b.run(*getattr(c, name)(b))
    options = {"steps": 40, "chains": 60, "kernel": kernels(b).HMC(0.2, 4), "progress": False}
    bounds = b.evaluation.ais(run, data, **options)
    below_and_above(bounds, exact)
    assert bounds.lower.shape == (1,)


def test_a_normalizing_constant(backend: Any) -> None:
    """Of densities that a model states by a factor, without data and without a guide."""
    b = backend
    bounds = b.evaluation.ais(
        c.spins(b),
        steps=25,
        chains=100,
        start="prior",
        kernel=kernels(b).HMC(0.5, 2),
        progress=False,
    )
    below_and_above(bounds, c.log_spins())


@pytest.mark.slow
def test_from_a_guide_whose_draws_others_follow_from(backend: Any, own_bits: None) -> None:
    """A joint guide draws one vector, here as wide as the prior: the chains move in it."""
    b = backend
    model, _ = c.gamma_poisson(b)
    key = {"key": b.jax.random.key(0)} if b.name == "numpyro" else {}
    guide = b.guides.JointGuide(model, init="prior", init_scale=1.0, **key)
    options = {"steps": 300, "chains": 150, "kernel": kernels(b).HMC(0.2, 4), "progress": False}
    bounds = b.evaluation.ais(b.run(model, guide), c.COUNTS, schedule="power", **options)
    below_and_above(bounds, c.log_gamma_poisson())
    with pytest.raises(ValueError, match="Reverse chains start where the guide would have drawn"):
        b.evaluation.bdmc(b.run(model, guide), c.COUNTS, steps=2, chains=2, progress=False)


def test_both_directions_on_data_that_the_model_makes(backend: Any) -> None:
    """The upper bounds are exact; their mean over data lies above that of the lower ones."""
    b, x = backend, np.repeat(c.X, 30, 0)
    bounds = b.evaluation.bdmc(
        b.run(*c.linear(b)),
        x,
        steps=15,
        chains=8,
        kernel=kernels(b).HMC(0.2, 3),
        start="prior",
        progress=False,
        seed=3,
    )
    assert bounds.exact and bounds.notes == () and bounds.gap.shape == (30,)
    assert bounds.mean("gap") > 3 * bounds.standard_error("gap")
    cov = c.W @ c.W.T + c.NOISE * np.eye(3)  # E log p(x) over the model's own data
    expected = -0.5 * (np.linalg.slogdet(2 * np.pi * cov)[1] + 3)
    for name, sign in (("AIS", -1), ("reverse AIS", 1)):
        far = sign * (bounds.mean(name) - expected)
        assert far > -4 * (1.5 / 30) ** 0.5


class Killed(BaseException):
    pass


@pytest.mark.slow("numpyro")
def test_a_killed_call_continues_in_the_same_numbers(
    backend: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = backend
    bridge = importlib.import_module(f"{b.name}_dgm.evaluation.bridge").Bridge
    monkeypatch.setattr(store, "SECONDS", 0.0)
    advance, left = bridge.advance, [10**9]

    def counted(self: Any, *arguments: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise Killed
        return advance(self, *arguments)

    monkeypatch.setattr(bridge, "advance", counted)
    run = b.run(*c.beta_binomial(b))

    def bounds(**options: Any) -> AnnealedBounds:
        options = {"steps": 30, "schedule": "adaptive"} | options
        return b.evaluation.ais(
            run,
            c.SUCCESSES,
            chains=4,
            chunk_size=8,
            kernel=kernels(b).HMC(0.3, 1),
            progress=False,
            **options,
        )

    expected, kills = bounds(), 0
    for after in (70, 30, 10**9):  # in the pilot of the second part, in a pass, never
        left[0] = after
        try:
            found = bounds(checkpoint=tmp_path)
        except Killed:
            kills += 1
    assert kills == 2
    np.testing.assert_array_equal(found.forward, expected.forward)
    np.testing.assert_array_equal(found.reverse, expected.reverse)
    left[0] = 2  # all is known
    np.testing.assert_array_equal(bounds(checkpoint=tmp_path).forward, expected.forward)
    with pytest.raises(RuntimeError, match=r"belongs to annealing with other arguments: .*steps"):
        bounds(checkpoint=tmp_path, steps=31)


@pytest.fixture
def own_bits(backend: Any) -> Iterator[None]:
    """JAX's own random bits, which a key gives alone as among others; the tests' quicker ones do
    not; they have no Poisson draws either."""
    if backend.name == "pyro":
        yield
        return
    import jax

    before = jax.config.jax_default_prng_impl
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    yield
    jax.config.update("jax_default_prng_impl", before)


def test_chains_one_by_one_are_the_same(backend: Any, own_bits: None) -> None:
    """As for models that do not broadcast over chains."""
    b = backend
    options = {"steps": 4, "chains": 3, "kernel": kernels(b).HMC(0.3, 1), "progress": False}
    model, _ = c.linear(b)
    both = [
        b.evaluation.ais(model, c.X, start="prior", vectorize=how, **options)
        for how in (None, False)
    ]
    np.testing.assert_allclose(both[0].forward, both[1].forward, rtol=1e-9)


@pytest.mark.slow("numpyro")
def test_masked_latents_and_bounds_that_are_other_sites(backend: Any) -> None:
    """Half of the latents are masked out, and change nothing; U(0, 1 - first) on a triangle."""
    b, d = backend, backend.dist
    mask = np.array([True, False, True])

    def masked(x: Any) -> None:
        with b.plate("data", len(x)), b.mask(b.np.asarray(mask)):
            p = b.sample("p", d.Beta(b.array(2.0), 3.0))
            b.sample("x", d.Binomial(10, probs=p), obs=x)

    def triangle() -> None:
        first = b.sample("first", d.Uniform(b.array(0.0), 1.0))
        second = b.sample("second", d.Uniform(0.0, 1 - first))
        b.factor("density", b.np.log(1 - first) + 0.7 * first - 1.3 * second)

    options = {"steps": 40, "chains": 80, "kernel": kernels(b).HMC(0.3, 3), "progress": False}
    options["schedule"] = "power"
    bounds = b.evaluation.ais(masked, c.SUCCESSES, start="prior", **options)
    below_and_above(bounds, np.where(mask, c.log_beta_binomial(), 0.0))
    grid = (np.arange(2000) + 0.5) / 2000
    inner = (1 - np.exp(-1.3 * (1 - grid))) / 1.3
    exact = np.log(np.mean(np.exp(0.7 * grid) * inner))
    below_and_above(b.evaluation.ais(triangle, start="prior", **options), exact)


def test_what_is_refused(backend: Any) -> None:
    b, d, mcmc = backend, backend.dist, kernels(backend)
    model, guide = c.beta_binomial(b)

    def switch(x: Any) -> None:
        with b.plate("data", len(x)):
            k = b.sample("k", d.Bernoulli(b.array(0.5)))
            b.sample("x", d.Normal(1.0 * k, 1.0), obs=x)

    def improper(x: Any) -> None:
        with b.plate("data", len(x)):
            k = b.sample("k", d.ImproperUniform(d.constraints.real, (), ()))
            b.sample("x", d.Normal(k, 1.0), obs=x)

    def plain(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("x", d.Normal(b.array(0.0), 1.0), obs=x)

    run, x, quick = b.run(model, guide), c.SUCCESSES, {"progress": False, "steps": 2, "chains": 2}
    draws = {"p": np.full((2, 3), 0.5)}
    for of, options, words in (
        (switch, {"start": "prior"}, "Site 'k' has the support .* sum a discrete latent out"),
        (plain, {"start": "prior"}, "There is nothing to anneal: no latent site has a density"),
        (model, {}, "start='guide' needs the run of a guide, but a model alone was given"),
        (run, {"kernel": mcmc.Langevin(0.1)}, "Langevin takes every proposal, so that it does not"),
        (run, {"kernel": 3}, "kernel must be a transition kernel such as HMC"),
        (run, {"schedule": "adaptive", "chains": 1}, "pass chains=2 or more"),
        (run, {"schedule": [0.0, 0.7, 0.5]}, "steps \\+ 1 = 3 increasing numbers from 0 to 1"),
        (run, {"reverse_from": {"q": draws["p"]}}, "draws of the posterior|would have drawn"),
        (run, {"reverse_from": {"p": np.full((2, 3), np.nan)}}, "no place on the real line"),
        (
            run,
            {"reverse_from": {"p": np.full((2, 3), 1.5)}},
            "6 of 6 values .* outside the support",
        ),
        (improper, {"start": "prior"}, "Site 'k' has a .* which cannot be drawn from"),
    ):
        with pytest.raises(ValueError, match=words):
            b.evaluation.ais(of, x, **(quick | options))
