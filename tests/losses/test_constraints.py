"""Constraints with learned multipliers, on a model whose constrained optimum is known."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.toys import Q, conjugate, ones
from tests.losses.training import fit, package, parameter

# z ~ Normal(0, 1), x = 1 | z ~ Normal(z, 1): KL + m Reconstruction is least at q(z) proportional to
# p(z) p(x | z)^m = Normal(m u, u), u = 1 / (1 + m), where -E log p(x | z) = log(2 pi) / 2 + (u^2 +
# u) / 2 and KL = (u + (m u)^2 - 1 - log u) / 2.
MULTIPLIER = 2.0
U = 1 / (1 + MULTIPLIER)
RECONSTRUCTION = 0.5 * math.log(2 * math.pi) + 0.5 * (U**2 + U)
RATE = 0.5 * (U + (MULTIPLIER * U) ** 2 - 1 - math.log(U))


def test_kl_is_the_other_half_of_the_elbo(backend: Any) -> None:
    losses = backend.losses
    model, guide = conjugate(backend)
    for settings in ({"num_particles": 3}, {"analytic_kl": True}):
        terms = (
            losses.KL(**settings)
            + losses.Reconstruction(num_particles=settings.get("num_particles", 1)),
            losses.ELBO(**settings),
        )
        (value, logged, gradients), (bound, _, others) = (
            backend.evaluate(loss, model, guide, ones(9), params=Q) for loss in terms
        )
        assert value == pytest.approx(bound)
        assert logged["KL"] == pytest.approx(bound / 9 - logged["Reconstruction"])
        for name in Q:
            np.testing.assert_allclose(gradients[name], others[name], atol=1e-10)


PROBLEMS: dict[
    str, tuple[Callable[[Any, Any], Any], float]
] = {  # loss, and the multiplier at the optimum
    "reconstruction": (
        lambda l, o: (
            l.KL(analytic_kl=True)
            + l.Constraint(l.Reconstruction(8), at_most=RECONSTRUCTION, optim=o)
        ),
        MULTIPLIER,
    ),
    "rate": (
        lambda l, o: (
            l.Reconstruction(8) + l.Constraint(l.KL(analytic_kl=True), equal=RATE, optim=o)
        ),
        1 / MULTIPLIER,
    ),
    "bound": (
        lambda l, o: (
            l.KL(analytic_kl=True)
            + l.Constraint(l.ELBO(8, analytic_kl=True), at_least=-9.0, optim=o)
        ),
        0.0,
    ),  # met by q = p already
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_saddle_point_is_the_constrained_optimum(backend: Any, name: str) -> None:
    """The multiplier, the guide and the constrained quantity are those of the closed form."""
    dgm = package(backend)
    make, multiplier = PROBLEMS[name]
    loss = make(dgm.losses, dgm.Adam(0.04))
    run = fit(
        backend,
        *conjugate(backend),
        ones(100),
        loss=loss,
        optim=dgm.Adam(0.04, betas=(0.5, 0.99)),
        num_epochs=400,
        average=0.98,
    )
    term = loss.names[1]
    late = {
        key: run.history.column(f"{term}/{key}")[-100:].mean() for key in ("value", "multiplier")
    }
    u = 1.0 if name == "bound" else U
    assert late["multiplier"] == pytest.approx(multiplier, abs=0.1)
    assert float(parameter(run, "loc")) == pytest.approx(1 - u, abs=0.04)
    assert math.exp(2 * float(parameter(run, "log_scale"))) == pytest.approx(u, abs=0.04)
    if name != "bound":
        assert late["value"] == pytest.approx(
            {"reconstruction": RECONSTRUCTION, "rate": RATE}[name], abs=0.02
        )


def test_the_multiplier_is_saved_and_resumed(backend: Any, tmp_path: Any) -> None:
    dgm = package(backend)

    def train(folder: Any, num_epochs: int) -> list[float]:
        loss = PROBLEMS["reconstruction"][0](dgm.losses, dgm.Adam(0.05))
        run = fit(
            backend,
            *conjugate(backend),
            ones(20),
            loss=loss,
            optim=dgm.Adam(0.02),
            num_epochs=num_epochs,
            checkpoint=folder,
        )
        return [
            float(parameter(run, "loc")),
            *run.history.column("Constraint(Reconstruction)/multiplier"),
        ]

    once = train(None, 6)
    train(tmp_path, 3)
    assert train(tmp_path, 6) == once
    assert len(set(once)) == 7


def test_constraints_are_weighted_losses(backend: Any) -> None:
    """lambda (term - target) with the gradient of lambda term, and the total under subsampling."""
    losses = backend.losses
    model, guide = conjugate(backend)
    loss = losses.Constraint(losses.Reconstruction(), at_most=1.5, initial=3.0)
    total, terms, gradients = backend.evaluate(loss, model, guide, ones(6), params=Q, size=60)
    plain, _, expected = backend.evaluate(
        losses.Reconstruction(), model, guide, ones(6), params=Q, size=60
    )
    assert terms["Constraint(Reconstruction)/multiplier"] == pytest.approx(3.0)
    assert total == pytest.approx(3 * (plain - 60 * 1.5))
    assert terms["Constraint(Reconstruction)"] == pytest.approx(total / 60)
    for name in Q:
        np.testing.assert_allclose(gradients[name], 3 * expected[name], rtol=1e-9)


def test_errors_are_sentences(backend: Any) -> None:
    losses = backend.losses
    for make, message in [
        (lambda: losses.Constraint(losses.KL()), "one of at_most, at_least and equal, got none"),
        (
            lambda: losses.Constraint(losses.KL(), at_most=1.0, equal=2.0),
            "one of at_most, at_least and equal, got {'at_most': 1.0, 'equal': 2.0}",
        ),
        (
            lambda: losses.Constraint(losses.KL() + losses.KL(), at_most=1.0),
            "term must be a single term",
        ),
        (
            lambda: losses.Constraint(losses.JensenShannon("z"), at_most=1.0),
            "without critic and schedule",
        ),
        (
            lambda: losses.Constraint(losses.ELBO(beta=lambda step: 1.0), at_least=1.0),
            "without critic and schedule",
        ),
        (
            lambda: losses.Constraint(losses.KL(), at_most=1.0, initial=0.0),
            "initial must be a positive number, got 0.0",
        ),
        (lambda: losses.KL(num_particles=0), "num_particles must be an integer of at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    assert (
        repr(losses.KL() + losses.Constraint(losses.Reconstruction(), at_most=80.0))
        == "KL() + Constraint(Reconstruction(), at_most=80.0)"
    )
