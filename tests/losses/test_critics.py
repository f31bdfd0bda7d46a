"""Critics and what keeps their slopes in bounds, against norms, formulas and statistics that are
known.
"""

import importlib
from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import linear
from tests.losses.arrays import value_and_gradients
from tests.losses.training import build, fit, fixed_joints, package, parameter

RNG = np.random.default_rng(0)
MATRICES = {
    "wide": RNG.standard_normal((3, 5)),
    "tall": 1e-6 * RNG.standard_normal((6, 2)),
    "equal singular values": 7.0 * np.eye(4),
    "of rank one": np.outer(np.arange(1.0, 4), [2.0, -1.0]),
    "huge": 1e200 * RNG.standard_normal((3, 4)),
    "tiny": 1e-200 * RNG.standard_normal((4, 3)),
}


def critics_module(backend: Any) -> Any:
    return importlib.import_module(f"{backend.name}_dgm.losses.adversarial.critics")


@pytest.mark.parametrize("name", MATRICES)
def test_normalized_weights_have_norm_one_and_the_exact_derivative(backend: Any, name: str) -> None:
    """d tr(A' W / s) = (A - tr(A' W) / s u v') / s for the largest singular value s of W, with its
    vectors u and v.
    """
    weight, a = MATRICES[name], np.random.default_rng(1).standard_normal(MATRICES[name].shape)
    normalized = critics_module(backend)._normalized
    found, (gradient, _) = value_and_gradients(backend, lambda w, a: a * normalized(w), weight, a)
    u, s, vt = np.linalg.svd(weight)
    np.testing.assert_allclose(found, a * weight / s[0], rtol=1e-8)
    assert np.linalg.norm(found / a, 2) == pytest.approx(1.0, abs=1e-6)
    if name != "equal singular values":  # where the norm has no derivative
        np.testing.assert_allclose(
            gradient,
            (a - np.sum(a * weight) / s[0] * np.outer(u[:, 0], vt[0])) / s[0],
            rtol=1e-6,
            atol=1e-6 / s[0],
        )


@pytest.mark.parametrize("cls", ["Critic", "ImageCritic"])
def test_critics_with_spectral_norms_are_lipschitz(backend: Any, cls: str) -> None:
    """|V(x) - V(x')| <= |x - x'|, for random pairs and at the steepest points; each convolution's
    own norm is above one half, so the bound is no empty one.
    """
    losses, shape = package(backend).losses, (2, 8, 8)
    sizes, settings = (
        ((128,), {"hidden": (16, 8)})
        if cls == "Critic"
        else ((shape,), {"hidden_channels": (3, 4), "features": 8})
    )
    critic = build(
        backend, getattr(losses, cls), *sizes, activation="elu", spectral_norm=True, **settings
    )
    x, y = RNG.standard_normal((2, 50, *shape))
    slopes = abs(_call(backend, critic, x) - _call(backend, critic, y)) / np.linalg.norm(
        (x - y).reshape(50, -1), axis=1
    )
    assert 0 < slopes.max() <= 1
    steep = importlib.import_module(
        f"{backend.name}_dgm.losses.adversarial.regularizers"
    )._steepness
    assert 0 < _call(backend, lambda x: steep(critic, x)[1], x).max() <= 1
    if cls == "ImageCritic":
        kernel = np.random.default_rng(2).standard_normal((3, 2, 4, 4))
        kernel = _call(backend, critics_module(backend)._normalized, kernel)
        norm = np.linalg.norm(_as_matrix(kernel, 8), 2)
        assert 0.5 < norm <= 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_critics_of_norm_one_in_half_precision(backend: Any, dtype: str) -> None:
    """Of a matrix of ones, whose norm is 512, sums of squares are above the largest float16."""
    normalize = critics_module(backend)._normalized
    if backend.name == "pyro":
        import torch

        found = normalize(torch.ones(512, 512, dtype=getattr(torch, dtype))).float()
    else:
        import jax.numpy as jnp

        found = normalize(jnp.ones((512, 512), dtype)).astype(jnp.float32)
    np.testing.assert_allclose(np.asarray(found), 1 / 512, rtol=0.02)


def _call(backend: Any, function: Any, *arrays: np.ndarray) -> np.ndarray:
    out = function(*map(backend.array, arrays))
    return out.detach().numpy() if backend.name == "pyro" else np.asarray(out)


def _as_matrix(kernel: np.ndarray, size: int) -> np.ndarray:
    """The linear map of a convolution with stride 2 and padding 1, from images (in, size, size)."""
    columns = []
    for pixel in np.eye(kernel.shape[1] * size * size):
        image = np.pad(pixel.reshape(-1, size, size), ((0, 0), (1, 1), (1, 1)))
        columns.append(
            [
                np.sum(kernel * image[:, i : i + 4, j : j + 4], (1, 2, 3))
                for i in range(0, size, 2)
                for j in range(0, size, 2)
            ]
        )
    return np.array(columns).reshape(len(columns), -1).T


