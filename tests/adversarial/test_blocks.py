"""Blocks of adversarial networks: exact values in both libraries, equal values and gradients at
1e-10, and a state that moves when it should.
"""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from dgm_core.contexts import Labels
from dgm_core.spectral import matrix_norm, operator_norm
from dgm_core.truncation import truncated, truncated_sd
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake

LAPLACIAN = np.array([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
SOBEL = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
PAIR = np.stack([SOBEL, SOBEL.T])[:, None]


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=0, atol=5.1e-9)


def test_norms() -> None:
    """Of matrices and kernels, and of convolutions as maps of images, against written-out ones."""
    close(matrix_norm([[1, 2, 0], [0, -1, 3]]), 3.27132421)
    close((matrix_norm(LAPLACIAN), operator_norm(LAPLACIAN, (8, 8))), (4.47213595, 8.0))
    close(operator_norm(LAPLACIAN, (8, 8), padding="zeros"), 4 + 4 * np.cos(np.pi / 9))
    close((matrix_norm(PAIR), operator_norm(PAIR, (8, 8))), (3.46410162, 8.0))
    kernel = np.random.default_rng(0).standard_normal((3, 2, 3, 3))
    rolled = np.zeros((3, 5, 4, 2, 5, 4))
    for row, column, i, j in np.ndindex(5, 4, 3, 3):
        rolled[:, row, column, :, (row + i - 1) % 5, (column + j - 1) % 4] += kernel[:, :, i, j]
    close(operator_norm(kernel, (5, 4)), np.linalg.norm(rolled.reshape(60, 40), 2))
    kept = np.zeros((3, 9, 8, 2, 11, 10))
    for row, column, i, j in np.ndindex(9, 8, 3, 3):
        kept[:, row, column, :, row + i, column + j] = kernel[:, :, i, j]
    inside = kept[..., 1:-1, 1:-1].reshape(216, 144)
    close(operator_norm(kernel, (9, 8), padding="zeros"), np.linalg.norm(inside, 2))


def test_values(lib: Any, x64: None) -> None:
    """To the printed digits, and with other constants against numpy."""
    nn, array = lib.package.nn, lambda x: lib.array(np.asarray(x, float))
    rng = np.random.default_rng(1)
    matrix, u = rng.standard_normal((4, 6)), rng.standard_normal(4)
    maps, images = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((5, 2, 4, 4))
    q, k, v = rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    toy = (
        array([[1, 0], [0, 1], [1, 1]]),
        array([[0.5, 0], [0, 0.5], [0.5, -0.5]]),
        array([[1, 2], [3, 4], [5, 6]]),
    )
    batch = array([[1, 2], [3, 6], [-1, 0], [1, 4]])[:, :, None, None]
    pixel, deviation = nn.PixelNorm(), nn.MinibatchStdDev()
    found = lib.call(
        lambda: (
            nn.power_step(array([[1, 2, 0], [0, -1, 3]]), array([1, 0]))[0],
            nn.power_step(array(matrix), array(u))[0],
            nn.attend(*toy),
            nn.attend(array(q), array(k), array(v)),
            nn.orthogonal_penalty(array([[1, 0.5], [0.2, 2]])),
            nn.orthogonal_penalty(array(matrix)),
            deviation(batch)[2, 2, 0, 0],
            deviation(array(images))[:, 2],
            pixel(array([3, 4]).reshape(2, 1, 1)).reshape(2),
            pixel(array(maps)),
            nn.halved(array(images)),
            nn.resized(array(maps)),
        )
    )
    direction = matrix.T @ u
    scores = np.exp(q @ k.T)
    gram = matrix @ matrix.T
    blocks = images.reshape(5, 2, 2, 2, 2, 2)
    wanted = (
        2.40831892,
        np.linalg.norm(matrix @ direction) / np.linalg.norm(direction),
        [[3, 4], [2.75825568, 3.75825568], [2.69808961, 3.69808961]],
        scores @ v / scores.sum(1, keepdims=True),
        2.88,
        (gram**2).sum() - (np.diag(gram) ** 2).sum(),
        1.82514077,
        np.full((5, 4, 4), np.sqrt(images.var(0) + 1e-8).mean()),
        [0.84852814, 1.13137085],
        maps / np.sqrt((maps**2).mean(1, keepdims=True) + 1e-8),
        blocks.mean((3, 5)),
        maps.repeat(2, 2).repeat(2, 3),
    )
    for ours, exact in zip(found, wanted, strict=True):
        close(lib.numpy(ours), exact)
    close(lib.build("nn", "EqualizedRate", lib.build("nn", "Conv2d", 16, 3)).scale, 0.11785113)
    linear = lib.build("nn", "EqualizedRate", lib.build("nn", "Linear", 50, 40), gain=1.0)
    close(linear.scale, 50**-0.5)
    weights = lib.weights(linear)
    assert abs(weights["layer.weight"].std() - 1) < 0.1 and not weights["layer.bias"].any()


@pytest.mark.parametrize("weight", [LAPLACIAN, PAIR, None], ids=["laplacian", "sobel", "random"])
def test_power_iteration_reaches_both_norms(weight: Any, torch_x64: None) -> None:
    """The states converge to the exact norms, of the matrix and of the operator, with zeros and
    circular. (In one library: their steps are equal, see below.)"""
    lib = PyroLibrary()
    kernel = np.random.default_rng(2).standard_normal((3, 2, 3, 3)) if weight is None else weight
    outs, ins = kernel.shape[:2]
    for norm, padding in (("matrix", "zeros"), ("operator", "zeros"), ("operator", "circular")):
        layer = lib.build("nn", "Conv2d", ins, outs, padding=padding)
        layer.weight.data = lib.array(kernel)
        size = (8, 8) if norm == "operator" else None
        layer = lib.build("nn", "SpectralNorm", layer, norm=norm, image_size=size, num_steps=500)
        layer(lib.array(np.zeros((1, ins, 8, 8))))
        exact = matrix_norm(kernel)
        if norm == "operator":
            exact = operator_norm(kernel, (8, 8), padding=padding)
        assert layer.estimate(layer.u)[0].item() == pytest.approx(exact, rel=5e-4)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (30, 40)])
