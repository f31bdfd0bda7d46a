"""Flows as guides of a potential in the plane: the bound stays below log Z and comes closer with a
richer flow (Rezende & Mohamed 2015, section 6.1).

The density is exp(-U1(z)) / Z over R^2, two modes on a ring.  A model with the site z ~ Normal(0, 4
I) and the factor exp(-U1(z)) / Normal(z; 0, 4 I) has the evidence Z, and the ELBO of a guide q is
log Z - KL(q, exp(-U1) / Z).
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import Schedule
from tests.contracts.libraries import PyroLibrary

pytestmark = pytest.mark.slow

AS_USERS_COMPILE = True

LOG_Z = 1.87750


def log_density(xp: Any, z: Any) -> Any:
    """-U1(z), z (*batch, 2)."""
    ring = ((z**2).sum(-1) ** 0.5 - 2.0) / 0.4
    return -0.5 * ring**2 + xp.logaddexp(
        -0.5 * ((z[..., 0] - 2.0) / 0.6) ** 2, -0.5 * ((z[..., 0] + 2.0) / 0.6) ** 2
    )


def log_weights(
    lib: Any, flow: Any, *, num_steps: int, learning_rate: float, batch_size: int
) -> np.ndarray:
    """log exp(-U1(z)) - log q(z) for 100,000 draws of the guide q = flow, trained on as many draws
    per step as a batch has, from flat to the potential.
    """
    pyro = isinstance(lib, PyroLibrary)
    xp, factor = (lib.torch, lib.pyro.factor) if pyro else (lib.jnp, lib.numpyro.factor)
    nn, loss = lib.package.nn, lib.package.ELBO(beta=Schedule((0, num_steps // 3), (3.0, 1.0)))
    rate = Schedule((0, num_steps // 2, num_steps), (1.0, 1.0, 0.01))

    def model(draws: Any) -> None:
        with lib.plate("draws", len(draws)):
            wide = lib.dist.Normal(lib.array(np.zeros(2)), 2.0).to_event(1)
            z = lib.sample("z", wide)
            factor("potential", log_density(xp, z) - wide.log_prob(z))

    def guide(draws: Any) -> None:
        with lib.plate("draws", len(draws)):
            lib.sample("z", nn.register("flow", flow)())

    if pyro:
        draws = np.zeros(50 * batch_size)
        optim, epochs = lib.package.Adam(learning_rate), num_steps // 50
        run = lib.package.fit(
            model,
            guide,
            draws,
            loss=loss,
            optim=optim,
            lr_schedule=rate,
            batch_size=batch_size,
            num_epochs=epochs,
            progress=False,
        )
    else:
        import optax

        svi = lib.numpyro.infer.SVI(
            model, loss.attach(guide), optax.adam(lambda step: learning_rate * rate(step)), loss
        )
        result = svi.run(lib.jax.random.key(0), num_steps, np.zeros(batch_size), progress_bar=False)
        run = SimpleNamespace(model=model, guide=guide, params=result.params)
    return lib.package.log_weights(run, np.zeros(250), num_particles=400).ravel()


def gap(log_w: np.ndarray) -> tuple[float, float]:
    """log Z minus the bound, and its standard error."""
    return LOG_Z - log_w.mean(), log_w.std() / len(log_w) ** 0.5


def test_the_constant_of_the_potential() -> None:
    axis = np.linspace(-6.0, 6.0, 601)
    z = np.stack(np.meshgrid(axis, axis), -1)
    assert abs(np.log(np.exp(log_density(np, z)).sum() * 0.02**2) - LOG_Z) < 1e-5


@pytest.mark.long("[pyro", "[numpyro")
def test_planar_flows_fill_the_potential(lib: Any) -> None:
    """Each time four times as many layers: the gap falls to less than half."""
    gaps, errors = zip(
        *(
            gap(
                log_weights(
                    lib,
                    lib.build("flows", "Planar", 2, num_layers=num_layers),
                    num_steps=600,
                    learning_rate=1e-2,
                    batch_size=256,
                )
            )
            for num_layers in (2, 8, 32)
        )
    )
    assert all(g > -4 * e for g, e in zip(gaps, errors))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]
    assert gaps[2] < 0.1


@pytest.mark.long("[pyro")
def test_a_spline_flow_closes_the_gap(lib: Any) -> None:
    """Autoregressive splines come within 0.02 nat, and their weights average to Z."""
    flow = lib.build(
        "flows", "AutoregressiveNSF", 2, num_layers=3, bound=4.0, activation="silu"
    ).inverse()  # drawn in one pass
    log_w = log_weights(lib, flow, num_steps=1500, learning_rate=5e-3, batch_size=512)
    distance, error = gap(log_w)
    assert -4 * error < distance < 0.02
    relative = np.exp(log_w - LOG_Z)
    assert relative.mean() == pytest.approx(1.0, abs=4 * relative.std() / len(relative) ** 0.5)
