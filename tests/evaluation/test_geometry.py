"""Surfaces whose metric, lengths and geodesics are known."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_bvp, solve_ivp

from dgm_core.geometry import Surface
from tests.evaluation import gaussians as g
from tests.evaluation.test_traversals import X, layers

W1 = np.array([[1.0, 0.0], [0.5, -1.0], [0.0, 2.0]])
W2 = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0], [1.0, 1.0, 0.0]])


def detached(backend: Any, x: Any) -> Any:
    return x.detach() if backend.name == "pyro" else backend.jax.lax.stop_gradient(x)


def made(backend: Any, name: str) -> Surface:
    """The sphere by its angles, a paraboloid, a map of rank 1 on a line, a network, a curve."""
    np_ = backend.np
    maps = {
        "sphere": lambda z: np_.stack(
            [
                np_.sin(z[:, 0]) * np_.cos(z[:, 1]),
                np_.sin(z[:, 0]) * np_.sin(z[:, 1]),
                np_.cos(z[:, 0]),
            ],
            -1,
        ),
        "bowl": lambda z: np_.stack([z[:, 0], z[:, 1], (z[:, 0] ** 2 + z[:, 1] ** 2) / 2], -1),
        "flat": lambda z: np_.stack([z[:, 0], z[:, 0] * z[:, 1], z[:, 0] * z[:, 1] ** 2], -1),
        "net": lambda z: np_.tanh(z @ backend.array(W1).T) @ backend.array(W2).T,
        "curve": lambda z: np_.stack([z[:, 0], z[:, 0] ** 2], -1),
    }
    with backend.double_precision():
        return backend.evaluation.surface(maps[name], 1 if name == "curve" else 2)


def test_metric_rank_volume_and_density(backend: Any) -> None:
    z, np_ = np.array([0.7, -1.3]), backend.np
    with backend.double_precision():
        other = backend.evaluation.surface(
            lambda z: np_.stack([z[:, 0] ** 2, z[:, 0] * z[:, 1], np_.sin(z[:, 1])], -1), 2
        )
        slope = np.array([[1.4, 0.0], [-1.3, 0.7], [0.0, np.cos(1.3)]])
        np.testing.assert_allclose(other.metric(z), slope.T @ slope)
        half = np.log(np.linalg.det(slope.T @ slope)) / 2
        assert other.log_volume(z) == pytest.approx(half, abs=1e-12)
        assert other.rank([[0.0, 0.0], [0.7, -1.3]]).tolist() == [1, 2]
        flat, net = made(backend, "flat"), made(backend, "net")
        np.testing.assert_allclose(flat.singular_values([0.5, 2.0]), [4.99188605, 0.57539], 1e-8)
        assert flat.rank([[0.0, 1.0], [0.5, 2.0], [0.0, -3.0]]).tolist() == [1, 2, 1]
        assert flat.log_volume([[0.0, 1.0]])[0] < -30
        down = backend.evaluation.surface(lambda z: z[:, :1], 2)  # two numbers onto one
        assert down.log_volume([0.3, 0.4]) == -np.inf
        wanted = [[2.87979468, -0.79086733], [-0.79086733, 10.46525114]]
        np.testing.assert_allclose(net.metric([0.3, -0.2]), wanted, 1e-8)
        assert net.log_volume([0.3, -0.2]) == pytest.approx(1.69240362, abs=1e-8)
        density = -0.5 * np.log(2 * np.pi) - 0.32 - made(backend, "curve").log_volume([0.8])
        assert density == pytest.approx(-1.87381881, abs=1e-8)


def test_geodesics_of_a_sphere(backend: Any) -> None:
    """Great circles: lengths in closed form, also of the chords and of the straight line."""
    with backend.double_precision():
        sphere = made(backend, "sphere")
        a, b = np.array([[np.pi / 3, 0.0], [0.9, -0.4]]), np.array([[np.pi / 2, 2.0], [1.8, 1.1]])
        found = sphere.geodesics(a, b)
        ends = sphere(a), sphere(b)
        np.testing.assert_allclose(found.lengths, np.arccos((ends[0] * ends[1]).sum(-1)), 1e-9)
        assert found.lengths[0] == pytest.approx(1.93948628, abs=1e-8)
        assert found.straight[0] == pytest.approx(1.98044940, abs=1e-8)
        assert found.converged.all()
        np.testing.assert_allclose(found.curves[0, 16], [1.11288259, 1.11135429], 1e-8)
        assert sphere.energy(found.curves)[0] == pytest.approx(3.76160704, abs=1e-8)
        line = a[0] + np.linspace(0, 1, 33)[:, None] * (b - a)[0]
        assert sphere.energy(line) == pytest.approx(3.92814236, abs=1e-8)
        for num, wanted in ((2, 3.47590887), (4, 3.68848587), (8, 3.74321903)):
            chords = sphere.chord_energy(found.curves[0, :: 32 // num])
            assert chords == pytest.approx(wanted, abs=1e-7)


def test_geodesics_of_a_paraboloid(backend: Any) -> None:
    """z'' = -z |z'|^2 / (1 + |z|^2) by another solver; farther pairs among them, where shooting
    from the straight line finds ways that are too long.
    """
    a, b = np.array([[1.0, 0.0], [0.0, 0.0], [2.5, 0.3]]), np.array([[0, 1], [2, 0], [-1.0, 2.6]])
    with backend.double_precision():
        bowl = made(backend, "bowl")
        found = bowl.geodesics(a, b, num_steps=64)
    assert found.lengths[:2] == pytest.approx([1.48591063, 2.95788572], abs=1e-8)
    assert found.straight[0] == pytest.approx(1.52450435, abs=1e-8)
    for start, end, curve, length in zip(a, b, found.curves, found.lengths, strict=True):
        t = np.linspace(0, 1, 65)
        guess = np.concatenate([curve.T, np.gradient(curve, t, axis=0).T])
        solution = solve_bvp(
            lambda _, y: np.concatenate(
                [y[2:], -y[:2] * (y[2:] ** 2).sum(0) / (1 + (y[:2] ** 2).sum(0))]
            ),
            lambda p, q: np.concatenate([p[:2] - start, q[:2] - end]),  # noqa: B023
            t,
            guess,
            tol=1e-10,
            max_nodes=20_000,
        )
        np.testing.assert_allclose(curve, solution.sol(t)[:2].T, atol=3e-6)
        velocity, z = solution.sol(0.0)[2:], start
        assert np.sqrt((velocity**2).sum() + (z @ velocity) ** 2) == pytest.approx(length, abs=1e-8)
    assert found.lengths[2] < found.straight[2] - 0.05
    with backend.double_precision():
        apart = bowl.distances([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert apart[0, 1] == apart[1, 0] == pytest.approx(1.48591063, abs=1e-8)
    assert np.trace(apart) == 0 < apart[2].max()


def test_of_a_run(backend: Any) -> None:
    """A linear model has the metric W'W everywhere; a standard deviation that does not depend on
    the code adds nothing; geodesics are straight."""
    with backend.double_precision():
        run = backend.run(*g.pair(backend))
        flat = backend.evaluation.pullback(run, X[:1])
        z = np.array([[0.3, -1.0], [2.0, 0.5]])
        np.testing.assert_allclose(flat(z), z @ g.W.T + g.C, atol=1e-12)
        np.testing.assert_allclose(flat.metric(z), np.broadcast_to(g.W.T @ g.W, (2, 2, 2)))
        both = backend.evaluation.pullback(run, X[:1], spread=True)
        np.testing.assert_allclose(both.metric(z), flat.metric(z))
        found = flat.geodesics(z[0], z[1], num_steps=4)
        straight = z[0] + np.linspace(0, 1, 5)[:, None] * (z[1] - z[0])
        np.testing.assert_allclose(found.curves, straight, atol=1e-10)
        assert found.lengths == pytest.approx(np.linalg.norm(g.W @ (z[1] - z[0])))


def test_latents_that_follow(backend: Any) -> None:
    """top -> low -> x: the mean of low is (2 top, top^2), scale and side are the guide's."""
    with backend.double_precision():
        run = backend.run(*layers(backend))
        over = backend.evaluation.pullback(run, X[:1], latent="top")
        top = np.array([[0.7], [-1.2]])
        slope = 1.5 * (np.concatenate([2 + 0 * top, 2 * top], -1) @ g.W.T)
        np.testing.assert_allclose(over.jacobian(top)[..., 0], slope, atol=1e-10)
        below = backend.evaluation.pullback(run, X[:1], latent="low")
        np.testing.assert_allclose(below.jacobian([[0.2, 0.1]])[0], 1.5 * g.W, atol=1e-10)


