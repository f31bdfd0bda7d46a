"""Every autoregressive conditional: twins, caches, order, densities that sum to one, files."""

from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dgm_core.contexts import Labels
from pyro_dgm.conditionals.autoregressive.draws import num_uniforms
from tests.cases import AUTOREGRESSIVE
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.kinds import VALUES, Autoregressive, context_of
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import assert_all_learn, compare

EVERY = [
    pytest.param(case, shape, id=f"{name}-{'given' if shape else 'alone'}")
    for name, case in AUTOREGRESSIVE.items()
    for shape in case.contexts
]
FIRST = [p for p in EVERY if p.values[1] == p.values[0].contexts[-1]]


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def made(case: Autoregressive, context_shape: Any, **options: Any) -> Any:
    return shake(PyroLibrary().conditional(case, context_shape, **options)).double()


def given(context_shape: Any, *batch: int) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(2)
    return tuple(map(torch.as_tensor, context_of(rng, context_shape, *batch)))


@pytest.mark.parametrize(("case", "context_shape"), FIRST)
@pytest.mark.slow("map", "label", "several")
def test_twins(case: Autoregressive, context_shape: Any) -> None:
    """Densities with all their gradients, and draws from the same uniforms, with and without a
    prefix and a temperature, by caches and by a pass per step.
    """
    libs = PyroLibrary(), NumPyroLibrary()
    ours = made(case, context_shape)
    theirs = copy_weights(ours, libs[1].conditional(case, context_shape, seed=1))
    assert repr(ours) == repr(theirs)
    rng = np.random.default_rng(1)
    value, context = case.values(rng, 3, 5), context_of(rng, context_shape, 5)
    weights = rng.standard_normal((3, 5))

    def weighted(module: Any, value: Any, *context: Any) -> list[Any]:
        return [module(*context).log_prob(value) * libs[module is not ours].array(weights)]

    found = compare(libs, weighted, (ours, theirs), value, *context)
    assert_all_learn(*found, context_shape)
    p = ours(*map(torch.as_tensor, context)).expand((5,))
    q = theirs(*map(jnp.asarray, context)).expand((5,))
    shape = (5, ours.num_steps, ours.size, num_uniforms(ours.family))
    uniforms = np.random.default_rng(4).random(shape)
    rows = [slice(None)] * (1 + ours.prefix_axis) + [slice(2)]
    prefix = value[0][tuple(rows)]
    cold = p.sample_from(torch.as_tensor(uniforms), 0.7, torch.as_tensor(prefix))
    np.testing.assert_array_equal(cold[tuple(rows)], prefix)
    np.testing.assert_array_equal(
        q.sample_from(jnp.asarray(uniforms), 0.7, jnp.asarray(prefix)), cold
    )
    naive = p.sample_from(torch.as_tensor(uniforms), 0.7, torch.as_tensor(prefix), cached=False)
    np.testing.assert_array_equal(naive, cold)


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_draws_by_caches_equal_naive_ones(case: Autoregressive, context_shape: Any) -> None:
    module = made(case, context_shape)
    p = module(*given(context_shape, 4)).expand((3, 4))
    torch.manual_seed(0)
    x = p.sample((2,))
    assert x.shape == (2, 3, 4, *case.event_shape)
    assert torch.isfinite(p.log_prob(x)).all()
    uniforms = torch.rand(3, 4, module.num_steps, module.size, num_uniforms(module.family))
    draws = [p.sample_from(uniforms, cached=cached) for cached in (True, False)]
    assert torch.equal(*draws)
    assert len(draws[0].flatten(0, 1).unique(dim=0)) > 1


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's attention
@pytest.mark.parametrize(("case", "context_shape"), FIRST)
def test_densities_can_be_mapped_and_draws_say_that_they_cannot(
    case: Autoregressive, context_shape: Any
) -> None:
    module, context = made(case, context_shape), given(context_shape, 3)
    values = torch.as_tensor(case.values(np.random.default_rng(3), 3))

    def score(value: torch.Tensor, *context: torch.Tensor) -> torch.Tensor:
        return module(*context).log_prob(value)

    mapped = torch.func.vmap(score)
    torch.testing.assert_close(mapped(values, *context), score(values, *context))
    with pytest.raises(ValueError, match=r"^The value of .* has values outside its support\.$"):
        mapped(torch.full(values.shape, torch.nan), *context)
    with pytest.raises(NotImplementedError, match=r"^Draws of .*vmap cannot map: draw many at"):
        torch.func.vmap(lambda v: module(*context).sample() + v, randomness="different")(values)