@pytest.mark.parametrize("num_steps", [1, 3, 12, 1024])
def test_steps_by_squaring(lib: Any, x64: None, shape: Any, num_steps: int) -> None:
    """Many steps at a time, of wide and of tall matrices, are those that numpy takes one by one."""
    layer = lib.build("nn", "Linear", *shape[::-1])
    matrix, u = lib.numpy(layer.weight), np.random.default_rng(4).standard_normal(shape[0])
    layer = lib.build("nn", "SpectralNorm", layer, num_steps=num_steps)
    start = lib.array(u / np.sqrt((u**2).sum()))
    found = lib.numpy(layer.moved(start, layer.estimate(start)[1]))
    for _ in range(num_steps):
        u = matrix @ (matrix.T @ u)
        u /= np.sqrt((u**2).sum())
    np.testing.assert_allclose(found, u / np.sqrt((u**2).sum()), rtol=0, atol=1e-10)


def test_steps_under_autocast() -> None:
    """Powers of a matrix are not taken in half precision, where they vanish. (JAX has none.)"""
    lib = PyroLibrary()
    torch = lib.torch
    layer = lib.build("nn", "SpectralNorm", lib.build("nn", "Linear", 400, 300), num_steps=4096)
    with torch.autocast("cpu", dtype=torch.float16):
        layer(torch.zeros(1, 400))
    found, weight = layer.estimate(layer.u)[0].item(), lib.numpy(layer.layer.weight)
    assert found == pytest.approx(matrix_norm(weight), rel=1e-4)
    image: Any = {"norm": "operator", "image_size": (4, 4), "num_steps": 3}
    layer = lib.build("nn", "SpectralNorm", lib.build("nn", "Conv2d", 2, 3), **image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.ones(1, 2, 4, 4)).isfinite().all()


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(0.0, "float32"), (3e18, "float32"), (1e30, "float32"), (1e-30, "float32"), (300, "float16")],
)
@pytest.mark.parametrize("num_steps", [1, 1024])
def test_weights_of_any_scale(lib: Any, scale: float, dtype: str, num_steps: int) -> None:
    """Squares and powers neither overflow nor vanish, also in half precision; at a weight of zero u
    begins anew, and the layer is its bias.
    """
    for outs, ins in ((30, 40), (40, 30)):
        weight = (scale * np.random.default_rng(5).uniform(-1, 1, (outs, ins))).astype(dtype)
        layer = normalized(lib, lib.build("nn", "Linear", ins, outs), weight, num_steps=num_steps)
        u = layer.moved(layer.u, layer.estimate(layer.u)[1])
        norm, exact = lib.numpy(layer.estimate(u)[0]), matrix_norm(weight)
        assert np.linalg.norm(lib.numpy(u)) == pytest.approx(1, rel=1e-3)
        assert norm == pytest.approx(exact, rel=2e-3 if num_steps > 1 else 0.5)
        if not scale:
            np.testing.assert_allclose(lib.numpy(u), len(u) ** -0.5, rtol=1e-6)
            assert (lib.numpy(layer(lib.array(np.ones((1, ins))))) == 1).all()


