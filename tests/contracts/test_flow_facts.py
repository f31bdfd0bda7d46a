"""What single flows are known for: bounds, determinants, special cases."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit


def both(
    lib: Any, module: Any, value: np.ndarray, *context: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x = f(value), log |det|, and the Jacobian, at one point."""
    p = module(*map(lib.array, context))
    size = value.size

    def forward(u: Any) -> tuple[Any, tuple[Any, Any]]:
        x, log_det = p.forward_and_log_det(u)
        return x, (x, log_det)

    jacobian, (x, log_det) = lib.jacobian(forward, lib.array(value))
    return lib.numpy(x), lib.numpy(log_det), lib.numpy(jacobian).reshape(size, size)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 100.0])
def test_planar_layers_stay_invertible(
    lib: Any, x64: None, rng: np.random.Generator, size: float
) -> None:
    """w'v > -1 whatever a network sends, and the inverse finds the way back."""
    layer = lib.build("flows", "PlanarLayer", 4, context_shape=9)
    context = lib.array(size * rng.standard_normal((200, 9)))
    u = lib.array(rng.standard_normal((200, 4)))

    def run(context: Any, u: Any) -> list[Any]:
        v, w, _, m = layer.parts(context)
        x, out = layer.forward_and_log_det(u, context)
        return [(v * w).sum(-1), m, x, out, *layer.inverse_and_log_det(x, context)]

    product, m, x, out, back, into = map(lib.numpy, lib.call(run, context, u))
    assert (m > -1).all()
    np.testing.assert_allclose(product, m, rtol=1e-9, atol=1e-9)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(back, lib.numpy(u), rtol=1e-9, atol=1e-9 * max(1, np.abs(x).max()))
    np.testing.assert_allclose(into, -out, atol=1e-6)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("context_shape", [0, 2])
def test_each_householder_reflection_has_determinant_minus_one(
    lib: Any, x64: None, rng: np.random.Generator, num_layers: int, context_shape: int
) -> None:
    flow = lib.build("flows", "Householder", 4, num_layers=num_layers, context_shape=context_shape)
    context = (rng.standard_normal(context_shape),) if context_shape else ()
    _, log_det, jacobian = both(lib, flow, rng.standard_normal(4), *context)
    assert np.linalg.det(jacobian) == pytest.approx((-1) ** num_layers)
    np.testing.assert_allclose(jacobian @ jacobian.T, np.eye(4), atol=1e-12)
    assert log_det == 0


def test_rotations_are_rotations(lib: Any, x64: None) -> None:
    layer = lib.shaken(lib.build("flows", "Orthogonal", 4), 2.0)
    matrix = lib.numpy(layer.matrix())
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(4), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_the_log_determinant_of_nice_is_the_sum_of_its_scales(
    lib: Any, x64: None, rng: np.random.Generator
) -> None:
    flow = lib.shaken(lib.build("flows", "NICE", 4, num_layers=2, hidden=(5,)), 0.5)
    scales = lib.weights(flow)["transforms.2.log_scale"]
    for value in rng.standard_normal((2, 4)):
        _, log_det, _ = both(lib, flow, value)
        assert log_det == pytest.approx(scales.sum())
    assert scales.sum() != 0


def test_couplings_are_autoregressive(lib: Any, x64: None, rng: np.random.Generator) -> None:
    """The Jacobian of a coupling is triangular, with blocks of the kept and the mapped half; that
    of three is full.
    """
    flows = [
        lib.shaken(lib.build("flows", "RealNVP", 5, num_layers=n, hidden=(6,)), 0.5) for n in (1, 3)
    ]
    value = rng.standard_normal(5)
    _, log_det, jacobian = both(lib, flows[0], value)
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)
    np.testing.assert_allclose(jacobian[:2, :2], np.eye(2), atol=1e-12)
    np.testing.assert_allclose(jacobian[2:, 2:], np.diag(np.diag(jacobian)[2:]), atol=1e-12)
    assert log_det == pytest.approx(np.log(np.diag(jacobian)).sum())
    assert (jacobian[2:, :2] != 0).all()
    assert (both(lib, flows[1], value)[2] != 0).all()


def test_sylvester_of_rank_one_is_planar(lib: Any, x64: None, rng: np.random.Generator) -> None:
    """x = u + v tanh(w'u + b) with v = r q and w = s q, q the first row of a reflection."""
    layer = lib.build("flows", "SylvesterLayer", 3, 1, 1)
    flow = lib.build("flows", "Flow", 3, [layer])
    raw = lib.weights(layer)["free"]
    normal, r, s, b = raw[:3], *(np.sqrt(0.999) * np.tanh(raw[3:5])), raw[5]
    q = (np.eye(3) - 2 * np.outer(normal, normal) / (normal @ normal))[0]
    u = rng.standard_normal(3)
    x, log_det, jacobian = both(lib, flow, u)
    np.testing.assert_allclose(x, u + r * q * np.tanh(s * q @ u + b), atol=1e-12)
    np.testing.assert_allclose(
        jacobian, np.eye(3) + np.outer(r * q, s * q) * (1 - np.tanh(s * q @ u + b) ** 2), atol=1e-12
    )
    assert log_det == pytest.approx(np.linalg.slogdet(jacobian)[1])


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_sylvester_layers_stay_invertible(
    lib: Any, x64: None, rng: np.random.Generator, size: float
) -> None:
    layer = lib.build("flows", "SylvesterLayer", 5, 3, 2, context_shape=6)
    context, u = (
        lib.array(size * rng.standard_normal((100, 6))),
        lib.array(rng.standard_normal((100, 5))),
    )

    def run(context: Any, u: Any) -> list[Any]:
        x, out = layer.forward_and_log_det(u, context)
        return [x, out, *layer.inverse_and_log_det(x, context)]

    x, out, back, into = map(lib.numpy, lib.call(run, context, u))
    np.testing.assert_allclose(back, lib.numpy(u), atol=1e-9 * max(1, np.abs(x).max()))
    np.testing.assert_allclose(into, -out, atol=1e-6)


