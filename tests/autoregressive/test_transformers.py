"""Transformers with a mask as conditionals, in both libraries, in float64."""

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import numpyro_dgm.conditionals as numpyro_conditionals
import pyro_dgm.conditionals as pyro_conditionals
from dgm_core.contexts import Labels
from pyro_dgm.conditionals.autoregressive.draws import num_uniforms
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

PYRO, NUMPYRO = PyroLibrary(), NumPyroLibrary()
LOCAL = {"block": 2, "memory": 2, "num_layers": 3}
FIXED = {"pattern": "fixed", "stride": 3}
SEVERAL = ((4, 2), (3,), Labels(3))
# class, dim, context_shape, settings
CASES: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "fixed": ("SparseTransformer", 7, 3, FIXED),
    "rectangles": (
        "ImageTransformer",
        (2, 2, 2),
        ((2, 2, 2), Labels(3)),
        {"block": (1, 2), "memory": (1, 1)},
    ),
}
MORE: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "causal-several": ("CausalTransformer", (4, 1), SEVERAL, {}),
    "causal-alone": ("CausalTransformer", 4, 0, {}),
    "causal-prefix": ("CausalTransformer", (3, 2), SEVERAL, {"context_as": "prefix"}),
    "causal-classes": ("CausalTransformer", 3, 2, {"family": "Categorical", "one_hot": True}),
    "local": ("ImageTransformer", (1, 2, 3), (2, 2, 3), LOCAL),
    "local-prefix": ("ImageTransformer", (1, 2, 3), (2, 4, 1), {**LOCAL, "context_as": "prefix"}),
    "strided": ("SparseTransformer", (1, 3, 3), 0, {}),
    "strided-label": ("SparseTransformer", 7, Labels(3), {"stride": 2, "context_as": "prefix"}),
}
SLOW = [pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in MORE.items()]
EVERY = [*(pytest.param(case, id=name) for name, case in CASES.items()), *SLOW]
OPTIONS = {"Categorical": {"num_classes": 3}}


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def twins(case: Any) -> tuple[Any, Any]:
    """A member in both libraries, of equal weights."""
    name, dim, context_shape, settings = case
    sizes = {"hidden_dim": 8, "num_layers": 2, "num_heads": 2, "context_shape": context_shape}
    settings = {**sizes, **settings}
    family = settings.pop("family", "Bernoulli")
    made = []
    for package, lib in ((pyro_conditionals, PYRO), (numpyro_conditionals, NUMPYRO)):
        of_entries = partial(getattr(package, family), **OPTIONS.get(family, {}))
        made.append(lib.build("conditionals", name, dim, of_entries, **settings))
    ours = shake(made[0], scale=0.5)
    return ours, copy_weights(ours, made[1])


def context_of(context_shape: Any, num: int) -> Any:
    """A context of every kind."""
    rng = np.random.default_rng(1)

    def one(shape: Any) -> np.ndarray:
        if isinstance(shape, Labels):
            return rng.integers(0, shape.num_classes, num)
        return rng.standard_normal((num, *shape))

    if not context_shape:
        return ()
    if isinstance(context_shape[0], tuple):
        return (tuple(map(one, context_shape)),)
    return (one(context_shape),)


def given(lib: Any, module: Any, num: int) -> Any:
    """The distribution for `num` contexts, or the one that needs none."""
    context = context_of(module.context_shape, num)
    return module(*jax.tree.map(lib.array, context))


def every_value(module: Any) -> np.ndarray:
    """All values of a discrete event."""
    classes = getattr(module.family, "num_classes", 2)
    values = np.array(list(product(range(classes), repeat=int(np.prod(module.event_shape)))))
    values = values.reshape(-1, *module.event_shape)
    return values if classes > 2 else values.astype(float)


@pytest.mark.parametrize("case", EVERY)
def test_the_probabilities_of_all_values_sum_to_one(case: Any) -> None:
    """In both libraries, with equal gradients, none of them zero."""
    ours, theirs = twins(case)
    values = every_value(ours)
    weights = np.random.default_rng(2).uniform(size=len(values))

    def scores(module: Any, weights: Any) -> Any:
        lib = PYRO if module is ours else NUMPYRO
        log_prob = given(lib, module, 1).log_prob(lib.array(values))
        return [(weights * log_prob).sum(), log_prob]

    gradients, (log_prob,) = compare((PYRO, NUMPYRO), scores, (ours, theirs), weights)
    assert np.exp(log_prob).sum() == pytest.approx(1.0, abs=1e-12)
    for path, gradient in gradients.items():
        assert np.isfinite(gradient).all() and np.any(gradient != 0), path


