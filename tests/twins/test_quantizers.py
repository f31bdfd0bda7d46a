"""Quantizers: exact values of a toy, and the twins step by step, in float64."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dgm_core.diagnostics import code_use
from numpyro_dgm.conditionals.quantized import Untrained
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.test_conditionals import close, compare

CODES = np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
BATCH = np.array([[0.2, -0.1], [0.4, 0.3], [0.9, 1.2], [1.5, 0.7]])
MEAN = 0.08625  # |c - e|^2 per entry
# decay -> the codes after one step; counts 1 before
AFTER = {
    0.0: [[0.3, 0.1], [1.2, 0.95], [5.0, 5.0]],
    0.9: [[0.05454545, 0.01818182], [1.03636364, 0.99090909], [5.0, 5.0]],
    0.99: [[0.00594059, 0.0019802], [1.0039604, 0.9990099], [5.0, 5.0]],
}


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


@pytest.fixture
def libs() -> tuple[PyroLibrary, NumPyroLibrary]:
    return PyroLibrary(), NumPyroLibrary()


def both(
    libs: Any, name: str, codes: np.ndarray, dim: Any, **settings: Any
) -> tuple[torch.nn.Module, Any]:
    """The same quantizer in both libraries, with these codes."""
    sizes = (dim, len(codes))
    ours, theirs = (lib.build("conditionals", name, *sizes, **settings) for lib in libs)
    ours.codes.data.copy_(torch.as_tensor(codes))
    if settings.get("decay", 0.99) is None:
        return ours, eqx.tree_at(lambda q: q.codes, theirs, jnp.asarray(codes))
    ours.used.copy_(ours.codes)
    return ours, eqx.tree_at(lambda q: q.initial, theirs, Untrained(jnp.asarray(codes)))


def stepping(lib: NumPyroLibrary, module: Any) -> Callable[..., Any]:
    """A run of a program that quantizes a context, with what it keeps before and after."""
    numpyro, register = lib.numpyro, lib.package.nn.register

    @jax.jit
    def step(c: jax.Array, state: dict[str, Any]) -> Any:
        with (
            numpyro.handlers.seed(rng_seed=0),
            numpyro.handlers.trace() as trace,
            numpyro.handlers.substitute(data=state),
        ):
            p = register("quantizer", module)(c)
            z = numpyro.sample("z", p)
        kept = {name: s["value"] for name, s in trace.items() if s["type"] == "mutable"}
        return z, p.indices, p.log_prob(z + 0.0), kept

    return step


def test_a_toy_by_gradient(libs: Any) -> None:
    """Codes (0, 0), (1, 1), (5, 5) and four vectors, values and gradients by hand."""
    modules = both(libs, "VectorQuantizer", CODES, 2, decay=None)

    def cost(module: Any, c: Any) -> list[Any]:
        p = module(c)
        parts = p.objective(None)
        assert tuple(p.indices.shape) == (4,)
        total = 0.25 * parts["commitment"] + parts["codebook"]
        return [total / 4, parts["commitment"], p.mean, module.prior().log_prob(p.mean)]

    weights, in_arrays = compare(libs, cost, modules, BATCH)
    total, commitment, z, log_prior = (
        x.detach().numpy() for x in cost(modules[0], torch.as_tensor(BATCH))
    )
    assert total.sum() == pytest.approx(0.1078125, abs=1e-12)
    assert commitment.mean() == pytest.approx(MEAN, abs=1e-12)
    np.testing.assert_array_equal(z, CODES[[0, 0, 1, 1]])
    np.testing.assert_allclose(log_prior, -np.log(3.0))
    np.testing.assert_allclose(
        in_arrays[0],
        [[0.0125, -0.00625], [0.025, 0.01875], [-0.00625, 0.0125], [0.03125, -0.01875]],
        atol=1e-12,
    )
    np.testing.assert_allclose(
        weights["codes"], [[-0.15, -0.05], [-0.1, 0.025], [0, 0]], atol=1e-12
    )
    use = code_use(modules[0](torch.as_tensor(BATCH)).indices.numpy(), 3)
    assert use.perplexity == pytest.approx(2.0) and use.dead == (2,)


@pytest.mark.parametrize("decay", AFTER)
def test_a_toy_by_moving_averages(libs: Any, decay: float) -> None:
    """The batch is quantized with the codes from before it; a code that nobody chose stays."""
    ours, theirs = both(libs, "VectorQuantizer", CODES, 2, decay=decay)
    p = ours(torch.as_tensor(BATCH))
    z, indices, _, state = stepping(libs[1], theirs)(jnp.asarray(BATCH), {})
    kept = state["quantizer$state"][""]
    for codes, counts, drawn, index in (
        (ours.codes, ours.counts, p.rsample(), p.indices),
        (kept["codes"], kept["counts"], z, indices),
    ):
        np.testing.assert_allclose(np.asarray(codes), AFTER[decay], atol=1e-8)
        fault = "Laplace smoothing moves the unused code to 4.99999283"
        assert np.array_equal(np.asarray(codes)[2], [5.0, 5.0]), fault
        expected = [decay + 2 * (1 - decay)] * 2 + [decay]
        np.testing.assert_allclose(np.asarray(counts), expected, atol=1e-12)
        fault = "the codes moved before they were looked up"
        np.testing.assert_array_equal(np.asarray(drawn), CODES[[0, 0, 1, 1]], err_msg=fault)
        assert np.asarray(index).tolist() == [0, 0, 1, 1]
    smoothed = 5.0 * 0.9 / ((0.9 + 1e-5) / (3.1 + 3e-5) * 3.1)
    assert smoothed == pytest.approx(4.9999928, abs=3e-6) and smoothed != 5.0


def test_three_steps_of_maps_with_restarts(libs: Any) -> None:
    """Codes of a map (D, height, width), in training, with a vector that is NaN: what is kept, the
    values, the gradients that pass straight on; then evaluation, which moves nothing.
    """
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((6, 3)) * [[1], [1], [1], [1], [1], [30.0]]
    settings = {"decay": 0.8, "restart": 0.3}
    ours, theirs = both(libs, "VectorQuantizer", codes, (3, 2, 2), **settings)
    step, state = stepping(libs[1], theirs), {}
    for number in range(3):
        c = rng.standard_normal((5, 3, 2, 2))
        c[number, 1, 0, 1] = np.nan if number else 0.0
        before = ours.codes.clone()
        context = torch.as_tensor(c).requires_grad_()
        p = ours(context)
        z, indices, log_q, state = step(jnp.asarray(c), state)
        kept = state["quantizer$state"][""]
        drawn = p.rsample()
        for mine, other in (
            (drawn, z), (p.indices, indices), (p.log_prob(drawn + 0.0), log_q),
            (ours.codes, kept["codes"]), (ours.used, kept["used"]), (ours.counts, kept["counts"]),
            (ours.steps, kept["steps"]), (before, kept["used"]),
        ):  # fmt: skip
            close(mine.detach(), other)
        assert ours.codes.isfinite().all() and abs(ours.codes).max() < 4.0, "no restart"
        assert int(drawn.isnan().sum()) == (1 if number else 0), "NaN must be seen"
        weights = torch.as_tensor(rng.standard_normal(c.shape))
        (gradient,) = torch.autograd.grad((drawn.nan_to_num() * weights).sum(), context)
        expected = torch.where(drawn.isnan(), 0.0, weights)
        torch.testing.assert_close(gradient, expected)
    with libs[0].package.nn.evaluation_mode(ours), libs[1].package.nn.evaluation_mode():
        c = rng.standard_normal((5, 3, 2, 2))
        found = stepping(libs[1], theirs)(jnp.asarray(c), state)
        close(ours(torch.as_tensor(c)).mean, found[0])
        close(ours.codes, found[3]["quantizer$state"][""]["codes"])
        assert int(ours.steps) == int(found[3]["quantizer$state"][""]["steps"]) == 3


def test_priors_of_codes_and_grids(libs: Any) -> None:
    """A distribution of index maps is one of arrays of codes, with the same probabilities, which
    sum to one; a finite scalar quantizer rounds, in both libraries to the same codes.
    """
    levels = (5, 4)
    grids = [lib.build("conditionals", "FiniteScalarQuantizer", (2, 1, 2), levels) for lib in libs]
    assert all(isinstance(g, lib.package.conditionals.Quantizer) for g, lib in zip(grids, libs))
    assert repr(grids[0]) == repr(grids[1]) and grids[0].num_codes == 20
    pairs = np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).reshape(-1, 1, 2)
    logits = np.random.default_rng(1).standard_normal((2, 20))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = log_probs[0][pairs[:, 0, 0]] + log_probs[1][pairs[:, 0, 1]]
    c = np.random.default_rng(2).standard_normal((7, 2, 1, 2)) * 3

    def found(module: Any, c: Any) -> list[Any]:
        lib = libs[module is not grids[0]]
        prior = lib.dist.Categorical(logits=lib.array(logits)).to_event(1)
        z = module.embedded(lib.array(pairs))
        p = module(c)
        return [
            p.mean**2,
            module.prior(prior).log_prob(z),
            module.prior().log_prob(z),
            p.log_prob(z[:7]),
            module.prior(prior).log_prob(z + 0.1),
            module.indices(z) + 0.0,
        ]

    compare(libs, found, tuple(grids), c)
    values = [x.detach().numpy() for x in found(grids[0], torch.as_tensor(c))]
    np.testing.assert_allclose(values[1], expected)
    assert np.exp(values[1]).sum() == pytest.approx(1.0) == np.exp(values[2]).sum()
    assert np.isin(values[3], [0.0, -np.inf]).all()
    assert np.all(values[4] == -np.inf), "what is no code has no mass"
    assert np.array_equal(values[5], pairs)
    draws = libs[1].draw(grids[1].prior().expand((400,)))
    use = code_use(np.asarray(grids[1].indices(draws)), 20)
    assert not use.dead and use.perplexity > 19
    spread = abs(values[0]).reshape(-1)
    assert spread.max() == 1.0 and spread.min() == 0.0


@pytest.mark.parametrize("twin", [0, 1])
def test_what_is_refused(libs: Any, twin: int) -> None:
    build = libs[twin].build
    for name, sizes, settings, message in (
        ("VectorQuantizer", (2, 1), {}, "num_codes must be an integer of at least 2, got 1"),
        ("VectorQuantizer", (2, 4), {"decay": 1.0}, r"decay must be a number in \[0, 1\), got 1"),
        ("VectorQuantizer", (2, 4), {"decay": None, "restart": 0.1}, "restart moves codes that"),
        ("FiniteScalarQuantizer", (2, (5, 5, 5)), {}, "one number for each of the 2 entries"),
        ("FiniteScalarQuantizer", (2, 2), {}, "levels? must be an integer of at least 3, got 2"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            build("conditionals", name, *sizes, **settings)
    quantizer = build("conditionals", "VectorQuantizer", (2, 3, 3), 8)
    with pytest.raises(ValueError, match=r"a context of shape \(\*batch, 2, 3, 3\)"):
        quantizer(libs[twin].array(np.zeros((4, 2, 3))))
    prior = build("conditionals", "Categorical", 4, 8)
    with pytest.raises(ValueError, match=r"distribution of 9 indices .* values of shape \(4,\)"):
        quantizer.prior(prior())
