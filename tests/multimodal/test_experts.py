"""Products of experts and their mixtures: exact values, each usual fault by its own value, masks,
single precision, the twins.
"""

import math
from typing import Any

import numpy as np
import pytest

from dgm_core.experts import all_subsets, membership
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.multimodal.toys import C2, OTHER, expected, expected2, kl_normal, log_normal
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

C1 = np.array([1.0, -1.0]), np.array([0.5, 2.0])  # means and variances of two experts


def of_normals(lib: Any, mean: np.ndarray, var: np.ndarray, **how: Any) -> tuple[Any, Any]:
    """Means and variances of products."""
    how = {name: lib.array(x) if isinstance(x, np.ndarray) else x for name, x in how.items()}

    def run(mean: Any, scale: Any) -> list[Any]:
        return list(lib.package.conditionals.product_of_normals(mean, scale, **how))

    loc, scale = map(lib.numpy, lib.call(run, lib.array(mean), lib.array(np.sqrt(var))))
    return loc, scale**2


def test_c1_and_the_faults(lib: Any, x64: None) -> None:
    """The prior counts once; all subsets come at once."""
    members = membership(all_subsets(2, empty=True), 2)  # none, 0, 1, both
    found = of_normals(lib, *C1, members=members)
    loc, var = (np.round(x, 8) for x in found)
    kl = np.round(kl_normal(*found), 8)
    assert loc.tolist() == [0.0, 0.66666667, -0.33333333, 0.42857143]
    assert var.tolist() == [1.0, 0.33333333, 0.66666667, 0.28571429]
    assert kl[[0, 1, 3]].tolist() == [0.0, 0.43819503, 0.36107536]
    without_prior, once_per_expert = (0.6, 0.4), (1 / 3, 2 / 9)  # the usual faults
    assert round(kl_normal(*without_prior), 8) == 0.33814537 != kl[3]
    assert round(kl_normal(*once_per_expert), 8) == 0.41870537 != kl[3]
    # other constants, another prior, more dimensions
    rng = np.random.default_rng(0)
    mean, var = rng.standard_normal((3, 2, 4)), rng.uniform(0.2, 3.0, (3, 2, 4))
    loc, new = of_normals(lib, mean, var, prior_loc=0.7, prior_scale=1.5)
    precision = 1 / 2.25 + (1 / var).sum(0)
    np.testing.assert_allclose(new, 1 / precision, rtol=1e-12)
    np.testing.assert_allclose(loc, (0.7 / 2.25 + (mean / var).sum(0)) / precision, rtol=1e-12)


def test_single_precision(lib: Any) -> None:
    """Scales from e^-40 to e^40 beside each other, whose precisions leave single precision: values
    and gradients stay right to its digits."""
    scale = np.exp(np.array([-40.0, 40.0, 3.0, -10.0]))[:, None]
    mean = np.array([2.0, -3.0, 5.0, 1.5])[:, None]
    subsets = all_subsets(4, empty=True)
    members = lib.array(membership(subsets, 4))

    def run(mean: Any, scale: Any) -> Any:
        loc, new = lib.package.conditionals.product_of_normals(mean, scale, members=members)
        return loc + 0 * new, new

    loc, new = (lib.numpy(x) for x in lib.call(run, lib.array(mean), lib.array(scale)))
    for row, subset in enumerate(subsets):
        index = list(subset)
        precision = 1 + sum(scale[index, 0] ** -2.0)
        exact = sum(mean[index, 0] * scale[index, 0] ** -2.0) / precision
        np.testing.assert_allclose(loc[row], exact, rtol=2e-6, atol=1e-30)
        np.testing.assert_allclose(new[row], precision**-0.5, rtol=2e-6)
    for slope in lib.slopes(lambda m, s: run(m, s)[0], lib.array(mean), lib.array(scale)):
        assert np.isfinite(lib.numpy(slope)).all()


def experts(lib: Any, **settings: Any) -> list[Any]:
    sizes = (3, 4, 2)
    return [
        lib.build("conditionals", "DiagonalNormal", 2, context_shape=size, seed=index)
        for index, size in enumerate(sizes)
    ]


