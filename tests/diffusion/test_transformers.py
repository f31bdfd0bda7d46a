"""The transformer of a time: equal in both libraries at 1e-10, what its tokens are and see, in
diffusions whose densities are known, and attention that is differentiated twice or forwards.
"""

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from dgm_core.contexts import Labels
from dgm_core.diffusion import VP
from pyro_dgm.losses.scores.score_matching import denoising
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.diffusion.test_terms import built
from tests.diffusion.toys import drawn
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import assert_all_learn, compare

LIBRARIES = PyroLibrary(), NumPyroLibrary()
EACH = pytest.mark.parametrize("lib", LIBRARIES, ids=["pyro", "numpyro"])
SMALL = {"width": 8, "num_heads": 2}
NETS: tuple[tuple[Any, int, dict[str, Any]], ...] = (
    ((2, 4, 6), 2, {"out_dim": (4, 4, 6), "context_shape": (2, Labels(3))}),
    ((4, 3), 2, {"num_layers": 1}),
    (3, 1, {"num_layers": 1, "out_dim": 6}),
)


def nets(lib: Any, seed: int) -> list[Any]:
    return [
        lib.build("nn", "TimeTransformer", dim, size, seed=seed, **SMALL, **settings)
        for dim, size, settings in NETS
    ]


@pytest.mark.slow
def test_both_libraries_agree(x64: None) -> None:
    """Images, sequences and vectors; batches of value, time and contexts broadcast."""
    rng = np.random.default_rng(0)
    ours = shake(LIBRARIES[0].torch.nn.ModuleList(nets(LIBRARIES[0], 0)))
    theirs = copy_weights(ours, nets(LIBRARIES[1], 1))
    shapes = (2, 2, 4, 6), (2,), (3, 1, 2), (2, 4, 3), (5, 3)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    labels, weights = np.array([0, 2]), rng.standard_normal((3, 2, 4, 4, 6))

    def run(made: Any, x: Any, t: Any, vector: Any, rows: Any, flat: Any) -> Any:
        lib = LIBRARIES[made is not ours]
        out = made[0](x, t, (vector, lib.array(labels)))
        assert tuple(out.shape) == (3, 2, *made[0].out_shape)
        others = made[1](rows, t), made[2](flat, 0.3)
        total = (out * lib.array(weights)).sum() + sum((part**3).sum() for part in others)
        return [total, out, *others]

    assert_all_learn(*compare(LIBRARIES, run, (ours, theirs), *arrays), ())
    assert [*map(repr, ours)] == [*map(repr, theirs)]


def test_a_token_is_a_patch_and_sees_all(x64: None) -> None:
    """It begins as zero; with the gates shut a patch depends on itself alone, then on all."""
    torch, rng = LIBRARIES[0].torch, np.random.default_rng(1)
    net = LIBRARIES[0].build("nn", "TimeTransformer", (1, 4, 6), 2, **SMALL)
    x = torch.as_tensor(rng.standard_normal((1, 4, 6))).repeat(2, 1, 1, 1)
    x[1, 0, 3, 2] += 1.0  # in the patch of rows 2 and 3, columns 2 and 3

    def moved() -> np.ndarray:
        with torch.no_grad():
            return np.ptp(net(x, 0.3).numpy(), axis=0)[0]

    with torch.no_grad():
        assert not net(x, 0.3).any()
    shake(net.output)
    alone = moved()
    assert (alone[2:, 2:4] > 1e-3).all() and np.count_nonzero(alone > 1e-12) == 4
    shake(net.blocks[0].modulation)
    assert (moved() > 1e-9).all()