@pytest.mark.parametrize("scale", [0.0, 1e30, 1e-30])
def test_operators_of_any_scale(lib: Any, scale: float) -> None:
    weight = (scale * np.random.default_rng(5).uniform(-1, 1, (3, 2, 3, 3))).astype(np.float32)
    settings: Any = {"norm": "operator", "image_size": (4, 4), "num_steps": 3}
    layer = normalized(lib, lib.build("nn", "Conv2d", 2, 3), weight, **settings)
    u = layer.moved(layer.u, layer.estimate(layer.u)[1])
    norm = lib.numpy(layer.estimate(u)[0])
    assert np.linalg.norm(lib.numpy(u)) == pytest.approx(1, rel=1e-6)
    assert norm == pytest.approx(operator_norm(weight, (4, 4), padding="zeros"), rel=0.2)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("norm", ["matrix", "operator"])
def test_derivatives_at_any_scale(lib: Any, scale: float, norm: str) -> None:
    """W / s does not change with the scale c of W, and its derivative is 1 / c of that of W."""
    kernel = np.random.default_rng(5).uniform(-1, 1, (3, 2, 3, 3)).astype(np.float32)
    x = lib.array(np.random.default_rng(6).standard_normal((1, 2, 4, 5)).astype(np.float32))
    settings: Any = {"norm": norm, "image_size": (4, 5)} if norm == "operator" else {}

    def found(scale: float) -> tuple[Any, Any]:
        weight = (scale * kernel).astype(np.float32)
        layer = normalized(lib, lib.build("nn", "Conv2d", 2, 3), weight, **settings)
        if isinstance(lib, PyroLibrary):
            value = (layer.eval()(x) ** 2).sum()
            value.backward()
            return value.item(), lib.numpy(layer.layer.weight.grad)

        def output(weight: Any) -> Any:
            made = lib.eqx.tree_at(lambda own: own.layer.weight, layer, weight)
            return (made(x) ** 2).sum()

        value, slope = lib.jax.value_and_grad(output)(layer.layer.weight)
        return float(value), lib.numpy(slope)

    (value, slope), (scaled_value, scaled_slope) = found(1.0), found(scale)
    assert scaled_value == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(scale * scaled_slope, slope, rtol=1e-3, atol=1e-5 * abs(slope).max())


def test_a_direction_that_finds_nothing(lib: Any) -> None:
    """u in a row of zeros does not stay there, where another row is not zero."""
    layer = lib.build("nn", "Linear", 2, 2)
    layer = normalized(lib, layer, np.array([[0.0, 0.0], [0.0, 1000.0]], np.float32), num_steps=5)
    lost = lib.array(np.array([1.0, 0.0], np.float32))
    u = layer.moved(lost, layer.estimate(lost)[1])
    u = layer.moved(u, layer.estimate(u)[1])
    np.testing.assert_allclose(lib.numpy(u), [0.0, 1.0], atol=1e-6)
    assert repr(layer).endswith("num_steps=5)")


def normalized(lib: Any, layer: Any, weight: np.ndarray, **settings: Any) -> Any:
    """The spectral norm of a layer with this weight, and ones as its bias."""
    bias = np.ones(len(weight), weight.dtype)
    if isinstance(lib, PyroLibrary):
        layer.weight.data, layer.bias.data = map(lib.torch.as_tensor, (weight, bias))
    else:
        arrays = lib.jax.device_put((weight, bias))
        layer = lib.eqx.tree_at(lambda own: (own.weight, own.bias), layer, arrays)
    return lib.build("nn", "SpectralNorm", layer, **settings)


def test_steps_without_numbers() -> None:
    """On torch's meta device, which autocast does not know, there are shapes only."""
    lib = PyroLibrary()
    layer = lib.build("nn", "SpectralNorm", lib.build("nn", "Linear", 4, 3), num_steps=1024)
    layer = layer.to("meta")
    out = layer(lib.torch.zeros(7, 4, device="meta"))
    assert out.shape == (7, 3) and out.is_meta and layer.u.is_meta


