"""Any family of single entries, drawn from given uniforms by caches or by a pass per step."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import numpyro_dgm.conditionals as numpyro_conditionals
import pyro_dgm.conditionals as pyro_conditionals
from dgm_core.contexts import Labels
from tests.autoregressive.toys import NumPyroToy, PyroToy

STEPS, SIZE = 3, 2
FAMILIES: dict[str, dict[str, Any]] = {
    "Bernoulli": {},
    "Categorical": {"num_classes": 4},
    "DiscretizedLogisticMixture": {"num_components": 2, "num_levels": 4},
    "CoupledLogisticMixture": {"num_components": 2, "num_levels": 4},
    "LogisticMixture": {"num_components": 2},
    "DiagonalNormal": {},
    "LogitNormal": {},
    "Beta": {},
    "Kumaraswamy": {},
}
LEVELS = {
    "Bernoulli": np.arange(2.0),
    "Categorical": np.arange(4),
    "DiscretizedLogisticMixture": np.arange(4) / 3,
    "CoupledLogisticMixture": np.arange(4) / 3,
}
DISCRETE = tuple(LEVELS)


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def toys(name: str, context_shape: Any = 0, **settings: Any) -> tuple[PyroToy, NumPyroToy]:
    torch.manual_seed(1)
    families = (
        partial(getattr(package, name), **FAMILIES[name])
        for package in (pyro_conditionals, numpyro_conditionals)
    )
    settings["context_shape"] = context_shape
    toy = PyroToy(STEPS, SIZE, next(families), **settings)
    with torch.no_grad():
        toy.family.head.weight *= 4
    return toy, NumPyroToy(STEPS, SIZE, next(families), twin=toy, **settings)


def uniforms_of(toy: Any, *batch: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    draws = pyro_conditionals.autoregressive.draws
    return rng.uniform(size=(*batch, STEPS, SIZE, draws.num_uniforms(toy.family)))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow("Beta", "Kumaraswamy", "Normal", "Categorical", "LogisticMixture")
def test_draws_by_caches_equal_naive_ones_and_those_of_the_twin(name: str) -> None:
    toy, twin = toys(name)
    u = uniforms_of(toy, 6)
    ours = [toy().sample_from(torch.as_tensor(u), cached=c) for c in (True, False)]
    theirs = [np.asarray(twin().sample_from(jnp.asarray(u), cached=c)) for c in (True, False)]
    tolerance = 0.0 if name in DISCRETE else 1e-12
    for other in (ours[1], *theirs):
        np.testing.assert_allclose(np.asarray(other), ours[0], rtol=tolerance, atol=tolerance)
    score = toy().log_prob(ours[0]).detach()
    assert torch.isfinite(score).all()
    np.testing.assert_allclose(twin().log_prob(theirs[0]), score, rtol=1e-10)
    cold = [
        toy().sample_from(torch.as_tensor(u), 0.3),
        twin().sample_from(jnp.asarray(u), 0.3),
    ]
    np.testing.assert_allclose(np.asarray(cold[1]), cold[0], rtol=1e-12)
    assert not np.array_equal(cold[0], ours[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_have_the_distribution(name: str) -> None:
    """The first step's entries, 40000 draws: their frequencies, or the mean and the log-density,
    are within 5 standard errors of what the family says.
    """
    toy, _ = toys(name)
    draws = pyro_conditionals.autoregressive.draws
    raw = 0.7 * torch.as_tensor(np.random.default_rng(5).standard_normal(toy.family.num_params))
    p = toy.family.build(raw)
    shape = (40_000, SIZE, draws.num_uniforms(toy.family))
    uniforms = torch.as_tensor(np.random.default_rng(7).random(shape))
    values = draws.draw(toy.family, raw.expand(40_000, -1), draws.noise(toy.family, uniforms), 1.0)
    if name in DISCRETE:
        levels = torch.as_tensor(LEVELS[name])
        every = torch.cartesian_prod(levels, levels)
        wanted = p.log_prob(every).exp()
        assert abs(wanted.sum() - 1) < 1e-12
        found = (values[:, None] == every).all(-1).double().mean(0)
        error = (wanted * (1 - wanted) / len(values)).sqrt()
    else:
        others = p.sample((40_000,))
        wanted = torch.stack([p.log_prob(others).mean(), *others.mean(0), *others.square().mean(0)])
        found = torch.stack([p.log_prob(values).mean(), *values.mean(0), *values.square().mean(0)])
        spread = [p.log_prob(values).std(), *values.std(0), *values.square().std(0)]
        error = torch.stack(spread) * (2 / len(values)) ** 0.5
    assert ((found - wanted).abs() < 5 * error).all(), (found, wanted, error)


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("context_shape", [0, 2], ids=["alone", "given"])
def test_sum_over_all_values_is_one(name: str, context_shape: int) -> None:
    levels = torch.as_tensor(LEVELS[name])
    every = torch.cartesian_prod(*[levels] * (STEPS * SIZE)).reshape(-1, STEPS, SIZE)
    settings = {"one_hot": True} if name == "Categorical" else {}
    toy, _ = toys(name, context_shape, **settings)
    context = (torch.as_tensor([0.3, -1.2]),) if context_shape else ()
    np.testing.assert_allclose(toy(*context).log_prob(every).exp().sum().item(), 1.0, rtol=1e-12)


CONTEXTS: dict[str, tuple[Any, Any]] = {
    "vector": (4, lambda rng: rng.standard_normal((5, 4))),
    "label": (Labels(3), lambda rng: rng.integers(0, 3, 5)),
    "map": ((2, 3, 2), lambda rng: rng.standard_normal((5, 2, 3, 2))),
}


@pytest.mark.parametrize("kind", CONTEXTS)
@pytest.mark.slow("vector", "label")
def test_contexts_batches_and_prefixes(kind: str) -> None:
    context_shape, make = CONTEXTS[kind]
    toy, twin = toys("Bernoulli", context_shape)
    context = make(np.random.default_rng(1))
    p, q = toy(torch.as_tensor(context)), twin(jnp.asarray(context))
    wide, also = p.expand((4, 5)), q.expand((4, 5))
    torch.manual_seed(0)
    x = wide.sample((2,))
    assert x.shape == (2, 4, 5, STEPS, SIZE)
    scores = wide.log_prob(x)
    rows = torch.stack(
        [toy(c).log_prob(x[:, :, i]) for i, c in enumerate(torch.as_tensor(context))]
    )
    np.testing.assert_allclose(scores.detach(), rows.movedim(0, -1).detach(), rtol=1e-12)
    np.testing.assert_allclose(also.log_prob(jnp.asarray(x.numpy())), scores.detach(), rtol=1e-10)
    assert wide.to_event(1).log_prob(x).shape == (2, 4)
    assert also.to_event(1).log_prob(jnp.asarray(x.numpy())).shape == (2, 4)
    prefix = x[0, 0, :, :2]
    filled = p.sample((3,), prefix=prefix)
    assert (filled[:, :, :2] == prefix).all()
    u = uniforms_of(toy, 3, 5)
    ours = p.sample_from(torch.as_tensor(u), prefix=prefix)
    for cached in (True, False):
        theirs = q.sample_from(jnp.asarray(u), prefix=jnp.asarray(prefix.numpy()), cached=cached)
        np.testing.assert_array_equal(np.asarray(theirs), ours)
    np.testing.assert_array_equal(
        p.sample_from(torch.as_tensor(u), prefix=prefix, cached=False), ours
    )


@pytest.mark.parametrize(
    ("name", "other"), [("DiagonalNormal", torch.int64), ("Categorical", torch.float64)]
)
def test_a_prefix_of_another_type_does_not_change_that_of_the_draws(name: str, other: Any) -> None:
    toy, _ = toys(name)
    u = torch.as_tensor(uniforms_of(toy, 3))
    alone = toy().sample_from(u)
    prefix = torch.ones(STEPS, SIZE, dtype=other)
    for length in (1, STEPS):
        cached, naive = (
            toy().sample_from(u, prefix=prefix[:length], cached=cached) for cached in (True, False)
        )
        assert cached.dtype == naive.dtype == alone.dtype
        torch.testing.assert_close(cached, naive, rtol=1e-12, atol=1e-12)
        assert (cached[:, :length] == 1).all()


def test_wrong_use_is_refused() -> None:
    toy, twin = toys("Categorical", one_hot=True)
    key, normals = jax.random.key(0), [made() for made in toys("DiagonalNormal")]
    for normal, p, array, draw in (
        (normals[0], toy(), torch.as_tensor, toy().sample),
        (normals[1], twin(), jnp.asarray, lambda *a, **k: twin().sample(key, *a, **k)),
    ):
        assert not p.has_rsample
        for shape in ((4, 2, 1), (4, 2, SIZE), (STEPS + 1, SIZE), (SIZE,)):
            with pytest.raises(ValueError, match=r"shape \(\*batch, n, 2\) .* suffixes only"):
                draw(prefix=array(np.zeros(shape, int)))
        with pytest.raises(ValueError, match="outside its support"):
            draw(prefix=array(np.full((2, SIZE), 4)))
        with pytest.raises(ValueError, match="temperature must be a positive number"):
            draw(temperature=0.0)
        with pytest.raises(ValueError, match=r"from 1e-30 .* to 1e30, got 1e-50"):
            draw(temperature=1e-50)  # 0 in single precision
        with pytest.raises(ValueError, match=r"Categorical expects values 0, ..., 3"):
            p.log_prob(array(np.full((STEPS, SIZE), 4)))
        with pytest.raises(
            ValueError, match=r"scores data that are numbers, got some that are NaN"
        ):
            normal.log_prob(array(np.full((STEPS, SIZE), np.nan)))
        with pytest.raises(ValueError, match=r"expects values of shape \(\*batch, 3, 2\)"):
            p.log_prob(array(np.zeros((STEPS, SIZE + 1), int)))
        with pytest.raises(NotImplementedError, match="have no gradient"):
            p.rsample(key)
        for moment in ("mean", "variance"):
            with pytest.raises(NotImplementedError, match="in closed form"):
                getattr(p, moment)
    for toy_class, package, rest in (
        (PyroToy, pyro_conditionals, {}),
        (NumPyroToy, numpyro_conditionals, {"twin": toy}),
    ):
        with pytest.raises(ValueError, match="family must make a conditional of single entries"):
            toy_class(STEPS, SIZE, package.StandardNormal, **rest)
        with pytest.raises(ValueError, match=r"got Bernoulli\(2\)"):
            toy_class(STEPS, SIZE, package.Bernoulli(2), **rest)
        with pytest.raises(ValueError, match="one_hot=True needs classes"):
            toy_class(STEPS, SIZE, package.Bernoulli, one_hot=True, **rest)


def test_parameters_that_are_not_finite_are_refused() -> None:
    toy, twin = toys("Bernoulli", 2)
    context = np.array([0.3, np.nan])
    u = uniforms_of(toy, 2)
    for cached in (True, False):
        with pytest.raises(ValueError, match=r"cannot be drawn from: .* NaN or infinite"):
            toy(torch.as_tensor(context)).sample_from(torch.as_tensor(u), cached=cached)
        with pytest.raises(ValueError, match=r"cannot be drawn from: .* NaN or infinite"):
            twin(jnp.asarray(context)).sample_from(jnp.asarray(u), cached=cached)
    prefix = np.ones((1, SIZE))  # of any kind of array
    assert (toy(torch.zeros(2).double()).sample(prefix=prefix)[:1] == 1).all()
