"""VRNN, SRNN and recurrent baselines: exact values, who sees what, padded batches, the twins, and
training.
"""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.sequences.oracle import scalar
from tests.sequences.step_parts import filtering, srnn, vrnn
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import compare

LENGTHS = np.array([4, 2, 0])
SMALL = {"hidden": 5, "features": 6}
X1 = np.array([0.5, -0.3, 1.2, 0.8, 2.0])
TOYS = [((0.9, 0.25, 0.49, 0.1), X1), ((-0.7, 0.6, 0.2, -0.4), X1[::-1][:4] * 1.3)]


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Twins and batches are compared to 1e-10."""


def log_weights(lib: Any, model: Any, z: Any, x: Any, *masks: Any) -> Any:
    """log p(x, z) - log q(z | x) of each sequence."""
    p = lib.trace(model.model, x, *masks, substituted={"z": z})
    q = lib.trace(model.guide, x, *masks, substituted={"z": z})
    return p["x"]["log_prob"] + p["z"]["log_prob"] - q["z"]["log_prob"]


def filtered_bound(constants: tuple[float, ...], x: np.ndarray) -> float:
    """E log p(x, z) - log q(z) under q(z_t | z_{t-1}, x_t), in closed form."""
    a, q, r, d = constants
    length = len(x)
    first, later = filtering(a, q, r)
    system, offsets, noise = np.eye(length), np.zeros(length), np.zeros(length)
    for t in range(length):
        gain, slope, noise[t] = later if t else first
        offsets[t] = gain * (x[t] - d)
        if t:
            system[t, t - 1] = -slope
    inverse = np.linalg.inv(system)
    mean, cov = inverse @ offsets, inverse @ np.diag(noise) @ inverse.T
    own = np.diag([1.0] + [q] * (length - 1))
    steps = np.eye(length) - a * np.eye(length, k=-1)
    expected = -0.5 * np.linalg.slogdet(2 * np.pi * own)[1] - length / 2 * np.log(2 * np.pi * r)
    for rest, spread, scale in (
        (steps @ mean, steps @ cov @ steps.T, 1 / own.diagonal()),
        (x - d - mean, cov, np.full(length, 1 / r)),
    ):
        expected -= 0.5 * (scale * (rest**2 + spread.diagonal())).sum()
    return expected + 0.5 * np.log(2 * np.pi * np.e * noise).sum()


def paths(constants: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Draws of that guide at no noise, and at plus and minus one in each step (1 + 2 T, T)."""
    a, q, r, d = constants
    eye = np.eye(len(x))
    noise, found = np.concatenate([np.zeros((1, len(x))), eye, -eye]), []
    for t in range(len(x)):
        gain, slope, variance = filtering(a, q, r)[min(t, 1)]
        last = found[-1] if found else 0.0
        found.append(gain * (x[t] - d) + slope * last + np.sqrt(variance) * noise[:, t])
    return np.stack(found, -1)


@pytest.mark.parametrize(("constants", "x"), TOYS, ids=["A1", "other"])
def test_exact_values(lib: Any, constants: tuple[float, ...], x: np.ndarray) -> None:
    """The bound of a VRNN whose guide is the exact filter, by a quadrature that is exact for
    quadratics; the exact smoother of an SRNN has the evidence as the weight of any path.
    """
    a, q, r, d = constants
    exact, bound = scalar(a, q, r, d).evidence(x[:, None]), filtered_bound(constants, x)
    if constants == TOYS[0][0]:
        assert bound == pytest.approx(-7.49424188, abs=5e-9)
        assert exact == pytest.approx(-6.77260623, abs=5e-9)
    z = paths(constants, x)
    data = np.tile(x, (len(z), 1))[..., None]
    models = [vrnn(lib, len(x), *constants)]
    models += [srnn(lib, len(x), *constants, residual=own) for own in (True, False)]

    def run(z: Any, x: Any) -> list[Any]:
        return [log_weights(lib, model, z, x) for model in models]

    found = [lib.numpy(part) for part in lib.call(run, lib.array(z[..., None]), lib.array(data))]
    center, others = found[0][0], found[0][1:]
    quadrature = center + 0.5 * (others.sum() - len(others) * center)
    assert quadrature == pytest.approx(bound, rel=1e-10)
    np.testing.assert_allclose(found[1:], exact, rtol=1e-10)


def build(lib: Any, name: str, length: int, seed: int = 0, **settings: Any) -> Any:
    sizes = (2, length) if name == "RNN" else (2, 2, length)
    return lib.build("models", name, *sizes, impute="mean", seed=seed, **{**SMALL, **settings})


def scores(lib: Any, name: str) -> Any:
    """log p(x, z) + 3 log q(z | x) of each sequence, as a function of model, latents and data."""

    def run(model: Any, z: Any, x: Any, *masks: Any) -> Any:
        if name == "RNN":
            return lib.trace(model.model, x, *masks)["x"]["log_prob"] + 0 * z.sum()
        p = lib.trace(model.model, x, *masks, substituted={"z": z})
        q = lib.trace(model.guide, x, *masks, substituted={"z": z})
        return p["x"]["log_prob"] + p["z"]["log_prob"] + 3 * q["z"]["log_prob"]

    return run


