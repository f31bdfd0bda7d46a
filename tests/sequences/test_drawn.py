"""Paths of a flow: what was just drawn is scored from what the draw has left, not inverted."""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import LIBRARIES
from tests.sequences.step_parts import is_pyro


def drawn_and_scored(lib: Any, distribution: Any) -> tuple[Any, Any]:
    """A draw, and its log-density from what it has left."""
    if is_pyro(lib):
        path = distribution.rsample()
        return path, distribution.log_prob(path)
    path, left = distribution.sample_with_intermediates(lib.key(0))
    assert left
    return path, distribution.log_prob(path, left)


def iaf(lib: Any, dim: int, context_shape: Any) -> Any:
    return lib.build("flows", "IAF", dim, hidden=(4,), num_layers=2, context_shape=context_shape)


def paths(lib: Any) -> list[Any]:
    """Of 4 steps, given features (4, 2): with a learned start, with a first state of another
    family and layers without the flow's context, and without time.
    """
    first = lib.build("conditionals", "DiagonalNormal", 3)
    later = iaf(lib, 3, (3, (2,)))
    layers = [lib.build("flows", "Autoregressive", 3, hidden=(4,))]
    base = lib.build("conditionals", "Combiner", 3, 2)
    without = lib.build("flows", "Flow", 3, layers, context_shape=(3, (2,)), base=base)
    found = [
        lib.build("conditionals", "Markov", later, 4),
        lib.build("conditionals", "Markov", without, 4, initial=first),
        lib.build("conditionals", "Steps", iaf(lib, 3, 2), 4),
    ]
    return [lib.shaken(path, 0.1, seed) for seed, path in enumerate(found)]


@pytest.mark.slow("numpyro")
@pytest.mark.usefixtures("x64")
def test_a_draw_has_the_density_of_its_value(lib: Any, rng: np.random.Generator) -> None:
    """Value and gradients, whatever the lengths; in double precision the inverse is exact."""
    lengths, features = np.array([4, 2, 0]), rng.standard_normal((3, 4, 2))
    for path in paths(lib):

        def difference(path: Any, features: Any) -> list[Any]:
            found = path(features, lib.array(lengths))
            z, score = drawn_and_scored(lib, found)
            return [3 * score - 3 * found.log_prob(1.0 * z), score]

        values, gradients, (slopes,) = lib.values_and_gradients(
            difference, path, lib.array(features)
        )
        np.testing.assert_allclose(values[0], 0.0, atol=1e-10)
        assert values[1][2] == 0
        assert abs(values[1][:2]).min() > 0.1
        for found in (*gradients.values(), slopes):
            np.testing.assert_allclose(found, 0.0, atol=1e-10)


@pytest.mark.parametrize("unrolled", [False, True], ids=["one site", "unrolled"])
def test_a_guide_is_not_inverted(
    backend: Any, unrolled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound draws from the guide and scores the draw in one pass."""
    lib = LIBRARIES[backend.name]()
    unroll = lib.package.sequences.unroll
    prior = lib.build("conditionals", "StandardNormal", 12)
    prior = lib.build("conditionals", "Reshaped", prior, (4, 3))
    flow = iaf(lib, 3, (3, (2,)))
    guiding = lib.build("conditionals", "Markov", flow, 4)
    x, lengths = np.ones((5, 4, 2), np.float32), np.array([4, 1, 0, 2, 3])

    def model(x: Any) -> None:
        with backend.plate("data", 5, dim=-1):
            backend.sample("z", prior())

    def guide(x: Any) -> None:
        with backend.plate("data", 5, dim=-1):
            if not unrolled:
                backend.sample("z", guiding(x, lib.array(lengths)))
                return

            def step(z: Any, x_t: Any, _: Any) -> Any:
                return backend.sample("z", flow((z, x_t)))

            unroll(step, guiding.start, inputs=x, lengths=lengths)

    def inverted(*args: Any) -> None:
        raise AssertionError("a draw was inverted")

    monkeypatch.setattr(lib.package.flows.Autoregressive, "inverse_and_log_det", inverted)
    if backend.name == "pyro":
        backend.evaluate(backend.losses.ELBO(2), model, guide, x)
    else:  # what is traced is all that runs
        loss, key = backend.losses.ELBO(2), backend.jax.random.key(0)
        lib.shapes(lambda: loss.evaluate(key, {}, model, guide, (x,)).loss)
