"""Inverse temperatures, bounds from weights, running sums, and the file of a killed call."""

import numpy as np
import pytest
from scipy.special import expit, logsumexp

from dgm_core.annealing import AnnealedBounds, inverse_temperatures, optimal_temperatures
from dgm_core.annealing.passes import PILOT, WARMUP, Plan, num_steps
from dgm_core.annealing.places import Places
from dgm_core.annealing.schedules import between, smoothed
from dgm_core.annealing.store import Store
from dgm_core.data import logit_transform
from dgm_core.diagnostics import (
    RunningWeights,
    bits_per_dim,
    effective_sample_size,
    evidence_error,
    iwae_bound,
    summary,
)
from dgm_core.evaluation import passes, streamed
from dgm_core.training.checkpoint import CheckpointError


def test_the_sigmoid_is_that_of_the_paper() -> None:
    """Grosse et al. (2015), eq. (18) and (19), with delta = 4."""
    k = np.arange(11)
    raw = expit(4 * (2 * k / 10 - 1))
    expected = (raw - raw[0]) / (raw[-1] - raw[0])
    np.testing.assert_allclose(inverse_temperatures("sigmoid", 10), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["linear", "power", "sigmoid"])
def test_schedules_begin_and_end(name: str) -> None:
    for steps in (1, 2, 1000):
        betas = inverse_temperatures(name, steps)
        assert betas.shape == (steps + 1,) and betas[0] == 0 and betas[-1] == 1
        assert (np.diff(betas) > 0).all()


def test_the_optimal_schedule_has_steps_of_equal_length() -> None:
    """s(b) = 1 / (b + 0.1): its integral is log (1 + 10 b), which the schedule divides equally."""
    known = np.linspace(0, 1, 2001)
    betas = optimal_temperatures(known, 1 / (known + 0.1), 20)
    np.testing.assert_allclose(np.diff(np.log(1 + 10 * betas)), np.log(11) / 20, rtol=1e-3)
    spreads = np.where(known < 0.1, np.nan, 1.0)  # unknown counts as the largest
    np.testing.assert_allclose(optimal_temperatures(known, spreads, 4), np.linspace(0, 1, 5))
    np.testing.assert_allclose(optimal_temperatures([0, 1], [0, 0], 2), [0, 0.5, 1])


def test_rows_between_temperatures() -> None:
    values = np.array([[1.0, 4.0], [3.0, 0.0], [3.0, 8.0]])
    found = between(values, np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.1, 0.6, 1.0]))
    np.testing.assert_allclose(found, [[1, 4], [2, 2], [3, 4], [3, 8]])
    np.testing.assert_allclose(smoothed(values, 1), values)
    np.testing.assert_allclose(smoothed(values, 3)[1], values.mean(0))


def test_bounds_from_weights() -> None:
    rng = np.random.default_rng(0)
    forward, reverse = rng.normal(size=(2, 7, 3))
    bounds = AnnealedBounds(forward, reverse, exact=True)
    np.testing.assert_allclose(bounds.lower, np.log(np.exp(forward).mean(0)))
    np.testing.assert_allclose(bounds.upper, -np.log(np.exp(-reverse).mean(0)))
    np.testing.assert_allclose(bounds.gap, bounds.upper - bounds.lower)
    w = np.exp(forward)
    error = w.std(0, ddof=1) / np.sqrt(7) / w.mean(0)
    np.testing.assert_allclose(bounds["AIS error"], error)
    w = np.exp(-reverse)
    error = w.std(0, ddof=1) / np.sqrt(7) / w.mean(0)
    np.testing.assert_allclose(bounds["reverse AIS error"], error)
    assert bounds.notes == () and "gap" in str(bounds)
    assert "accept 0.1 of" in AnnealedBounds(forward, acceptance={"forward": 0.1}).notes[0]
    assert np.isnan(AnnealedBounds(forward[:1])["AIS error"]).all()


def test_running_sums_are_those_of_all_weights() -> None:
    rng = np.random.default_rng(1)
    log_w = 3 * rng.normal(size=(50, 4)) - np.array([0, 900, -900, 5])
    log_w[::2, 3] = -np.inf
    running = RunningWeights(4)
    for chunk in np.split(log_w, [1, 20, 21]):
        running.add(chunk)
    report = running.report()
    np.testing.assert_allclose(report["IWAE"], iwae_bound(log_w))
    np.testing.assert_allclose(report["ESS"], effective_sample_size(log_w))
    np.testing.assert_allclose(report["IWAE error"], evidence_error(log_w))
    np.testing.assert_allclose(report["ELBO"], log_w.mean(0))