def blocks(lib: Any) -> list[Any]:
    """One of each, as a list; GeneratorBlock, CriticBlock and SelfAttention inside others."""
    build = lib.build
    spectral = {"norm": "operator", "image_size": (4, 6)}
    image = {"hidden_channels": (3,), "attention": True}
    critic = {"num_classes": 3, "minibatch_stddev": True, "num_flat": 1}
    around = build("nn", "Conv2d", 2, 3, padding="circular")
    return [
        build("nn", "SpectralNorm", build("nn", "Linear", 8, 3), num_steps=2),
        build("nn", "SpectralNorm", build("nn", "Conv2d", 2, 3), **spectral),
        build("nn", "SpectralNorm", around, **spectral),
        build("nn", "EqualizedRate", build("nn", "Conv2d", 2, 3, 1)),
        build("nn", "ConditionalBatchNorm", 2, context_shape=(Labels(3), 2)),
        build(
            "nn",
            "ResidualGenerator",
            3,
            (2, 4, 6),
            context_shape=Labels(3),
            spectral_norm="matrix",
            **image,
        ),
        build("losses", "ResidualCritic", (2, 4, 6), **critic, **image),
        build("losses", "ResidualCritic", (2, 4, 6), pooling="none", **critic, **image),
    ]


def outputs(parts: Any, rows: Any, maps: Any, pairs: Any, labels: Any) -> list[Any]:
    """What the blocks give, the sum of squares of all first."""
    found = [
        parts[0](rows),
        *(part(maps) for part in parts[1:4]),
        parts[4](maps, (labels, rows[:, :2])),
        parts[5](rows[:, :3], labels),
        *(part(pairs) for part in parts[6:]),
    ]
    return [sum((part**2).sum() for part in found), *found]


def test_twins(x64: None) -> None:
    """Values and gradients of all blocks in training, with the same weights."""
    libs = PyroLibrary(), NumPyroLibrary()
    rng = np.random.default_rng(3)
    ours = shake(libs[0].torch.nn.ModuleList(blocks(libs[0])), scale=0.1)
    theirs = copy_weights(ours, blocks(libs[1]))
    data = [rng.standard_normal(shape) for shape in ((4, 8), (4, 2, 4, 6))]
    labels = rng.integers(0, 3, 4)
    pairs = np.concatenate([rng.standard_normal((4, 48)), np.eye(3)[labels]], 1)
    (values, gradients, by_input), (twin_values, twin_gradients, twin_by_input) = (
        lib.values_and_gradients(
            outputs, module, *map(lib.array, (*data, pairs)), lib.array(labels)
        )
        for lib, module in zip(libs, (ours, theirs))
    )
    assert [repr(part) for part in ours] == [repr(part) for part in theirs]
    for value, twin in zip((*values, *by_input), (*twin_values, *twin_by_input), strict=True):
        np.testing.assert_allclose(twin, value, rtol=1e-10, atol=1e-10)
    assert gradients.keys() == twin_gradients.keys()
    for path, gradient in gradients.items():
        np.testing.assert_allclose(
            twin_gradients[path], gradient, rtol=1e-9, atol=1e-10, err_msg=path
        )
        assert abs(gradient).max() > 1e-7, path


@pytest.mark.parametrize("num_flat", [0, 1])
def test_how_much_of_an_image_a_critic_sees(num_flat: int) -> None:
    """The critic is a sum over features of 16x16 pixels, 32x32 with a block more: what two corners
    of 20x20 add to it is added by each alone, or is not. (The twins are equal.)"""
    lib, image = PyroLibrary(), np.random.default_rng(0).standard_normal((1, 20, 20))
    corners = np.stack([image] * 4)
    corners[[1, 3], 0, 0, 0] = corners[[2, 3], 0, -1, -1] = 9.0
    critic = lib.build(
        "losses", "ResidualCritic", (1, 20, 20), hidden_channels=(8, 8), num_flat=num_flat
    )
    none, one, other, both = lib.numpy(critic(lib.array(corners)))
    assert (abs(both - one - other + none) > 1e-4) == bool(num_flat)
    assert f"num_flat={num_flat}" in repr(critic) or not num_flat


@pytest.mark.parametrize("pooling", ["sum", "none"])
def test_whether_a_critic_sees_where_something_is(lib: Any, pooling: str) -> None:
    """A spot that moves by two pixels, far from the borders, moves features of half the size by
    one: their sum stays. Labels see the features as the critic does.
    """
    x = np.zeros((2, 1, 16, 14))
    x[0, 0, 6:9, 6:8] = x[1, 0, 8:11, 6:8] = np.arange(1.0, 7).reshape(3, 2)
    pairs = np.concatenate([x.reshape(2, -1), np.eye(2)], 1)
    sizes = {"hidden_channels": (5,), "pooling": pooling}
    critic = lib.build("losses", "ResidualCritic", (1, 16, 14), **sizes)
    one, other = lib.numpy(critic(lib.array(x)))
    assert (abs(one - other) < 1e-5) == (pooling == "sum")
    assert ("pooling='none'" in repr(critic)) == (pooling == "none")
    labeled = lib.build("losses", "ResidualCritic", (1, 16, 14), num_classes=2, **sizes)
    seen = 5 if pooling == "sum" else 5 * 56
    weights = lib.weights(labeled)
    assert [weights[f"{name}.layer.weight"].shape for name in ("output", "classes")] == [
        (1, seen),
        (2, seen),
    ]
    assert labeled(lib.array(pairs)).shape == (2,)