def test_a_spread_that_depends_on_the_code(backend: Any) -> None:
    d = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", d.Normal(backend.array(0.0), 1.0))
            backend.sample("x", d.Normal(3 * z, backend.np.exp(0.5 * z)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", d.Normal(x, 1.0))

    with backend.double_precision():
        run, x = backend.run(model, guide), np.array([0.4])
        z = np.array([[0.8]])
        wanted = 9 + 0.25 * np.exp(0.8)
        found = backend.evaluation.pullback(run, x, spread=True).metric(z)
        np.testing.assert_allclose(found, [[[wanted]]])
        np.testing.assert_allclose(backend.evaluation.pullback(run, x).metric(z), [[[9.0]]])


def test_no_pairs_and_pairs_of_equal_codes(backend: Any) -> None:
    with backend.double_precision():
        sphere = made(backend, "sphere")
        none = sphere.geodesics(np.zeros((0, 2)), np.zeros((0, 2)), num_steps=4)
        ends = np.array([[1.0, 0.3], [0.7, 0.2]])
        found = sphere.geodesics(ends, ends[[0, 0]], num_steps=4)
    assert none.curves.shape == (0, 5, 2) and none.lengths.shape == none.converged.shape == (0,)
    assert found.converged.all() and found.lengths[0] == 0 < found.lengths[1]
    np.testing.assert_array_equal(found.curves[0], np.broadcast_to(ends[0], (5, 2)))


def test_the_shorter_side_of_a_hill_and_the_longer_side_of_a_sphere() -> None:
    """Straight over a hill no step leads aside, and the ways around it are shorter; codes half a
    turn apart and more are joined by a great circle that is none of the shortest ways.
    """

    def hill(z: np.ndarray) -> np.ndarray:
        return np.column_stack([z, 2 * np.exp(-2 * (z**2).sum(-1))])

    def slopes(z: np.ndarray) -> np.ndarray:
        down = -4 * z * hill(z)[:, 2:]
        return np.concatenate([np.broadcast_to(np.eye(2), (len(z), 2, 2)), down[:, None]], 1)

    a, b = np.array([[-1.5, 0.0], [-1.5, 0.05]]), np.array([[1.5, 0.0], [1.5, 0.05]])
    found = Surface(hill, slopes, 2).geodesics(a, b, num_steps=48)
    assert found.converged.all() and abs(found.curves[:, 24, 1]).min() > 0.3
    assert (found.lengths < found.straight - 0.5).all()
    assert 0 < found.lengths[0] - found.lengths[1] < 0.1

    def sphere(z: np.ndarray) -> np.ndarray:
        (up, flat), turn = (np.cos(z[:, :1]), np.sin(z[:, :1])), z[:, 1:]
        return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), up])

    def tangents(z: np.ndarray) -> np.ndarray:
        steps = [(sphere(z + 1e-5 * e) - sphere(z - 1e-5 * e)) / 2e-5 for e in np.eye(2)]
        return np.stack(steps, -1)

    rng = np.random.default_rng(3)
    a, b = (
        rng.uniform((0.5, 0.0), (2.5, 1.0), (12, 2)),
        rng.uniform((0.5, 2.0), (2.5, 6.0), (12, 2)),
    )
    a[0], b[0] = (np.pi / 2, 0.0), (np.pi / 2, 4.0)
    found = Surface(sphere, tangents, 2).geodesics(a, b)
    short = b[:, 1] - a[:, 1] < np.pi
    assert 2 < short.sum() < 10
    np.testing.assert_array_equal(found.converged, short)
    arcs = np.arccos((sphere(a) * sphere(b)).sum(-1))
    np.testing.assert_allclose(found.lengths[short], arcs[short], 1e-6)
    assert (found.lengths <= found.straight * (1 + 1e-6)).all()


