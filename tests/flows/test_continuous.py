"""Continuous flows: linear fields in closed form, straight paths between two normal distributions,
traces exact and estimated, and what is refused.
"""

from math import pi, sqrt
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from dgm_core.ode import Adaptive
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.flows.velocities import linear_velocity, straight_velocity, velocity
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

LINEAR = [
    (np.array([[0.1, -1.0], [1.4, -0.3]]), np.array([0.5, -1.0]), -2.65533206),
    (np.array([[-0.6, 0.2, 0.0], [0.9, 0.4, -0.3], [0.1, 0.0, 0.8]]), np.array([1, 0.3, -2]), None),
]


def flow(lib: Any, net: Any, dim: int, **settings: Any) -> Any:
    flows = lib.package.flows
    return flows.Flow(dim, [flows.ContinuousTransform(net, **settings)])


@pytest.mark.parametrize(("a", "x", "known"), LINEAR)
def test_linear_fields(lib: Any, x64: None, a: np.ndarray, x: np.ndarray, known: Any) -> None:
    """u = exp(-A) x, log |det| = -tr A, by fixed and adaptive steps; the Jacobian's square is that
    of A, the kinetic energy the integral along exp(A t) u.
    """
    u = expm(-a) @ x
    log_p = -0.5 * (u @ u) - 0.5 * len(x) * np.log(2 * pi) - np.trace(a)
    assert known is None or log_p == pytest.approx(known, abs=1e-8)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    speeds = [np.square(a @ expm(a * (1 + t) / 2) @ u).sum() for t in nodes]

    def found(x: Any) -> list[Any]:
        p = flow(lib, linear_velocity(lib, a), len(x), num_steps=40)()
        costs = p.transport_costs(x)
        noise, log_det = p.inverse_and_log_det(x)
        kept = p.log_prob(x)
        return [kept, noise, log_det, costs["kinetic"], costs["jacobian"]]

    ours = [np.asarray(lib.numpy(part)) for part in lib.call(found, lib.array(x))]
    wanted = [log_p, u, -np.trace(a), np.dot(weights, speeds) / 2, np.square(a).sum()]
    for one, other in zip(ours, wanted):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)
    if known is None:
        return
    library = "torchdiffeq" if hasattr(lib, "torch") else "diffrax"
    pytest.importorskip(library)
    adaptive = flow(lib, linear_velocity(lib, a), len(x), solver=Adaptive(1e-9, 1e-9))
    scored = lib.call(lambda x: adaptive().log_prob(x), lib.array(x))
    assert float(scored) == pytest.approx(log_p, abs=1e-6)


def test_straight_paths(lib: Any, x64: None) -> None:
    """From N(0, 1) to N(2, 1/4) and to N(-1, 3): the field, what Euler and Heun make of the
    standard deviation, and the least error of flow matching, sqrt(v) pi / 2.
    """
    known = {
        "euler": (0.0, 0.2, 0.34054054, 0.43078260, 0.49264548),
        "heun": (0.5, 0.48, 0.50483470, 0.50171991, 0.50002282),
    }
    points = ((0.5, 0.25, 2.0), (1.0, 0.5, 2.0), (2.0, 0.9, 2.11764706))
    net = straight_velocity(lib, 2.0, 0.25)
    for x, t, u in points:
        assert float(net(lib.array(np.array([x])), lib.array(np.array(t)))[0]) == pytest.approx(u)
    ends = lib.array(np.array([[0.0], [1.0]]))

    def spread(net: Any, **settings: Any) -> list[float]:
        stack = flow(lib, net, 1, **settings)
        x = lib.numpy(lib.call(lambda u: stack().forward_and_log_det(u)[0], ends))
        return [x[0, 0], x[1, 0] - x[0, 0]]

    for solver, sds in known.items():
        for steps, sd in zip((1, 2, 4, 10, 100), sds):
            found = spread(net, num_steps=steps, solver=solver)
            assert found == pytest.approx([2.0, sd], abs=1e-8)
    other = spread(straight_velocity(lib, -1.0, 3.0), num_steps=4, solver="euler")
    slopes = [(3 * t - (1 - t)) / ((1 - t) ** 2 + 3 * t**2) for t in (0.0, 0.25, 0.5, 0.75)]
    assert other == pytest.approx([-1.0, np.prod([1 + slope / 4 for slope in slopes])], abs=1e-8)
    for mean, variance in ((2.0, 0.25), (-1.0, 3.0)):
        net = straight_velocity(lib, mean, variance)
        rng = np.random.default_rng(0)
        data = lib.array(mean + sqrt(variance) * rng.standard_normal((20_000, 1)))
        for shift in (0.0, 0.3):
            moved = velocity(lib, lambda x, t, net=net, shift=shift: net(x, t) + shift)
            errors = lib.numpy(matched(lib, flow(lib, moved, 1), data))
            least = sqrt(variance) * pi / 2 + shift**2
            error = errors.std() / sqrt(len(errors))
            assert errors.mean() == pytest.approx(least, abs=4 * error), (mean, shift)


