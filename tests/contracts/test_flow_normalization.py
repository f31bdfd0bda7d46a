"""Batch normalization in a flow: the batch's statistics when scoring in training, the running ones
in evaluation and for draws.
"""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import NumPyroLibrary

DATA = np.random.default_rng(0).standard_normal((400, 2)) * [0.5, 2.0] + [3.0, -2.0]


def flow(lib: Any) -> Any:
    """x = (u - bias) / weight * sqrt(variance) + mean, and a second layer on top."""
    return lib.build(
        "flows",
        "Flow",
        2,
        [lib.build("flows", "Diagonal", 2), lib.build("flows", "Normalization", 2)],
    )


def program(lib: Any, module: Any) -> Any:
    def model(x: Any) -> None:
        p = lib.package.nn.register("flow", module)
        with lib.plate("data", len(x)):
            lib.sample("x", p(), obs=x)

    return model


def test_scoring_in_training_uses_the_batch_and_draws_the_running_statistics(
    lib: Any, x64: None
) -> None:
    module = lib.shaken(flow(lib), 0.3)
    weights = lib.weights(module)
    scale, weight, bias = (
        weights[path]
        for path in ("transforms.0.log_scale", "transforms.1.norm.weight", "transforms.1.norm.bias")
    )
    variance = DATA.var(0) + 1e-5
    u = ((DATA - DATA.mean(0)) / np.sqrt(variance) * weight + bias) * np.exp(-scale)
    expected = (
        -0.5 * (u**2 + np.log(2 * np.pi)) - scale + np.log(np.abs(weight)) - 0.5 * np.log(variance)
    )
    scored = lib.numpy(lib.call(lambda x: module().log_prob(x), lib.array(DATA)))
    np.testing.assert_allclose(scored, expected.sum(-1), atol=1e-10)

    fresh = lib.shaken(flow(lib), 0.3)  # running mean 0 and variance 1
    noise = np.random.default_rng(1).standard_normal((5, 2))
    x, log_det = lib.call(lambda u: fresh().forward_and_log_det(u), lib.array(noise))
    np.testing.assert_allclose(
        lib.numpy(x), (noise * np.exp(scale) - bias) / weight * np.sqrt(1 + 1e-5), atol=1e-10
    )
    np.testing.assert_allclose(
        lib.numpy(log_det),
        (scale - np.log(np.abs(weight)) + 0.5 * np.log(1 + 1e-5)).sum(),
        atol=1e-10,
    )


def test_a_single_value_is_refused_in_training(lib: Any) -> None:
    with pytest.raises(ValueError, match="at least two values in training"):
        flow(lib)().log_prob(lib.array(np.zeros(2)))


def test_after_training_draws_and_densities_are_one_distribution(lib: Any, x64: None) -> None:
    """The running statistics are learned by `fit`; in evaluation the density is the Gaussian that
    fits the data, also for one value, and draws are its.
    """
    module, x = flow(lib), lib.array(DATA)
    model = program(lib, module)
    run = lib.package.fit(
        model, None, x, loss=lib.package.NLL(), batch_size=100, num_epochs=30, progress=False
    )

    def ask(x: Any) -> list[Any]:
        p = lib.package.nn.register("flow", module)()
        draws, scores = lib.draw_and_score(p, (20_000,))
        return [p.log_prob(x), p.log_prob(x[:1]), draws, scores, p.log_prob(draws + 0.0)]

    with lib.package.nn.evaluation_mode(module):
        if isinstance(lib, NumPyroLibrary):
            ask = lib.numpyro.handlers.substitute(ask, data={**run.params, **run.mutable_state})
        scored, single, draws, scores, again = map(lib.numpy, lib.call(ask, x))
    mean, scale = DATA.mean(0), DATA.std(0)
    expected = (-0.5 * ((DATA - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)).sum(
        -1
    )
    np.testing.assert_allclose(scored.mean(), expected.mean(), atol=0.02)
    np.testing.assert_allclose(single, scored[:1], atol=1e-10)
    np.testing.assert_allclose(scores, again, atol=1e-10)
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.2)
    np.testing.assert_allclose(draws.std(0), scale, rtol=0.1)
