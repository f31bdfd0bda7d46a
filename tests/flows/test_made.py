"""Masked networks: who sees whom, and the two-way solution with its gradients beside the usual
inverse, which takes one pass per coordinate.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import close, compare

# dim, hidden, context_shape, the seed of the order (None: natural), activation
NETWORKS: dict[str, tuple[int, tuple[int, ...], int, int | None, str]] = {
    "one coordinate": (1, (3,), 0, None, "relu"),
    "one coordinate given": (1, (3,), 2, None, "tanh"),
    "no hidden layer": (4, (), 0, 0, "relu"),
    "no hidden layer given": (4, (), 2, None, "relu"),
    "fewer units than coordinates": (5, (2,), 0, 1, "relu"),
    "fewer units given": (5, (2, 7), 2, None, "gelu"),
    "unequal blocks": (7, (11, 20, 9), 3, 2, "silu"),
    "several blocks": (37, (50, 41), 0, 3, "relu"),
    "several blocks given": (37, (50, 20), 2, None, "tanh"),
}
EACH = [pytest.param(*settings, id=name) for name, settings in NETWORKS.items()]
SMALL = [
    pytest.param(*settings, id=name) for name, settings in NETWORKS.items() if settings[0] < 10
]


def order_of(dim: int, seed: int | None) -> list[int]:
    return (
        list(range(dim)) if seed is None else np.random.default_rng(seed).permutation(dim).tolist()
    )


def network(
    lib: Any,
    dim: int,
    hidden: tuple[int, ...],
    context_shape: int,
    seed: int | None,
    activation: str,
) -> Any:
    """A MADE with two parameters per coordinate and weights that are nothing special, the same in
    both libraries.
    """
    settings = {
        "hidden": hidden,
        "context_shape": context_shape,
        "order": order_of(dim, seed),
        "activation": activation,
    }
    source = shake(
        PyroLibrary().build("flows", "MADE", dim, 2, **settings),
        scale=1.0 / max(dim, *hidden, 1) ** 0.5,
    )
    return (
        source
        if isinstance(lib, PyroLibrary)
        else copy_weights(source, lib.build("flows", "MADE", dim, 2, **settings))
    )


def values(dim: int, context_shape: int) -> list[np.ndarray]:
    """Values (3, 5, dim), and a context (5, context_shape), if there is one."""
    rng = np.random.default_rng(5)
    return [
        rng.standard_normal((3, 5, dim)),
        *([rng.standard_normal((5, context_shape))] if context_shape else []),
    ]


def usual_inverse(
    made: Any, w: Any, scalar: Any, order: list[int], *context: Any
) -> tuple[Any, Any]:
    """v and log |det dv/dw|: one whole pass for each coordinate."""
    v = 0 * w
    for i in order:
        new = scalar.invert(w, made(v, *context))[0]
        here = np.arange(w.shape[-1]) == i
        v = (
            torch.where(torch.as_tensor(here), new, v)
            if isinstance(w, torch.Tensor)
            else jnp.where(here, new, v)
        )
    return v, -scalar(v, made(v, *context))[1].sum(-1)


def total(v: Any, log_det: Any) -> Any:
    """One number per value, with another gradient for each coordinate."""
    return sum((i + 1) * v[..., i] ** 2 for i in range(v.shape[-1])) + log_det**2


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("dim", "hidden", "context_shape", "seed", "activation"), SMALL)
def test_parameters_depend_on_what_comes_before(
    lib: Any,
    dim: int,
    hidden: tuple[int, ...],
    context_shape: int,
    seed: int | None,
    activation: str,
) -> None:
    """On nothing else, and on all of it where there are units enough; on the context always."""
    made = network(lib, dim, hidden, context_shape, seed, "tanh")  # no unit is off
    rank = np.argsort(order_of(dim, seed))
    point = np.random.default_rng(0).standard_normal(dim + context_shape)

    def parameters(x: Any) -> tuple[Any, Any]:
        return made(x[:dim], *([x[dim:]] if context_shape else [])), 0.0

    seen = np.any(lib.numpy(lib.jacobian(parameters, lib.array(point))[0]) != 0, 1)
    before = rank[:, None] > rank
    assert not np.any(seen[:, :dim] & ~before)
    assert np.all(seen[:, dim:])
    if min((*hidden, dim)) >= dim:
        assert np.array_equal(seen[:, :dim], before)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("dim", "hidden", "context_shape", "seed", "activation"), EACH)
def test_solution_and_its_gradients(
    dim: int, hidden: tuple[int, ...], context_shape: int, seed: int | None, activation: str
) -> None:
    """Equal to the usual inverse, differentiated automatically, in all weights, values and
    contexts, at 1e-10; and the twins are equal.
    """
    libs = PyroLibrary(), NumPyroLibrary()
    modules = [network(lib, dim, hidden, context_shape, seed, activation) for lib in libs]
    arrays = values(dim, context_shape)

    def solved(made: Any, w: Any, *context: Any) -> Any:
        return total(*made.solve(w, libs[made is not modules[0]].package.flows.Affine(), *context))

    def usual(made: Any, w: Any, *context: Any) -> Any:
        return total(
            *usual_inverse(made, w, libs[0].package.flows.Affine(), order_of(dim, seed), *context)
        )

    inputs = [libs[0].array(a) for a in arrays]
    (ours, by_weights, by_inputs), (theirs, by_their_weights, by_their_inputs) = (
        libs[0].values_and_gradients(function, modules[0], *inputs) for function in (solved, usual)
    )
    close(ours, theirs)
    for path in by_weights:
        close(by_weights[path], by_their_weights[path], path)
    for one, other in zip(by_inputs, by_their_inputs):
        close(one, other)
    compare(libs, solved, tuple(modules), *arrays)


@pytest.mark.parametrize(("dim", "hidden", "context_shape", "seed", "activation"), EACH)
def test_round_trip_in_single_precision(
    lib: Any,
    dim: int,
    hidden: tuple[int, ...],
    context_shape: int,
    seed: int | None,
    activation: str,
) -> None:
    made, scalar = (
        network(lib, dim, hidden, context_shape, seed, activation),
        lib.package.flows.Affine(),
    )

    def run(w: Any, *context: Any) -> list[Any]:
        v, log_det = made.solve(w, scalar, *context)
        back, log_slope = scalar(v, made(v, *context))
        return [back, log_det, log_slope.sum(-1)]

    w, *context = map(lib.array, values(dim, context_shape))
    back, log_det, log_slope = map(lib.numpy, lib.call(run, w, *context))
    np.testing.assert_allclose(back, lib.numpy(w), atol=1e-5)
    np.testing.assert_allclose(log_det, -log_slope, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Autoregressive", "BlockAutoregressive"])
def test_derivatives_of_any_order_and_mode_in_jax(name: str) -> None:
    """Hessians by forward and reverse mode, under vmap, beside those of an inverse without rules of
    its own.
    """
    lib = NumPyroLibrary()
    transform = lib.shaken(
        lib.build(
            "flows",
            name,
            3,
            hidden=(4,),
            **({"activation": "tanh"} if name == "Autoregressive" else {}),
        ),
        0.3,
    )
    w = jnp.array([[0.3, -0.8, 1.1], [-0.2, 0.5, 2.0]])

    def score(w: jax.Array) -> jax.Array:
        return total(*transform.inverse_and_log_det(w))

    def reference(w: jax.Array) -> jax.Array:
        """By Newton steps from the solution, each of which makes one more order of derivatives
        right.
        """
        u = jax.lax.stop_gradient(transform.inverse_and_log_det(w)[0])
        for _ in range(2):
            jacobian = jax.jacfwd(lambda u: transform.forward_and_log_det(u)[0])(u)
            u = u - jnp.linalg.solve(jacobian, transform.forward_and_log_det(u)[0] - w)
        return total(u, -transform.forward_and_log_det(u)[1])

    modes = (
        jax.jacfwd(jax.jacfwd(reference)),
        jax.jacfwd(jax.jacfwd(score)),
        jax.jacfwd(jax.jacrev(score)),
        jax.jacrev(jax.jacrev(score)),
    )
    expected, *found = lib.call(lambda w: [jax.vmap(mode)(w) for mode in modes], w)
    for hessian in found:
        close(expected, hessian)


@pytest.mark.parametrize("name", ["Autoregressive", "BlockAutoregressive"])
def test_second_derivatives_are_refused_in_torch(name: str) -> None:
    """Rather than wrong; where none are asked for, gradients that could be differentiated are as
    good as others.
    """
    transform = PyroLibrary().build("flows", name, 3, hidden=(4,))
    w = torch.ones(3, requires_grad=True)
    gradients = [
        torch.autograd.grad(transform.inverse_and_log_det(w)[0].sum(), w, create_graph=again)[0]
        for again in (False, True)
    ]
    assert torch.equal(*gradients)
    with pytest.raises(RuntimeError, match="cannot be differentiated again in torch"):
        (gradients[1] ** 2).sum().backward()


def test_arithmetic_is_that_of_one_pass() -> None:
    """Multiplications, of a solution and of its gradients, beside those of the fast direction."""
    made = network(PyroLibrary(), 64, (256, 256), 0, None, "relu")
    scalar = PyroLibrary().package.flows.Affine()
    x = torch.zeros(10, 64)

    def counted(solve: bool, gradients: bool) -> int:
        with FlopCounterMode(display=False) as counter:
            value = made.solve(x, scalar)[0] if solve else made(x)
            if gradients:
                value.sum().backward()
        return counter.get_total_flops()

    assert counted(True, False) < counted(False, False)
    assert counted(True, True) < 1.3 * counted(False, True)


def test_mixtures_are_mixtures(lib: Any, x64: None) -> None:
    """The density of MAFMoG with one layer is the product of mixtures of normal distributions."""
    flow = lib.shaken(
        lib.build("flows", "MAFMoG", 3, num_layers=1, num_components=4, hidden=(8,)), 0.5
    )
    x = np.random.default_rng(0).standard_normal((6, 3))
    layer = flow.transforms[0].transform
    log_prob, *components = map(
        lib.numpy,
        lib.call(
            lambda x: (flow().log_prob(x), *layer.scalar._components(layer.made(x))), lib.array(x)
        ),
    )
    logits, m, s = components
    densities = np.exp(logits - 0.5 * ((x[..., None] - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(log_prob, np.log(densities.sum(-1)).sum(-1), rtol=1e-10)
    np.testing.assert_allclose(np.exp(logits).sum(-1), 1.0)


def test_costs_in_words(lib: Any) -> None:
    flows = lib.package.flows
    for scalar, cost in (
        (flows.Affine(), "one pass in 5 steps"),
        (flows.MixtureCDF(2), "one pass in 5 steps of root search"),
    ):
        layer = lib.build("flows", "Autoregressive", 5, scalar, hidden=(4,))
        assert (layer.forward_cost, layer.inverse_cost) == ("one pass", cost)


def test_flows_start_near_the_identity(lib: Any) -> None:
    x = np.random.default_rng(0).standard_normal((50, 4))
    for name in ("MAF", "IAF", "AutoregressiveNSF"):
        u, log_det = lib.call(
            lib.build("flows", name, 4, num_layers=2)().inverse_and_log_det, lib.array(x)
        )
        assert np.abs(lib.numpy(u) - x).max() < 0.2
        assert 0 < np.abs(lib.numpy(log_det)).max() < 0.2
