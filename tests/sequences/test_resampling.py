"""Whom particles follow, by each scheme, in both libraries."""

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from dgm_core.resampling import SCHEMES, Resampling, check_resampling

RULE = Resampling("always", "multinomial")
WEIGHTS = np.array([[0.05, 0.0, 0.31], [0.55, 0.0, 0.23], [0.1, 0.2, 0.3], [0.3, 0.8, 0.16]])
GRID = 4000


def functions(backend: Any) -> Any:
    """The module of these functions."""
    return import_module(f"{backend.name}_dgm.sequences.ancestors")


def log_weights() -> np.ndarray:
    """Of four particles for three data, not normalized."""
    with np.errstate(divide="ignore"):
        return np.log(WEIGHTS) + np.array([3.0, -700.0, 0.0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_is_followed_in_proportion_to_its_weight(backend: Any, scheme: str) -> None:
    """On average over a grid of uniform numbers: no scheme is biased. Stratified and systematic
    numbers of descendants differ from K w by less than 2 and 1, residual ones are K w at least."""
    log_w = np.repeat(log_weights()[:, None], GRID, 1)
    uniforms = (np.arange(GRID) + 0.5) / GRID
    num = RULE._replace(scheme=scheme).num_uniforms(4)
    points = np.broadcast_to(uniforms[:, None], (num, GRID, 3)).copy()
    found = functions(backend).ancestors(backend.array(log_w), backend.array(points), scheme)
    counts = np.stack([(np.asarray(found) == k).sum(0) for k in range(4)])  # (K, grid, data)
    np.testing.assert_allclose(counts.mean(1), 4 * WEIGHTS, atol=4 / GRID)
    gap = counts - 4 * WEIGHTS[:, None]
    if scheme in ("stratified", "systematic"):
        assert abs(gap).max() < (1 if scheme == "systematic" else 2)
    if scheme == "residual":
        assert (counts >= np.floor(4 * WEIGHTS[:, None] + 1e-9)).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_particle_without_weight_has_no_descendants(backend: Any, scheme: str) -> None:
    """At the ends of [0, 1), in single precision as well; where none has weight, nobody is
    NaN, and nothing is resampled."""
    own = functions(backend)
    zero = np.array([-math.inf, 0.1, -math.inf, 0.2, -math.inf])[:, None]
    uniforms = np.array([[0.0], [1 - 1e-16]]).T.repeat(5, 0)
    for number in (0, 1):
        points = backend.array(
            uniforms[: RULE._replace(scheme=scheme).num_uniforms(5), number, None]
        )
        found = own.ancestors(backend.array(zero), points, scheme)
        assert set(np.asarray(found).ravel().tolist()) <= {1, 3}
    single = backend.array(zero), backend.array(uniforms[:, 1:])
    if backend.name == "pyro":
        single = tuple(x.float() for x in single)
    else:
        single = tuple(x.astype("float32") for x in single)
    found = own.ancestors(single[0], single[1], "multinomial")
    assert set(np.asarray(found).ravel().tolist()) <= {1, 3}
    nothing = backend.array(np.full((5, 1), -math.inf))
    chosen, index = own.resampled(nothing, points, Resampling("always", scheme), True)
    assert not np.asarray(chosen).any()
    assert np.asarray(index).ravel().tolist() == [0, 1, 2, 3, 4]
    assert np.asarray(own.effective_size(nothing)) == 0


def test_each_datum_decides_for_itself(backend: Any) -> None:
    """Effective sample sizes 2.41, 1.47 and 3.8 of 4, against 0.5 and 0.7 of 4."""
    own, log_w = functions(backend), backend.array(log_weights())
    np.testing.assert_allclose(own.effective_size(log_w), 1 / (WEIGHTS**2).sum(0))
    points = backend.array(np.full((1, 3), 0.5))
    for share, expected in ((0.5, [False, True, False]), (0.7, [True, True, False])):
        rule = check_resampling(share, "systematic")
        chosen, index = own.resampled(log_w, points, rule, True)
        assert np.asarray(chosen).tolist() == expected
        assert np.asarray(index)[:, 2].tolist() == [0, 1, 2, 3]
    values = backend.array(np.arange(24.0).reshape(4, 3, 2))
    follow = own.followed({"z": values}, index)["z"]
    expected = np.take_along_axis(np.asarray(values), np.asarray(index)[..., None], 0)
    np.testing.assert_array_equal(follow, expected)
    ended = own.resampled(log_w, points, rule, backend.np.asarray([True, False, True]))[0]
    assert np.asarray(ended).tolist() == [True, False, False]