def test_the_error_of_the_evidence_is_its_spread() -> None:
    """Log-means of 400 weights vary as one of them says."""
    log_w = 0.5 * np.random.default_rng(2).normal(size=(400, 2000))
    spread = (logsumexp(log_w, axis=0) - np.log(400)).std()
    assert evidence_error(log_w).mean() == pytest.approx(spread, rel=0.05)


def test_bits_of_transformed_pixels() -> None:
    """A density of logits and that of the pixels themselves have equal bits."""
    x = np.random.default_rng(3).uniform(0.1, 0.9, size=(5, 6))
    y, log_det = logit_transform(x, alpha=0.05)
    log_y = -0.5 * (y**2).sum(1)
    log_x = log_y + log_det
    np.testing.assert_allclose(bits_per_dim(log_y, 6, log_det=log_det), bits_per_dim(log_x, 6))
    unit = np.zeros(5)  # uniform on [0, 1]^D, hence 1 / 32 for each level
    np.testing.assert_allclose(bits_per_dim(unit, 6, levels=32), 5)
    with pytest.raises(ValueError, match="log_det must be free of NaN"):
        bits_per_dim(unit, 6, log_det=np.nan)


def test_jackknife_estimates_are_said_to_be_no_bounds() -> None:
    assert "estimates and no bounds" in str(summary(np.zeros((4, 2))))
    assert "no bounds" not in str(summary(np.zeros((1, 2))))


def test_passes_of_many_particles_hold_no_more_than_a_chunk() -> None:
    for particles, data, chunk in ((5000, 10_000, 32_768), (7, 3, 100), (5000, 3, 100), (9, 9, 1)):
        plan = streamed(particles, data, chunk, split=True)
        rows = data if plan.rows[0] is None else len(plan.rows[0])
        assert plan.num_particles * rows <= chunk
        assert plan.num_particles * plan.num_chunks >= particles
        seen = np.arange(data) if plan.rows[0] is None else np.concatenate(plan.rows)
        assert set(seen) == set(range(data))
    assert streamed(7, 600, 100, split=False) == passes(7, 600, 100, split=False)


def test_places_of_crossed_plates_and_back() -> None:
    places = Places((3, 4))  # plates at -2 and -1
    rng = np.random.default_rng(4)
    shapes = {"a": ((2, 3, 4), (5,)), "b": ((3, 4), ())}
    values = {n: rng.normal(size=(2, *batch, *event)) for n, (batch, event) in shapes.items()}
    for name, (batch, event) in shapes.items():
        places.add(name, batch, event, [len(batch) - 2, len(batch) - 1])
    flat = np.concatenate([places.flat(n, x, np.transpose) for n, x in values.items()], -1)
    assert flat.shape == (2, 12, places.width) == (2, 12, 11)
    np.testing.assert_array_equal(flat[1, 4 * 2 + 1, :10], values["a"][1, :, 2, 1].reshape(-1))
    for name, x in values.items():
        np.testing.assert_array_equal(places.site(name, flat, (3, 4), np.transpose), x)


def test_parts_and_steps_of_a_plan() -> None:
    plan = Plan("linear", 10, True, 0.65, True, 0, 4)
    assert [len(rows) for rows in plan.rows(10)] == [4, 4, 4]
    assert plan.rows(4) == [None] == plan.undivided().rows(10)
    assert num_steps(plan, 10) == 3 * (PILOT + WARMUP + 20)
    assert plan.length == PILOT + WARMUP + 1


def test_the_file_of_a_killed_call(tmp_path) -> None:
    first = Store(tmp_path, {"seed": 0, "draws": np.zeros(3)})
    first.put("0/forward", {"log_w": np.arange(3.0), "steps": 7}, now=True)
    first.put("0/later", {"log_w": np.zeros(1)})  # not yet in the file
    again = Store(tmp_path, {"seed": 0, "draws": np.zeros(3)})
    np.testing.assert_array_equal(again.take("0/forward")["log_w"], np.arange(3.0))
    assert again.take("0/later") is None and int(again.take("0/forward")["steps"]) == 7
    again.drop("0/")
    assert again.take("0/forward") is None
    with pytest.raises(CheckpointError, match=r"other arguments: .*seed was 0 and is 1"):
        Store(tmp_path, {"seed": 1, "draws": np.zeros(3)})