def test_attention_starts_as_the_identity(lib: Any) -> None:
    x = lib.array(np.random.default_rng(0).standard_normal((2, 8, 3, 5)))
    layer = lib.build("nn", "SelfAttention", 8)
    np.testing.assert_array_equal(lib.numpy(layer(x)), lib.numpy(x))
    assert [lib.weights(layer)[f"{name}.weight"].shape[0] for name in ("query", "value")] == [1, 4]


def test_the_hinge(lib: Any) -> None:
    """L_D = 2 - the bound, L_G = -E_Q [V]: by hand, and with more outputs by numpy."""
    hinge = lib.package.losses.Hinge("x")
    real, fake = lib.array(np.array([0.4])), lib.array(np.array([-1.3]))
    assert float(2 - hinge.bound(real, fake)) == pytest.approx(0.6, rel=1e-6)
    assert float(hinge.surrogate(real, fake) - real.mean()) == pytest.approx(1.3, rel=1e-6)
    v, w = np.array([0.2, 1.5, -0.3]), np.array([-0.7, 0.4, -2.0, 3.0])
    wanted = 2 - np.maximum(0, 1 - v).mean() - np.maximum(0, 1 + w).mean()
    assert float(hinge.bound(lib.array(v), lib.array(w))) == pytest.approx(wanted, rel=1e-6)


def test_what_is_refused(lib: Any) -> None:
    build, zeros = lib.build, lambda *shape: lib.array(np.zeros(shape))
    conv, norm = build("nn", "Conv2d", 2, 3), build("nn", "ConditionalBatchNorm", 2)
    critic = build("losses", "ResidualCritic", (1, 8, 4), hidden_channels=(3,), num_classes=3)
    sized = {"norm": "operator", "image_size": (2, 8)}
    for call, message in (
        (lambda: conv(zeros(5, 8, 8, 2)), r"channels, height|2, height.*channels first, got \(5,"),
        (lambda: build("nn", "Conv2d", 2, 3, 4), "kernel_size must be odd"),
        (lambda: norm(zeros(5, 3, 4, 4)), "expects maps of shape"),
        (lambda: norm(zeros(1, 2, 1, 1)), "at least two values of a channel in training"),
        (lambda: norm(zeros(5, 2, 4, 4), zeros(5, 2)), "takes no context"),
        (lambda: build("nn", "SpectralNorm", conv, norm="operator"), "image_size must be height"),
        (lambda: build("nn", "SpectralNorm", conv, **sized), "at least the size of the kernel"),
        (lambda: build("nn", "SpectralNorm", conv, image_size=(8, 8)), 'is for norm="operator"'),
        (lambda: build("nn", "SpectralNorm", norm), "layer must be a Linear or a Conv2d"),
        (lambda: build("nn", "ResidualGenerator", 2, (1, 9, 8)), "must be divisible by 4"),
        (lambda: build("losses", "ResidualCritic", (1, 8, 10)), "must be divisible by 4"),
        (lambda: build("losses", "ResidualCritic", (1, 8, 8), num_classes=1), "or at least 2"),
        (lambda: critic(zeros(5, 32)), "side by side with 3 one-hot entries of y"),
        (lambda: lib.package.nn.halved(zeros(1, 3, 4)), "need even sizes"),
        (lambda: build("nn", "MinibatchStdDev")(zeros(2, 3, 3)), "expects .batch, channels"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_truncation() -> None:
    """Of normal quantiles: inside the bound, with the standard deviation in closed form."""
    z = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    for bound, sd in ((0.5, 0.28388229), (1.3, truncated_sd(1.3)), (30.0, 1.0)):
        close(truncated_sd(bound), sd)
        moved = truncated(z, bound)
        assert abs(moved).max() <= bound and (np.diff(moved) > 0).all()
        assert moved.std() == pytest.approx(sd, rel=1e-3)
    for bad in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="bound must be a positive number"):
            truncated(z, bad)