def matched(lib: Any, stack: Any, data: Any, **settings: Any) -> Any:
    """The errors of flow matching."""
    if hasattr(lib, "torch"):
        lib.torch.manual_seed(0)
        return stack().flow_matching(data, **settings)
    key = lib.jax.random.key(0)
    return lib.call(lambda x: stack().flow_matching(x, key=key, **settings), data)


def test_estimated_traces(lib: Any, x64: None) -> None:
    """Each probe of signs has the variance .16 on the first field, normal ones .36, without the
    antisymmetric part; the noise of a distribution stays, so that a draw and its score agree; from
    65 entries on the trace is estimated, up to 64 it is not.
    """
    a, x, known = LINEAR[0]
    net = linear_velocity(lib, a)
    many = flow(lib, net, 2, num_steps=10, num_probes=4000)
    error = lib.numpy(lib.call(lambda x: many.transforms[0].log_det_error(x), lib.array(x)))
    assert 4000 * error**2 == pytest.approx(0.16, rel=0.1)
    log_p = float(lib.numpy(lib.call(lambda x: many().log_prob(x), lib.array(x))))
    assert log_p == pytest.approx(known, abs=5 * error)
    assert log_p != pytest.approx(known, abs=1e-6)
    normal = np.random.default_rng(0).standard_normal((4000, 1, 2))
    traces = np.einsum("pni,ij,pnj->p", normal, a, normal)
    assert traces.var() == pytest.approx(0.36, rel=0.1)
    one = flow(lib, net, 2, num_steps=10, num_probes=1)

    def again(x: Any) -> list[Any]:
        p = one()
        draws, drawn = lib.draw_and_score(p, (5,))
        return [drawn, p.log_prob(draws + 0), p.log_prob(x), p.log_prob(x + 0)]

    drawn, scored, first, second = map(lib.numpy, lib.call(again, lib.array(x)))
    np.testing.assert_allclose(drawn, scored, atol=1e-5)
    assert first == pytest.approx(second)
    assert len({*np.round(drawn - scored.mean(), 9)}) == 5
    for size, exact in ((64, True), (65, False)):
        skew = np.triu(np.ones((size, size)), 1) * 0.01
        made = flow(lib, linear_velocity(lib, np.eye(size) * 0.1 + skew), size, num_steps=2)
        log_det = lib.numpy(
            lib.call(
                lambda x, made=made: made().inverse_and_log_det(x)[1], lib.array(np.zeros(size))
            )
        )
        assert bool(abs(log_det + 0.1 * size) < 1e-9) is exact


def test_twins_agree(x64: None) -> None:
    """Both directions of the network that is made, and all gradients."""
    libs = PyroLibrary(), NumPyroLibrary()
    modules = [
        lib.build(
            "flows",
            "ContinuousTransform",
            (3,),
            context_shape=2,
            hidden=(4,),
            num_steps=2,
            solver="midpoint",
        )
        for lib in libs
    ]
    ours = shake(modules[0])
    both = ours, copy_weights(ours, modules[1])
    assert repr(both[0]) == repr(both[1])
    assert all(type(module.net).__name__ == "TimeMLP" for module in both)
    assert not any(module.draws_noise for module in both)
    rng = np.random.default_rng(1)
    value, context = rng.standard_normal((2, 5, 3)), rng.standard_normal((5, 2))

    def there_and_back(module: Any, value: Any, context: Any) -> Any:
        x, out = module.forward_and_log_det(value, context)
        u, into = module.inverse_and_log_det(value, context)
        return 2 * into + 3 * out + (x**3).sum(-1) + (u**2).sum(-1)

    compare(libs, there_and_back, both, value, context)


