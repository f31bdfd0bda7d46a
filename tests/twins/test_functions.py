"""Public functions of numbers, in both libraries: equal values, gradients and sentences."""

from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend, PyroBackend
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.losses.test_gradients import chain
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import close, compare

PARAMS = ("slope1", "slope2", "log_scale1", "log_scale2")


def test_positive(x64: None) -> None:
    raw, found = np.array([-40.0, -1.3, 0.0, 0.7, 30.0]), []
    for lib in (PyroLibrary(), NumPyroLibrary()):
        positive = lib.package.conditionals.positive

        def both(raw: Any, positive: Any = positive) -> Any:
            return positive(raw, 0.1) + 3 * positive(raw)

        found.append([lib.call(both, lib.array(raw)), *lib.slopes(both, lib.array(raw))])
    for ours, theirs in zip(*found):
        close(ours.detach(), theirs)
    assert found[0][0][2] == pytest.approx(4.0)


def test_pooled_features(x64: None) -> None:
    """Values and all gradients, for groups of which some rows are missing."""
    libs, rng = (PyroLibrary(), NumPyroLibrary()), np.random.default_rng(3)
    rows, mask = rng.standard_normal((3, 4, 2)), rng.uniform(size=(3, 4)) < 0.6
    networks = [
        [lib.build("nn", "MLP", *sizes, activation="tanh") for sizes in ((2, (3,)), (7, (4,), 5))]
        for lib in libs
    ]
    ours = shake(libs[0].package.nn.Pooled(*networks[0]))
    theirs = copy_weights(ours, libs[1].package.nn.Pooled(*networks[1]))

    def pooled(module: Any, rows: Any) -> Any:
        return module(rows, libs[module is not ours].array(mask)) ** 2

    compare(libs, pooled, (ours, theirs), rows)


def test_sizes_and_requirements() -> None:
    for lib in (PyroLibrary(), NumPyroLibrary()):
        assert lib.package.conditionals.size_of((3, 8, 8)) == 192
        y, require = lib.array(np.array([0, 3])), lib.package.nn.require
        require("y", "labels from 0 to 3", y, y < 4)
        with pytest.raises(ValueError, match=r"^y must be labels from 0 to 2, got 3\.$"):
            require("y", "labels from 0 to 2", y, y < 3)


def test_what_stands_in_the_padding() -> None:
    """Its gradient is zero, and neither twin looks at it."""
    x = np.array([[[1.0], [2.0]], [[3.0], [np.nan]]])
    for lib in (PyroLibrary(), NumPyroLibrary()):
        nn, lengths = lib.package.nn, lib.array(np.array([2, 1]))
        mask = lib.numpy(nn.step_mask(lengths, 2))
        np.testing.assert_array_equal(mask, [[True, True], [True, False]])
        cleared = lib.numpy(nn.without_padding(lib.array(x), lengths))
        np.testing.assert_array_equal(cleared, np.nan_to_num(x))

        def square(x: Any, nn: Any = nn, lengths: Any = lengths) -> Any:
            return nn.without_padding(x, lengths) ** 2

        (slope,) = lib.slopes(square, lib.array(x))
        np.testing.assert_array_equal(lib.numpy(slope), 2 * np.nan_to_num(x))
        with pytest.raises(ValueError, match="lengths must be integers from 0 to 2, got 3"):
            nn.step_mask(lib.array(np.array([3])), 2)


def test_the_structure_of_programs_is_the_same() -> None:
    """Found by terms that ask the joints; equal field by field."""
    found = []
    for backend in (PyroBackend(), NumPyroBackend()):
        with backend.double_precision():
            model, guide = chain(backend)
            args = (model, guide, (backend.array(np.zeros(3)),))
            if backend.name == "pyro":
                for name in PARAMS:
                    backend.pyro.param(name, backend.array(np.zeros(3)))
            else:
                params = {name: backend.array(np.zeros(3)) for name in PARAMS}
                args = (backend.jax.random.key(0), params, *args)
            structure = backend.joints.Joints(*args).inference().structure
        assert isinstance(structure, backend.joints.Structure)
        found.append(vars(structure))
    assert found[0] == found[1]
    assert found[0]["local_sites"] == ("z1", "z2")
