"""Models of labels, of which some are missing, against exact values: y uniform on three classes,
z ~ Normal(0, 1), x ~ Normal(mu_y + z, 0.25), mu = (-2, 0, 2), where all is known at x = 0.6.
"""

from typing import Any

import numpy as np
import pytest

from tests.losses.toys import log_normal, log_softmax
from tests.structured.exact import bound, built, evaluated, raw, traced

MU = np.array([-2.0, 0.0, 2.0])
Q = np.array([0.2, 0.5, 0.3])
JOINT = np.array([-4.8331226, -2.2731226, -2.9131226])  # log p(x, y)
EVIDENCE, BOUND = -1.80024986, -1.94746958
POSTERIOR = np.array([0.04817704, 0.62320938, 0.32861358])
# What usual faults would give.
NO_ENTROPY, NO_PRIOR = -2.9771226, -0.84885729


def exact_m2(backend: Any, q: np.ndarray = Q, mu: np.ndarray = MU, noise: float = 0.25) -> Any:
    """An M2 without hidden layers, which is this model, with q(z | x, y) exact and q(y | x) = q."""
    gain = 1 / (1 + noise)
    return built(
        backend,
        "M2",
        1,
        1,
        len(mu),
        hidden=(),
        likelihood=("DiagonalNormal", 1, 1 + len(mu)),
        weights={
            "likelihood.head.weight": np.stack([[1.0, *mu], np.zeros(1 + len(mu))]),
            "likelihood.head.bias": [0.0, raw(noise**0.5)],
            "posterior.head.weight": np.stack([[gain, *-gain * mu], np.zeros(1 + len(mu))]),
            "posterior.head.bias": [0.0, raw((noise * gain) ** 0.5)],
            "classes.head.bias": np.log(q),
        },
    )


def joint_of(x: np.ndarray, mu: np.ndarray, noise: float) -> np.ndarray:
    """log p(x, y), (data, classes)."""
    return log_normal(x[:, None], mu, (1 + noise) ** 0.5) - np.log(len(mu))


@pytest.mark.parametrize(
    ("q", "mu", "noise"),
    [(Q, MU, 0.25), (np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, -1.0, 3.0, 0.1]), 0.6)],
    ids=["printed", "others"],
)
def test_m2(backend: Any, q: np.ndarray, mu: np.ndarray, noise: float) -> None:
    """Rows with and without labels in one batch, values and gradients of the classifier."""
    x, y = np.array([0.6, 0.6, -0.4, 1.3, 0.6]), np.array([-1, 1, -1, 0, 2])
    losses, alpha = backend.losses, 0.7

    def values(pair: Any) -> list[Any]:
        loss = losses.ELBO(enumerate="y", num_particles=2) + alpha * losses.NLL("y")
        weighted = losses.IWAE(num_particles=2, enumerate="y")
        return [
            bound(backend, loss, pair, x[:, None], y),
            *([bound(backend, weighted, pair, x[:, None], y)] if q is Q else []),
            *([bound(backend, losses.ELBO(enumerate="y"), pair, x[:1, None])] if q is Q else []),
        ]

    found, slopes = evaluated(backend, values, exact_m2(backend, q, mu, noise))
    joint = joint_of(x, mu, noise)
    unlabeled = (q * (joint - np.log(q))).sum(1)
    labeled = joint[np.arange(5), np.maximum(y, 0)]
    each = np.where(y < 0, unlabeled, labeled)
    evidence = np.where(y < 0, np.logaddexp.reduce(joint, 1), labeled)
    nll = -np.where(y < 0, 0.0, np.log(q)[y]).mean()
    expected = [-each.mean() + alpha * nll, -evidence.mean(), -unlabeled[0]]
    np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-10)
    f = joint - np.log(q)
    terms = np.where(
        y[:, None] < 0, q * (f - (q * f).sum(1, keepdims=True)), alpha * (np.eye(len(q))[y] - q)
    )
    for path, slope in (
        ("classes.head.bias", -terms.mean(0)),
        ("classes.head.weight", -(x[:, None] * terms).mean(0)[:, None]),
    ):
        np.testing.assert_allclose(slopes[0][path], slope, atol=1e-10)