@pytest.mark.parametrize(("case", "context_shape"), EVERY)
def test_the_increments_equal_one_pass(case: Autoregressive, context_shape: Any) -> None:
    """The features of every step, to 1e-10."""
    module = made(case, context_shape)
    values = module.to_steps(torch.as_tensor(case.values(np.random.default_rng(3), 4)))
    u = module.inputs(values)
    context = module(*given(context_shape, 4)).context
    found, previous = [], torch.zeros_like(u[:, 0])
    with torch.no_grad():
        state = module.begin(context, 4)
        for index in range(module.num_steps):
            if index % module.block == 0:
                state = module.enter(state, index // module.block, previous)
            h, state = module.advance(state, index, previous)
            found.append(h)
            previous = u[:, index]
        wanted = module.features(u, context)
    torch.testing.assert_close(torch.stack(found, 1), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("case", "context_shape"), FIRST)
def test_the_order_is_strict_and_complete(case: Autoregressive, context_shape: Any) -> None:
    """The features of a step depend on the steps before it only, and on all of them, where there is
    no blind spot.
    """
    module = made(case, context_shape)
    context = module(*given(context_shape, 1)).context
    rng = np.random.default_rng(3)
    values = torch.as_tensor(case.values(rng, 1))
    u = module.inputs(module.to_steps(values))
    noise = torch.as_tensor(0.1 * rng.standard_normal(u.shape))
    jacobian = torch.autograd.functional.jacobian(
        lambda u: module.features(u, context)[0], u + noise
    )
    seen = (jacobian != 0).any(1).any(-1)[:, 0]  # (step, step before)
    before = torch.ones_like(seen).tril(-1)
    assert not (seen & ~before).any()
    if not case.blind:
        assert torch.equal(seen, before)


@pytest.mark.parametrize(("case", "context_shape"), [p for p in EVERY if p.values[0].levels])
def test_the_sum_over_all_values_is_one(case: Autoregressive, context_shape: Any) -> None:
    small = context_shape
    if isinstance(small, tuple) and len(small) == 3:  # a map has the pixels of the image
        small = (small[0], *case.small[0][1:])
    module = made(case, small, small=True)
    entries = int(np.prod(module.event_shape))
    every = np.array(list(product(range(case.levels), repeat=entries)))
    if case.support != "classes":
        every = every / (case.levels - 1)
    value = torch.as_tensor(every.reshape(-1, *module.event_shape))
    assert every.max() == VALUES[case.support](np.random.default_rng(0), (99,)).max()
    total = module(*given(small)).log_prob(value).exp().sum().item()
    assert abs(total - 1) < 1e-12


@pytest.mark.parametrize("dim", [(1, 1, 1), (2, 1, 1), (1, 1, 5), (1, 5, 1), (3, 2, 1)])
def test_images_of_one_row_column_or_pixel(dim: tuple[int, int, int]) -> None:
    """Also where the kernel is larger than the image, and of one layer: the sum over all images is
    one, given contexts of three kinds, and draws by caches are the naive ones.
    """
    torch.manual_seed(0)
    lib = PyroLibrary()
    shape, images = ((2, *dim[1:]), 3, Labels(2)), list(product((0.0, 1.0), repeat=prod(dim)))
    value = torch.as_tensor(images).double().reshape(-1, *dim)
    context = torch.randn(2, *dim[1:]), torch.randn(3), torch.tensor(1)
    for name, settings in (
        ("GatedPixelCNN", {"num_layers": 2, "kernel_size": 7}),
        ("PixelCNN", {"num_layers": 1}),
        ("PixelCNN", {"num_layers": 3, "kernel_size": 5}),
        ("PixelCNNPlusPlus", {"num_layers": 1, "num_scales": 3}),
        ("PixelSNAIL", {"num_layers": 2, "num_blocks": 1}),
    ):
        settings |= {"hidden_channels": 6, "context_shape": shape}
        net = lib.build("conditionals", name, dim, lib.package.conditionals.Bernoulli, **settings)
        p = shake(net).double()(context)
        assert abs(p.log_prob(value).exp().sum().item() - 1) < 1e-12, net
        uniforms = torch.rand(3, net.num_steps, net.size, 1)
        prefix = p.sample_from(uniforms)[..., :1, :]
        for options in ({}, {"temperature": 0.6, "prefix": prefix}):
            draws = [p.sample_from(uniforms, **options, cached=cached) for cached in (True, False)]
            assert torch.equal(*draws), net


@pytest.mark.parametrize(("case", "context_shape"), FIRST)
@pytest.mark.slow("map", "label")
def test_files_and_captured_graphs(
    case: Autoregressive, context_shape: Any, tmp_path: Path
) -> None:
    lib = PyroLibrary()
    module, other = made(case, context_shape), lib.conditional(case, context_shape, seed=2).double()
    lib.save(module, tmp_path / "weights")
    restored = lib.load(other, tmp_path / "weights")
    value = torch.as_tensor(case.values(np.random.default_rng(3), 4))
    context = given(context_shape, 4)

    def score(module: Any, value: Any, *context: Any) -> Any:
        return module(*context).log_prob(value)

    wanted = score(module, value, *context)
    assert torch.equal(score(restored, value, *context), wanted)
    torch.testing.assert_close(lib.exported(score, module, value, *context), wanted)


@pytest.mark.parametrize("lib", [PyroLibrary(), NumPyroLibrary()], ids=["pyro", "numpyro"])
@pytest.mark.slow("numpyro")
def test_wrong_use_is_refused(lib: Any) -> None:
    build = lib.build
    with pytest.raises(ValueError, match=r"expected \(channels, 4, 6\), got \(3, 4, 5\)"):
        build("conditionals", "GatedPixelCNN", (1, 4, 6), context_shape=(3, 4, 5))
    with pytest.raises(ValueError, match="kernel_size must be an odd integer"):
        build("conditionals", "GatedPixelCNN", (1, 4, 6), kernel_size=4)
    with pytest.raises(ValueError, match="num_layers must be an integer of at least 2"):
        build("conditionals", "GatedPixelCNN", (1, 4, 6), num_layers=1)
    with pytest.raises(ValueError, match="a multiple of the 3 channels of the image, got 32"):
        build("conditionals", "PixelCNN", (3, 4, 6))
    with pytest.raises(ValueError, match="kind must be one of 'A', 'B', got 'C'"):
        build("nn", "MaskedConv2d", 1, 1, kind="C")
    for net in (build("nn", "MaskedConv2d", 2, 1), build("nn", "PixelStacks", 2, 2, 2, 1)):
        with pytest.raises(ValueError, match="expects a last dimension of 2"):
            net(lib.array(np.zeros((5, 3, 3, 3))))
        assert net(lib.array(np.zeros((5, 2, 3, 3, 2)))).shape == (5, 2, 3, 3, 1)
    with pytest.raises(ValueError, match="groups must divide the channels 4 and 3, got 2"):
        build("nn", "MaskedConv2d", 4, 3, groups=2)
    pixels = build("conditionals", "GatedPixelCNN", (1, 4, 6), hidden_channels=2, num_layers=2)
    with pytest.raises(ValueError, match="Bernoulli expects values 0 and 1"):
        pixels().log_prob(lib.array(np.full((1, 4, 6), 0.5)))


@pytest.mark.parametrize("lib", [PyroLibrary(), NumPyroLibrary()], ids=["pyro", "numpyro"])
def test_a_critic_cannot_train_it_through_its_draws(lib: Any) -> None:
    """Pixels that are drawn one after the other have no gradient."""
    pixels = lib.build("conditionals", "GatedPixelCNN", (1, 2, 3), hidden_channels=2, num_layers=2)
    x, losses = lib.array(np.ones((4, 1, 2, 3))), lib.package.losses

    def model(x: Any) -> None:
        net = lib.package.nn.register("pixels", pixels)
        with lib.plate("data", 4):
            lib.sample("x", net(), obs=x)

    settings = {"compile": False} if isinstance(lib, PyroLibrary) else {}
    with pytest.raises(ValueError, match=r"'x' .* is not reparameterized"):
        lib.package.fit(
            model, None, x, loss=losses.JensenShannon("x"), num_steps=1, progress=False, **settings
        )
