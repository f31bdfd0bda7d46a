"""Conditionals of sequences against exact values: linear-Gaussian models, what guides lose, and
padding that never enters.
"""

from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels
from tests.sequences.building import linear, with_weights
from tests.sequences.oracle import A1, A2, OTHER, X1, X2, guides, raw, scalar, sigma_points

# ELBO of guides of A1; "exact" is log p.
LOSES = {
    "exact": -6.77260623,
    "mean field": -7.27625484,
    "no future": -7.49424188,
    "marginals": -7.57974991,
    "filtering marginals": -8.90067182,
}


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Exact values are compared to all digits."""


def by_context(lib: Any, length: int) -> Any:
    """An AffineMarkov whose gains, offsets and raw scales are its context."""
    given = {"head.weight": np.eye(3), "head.bias": np.zeros(3)}
    path = lib.build("conditionals", "AffineMarkov", (length, 1), context_shape=(length, 3))
    return with_weights(path, given)


def test_what_guides_lose(lib: Any) -> None:
    """The mean of log p(z, x) - log q(z) under q, of the published case and of another."""
    path = by_context(lib, 5)
    for model, x in ((A1, X1), (scalar(-0.7, 0.4, 0.2, -0.3), X1[::-1] ** 2)):
        families = guides(model, x)
        z = np.stack([sigma_points(*parts) for parts in families.values()], 1)
        context = [np.stack([a, b, raw(np.sqrt(v))], -1) for a, b, v in families.values()]
        system = linear(lib, model, 5)

        def run(z: Any, context: Any, x: Any, system: Any = system) -> list[Any]:
            steps = lib.build("conditionals", "Steps", system.emission, 5)
            log_p = system.prior().log_prob(z) + steps(z).log_prob(x)
            return [log_p - path(context).log_prob(z), system().log_prob(x)]

        weights, evidence = map(lib.numpy, lib.call(run, *map(lib.array, (z, context, x))))
        assert evidence == pytest.approx(model.evidence(x), abs=1e-10)
        bounds = dict(zip(families, weights.mean(0)))
        np.testing.assert_allclose(weights[:, 0], evidence, atol=1e-10)  # without variance
        if model is A1:
            assert bounds == pytest.approx(LOSES, abs=1e-8)
        assert all(bound < evidence - 0.01 for name, bound in bounds.items() if name != "exact")


@pytest.mark.slow("numpyro")  # test_models has the same of KalmanSmoother
def test_the_exact_guides_have_no_variance_in_any_bound(backend: Any) -> None:
    """AffineMarkov and KalmanSmoother as guides of A1."""
    lib = library(backend)
    system, path, exact = linear(lib, A1, 5), by_context(lib, 5), guides(A1, X1)["exact"]
    context = backend.array(np.stack([*exact[:2], raw(np.sqrt(exact[2]))], -1))
    steps = lib.build("conditionals", "Steps", system.emission, 5)
    smoother = lib.build("conditionals", "KalmanSmoother", system.prior, system.emission)

    def model(x: Any) -> None:
        with backend.plate("data", len(x), dim=-1):
            z = backend.sample("z", system.prior())
            backend.sample("x", steps(z), obs=x)

    def affine(x: Any) -> None:
        with backend.plate("data", len(x), dim=-1):
            backend.sample("z", path(context))

    def smoothing(x: Any) -> None:
        with backend.plate("data", len(x), dim=-1):
            backend.sample("z", smoother(x))

    losses = backend.losses
    loss = losses.ELBO() + losses.ELBO(estimator="stl") + losses.IWAE(3) + losses.IWAE(2, "dreg")
    for guide in (affine, smoothing):
        for seed in (0, 1):
            found = backend.evaluate(loss, model, guide, np.stack([X1, X1]), seed=seed)[0]
            assert found == pytest.approx(-4 * 2 * LOSES["exact"], abs=1e-7)


def library(backend: Any) -> Any:
    """The library of a backend."""
    from tests.contracts.libraries import LIBRARIES

    return LIBRARIES[backend.name]()


@pytest.mark.slow("numpyro other")
@pytest.mark.parametrize(("model", "dim"), [(A2, 1), (OTHER, 3)], ids=["A2", "other"])
def test_evidence_and_posterior_of_unequal_lengths(lib: Any, model: Any, dim: int) -> None:
    """Against the joint normal distribution of all; a step is missing in the second run."""
    rng = np.random.default_rng(4)
    x = X2 if dim == 1 else np.where(np.isnan(X2), np.nan, rng.standard_normal((2, 5, dim)))
    lengths, system = np.array([5, 3]), linear(lib, model, 5)
    seen = np.array([[True, True, False, True, True], [True, False, True, True, True]])
    smoother = lib.build("conditionals", "KalmanSmoother", system.prior, system.emission)
    steps = lib.build("conditionals", "Steps", system.emission, 5)

    def run(x: Any, lengths: Any, seen: Any) -> list[Any]:
        q = smoother(x, lengths)
        z = lib.draw(q, (4000,))
        log_p = system.prior(lengths=lengths).log_prob(z) + steps(z, lengths).log_prob(x)
        missing = system(lengths=lengths, observed=seen).log_prob(x)
        hidden = smoother(x, lengths, seen)
        path = lib.draw(hidden)
        both = system.prior(lengths=lengths).log_prob(path) - hidden.log_prob(path)
        both = both + steps(path, lengths, seen).log_prob(x)
        known = system(lengths=lengths).log_prob(x)
        return [known, q.mean, q.variance, log_p - q.log_prob(z), z, missing, both]

    found = lib.call(run, lib.array(x), lib.array(lengths), lib.array(seen))
    evidence, mean, variance, weights, z, missing, both = map(lib.numpy, found)
    if model is A2:
        np.testing.assert_allclose(evidence, [-4.27886280, -3.08730947], atol=1e-8)
        assert evidence.sum() / lengths.sum() == pytest.approx(-0.92077153, abs=1e-8)
    np.testing.assert_allclose(weights, np.tile(evidence, (4000, 1)), atol=1e-9)
    for row, length in enumerate(lengths):
        part = x[row, :length]
        assert evidence[row] == pytest.approx(model.evidence(part), abs=1e-10)
        without = model.evidence(np.nan_to_num(part), seen[row, :length])
        assert missing[row] == pytest.approx(without, abs=1e-10)
        assert both[row] == pytest.approx(without, abs=1e-10)
        exact, cov = model.posterior(part)
        np.testing.assert_allclose(mean[row, :length], exact, atol=1e-10)
        np.testing.assert_allclose(variance[row, :length].ravel(), cov.diagonal(), atol=1e-10)
        assert not mean[row, length:].any() and not z[:, row, length:].any()
        draws = z[:, row, :length].reshape(4000, -1)
        spread = np.sqrt(cov.diagonal())
        assert (abs(draws.mean(0) - exact.ravel()) < 5 * spread / 4000**0.5).all()
        scatter = np.cov(draws.T) - cov
        assert (abs(scatter) < 5 * np.sqrt(2 / 4000) * np.outer(spread, spread)).all()


def test_draws_of_priors_follow_their_moments(lib: Any) -> None:
    """Of Markov and of LinearGaussian; OTHER has offsets, and noise that is correlated."""
    system = linear(lib, OTHER, 4)

    def run() -> list[Any]:
        return [lib.draw(system.prior(), (4000,)), lib.draw(system(), (4000,)), system().mean]

    z, x, x_mean = map(lib.numpy, lib.call(run))
    mean, cov = OTHER.prior(4)
    H, d, R = OTHER.emission(4)
    np.testing.assert_allclose(x_mean.ravel(), H @ mean + d, atol=1e-10)
    for draws, loc, spread in ((z, mean, cov), (x, H @ mean + d, H @ cov @ H.T + R)):
        draws, scale = draws.reshape(4000, -1), np.sqrt(spread.diagonal())
        assert (abs(draws.mean(0) - loc) < 5 * scale / 4000**0.5).all()
        error = 5 * np.sqrt(2 / 4000) * np.outer(scale, scale)
        assert (abs(np.cov(draws.T) - spread) < error).all()


@pytest.mark.slow("numpyro")
def test_control_inputs(lib: Any, rng: np.random.Generator) -> None:
    """log p(z, x) - log q(z | x) is the evidence at any z; inputs of a step move it and all later
    ones, and the mean by what they are multiplied with.
    """
    build = lib.build
    step = build("conditionals", "LinearNormal", 2, context_shape=(2, (3,)))
    prior = lib.shaken(build("conditionals", "Markov", step, 4), 0.4)
    emission = lib.shaken(build("conditionals", "LinearNormal", 2, context_shape=2), 0.4)
    system = build("conditionals", "LinearGaussian", prior, emission)
    smoother = build("conditionals", "KalmanSmoother", prior, emission)
    steps = build("conditionals", "Steps", emission, 4)
    x, z, u = (rng.standard_normal((5, 4, size)) for size in (2, 2, 3))
    moved = u.copy()
    moved[:, 2, 1] += 1.0

    def run(x: Any, z: Any, u: Any, moved: Any) -> list[Any]:
        weights = prior(u).log_prob(z) + steps(z).log_prob(x)
        weights = weights - smoother((x, u)).log_prob(z)
        return [weights, system(u).log_prob(x), system(u).mean, system(moved).mean]

    found = lib.call(run, *map(lib.array, (x, z, u, moved)))
    weights, evidence, mean, other = map(lib.numpy, found)
    np.testing.assert_allclose(weights, evidence, atol=1e-10)
    parts = lib.weights(prior)
    move = parts["transition.head.weight"][:, 3]
    emit = lib.weights(emission)["head.weight"]
    later = parts["transition.head.weight"][:, :2] @ move
    np.testing.assert_allclose(other[:, :2], mean[:, :2], atol=1e-12)
    np.testing.assert_allclose(other[:, 2] - mean[:, 2], np.tile(emit @ move, (5, 1)), atol=1e-10)
    np.testing.assert_allclose(other[:, 3] - mean[:, 3], np.tile(emit @ later, (5, 1)), atol=1e-10)


def every_path(lib: Any, length: int) -> dict[str, Any]:
    """Paths whose weights do not depend on their length, by name."""
    build, normal = lib.build, "LinearNormal"
    prior = build(
        "conditionals", "Markov", build("conditionals", normal, 2, context_shape=2), length
    )
    emission = build("conditionals", normal, 2, context_shape=2)
    gated = build("conditionals", "DiagonalNormal", 2, context_shape=(2, (4,)))
    classes = build("conditionals", "DiagonalNormal", 2, context_shape=Labels(3))
    steps = build("conditionals", "Beta", 2, context_shape=4)
    return {
        "markov": build("conditionals", "Markov", gated, length),
        "affine": build("conditionals", "AffineMarkov", (length, 2), context_shape=(length, 4)),
        "steps": build("conditionals", "Steps", steps, length),
        "smoother": build("conditionals", "KalmanSmoother", prior, emission),
        "evidence": build("conditionals", "LinearGaussian", prior, emission),
        "hidden": build("conditionals", "HiddenMarkov", classes, length),
    }


def test_padding_never_enters(lib: Any, rng: np.random.Generator) -> None:
    """A batch of unequal lengths gives the values and gradients of its sequences one by one, by
    paths that are cut to their steps, whatever stands in the padding; a sequence of no steps gives
    nothing.
    """
    lengths = np.array([1, 0, 3])
    x, context = rng.uniform(0.1, 0.9, (3, 4, 2)), rng.standard_normal((3, 4, 4))

    def scores(modules: Any, x: Any, context: Any, lengths: Any = None) -> Any:
        given = {"markov": context, "affine": context, "steps": context, "smoother": x + 0.5}
        paths = {name: modules[name].up_to(x.shape[-2]) for name in NAMES}
        found = [paths[name](given.get(name), lengths).log_prob(x) for name in NAMES]
        return lib.stack(found)

    module = lib.shaken(container(lib, every_path(lib, 4)), 0.2)
    single: dict[int, Any] = {}
    for row, length in enumerate(lengths):
        if length:
            arrays = lib.array(x[row, :length]), lib.array(context[row, :length])
            single[row] = lib.values_and_gradients(scores, module, *arrays)
    mask = (np.arange(4) < lengths[:, None])[..., None]
    padding = rng.choice([np.nan, np.inf, 0.0, 1e30], (3, 4, 1))
    arrays = *(lib.array(np.where(mask, a, padding)) for a in (x, context)), lib.array(lengths)
    values, by_weights, by_arrays = lib.values_and_gradients(scores, module, *arrays)
    assert abs(values[:, 1]).max() < 1e-15 and not by_arrays[0][1].any()
    for row, (alone, _, in_arrays) in single.items():
        np.testing.assert_allclose(values[:, row], alone, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(by_arrays, in_arrays):
            length = lengths[row]
            np.testing.assert_allclose(ours[row, :length], theirs, rtol=1e-10, atol=1e-10)
            assert not ours[row, length:].any()
    for path, gradient in by_weights.items():
        alone = sum(found[1][path] for found in single.values())
        np.testing.assert_allclose(gradient, alone, rtol=1e-10, atol=1e-10, err_msg=path)
        assert np.any(gradient != 0), path


NAMES = ("markov", "affine", "steps", "smoother", "evidence", "hidden")


def container(lib: Any, modules: dict[str, Any]) -> Any:
    """Modules as one."""
    if not hasattr(lib, "torch"):
        return modules
    return lib.torch.nn.ModuleDict(modules)


def test_hidden_markov_against_enumeration(lib: Any) -> None:
    """A3: all paths of states, one by one; and the moments of draws."""
    pi, A = np.array([0.6, 0.4]), np.array([[0.7, 0.3], [0.2, 0.8]])
    B = np.array([[0.5, 0.4, 0.1], [0.1, 0.3, 0.6]])
    emission = lib.build("conditionals", "Categorical", 1, 3, context_shape=Labels(2))
    values = {
        "initial": np.log(pi),
        "transition": np.log(A),
        "emission.head.weight": np.log(B).T,
        "emission.head.bias": np.zeros(3),
    }
    module = with_weights(lib.build("conditionals", "HiddenMarkov", emission, 3), values)
    x = np.array(np.meshgrid(*[range(3)] * 3, indexing="ij")).reshape(3, -1).T[..., None]

    def run(x: Any, seen: Any) -> list[Any]:
        p = module()
        return [p.log_prob(x), module(observed=seen).log_prob(x), lib.draw(p, (8000,))]

    seen = np.array([True, False, True])
    found = lib.call(run, lib.array(x), lib.array(seen))
    log_prob, missing, draws = map(lib.numpy, found)
    states = np.array(np.meshgrid(*[range(2)] * 3, indexing="ij")).reshape(3, -1).T
    paths = pi[states[:, 0]] * A[states[:, 0], states[:, 1]] * A[states[:, 1], states[:, 2]]
    exact = sum(p * np.prod(B[s, x[..., 0]], 1) for p, s in zip(paths, states))
    np.testing.assert_allclose(np.exp(log_prob), exact, atol=1e-12)
    assert log_prob[0 * 9 + 2 * 3 + 1] == pytest.approx(-3.45808524, abs=1e-8)
    table = exact.reshape(3, 3, 3).sum(1)
    np.testing.assert_allclose(np.exp(missing), table[x[:, 0, 0], x[:, 2, 0]], atol=1e-12)
    counts = np.bincount(draws[..., 0] @ [9, 3, 1], minlength=27) / 8000
    assert (abs(counts - exact) < 5 * np.sqrt(exact / 8000)).all()


@pytest.mark.parametrize("name", ["MAF", "IAF"])
def test_a_flow_over_a_path(lib: Any, name: str, rng: np.random.Generator) -> None:
    """It is the flow of the path's numbers; entries of a step see those of the steps before."""
    flow = lib.shaken(lib.build("flows", name, 6, hidden=(8,), context_shape=(3, 4)), 0.2)
    path = lib.build("conditionals", "Reshaped", flow, (3, 2))
    x, context = rng.standard_normal((5, 3, 2)), rng.standard_normal((5, 3, 4))

    def run(x: Any, context: Any) -> list[Any]:
        draw = lib.draw(path(context))
        flat = flow(context)
        return [
            path(context).log_prob(x) - flat.log_prob(x.reshape(5, 6)),
            path(context).log_prob(draw) - flat.log_prob(draw.reshape(5, 6)),
            draw,
        ]

    *differences, draw = map(lib.numpy, lib.call(run, lib.array(x), lib.array(context)))
    assert draw.shape == (5, 3, 2)
    for difference in differences:
        np.testing.assert_allclose(difference, 0.0, atol=1e-10)


