"""Losses on models that were not written for them: the stock engines, autoguides,
errors in words.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.toys import Q, conjugate, ones


def run_stock_svi(
    backend: Any, model: Callable, guide: Callable, loss: Any, num_steps: int, *args: Any
) -> dict[str, float]:
    """The library's own SVI engine, untouched; returns the free parameters."""
    args = tuple(backend.array(a) for a in args)
    if backend.name == "pyro":
        import pyro

        pyro.clear_param_store()
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss)
        for _ in range(num_steps):
            svi.step(*args)
        return {name: value.detach().numpy() for name, value in pyro.get_param_store().items()}
    import jax
    import numpyro
    import optax

    svi = numpyro.infer.SVI(model, loss.attach(guide), optax.adam(0.05), loss)
    result = svi.run(jax.random.key(0), num_steps, *args, progress_bar=False)
    return {name: np.asarray(value) for name, value in result.params.items()}


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ELBO", "IWAE", "dreg", "scheduled"])
def test_stock_svi_reaches_the_posterior(backend: Any, loss: str) -> None:
    from dgm_core.schedules import linear

    losses = backend.losses
    term = {
        "ELBO": losses.ELBO(estimator="stl"),
        "IWAE": losses.IWAE(2),
        "dreg": losses.IWAE(4, estimator="dreg"),
        "scheduled": losses.ELBO(beta=linear(50), analytic_kl=True),
    }[loss]
    model, guide = conjugate(backend)
    found = run_stock_svi(backend, model, guide, term, 400, ones(200))
    assert found["loc"] == pytest.approx(0.5, abs=0.05)
    assert np.exp(2 * found["log_scale"]) == pytest.approx(
        0.5, abs=0.06 if loss != "IWAE" else 0.15
    )


def test_a_loss_of_schedules_needs_attach() -> None:
    from dgm_core.schedules import linear
    from numpyro_dgm.losses import ELBO

    def guide() -> None:
        return None

    assert ELBO().attach(guide) is guide
    assert ELBO(beta=linear(10)).attach(guide) is not guide


def eight_schools(backend: Any) -> tuple[Callable, np.ndarray]:
    """Eight schools, non-centered: two global latents, one of them positive, and a local one."""
    dist = backend.dist
    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def model(y: Any) -> None:
        mu = backend.sample("mu", dist.Normal(backend.array(0.0), backend.array(5.0)))
        tau = backend.sample("tau", dist.HalfCauchy(backend.array(5.0)))
        with backend.plate("J", 8):
            theta = backend.sample(
                "theta_trans", dist.Normal(backend.array(0.0), backend.array(1.0))
            )
            backend.sample("y", dist.Normal(mu + tau * theta, backend.array(sigma)), obs=y)

    return model, y


def prior_guide(backend: Any) -> Callable:
    dist = backend.dist

    def guide(y: Any) -> None:
        backend.sample("mu", dist.Normal(backend.array(4.4), backend.array(3.3)))
        backend.sample("tau", dist.HalfCauchy(backend.array(5.0)))
        with backend.plate("J", 8):
            backend.sample("theta_trans", dist.Normal(backend.array(0.0), backend.array(1.0)))

    return guide


def test_iwae_of_eight_schools_tends_to_the_evidence(backend: Any) -> None:
    """-31.31135 (references): with all its data present the weights are those of the whole joint,
    constrained supports included.
    """
    model, y = eight_schools(backend)
    guide = prior_guide(backend)
    loss = backend.losses.IWAE(20_000)
    totals = [-backend.evaluate(loss, model, guide, y, seed=seed)[0] for seed in range(8)]
    assert np.mean(totals) == pytest.approx(-31.31135, abs=0.03)
    elbo = -backend.evaluate(backend.losses.ELBO(num_particles=2000), model, guide, y)[0]
    assert elbo < -31.5


@pytest.mark.slow
def test_autoguides_of_the_libraries(backend: Any) -> None:
    """Mean-field and full-rank autoguides on eight schools: below the best bounds of their families
    (references), above the prior guide.
    """
    model, y = eight_schools(backend)
    if backend.name == "pyro":
        import pyro
        from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
    else:
        from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
    for family, best in ((AutoNormal, -31.597), (AutoMultivariateNormal, -31.534)):
        guide = family(model)
        loss = backend.losses.ELBO(num_particles=10)
        if backend.name == "pyro":
            svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), loss)
            for _ in range(800):
                svi.step(backend.array(y))
            import torch

            with torch.no_grad():
                bound = -backend.losses.ELBO(num_particles=20_000)(
                    model, guide, backend.array(y)
                ).item()
        else:
            import jax
            import numpyro
            import optax

            svi = numpyro.infer.SVI(model, guide, optax.adam(0.02), loss)
            result = svi.run(jax.random.key(0), 800, backend.array(y), progress_bar=False)
            bound = -float(
                backend.losses.ELBO(num_particles=20_000).loss(
                    jax.random.key(1), result.params, model, guide, backend.array(y)
                )
            )
        assert best - 0.3 < bound < best + 0.06, (family.__name__, bound)