def test_a_torus(backend: Any) -> None:
    """Geodesics that another solver shoots, and finds back."""
    big, small = 2.0, 0.7
    np_ = backend.np

    def torus(z: Any) -> Any:
        ring = big + small * np_.cos(z[:, 0])
        parts = ring * np_.cos(z[:, 1]), ring * np_.sin(z[:, 1]), small * np_.sin(z[:, 0])
        return np_.stack(parts, -1)

    def bent(_: float, y: np.ndarray) -> list[float]:
        ring = big + small * np.cos(y[0])
        up = -ring * np.sin(y[0]) / small * y[3] ** 2
        return [y[2], y[3], up, 2 * small * np.sin(y[0]) / ring * y[2] * y[3]]

    start = np.array([0.3, 0.0])
    starts = np.array([[0.8, 0.3], [-0.4, 0.5], [0.2, 0.45]])
    ends = [
        solve_ivp(bent, (0, 1.5), [*start, *v], rtol=1e-11, atol=1e-12).y[:2, -1] for v in starts
    ]
    speeds = np.hypot(small * starts[:, 0], (big + small * np.cos(0.3)) * starts[:, 1])
    with backend.double_precision():
        found = backend.evaluation.surface(torus, 2).geodesics(start + 0 * starts, ends)
    np.testing.assert_allclose(found.lengths, 1.5 * speeds, rtol=1e-10)
    assert found.converged.all()


