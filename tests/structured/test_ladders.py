"""Two layers with everything known: z2 ~ Normal(0, 1), z1 ~ Normal(0.8 z2, 0.36), x ~ Normal(1.5
z1, 0.25) at x = 1, and the parts of the bound, layer by layer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.test_enumeration import mixture, nothing, params_of
from tests.structured.exact import bound, built, evaluated, raw

EVIDENCE = -1.57708390
KL2, KL1, FREE = 0.25621091, 0.62508163, 1.12508163


def model_of(backend: Any) -> Callable[..., None]:
    """The model; the slope of z1 is a parameter."""
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        w = backend.param("w")
        with backend.plate("data", len(x)):
            z2 = backend.sample("z2", dist.Normal(array(0.0), array(1.0)))
            z1 = backend.sample("z1", dist.Normal(w * z2, array(0.6)))
            backend.sample("x", dist.Normal(1.5 * z1, array(0.5)), obs=x)

    return model


def top_down(backend: Any) -> Callable[..., None]:
    """q(z2 | x) q(z1 | z2, x), exact at the parameters of the toy."""
    dist, array = backend.dist, backend.array

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            z2 = backend.sample("z2", dist.Normal(backend.param("s2") * x, array(0.424**0.5)))
            mean = backend.param("g") * z2 + backend.param("o") * x
            backend.sample("z1", dist.Normal(mean, array((9 / 106) ** 0.5)))

    return guide


def params(**changes: float) -> dict[str, np.ndarray]:
    exact = {"w": 0.8, "s2": 0.48, "g": 10 / 53, "o": 27 / 53}
    return {name: np.array(value) for name, value in {**exact, **changes}.items()}


def test_the_parts_of_the_bound(backend: Any) -> None:
    """Layer by layer at the exact guide, whose bound is the evidence at every draw."""
    losses, pair, sites = backend.losses, (model_of(backend), top_down(backend)), ("z2", "z1")
    free = losses.ELBO(free_bits=dict.fromkeys(sites, 0.5), beta={"z1": 1.0})
    _, terms, _ = backend.evaluate(free, *pair, np.ones(3), params=params())
    assert terms["ELBO"] == pytest.approx(EVIDENCE, abs=1e-8)
    closed = losses.ELBO(free_bits=dict.fromkeys(sites, 0.5), analytic_kl=True)
    value, terms, _ = backend.evaluate(closed, *pair, np.ones(4000), params=params())
    assert terms["ELBO/KL(z2)"] == pytest.approx(KL2, abs=1e-8)
    assert terms["ELBO/KL(z1)"] == pytest.approx(KL1, abs=0.02)  # of the draws of z2
    assert terms["ELBO/free_bits"] == pytest.approx(0.5 + terms["ELBO/KL(z1)"], abs=1e-10)
    assert terms["ELBO/free_bits"] == pytest.approx(FREE, abs=0.02)
    assert terms["ELBO/KL"] == pytest.approx(KL2 + terms["ELBO/KL(z1)"], abs=1e-8)
    assert terms["ELBO"] == pytest.approx(EVIDENCE, abs=0.05)
    assert value == pytest.approx(-4000 * terms["ELBO"])


def test_independent_layers_lose(backend: Any) -> None:
    """The best guide whose layers do not see each other loses half of -log(1 - correlation^2)."""
    dist, array = backend.dist, backend.array

    def mean_field(x: Any) -> None:
        with backend.plate("data", len(x)):
            for name, mean, variance in (("z2", 0.48, 0.36), ("z1", 0.6, 9 / 106)):
                backend.sample(name, dist.Normal(mean * x, array(variance**0.5)))

    loss = backend.losses.ELBO()
    pair = model_of(backend), mean_field
    _, terms, _ = backend.evaluate(loss, *pair, np.ones(20000), params=params())
    assert terms["ELBO"] == pytest.approx(-1.65889861, abs=0.02)


@pytest.mark.parametrize(
    "how", [{"analytic_kl": True}, {"estimator": "score"}], ids=["kl", "score"]
)
def test_what_is_below_its_free_bits_is_not_pushed(backend: Any, how: dict[str, Any]) -> None:
    """The gradient is that with weights zero there, the value that of the bound with beta."""
    losses, pair, other = backend.losses, (model_of(backend), top_down(backend)), params(w=0.7)
    x, beta = np.array([1.0, 0.4, -2.0]), {"z1": 0.8, "z2": 1.3}
    bits = {"z1": 0.3, "z2": 100.0}
    free = losses.ELBO(free_bits=bits, beta=beta, **how)
    found, terms, slopes = backend.evaluate(free, *pair, x, params=other, seed=2)
    parts = terms["ELBO/KL(z1)"], terms["ELBO/KL(z2)"]
    assert parts[0] > 0.3
    bound = terms["ELBO/log_likelihood"] - 0.8 * parts[0] - 1.3 * parts[1]
    assert terms["ELBO"] == pytest.approx(bound, abs=1e-10)
    assert found == pytest.approx(-3 * bound, abs=1e-9)
    assert terms["ELBO/free_bits"] == pytest.approx(parts[0] + 100.0, abs=1e-10)
    without = losses.ELBO(beta={"z1": 0.8, "z2": 0.0}, **how)
    for name, slope in backend.evaluate(without, *pair, x, params=other, seed=2)[2].items():
        np.testing.assert_allclose(slopes[name], slope, rtol=1e-10, atol=1e-12)


def test_weights_of_sites_are_refused_in_words(backend: Any) -> None:
    losses, pair = backend.losses, (model_of(backend), top_down(backend))
    for options, sentence in (
        ({"beta": {"z3": 0.5}}, r"name \['z3'\], which guide and model do not both draw"),
        ({"free_bits": {"q": 0.5}}, r"name \['q'\].* latent sites are \['z1', 'z2'\]"),
    ):
        with pytest.raises(ValueError, match=sentence):
            backend.evaluate(losses.ELBO(**options), *pair, np.ones(2), params=params())
    for options, sentence in (
        ({"beta": {"z1": -0.5}}, "beta of 'z1' must be a number of at least 0 or a schedule"),
        ({"free_bits": -1}, "free_bits must be a number of at least 0 or a schedule, got -1"),
        ({"free_bits": {}}, r"free_bits must be a weight, or \{name of a latent site: weight\}"),
    ):
        with pytest.raises(ValueError, match=sentence):
            losses.ELBO(**options)
    assert repr(losses.ELBO(free_bits={"z1": 0.5})) == "ELBO(free_bits={'z1': 0.5})"
    summed = losses.ELBO(enumerate="c", free_bits=0.5)
    with pytest.raises(ValueError, match=r"\['c'\] are summed out, which the parts"):
        backend.evaluate(summed, mixture(backend), nothing, np.ones(2), params=params_of(2))


def test_merged_and_relative_normals(backend: Any) -> None:
    """The posterior of z1 at z2 = 0.5, what averages would give, and NVAE's divergence."""
    array, c, normal = backend.array, backend.conditionals, backend.dist.Normal
    evidence = normal(array(1 / 1.5), array(1 / 3)), normal(array(0.4), array(0.6))
    merged = c.merge(*evidence)
    assert float(merged.mean) == pytest.approx(0.60377358, abs=1e-8)
    assert 1 / float(merged.variance) == pytest.approx(11.77777778, abs=1e-8)
    v = np.array([1 / 9, 0.36])
    m = np.array([1 / 1.5, 0.4])
    assert m.mean() == pytest.approx(0.53333333, abs=1e-8)  # averaged
    assert (m * v).sum() / v.sum() == pytest.approx(0.46289308, abs=1e-8)  # weighed by variances
    relative = c.residual(normal(array(0.3), array(0.5)), evidence[1])
    loc, scale = float(relative.mean), float(relative.variance) ** 0.5
    kl = np.log(0.6 / scale) + (scale**2 + (loc - 0.4) ** 2) / 0.72 - 0.5
    assert kl == pytest.approx(0.44314718, abs=1e-8)
    wide = c.merge(
        normal(array(np.zeros(4)), array(np.ones(4))), normal(array(np.zeros((3, 1))), array(2.0))
    )
    assert tuple(wide.mean.shape) == (3, 4)
    with pytest.raises(ValueError, match="must be a normal distribution with independent entries"):
        c.merge(backend.dist.Beta(array(1.0), array(2.0)), evidence[1])


