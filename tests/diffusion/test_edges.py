"""What is rare: learned schedules with much noise at their first level, integers, no data, draws
with the settings of the conditional."""

from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from dgm_core.diffusion import VP
from tests.diffusion.test_terms import built
from tests.diffusion.toys import drawn, log_normal, of_normal, sampled


def test_a_first_level_with_noise(backend: Any) -> None:
    """A datum is x_0 / alpha_0: densities, both ways along the flow and draws of it agree."""
    s2, made = 0.4, backend.conditionals
    schedule = made.LearnedSchedule(gamma_min=-2.0, gamma_max=7.0)
    net = made.Diffusion(1, of_normal(backend, schedule, s2), schedule=schedule, ode_steps=30)
    x, s2 = np.array([[-0.9], [0.2], [1.4]]), s2 + np.exp(-2.0)  # sigma_0^2 / alpha_0^2

    def run(how: Any) -> list[Any]:
        values = backend.array(x)
        ends = net().encode(values)
        draws = [sampled(net(), how, (4000,), method=m, num_steps=25) for m in ("ode", "ddim")]
        return [net().log_prob(values), ends, net().decode(ends), *draws]

    density, ends, again, *draws = drawn(backend, run)
    np.testing.assert_allclose(density, log_normal(x, s2), atol=2e-3)
    np.testing.assert_allclose(ends, x / s2**0.5, atol=3e-3)
    np.testing.assert_allclose(again, x, atol=1e-4)
    for found in draws:
        assert abs(found.var() - s2) < 4 * s2 * (2 / 4000) ** 0.5 + 0.02


def test_integers_and_no_data(backend: Any) -> None:
    """Integers count as the numbers that they are; of no data there are no values."""
    net = backend.conditionals.Diffusion(2, of_normal(backend, VP(3), 0.5), schedule=VP(3))
    numbers = backend.np.asarray(np.array([[1, -2], [0, 1]]))

    def run(how: Any) -> list[Any]:
        p, values, none = net(), backend.array(numbers), backend.array(np.zeros((0, 2)))
        functions = [
            lambda x: p.log_prob(x),
            lambda x: p.bound(x, **how),
            lambda x: p.denoising(x, **how),
            lambda x: p.encode(x),
            lambda x: p.score(x, 0.4),
        ]
        found = []
        for function in functions:
            for x in (numbers, values, none):
                if backend.name == "pyro":
                    backend.torch.manual_seed(0)
                found.append(function(x))
        return [*found, sampled(p, how, (0,))]

    *found, draws = drawn(backend, run)
    for ours, exact, nothing in zip(found[::3], found[1::3], found[2::3]):
        np.testing.assert_array_equal(ours, exact)
        assert len(ours) == 2 and len(nothing) == 0
    assert draws.shape == (0, 2)


def test_draws_with_the_settings_of_the_conditional(backend: Any) -> None:
    """`num_steps` of a diffusion is of its own method, also along the flow and in `decode`."""
    made, noise = backend.conditionals.Diffusion, np.array([[0.5], [-1.0]])
    net = of_normal(backend, VP(30), 0.3)
    flow = made(1, net, schedule=VP(30), method="ode", num_steps=40, ode_steps=2)
    chain = made(1, net, schedule=VP(30), method="ddim", num_steps=4, ode_steps=2)

    def run(_: Any) -> list[Any]:
        x = backend.array(noise)
        return [
            made_by.decode(x, method=method, **steps)
            for made_by, method, num in ((flow(), "ode", 40), (chain(), "ddim", 4))
            for steps in ({}, {"num_steps": num}, {"num_steps": 3})
        ]

    found = drawn(backend, run)
    for own, same, other in (found[:3], found[3:]):
        np.testing.assert_array_equal(own, same)
        assert (own != other).all()
    with pytest.raises(ValueError, match="num_steps must be an integer from 1 to 30, got 40"):
        made(1, net, schedule=VP(30), num_steps=40)


