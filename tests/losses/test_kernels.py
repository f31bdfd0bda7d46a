"""MMD estimates against quadrature, plain double loops and closed forms."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from dgm_core.samples.two_sample import mmd_test
from tests.losses.arrays import (
    assert_twins_agree,
    assert_within_three_errors,
    repeated,
    value,
    value_and_gradients,
)

KERNELS: dict[
    str, tuple[Callable[[Any], Any], Callable[[np.ndarray, int], np.ndarray]]
] = {  # the kernel, and k from |x - y|^2 and the dimension
    "RBF": (lambda k: k.RBF(1.0), lambda s, d: np.exp(-s / 2)),
    "RBF mixture": (
        lambda k: k.RBF((0.5, 2.0)),
        lambda s, d: 0.5 * np.exp(-s / 0.5) + 0.5 * np.exp(-s / 8),
    ),
    "IMQ": (lambda k: k.IMQ(1.5), lambda s, d: 2 * d * 2.25 / (2 * d * 2.25 + s)),
    "IMQ mixture": (
        lambda k: k.IMQ((0.5, 1.0)),
        lambda s, d: 0.5 * d / (d + 2 * s) + d / (2 * d + s),
    ),
    "RationalQuadratic": (
        lambda k: k.RationalQuadratic(2.0, (0.2, 3.0)),
        lambda s, d: 0.5 * (1 + s / 1.6) ** -0.2 + 0.5 * (1 + s / 24) ** -3,
    ),
}
HEURISTIC: dict[str, Callable[[Any], Any]] = {
    "RBF()": lambda k: k.RBF(),
    "RationalQuadratic()": lambda k: k.RationalQuadratic(),
}
RBF_TRUTH = (
    2 / math.sqrt(3) * (1 - math.exp(-1 / 6))
)  # MMD^2 of N(0, 1) and N(1, 1) for the RBF kernel of length 1


def module(backend: Any) -> Any:
    return importlib.import_module(f"{backend.name}_dgm.losses.samples.kernels")


def draws(
    num_x: int = 6, num_y: int = 5, dim: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_x, dim)), rng.normal(0.5, 1.3, size=(num_y, dim))


def by_hand(
    k: Callable[[np.ndarray, int], np.ndarray], x: np.ndarray, y: np.ndarray, unbiased: bool
) -> float:
    """MMD^2 by a double loop."""

    def within(z: np.ndarray) -> float:
        return np.mean(
            [
                k(np.sum((z[i] - z[j]) ** 2), z.shape[1])
                for i in range(len(z))
                for j in range(len(z))
                if not (unbiased and i == j)
            ]
        )

    return (
        within(x)
        + within(y)
        - 2 * np.mean([k(np.sum((a - b) ** 2), x.shape[1]) for a in x for b in y])
    )


def expectation(k: Callable[[np.ndarray, int], np.ndarray], shift: float) -> float:
    """E k(X, Y) for X ~ N(0, 1), Y ~ N(shift, 1)."""
    return quad(lambda t: norm.pdf(t, shift, math.sqrt(2)) * k(t**2, 1), -15, 16, epsabs=1e-12)[0]


def truth(k: Callable[[np.ndarray, int], np.ndarray]) -> float:
    """MMD^2 of N(0, 1) and N(1, 1) by quadrature."""
    return 2 * expectation(k, 0.0) - 2 * expectation(k, 1.0)


def test_quadrature_gives_the_known_value() -> None:
    assert truth(KERNELS["RBF"][1]) == pytest.approx(RBF_TRUTH, abs=1e-10)
    assert pytest.approx(0.177268, abs=5e-7) == RBF_TRUTH


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_equals_the_double_loop(backend: Any, name: str, unbiased: bool) -> None:
    make, k = KERNELS[name]
    kernels = module(backend)
    x, y = draws()

    def vectors_and_events(x: Any, y: Any) -> Any:
        pairs = (x, y), (x[:, :, None], y[:, :, None])
        return tuple(kernels.mmd2(*pair, make(kernels), unbiased) for pair in pairs)

    found, events = value(backend, vectors_and_events, x, y)
    assert found == pytest.approx(by_hand(k, x, y, unbiased), abs=1e-12)
    assert events == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("name", ["RBF", "IMQ", "RationalQuadratic"])
def test_unbiased_estimates_average_to_the_truth(backend: Any, name: str) -> None:
    """1,000 draws of 20 points from N(0, 1) and N(1, 1) each; single estimates may be negative. The
    linear-time estimate is noisier, the biased one larger.
    """
    make, k = KERNELS[name]
    kernels = module(backend)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1000, 20)), rng.normal(1.0, 1.0, size=(1000, 20))
    kernel = make(kernels)

    def estimates(x: Any, y: Any) -> Any:
        return backend.np.stack(
            [
                kernels.mmd2(x, y, kernel),
                kernels.linear_mmd2(x, y, kernel),
                kernels.mmd2(x, y, kernel, unbiased=False),
            ]
        )

    run = repeated(backend, estimates)
    unbiased, linear, biased = np.array([run(a, b) for a, b in zip(x, y)]).T
    assert_within_three_errors(unbiased, truth(k))
    assert_within_three_errors(linear, truth(k))
    assert unbiased.min() < 0 < biased.min()
    assert linear.var() > 2 * unbiased.var()
    assert_within_three_errors(biased, truth(k) + (2 - 2 * expectation(k, 0.0)) / 20)


def test_unbiased_is_zero_on_average_for_equal_distributions(backend: Any) -> None:
    kernels = module(backend)
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(300, 10, 2)), rng.normal(size=(300, 10, 2))
    run = repeated(backend, lambda x, y: kernels.mmd2(x, y, kernels.IMQ()))
    found = np.array([run(a, b) for a, b in zip(x, y)])
    assert_within_three_errors(found, 0.0)
    assert 0.3 < np.mean(found < 0) < 0.9


@pytest.mark.parametrize("estimate", ["mmd2", "linear_mmd2"])
@pytest.mark.parametrize("name", HEURISTIC)
def test_median_heuristic(backend: Any, name: str, estimate: str) -> None:
    """The length scales are the multiples of the median distance, as constants; so the value does
    not depend on the unit of the data.
    """
    kernels = module(backend)
    kernel, mmd2 = HEURISTIC[name](kernels), getattr(kernels, estimate)
    x, y = draws(6, 6)
    pooled = np.concatenate([x, y])
    distances = np.sqrt(
        [np.sum((a - b) ** 2) for i, a in enumerate(pooled) for b in pooled[i + 1 :]]
    )
    if estimate == "linear_mmd2":
        distances = np.sqrt(
            [
                np.sum((a - b) ** 2)
                for one, other in ((x, x), (y, y), (x, y), (y, x))
                for a, b in zip(one[:3], other[3:])
            ]
        )
    median = np.sort(distances)[(len(distances) - 1) // 2]
    explicit = type(kernel)([multiple * median for multiple in kernel.multiples])
    found, gradients = value_and_gradients(backend, lambda x, y: mmd2(x, y, kernel), x, y)
    expected, expected_gradients = value_and_gradients(
        backend, lambda x, y: mmd2(x, y, explicit), x, y
    )
    assert found == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(gradients, expected_gradients, atol=1e-12)
    assert value(backend, lambda x, y: mmd2(x, y, kernel), 100 * x, 100 * y) == pytest.approx(
        found, abs=1e-12
    )


@pytest.mark.parametrize("name", ["RBF()", "RationalQuadratic()", "IMQ"])
def test_points_that_coincide(backend: Any, name: str) -> None:
    kernels = module(backend)
    kernel = HEURISTIC[name](kernels) if name in HEURISTIC else KERNELS[name][0](kernels)
    x = np.ones((4, 2))
    found, gradients = value_and_gradients(backend, lambda x, y: kernels.mmd2(x, y, kernel), x, x)
    assert found == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(gradients).all()


def test_a_common_offset_costs_no_digits(backend: Any) -> None:
    """Single precision, far from the origin."""
    kernels = module(backend)
    x, y = draws(20, 20)
    single = (
        (lambda z: z.float())
        if backend.name == "pyro"
        else (lambda z: z.astype(backend.np.float32))
    )
    here, there = (
        value(
            backend,
            lambda x, y: kernels.mmd2(single(x), single(y), kernels.RBF(1.0)),
            np.round(x, 2) + offset,
            np.round(y, 2) + offset,
        )
        for offset in (0, 4096)
    )
    assert here.dtype == there.dtype == np.float32
    assert there == pytest.approx(here, abs=1e-3)


@pytest.mark.parametrize("name", ["RBF mixture", "IMQ mixture", "RationalQuadratic", *HEURISTIC])
def test_twins_agree(name: str) -> None:
    make = KERNELS[name][0] if name in KERNELS else HEURISTIC[name]

    def formulas(backend: Any) -> Callable[..., Any]:
        kernels = module(backend)
        kernel = make(kernels)
        return lambda x, y, a, b, c: backend.np.stack(
            [
                kernels.mmd2(x, y, kernel),
                kernels.mmd2(a, y, kernel, False),
                kernels.linear_mmd2(b, c, kernel),
            ]
        )

    x, y = draws()
    a, _ = draws(seed=1)
    assert_twins_agree(formulas, x, y, a, *draws(6, 6, seed=2))


def test_the_loss_is_the_statistic_of_the_test(backend: Any) -> None:
    """What is trained on is what dgm_core's permutation test reports, the length scales found from
    the data included.
    """
    kernels = module(backend)
    x, y = draws()
    assert value(backend, lambda x, y: kernels.mmd2(x, y, kernels.RBF()), x, y) == pytest.approx(
        mmd_test(x, y, num_permutations=1).statistic, abs=1e-12
    )


def test_repr(backend: Any) -> None:
    kernels = module(backend)
    assert [repr(k) for k in (kernels.RBF(), kernels.RBF(2), kernels.IMQ((1.0, 2.0)))] == [
        "RBF()",
        "RBF((2.0,))",
        "IMQ((1.0, 2.0))",
    ]


BAD: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "length scale": (
        lambda k, z: k.RBF((1.0, 0.0)),
        r"length_scales must be a positive number, or .*, got \(1\.0, 0\.0\)\.",
    ),
    "no length scale": (lambda k, z: k.RBF(()), r"length_scales must be a positive number"),
    "alpha": (
        lambda k, z: k.RationalQuadratic(alphas=(-1.0,)),
        r"alphas must be a positive number, or .*, got \(-1\.0,\)\.",
    ),
    "IMQ": (lambda k, z: k.IMQ(None), r"length_scales must be a positive number, or .*, got None"),
    "events": (
        lambda k, z: k.mmd2(z(3, 2), z(3, 4), k.RBF()),
        r"equal events, got \(3, 2\) and \(3, 4\)\.",
    ),
    "scalars": (lambda k, z: k.mmd2(z(), z(), k.RBF()), r"need shapes \(num, \*event\)"),
    "one point": (
        lambda k, z: k.mmd2(z(1, 2), z(3, 2), k.RBF()),
        r"at least 2 points of each sample, got 1 and 3\.",
    ),
    "no point": (
        lambda k, z: k.mmd2(z(0, 2), z(3, 2), k.RBF(), False),
        r"at least 1 points of each sample, got 0 and 3\.",
    ),
    "unequal": (
        lambda k, z: k.linear_mmd2(z(4, 2), z(3, 2), k.RBF()),
        r"samples of equal shapes, got \(4, 2\) and \(3, 2\)\.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(backend: Any, case: str) -> None:
    attempt, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        attempt(module(backend), lambda *shape: backend.array(np.zeros(shape)))