def test_what_a_generator_makes_of_codes(backend: Any) -> None:
    """x itself, with a guide that draws the code as the prior does; classes and bits by their
    probabilities, with the Fisher metric sum_k dp_k^2 / p_k."""
    given = import_module(f"{backend.name}_dgm.models.parts").given
    d, np_ = backend.dist, backend.np
    tilt = np.array([[0.5, -1.0, 0.2], [0.3, 0.4, -2.0]])

    def generator(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", d.Normal(np_.zeros(2), 1.0).to_event(1))
            made = given(np_.sin(z @ backend.array(tilt)), 1)
            backend.sample("x", made, obs=x)

    def classes(x: Any, y: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", d.Normal(np_.zeros(2), 1.0).to_event(1))
            logits = z @ backend.array(tilt)
            backend.sample("x", d.Categorical(logits=logits), obs=x)
            backend.sample("y", d.Bernoulli(logits=logits).to_event(1), obs=y)

    def prior(x: Any, y: Any = None) -> None:
        with backend.plate("data", len(x)):
            backend.sample("z", d.Normal(np_.zeros(2), 1.0).to_event(1))

    pullback, z = backend.evaluation.pullback, np.array([0.7, -0.2])
    with backend.double_precision():
        run = backend.run(generator, prior)
        slope = np.cos(z @ tilt) * tilt
        for spread in (False, True):
            over = pullback(run, np.zeros((1, 3)), spread=spread)
            np.testing.assert_allclose(over.metric(z), slope @ slope.T)
        with pytest.raises(ValueError, match="'x' has ImplicitDistribution: leave out fisher"):
            pullback(run, np.zeros((1, 3)), fisher=True)
        run, data = backend.run(classes, prior), (np.array([1]), np.zeros((1, 3)))
        p = np.exp(z @ tilt) / np.exp(z @ tilt).sum()
        slope = p * (tilt - (tilt * p).sum(-1, keepdims=True))
        np.testing.assert_allclose(pullback(run, *data, site="x").jacobian(z), slope.T)
        over = pullback(run, *data, site="x", fisher=True)
        np.testing.assert_allclose(over.metric(z), slope / p @ slope.T)
        q = 1 / (1 + np.exp(-z @ tilt))
        over = pullback(run, *data, site="y", fisher=True)
        np.testing.assert_allclose(over.metric(z), q * (1 - q) * tilt @ tilt.T)
        with pytest.raises(ValueError, match=r"counts all of p.x . z.: leave out spread"):
            pullback(run, *data, site="y", fisher=True, spread=True)


def test_derivatives_that_are_not_those_of_the_map(backend: Any) -> None:
    """A map that detaches, all or a part of it, or goes in steps, would have a metric of zero."""
    np_, surface = backend.np, backend.evaluation.surface
    z = np.array([[0.3, -1.2], [1.0, 2.0]])
    with backend.double_precision():
        for bad in (
            lambda z: detached(backend, z**2),
            lambda z: detached(backend, z**2) + 0.5 * z,
            lambda z: np_.round(500 * z),
            lambda z: 1.0 * (z > 0.5),
        ):
            with pytest.raises(ValueError, match=r"changes near the code \[ 0.3 -1.2\], and its"):
                surface(bad, 2).metric(z)
        for good in (lambda z: 0 * z, lambda z: z**2, lambda z: abs(z), lambda z: 1e4 + z):
            assert surface(good, 2).metric(0 * z).shape == (2, 2, 2)


def test_ways_that_stay_near_the_codes(backend: Any) -> None:
    """Codes on a half circle of the plane: a line joins two of them, but not near the others.
    The metric is that of the formula, derivatives and all."""
    angles = np.linspace(0, np.pi, 60)
    codes = np.column_stack([np.cos(angles), np.sin(angles)])
    z, step = np.array([[0.5, 0.4], [1.0, 0.1], [0.0, 3.0]]), 1e-6
    with backend.double_precision():
        plane = backend.evaluation.surface(lambda z: z, 2)
        near = plane.near(codes, num_centers=12, width=2.0, deviation=(0.1, 5.0))
        line = plane.geodesics(codes[5], codes[-6], num_steps=16)
        found = near.geodesics(codes[5], codes[-6], num_steps=16)
        slopes = [(near(z + step * e) - near(z - step * e)) / (2 * step) for e in np.eye(2)]
        np.testing.assert_allclose(near.jacobian(z), np.stack(slopes, -1), atol=1e-7)
        np.testing.assert_allclose(near(z)[:, :2], z)
        at_codes = near(codes)[:, 2] / np.sqrt(2)
        np.testing.assert_allclose((at_codes**-2).mean(), 0.1**-2 + 5.0**-2)
        assert near(z)[2, 2] == pytest.approx(5 * np.sqrt(2))
    off = [abs(np.linalg.norm(ways.curves, axis=-1) - 1).max() for ways in (found, line)]
    assert found.converged and off[0] < off[1] / 2 and found.lengths < found.straight / 2


def test_refused(backend: Any) -> None:
    d = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            p = backend.sample("p", d.Beta(backend.array(2.0), 3.0))
            backend.sample("x", d.Normal(p, 1.0), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("p", d.Beta(2.0 + 0 * x, 3.0))

    with backend.double_precision():
        run, x = backend.run(model, guide), np.array([0.4, 0.3])
        pullback, sphere = backend.evaluation.pullback, made(backend, "sphere")
        with pytest.raises(ValueError, match="latent of real numbers, but 'p' has the support"):
            pullback(run, x)
        run = backend.run(*g.pair(backend))
        with pytest.raises(ValueError, match=r"site must be one of the observed sites, \['x'\]"):
            pullback(run, X, site="y")
        with pytest.raises(ValueError, match="spread must be True or False"):
            pullback(run, X, spread=1)
        with pytest.raises(ValueError, match=r"z must be codes \(\*batch, 2\), got .* \(3,\)"):
            sphere.metric([1.0, 2.0, 3.0])
        with pytest.raises(ValueError, match="z must be finite numbers, got nan"):
            sphere.metric([np.nan, 2.0])
        with pytest.raises(ValueError, match=r"as many ends as beginnings, got \(2,\) and"):
            sphere.geodesics([0.0, 1.0], [[1.0, 1.0]])
        with pytest.raises(ValueError, match=r"curves must be codes \(\*batch, n \+ 1, 2\)"):
            sphere.length([0.0, 1.0])
        with pytest.raises(ValueError, match="num_steps must"):
            sphere.geodesics([0.0, 1.0], [1.0, 1.0], num_steps=1)
        with pytest.raises(ValueError, match=r"not finite at the code \[-1\.  2\.\]"):
            backend.evaluation.surface(backend.np.log, 2)([[0.5, 1.0], [-1.0, 2.0]])
        with pytest.raises(ValueError, match=r"not smooth at the code \[0\. 2\.\]"):
            backend.evaluation.surface(backend.np.sqrt, 2).metric([[0.5, 1.0], [0.0, 2.0]])
        with pytest.raises(ValueError, match=r"z must be codes \(n, 2\), got .* \(2, 3, 2\)"):
            sphere.distances(np.zeros((2, 3, 2)))
        for codes, options, sentence in (
            (np.ones((4, 3)), {}, r"codes must be codes \(\*batch, 2\), got"),
            (np.ones(2), {}, r"codes must be \(n, 2\), got shape \(2,\)"),
            (np.ones((4, 2)), {}, "num_centers must be an integer from 1 to 4, got 64"),
            (np.eye(2), {"num_centers": 2, "deviation": (2.0, 1.0)}, "must be a number above 2"),
            (np.eye(2), {"num_centers": 2, "deviation": 1.0}, "deviation must be two numbers"),
            (np.eye(2), {"num_centers": 2, "width": 0}, "width must be a positive number, got 0"),
            (0 * np.eye(2), {"num_centers": 1}, "f is the same at all codes: give deviation"),
        ):
            with pytest.raises(ValueError, match=sentence):
                sphere.near(codes, **options)
        bad = backend.evaluation.surface(lambda z: z.sum(), 2)
        with pytest.raises(ValueError, match=r"a row for each code, \(n, ...\) for codes \(1, 2\)"):
            bad([0.0, 1.0])
        with pytest.raises(ValueError, match="dim must be"):
            backend.evaluation.surface(lambda z: z, 0)
