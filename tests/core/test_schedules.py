"""Schedules: exact values, any array type, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dgm_core.schedules import Schedule, constant, cyclical, linear, value_of

SCHEDULES = {
    "linear": (linear(10), {0: 0.0, 5: 0.5, 10: 1.0, 100: 1.0}),
    "decreasing": (linear(4, start=2.0, end=1.0), {0: 2.0, 1: 1.75, 4: 1.0, 9: 1.0}),
    "cyclical": (
        cyclical(8, ratio=0.5),
        {0: 0.0, 1: 0.25, 4: 1.0, 7: 1.0, 8: 0.0, 10: 0.5, 800: 0.0},
    ),
    "constant": (constant(0.3), {0: 0.3, 7: 0.3}),
    "points": (
        Schedule((2, 4, 8), (1.0, 3.0, 0.0)),
        {0: 1.0, 2: 1.0, 3: 2.0, 4: 3.0, 6: 1.5, 8: 0.0, 9: 0.0},
    ),
    "scaled": (2.0 * linear(10), {0: 0.0, 5: 1.0, 10: 2.0}),
}


@pytest.mark.parametrize(("schedule", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_values_for_every_kind_of_step(schedule, expected):
    steps, values = np.array(list(expected)), np.array(list(expected.values()))
    assert [schedule(int(step)) for step in steps] == pytest.approx(values, abs=1e-12)
    assert all(type(schedule(int(step))) is float for step in steps)
    np.testing.assert_allclose(schedule(steps), values, atol=1e-12)
    np.testing.assert_allclose(schedule(torch.as_tensor(steps)).numpy(), values, atol=1e-6)
    np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(steps)), values, atol=1e-6)
    scalar = schedule(torch.tensor(int(steps[1])))
    assert scalar.shape == ()
    assert float(scalar) == pytest.approx(values[1], abs=1e-6)


def test_compiles_in_torch_export():
    class Weighted(torch.nn.Module):
        def forward(self, step):
            return cyclical(100)(step)

    exported = torch.export.export(Weighted(), (torch.tensor(3),)).module()
    assert float(exported(torch.tensor(125))) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "schedule",
    [
        linear(1000),
        linear(5, end=2.0),
        linear(5, start=1.0, end=0.5),
        cyclical(100),
        cyclical(8, ratio=0.25),
        constant(2.0),
        Schedule((1, 2, 3), (0.0, 1.0, 0.0), period=4),
    ],
    ids=repr,
)
def test_repr_evaluates_to_an_equal_schedule(schedule):
    again = eval(repr(schedule))
    assert again == schedule
    assert hash(again) == hash(schedule)


def test_repr_is_what_was_written():
    assert repr(linear(1000)) == "linear(1000)"
    assert repr(cyclical(100, ratio=0.25)) == "cyclical(100, ratio=0.25)"


def test_other_types_get_their_say():
    class Term:
        def __mul__(self, weight):
            return ("term", weight)

        __rmul__ = __mul__

    assert linear(10) * Term() == ("term", linear(10))
    with pytest.raises(TypeError):
        linear(10) * "text"


def test_value_of():
    assert value_of(0.5, 10) == 0.5
    assert value_of(linear(20), 10) == 0.5
    assert value_of(lambda step: step + 1, 10) == 11


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Schedule((), ()), "at least one"),
        (lambda: Schedule((0, 1), (1.0,)), "2 steps and 1 values"),
        (lambda: Schedule((0, 0), (1.0, 2.0)), "must increase"),
        (lambda: Schedule((0, 1), (1.0, float("nan"))), "finite"),
        (lambda: Schedule((0, 5), (0.0, 1.0), period=4), "period"),
        (lambda: linear(0), "num_steps must be a positive number, got 0"),
        (lambda: cyclical(10, ratio=1.5), "ratio must be a number in \\(0, 1\\]"),
    ],
)
def test_bad_input(build, match):
    with pytest.raises(ValueError, match=match):
        build()


@pytest.mark.parametrize("value", [None, "a", [1.0], np.ones(3)])
def test_a_schedule_that_gives_no_number_is_refused(value):
    with pytest.raises(ValueError, match="A schedule must give one number at each step, got"):
        value_of(lambda step: value, 10)