def test_the_printed_values() -> None:
    """What the test above compares with, and what usual faults would give."""
    joint = joint_of(np.array([0.6]), MU, 0.25)[0]
    np.testing.assert_allclose(joint, JOINT, atol=1e-7)
    np.testing.assert_allclose(np.logaddexp.reduce(joint), EVIDENCE, atol=1e-8)
    np.testing.assert_allclose(np.exp(log_softmax(joint)), POSTERIOR, atol=1e-8)
    bound = (Q * (joint - np.log(Q))).sum()
    np.testing.assert_allclose(bound, BOUND, atol=1e-8)
    np.testing.assert_allclose(bound + (Q * np.log(Q)).sum(), NO_ENTROPY, atol=1e-7)
    np.testing.assert_allclose(bound + np.log(3), NO_PRIOR, atol=1e-7)


def test_labels_and_terms_are_refused_in_words(backend: Any) -> None:
    pair, x = exact_m2(backend), backend.array([[0.6], [0.1]])
    wanted = "y must be labels from 0 to 2, or -1 for a missing one, got "
    for y, sentence in (
        (np.array([0, 3]), wanted + "3"),
        (np.array([-2, 0]), wanted + "-2"),
        (np.array([0.0, np.nan]), "y must be an array of integer labels of shape"),
        (np.array([0]), "x and y must have the same number of data, got 2 and 1"),
        (np.array([[0], [1]]), r"y must have one dimension of data, \(batch,\), got \(2, 1\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            traced(backend, pair.model, x, backend.np.asarray(y))
    sentence = r"NLL\('y'\) scores observed values of 'y' by the guide: it needs a model"
    with pytest.raises(ValueError, match=sentence):
        bound(backend, backend.losses.NLL("y"), pair, np.array([[0.6]]))
    wrong = backend.conditionals.Categorical((), 4)
    with pytest.raises(ValueError, match=r"class_prior must be a Categorical\(\(\), 3\)"):
        built(backend, "M2", 1, 1, 3, class_prior=wrong, weights={})
    if backend.name == "numpyro":  # compiled code cannot look at labels
        loss = backend.losses.ELBO(enumerate="y")
        run = backend.jax.jit(lambda y: bound(backend, loss, pair, np.zeros((2, 1)), y))
        values = [float(run(np.array(y))) for y in ([0, -1], [0, 3], [-2, -1])]
        assert np.isnan(values).tolist() == [False, True, True]


def test_m1_counts_the_labels_that_are_known(backend: Any) -> None:
    """Where z is known, a label adds log p(y | z), and a missing one nothing."""
    weight, bias = np.array([[0.5], [-1.0], [0.2]]), np.array([0.1, 0.0, -0.3])
    weights = {
        "likelihood.head.weight": [[1.0], [0.0]],
        "posterior.head.weight": [[0.8], [0.0]],
        "posterior.head.bias": [0.0, -60.0],  # of scale 1e-4
        "classes.head.weight": weight,
        "classes.head.bias": bias,
    }
    likelihood = ("DiagonalNormal", 1, 1)
    pair = built(backend, "M1", 1, 1, 3, hidden=(), likelihood=likelihood, weights=weights)
    x, loss = np.array([0.6, -1.2, 2.0, 0.3]), backend.losses.ELBO()

    def values(pair: Any) -> list[Any]:
        labels = np.array([2, -1, 0, -1]), np.array([-1] * 4)
        return [bound(backend, loss, pair, x[:, None], y) for y in labels]

    found, slopes = evaluated(backend, values, pair)
    log_p = log_softmax(0.8 * x[:, None] * weight[:, 0] + bias)
    np.testing.assert_allclose(found[1] - found[0], (log_p[0, 2] + log_p[2, 0]) / 4, atol=1e-3)
    assert not slopes[1]["classes.head.bias"].any() and slopes[0]["classes.head.bias"].all()


def test_class_probabilities(backend: Any) -> None:
    """What the classifier says, and Bayes' rule, whatever the classifier says."""
    pair, x = exact_m2(backend), np.array([[0.6], [-0.4]])
    ask = backend.evaluation.class_probabilities
    np.testing.assert_allclose(ask(pair, x), [Q, Q], rtol=1e-6)
    bayes = np.exp(log_softmax(joint_of(x[:, 0], MU, 0.25)))
    np.testing.assert_allclose(bayes[0], POSTERIOR, atol=1e-8)
    np.testing.assert_allclose(ask(pair, x, by="bayes", num_draws=2), bayes, rtol=1e-5)
    with pytest.raises(ValueError, match="infers 'y' of data where it is not known, but 1 of"):
        ask(pair, x, np.array([0, -1]))
    with pytest.raises(ValueError, match="by must be one of"):
        ask(pair, x, by="vote")