@pytest.mark.parametrize("case", EVERY)
def test_draws_from_caches_are_the_naive_ones(case: Any) -> None:
    """Bit for bit from the same uniforms, in both libraries, behind a prefix, too."""
    ours, theirs = twins(case)
    steps = ours.num_steps, ours.size, num_uniforms(ours.family)
    uniforms = np.random.default_rng(3).uniform(size=(5, *steps))
    prefix = every_value(ours)[-3]
    prefix = np.take(prefix, [0], ours.prefix_axis)[None]
    found = []
    for lib, module in ((PYRO, ours), (NUMPYRO, theirs)):
        p = given(lib, module, 5)
        for settings in ({}, {"prefix": lib.array(prefix), "temperature": 0.7}):
            draws = [
                p.sample_from(lib.array(uniforms), cached=cached, **settings)
                for cached in (True, False)
            ]
            found.append([lib.numpy(draw) for draw in draws])
    for cached, naive in found:
        np.testing.assert_array_equal(cached, naive)
    np.testing.assert_array_equal(found[0][0], found[2][0])
    np.testing.assert_array_equal(found[1][0], found[3][0])
    told = np.take(found[1][0], [0], 1 + ours.prefix_axis)
    np.testing.assert_array_equal(told, np.broadcast_to(prefix, told.shape))
    assert len(np.unique(found[0][0], axis=0)) > 1


@pytest.mark.parametrize("case", [*CASES.values(), *MORE.values()], ids=[*CASES, *MORE])
def test_each_step_depends_on_all_before_it_and_on_no_other(case: Any) -> None:
    """The Jacobian is where the patterns say, which here is the whole strict triangle."""
    ours, _ = twins(case)
    u = torch.as_tensor(np.random.default_rng(4).standard_normal((1, ours.num_steps, 1)))
    u = u.expand(-1, -1, ours.in_features)
    context = given(PYRO, ours, 1).context
    jacobian = torch.autograd.functional.jacobian(lambda u: ours.features(u, context)[0].sum(-1), u)
    seen = (jacobian[:, 0].abs().sum(-1) > 1e-12).numpy()
    np.testing.assert_array_equal(seen, np.tri(ours.num_steps, k=-1, dtype=bool))
    np.testing.assert_array_equal(seen, ours.receptive_field)


def test_too_few_layers_leave_a_blind_spot_that_is_told() -> None:
    name, dim, settings = "ImageTransformer", (1, 3, 4), {"block": 2, "memory": 1, "num_layers": 2}
    ours, _ = twins((name, dim, 0, settings))
    jacobian = torch.autograd.functional.jacobian(
        lambda u: ours.features(u, None)[0].sum(-1), torch.ones(1, 12, 1)
    )
    seen = (jacobian[:, 0].abs().sum(-1) > 1e-12).numpy()
    np.testing.assert_array_equal(seen, ours.receptive_field)
    assert not seen[11, 0] and seen.sum() < 66


def test_saved_exported_and_in_stock_inference(tmp_path: Path) -> None:
    """Weights come back; the captured graph gives the same; Trace_ELBO of a model with such a site
    under a latent vector is the bound, and its gradients those of the log-density.
    """
    case = CASES["fixed"]
    ours, theirs = twins(case)
    z, x = np.random.default_rng(5).standard_normal((4, 3)), every_value(ours)[[3, 50, 77, 120]]
    for lib, module in ((PYRO, ours), (NUMPYRO, theirs)):
        lib.save(module, tmp_path / lib.__class__.__name__)
        other = lib.load(twins(case)[lib is NUMPYRO], tmp_path / lib.__class__.__name__)
        lib.assert_same(lambda m, lib=lib: m(lib.array(z)).log_prob(lib.array(x)), module, other)
    scores = given_vector(PYRO, ours, z, x)
    graph = PYRO.exported(
        lambda module, z, x: module(z).log_prob(x), ours, PYRO.array(z), PYRO.array(x)
    )
    np.testing.assert_allclose(PYRO.numpy(graph), PYRO.numpy(scores), rtol=1e-10)
    expected = PYRO.numpy(scores).sum()
    gradient = torch.autograd.grad(scores.sum(), ours.embed.weight)[0].numpy()

    pyro, numpyro = PYRO.pyro, NUMPYRO.numpyro
    exact = pyro.distributions.Delta

    def pyro_model() -> None:
        pixels = PYRO.package.nn.register("pixels", ours)
        with pyro.plate("data", 4):
            latent = pyro.sample("z", exact(PYRO.array(z), event_dim=1))
            pyro.sample("x", pixels(latent), obs=PYRO.array(x))

    def pyro_guide() -> None:
        with pyro.plate("data", 4):
            pyro.sample("z", exact(PYRO.array(z), event_dim=1))

    ours.zero_grad()
    bound = -pyro.infer.Trace_ELBO().loss_and_grads(pyro_model, pyro_guide)
    assert bound == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(ours.embed.weight.grad.numpy(), -gradient, rtol=1e-10, atol=1e-10)

    def model() -> None:
        pixels = NUMPYRO.package.nn.register("pixels", theirs)
        with numpyro.plate("data", 4):
            latent = numpyro.sample("z", numpyro.distributions.Delta(jnp.asarray(z), event_dim=1))
            numpyro.sample("x", pixels(latent), obs=jnp.asarray(x))

    def guide() -> None:
        with numpyro.plate("data", 4):
            numpyro.sample("z", numpyro.distributions.Delta(jnp.asarray(z), event_dim=1))

    svi = numpyro.infer.SVI(model, guide, numpyro.optim.SGD(1.0), numpyro.infer.Trace_ELBO())
    state = svi.init(jax.random.key(0))
    before = svi.get_params(state)["pixels$params"]
    state, loss = jax.jit(svi.update)(state)
    after = svi.get_params(state)["pixels$params"]
    assert -float(loss) == pytest.approx(expected, rel=1e-10)
    step = jax.tree.map(lambda a, b: np.asarray(a - b), after, before)
    (moved,) = (
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(step)
        if "embed" in jax.tree_util.keystr(path) and leaf.ndim == 2
    )
    np.testing.assert_allclose(moved, gradient, rtol=1e-9, atol=1e-10)


