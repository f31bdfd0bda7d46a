"""Parallel WaveNet: exact divergences of students with a given receptive field, the entropy in
closed form, and what training reaches.
"""

from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import Schedule
from tests.autoregressive.test_wavenet import autoregression
from tests.backends import NumPyroBackend, PyroBackend
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights

LIBS = {"pyro": PyroLibrary(), "numpyro": NumPyroLibrary()}
EACH = pytest.mark.parametrize("name", LIBS)
# Receptive field R -> the least KL(student || teacher) of students x_t = sum_{j <= R} b_j z_{t-j},
# from the teacher x_t = 0.8 x_{t-1} + Normal(0, 1), T = 5.
BEST = {0: 1.03358319, 1: 0.38406361, 2: 0.15572746, 3: 0.05451447, 4: 0.0}
GIVEN = {0: (0.81325006,), 1: (0.926063, 0.500575), 4: tuple(0.8**j for j in range(5))}


def moving_average(b: tuple[float, ...], steps: int, base: str = "StandardNormal") -> list[Any]:
    """The student x_t = sum_j b_j z_{t-j} in both libraries: a layer whose kernel holds b."""
    made = [
        lib.build(
            "flows",
            "ParallelWaveNet",
            steps,
            num_layers=1,
            channels=1,
            dilations=(1,),
            kernel_size=max(len(b) - 1, 1),
            activation="tanh",
            base=lib.build("conditionals", base, steps),
        )
        for lib in LIBS.values()
    ]
    small, past = 1e-5, (*b[:0:-1],) or (0.0,)
    weights = {
        "stack.input.weight": [[small]],
        "stack.blocks.0.conv.weight": [[past], [[0.0] * len(past)]],
        "stack.skip.weight": [[2.0]],
        "stack.output.weight": [[1.0]],
        "head.weight": [[1 / small], [0.0]],
        "head.bias": [0.0, 5 * np.arctanh(np.log(b[0]) / 5)],
    }
    torch = LIBS["pyro"].torch
    with torch.no_grad():
        for path, parameter in made[0].named_parameters():
            value = weights.get(path.removeprefix("transforms.0."), 0.0)
            parameter.copy_(torch.as_tensor(np.array(value)))
    return [made[0], copy_weights(*made)]


def exact(b: tuple[float, ...], a: float, steps: int) -> float:
    """The divergence of normal distributions: the mean of a quadratic form, less the entropy."""
    mix = sum(c * np.eye(steps, k=-j) for j, c in enumerate(b))
    residual = (np.eye(steps) - a * np.eye(steps, k=-1)) @ mix
    return float((np.square(residual).sum() - steps) / 2 - steps * np.log(b[0]))


