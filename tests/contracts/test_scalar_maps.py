"""Scalar maps, of which autoregressive and coupling flows are made: increasing, with exact slopes,
and inverted to the rounding error.
"""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.cases import SCALARS

EACH = [pytest.param(*case, id=name) for name, case in SCALARS.items()]
SIZE = 40


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize(("name", "arguments"), EACH)
def test_there_and_back_with_slopes(
    lib: Any, name: str, arguments: tuple[Any, ...], precision: str, request: pytest.FixtureRequest
) -> None:
    """The inverse to 1e-6 and 1e-11, where the map is neither flat nor steep to that degree; and
    the slope is the derivative.
    """
    if precision == "double":
        request.getfixturevalue("x64")
    rng = np.random.default_rng(0)
    h = lib.scalar(name, *arguments)
    raw = lib.array(rng.standard_normal((SIZE, h.num_params)))
    v = 3 * rng.standard_normal(SIZE)

    def there_and_back(v: Any) -> tuple[Any, list[Any]]:
        w, out = h(v, raw)
        back, into = h.invert(w, raw)
        return w, [w, out, back, into]

    derivative, found = lib.jacobian(there_and_back, lib.array(v))
    _, out, back, into = map(lib.numpy, found)
    tolerance = 1e-6 if precision == "single" else 1e-11
    np.testing.assert_allclose(
        back, v, rtol=tolerance, atol=tolerance * np.maximum(1, np.exp(-out)).max()
    )
    np.testing.assert_allclose(out, -into, rtol=10 * tolerance, atol=10 * tolerance)
    np.testing.assert_allclose(np.diag(lib.numpy(derivative)), np.exp(out), rtol=10 * tolerance)
    assert np.count_nonzero(derivative) <= SIZE


@pytest.mark.parametrize(("name", "arguments"), EACH)
def test_they_start_near_the_identity(lib: Any, name: str, arguments: tuple[Any, ...]) -> None:
    h = lib.scalar(name, *arguments)
    v = np.linspace(-3.0, 3.0, 13)
    w, log_slope = map(
        lib.numpy, lib.call(lambda v: h(v, lib.array(np.zeros((13, h.num_params)))), lib.array(v))
    )
    exact = name != "MixtureCDF"  # a normal distribution is not a logistic one
    np.testing.assert_allclose(w, v, atol=1e-5 if exact else 1.0)
    np.testing.assert_allclose(log_slope, 0.0, atol=1e-5 if exact else 0.6)
    assert (np.diff(w) > 0).all()


@pytest.mark.parametrize(("name", "arguments"), EACH)
def test_extreme_parameters_and_values_stay_finite(
    lib: Any, name: str, arguments: tuple[Any, ...]
) -> None:
    """In single precision, both directions, with gradients: a network may send anything."""
    rng = np.random.default_rng(1)
    h = lib.scalar(name, *arguments)
    sizes = np.repeat([1e-30, 1.0, 20.0, 80.0], 50)
    raw = lib.array(sizes[:, None] * rng.choice([-1.0, 1.0], (200, h.num_params)))
    v = lib.array(np.tile([-300.0, -4.0, 0.0, 0.5, 20.0], 40))
    nothing = lib.build("conditionals", "StandardNormal", 1)  # the map has no parameters of its own
    for direction in (h, h.invert):
        total, _, gradients = lib.values_and_gradients(
            lambda _, v, raw, direction=direction: sum(direction(v, raw)), nothing, v, raw
        )
        assert np.isfinite(total).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("name", "arguments"), EACH)
def test_twins_agree(x64: None, name: str, arguments: tuple[Any, ...]) -> None:
    """Both directions, log-slopes and gradients, at 1e-10; the parameters broadcast."""
    from tests.contracts.libraries import NumPyroLibrary, PyroLibrary

    found = []
    for lib in (PyroLibrary(), NumPyroLibrary()):
        nothing = lib.build("conditionals", "StandardNormal", 1)
        h = lib.scalar(name, *arguments)
        rng = np.random.default_rng(2)
        raw, v = rng.standard_normal((7, h.num_params)), 3 * rng.standard_normal((4, 7))
        for direction in (h, h.invert):

            def weighted(_: Any, v: Any, raw: Any) -> Any:
                w, log_slope = direction(v, raw)  # noqa: B023
                return w + 3 * log_slope

            values, _, gradients = lib.values_and_gradients(
                weighted, nothing, lib.array(v), lib.array(raw)
            )
            found.append([values, *gradients])
    for ours, theirs in zip(found[:2], found[2:]):
        for one, other in zip(ours, theirs):
            np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-10)
            assert np.abs(other).max() > 1e-6


def test_a_mixture_under_the_logistic_distribution_is_the_mixture(lib: Any, x64: None) -> None:
    """Also where its distribution function is 1e-80 away from zero or one."""
    h = lib.scalar("MixtureCDF", 2)
    raw = np.array(
        [0.3, -0.2, 1.5, -1.5, 0.4, -0.7]
    )  # logits; means are these and -1.5, 1.5; scales
    v = np.linspace(-30.0, 30.0, 25)
    w, log_slope = map(lib.numpy, lib.call(lambda v: h(v, lib.array(raw)), lib.array(v)))
    weights = np.exp(raw[:2]) / np.exp(raw[:2]).sum()
    c = np.log(np.expm1(1 - 1e-3))
    scales = np.sqrt(np.pi**2 / 3 - 1.5**2) * (1e-3 + np.log1p(np.exp(raw[4:] + c)))
    expected = np.log(
        sum(p * stats.norm.pdf(v, m, s) for p, m, s in zip(weights, (0.0, 0.0), scales))
    )
    np.testing.assert_allclose(stats.logistic.logpdf(w) + log_slope, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lib", ["pyro"], indirect=True)
def test_roots_have_second_derivatives_in_torch(lib: Any, x64: None) -> None:
    torch = lib.torch
    target = torch.tensor([0.3, 10.0, -2.0], requires_grad=True)
    v = _cubic_root(lib, torch.log1p, target)
    (first,) = torch.autograd.grad(v.sum(), target, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), target, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), target)
    _check_derivatives(*(lib.numpy(x) for x in (v, first, second, third)))


@pytest.mark.parametrize("lib", ["numpyro"], indirect=True)
def test_roots_have_second_derivatives_in_jax(lib: Any, x64: None) -> None:
    jax = lib.jax
    functions = [lambda t: _cubic_root(lib, lib.jnp.log1p, t)]
    for mode in (jax.grad, jax.jacfwd, jax.grad):
        functions.append(mode(functions[-1]))
    _check_derivatives(
        *(lib.numpy(jax.jit(jax.vmap(f))(lib.array([0.3, 10.0, -2.0]))) for f in functions)
    )


def _cubic_root(lib: Any, log1p: Any, target: Any) -> Any:
    """v + v^3 = target."""
    import importlib

    roots = importlib.import_module(f"{lib.package.__name__}.flows.roots")
    return roots.increasing_root(
        lambda v: (v + v**3, log1p(3 * v**2)), target, target - 11.0, target + 11.0
    )


def _check_derivatives(
    v: np.ndarray, first: np.ndarray, second: np.ndarray, third: np.ndarray
) -> None:
    slope = 1 + 3 * v**2
    np.testing.assert_allclose(v + v**3, [0.3, 10.0, -2.0], rtol=1e-14)
    np.testing.assert_allclose(first, 1 / slope, rtol=1e-12)
    np.testing.assert_allclose(second, -6 * v / slope**3, rtol=1e-11)
    np.testing.assert_allclose(third, (108 * v**2 - 6 * slope) / slope**5, rtol=1e-10)
