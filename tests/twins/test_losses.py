"""Every loss gives the same value, the same logged terms and the same gradients in both backends,
at the same parameters and draws.

The draws are made in NumPyro and carried over: where a Pyro site is a location-scale family its
noise is solved for, so that gradients take the same path.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dgm_core.schedules import linear
from tests.backends import NumPyroBackend, PyroBackend
from tests.losses.test_bounds import regression
from tests.losses.test_gradients import chain
from tests.losses.toys import conjugate, conjugate_per_datum, mixture_model

X = np.linspace(-1.5, 2.0, 6)

MODELS: dict[
    str, tuple[Callable, dict[str, Any], dict[str, Any]]
] = {  # name -> (model and guide, parameters, keyword arguments)
    "conjugate": (conjugate_per_datum, {"loc": 0.3 * X, "log_scale": -0.1 * X**2}, {}),
    "subsampled": (conjugate, {"loc": 0.4, "log_scale": -0.3}, {"size": 60}),
    "global": (lambda b: regression(b, 6), {"loc": 0.4, "log_scale": -0.3}, {}),
    "global, subsampled": (lambda b: regression(b, 60), {"loc": 0.4, "log_scale": -0.3}, {}),
    "chain": (
        chain,
        {
            "slope2": 0.5 + 0.1 * X,
            "log_scale2": 0.1 * X,
            "slope1": 0.4 - 0.1 * X,
            "log_scale1": -0.2 * X,
        },
        {},
    ),
    "discrete": (mixture_model, {"logits": X}, {}),
}

LOSSES: dict[str, Callable[[Any], Any]] = {
    "ELBO": lambda l: l.ELBO(),
    "beta": lambda l: l.ELBO(beta=0.3, num_particles=3),
    "scheduled": lambda l: l.ELBO(beta=linear(10)),
    "stl": lambda l: l.ELBO(num_particles=2, estimator="stl"),
    "score": lambda l: l.ELBO(estimator="score"),
    "score, particles": lambda l: l.ELBO(num_particles=4, estimator="score"),
    "analytic": lambda l: l.ELBO(analytic_kl=True),
    "analytic, particles": lambda l: l.ELBO(num_particles=3, analytic_kl=True),
    "IWAE": lambda l: l.IWAE(5),
    "IWAE, one": lambda l: l.IWAE(1),
    "dreg": lambda l: l.IWAE(5, estimator="dreg"),
    "reconstruction": lambda l: l.Reconstruction(num_particles=2),
    "sum": lambda l: 2.0 * l.ELBO(beta=0.5) + linear(8) * l.Reconstruction() + 0.1 * l.IWAE(4),
}


def carry_over(
    pyro_backend: PyroBackend, guide: Callable, draws: dict[str, np.ndarray], num_particles: int
) -> Callable:
    """The guide, drawing the given values along the pathwise gradient of its own distributions."""
    from pyro.poutine.messenger import Messenger
    from pyro.poutine.util import site_is_subsample

    class Carry(Messenger):
        def _pyro_sample(self, msg: Any) -> None:
            if site_is_subsample(msg) or msg["done"] or msg["name"] not in draws:
                return
            value = pyro_backend.array(draws[msg["name"]])  # (num_particles, *batch)
            if num_particles == 1:
                value = value[0]
            elif value.ndim == 1:
                value = value[:, None]  # a site outside the plate, clear of its dimension
            fn = msg["fn"]
            msg["value"] = (
                fn.loc + fn.scale * ((value - fn.loc) / fn.scale).detach()
                if fn.has_rsample
                else value
            )
            msg["done"] = True

    carried = Carry()(guide)

    def run(*args: Any, **kwargs: Any) -> Any:
        finding_out_how = not torch.is_grad_enabled()
        return (guide if finding_out_how else carried)(*args, **kwargs)

    return run


CASES = [
    (model, loss)
    for model in ("global, subsampled", "chain")
    for loss in LOSSES
    if not (model == "chain" and "analytic" in loss)
]
CASES += [
    (model, loss)
    for model in ("conjugate", "subsampled", "global", "discrete")
    for loss in ("ELBO", "IWAE", "sum")
]


@pytest.mark.parametrize(("model", "loss"), CASES)
def test_losses_agree(model: str, loss: str) -> None:
    make, params, kwargs = MODELS[model]
    pyro_side, jax_side = PyroBackend(), NumPyroBackend()
    with pyro_side.double_precision(), jax_side.double_precision():
        jax_model, jax_guide = make(jax_side)
        jax_loss = LOSSES[loss](jax_side.losses)
        num_particles = max(term.num_particles for _, term in jax_loss.terms)
        joints = jax_side.joints.Joints(
            jax_side.jax.random.key(3),
            {name: jax_side.array(value) for name, value in params.items()},
            jax_model,
            jax_guide,
            (jax_side.array(X),),
            kwargs,
            num_particles=num_particles,
            share_globals=any(term.shares_globals for _, term in jax_loss.terms),
        )
        draws = {
            name: np.array(value)
            for name, value in joints.inference().runs.record["values"].items()
        }
        value, terms, gradients = jax_side.evaluate(
            jax_loss, jax_model, jax_guide, X, params=params, seed=3, step=4, **kwargs
        )

        pyro_model, pyro_guide = make(pyro_side)
        pyro_guide = carry_over(pyro_side, pyro_guide, draws, num_particles)
        twin_value, twin_terms, twin_gradients = pyro_side.evaluate(
            LOSSES[loss](pyro_side.losses),
            pyro_model,
            pyro_guide,
            X,
            params=params,
            step=4,
            **kwargs,
        )
    assert twin_value == pytest.approx(value, rel=1e-10, abs=1e-10)
    assert twin_terms == pytest.approx(terms, rel=1e-10, abs=1e-10)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(
            twin_gradients[name], gradient, rtol=1e-10, atol=1e-10, err_msg=name
        )
    assert any(np.abs(gradient).max() > 1e-6 for gradient in gradients.values())