def test_as_a_guide(backend: Any) -> None:
    """Scored along its flow, a guide must draw along it: then the bound is log p(x), else it is
    refused, where the density is asked for."""
    made, losses, dist, s2 = backend.conditionals.Diffusion, backend.losses, backend.dist, 0.2
    posterior = of_normal(backend, VP(), s2)  # of z ~ Normal(0, 1 / 4), x = 0 | z ~ Normal(z, 1)

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(0 * x, backend.array(0.5)).to_event(1))
            backend.sample("x", dist.Normal(z, backend.array(1.0)).to_event(1), obs=x)

    def guided(**settings: Any) -> Any:
        net = made(1, posterior, schedule=VP(), ode_steps=10, **settings)

        def guide(x: Any) -> None:
            with backend.plate("data", len(x)):
                backend.sample("z", net())

        return guide

    x, wanted = np.zeros((6, 1)), -np.log(2 * np.pi * 1.25) / 2
    _, found, _ = backend.evaluate(losses.ELBO(), model, guided(method="ode"), x)
    assert found["ELBO"] == pytest.approx(wanted, abs=1e-2)
    for loss in (losses.ELBO(), losses.IWAE(2), losses.ELBO(analytic_kl=True)):
        with pytest.raises(ValueError, match=r"Site 'z' .* scored along its flow, .* method="):
            backend.evaluate(loss, model, guided(), x)


def test_data_are_looked_at_before_training(backend: Any) -> None:
    """Levels that are none, and gray levels up to 255 without any, are refused by `fit`."""
    made, package = backend.conditionals.Diffusion, import_module(f"{backend.name}_dgm")
    for settings, worst, message in (
        ({"num_levels": 3}, 0.3, r"Site 'x' observes 0.3, outside the support of .*Levels\(3\)"),
        ({}, 255.0, r"observes 255, outside .*: check the data and their scaling"),
        ({"data_variance": 100.0}, 255.0, None),
    ):
        settings = {**settings, "schedule": VP(3), "variance": "optimal"}
        net = made((1, 1, 2), lambda x, t: 0.1 * x, **settings)

        def model(x: Any, net: Any = net) -> None:
            own = package.nn.register("net", net)
            with backend.plate("data", 3, subsample_size=len(x)):
                backend.sample("x", own(), obs=x)

        x = backend.array(np.array([0.0, 0.5, worst])[:, None, None, None] * np.ones((1, 1, 2)))
        how = {"loss": backend.losses.DenoisingELBO("x"), "num_steps": 1, "progress": False}
        if backend.name == "pyro":
            backend.pyro.clear_param_store()
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            package.fit(model, None, x, batch_size=2, **how)


@pytest.mark.slow("numpyro")
def test_particles_of_a_density_that_is_estimated(backend: Any) -> None:
    """Several of them give no bound, which is said in training and evaluation; one does, and so do
    several where the trace is exact."""
    make = partial(built, backend, "flows", "ContinuousTransform", 2, num_steps=1, hidden=(3,))
    flows, rough = import_module(f"{backend.name}_dgm.flows"), make(num_probes=1)
    nn, losses = import_module(f"{backend.name}_dgm.nn"), backend.losses

    def pair(transform: Any) -> tuple[Any, Any]:
        prior = flows.Flow(2, [transform])

        def model(x: Any) -> None:
            own = nn.register("prior", prior)
            with backend.plate("data", len(x)):
                z = backend.sample("z", own())
                backend.sample("x", backend.dist.Normal(z, 1.0).to_event(1), obs=x)

        def guide(x: Any) -> None:
            with backend.plate("data", len(x)):
                backend.sample("z", backend.dist.Normal(backend.array(x), 1.0).to_event(1))

        return model, guide

    x = np.zeros((3, 2))
    with pytest.warns(UserWarning, match=r"density of \['z'\] is estimated, .* IWAE averages"):
        backend.evaluate(losses.IWAE(2), *pair(rough), x)
    run = backend.run(*pair(rough))
    evaluated = partial(backend.evaluation.log_likelihood, run, x, progress=False)
    with pytest.warns(UserWarning, match="a mean of weights averages .* is no bound"):
        evaluated(num_particles=2)
    evaluated(num_particles=1)
    backend.evaluate(losses.ELBO(num_particles=2), *pair(rough), x)
    backend.evaluate(losses.IWAE(2), *pair(make()), x)
    with pytest.raises(ValueError, match=r"of shape \(3,\), got ContinuousTransform\(2, .* \(2,\)"):
        flows.Flow(3, [rough])