def exact_ladder(backend: Any) -> Any:
    """A LadderVAE without hidden layers, which is the toy with its exact guide."""
    return built(
        backend,
        "LadderVAE",
        1,
        (1, 1),
        hidden=(),
        likelihood=("DiagonalNormal", 1, 1),
        weights={
            "likelihood.head.weight": [[1.5], [0.0]],
            "likelihood.head.bias": [0.0, raw(0.5)],
            "priors.0.head.weight": [[0.8], [0.0]],
            "priors.0.head.bias": [0.0, raw(0.6)],
            "evidence.0.head.weight": [[1 / 1.5], [0.0]],
            "evidence.0.head.bias": [0.0, raw(1 / 3)],
            "evidence.1.head.weight": [[0.48], [0.0]],
            "evidence.1.head.bias": [0.0, raw(0.424**0.5)],
        },
    )


def test_ladder(backend: Any) -> None:
    """The exact guide: the evidence at every draw, though all that it shares is the model's."""
    loss = backend.losses.ELBO(num_particles=3, free_bits={"z1": 0.01})

    def values(pair: Any) -> list[Any]:
        return [bound(backend, loss, pair, np.array([[1.0]]))]

    found, slopes = evaluated(backend, values, exact_ladder(backend))
    assert -found[0] == pytest.approx(EVIDENCE, abs=1e-8)
    assert all(slope.any() for path, slope in slopes[0].items() if "layers" not in path)