@EACH
@pytest.mark.slow("numpyro")
def test_what_does_not_fit_is_refused(lib: Any) -> None:
    build = partial(lib.build, "nn", "TimeTransformer")
    net = build((1, 4, 6), 2, width=4, num_layers=1)
    for call, sentence in (
        (lambda: build((1, 4, 6), 4), "patch_size must be a divisor of height and width"),
        (lambda: build((4, 3), 3), r"patch_size must be a divisor of 4, the first size of values"),
        (lambda: build((1, 2, 3, 4)), r"or \(channels, height, width\) of an image, got"),
        (lambda: build(4, width=6), "num_heads must be a divisor of width=6, got 4"),
        (lambda: build(4, out_dim=6), r"dim, \(4,\), or a multiple of it along the first axis"),
        (lambda: build(4, time=3), "the features of a time or None"),
        (lambda: net(lib.array(np.zeros((2, 4, 6, 1))), 0.5), "channels before height and width"),
        (lambda: net(lib.array(np.zeros((2, 1, 4, 6))), lib.array(np.zeros(3))), "one for each"),
        (lambda: net(lib.array(np.zeros((2, 1, 4, 6))), 0.5, 3), "takes no context, got"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


def test_attention_is_differentiated_forwards_and_twice(x64: None) -> None:
    """In Pyro, whose fused kernels of attention are not: traces for densities along a flow, and
    gradients of slopes for score matching."""
    torch = LIBRARIES[0].torch
    net = shake(nets(LIBRARIES[0], 0)[1])
    x = torch.as_tensor(np.random.default_rng(2).standard_normal((2, 4, 3)))
    with torch.no_grad():
        value, trace = LIBRARIES[0].package.nn.jacobian_trace(lambda x: net(x, 0.3), x, event_dim=2)
        torch.testing.assert_close(value, net(x, 0.3))
        for row, found in zip(x, trace):
            jacobian = torch.autograd.functional.jacobian(lambda x: net(x, 0.3), row)
            torch.testing.assert_close(found, jacobian.reshape(12, 12).trace())
    weight, step = net.input.weight, 1e-5

    def cost() -> Any:
        return denoising(lambda x: -(net(x, 0.3) ** 2).sum((1, 2)), x, torch.ones_like(x), 0.5)

    cost().sum().backward()
    costs = []
    for change in (step, -2 * step, step):
        with torch.no_grad():
            weight[0, 0] += change
        costs.append(float(cost().sum().detach()))
    assert (costs[0] - costs[1]) / 2 / step == pytest.approx(float(weight.grad[0, 0]), rel=1e-6)


@pytest.mark.slow
def test_two_classes_of_normals(backend: Any) -> None:
    """Given its label each density is learned to .05 nats; guidance moves draws apart."""
    rng, means = np.random.default_rng(0), np.array([[0.8, 0.5], [-0.8, 0.5]])
    root = np.array([[0.6, 0.0], [0.4, 0.3]])
    y = rng.integers(0, 2, 4_400)
    noise = rng.standard_normal((4_400, 2))
    x = means[y] + noise @ root.T
    true = (-(noise**2) / 2).sum(1) - np.log(2 * np.pi * 0.18)
    settings = {"predict": "velocity", "schedule": VP(100), "drop_context": 0.1, "ode_steps": 10}
    transformer = built(
        backend, "nn", "TimeTransformer", 2, width=16, num_heads=2, num_layers=1, context_shape=2
    )
    net = built(
        backend, "conditionals", "Diffusion", 2, transformer, context_shape=Labels(2), **settings
    )
    net = trained(backend, net, x[:4_000], y[:4_000])

    def run(how: Any) -> list[Any]:
        labels = backend.np.asarray(y[4_000:])
        scores = net(labels).log_prob(backend.array(x[4_000:]))
        fast = {"method": "ddim", "num_steps": 20}
        draws = [p.sample(*how.values(), **fast) for p in (net(labels), net.guided(labels, w=2.0))]
        return [scores, *draws]

    scores, plain, guided = drawn(backend, run)
    assert abs((true[4_000:] - scores).mean()) < 0.05
    sides = [[d[y[4_000:] == k].mean(0) for k in (0, 1)] for d in (plain, guided)]
    np.testing.assert_allclose(sides[0], means, atol=0.15)
    assert sides[1][0][0] - sides[1][1][0] > 1.2 * (sides[0][0][0] - sides[0][1][0])


def trained(backend: Any, net: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """A diffusion given labels after 800 steps."""
    nn = import_module(f"{backend.name}_dgm.nn")

    def model(x: Any, y: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("x", nn.register("net", net)(y), obs=x)

    run = import_module(f"{backend.name}_dgm").fit(
        model,
        None,
        (x, y),
        loss=backend.losses.DenoisingError("x"),
        optim=nn.Adam(3e-3),
        batch_size=200,
        num_steps=800,
        average=0.99,
        lr_schedule=lambda step: 1.0 - step / 900,
        progress=False,
    )
    if backend.name == "pyro":
        return net.eval()
    return backend.numpyro.handlers.substitute(lambda: nn.register("net", net), data=run.params)()
