"""Progressive distillation: the student's optimum in closed form, and what is refused."""

from typing import Any

import numpy as np
import pytest

from dgm_core.diffusion import VP
from tests.diffusion.test_terms import density, nothing
from tests.diffusion.test_twins import LIBS, twins
from tests.diffusion.toys import drawn, of_normal
from tests.twins.test_conditionals import compare


def slope(schedule: Any, num_steps: int, s2: float) -> np.ndarray:
    """Of the steps of DDIM at Normal(0, s2) data, x_s = slope x_t, the least noisy first."""
    log_alpha, variance = schedule.levels(num_steps)
    alpha, sigma = np.exp(log_alpha), variance**0.5
    return (alpha[:-1] * alpha[1:] * s2 + sigma[:-1] * sigma[1:]) / (
        alpha[1:] ** 2 * s2 + variance[1:]
    )


def distilled(backend: Any, schedule: Any, num_steps: int, s2: float, shift: float = 0.0) -> Any:
    """The noise that is best to predict for a student of the exact network: that with which its
    step has the slope of two."""
    fine = slope(schedule, 2 * num_steps, s2)
    wanted = fine[::2] * fine[1::2]
    log_alpha, variance = schedule.levels(num_steps)
    alpha, sigma = np.exp(log_alpha), variance**0.5
    factors = (alpha[:-1] - alpha[1:] * wanted) / (alpha[:-1] * sigma[1:] - alpha[1:] * sigma[:-1])

    def net(x: Any, t: Any) -> Any:
        index = backend.np.searchsorted(backend.array(np.arange(num_steps) / num_steps), t) - 1
        return backend.array(factors)[index][:, None] * x + shift

    return net


def test_normal_data(backend: Any) -> None:
    """At its optimum the error of a student is zero, and shifted by c it is c^2 in the noise; its
    draws in five steps are those of the teacher in ten (standard deviation .36973, not .26238 as
    five steps of the teacher have), and once more in one as in two (.07175).
    """
    s2, schedule, made = 0.25, VP(10), backend.conditionals.Diffusion
    teacher = made(1, of_normal(backend, schedule, s2), schedule=schedule)
    x = np.random.default_rng(0).standard_normal((40, 1)) * s2**0.5
    students = [
        (made(1, distilled(backend, schedule, num, s2, shift), schedule=schedule), num)
        for num, shift in ((5, 0.0), (5, 0.3), (1, 0.0))
    ]
    own = {"teacher": teacher, "weight": "simple", "num_times": 3}

    def run(how: Any) -> list[Any]:
        data, unit = backend.array(x), backend.array(np.ones((1, 1)))
        errors = [net().distillation(data, num_steps=num, **own, **how) for net, num in students]
        nets = [(teacher, 10), (teacher, 5), students[0], students[2]]
        return errors + [net().decode(unit, method="ddim", num_steps=num) for net, num in nets]

    *errors, ten, five, distilled_five, one = drawn(backend, run)
    for found, error in zip(errors, (0.0, 0.09, 0.0)):
        np.testing.assert_allclose(found, error, atol=1e-12)
    scales = [abs(float(found[0, 0])) for found in (ten, five, distilled_five, one)]
    assert scales == pytest.approx([0.36973, 0.26238, 0.36973, 0.07175], abs=6e-6)
    loss = backend.losses.ProgressiveDistillation("x", num_steps=5, **own)
    found = backend.evaluate(loss, density(backend, students[1][0], size=40), nothing, x)[1]
    assert found == {"ProgressiveDistillation(x, 5)": pytest.approx(0.09, abs=1e-12)}


@pytest.mark.slow("numpyro")
def test_two_teachers_that_are_written_alike(backend: Any) -> None:
    """Each term has its own error: none beside the teacher that was distilled, c^2 + ... beside
    one whose noise is shifted."""
    schedule, made, losses = VP(10), backend.conditionals.Diffusion, backend.losses
    exact, moved = of_normal(backend, schedule, 0.25), lambda x, t: exact(x, t) + 0.5
    teachers = [made(1, net, schedule=schedule) for net in (exact, moved)]
    student = made(1, distilled(backend, schedule, 5, 0.25), schedule=schedule)
    assert repr(teachers[0]) == repr(teachers[1])
    x = np.random.default_rng(0).standard_normal((40, 1)) / 2
    terms = [losses.ProgressiveDistillation("x", own, num_steps=5) for own in teachers]
    model = density(backend, student, size=40)
    found = [
        backend.evaluate(loss, model, nothing, x)[0] for loss in (*terms, sum(terms[1:], terms[0]))
    ]
    assert found[0] == pytest.approx(0.0, abs=1e-9) and found[1] > 1.0
    assert found[2] == pytest.approx(found[1], rel=0.5)


def test_twins(x64: None) -> None:
    """Errors and all gradients of the student, with contexts; none of the teacher."""
    from numpyro_dgm.conditionals.diffusion import distilling as theirs
    from pyro_dgm.conditionals.diffusion import distilling as ours

    student, teacher = twins("noise"), twins("noise")
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 4, 2))
    shift = {id(student[0]): (LIBS[0], ours, teacher[0])}

    def errors(module: Any, x: Any) -> Any:
        lib, parts, own = shift.get(id(module), (LIBS[1], theirs, teacher[1]))
        index = lib.array(np.array([0, 1, 2, 1]))
        return parts.errors_at(module, own, x, None, 3, index, lib.array(noise))

    gradients, _ = compare(LIBS, errors, student, x)
    assert any(np.any(gradient != 0) for gradient in gradients.values())
    assert all(p.grad is None or not p.grad.any() for p in teacher[0].parameters())


def test_what_a_teacher_must_be(backend: Any) -> None:
    """A diffusion other than the student, with its schedule and shapes, and levels enough."""
    schedule, losses = VP(10), backend.losses
    net = of_normal(backend, schedule, 1.0)
    made = backend.conditionals.Diffusion
    teacher, x = made(1, net, schedule=schedule), backend.array(np.zeros((2, 1)))
    other = made(1, net, schedule=VP(20))
    learned = made(1, net, schedule=backend.conditionals.LearnedSchedule(10))
    how = {"key": None} if backend.name == "numpyro" else {}
    for call, message in (
        (lambda: losses.ProgressiveDistillation("x", 3, num_steps=1), "must be a Diffusion"),
        (
            lambda: losses.ProgressiveDistillation("x", teacher, num_steps=0),
            "num_steps must be an integer of at least 1, got 0",
        ),
        (
            lambda: losses.ProgressiveDistillation("x", teacher, num_steps=2, weight="snr"),
            "weight must be one of 'simple'",
        ),
        (
            lambda: teacher().distillation(x, teacher=teacher, num_steps=2, **how),
            "is the student itself",
        ),
        (
            lambda: teacher().distillation(x, teacher=other, num_steps=2, **how),
            r"must have the schedule of the student, VP\(10\), got VP\(20\)",
        ),
        (
            lambda: learned().distillation(x, teacher=other, num_steps=2, **how),
            "needs a fixed schedule",
        ),
        (
            lambda: teacher().distillation(
                x, teacher=made(1, net, schedule=schedule), num_steps=6, **how
            ),
            "num_steps must be an integer from 1 to 5, got 6",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
