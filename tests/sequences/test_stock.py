"""A deep Markov model as one path beside the same model with a site for each step under the stock
engines: values and gradients at the same noise.
"""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake

LENGTHS = np.array([3, 2, 0, 1])


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Compared to 1e-10."""


def build(lib: Any) -> Any:
    return lib.build("models", "DMM", 3, 2, 3, hidden=8, features=5)


def noise_of(dmm: Any, z: Any, features: Any, library: Any) -> list[Any]:
    """The standard normal numbers that make a path of a combiner, step by step."""
    found, last = [], library.broadcast_to(dmm.posterior.start, z[:, 0].shape)
    for t in range(z.shape[1]):
        q = dmm.posterior.transition((last, features[:, t])).base_dist
        found.append((z[:, t] - q.loc) / q.scale)
        last = z[:, t]
    return found


def a_site_for_each_step(
    dmm: Any, noise: list[Any], mask: Any, engine: Any, dist: Any, masked: Any
) -> tuple[Any, Any]:
    """The programs of that model, its guide with this noise."""

    def given(q: Any, e: Any) -> Any:
        """A normal distribution whose draws have this noise."""

        def draw(self: Any, *args: Any, **key: Any) -> Any:
            return self.loc + self.scale * e

        cls = type("Given", (dist.Normal,), {"sample": draw, "rsample": draw})
        return cls(q.base_dist.loc, q.base_dist.scale).to_event(1)

    def model(x: Any, features: Any) -> None:
        z = dmm.prior.start
        with engine.plate("data", len(x)):
            for t in range(x.shape[1]):
                with masked(mask=mask[:, t]):
                    z = engine.sample(f"z{t}", dmm.prior.transition(z))
                    seen = dmm.likelihood.conditional(dmm.decoder(z))
                    engine.sample(f"x{t}", seen, obs=x[:, t])

    def guide(x: Any, features: Any) -> None:
        z = dmm.posterior.start
        with engine.plate("data", len(x)):
            for t in range(x.shape[1]):
                q = dmm.posterior.transition((z, features(dmm)[:, t]))
                with masked(mask=mask[:, t]):
                    z = engine.sample(f"z{t}", given(q, noise[t]))

    return model, guide


def in_pyro(x: np.ndarray) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Our bound with its gradients, and that of the stock engine."""
    import pyro
    import torch

    from pyro_dgm.losses import ELBO

    lib = PyroLibrary()
    dmm = shake(build(lib))
    data, lengths = torch.tensor(x), torch.tensor(LENGTHS)
    mask = torch.arange(3) < lengths[:, None]

    def features(dmm: Any) -> Any:
        return dmm.encoder(data, lengths)

    def gradients(loss: Any) -> dict[str, np.ndarray]:
        names, weights = zip(*dmm.named_parameters())
        found = torch.autograd.grad(loss, weights)
        return {"loss": loss.item(), **{n: g.numpy() for n, g in zip(names, found)}}

    torch.manual_seed(1)
    with torch.no_grad():
        z = pyro.poutine.trace(dmm.guide).get_trace(data, lengths).nodes["z"]["value"]
        noise = noise_of(dmm, z, features(dmm), torch)
    torch.manual_seed(1)
    ours = gradients(ELBO().evaluate(dmm.model, dmm.guide, (data, lengths)).loss)
    pyro.clear_param_store()
    parts = dmm, noise, mask, pyro, pyro.distributions, pyro.poutine.mask
    model, guide = a_site_for_each_step(*parts)
    stock = pyro.infer.Trace_ELBO().differentiable_loss(model, guide, data, features)
    return dmm, ours, gradients(stock)


def in_numpyro(x: np.ndarray, dmm: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpyro

    from numpyro_dgm.losses import ELBO
    from tests.twins.copying import leaf_at

    lib = NumPyroLibrary()
    module = copy_weights(dmm, build(lib))
    data, lengths = jnp.asarray(x), jnp.asarray(LENGTHS)
    mask, key = jnp.arange(3) < lengths[:, None], jax.random.key(1)

    def features(dmm: Any) -> Any:
        return dmm.encoder(data, lengths)

    def ours(dmm: Any) -> tuple[Any, Any]:
        seen: list[Any] = []

        def guide(x: Any, lengths: Any) -> None:
            seen.append(dmm.guide(x, lengths))

        loss = ELBO().evaluate(key, {}, dmm.model, guide, (data, lengths)).loss
        return loss, jax.lax.stop_gradient(noise_of(dmm, seen[-1], features(dmm), jnp))

    def stock(dmm: Any, noise: Any) -> Any:
        parts = dmm, noise, mask, numpyro, numpyro.distributions, numpyro.handlers.mask
        model, guide = a_site_for_each_step(*parts)
        return numpyro.infer.Trace_ELBO().loss(key, {}, model, guide, data, features)

    @eqx.filter_jit
    def both(dmm: Any) -> Any:
        (loss, noise), slopes = eqx.filter_value_and_grad(ours, has_aux=True)(dmm)
        return (loss, slopes), eqx.filter_value_and_grad(stock)(dmm, noise)

    names = [name for name, _ in dmm.named_parameters()]
    return tuple(
        {"loss": float(loss), **{n: np.asarray(leaf_at(n)(slopes)) for n in names}}
        for loss, slopes in both(module)
    )


@pytest.mark.slow
def test_beside_the_stock_engines() -> None:
    x = np.random.default_rng(0).integers(0, 2, (4, 3, 3)).astype(float)
    dmm, *of_pyro = in_pyro(x)
    for ours, stock in (of_pyro, in_numpyro(x, dmm)):
        for name, value in ours.items():
            np.testing.assert_allclose(value, stock[name], rtol=1e-10, atol=1e-10, err_msg=name)
            assert np.any(value != 0), name