def test_optimal_pairs(lib: Any, x64: None) -> None:
    """The assignment is the best of all permutations; errors fall, and the noise stays noise."""
    from itertools import permutations

    costs = np.random.default_rng(3).uniform(size=(5, 5))
    module = f"{lib.package.__name__}.nn.assignment"
    assignment = __import__(module, fromlist=["assignment"]).assignment
    found = lib.numpy(lib.call(assignment, lib.array(costs)))
    best = min(permutations(range(5)), key=lambda p: costs[range(5), p].sum())
    assert tuple(found.tolist()) == best
    still = flow(lib, velocity(lib, lambda x, t: x * 0), 2)
    data = lib.array(np.random.default_rng(1).standard_normal((64, 2)) + 3)
    alone, paired = (
        lib.numpy(matched(lib, still, data, coupling=coupling)).mean()
        for coupling in ("independent", "optimal")
    )
    assert 16 < paired < 18.5 < 20 < alone


def test_what_is_refused(lib: Any) -> None:
    flows = lib.package.flows
    two, three = lib.array(np.zeros((4, 2))), lib.array(np.zeros((4, 3)))
    narrow = velocity(lib, lambda x, t: x[..., :1])
    dropping = lib.build("nn", "MLP", 2, (3,), 2, dropout=0.5)
    normed = lib.build("nn", "MLP", 2, (3,), 2, batch_norm=True)
    made = lib.build("flows", "ContinuousTransform", 2, num_steps=1, hidden=(3,))
    still = flows.ContinuousTransform(velocity(lib, lambda x, t, c: x * 0), context_shape=1)
    given = flows.Flow(2, [still], context_shape=1, base=lib.package.conditionals.StandardNormal(2))
    calls: list[tuple[Any, str]] = [
        (lambda: made.forward_and_log_det(three), r"value must be an array \(\*batch, 2\), got"),
        (
            lambda: flow(lib, narrow, 2)().log_prob(two),
            r"with the shapes \(4, 2\), got \(4, 1\)",
        ),
        (lambda: flows.ContinuousTransform(dropping), "must be a function, .* has a Dropout"),
        (lambda: flows.ContinuousTransform(normed), "must be a function, .* has a BatchNorm"),
        (
            lambda: flow(lib, narrow, 2, num_steps=0),
            r"num_steps must be an integer of at least 1, got 0",
        ),
        (
            lambda: flows.Flow(2, [])().transport_costs(two),
            "needs a flow with a ContinuousTransform",
        ),
        (
            lambda: matched(lib, flows.Flow(2, [made, made]), two),
            r"one ContinuousTransform, got one with 2 among its 2 transforms",
        ),
        (
            lambda: matched(
                lib, lambda: given(lib.array(np.zeros((4, 1)))), two, coupling="optimal"
            ),
            "with a context the noise of a datum would no longer be",
        ),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_steps_that_are_too_few_are_said(lib: Any, x64: None) -> None:
    """In evaluation: log p of a fast rotation of squeezed values by 4 steps of the midpoint rule is
    off by nats, and a sentence says so; by 40 of RK4 it is not, and in training nothing is said.
    With a context, several batch dimensions and estimated traces as well.
    """
    a = np.array([[0.2, -9.0], [4.0, -0.1]])
    nn, rng = lib.package.nn, np.random.default_rng(0)
    x, shift = lib.array(rng.standard_normal((3, 20, 2))), lib.array(rng.standard_normal((20, 1)))
    turning = linear_velocity(lib, a)
    moved = velocity(lib, lambda x, t, c: turning(x, t) + c)
    settings = {"num_steps": 4, "solver": "midpoint"}
    coarse = flow(lib, turning, 2, **settings)
    given = lib.package.flows.Flow(
        2,
        [lib.package.flows.ContinuousTransform(moved, context_shape=1, num_probes=2, **settings)],
        context_shape=1,
        base=lib.package.conditionals.StandardNormal(2),
    )

    def scored(stack: Any, *context: Any) -> Any:
        with nn.evaluation_mode(stack):
            return lib.numpy(lib.call(lambda x: stack(*context).log_prob(x), x))

    exact = scored(flow(lib, turning, 2, num_steps=40))
    with pytest.warns(UserWarning, match="with 8 in place of 4 log-densities change by"):
        found = scored(coarse)
    assert np.abs(found - exact).mean() > 0.5
    with pytest.warns(UserWarning, match="solved with too few steps"):
        scored(given, shift)
    lib.call(lambda x: coarse().log_prob(x), x)  # without evaluation, as in training