def given_vector(lib: Any, module: Any, z: np.ndarray, x: np.ndarray) -> Any:
    return module(lib.array(z)).log_prob(lib.array(x))


BAD = (
    ("CausalTransformer", ((2, 3, 4, 5),), {}, r"dim must be \(T,\), \(T, D\) or"),
    ("CausalTransformer", (0,), {}, "dim must be an integer of at least 1"),
    ("CausalTransformer", (5,), {"hidden_dim": 0}, "hidden_dim must be an integer of at least 1"),
    ("CausalTransformer", (5,), {"num_heads": 3}, "num_heads must divide dim=8, got 3"),
    ("CausalTransformer", (5,), {"num_layers": 0}, "num_layers must be an integer of at least 1"),
    ("CausalTransformer", (5,), {"one_hot": True}, "one_hot=True needs classes"),
    ("CausalTransformer", (5,), {"context_as": "sum"}, "context_as must be"),
    ("CausalTransformer", ((5, 2),), {"context_shape": (4, 3)}, r"must have its steps: expected"),
    ("ImageTransformer", ((5, 2),), {}, "image_shape must be"),
    ("ImageTransformer", ((1, 4, 4),), {"block": 0}, "block must be an integer of at least 1"),
    ("ImageTransformer", ((1, 4, 4),), {"block": (2, 2), "memory": -1}, "memory must be"),
    ("ImageTransformer", ((1, 4, 4),), {"memory": (1, 1)}, "memory must be of as many entries"),
    ("ImageTransformer", ((1, 4, 4),), {"context_shape": (3, 5, 4)}, "its height and width"),
    ("SparseTransformer", (9,), {"pattern": "dense"}, "pattern must be"),
    ("SparseTransformer", (9,), {"stride": 0}, "span must be|stride must be"),
    ("SparseTransformer", (9,), {"count": 1}, "count is of the fixed pattern, got 1"),
    ("SparseTransformer", (9,), {"pattern": "fixed", "count": 4}, "count must be .* from 1 to 3"),
)


@pytest.mark.parametrize("lib", [PYRO, NUMPYRO], ids=["pyro", "numpyro"])
def test_bad_arguments_are_refused(lib: Any) -> None:
    for name, sizes, settings, message in BAD:
        with pytest.raises(ValueError, match=message):
            lib.build("conditionals", name, *sizes, **{"hidden_dim": 8, **settings})
    p = lib.build("conditionals", "CausalTransformer", 5, hidden_dim=4, num_layers=1)()
    with pytest.raises(ValueError, match="fills in suffixes only"):
        p.sample_from(lib.array(np.zeros((2, 5, 1, 1))), prefix=lib.array(np.zeros((2, 6))))
    with pytest.raises(ValueError, match="expects values of shape"):
        p.log_prob(lib.array(np.zeros((2, 6))))
    with pytest.raises(ValueError, match="temperature must be"):
        p.sample_from(lib.array(np.zeros((2, 5, 1, 1))), temperature=0.0)
