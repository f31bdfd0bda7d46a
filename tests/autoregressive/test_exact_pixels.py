"""Images with known probabilities: one masked convolution, blind spots, coupled channels, tails."""

from functools import partial
from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dgm_core.pixels import blind_spot
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary

LIBS = [PyroLibrary(), NumPyroLibrary()]
BOTH = pytest.mark.parametrize("lib", LIBS, ids=["pyro", "numpyro"])


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def score(lib: Any, made: Any, value: np.ndarray) -> np.ndarray:
    """Log-densities of values in the distribution that `made` makes."""
    return lib.numpy(lib.call(lambda value: made().log_prob(value), lib.array(value)))


def with_arrays(lib: Any, module: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The module with some parameters, by path."""
    if isinstance(lib, PyroLibrary):
        module = module.double()
        for path, value in arrays.items():
            module.get_parameter(path).data = torch.as_tensor(value)
        return module
    from tests.twins.copying import leaf_at

    for path, value in arrays.items():
        module = lib.eqx.tree_at(leaf_at(path), module, lib.array(value))
    return module


TAPS = {(0, 0): 0.5, (0, 1): -1.0, (0, 2): 0.25, (1, 0): 2.0}  # NW, N, NE, W
X = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])[None]


def one_convolution(lib: Any, taps: dict[tuple[int, int], float], bias: float = -0.3) -> Any:
    """logit = bias + the taps: relu(t) - relu(-t), a layer of type A with two channels."""
    pixels = lib.build(
        "conditionals", "PixelCNN", (1, 3, 3), hidden_channels=2, num_layers=1, kernel_size=3
    )
    weight = np.zeros((3, 3, 1, 2))
    for place, value in taps.items():
        weight[place] = value, -value
    arrays = {
        "convolutions.0.weight": weight,
        "convolutions.0.bias": np.zeros(2),
        "family.head.weight": np.array([[1.0, -1.0]]),
        "family.head.bias": np.array([bias]),
    }
    return with_arrays(lib, pixels, arrays)


@BOTH
def test_one_masked_convolution(lib: Any) -> None:
    pixels = one_convolution(lib, TAPS)
    every = np.array(list(product([0.0, 1.0], repeat=9))).reshape(-1, 1, 3, 3)
    scores = score(lib, pixels, every)
    p = np.exp(scores)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(-(p * scores).sum(), 5.36545514, atol=5e-9)
    found = score(lib, pixels, X)
    np.testing.assert_allclose(found, -7.22263849, atol=5e-9)
    logits = pixels.family.head(
        pixels.features(pixels.inputs(pixels.to_steps(lib.array(X[None]))), None)
    )
    wanted = [-0.3, 1.7, -0.3, -1.3, 0.45, 0.7, -0.05, 0.95, 1.2]
    np.testing.assert_allclose(lib.numpy(logits)[0, :, 0], wanted, atol=1e-12)
    marginals = np.einsum("n,nij->ij", p, every[:, 0])
    known = [
        [0.425557, 0.604282, 0.679342],
        [0.366955, 0.535468, 0.577870],
        [0.376204, 0.542478, 0.593714],
    ]
    np.testing.assert_allclose(marginals, known, atol=5e-7)
    given = every[:, 0, 0, 0] == 1
    np.testing.assert_allclose(
        (p * given * every[:, 0, 2, 2]).sum() / (p * given).sum(), 0.59480647, atol=5e-9
    )
    # A kernel that is flipped, as in a true convolution, gives the density of the image turned
    # around: a distribution too, so no sum finds that mistake.
    turned = np.ascontiguousarray(X[:, ::-1, ::-1])
    np.testing.assert_allclose(score(lib, pixels, turned), -7.49667486, atol=5e-9)


@BOTH
def test_a_first_layer_of_type_b_is_no_distribution(lib: Any) -> None:
    """The sum over all images finds it: 7.9080014 with a weight of 1.5 on the pixel itself."""
    layer = lib.build("nn", "MaskedConv2d", 1, 1, kind="B")
    weight = np.zeros((3, 3, 1, 1))
    for place, value in {**TAPS, (1, 1): 1.5}.items():
        weight[place] = value
    layer = with_arrays(lib, layer, {"weight": weight, "bias": np.array([-0.3])})
    every = np.array(list(product([0.0, 1.0], repeat=9))).reshape(-1, 3, 3, 1)
    logits = lib.numpy(layer(lib.array(every)))
    total = np.exp((every * logits - np.logaddexp(0, logits)).sum((1, 2, 3))).sum()
    np.testing.assert_allclose(total, 7.9080014, atol=5e-8)


def unseen(name: str, side: int, target: int, num_layers: int, kernel_size: int) -> int:
    """How many of the pixels before the target have no gradient on its features, in float64, with
    tanh, of random weights.
    """
    settings = {"activation": "tanh"} if name == "PixelCNN" else {}
    pixels = LIBS[0].build(
        "conditionals",
        name,
        (1, side, side),
        hidden_channels=3,
        num_layers=num_layers,
        kernel_size=kernel_size,
        **settings,
    )
    u = torch.randn(1, side * side, 1, requires_grad=True)
    pixels.double()
    if name == "PixelCNN":
        h = pixels.features(u, None)
    else:  # before relu, which hides dependence
        h = pixels.stacks(u.unflatten(1, (side, side))).flatten(1, 2)
    h[0, target].sum().backward()
    assert u.grad is not None
    assert not u.grad[0, target:].any()
    return int((u.grad[0, :target, 0] == 0).sum())


@pytest.mark.parametrize(
    ("side", "kernel_size", "num_layers", "wanted"),
    [(7, 3, 7, 3), (9, 3, 9, 6), (9, 5, 9, 2), (28, 3, 40, 78), (28, 5, 40, 36)],
)
def test_blind_spots_by_gradients(
    side: int, kernel_size: int, num_layers: int, wanted: int
) -> None:
    middle = side // 2
    assert blind_spot(side, side, kernel_size, middle, middle) == wanted
    target = middle * side + middle
    assert unseen("PixelCNN", side, target, num_layers, kernel_size) == wanted
    layers = 28 if side == 28 and kernel_size == 3 else num_layers
    assert unseen("GatedPixelCNN", side, target, layers, kernel_size) == 0


def test_the_blind_spots_of_all_pixels() -> None:
    pixels = product(range(9), range(9))
    assert sum(blind_spot(9, 9, 3, row, column) for row, column in pixels) == 546


LOGITS = np.array([0.2, -0.4])
LOCS = np.array([[-0.5, 0.3], [0.1, -0.2], [0.4, 0.0]])
LOG_SCALES = np.array([[-1.0, -1.5], [-0.7, -1.0], [-1.2, -0.9]])
COUPLINGS = np.array([[0.8, -0.3], [0.5, 0.1], [-0.6, 0.9]])
FLOOR = 1e-3
RAW_SCALES = np.log(np.expm1(np.exp(LOG_SCALES) - FLOOR)) - np.log(np.expm1(1 - FLOOR))


def coupled(lib: Any, num_levels: int, couplings: np.ndarray = COUPLINGS) -> Any:
    """The distribution of a pixel, from raw parameters whose scales are those above."""
    raw = np.concatenate([LOGITS, LOCS.ravel(), RAW_SCALES.ravel(), couplings.ravel()])
    family = lib.build("conditionals", "CoupledLogisticMixture", 3, 2, num_levels=num_levels)
    return family.build(lib.array(raw))


@BOTH
def test_channels_of_a_pixel_are_coupled(lib: Any) -> None:
    for num_levels in (4, 8):
        levels = np.arange(num_levels) / (num_levels - 1)
        every = np.array(list(product(levels, repeat=3)))
        scores = score(lib, partial(coupled, lib, num_levels), every)
        np.testing.assert_allclose(np.exp(scores).sum(), 1.0, rtol=1e-12)
    pixels = np.array([[0, 0, 0], [255, 255, 255], [10, 200, 128]]) / 255
    found = score(lib, partial(coupled, lib, 256), pixels)
    np.testing.assert_allclose(found, [-8.06100373, -7.58375843, -17.81045528], atol=5e-9)
    uncoupled = partial(coupled, lib, 256, 0 * COUPLINGS)
    found = score(lib, uncoupled, pixels)
    np.testing.assert_allclose(found, [-8.90695911, -8.37311745, -17.15682731], atol=5e-9)
    with pytest.raises(ValueError, match="coupling"):
        coupled(lib, 4, np.nan * COUPLINGS)


@BOTH
def test_a_component_for_each_channel_is_another_density(lib: Any) -> None:
    """The usual fault, which sums to one as well: each channel draws its own component, around
    locations that are shifted as they should be. It differs from the values above.
    """
    pixels = np.array([[0, 0, 0], [255, 255, 255], [10, 200, 128]]) / 255
    u, (a, b, c) = 2 * pixels[..., None] - 1, np.tanh(COUPLINGS)
    locs = LOCS + np.stack([0 * a * u[:, 0], a * u[:, 0], b * u[:, 0] + c * u[:, 1]], 1)
    raw = [
        np.concatenate([LOGITS.repeat(3), each.T.ravel(), RAW_SCALES.T.ravel()]) for each in locs
    ]
    family = lib.build("conditionals", "DiscretizedLogisticMixture", 3, 2)
    found = score(lib, lambda: family.build(lib.array(np.stack(raw))), pixels)
    np.testing.assert_allclose(found, [-5.52039515, -6.62450546, -17.47962342], atol=5e-9)


@BOTH
def test_tails_in_single_precision(lib: Any) -> None:
    """To 1e-4 relative, where the difference of two distribution functions is 0."""
    module = "pyro_dgm" if isinstance(lib, PyroLibrary) else "numpyro_dgm"
    array = torch.as_tensor if isinstance(lib, PyroLibrary) else jnp.asarray
    discrete = __import__(f"{module}.conditionals.discrete", fromlist=["log_level"])
    for level, loc, log_scale, wanted in (
        (100, 0.9, -3.0, -24.25624040),
        (100, 0.9, -5.0, -165.37480862),
        (0, 0.9, -5.0, -281.40298991),
        (255, 0.1, -7.0, -982.66932),
    ):
        numbers = (level / 255, loc, np.exp(log_scale))
        for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 3e-10)):
            arrays = [array(np.asarray(number, dtype)) for number in numbers]
            found = float(lib.call(partial(discrete.log_level, num_levels=256), *arrays))
            np.testing.assert_allclose(found, wanted, rtol=max(tolerance, 5e-9))
