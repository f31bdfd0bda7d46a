"""Density distillation: an IAF that draws fast learns a MAF that scores fast (van den Oord et al.
2018), without data and without a slow direction.
"""

from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import Schedule
from tests.contracts.libraries import PyroLibrary
from tests.flows.test_theorem import shaken

pytestmark = pytest.mark.slow

AS_USERS_COMPILE = True

NUM, STEPS = 20_000, 1500


def divergence(lib: Any, p: Any, q: Any, seed: int) -> tuple[float, float]:
    """KL(p || q) in nats per dimension from fresh draws of p, and its standard error."""

    def log_ratio() -> Any:
        x = lib.draw(p(), (NUM,), seed=seed)
        return p().log_prob(x) - q().log_prob(x)

    ratio = lib.numpy(lib.call(log_ratio)) / p.event_shape[0]
    return ratio.mean(), ratio.std() / NUM**0.5


@pytest.mark.long("[pyro")
@pytest.mark.parametrize("dim", [2, 16])
def test_a_student_learns_its_teacher(lib: Any, dim: int) -> None:
    """Within 0.05 nat per dimension of a teacher that is far from a normal distribution, and of all
    of it: the teacher's draws are likely too.
    """
    teacher = shaken(
        lib, "flows", "MAF", dim, num_layers=2, hidden=(32,), activation="tanh", scale=0.2
    )
    student = lib.build(
        "flows", "IAF", dim, num_layers=2, hidden=(64, 64), activation="tanh", seed=1
    )
    package = lib.package

    def model(x: Any) -> None:
        with lib.plate("data", len(x)):
            lib.sample("x", package.nn.register("student", student)(), obs=x)

    assert divergence(lib, student, teacher, seed=1)[0] > 0.5
    run = package.fit(
        model,
        None,
        np.zeros((50 * 256, dim), np.float32),
        loss=package.losses.Distillation(teacher),
        optim=package.Adam(5e-3),
        lr_schedule=Schedule((0, STEPS // 2, STEPS), (1.0, 1.0, 0.02)),
        batch_size=256,
        num_epochs=STEPS // 50,
        progress=False,
    )
    if not isinstance(lib, PyroLibrary):  # which trains in place
        student = lib.eqx.combine(run.params["student$params"], student)
    forward, error = divergence(lib, student, teacher, seed=2)
    assert -4 * error < forward < 0.05
    assert divergence(lib, teacher, student, seed=3)[0] < 0.1