@pytest.mark.parametrize("f", [None, "kl", "pearson", "squared_hellinger", "jensen_shannon"])
def test_the_noise_regularizer_of_a_linear_critic(backend: Any, f: str | None) -> None:
    """V(x) = a . x + b has the slope |a| everywhere; f*''(g(v)) g'(v)^2 by hand."""
    a, b, weight = np.array([0.5, -1.0]), 0.3, 0.7
    real, fake = RNG.standard_normal((2, 6, 2))
    regularizer = package(backend).losses.NoiseRegularizer(weight, f=f)
    found = _call(
        backend,
        lambda real, fake: regularizer(lambda x: x @ backend.array(a) + b, real, fake, None),
        real,
        fake,
    )
    v, d = fake @ a + b, 1 / (1 + np.exp(-(fake @ a + b)))
    factors = {
        None: np.mean(1 / (1 + np.exp(real @ a + b)) ** 2) + np.mean(d**2),
        "kl": np.mean(np.exp(v - 1)),
        "pearson": 0.5,
        "squared_hellinger": np.mean(
            2 * np.exp(v)
        ),  # 2 / (1 - t)^3 with 1 - t = exp(-v), times exp(-2 v)
        "jensen_shannon": np.mean(d),
    }
    assert float(found) == pytest.approx(weight / 2 * factors[f] * (a @ a), rel=1e-10)


def labeled(backend: Any) -> Any:
    """y_n ~ Categorical(1/4, 1/4, 1/2), x_n = shift + Normal(y_n, 1)."""
    dist, array = backend.dist, backend.array

    def model(x: Any, y: Any) -> None:
        shift = backend.param("shift", array(2.0))
        with backend.plate("data", len(x)):
            y = backend.sample("y", dist.Categorical(probs=array([0.25, 0.25, 0.5])), obs=y)
            backend.sample("x", dist.Normal(shift + y, array(1.0)), obs=x)

    return model


def test_labels_enter_as_one_hot_vectors(backend: Any) -> None:
    """Beside x, and alone."""
    x, y = RNG.standard_normal(6), np.array([0, 2, 1, 1, 0, 2])
    data = (
        backend.array(x),
        backend.array(y).long() if backend.name == "pyro" else backend.np.asarray(y),
    )
    own = (
        () if backend.name == "pyro" else (backend.jax.random.key(0), {"shift": backend.array(2.0)})
    )
    joints = backend.joints.Joints(*own, labeled(backend), lambda x, y: None, data)
    both, alone = joints.samples(("x", "y")), joints.samples(("y",))
    vectors = np.eye(3)[y]
    (real, fake), (labels, drawn) = (
        [np.asarray(part.detach() if backend.name == "pyro" else part) for part in pair]
        for pair in (both, alone)
    )
    np.testing.assert_array_equal(real, np.column_stack([x, vectors]))
    np.testing.assert_array_equal(labels, vectors)
    assert real.dtype == fake.dtype == np.float64 and fake.shape == (6, 4) and drawn.shape == (6, 3)
    np.testing.assert_array_equal(fake[:, 1:], drawn)
    assert set(drawn.ravel()) == {0.0, 1.0} and (drawn.sum(1) == 1).all()


@pytest.mark.parametrize("label", [3, -1, 1.5])
def test_labels_out_of_range_are_refused(backend: Any, label: float) -> None:
    """A vector of zeros would be a class that nobody knows."""
    y = np.array([0.0, label, 2.0])
    y = y if label == 1.5 else y.astype(int)
    y = backend.np.asarray(y)
    fn = backend.dist.Categorical(probs=backend.array([0.2, 0.3, 0.5]))
    values = importlib.import_module(f"{backend.name}_dgm.joints.values")
    with pytest.raises(ValueError, match=rf"Labels must be integers from 0 to 2, got {label:g}"):
        values.with_vectors((y, 0), fn)
    if backend.name == "numpyro":
        vectors = backend.jax.jit(lambda y: values.with_vectors((y, 0), fn)[0])(y)
        assert (
            np.isnan(np.asarray(vectors[1])).all() and np.isfinite(np.asarray(vectors[::2])).all()
        )


def test_instance_noise_has_its_standard_deviation(backend: Any) -> None:
    """In the update of the critic as well as where model and guide are scored, and as the schedule
    says.
    """
    losses, seen = package(backend).losses, []

    def spy(critic: Any, real: Any, fake: Any, key: Any = None) -> float:
        seen.append((np.asarray(real), np.asarray(fake)))
        return 0.0

    critic = build(backend, losses.Critic, 2, hidden=())
    term = losses.JensenShannon(
        "x", critic, instance_noise=linear(10, start=0.5, end=0.0), regularizer=spy
    )
    assert (
        term.has_schedules
        and repr(losses.JensenShannon("x", instance_noise=0.1))
        == "JensenShannon('x', instance_noise=0.1)"
    )
    zeros = backend.array(np.zeros((5000, 2)))
    own: Any = {} if backend.name == "pyro" else {"key": lambda name: backend.jax.random.key(1)}
    joints = fixed_joints(zeros, zeros, **own)
    for step, sd in ((0, 0.5), (5, 0.25), (10, 0.0)):
        key: Any = {} if backend.name == "pyro" else {"key": backend.jax.random.key(0)}
        term.update(joints.state(term), joints, step, **key)
        (real, fake), (at_real, at_fake) = seen.pop(), term.scores(joints, step)
        assert np.std(real) == pytest.approx(sd, rel=0.05) == np.std(fake)
        assert sd == 0 or abs(np.mean(real * fake)) < 0.05 * sd**2
        assert (float(at_real.std()) > 1e-9) == (float(at_fake.std()) > 1e-9) == (sd > 0)


