"""Solutions and divergences: closed forms, both libraries equal, and what is refused."""

import builtins
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from dgm_core.ode import Adaptive, time_grid
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.test_conditionals import close

A = np.array([[0.1, -1.0], [1.4, -0.3]])
X = np.array([[0.5, -1.0], [0.3, 2.0], [-1.2, 0.4]])
LIBRARIES = [PyroLibrary, NumPyroLibrary]


def test_solutions_and_gradients(x64: None) -> None:
    """Of a field that depends on the time, with a second state along it, there and back."""
    found, there, back = [], time_grid(0.0, 1.5, 4, power=2.0), time_grid(1.5, 0.0, 3)
    for lib in (PyroLibrary(), NumPyroLibrary()):
        integrate = lib.package.nn.integrate

        def both(x: Any, a: Any, lib: Any = lib, integrate: Any = integrate) -> Any:
            def field(t: Any, y: Any) -> Any:
                return {"y": y["y"] @ a.T * (1 + t), "sum": t * y["y"].sum(-1)}

            total = 0.0
            for name in ("heun", "rk4"):
                zero = x.sum(-1) * 0
                path = integrate(field, {"y": x, "sum": zero}, there, solver=name, path=True)
                end = integrate(field, {"y": path["y"][-1], "sum": zero}, back, solver=name)
                total = total + (path["y"] ** 2).sum() + (path["sum"] * end["sum"]).sum()
            return total + (end["y"] ** 3).sum()

        arrays = [lib.array(X), lib.array(A)]
        found.append([lib.call(both, *arrays), *lib.slopes(both, *arrays)])
    for ours, theirs in zip(*found):
        close(ours.detach(), theirs)


@pytest.mark.parametrize("library", LIBRARIES)
def test_orders_on_a_linear_field(library: Any, x64: None) -> None:
    """Errors fall by 2^order where the steps are halved; both directions end at exp(+-A) x."""
    lib = library()
    a = lib.array(A)
    for end in (1.0, -1.0):
        for name, order in (("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)):
            errors = [
                np.abs(
                    lib.numpy(
                        lib.package.nn.integrate(
                            lambda t, y: y @ a.T, lib.array(X), time_grid(0, end, n), solver=name
                        )
                    )
                    - X @ expm(A * end).T
                ).max()
                for n in (40, 80)
            ]
            assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1), name


def test_divergences(x64: None) -> None:
    """The exact trace of A is A's; one probe of signs gives e' A e, in both libraries; so do
    values of two dimensions, and the gradients."""
    probes = np.sign(np.random.default_rng(0).standard_normal((3, 3, 2)))
    found = []
    for lib in (PyroLibrary(), NumPyroLibrary()):
        a, divergence = lib.array(A), lib.package.nn.jacobian_trace

        def every(x: Any, probes: Any, a: Any = a, lib: Any = lib, div: Any = divergence) -> Any:
            value, exact = div(lambda x: x @ a.T, x)
            signs = div(lambda x: x @ a.T, x, probes=probes)[1]
            bent = div(lambda x: lib.exp(x) * (x**2).sum(), x[0])[1]
            whole = div(lambda x: lib.exp(x) * x.sum(), x, event_dim=2)[1]
            return value.sum() + whole * bent**2, value, exact, signs

        arrays = [lib.array(X), lib.array(probes)]
        results = lib.call(every, *arrays)
        close(np.asarray(lib.numpy(results[1])), X @ A.T)
        close(np.asarray(lib.numpy(results[2])), np.full(3, np.trace(A)))
        wanted = np.einsum("pni,ij,pnj->pn", probes, A, probes).mean(0)
        close(np.asarray(lib.numpy(results[3])), wanted)
        slopes = lib.slopes(lambda x, every=every: every(x, x[None])[0], arrays[0])
        found.append([results[0], *slopes])
    for ours, theirs in zip(*found):
        close(ours.detach(), theirs)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.slow("NumPyro")
def test_adaptive_steps(library: Any, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to the exact solution in both directions, and refused in words without the library."""
    name, lib = ("torchdiffeq", "diffrax")[library is NumPyroLibrary], library()
    pytest.importorskip(name)
    integrate, a = lib.package.nn.integrate, lib.array(A)

    def solved(x: Any, times: Any, path: bool = False) -> Any:
        field = lambda t, y: (y[0] @ a.T, t + y[0].sum(-1))  # noqa: E731
        state = x, x.sum(-1) * 0
        return integrate(field, state, times, solver=Adaptive(1e-9, 1e-9), path=path)

    there = lib.call(lambda x: solved(x, [0.0, 0.3, 1.0], True), lib.array(X))
    back = lib.call(lambda x: solved(x, [1.0, 0.0]), there[0][-1])
    assert there[0].shape == (3, 3, 2)
    np.testing.assert_allclose(lib.numpy(there[0][1]), X @ expm(0.3 * A).T, atol=1e-7)
    np.testing.assert_allclose(lib.numpy(back[0]), X, atol=1e-7)

    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in ("torchdiffeq", "diffrax"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=rf"needs {name}, which is not installed: pip install"):
        solved(lib.array(X), [0.0, 1.0])


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_refused(library: Any) -> None:
    lib = library()
    x = lib.array(X)
    for field, state, times, message in (
        (lambda t, y: y[:1], x, (0, 1), r"with the shapes \(3, 2\), got \(1, 2\)"),
        (lambda t, y: (y, y), x, (0, 1), r"shapes \(3, 2\), got \(\(3, 2\), \(3, 2\)\)"),
        (lambda t, y: y, 3, (0, 1), "state must be an array of floats, .* got 3"),
        (lambda t, y: y, lib.array(np.arange(3)), (0, 1), "state must be an array of floats"),
        (lambda t, y: None, x, (0, 1), r"derivative of the state, .*\(3, 2\), got None"),
        (lambda t, y: y, x, (0, 0), "times must be two or more numbers that rise, or fall"),
        (lambda t, y: y, x, (0, float("inf")), "times must be a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            lib.package.nn.integrate(field, state, times)
    with pytest.raises(ValueError, match=r"solver must be 'euler', .*, got 'rk5'"):
        lib.package.nn.integrate(lambda t, y: y, x, (0, 1), solver="rk5")
    trace = lib.package.nn.jacobian_trace
    for settings, message in (
        ({"event_dim": 3}, "event_dim must be an integer from 1 to 2, got 3"),
        ({"event_dim": 0}, "event_dim must be an integer from 1 to 2, got 0"),
        ({"probes": x}, r"probes must have the shape \(num_probes, 3, 2\), got \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            trace(lambda x: x**2, x, **settings)
    with pytest.raises(
        ValueError, match=r"one for each value, of shape \(\) or \(3,\), got \(3, 1"
    ):
        lib.build("nn", "TimeMLP", 2, hidden=(2,))(x, x[:, :1])
