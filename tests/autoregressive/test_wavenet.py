"""WaveNet: exact toys, what a step sees, draws from the ring buffer, contexts over time, twins."""

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

from dgm_core.causal import Ring, receptive_field
from dgm_core.contexts import Labels
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

LIBS = PyroLibrary(), NumPyroLibrary()
SMALL = {"channels": 3, "dilations": (1, 2), "activation": "tanh"}
# Name -> dim, family, its settings, settings of the network, and the shapes of a context.
CASES: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any], Any]] = {
    "codes": (8, "Categorical", {"num_classes": 5}, {"one_hot": True}, 0),
    "levels": (8, "DiscretizedLogisticMixture", {"num_levels": 9}, {"kernel_size": 3}, Labels(3)),
    "vectors": ((6, 2), "DiagonalNormal", {}, {}, ((3, 2), Labels(3), 2)),
    "mixture": (8, "LogisticMixture", {"num_components": 2}, {"kernel_size": 1}, (8, 2)),
}


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def nets(dim: Any, family: str, of_family: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
    """The same WaveNet in both libraries."""
    made = [
        lib.build(
            "conditionals",
            "WaveNet",
            dim,
            partial(getattr(lib.package.conditionals, family), **of_family),
            **settings,
        )
        for lib in LIBS
    ]
    return made[0], made[1]


def shaken(name: str, scale: float = 0.5) -> tuple[Any, Any]:
    dim, family, of_family, settings, context_shape = CASES[name]
    ours, theirs = nets(dim, family, of_family, **SMALL, **settings, context_shape=context_shape)
    shake(ours, scale=scale)
    return ours, copy_weights(ours, theirs)


def context_of(name: str, *batch: int) -> list[np.ndarray]:
    rng, shape = np.random.default_rng(1), CASES[name][-1]
    parts = shape if isinstance(shape, tuple) and not isinstance(shape, Labels) else (shape,)
    parts = (shape,) if parts and all(isinstance(part, int) for part in parts) else parts
    return [
        rng.integers(0, part[0], batch)
        if isinstance(part, Labels)
        else rng.standard_normal((*batch, *np.atleast_1d(part)))
        for part in parts
        if part
    ]


def values_of(name: str, *batch: int) -> np.ndarray:
    rng, (dim, family, *_) = np.random.default_rng(2), CASES[name]
    shape = (*batch, *np.atleast_1d(dim))
    if family == "Categorical":
        return rng.integers(0, 5, shape)
    if family == "DiscretizedLogisticMixture":
        return rng.integers(0, 9, shape) / 8
    return rng.standard_normal(shape)


def given(arrays: Any) -> tuple[Any, ...]:
    """The context as an argument: nothing, one array or a tuple of arrays."""
    return tuple(arrays) if len(arrays) < 2 else (tuple(arrays),)


def autoregression(coefficients: tuple[float, ...], steps: int, scale: float) -> tuple[Any, Any]:
    """x_t ~ Normal(sum_j a_j x_{t-j}, scale^2) as a WaveNet of one layer, whose kernel holds the
    coefficients; signals of size 1e-5 pass tanh as they are.
    """
    ours, theirs = nets(
        steps,
        "DiagonalNormal",
        {},
        channels=1,
        dilations=(1,),
        kernel_size=len(coefficients),
        activation="tanh",
    )
    small = 1e-5
    raw = np.log(np.expm1(scale - 1e-4)) - np.log(np.expm1(1 - 1e-4))
    weights = {
        "stack.input.weight": [[small]],
        "stack.blocks.0.conv.weight": [[coefficients[::-1]], [[0.0] * len(coefficients)]],
        "stack.skip.weight": [[2.0]],  # behind a gate that is half open
        "stack.output.weight": [[1.0]],
        "family.head.weight": [[1 / small], [0.0]],
        "family.head.bias": [0.0, raw],
    }
    torch = LIBS[0].torch
    with torch.no_grad():
        for path, parameter in ours.named_parameters():
            parameter.copy_(torch.as_tensor(np.array(weights.get(path, 0.0))))
    return ours, copy_weights(ours, theirs)


def exact_terms(x: np.ndarray, coefficients: tuple[float, ...], scale: float) -> np.ndarray:
    past = np.concatenate([np.zeros(len(coefficients)), x])
    mean = [np.dot(coefficients, past[t : t + len(coefficients)][::-1]) for t in range(len(x))]
    return -0.5 * ((x - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def test_receptive_fields() -> None:
    stack = [2**i for i in range(10)]
    assert receptive_field(2, stack) == 1024
    assert receptive_field(2, 3 * stack) == 3070
    assert receptive_field(3, stack) == 2047
    ours, theirs = shaken("levels")
    assert ours.receptive_field == theirs.receptive_field == 1 + 2 * (1 + 2)


@pytest.mark.parametrize(
    ("x", "coefficients", "scale"),
    [
        ([0.3, -1.0, 0.5, 2.0, 0.1], (0.6, -0.2), 1.0),
        ([0.7, 1.1, -0.4, 0.2, -1.5], (-0.3, 0.5, 0.25), 0.7),
    ],
)
def test_an_autoregression_is_scored_exactly(
    x: list[float], coefficients: tuple[float, ...], scale: float
) -> None:
    """The printed value, whose terms shift by one step where a network sees what it predicts."""
    terms = exact_terms(np.array(x), coefficients, scale)
    for lib, net in zip(LIBS, autoregression(coefficients, len(x), scale)):
        found = lib.numpy(lib.call(lambda x, net=net: net().log_prob(x), lib.array(np.array(x))))
        np.testing.assert_allclose(found, terms.sum(), atol=1e-8)
        assert net.receptive_field == len(coefficients)
    if scale == 1:
        np.testing.assert_allclose(
            terms, [-0.963939, -1.615139, -1.591739, -2.043939, -1.418939], atol=5e-7
        )
        np.testing.assert_allclose(found, -7.63369267, atol=1e-8)
        leaked = np.array(x) - np.convolve(x, coefficients)[: len(x)]
        assert -0.5 * (leaked**2 + np.log(2 * np.pi)).sum() == pytest.approx(-5.16149267)


@pytest.mark.parametrize("name", CASES)
def test_one_pass_and_step_by_step_draw_the_same(name: str) -> None:
    """From the same uniform numbers, in both libraries: classes and levels to the last bit."""
    drawn = []
    for lib, net in zip(LIBS, shaken(name)):
        draws = lib.package.conditionals.autoregressive.draws
        rng, num = np.random.default_rng(4), draws.num_uniforms(net.family)
        uniforms = rng.uniform(size=(2, 5, net.num_steps, net.size, num))

        def both(uniforms: Any, *context: Any, lib: Any = lib, net: Any = net) -> list[Any]:
            p = net(*given(context))
            return [p.sample_from(uniforms, cached=cached) for cached in (True, False)]

        found = lib.call(both, lib.array(uniforms), *map(lib.array, context_of(name, 5)))
        drawn += [lib.numpy(array) for array in found]
    assert np.ptp(drawn[0]) > 0
    for other in drawn[1:]:
        if name in ("codes", "levels"):
            np.testing.assert_array_equal(other, drawn[0])
        np.testing.assert_allclose(other, drawn[0], rtol=1e-10, atol=1e-10)


def test_steps_in_single_precision() -> None:
    """Draws see the features of quiet signals nearly as one pass does: a step of the Pyro twin has
    tanh from a sigmoid, whose rounding counts. (The steps of NumPyro call the gates of the pass.)
    """
    from pyro_dgm.nn.causal_steps import Steps

    lib, (steps, num) = LIBS[0], (16, 4)
    stack = lib.build(
        "nn", "CausalStack", 1, 32, steps, dilations=(1, 2, 4, 8), activation="tanh"
    ).float()
    with lib.torch.no_grad():
        for path, parameter in stack.named_parameters():
            parameter.mul_(not path.endswith("bias"))
        u = lib.array(0.01 * np.random.default_rng(0).standard_normal((num, steps, 1))).float()
        previous = lib.torch.cat([0 * u[:, :1], u[:, :-1]], 1)
        state = Steps(stack, None, num)
        found = lib.torch.stack([state(t, previous[:, t]) for t in range(steps)], 1)
        exact = stack.double()(u.double())
    assert (found - exact).norm() < 3e-5 * exact.norm()


@pytest.mark.parametrize("name", CASES)
def test_twins(name: str) -> None:
    """Log-densities and all gradients; each parameter learns."""
    context = context_of(name, 5)
    value = values_of(name, 5)

    def score(net: Any, *arrays: Any) -> Any:
        lib = LIBS[type(net).__module__.startswith("numpyro")]
        return net(*given(arrays)).log_prob(lib.array(value))

    gradients, _ = compare(LIBS, score, shaken(name), *context)
    for path, gradient in gradients.items():
        assert np.isfinite(gradient).all() and np.any(gradient), path


@pytest.mark.parametrize(("kernel_size", "dilations"), [(2, (1, 2, 4)), (3, (2, 1)), (1, (1, 1))])
def test_a_step_sees_all_of_its_receptive_field_and_nothing_else(
    kernel_size: int, dilations: tuple[int, ...]
) -> None:
    steps, settings = 12, {"channels": 4, "activation": "tanh", "dilations": dilations}
    made = [
        lib.build("nn", "CausalStack", 1, 4, steps, kernel_size=kernel_size, **settings)
        for lib in LIBS
    ]
    shake(made[0], scale=0.5)
    made[1] = copy_weights(*made)
    distance = np.subtract.outer(np.arange(steps), np.arange(steps))
    reach = receptive_field(kernel_size, dilations)
    taps = {0}
    for dilation in dilations:
        taps = {tap + j * dilation for tap in taps for j in range(kernel_size)}
    seen = np.isin(distance - 1, list(taps))
    assert max(taps) + 1 == reach
    u = np.random.default_rng(0).standard_normal((steps, 1))
    for lib, stack in zip(LIBS, made):
        jacobian = lib.jacobian(lambda u, stack=stack: (stack(u).sum(-1), u), lib.array(u))[0]
        np.testing.assert_array_equal(lib.numpy(jacobian)[..., 0] != 0, seen)


def test_probabilities_of_all_sequences_sum_to_one() -> None:
    ours, theirs = nets(4, "Categorical", {"num_classes": 3}, **SMALL)
    shake(ours, scale=1.0)
    every = np.array(list(product(range(3), repeat=4)))
    for lib, net in zip(LIBS, (ours, copy_weights(ours, theirs))):
        scores = lib.numpy(lib.call(lambda x, net=net: net().log_prob(x), lib.array(every)))
        assert np.ptp(scores) > 1
        assert np.exp(scores).sum() == pytest.approx(1.0, abs=1e-12)


def test_frames_hold_for_their_steps() -> None:
    """A frame moves the features of its own steps and of later ones only, and what it gives is what
    the same frame at every step gives.
    """
    rng = np.random.default_rng(0)
    for lib in LIBS:
        coarse = lib.build("nn", "CausalStack", 1, 3, 8, **SMALL, context_shape=(4, 2))
        fine = lib.build("nn", "CausalStack", 1, 3, 8, **SMALL, context_shape=(8, 2))
        u, c = rng.standard_normal((8, 1)), rng.standard_normal((4, 2))
        moved = c.copy()
        moved[2] += 1
        out, other, same = (
            lib.numpy(net(lib.array(u), lib.array(context)))
            for net, context in ((coarse, c), (coarse, moved), (fine, np.repeat(c, 2, 0)))
        )
        changed = (out != other).any(-1)
        assert changed.tolist() == [False] * 4 + [True] * 4
        np.testing.assert_allclose(out, same, atol=1e-12)


def test_the_ring_buffer_holds_what_is_needed() -> None:
    """A tap is read at the row where its step was written, which nothing has overwritten since."""
    ring, written = Ring(3, (1, 3, 2)), {}
    assert ring.rows == 2 * 6
    for t in range(30):
        for l, row in enumerate(ring.taps(t)):
            for tap, delay in zip(row, ring.delays[l]):
                assert written.get(tap, (l, t - delay)) == (l, t - delay) or t < delay
        written.update({row: (l, t) for l, row in enumerate(ring.slots(t))})


@pytest.mark.parametrize("lib", LIBS, ids=("pyro", "numpyro"))
def test_wrong_use_is_refused(lib: Any) -> None:
    def build(dim: Any, **settings: Any) -> Any:
        return lib.build("conditionals", "WaveNet", dim, **{**SMALL, **settings})

    with pytest.raises(ValueError, match=r"dim must be the steps, or \(steps, entries of a step\)"):
        build((2, 3, 4))
    with pytest.raises(ValueError, match=r"frames that divides the 8 steps: .*got \(3, 2\)"):
        build(8, context_shape=(3, 2))
    with pytest.raises(ValueError, match="dilations must be a non-empty sequence"):
        build(8, dilations=())
    with pytest.raises(ValueError, match="kernel_size must be an integer of at least 1, got 0"):
        build(8, kernel_size=0)
    with pytest.raises(
        ValueError, match=r"CausalStack expects \(\*batch, 8, 1\), got shape \(5, 7, 1\)"
    ):
        build(8).stack(lib.array(np.zeros((5, 7, 1))))
    with pytest.raises(ValueError, match=r"CausalConv expects \(\*batch, steps, 2\), got shape"):
        lib.build("nn", "CausalConv", 2, 3)(lib.array(np.zeros((5, 7, 1))))