def shifted(backend: Any) -> Any:
    """x_n ~ Normal(shift, 1): one parameter."""

    def model(x: Any) -> None:
        shift = backend.param("shift", backend.array(1.0))
        with backend.plate("data", len(x)):
            backend.sample("x", backend.dist.Normal(shift, backend.array(1.0)), obs=x)

    return model


def test_instance_noise_trains_and_resumes_exactly(backend: Any, tmp_path: Any) -> None:
    losses, data = package(backend).losses, RNG.standard_normal(60)

    def run(num_epochs: int, noise: Any, checkpoint: Any = None) -> float:
        critic = build(backend, losses.Critic, 1, hidden=())
        term = losses.JensenShannon("x", critic, instance_noise=noise)
        return float(
            parameter(
                fit(
                    backend,
                    shifted(backend),
                    None,
                    data,
                    loss=term,
                    batch_size=20,
                    num_epochs=num_epochs,
                    checkpoint=checkpoint,
                ),
                "shift",
            )
        )

    noise = linear(6, start=1.0, end=0.0)
    whole = run(2, noise)
    run(1, noise, tmp_path)
    assert run(2, noise, tmp_path) == whole


def test_what_does_not_fit_is_refused(backend: Any) -> None:
    losses = package(backend).losses
    with pytest.raises(ValueError, match="slope at most 1, got 'gelu'"):
        build(backend, losses.Critic, 2, activation="gelu", spectral_norm=True)
    with pytest.raises(ValueError, match=r"instance_noise must be .* got -0\.1"):
        losses.JensenShannon("x", instance_noise=-0.1)
    with pytest.raises(ValueError, match="nothing to regularize"):
        losses.NoiseRegularizer(f="total_variation")
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 2, got 1"):
        build(backend, losses.ProjectionCritic, 2, 1)
    with pytest.raises(ValueError, match=r"side by side, \(batch, 2 \+ 3\), .* got \(5, 4\)"):
        build(
            backend,
            losses.ProjectionCritic,
            2,
            3,
            encoder=build(backend, package(backend).nn.MLP, 2, (4,)),
        )(backend.array(np.zeros((5, 4))))
    with pytest.raises(ValueError, match="cannot be halved"):
        build(backend, losses.ImageCritic, (1, 3, 3))


def test_default_critics_follow_the_shape(backend: Any) -> None:
    losses, make = package(backend).losses, critics_module(backend).default_critic

    def kind_of(shape: tuple[int, ...]) -> type:
        return type(
            make(shape)
            if backend.name == "pyro"
            else backend.jax.eval_shape(lambda: make(shape, backend.jax.random.key(0)))
        )

    kinds = {
        (1, 8, 8): losses.ImageCritic,
        (3, 4, 4): losses.ImageCritic,
        (1, 2, 8): losses.Critic,
        (5,): losses.Critic,
        (): losses.Critic,
    }
    assert all(kind_of(shape) is kind for shape, kind in kinds.items())


def test_the_penalty_of_a_wasserstein_critic_can_be_chosen(backend: Any) -> None:
    losses, array = backend.losses, backend.array
    real, fake = array(np.ones((4, 1))), array(np.zeros((4, 1)))
    key = None if backend.name == "pyro" else backend.jax.random.key(0)
    for slope, two_sided, one_sided in ((-1.0, 0.0, 0.0), (0.5, 0.25, 0.0), (-3.0, 4.0, 4.0)):
        for penalty, cost in (
            (losses.GradientPenalty(2.0), two_sided),
            (losses.GradientPenalty(2.0, one_sided=True), one_sided),
        ):
            found = penalty(lambda x, slope=slope: slope * x[:, 0], real, fake, key)
            assert float(found) == pytest.approx(2 * cost, abs=1e-5)
    assert losses.Wasserstein("x", penalty=None).regularizer is None
    assert repr(losses.Wasserstein("x", penalty=None)) == "Wasserstein('x', penalty=None)"
    assert repr(losses.Wasserstein("x", one_sided=True)) == "Wasserstein('x', one_sided=True)"
    for bad in ({"penalty": losses.R1()}, {"clip": 0.1}, {"penalty": None}):
        with pytest.raises(ValueError, match="leave out penalty and clip"):
            losses.Wasserstein("x", one_sided=True, **bad)
