"""What every loss of the registry promises: it is what it was written as, it trains what it says,
its value is the quantity per datum times the data size, and both libraries agree.
"""

from typing import Any

import jax
import numpy as np
import pytest
import torch

from tests.backends import NumPyroBackend, PyroBackend
from tests.cases import LOSSES, PROGRAMS, Loss
from tests.contracts.evaluating import (
    STEP,
    STOCK_RATE,
    Found,
    close,
    evaluate_anew,
    stock_states_in_numpyro,
    stock_step_in_pyro,
)
from tests.contracts.writing import made, without_critics

BACKENDS = {"pyro": PyroBackend, "numpyro": NumPyroBackend}
SIGNS = {"bound": (-1,), "divergence": (1,), "score": (1,), "cost": (1,), "sum": (1, -1)}


@pytest.fixture(scope="module", params=LOSSES)
def found(request: pytest.FixtureRequest) -> Found:
    """A case; what is evaluated for it is evaluated once."""
    return Found(LOSSES[request.param])


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Everything here runs in float64."""


def parts(loss: Any, terms: dict[str, float]) -> float:
    """The sum of the terms that a loss logs, at the step of these tests, per datum."""
    values = [terms[name] for name in loss.names]
    weights = [weight(STEP) if callable(weight) else weight for weight, _ in loss.terms]
    return sum(w * t.sign * value for w, (_, t), value in zip(weights, loss.terms, values))


@pytest.mark.parametrize("name", BACKENDS)
def test_reads_as_written(found: Found, name: str) -> None:
    """Also after a pickle; and what is read can be written again."""
    loss, case = found.losses[name], found.case
    assert repr(loss) == (case.reads or without_critics(case.written))
    assert repr(made(BACKENDS[name](), case, repr(loss))) == repr(loss)
    assert {term.sign for _, term in loss.terms} <= set(SIGNS[case.value])


def test_twins_agree(found: Found) -> None:
    """At shared weights and draws, in double precision."""
    found.assert_twins_agree()


@pytest.mark.parametrize("name", BACKENDS)
def test_each_player_gets_its_own_gradient(found: Found, name: str) -> None:
    """A finite one for what the case says that it trains, none for all else and for the critics,
    which move by their own updates.
    """
    result = found.pyro if name == "pyro" else found.numpyro[0]
    for path, gradient in result.gradients.items():
        assert np.isfinite(gradient).all(), path
    trained = {path for path, gradient in result.gradients.items() if np.abs(gradient).max() > 1e-9}
    assert trained == set(found.case.trains)
    assert result.slopes.keys() >= result.critics.keys()
    for path, slope in result.slopes.items():
        assert not slope.any(), path


def test_critics_move(found: Found) -> None:
    """By gradient ascent on what the case says, in both libraries alike (see the twins)."""
    before = {
        f"{name}: {path}": parameter.detach().numpy()
        for name, critic in found.twins[0].critics().items()
        for path, parameter in critic.named_parameters()
    }
    after = found.pyro.critics
    assert before.keys() == after.keys()
    assert bool(before) == bool(found.twins[0].stateful)
    for name, term in found.twins[0].stateful.items():
        paths = [path for path in before if path.startswith(f"{name}: ")]
        assert max(np.abs(after[path] - before[path]).max() for path in paths) > 1e-6, name
        for path in paths:  # they lie where they may
            weight = torch.as_tensor(after[path])
            assert torch.equal(weight, term.constrained(weight)), path


def test_value_is_the_quantity_per_datum_times_the_data_size(found: Found) -> None:
    """As the terms are logged, under their own signs and names, at any weight and data size."""
    loss, result = found.twins[0], found.pyro
    assert tuple(result.terms) == loss.term_names
    assert all(np.isfinite(term) for term in result.terms.values())
    close(parts(loss, result.terms), result.per_datum)
    close(result.per_datum * result.data_size, result.loss)
    theirs = found.numpyro[0]
    twice = 0.5 * found.twins[1] + 2.0 * found.twins[1]
    assert set(theirs.terms) == set(twice.term_names)
    close(parts(twice, theirs.terms), theirs.per_datum)
    size = found.programs.size
    assert result.data_size == size or size is None
    weighted = found.again(0.5 * found.twins[0] + 2.0 * found.twins[0])
    close(2.5 * result.loss, weighted.loss)
    whole = found.again(size=len(found.programs.data))
    close(result.per_datum, whole.per_datum)
    for name, gradient in result.gradients.items():
        scale = whole.data_size / result.data_size
        close(2.5 * gradient, weighted.gradients[name], name, result.data_size)
        close(scale * gradient, whole.gradients[name], name, result.data_size)


def test_stock_engine_of_pyro_moves_by_these_gradients(found: Found) -> None:
    expected = found.again(step=0)
    value, moved = stock_step_in_pyro(found.twins[0], found.programs, found.numpyro[2])
    close(expected.loss, value)
    for name, gradient in expected.gradients.items():
        change = (found.programs.params[name] - moved[name]) / STOCK_RATE
        np.testing.assert_allclose(change, gradient, rtol=1e-9, atol=1e-8, err_msg=name)


def test_stock_engine_of_numpyro_keeps_its_state(found: Found) -> None:
    """A step gives a state of the same structure, so that steps can be scanned; a default critic is
    asked for in words.
    """
    before, after = stock_states_in_numpyro(found.twins[1], found.programs)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    loss = found.losses["numpyro"]
    if loss.stateful and not all(loss.critics().values()):
        with pytest.raises(ValueError, match="has no critic yet: fit builds one; elsewhere pass"):
            stock_states_in_numpyro(loss, found.programs)


@pytest.mark.parametrize("case", [case for case in LOSSES.values() if case.refused])
@pytest.mark.parametrize("name", BACKENDS)
def test_programs_that_it_cannot_compare_are_refused(case: Loss, name: str) -> None:
    other, sentence = case.refused or ("", "")
    with pytest.raises(ValueError, match=sentence) as error:
        evaluate_anew(name, made(BACKENDS[name](), case), PROGRAMS[other])
    assert str(error.value).endswith(".")