KINDS = {
    "product": ("ProductOfExperts", {}),
    "mixture": ("MixtureOfExperts", {"weights": [0.5, 0.2, 0.3]}),
    "all subsets": (
        "MixtureOfExperts",
        {"subsets": [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_and_twins(kind: str, x64: None, rng: np.random.Generator) -> None:
    """Values and gradients of the twins; what is not seen, NaN, changes neither; a case with other
    experts missing is that case alone with the others left out; nothing seen is the prior."""
    libs, (name, how) = (PyroLibrary(), NumPyroLibrary()), KINDS[kind]
    ours, theirs = (lib.build("conditionals", name, experts(lib), **how) for lib in libs)
    theirs = copy_weights(shake(ours), theirs)
    seen = np.array([[True, True, True], [True, False, True], [False, True, False], [False] * 3])
    contexts = [rng.standard_normal((4, size)) for size in (3, 4, 2)]
    z = rng.standard_normal((4, 2))

    def score(module: Any, *contexts: Any) -> Any:
        lib = libs[not hasattr(module, "training")]
        return module(tuple(contexts), lib.array(seen)).log_prob(lib.array(z))

    compare(libs, score, (ours, theirs), *contexts)
    values, slopes, by_context = libs[0].values_and_gradients(
        score, ours, *map(libs[0].array, contexts)
    )
    hidden = [np.where(seen[:, [m]], x, np.nan) for m, x in enumerate(contexts)]
    again = libs[0].values_and_gradients(score, ours, *map(libs[0].array, hidden))
    np.testing.assert_array_equal(values, again[0])
    for path, slope in slopes.items():
        np.testing.assert_array_equal(slope, again[1][path])
    for m, slope in enumerate(by_context):
        np.testing.assert_array_equal(slope, again[2][m])
        assert (slope[~seen[:, m]] == 0).all() and (slope[seen[:, m]] != 0).any()
    np.testing.assert_allclose(values[3], log_normal(z[3], 0.0, 1.0).sum(), rtol=1e-12)
    alone = [m for m in range(3) if seen[1, m]]
    sub = dict(how)
    if "weights" in sub:
        sub["weights"] = [sub["weights"][m] for m in alone]
    if "subsets" in sub:
        sub["subsets"] = [(0,), (1,), (0, 1)]
    kept = [ours.experts[m] for m in alone]
    small = libs[0].build("conditionals", name, kept, **sub)
    context = tuple(libs[0].array(contexts[m][1:2]) for m in alone)
    score_alone = small(context).log_prob(libs[0].array(z[1:2]))
    np.testing.assert_allclose(values[1], score_alone.item(), rtol=1e-12)


class TestStratified:
    """C3: bounds of the mixture of the two exact unimodal posteriors, by quadrature over the
    densities that the conditional gives."""

    @pytest.mark.parametrize("toy", [C2, OTHER], ids=["C3", "other"])
    def test_bounds(self, lib: Any, toy: Any, x64: None) -> None:
        log_q = mixture_density(lib, toy)
        parts = [toy.posterior((m,)) for m in (0, 1)]

        def weight(z: Any) -> Any:
            return toy.log_joint(z) - log_q(z)

        def both(z: Any, y: Any) -> Any:
            return np.logaddexp(weight(z), weight(y)) - math.log(2)

        def slip(m: int) -> Any:
            return lambda z: toy.log_joint(z) - log_normal(z, *parts[m])

        def mean(function: Any, pairs: list[Any]) -> float:
            return sum(function(*pair) for pair in pairs) / len(pairs)

        bounds = {
            "ELBO": mean(lambda p: expected(weight, *p), [(p,) for p in parts]),
            "log q_m in place of log q": mean(lambda m: expected(slip(m), *parts[m]), [(0,), (1,)]),
            "averaged outside of the logarithm": mean(
                lambda p: expected2(both, p, p), [(p,) for p in parts]
            ),
            "stratified": expected2(both, *parts),
            "two draws of the mixture": mean(
                lambda p, r: expected2(both, p, r), [(p, r) for p in parts for r in parts]
            ),
        }
        assert bounds["log q_m in place of log q"] < bounds["ELBO"] < toy.evidence((0, 1))
        if toy is C2:
            assert {name: round(value, 8) for name, value in bounds.items()} == {
                "ELBO": -4.24247105,
                "log q_m in place of log q": -4.61942950,
                "averaged outside of the logarithm": -3.77803294,
                "stratified": -3.67839836,
                "two draws of the mixture": -3.72821565,
            }


def exact_experts(lib: Any, toy: Any) -> list[Any]:
    """Experts of the posteriors of a toy: their contexts (1,) are the modalities."""
    made = []
    for m in (0, 1):
        expert = lib.build("conditionals", "DiagonalNormal", 1, context_shape=1)
        scale = math.sqrt(toy.expert(m)[1]) - 1e-4
        raw = math.log(math.expm1(scale)) - math.log(math.expm1(1 - 1e-4))
        weight = np.array([[1 / toy.a[m]], [0.0]])
        bias = np.array([-toy.b[m] / toy.a[m], raw])
        made.append(with_head(lib, expert, weight, bias))
    return made


def with_head(lib: Any, module: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    """The module with these parameters of its affine map."""
    if hasattr(lib, "torch"):
        with lib.torch.no_grad():
            module.head.weight.copy_(lib.array(weight))
            module.head.bias.copy_(lib.array(bias))
        return module
    places = lambda module: (module.head.weight, module.head.bias)  # noqa: E731
    return lib.eqx.tree_at(places, module, (lib.array(weight), lib.array(bias)))


def mixture_density(lib: Any, toy: Any) -> Any:
    """The log-density of the mixture of a toy's unimodal posteriors, of numpy arrays."""
    mixture = lib.build("conditionals", "MixtureOfExperts", exact_experts(lib, toy))
    contexts = tuple(lib.array(np.array([x])) for x in toy.x)
    if hasattr(lib, "jax"):
        score = lib.jax.jit(lambda z: mixture(contexts).log_prob(z))
    else:
        score = lambda z: mixture(contexts).log_prob(z)  # noqa: E731

    def log_q(z: Any) -> Any:
        return lib.numpy(score(lib.array(np.asarray(z)[..., None])))

    return log_q


def test_draws_of_a_component(lib: Any, x64: None, rng: np.random.Generator) -> None:
    """`at(k)` draws from the component and is scored as the mixture; the index has the weights of
    those that count, and gradients pass through both kinds of draws."""
    weights = [0.5, 0.2, 0.3]
    mixture = lib.build("conditionals", "MixtureOfExperts", experts(lib), weights=weights)
    contexts = tuple(lib.array(rng.standard_normal((5, size))) for size in (3, 4, 2))
    seen = np.array(
        [[True] * 3, [True, False, True], [False, False, True], [False] * 3, [True] * 3]
    )

    def run() -> list[Any]:
        q = mixture(contexts, lib.array(seen))
        k = lib.array(np.tile(np.arange(3)[:, None], (2000, 1, 5)))
        draws = lib.draw(q.at(k))
        same = q.log_prob(draws) - q.at(k).log_prob(draws)
        index = mixture.index((5,), lib.array(seen))
        return [draws, same, q.loc, q.scale, index.logits, q.log_weights, q.mean]

    draws, same, loc, scale, logits, log_weights, mean = map(lib.numpy, lib.call(run))
    assert (same == 0).all() and draws.shape == (2000, 3, 5, 2)
    error = 6 * scale.swapaxes(0, 1) / math.sqrt(2000)
    assert (abs(draws.mean(0) - loc.swapaxes(0, 1)) < error).all()
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(shares, np.exp(log_weights), rtol=1e-12)
    np.testing.assert_allclose(shares[0], weights, rtol=1e-12)
    np.testing.assert_allclose(shares[1][[0, 1]].sum(), 0.5 / 0.8, rtol=1e-12)
    np.testing.assert_allclose((shares[..., None] * loc).sum(1), mean, rtol=1e-12)
    np.testing.assert_allclose(shares.sum(1), 1.0, rtol=1e-12)


def test_what_is_refused(lib: Any) -> None:
    made, build = experts(lib), lib.build
    other = build("conditionals", "DiagonalNormal", 3, context_shape=3)
    beta = build("conditionals", "Beta", 2, context_shape=3)
    alone = build("conditionals", "DiagonalNormal", 2)
    for name in ("ProductOfExperts", "MixtureOfExperts"):
        for wrong, message in (
            ([], "must be a list of conditionals"),
            ([*made, other], "values of one shape"),
            ([alone], "must have one context"),
            ([lambda c: c], "expert must be a conditional"),
        ):
            with pytest.raises(ValueError, match=message):
                build("conditionals", name, wrong)
    with pytest.raises(ValueError, match="prior expert takes no context"):
        build("conditionals", "ProductOfExperts", made, made[0])
    for wrong in ([(0, 3)], [], [(0, 0)], [(0, 1), (1, 0)], 3):
        with pytest.raises(ValueError, match="subsets must be"):
            build("conditionals", "MixtureOfExperts", made, subsets=wrong)
    for wrong in ([1, 2], [1, 2, 0], "abc"):
        with pytest.raises(ValueError, match="weights must be"):
            build("conditionals", "MixtureOfExperts", made, weights=wrong)
    product = build("conditionals", "ProductOfExperts", made)
    contexts = tuple(lib.array(np.zeros((5, size))) for size in (3, 4, 2))
    for wrong in (np.ones((5, 2), bool), np.ones((5, 3))):
        with pytest.raises(ValueError, match="seen must be booleans of shape"):
            product(contexts, lib.array(wrong))
    with pytest.raises(ValueError, match="needs"):
        product(contexts[:2], lib.array(np.ones((5, 3), bool)))
    with pytest.raises(ValueError, match="must be a normal distribution with independent entries"):
        build("conditionals", "ProductOfExperts", [beta])((contexts[0],))