def test_radial_flows_follow_the_paper(lib: Any, x64: None, rng: np.random.Generator) -> None:
    """Rezende & Mohamed (2015), eq. (14), with b = a (s - 1) >= -a."""
    layer = lib.shaken(lib.build("flows", "RadialLayer", 3), 1.0)
    raw = lib.weights(layer)["free"]
    c = np.log(np.expm1(1 - 1e-3))
    a, s = 1e-3 + np.log1p(np.exp(raw[3:] + c))
    b, u = a * (s - 1), rng.standard_normal(3)
    r = np.linalg.norm(u - raw[:3])
    h, slope = 1 / (a + r), -1 / (a + r) ** 2
    x, log_det, _ = both(lib, lib.build("flows", "Flow", 3, [layer]), u)
    np.testing.assert_allclose(x, u + b * h * (u - raw[:3]), atol=1e-12)
    assert log_det == pytest.approx(2 * np.log(1 + b * h) + np.log(1 + b * h + b * slope * r))


def test_an_lu_layer_is_a_one_by_one_convolution(
    lib: Any, x64: None, rng: np.random.Generator
) -> None:
    vector, image = (lib.shaken(lib.build("flows", "LU", dim), 0.5) for dim in (3, (3, 4, 2)))
    value = rng.standard_normal((5, 3, 4, 2))
    lower, upper = map(lib.numpy, vector.factors())
    x, log_det = lib.call(image.forward_and_log_det, lib.array(value))
    pixels, once = lib.call(vector.forward_and_log_det, lib.array(np.moveaxis(value, 1, -1)))
    np.testing.assert_allclose(lib.numpy(x), np.moveaxis(lib.numpy(pixels), -1, 1), atol=1e-12)
    bias = lib.weights(vector)["bias"]
    np.testing.assert_allclose(
        lib.numpy(pixels), np.moveaxis(value, 1, -1) @ (lower @ upper).T + bias, atol=1e-12
    )
    assert lib.numpy(log_det) == pytest.approx(8 * lib.numpy(once))
    assert lib.numpy(once) == pytest.approx(np.linalg.slogdet(lower @ upper)[1])


def test_squeezing_moves_pixels_into_channels_and_back(lib: Any) -> None:
    """With a map of nothing but the first channel, which is every second pixel of every
    second row.
    """
    scaling = lib.build(
        "flows", "Squeezed", lib.build("flows", "FactoredOut", lib.build("flows", "LU", (2, 2, 2)))
    )
    shift = lib.weights(scaling)
    assert {path.rpartition(".")[2] for path in shift} == {"weight", "bias"}
    module = lib.shaken(scaling, 1.0)
    image = np.arange(16.0).reshape(1, 1, 4, 4)
    x, _ = lib.call(module.forward_and_log_det, lib.array(image))
    moved = lib.numpy(x)[0, 0] != image[0, 0]
    np.testing.assert_array_equal(
        moved, [[False] * 4, [True] * 4] * 2
    )  # the second row of each block is the second half of the channels
    back, _ = lib.call(module.inverse_and_log_det, x)
    np.testing.assert_allclose(lib.numpy(back), image, atol=1e-4)


def test_the_noise_of_a_multi_scale_flow_leaves_at_every_scale(
    lib: Any, x64: None, rng: np.random.Generator
) -> None:
    """Of two scales, the couplings of the second leave half of the noise as it is; those of the
    first then mix all of it.
    """
    flow = lib.shaken(
        lib.build("flows", "MultiScaleRealNVP", (1, 4, 4), num_layers=1, hidden_channels=(3,)), 0.5
    )
    *second, third, _ = flow.transforms

    def run(u: Any) -> list[Any]:
        x = u
        for transform in second:
            x, _ = transform.forward_and_log_det(x)
        return [x, third.forward_and_log_det(x)[0], flow().forward_and_log_det(u)[0]]

    u = rng.standard_normal((1, 4, 4))
    scaled, mixed, x = map(lib.numpy, lib.call(run, lib.array(u)))
    assert len(second) == 2
    np.testing.assert_array_equal(scaled[0, ::2], u[0, ::2])
    assert (scaled[0, 1::2] != u[0, 1::2]).all()
    assert (
        mixed[0, 1::2] != scaled[0, 1::2]
    ).all()  # their scale and shift depend on the other half
    assert (x != mixed).any()


def test_a_flow_over_a_logistic_base_fits_a_uniform_distribution_exactly(
    lib: Any, x64: None
) -> None:
    """The identity over the standard logistic distribution, seen through the sigmoid, is the
    uniform one.
    """
    flow = lib.build("flows", "Flow", 1, [], base=lib.build("conditionals", "StandardLogistic", 1))
    x = np.linspace(-6.0, 6.0, 7)[:, None]
    log_prob = lib.numpy(lib.call(lambda x: flow().log_prob(x), lib.array(x)))
    np.testing.assert_allclose(log_prob, np.log(expit(x) * expit(-x))[:, 0], atol=1e-12)
