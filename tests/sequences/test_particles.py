"""FIVO against the enumeration of all draws and ancestors, in both libraries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.sequences.filters import at_paths, chain_of, hidden_markov, tables
from tests.sequences.particles import HMM, OTHER, Chain, Paths, by_rows, enumerated

THRESHOLDS = {"never": 0.0, "always": np.inf}
PUBLISHED = [
    (2, "never", -3.67129905),
    (2, "always", -3.67373205),
    (2, 0.5, -3.67129905),
    (3, 0.5, -3.61112430),
    (3, 0.75, -3.60981195),
]


def paths_of(chain: Chain, num: int, rule: Any) -> Paths:
    """All courses of the particles of a chain."""
    return enumerated(chain, num, THRESHOLDS[rule] if isinstance(rule, str) else num * rule)


def expected(
    backend: Any, monkeypatch: Any, params: Any, paths: Paths, loss: Any, x: Any, informed: bool
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The expectation over all courses of what FIVO logs, and of its gradient."""
    at_paths(monkeypatch, backend, paths)
    rows = backend.np.asarray(np.tile(np.array(x), (len(paths.draws), 1)))
    pair = hidden_markov(backend, informed=informed)
    value, terms, gradients = backend.evaluate(loss, *pair, rows, params=params)
    assert -value / len(rows) == pytest.approx(terms["FIVO"], rel=1e-12)
    return terms, {name: -slope / len(rows) for name, slope in gradients.items()}


def slopes(function: Callable[[dict[str, np.ndarray]], float], params: Any) -> dict[str, Any]:
    """Its derivatives, by central differences."""
    found = {name: np.zeros(value.shape) for name, value in params.items()}
    for name, value in params.items():
        for index in np.ndindex(value.shape):
            step = np.zeros(value.shape)
            step[index] = 1e-5
            ends = [function({**params, name: value + sign * step}) for sign in (1, -1)]
            found[name][index] = (ends[0] - ends[1]) / 2e-5
    return found


@pytest.mark.slow("numpyro-2", "numpyro-3-0.5")
@pytest.mark.parametrize(("num", "rule", "value"), PUBLISHED)
def test_published_values(
    backend: Any, monkeypatch: Any, num: int, rule: Any, value: float
) -> None:
    """By enumeration, in all digits. E Zhat = p(x) whatever the rule: the value of each course is
    what it should be (the next test), and these have that mean."""
    paths = paths_of(HMM, num, rule)
    probs = np.exp(paths.log_prob)
    assert (probs * np.exp(paths.log_z)).sum() == pytest.approx(0.03149, rel=1e-12)
    assert HMM.evidence() == pytest.approx(0.03149, rel=1e-12)
    loss = backend.losses.FIVO(num, resample=rule)
    terms, _ = expected(backend, monkeypatch, tables(HMM), paths, loss, HMM.x, False)
    assert terms["FIVO"] == pytest.approx(value, abs=5e-9)


CASES = [
    (HMM, 2, "always", "unbiased", False),
    (HMM, 2, "always", "biased", False),
    (OTHER, 2, "always", "unbiased", True),
    (OTHER, 2, 0.8, "biased", False),
    (OTHER, 2, "never", "unbiased", False),
]


@pytest.mark.slow("numpyro always", "numpyro never")
@pytest.mark.parametrize(("chain", "num", "rule", "estimator", "informed"), CASES)
def test_gradients(
    backend: Any,
    monkeypatch: Any,
    chain: Chain,
    num: int,
    rule: Any,
    estimator: str,
    informed: bool,
) -> None:
    """The unbiased estimator has the slope of the bound as its mean, the biased one that of the
    bound in which the ancestors are drawn with constant probabilities."""
    params = tables(chain)
    start = chain_of(params, chain.x, informed=informed)
    paths = paths_of(start, num, rule)
    frozen = by_rows(start, paths)[1]

    def bound(params: Any) -> float:
        log_draws, log_lines, log_z = by_rows(chain_of(params, chain.x, informed=informed), paths)
        log_lines = log_lines if estimator == "unbiased" or frozen is None else frozen
        return (np.exp(log_draws + log_lines) * log_z).sum()

    loss = backend.losses.FIVO(num, resample=rule, estimator=estimator)
    terms, found = expected(backend, monkeypatch, params, paths, loss, chain.x, informed)
    assert terms["FIVO"] == pytest.approx(bound(params), rel=1e-12)
    for name, slope in slopes(bound, params).items():
        np.testing.assert_allclose(found[name], slope, rtol=1e-6, atol=1e-8, err_msg=name)
    if rule == "always" and estimator == "biased":  # what is dropped is not zero
        frozen = None
        whole = slopes(bound, params)
        assert max(abs(whole[name] - found[name]).max() for name in found) > 1e-3