def log_ratio(lib: Any, student: Any, teacher: Any, z: np.ndarray) -> np.ndarray:
    """log q(x) - log p(x) of the draws x of the student that the noise z gives."""

    def run(z: Any) -> Any:
        q = student()
        x, log_det = q.forward_and_log_det(z)
        return q.base.log_prob(z) - log_det - teacher().log_prob(x)

    return lib.numpy(lib.call(run, lib.array(z)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("b", "a", "steps"),
    [*((b, 0.8, 5) for b in GIVEN.values()), ((0.7, -0.4, 0.3), -0.6, 4)],
)
def test_divergence_of_a_given_student(b: tuple[float, ...], a: float, steps: int) -> None:
    """The ratio is a quadratic form of the noise, whose mean a few points give exactly."""
    z = np.sqrt(steps) * np.concatenate([np.eye(steps), -np.eye(steps)])
    teachers = autoregression((a,), steps, 1.0)
    for lib, student, teacher in zip(LIBS.values(), moving_average(b, steps), teachers):
        found = log_ratio(lib, student, teacher, z).mean()
        np.testing.assert_allclose(found, exact(b, a, steps), atol=1e-8)
        if b in GIVEN.values():
            np.testing.assert_allclose(found, BEST[len(b) - 1], atol=2e-8)
        assert student.receptive_field == max(len(b) - 1, 1)


@pytest.mark.usefixtures("x64")
def test_divergence_of_logistic_distributions() -> None:
    """KL(Logistic(0, 1) || Logistic(1, 2)), and the entropy ln s + 2 of noise times s."""
    z = np.linspace(-60, 60, 4001)[:, None]
    weight = np.exp(-np.logaddexp(0, z) - np.logaddexp(0, -z))[:, 0] * 120 / 4000
    for s, expected in ((1.0, 0.31721760), (0.3, None)):
        for lib, student in zip(LIBS.values(), moving_average((s,), 1, "StandardLogistic")):
            teacher = lib.build("conditionals", "LogisticMixture", 1, 1)

            def run(z: Any, lib: Any = lib, student: Any = student, teacher: Any = teacher) -> Any:
                q = student()
                x, log_det = q.forward_and_log_det(z)
                # of Logistic(1, 2), from the standard one of the free parameters
                log_p = teacher.build(lib.array(np.array([0.0, 1.0, RAW_TWO]))).log_prob(x)
                return [q.base.log_prob(z) - log_det, log_p, -q.base.entropy() - log_det]

            log_q, log_p, entropy = map(lib.numpy, lib.call(run, lib.array(z)))
            np.testing.assert_allclose((weight * log_q).sum(), -np.log(s) - 2, atol=1e-9)
            np.testing.assert_allclose(entropy, -np.log(s) - 2, atol=1e-9)
            if expected:
                np.testing.assert_allclose((weight * (entropy - log_p)).sum(), expected, atol=1e-8)


RAW_TWO = float(np.log(np.expm1(2 - 1e-3)) - np.log(np.expm1(1 - 1e-3)))  # of the scale 2


@EACH
@pytest.mark.usefixtures("x64")
def test_entropy_is_that_of_the_scales(name: str) -> None:
    """- sum_t (log s_t + 2) for a draw, with the s_t on the diagonal of the Jacobian, which is
    triangular; its mean is that of log q.
    """
    lib, steps = LIBS[name], 4
    settings = {"num_layers": 2, "channels": 4, "dilations": (1, 2), "activation": "tanh"}
    student = lib.shaken(
        lib.build("flows", "ParallelWaveNet", steps, context_shape=2, **settings), 0.4
    )
    context = lib.array(np.array([0.3, -1.2]))

    def run(context: Any) -> list[Any]:
        q = student(context)
        x = lib.draw(q, (5000,))
        return [x, q.log_prob(x), q.negative_entropy(x), q.inverse_and_log_det(x[:1])[0]]

    _, log_q, entropy, z = map(lib.numpy, lib.call(run, context))
    error = (log_q - entropy).std() / len(log_q) ** 0.5
    assert abs((log_q - entropy).mean()) < 4 * error < 0.2

    jacobian = lib.numpy(
        lib.jacobian(lambda z: (student(context).forward_and_log_det(z)[0], z), lib.array(z[0]))[0]
    )
    assert not np.triu(jacobian, 1).any() and jacobian[np.tril_indices(steps)].all()
    scales = np.diagonal(jacobian)
    np.testing.assert_allclose(entropy[0], -(np.log(scales) + 2).sum(), rtol=1e-10)

    with pytest.raises(ValueError, match="from what it has just drawn, got another value"):
        student(context).negative_entropy(lib.array(z[0]))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", [PyroBackend(), NumPyroBackend()], ids=LIBS)
def test_distillation_with_the_entropy_in_closed_form(backend: Any) -> None:
    """The divergence of a given student as the term finds it, sampled and in closed form."""
    b, number, losses = GIVEN[1], int(backend.name == "numpyro"), backend.losses
    student, teacher = moving_average(b, 5)[number], autoregression((0.8,), 5, 1.0)[number]

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("x", student(), obs=x)

    for analytic in (False, True):
        loss = losses.Distillation(teacher, analytic_entropy=analytic)
        x = backend.array(np.zeros((20_000, 5)))
        _, terms, _ = backend.evaluate(loss, model, lambda x: None, x, params={})
        assert terms["Distillation"] == pytest.approx(BEST[1], abs=0.05)


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("reach", [1, 3])
def test_a_student_reaches_the_best_of_its_receptive_field(name: str, reach: int) -> None:
    """Within 0.02 nat of the least divergence of moving averages, and below the next one's."""
    lib, steps, num_steps = LIBS[name], 5, 700
    package = lib.package
    teacher = autoregression((0.8,), steps, 1.0)[name == "numpyro"]
    student = lib.build(
        "flows",
        "ParallelWaveNet",
        steps,
        num_layers=1,
        channels=12,
        dilations=(1,),
        kernel_size=reach,
        activation="tanh",
        base=lib.build("conditionals", "StandardNormal", steps),
    )

    def model(x: Any) -> None:
        with lib.plate("data", len(x)):
            lib.sample("x", package.nn.register("student", student)(), obs=x)

    run = package.fit(
        model,
        None,
        np.zeros((50 * 128, steps), np.float32),
        loss=package.losses.Distillation(teacher),
        optim=package.Adam(1e-2),
        lr_schedule=Schedule((0, num_steps // 2, num_steps), (1.0, 1.0, 0.01)),
        batch_size=128,
        num_epochs=num_steps // 50,
        progress=False,
    )
    if name == "numpyro":
        student = lib.eqx.combine(run.params["student$params"], student)
    z = np.random.default_rng(0).standard_normal((50_000, steps)).astype(np.float32)
    ratio = log_ratio(lib, student, teacher, z)
    error = ratio.std() / len(ratio) ** 0.5
    assert error < 0.005
    assert abs(ratio.mean() - BEST[reach]) < 0.02 + error
    assert student.receptive_field == reach
