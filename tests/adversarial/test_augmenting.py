"""What critics are shown: images changed at random, and draws of earlier steps."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest


def functions(lib: Any) -> Any:
    return import_module(f"{lib.package.__name__}.losses.adversarial.augmenting")


def test_changes_by_hand(lib: Any) -> None:
    """Shifts and holes at given places, each image its own, and brightness."""
    x = np.arange(2 * 3 * 6 * 5, dtype=np.float32).reshape(2, 3, 6, 5) + 1
    f, array = functions(lib), lib.array
    moved = lib.numpy(f.shifted(array(x), array(np.array([2, -1])), array(np.array([0, 3]))))
    wanted = np.zeros_like(x)
    wanted[0, :, 2:], wanted[1, :, :-1, 3:] = x[0, :, :-2], x[1, :, 1:, :-3]
    np.testing.assert_array_equal(moved, wanted)
    holes = lib.numpy(f.cut(array(x), array(np.array([3, 0])), array(np.array([1, 4]))))
    wanted = x.copy()
    wanted[0, :, 2:5, 0:2] = wanted[1, :, 0:2, 3:5] = 0
    np.testing.assert_array_equal(holes, wanted)


def test_changes_at_random(lib: Any) -> None:
    """Every image is changed by itself, entries move together, and gradients pass."""
    x = lib.array(np.ones((64, 2, 8, 8), np.float32))
    key = {} if hasattr(lib, "torch") else {"key": lib.key(1)}
    make = lib.package.losses.DiffAugment
    bright, moved, holed = (
        lib.numpy(lib.call(lambda x, name=name: make((name,), reach=0.25)(x, **key), x))
        for name in ("brightness", "shift", "cutout")
    )
    change = bright - 1
    assert np.ptp(change, axis=(1, 2, 3)).max() < 1e-6
    assert change.min() > -0.5 and change.max() < 0.5 and np.ptp(change) > 0.8
    assert {*np.unique((moved[:, 0] == 0).all(2).sum(1))} == {0, 1, 2}  # rows that were moved away
    assert {*np.unique((holed[:, 0] == 0).sum((1, 2)))} <= {4, 6, 8, 9, 12, 16}
    slopes = lib.slopes(lambda x: make()(x, **key), x)[0]
    assert set(np.unique(lib.numpy(slopes))) == {0.0, 1.0}


def test_past_fakes(lib: Any) -> None:
    """Draws fill empty slots and are seen themselves; then the coin says what is exchanged."""
    f, array = functions(lib), lib.array
    past = f.no_past(array(np.zeros((3, 2))), 3)
    one, two = (
        array(np.float32([[a, a], [b, b], [c, c], [d, d]]))
        for a, b, c, d in (
            (1, 2, 3, 4),
            (5, 6, 7, 8),
        )
    )
    slots, coins = array(np.array([2, 0])), array(np.array([True, True]))
    seen, past = f.exchanged(one, past, slots, coins)
    np.testing.assert_array_equal(lib.numpy(seen), lib.numpy(one))
    np.testing.assert_array_equal(lib.numpy(past["past"])[:, 0], [2, 0, 1])
    np.testing.assert_array_equal(lib.numpy(past["known"]), [True, False, True])
    seen, past = f.exchanged(
        two, past, array(np.array([0, 2, 1])), array(np.array([True, False, True]))
    )
    np.testing.assert_array_equal(lib.numpy(seen)[:, 0], [2, 6, 7, 8])
    np.testing.assert_array_equal(lib.numpy(past["past"])[:, 0], [5, 7, 1])
    assert lib.numpy(past["known"]).all()


def test_consistency(lib: Any) -> None:
    """weight (E (V(x) - V(x + 1))^2, of both kinds of samples) for V the mean."""
    losses = lib.package.losses

    def more(x: Any, **key: Any) -> Any:
        return 2 * x

    def mean(x: Any) -> Any:
        return x.reshape(len(x), -1).mean(1)

    x, y = (np.random.default_rng(s).standard_normal((4, 1, 2, 2)) for s in (0, 1))
    cost = losses.Consistency(more, 3.0)(mean, lib.array(x), lib.array(y), lib_key(lib))
    wanted = 3 * ((x.mean((1, 2, 3)) ** 2).mean() + (y.mean((1, 2, 3)) ** 2).mean())
    assert float(lib.numpy(cost)) == pytest.approx(wanted, rel=1e-5)


def lib_key(lib: Any) -> Any:
    return None if hasattr(lib, "torch") else lib.key(0)


def test_what_is_refused(lib: Any) -> None:
    losses = lib.package.losses
    for make, message in (
        (lambda: losses.DiffAugment(("flip",)), "policies must be one of"),
        (lambda: losses.DiffAugment(()), "policies must be a tuple"),
        (lambda: losses.DiffAugment(reach=0.5), r"reach must be a number in \(0, 0.5\), got 0.5"),
        (lambda: losses.Hinge("x", augment=3), "augment must be a change of images"),
        (lambda: losses.Hinge("x", past_fakes=-1), "past_fakes must be an integer of at least 0"),
        (lambda: losses.Consistency(None), "augment must change images"),
        (lambda: losses.Consistency(losses.DiffAugment(), 0), "weight must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