def test_errors_are_sentences(backend: Any) -> None:
    dist, losses = backend.dist, backend.losses
    model, guide = conjugate(backend)

    def nothing(x: Any, size: int | None = None) -> None:
        return None

    def more(x: Any, size: int | None = None) -> None:
        guide(x)
        backend.sample("extra", dist.Normal(backend.array(0.0), backend.array(1.0)))

    def unplated(x: Any, size: int | None = None) -> None:
        backend.sample("z", dist.Normal(backend.array(np.zeros(len(x))), backend.array(1.0)))

    with pytest.raises(ValueError, match=r"misses \['z'\]"):
        backend.evaluate(losses.ELBO(), model, nothing, ones(3))
    with pytest.raises(ValueError, match=r"draws \['extra'\]"):
        backend.evaluate(losses.ELBO(), model, more, ones(3), params=Q)
    with pytest.raises(
        ValueError, match=r"'z' lies in the subsampled plate .* but not in the guide"
    ):
        backend.evaluate(losses.ELBO(), model, unplated, ones(3), size=10)
    with pytest.raises(
        ValueError,
        match=r"NLL needs a model whose sample sites are all observed, but \['z'\] are latent",
    ):
        backend.evaluate(losses.NLL(), model, guide, ones(3), params=Q)
    with pytest.raises(ValueError, match="NLL needs a model that observes something, and this one"):
        backend.evaluate(losses.NLL(), nothing, nothing, ones(3))
    for make, message in [
        (
            lambda: losses.ELBO(num_particles=0),
            "num_particles must be an integer of at least 1, got 0",
        ),
        (lambda: losses.ELBO(beta=-1.0), "beta must be a number of at least 0 or a schedule"),
        (
            lambda: losses.ELBO(estimator="pathwise"),
            "estimator must be one of 'reparam', 'stl', 'score', got 'pathwise'",
        ),
        (lambda: losses.ELBO(estimator="stl", analytic_kl=True), "choose one of them"),
        (lambda: losses.IWAE(estimator="stl"), "estimator must be one of 'reparam', 'dreg'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError):
        losses.ELBO() + 3.0
    with pytest.raises(ValueError, match="weight of a loss must be a finite number or a schedule"):
        "2" * losses.ELBO()


def test_subsampled_plate_inside_the_logarithm_is_refused(backend: Any) -> None:
    dist = backend.dist

    def model(x: Any) -> None:
        w = backend.sample("w", dist.Normal(backend.array(0.0), backend.array(1.0)))
        with backend.plate("a", 10, subsample_size=len(x)):
            backend.sample("x", dist.Normal(w, backend.array(1.0)), obs=x)
        backend.sample("y", dist.Normal(w, backend.array(1.0)), obs=backend.array(0.0))

    def guide(x: Any) -> None:
        backend.sample("w", dist.Normal(backend.array(0.0), backend.array(1.0)))

    backend.evaluate(backend.losses.ELBO(), model, guide, ones(4))
    with pytest.raises(ValueError, match=r"plate 'a' .*inside the logarithm"):
        backend.evaluate(backend.losses.IWAE(3), model, guide, ones(4))


def test_maximum_likelihood_of_a_model_without_latents(backend: Any) -> None:
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("x", dist.Normal(backend.param("mean"), backend.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        return None

    x = np.array([0.0, 1.0, 5.0])
    total, terms, gradient = backend.evaluate(
        backend.losses.NLL(), model, guide, x, params={"mean": 1.0}
    )
    assert terms["NLL"] == pytest.approx(0.5 * math.log(2 * math.pi) + (1 + 0 + 16) / 6)
    assert total == pytest.approx(3 * terms["NLL"])
    assert gradient["mean"] == pytest.approx(-(x - 1.0).sum())
    elbo = backend.evaluate(backend.losses.ELBO(), model, guide, x, params={"mean": 1.0})[1]["ELBO"]
    assert elbo == pytest.approx(-terms["NLL"])


def test_explicit_subsample_indices_survive(backend: Any) -> None:
    """pyro#3468: a guide without the plate's indices must not replace those of the model."""
    dist, np_ = backend.dist, backend.np
    chosen = [1, 3]

    def model(x: Any) -> None:
        w = backend.sample("w", dist.Normal(backend.array(0.0), backend.array(1.0)))
        if backend.name == "pyro":
            import pyro
            import torch

            plate = pyro.plate("data", 4, subsample=torch.tensor(chosen))
            idx = torch.tensor(chosen)
        else:
            import numpyro

            idx = np_.array(chosen)
            with numpyro.handlers.substitute(data={"data": idx}):
                plate = numpyro.plate("data", 4, subsample_size=2)
        with plate:
            backend.sample("x", dist.Normal(w, backend.array(1.0)), obs=x[idx])

    def guide(x: Any) -> None:
        with backend.plate("data", 4, subsample_size=2):
            pass
        backend.sample("w", dist.Delta(backend.array(0.0)))

    x = np.array([0.0, 1.0, 100.0, 2.0])
    _, terms, _ = backend.evaluate(backend.losses.ELBO(), model, guide, x)
    exact = 4 * (-0.5 * math.log(2 * math.pi)) + 2 * (-0.5 * (1 + 4)) - 0.5 * math.log(2 * math.pi)
    assert 4 * terms["ELBO"] == pytest.approx(exact)
