"""Collapsed and active entries against closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.evaluation import gaussians as g

X = g.data(400)
SLOPE, SD = np.array([0.9, 0.0, 0.05]), np.array([0.5, 1.0, 0.2])


def three(b: Any) -> tuple[Callable, Callable]:
    """Three entries: one that is used, one that is the prior, and one that is narrow and hardly
    moves."""
    d, slope, sd = b.dist, b.array(SLOPE), b.array(SD)

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(b.array(np.zeros(3)), 1.0).to_event(1))
            b.sample("x", d.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("z", d.Normal(slope * x, sd).to_event(1))

    return model, guide


def test_entries_of_one_site(backend: Any) -> None:
    found = backend.evaluation.collapse(backend.run(*three(backend)), X, num_draws=2)
    kl = 0.5 * (SD**2 + (SLOPE * X) ** 2 - 1) - np.log(SD)
    np.testing.assert_allclose([unit["KL"] for unit in found.units], kl.mean(0), atol=1e-12)
    variances = SLOPE**2 * X.var(0)
    np.testing.assert_allclose([unit["variance"] for unit in found.units], variances, atol=1e-12)
    assert [unit["share"] for unit in found.units] == [0.0, 1.0, 0.0]
    (row,) = found.rows
    assert (row["site"], row["entries"], row["active"], row["collapsed"]) == ("z", 3, 1, 1)
    assert row["KL"] == pytest.approx(kl.sum(1).mean()) and row["share"] == 0.0
    other = backend.evaluation.collapse(
        backend.run(*three(backend)), X, num_draws=2, threshold=1e-4, epsilon=1.5
    )
    few = (kl[:, 0] < 1.5).mean()
    assert other.rows[0]["active"] == 2 and other.units[0]["share"] == pytest.approx(few)


def layers(b: Any) -> tuple[Callable, Callable]:
    """top -> low -> x, and q(low | x) q(top | low), with a full covariance at the top."""
    d, cov = b.dist, b.array([[0.5, 0.2], [0.2, 0.4]])

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            zero, one = b.array(np.zeros(2)), b.array(np.eye(2))
            top = b.sample("top", d.MultivariateNormal(zero, one))
            low = b.sample("low", d.Normal(0.5 * top[..., :1], 0.6).to_event(1))
            b.sample("x", d.Normal(low, 1.0).expand([len(x), 3]).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            low = b.sample("low", d.Normal(0.4 * x[:, :1], 0.3).to_event(1))
            loc = b.np.concatenate([0.7 * low, 0.0 * low], -1)
            b.sample("top", d.MultivariateNormal(loc, cov))

    return model, guide


@pytest.mark.slow("numpyro")
def test_layers(backend: Any) -> None:
    """The KL of each layer given the others, averaged over the draws; a full covariance has no KL
    of its entries."""
    found = backend.evaluation.collapse(backend.run(*layers(backend)), X, num_draws=64)
    top, low = found.rows
    assert (top["site"], low["site"], top["collapsed"]) == ("top", "low", None)
    square = np.mean((0.4 * X[:, 0]) ** 2)  # of the mean of low
    log_det = np.log(0.5 * 0.4 - 0.2**2)
    wanted = 0.5 * (0.5 + 0.4 + 0.49 * (square + 0.09) - 2 - log_det)
    assert top["KL"] == pytest.approx(wanted, abs=0.01)
    off = 0.65**2 * square + 0.25 * (0.49 * 0.09 + 0.5)  # (0.4 x - 0.5 top_1)^2
    assert low["KL"] == pytest.approx(np.log(2) - 0.5 + (0.09 + off) / 0.72, abs=0.01)
    assert (top["active"], low["active"]) == (1, 1)


def test_what_is_refused(backend: Any) -> None:
    b, d = backend, backend.dist
    model, guide = three(b)

    def masked(x: Any) -> None:
        with b.plate("data", len(x)), b.mask(x[:, 0] > 0):
            z = b.sample("z", d.Normal(b.array(np.zeros(3)), 1.0).to_event(1))
            b.sample("x", d.Normal(z, 1.0).to_event(1), obs=x)

    with pytest.raises(ValueError, match=r"latents \['z'\] lie under a mask"):
        b.evaluation.collapse(b.run(masked, guide), X)
    with pytest.raises(ValueError, match="num_draws must be an integer of at least 2, got 1"):
        b.evaluation.collapse(b.run(model, guide), X, num_draws=1)
    with pytest.raises(ValueError, match="epsilon must be a positive number, got 0"):
        b.evaluation.collapse(b.run(model, guide), X, epsilon=0)
