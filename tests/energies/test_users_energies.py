"""Energies as users write them: of a wrong shape, on counts and bytes, beneath masks and event
dimensions, with networks that are no functions; what is right, and what is refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dgm_core.energies import restarted
from tests.energies.test_models import terms_of
from tests.energies.toys import normal, nothing, numbers, part, quadratic
from tests.losses.training import build, fit, package

X = np.random.default_rng(0).standard_normal((6, 1))


def stated(backend: Any, potential: Callable, dim: int = 1, wrap: Callable = lambda p: p) -> Any:
    """A model of data with a potential of one parameter."""

    def model(x: Any) -> None:
        rate, made = backend.param("l"), backend.conditionals
        energy = made.UnnormalizedDistribution(
            lambda x: potential(rate, x), normal(backend, dim), part(backend, "mcmc").MALA(0.5), 2
        )
        with backend.plate("data", len(x)):
            backend.sample("x", wrap(energy), obs=x)

    return model


def density(backend: Any, module: Any) -> Callable:
    """A model of data with a conditional."""
    register = package(backend).nn.register

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("x", register("density", module)(), obs=x)

    return model


def every_term(backend: Any) -> list[Any]:
    losses, noise = backend.losses, backend.conditionals.StandardNormal(1)
    return [
        losses.ContrastiveDivergence("x"),
        losses.ContrastiveDivergence("x", chains=losses.Persistent(4)),
        losses.ScoreMatching("x"),
        losses.ScoreMatching("x", method="sliced"),
        losses.DenoisingScoreMatching("x", 0.3),
        losses.NoiseContrastive("x", noise),
    ]


def test_a_potential_gives_one_number_for_each_value(backend: Any) -> None:
    """(num, 1) would be broadcast to (num, num), and a sum over the batch counted for each."""
    params = {"l": np.array(0.7)}
    column = stated(backend, lambda rate, x: -rate * x**2 / 2)
    summed = stated(backend, lambda rate, x: -rate * (x**2).sum() / 2)
    told = r"must give one number for each value, shape \(.*\), got \("
    for model in (column, summed):
        for loss in every_term(backend):
            with pytest.raises(ValueError, match=told):
                backend.evaluate(loss, model, nothing, X, params=params)
    loss, both = every_term(backend)[0], {**params, "c": np.array(0.0)}
    for wrong in (np.zeros((6, 2)), np.zeros(6)):
        with pytest.raises(ValueError, match=r"must end in its event shape \(1,\), got shape \("):
            backend.evaluate(loss, quadratic(backend), nothing, wrong, params=both)


def test_counts_and_bytes_are_numbers(backend: Any) -> None:
    """Terms on integers are those on the same numbers."""
    whole = np.arange(6).reshape(6, 1)
    params = {"l": np.array(0.7), "c": np.array(0.1)}
    as_array = backend.np.asarray if backend.name == "numpyro" else backend.torch.as_tensor
    for loss in every_term(backend)[:1] + every_term(backend)[2:]:
        found = [
            backend.evaluate(loss, quadratic(backend), nothing, data, params=params)[1]
            for data in (whole.astype(float), as_array(whole), as_array(whole.astype(np.uint8)))
        ]
        assert found[0] == pytest.approx(found[1]) and found[0] == pytest.approx(found[2]), loss


def test_constants_of_energies_beneath_masks_and_event_dimensions(backend: Any) -> None:
    rate, params = 0.7, {"l": np.array(0.7)}
    log_z = 0.5 * np.log(2 * np.pi / rate)

    def potential(rate: Any, x: Any) -> Any:
        return -rate * (x**2).sum(-1) / 2

    x = np.random.default_rng(1).standard_normal((6, 3, 1))
    normalized, nll = part(backend, "evaluation").normalized, backend.losses.NLL()
    wide = stated(backend, potential, wrap=lambda p: p.expand((3,)).to_event(1))
    _, terms, _ = backend.evaluate(nll, normalized(wide, {"x": log_z}), nothing, x, params=params)
    assert terms["NLL"] == pytest.approx((rate * x**2 / 2 + log_z).sum() / 6)
    rows = backend.np.asarray([True, True, False, True, False, False])
    masked = stated(backend, potential, wrap=lambda p: p.mask(rows))
    known = normalized(masked, {"x": log_z})
    _, terms, _ = backend.evaluate(nll, known, nothing, x[:, 0], params=params)
    expected = (rate * x[[0, 1, 3], 0] ** 2 / 2 + log_z).sum() / 6
    assert terms["NLL"] == pytest.approx(expected)


def test_one_constant_is_that_of_one_distribution(backend: Any) -> None:
    """Where Z depends on a context, no number but the 0 of a self-normalized energy is stated, and
    none is estimated."""
    made, losses, nn = backend.conditionals, backend.losses, package(backend).nn
    net = build(backend, nn.MLP, 2, (3,), 1)
    energy = made.Energy(1, net, context_shape=1)

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("x", nn.register("energy", energy)(x), obs=x)

    normalized, x = part(backend, "evaluation").normalized, backend.array(X)
    with pytest.raises(
        ValueError, match=r"A stated ln Z belongs to one .* shape \(6,\)\): state 0"
    ):
        terms_of(backend, losses.NLL(), normalized(model, {"x": 1.0}), x)
    found = terms_of(backend, losses.NLL(), normalized(model, {"x": 0.0}), x)
    value = -float(numbers(energy(x).unnormalized_log_prob(x)).mean())
    assert found["NLL"] == pytest.approx(value)
    with pytest.raises(ValueError, match="An estimate of ln Z belongs to one distribution"):
        terms_of(backend, losses.ContrastiveDivergence("x", log_z=5), model, x)


def test_the_network_of_an_energy_is_a_function(backend: Any) -> None:
    """Of one value, the same at every call: what a chain would move, or draw anew, is refused."""
    nn, made = package(backend).nn, backend.conditionals
    nets = {
        "BatchNorm": build(backend, nn.MLP, 1, (3,), 1, batch_norm=True),
        "Dropout": build(backend, nn.MLP, 1, (3,), 1, dropout=0.5),
        "SpectralNorm": nn.SpectralNorm(build(backend, nn.Linear, 1, 1)),
    }
    for part_of_it, net in nets.items():
        told = rf"network of an energy must be a function, .* has a {part_of_it}: leave it out\.$"
        with pytest.raises(ValueError, match=told):
            made.Energy(1, net)


@pytest.mark.slow("[numpyro")
def test_a_bound_in_validation_has_the_constant_of_the_loss(backend: Any) -> None:
    """`ELBO() + ContrastiveDivergence(..., log_z=)` scores held-out data by the same bound."""
    made, losses = backend.conditionals, backend.losses
    net = build(backend, package(backend).nn.MLP, 1, (3,), 1)
    prior = made.Tilted(made.StandardNormal(1), net)
    vae = build(backend, package(backend).VAE, 2, 1, hidden=(3,), prior=prior)
    x = np.random.default_rng(1).integers(0, 2, (4, 2)).astype(float)
    loss = losses.ELBO() + losses.ContrastiveDivergence("z", chains=losses.Persistent(4), log_z=50)
    run = fit(backend, vae.model, vae.guide, x, loss=loss, num_epochs=1, validation=x)
    last = run.history.last
    assert last["validation"] == pytest.approx(-last["validation/ELBO"])
    assert abs(last["validation/ContrastiveDivergence(z)/log_z"]) < 1


def test_what_is_refused(backend: Any) -> None:
    made, losses, mcmc = backend.conditionals, backend.losses, part(backend, "mcmc")
    net = build(backend, package(backend).nn.MLP, 2, (3,), 1)
    tilted = made.Tilted(made.StandardNormal(2), net)
    calls: list[tuple[Callable, str]] = [
        (lambda: made.Energy(2, net, base="normal"), r"^base must be .* of shape \(2,\), got 'nor"),
        (lambda: made.Energy(2, net, base=made.StandardNormal(3)), r"^base must be .* got Standa"),
        (made.Tilted(tilted, net), "^The base of an unnormalized distribution must have a density"),
        (lambda: losses.NoiseContrastive("x", tilted), "^noise must be .* density is known, got T"),
        (
            lambda: losses.ContrastiveDivergence("x", kernel=mcmc.MALA),
            "^kernel must be a transitio",
        ),
        (lambda: made.Energy(2, net, kernel=abs), "^kernel must be a transition kernel such as"),
    ]
    for call, told in calls:
        with pytest.raises(ValueError, match=told):
            call()
    with pytest.warns(UserWarning, match=r"of ContrastiveDivergence\(x\) have no noise: they end"):
        losses.ContrastiveDivergence("x", kernel=mcmc.Langevin(0.1, temperature=0))
    masses = mcmc.HMC(0.3, 2, inverse_mass=backend.array([1.0, 2.0]))
    assert repr(masses).startswith("HMC(0.3, 2, inverse_mass=") and "(2,)" in repr(masses)


def test_lost_chains_are_told_of() -> None:
    name = "ContrastiveDivergence(x)/restarts"
    assert restarted([{"loss": 1.0, name: 0.0}]) is None
    assert f"({name} 7)" in str(restarted([{name: 3.0}, {name: 7.0}]))
