"""SinhArcsinh against its closed forms, also far out."""

from typing import Any

import numpy as np


def test_tails_grow_as_a_power(lib: Any) -> None:
    """x = sinh(p (asinh u + e)) with the slope of finite differences; |x| / |u|^p -> 2^(p - 1)
    exp(p e sign u): heavier where p > 1, lighter where p < 1, to the right where e > 0."""
    module = lib.shaken(lib.build("flows", "SinhArcsinh", 4), 0.4, seed=0)
    rng = np.random.default_rng(0)
    e, t = 0.4 * rng.standard_normal((2, 4))
    p = 2 / (1 + np.exp(-2 * t))
    assert (p > 1.1).any() and (p < 0.9).any()
    u = np.array([-3e4, -1.0, 0.0, 0.3, 2.0, 3e4])[:, None] * np.ones(4)
    x, log_slope = map(lib.numpy, module.forward_and_log_det(lib.array(u)))
    np.testing.assert_allclose(x, np.sinh(p * (np.arcsinh(u) + e)), rtol=1e-4, atol=1e-5)
    near = 1e-5 * (1 + np.abs(u))
    ends = (np.sinh(p * (np.arcsinh(u + h) + e)) for h in (-near, near))
    slope = np.subtract(*ends) / (-2 * near)
    np.testing.assert_allclose(log_slope, np.log(slope).sum(-1), rtol=1e-4, atol=1e-4)
    for side in (0, -1):
        growth = 2 ** (p - 1) * np.exp(p * e * np.sign(u[side]))
        np.testing.assert_allclose(np.abs(x[side]) / 3e4**p, growth, rtol=1e-3)
    back, log_det = map(lib.numpy, module.inverse_and_log_det(lib.array(x)))
    np.testing.assert_allclose(back, u, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_det, -log_slope, rtol=1e-4, atol=1e-4)