def test_what_is_refused(lib: Any) -> None:
    def build(name: str, *sizes: Any, **settings: Any) -> Any:
        return lib.build("conditionals", name, *sizes, **settings)

    normal = build("DiagonalNormal", 2, context_shape=2)
    chain = build("Markov", normal, 3)
    linear_step = build("LinearNormal", 2, context_shape=2)
    steps = build("Steps", build("Normal", 2), 3)
    for make, message in (
        (lambda: build("Markov", build("DiagonalNormal", 2, context_shape=3), 3), "take a state"),
        (lambda: build("Markov", build("DiagonalNormal", 2), 3), "take a state of shape"),
        (lambda: build("Markov", normal, 0), "length must be an integer of at least 1, got 0"),
        (lambda: build("Markov", normal, 3, initial=build("Normal", 3)), "initial conditional"),
        (lambda: build("AffineMarkov", 3), r"dim must be \(length, z_dim\)"),
        (lambda: build("AffineMarkov", (3, 2), context_shape=4), r"sequence \(3, features\)"),
        (lambda: build("Steps", build("Normal", 2, context_shape=Labels(3)), 3), "one-hot"),
        (lambda: build("KalmanSmoother", chain, linear_step), "prior must be a linear-Gaussian"),
        (
            lambda: build("LinearGaussian", build("Markov", linear_step, 3), normal),
            "emission must be LinearNormal or Normal",
        ),
        (lambda: build("HiddenMarkov", normal, 3), r"context_shape=Labels\(num_states\)"),
        (lambda: build("Reshaped", build("Normal", 2), 3), "dim must be a shape with 2 entries"),
        (lambda: steps(lengths=lib.array(np.array([2.0]))), "lengths must be an array of integers"),
        (lambda: steps(lengths=lib.array(np.array([2, 4]))), "integers from 0 to 3, got 4"),
        (lambda: steps(observed=lib.array(np.ones(2))), "observed must be an array of truth"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_lengths_that_no_sequence_has_are_nan_where_values_are_not_known(lib: Any) -> None:
    steps = lib.build("conditionals", "Steps", lib.build("conditionals", "Normal", 2), 3)
    value, lengths = lib.array(np.zeros((3, 3, 2))), lib.array(np.array([3, 4, -1]))

    def score(module: Any, lengths: Any) -> Any:
        return module(lengths=lengths).log_prob(value)

    known = lib.package.__name__ == "pyro_dgm"
    run = lib.exported if known else lib.call
    if known:
        found = lib.numpy(run(score, steps, lengths))
    else:
        found = lib.numpy(run(lambda lengths: score(steps, lengths), lengths))
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