@pytest.mark.slow("SRNN", "RNN")
@pytest.mark.parametrize("name", ["VRNN", "SRNN", "RNN"])
def test_twins_and_batches(name: str, rng: np.random.Generator) -> None:
    """Values and gradients of the twins, whatever stands in the padding and where data are missing;
    in Pyro also those of the sequences one by one.
    """
    libs = PyroLibrary(), NumPyroLibrary()
    inside = (np.arange(4) < LENGTHS[:, None])[..., None]
    observed = np.array([[True, True, False, True], [True, True, True, False], [True] * 4])
    x, z = rng.integers(0, 2, (3, 4, 2)).astype(float), rng.standard_normal((3, 4, 2))
    nothing = rng.choice([np.nan, np.inf, 7.0], (3, 4, 1))
    x, z = np.where(inside & observed[..., None], x, nothing), np.where(inside, z, nothing)
    z = np.zeros_like(z) if name == "RNN" else z  # which has none
    ours = shake(build(libs[0], name, 4))
    theirs = copy_weights(ours, build(libs[1], name, 4, seed=1))
    assert repr(ours) == repr(theirs)

    def both(module: Any, z: Any, x: Any) -> Any:
        lib = libs[module is not ours]
        return scores(lib, name)(module, z, x, lib.array(LENGTHS), lib.array(observed))

    found, _ = compare(libs, both, (ours, theirs), z, x)
    values = libs[0].numpy(both(ours, *map(libs[0].array, (z, x))))
    alone = {path: np.zeros_like(gradient) for path, gradient in found.items()}
    for row, length in enumerate(LENGTHS):
        if not length:
            assert values[row] == 0
            continue
        single = build(libs[0], name, int(length))
        single.load_state_dict(ours.state_dict())
        arrays = (libs[0].array(part[row : row + 1, :length]) for part in (z, x))
        mask = libs[0].array(observed[row : row + 1, :length])

        def own(module: Any, z: Any, x: Any, mask: Any = mask) -> Any:
            return scores(libs[0], name)(module, z, x, None, mask)

        value, gradients, _ = libs[0].values_and_gradients(own, single, *arrays)
        np.testing.assert_allclose(values[row], value[0], rtol=1e-10)
        alone = {path: alone[path] + gradients[path] for path in alone}
    for path, gradient in found.items():
        np.testing.assert_allclose(gradient, alone[path], rtol=1e-10, atol=1e-10, err_msg=path)
        assert np.any(gradient != 0), path


def lower(length: int, first: int = 0, last: int = 99) -> np.ndarray:
    """Whether step t may see step s, first to last steps before it."""
    back = np.arange(length)[:, None] - np.arange(length)
    return (back >= first) & (back <= last)


SEEN = {  # by x, and by z: prior, likelihood, guide
    "VRNN": ((1, 0, 0), (lower(4), lower(4), lower(4))),
    "SRNN": ((1, 0, None), (lower(4, 0, 1), lower(4, 0, 0), lower(4, 0, 1))),
}


@pytest.mark.parametrize("name", ["VRNN", "SRNN"])
def test_who_sees_what(lib: Any, name: str, rng: np.random.Generator) -> None:
    """Prior, likelihood and guide of step t depend on exactly these x_s and z_s."""
    likelihood = lib.build("conditionals", "DiagonalNormal", 2, context_shape=20)
    sizes = {"features": 20, "likelihood": likelihood}
    model = lib.shaken(build(lib, name, 4, **sizes), 0.5)
    x, z = rng.standard_normal((4, 2)), rng.standard_normal((4, 2))

    def run(both: Any) -> Any:
        x, z = both[0][None], both[1][None]
        p = lib.trace(model.model, x, substituted={"z": z})
        q = lib.trace(model.guide, x, substituted={"z": z})
        sites = (p["z"], z), (p["x"], x), (q["z"], z)
        found = lib.stack([site["fn"].step_log_prob(value)[0] for site, value in sites])
        return found, found

    slopes = np.asarray(lib.jacobian(run, lib.array(np.stack([x, z])))[0])  # (3, 4, 2, 4, 2)
    seen = (slopes != 0).any(-1)
    by_x, by_z = SEEN[name]
    for part in range(3):
        expected = lower(4, by_x[part]) if by_x[part] is not None else np.ones((4, 4), bool)
        np.testing.assert_array_equal(seen[part, :, 0], expected)
        np.testing.assert_array_equal(seen[part, :, 1], by_z[part])


@pytest.mark.long("[numpyro")
@pytest.mark.slow
def test_training_in_parts(lib: Any, rng: np.random.Generator, tmp_path: Any) -> None:
    """A bound and a comparison of free-running draws in one loss; a run that was interrupted ends
    in the numbers of one that was not.
    """
    package = lib.package
    x = lib.array(np.cumsum(rng.standard_normal((20, 3, 2)), 1))
    loss = package.losses.ELBO() + 0.1 * package.losses.MMD("x")

    def trained(num_epochs: int, folder: Any) -> Any:
        likelihood = lib.build("conditionals", "DiagonalNormal", 2, context_shape=6)
        model = build(lib, "VRNN", 3, likelihood=likelihood)
        settings = {"optim": package.nn.Adam(0.01), "batch_size": 10, "seed": 0}
        fit = package.training.fit
        settings |= {"num_epochs": num_epochs, "checkpoint": folder}
        return fit(model.model, model.guide, x, loss=loss, **settings)

    expected = trained(6, None).history.column("loss")
    trained(2, tmp_path)
    found = trained(6, tmp_path).history.column("loss")
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).all() and found[-1] < found[0]
