"""Energies in `fit`: chains as state of a run, restarts, checkpoints, a tilted prior in a VAE."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.energies.toys import nothing, numbers, part
from tests.losses.training import build, fit

X = np.random.default_rng(0).gamma(2.0, 1.0, (30, 1))
CHAINED = "ContrastiveDivergence(x)"


def half(backend: Any) -> Callable:
    """x ~ x^a exp(-b x) where the log is defined, NaN beyond: chains that cross zero are lost."""

    def model(x: Any) -> None:
        a, b = (backend.param(name, backend.array(value)) for name, value in (("a", 2), ("b", 1.5)))

        def potential(value: Any) -> Any:
            return (a * backend.np.log(value) - b * value).sum(-1)

        made, mcmc = backend.conditionals, part(backend, "mcmc")
        base = backend.dist.LogNormal(backend.array([0.3]), backend.array([0.3])).to_event(1)
        energy = made.UnnormalizedDistribution(potential, base, mcmc.MALA(0.5), 5)
        with backend.plate("data", 30, subsample_size=len(x)):
            backend.sample("x", energy, obs=x)

    return model


@pytest.mark.slow("[numpyro")
def test_chains_that_are_lost_start_anew(backend: Any) -> None:
    """They are counted, in all steps so far, and no number of the run is affected."""
    losses, mcmc = backend.losses, part(backend, "mcmc")
    loss = losses.ContrastiveDivergence(
        "x", kernel=mcmc.Langevin(0.7, 4), chains=losses.Persistent(40, per_step=20, restart=0.1)
    )
    settings = {"num_epochs": 3, "batch_size": 10, "seed": 1}
    with pytest.warns(UserWarning, match=r"were started anew \(ContrastiveDivergence\(x\)/rest"):
        run = fit(backend, half(backend), None, X, loss=loss, **settings)
    counts = run.history.column(f"{CHAINED}/restarts")
    assert 0 < counts[0] < counts[-1] < 9 * 20
    state = run.term_state[CHAINED]
    assert numbers(state["chains"]).shape == (40, 1) and int(state["turn"]) == 9
    assert np.isfinite(numbers(state["chains"])).all() and (numbers(state["chains"]) > 0).all()
    assert np.isfinite(run.history.column("loss")).all()
    assert np.isfinite([numbers(value) for value in run.params.values()]).all()
    from_data = losses.ContrastiveDivergence("x", kernel=mcmc.Langevin(0.7, 4))
    params = {"a": np.array(2.0), "b": np.array(1.5)}
    _, terms, slopes = backend.evaluate(from_data, half(backend), nothing, X, params=params)
    assert terms[f"{CHAINED}/restarts"] > 0 and np.isfinite(slopes["a"])


class Stop(Exception):
    pass


@pytest.mark.slow("[numpyro")
def test_a_killed_run_goes_on_with_its_chains(backend: Any, tmp_path: Path) -> None:
    losses, mcmc = backend.losses, part(backend, "mcmc")
    loss = losses.ContrastiveDivergence(
        "x", kernel=mcmc.MALA(0.5), steps=2, chains=losses.Persistent(12, per_step=4)
    )
    settings: dict[str, Any] = {"loss": loss, "num_epochs": 4, "batch_size": 10, "seed": 2}
    whole = fit(backend, half(backend), None, X, **settings)

    def stop(run: Any) -> None:
        if run.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        fit(backend, half(backend), None, X, checkpoint=tmp_path, callbacks=[stop], **settings)
    resumed = fit(backend, half(backend), None, X, checkpoint=tmp_path, **settings)
    for name, value in whole.term_state[CHAINED].items():
        np.testing.assert_array_equal(numbers(value), numbers(resumed.term_state[CHAINED][name]))
    for name, value in whole.params.items():
        np.testing.assert_array_equal(numbers(value), numbers(resumed.params[name]))


@pytest.mark.slow("[numpyro")
def test_a_tilted_prior_in_a_vae(backend: Any) -> None:
    """It is trained with the bound beside it, drawn from, and evaluated with its constant."""
    package = __import__(f"{backend.name}_dgm")
    losses, made = backend.losses, backend.conditionals
    net = build(backend, package.nn.MLP, 2, (6,), 1, activation="tanh")
    prior = made.Tilted(made.StandardNormal(2), net, num_steps=3)
    vae = build(backend, package.VAE, 3, 2, hidden=(8,), prior=prior)
    x = np.random.default_rng(1).integers(0, 2, (20, 3)).astype(float)
    loss = losses.ELBO() + losses.ContrastiveDivergence("z", chains=losses.Persistent(16), log_z=64)
    with pytest.raises(made.UnnormalizedError, match="Site 'z' is unnormalized"):
        fit(backend, vae.model, vae.guide, x, loss=losses.ELBO(), num_epochs=1)
    run = fit(backend, vae.model, vae.guide, x, loss=loss, num_epochs=3, batch_size=10)
    assert np.isfinite(run.history.column("loss")).all()
    assert abs(run.history.column("ContrastiveDivergence(z)/log_z")[-1]) < 2
    moved = [name for name in run.params if "prior" in name]
    assert moved
    assert package.generate(run, size=4)["z"].shape == (4, 2)
    evaluation = part(backend, "evaluation")
    log_w = evaluation.log_weights(evaluation.normalized(run, {"z": 0.1}), x, num_particles=2)
    higher = evaluation.log_weights(evaluation.normalized(run, {"z": -0.9}), x, num_particles=2)
    np.testing.assert_allclose(higher - log_w, 1.0, atol=1e-5)
