"""What is read of codes is the same in both backends, at equal weights and draws."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import torch

import numpyro_dgm
import pyro_dgm
from tests.backends import NumPyroBackend, PyroBackend
from tests.evaluation import gaussians as g
from tests.twins.copying import copy_weights, shake

X = g.data(40)
NOISE = np.random.default_rng(1).normal(size=(40, 2))


def fixed(b: Any, noise: np.ndarray) -> Any:
    """The normal distribution, whose draws are loc + scale noise."""

    class Fixed(b.dist.Normal):
        def rsample(self, sample_shape: Any = ()) -> Any:
            return self.loc + self.scale * b.array(noise)

        def sample(self, key: Any = None, sample_shape: Any = ()) -> Any:
            return self.loc + self.scale * b.array(noise)

    return Fixed


def two_layers(b: Any, slope: float) -> tuple[Callable, Callable]:
    """low | top in the model, top | low in the guide where the slope is not zero."""
    d, w, a = b.dist, b.array(g.W), b.array(g.A)
    first, second = fixed(b, NOISE[:, 0]), fixed(b, NOISE[:, 1:])

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            top = b.sample("top", d.Normal(b.array(0.3), 1.2))
            low = b.sample("low", d.Normal(slope * top[..., None], 0.8).to_event(1))
            z = b.np.concatenate([top[..., None], low], -1)
            b.sample("x", d.Normal(b.np.tanh(z @ w.T), g.NOISE).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            loc = b.np.tanh(x @ a.T)
            low = b.sample("low", second(loc[:, 1:], 0.4 + 0.0 * loc[:, 1:]).to_event(1))
            b.sample("top", first(loc[:, 0] + slope * low[:, 0], 0.5 + 0.1 * loc[:, 1]))

    return model, guide


@pytest.mark.parametrize("options", [{}, {"aggregate": "stratified", "batch_size": 40}], ids=str)
@pytest.mark.parametrize("slope", [0.0, 0.7])
def test_surgery_agrees(slope: float, options: dict[str, Any]) -> None:
    found = []
    for b in (PyroBackend(), NumPyroBackend()):
        with b.double_precision():
            run = b.run(*two_layers(b, slope))
            found.append(b.evaluation.elbo_surgery(run, X, **options)._asdict())
    one, other = found
    for name in ("mean_kl", "mutual_information", "reconstruction"):
        assert one[name] == pytest.approx(other[name], rel=1e-10), name
    assert one["notes"] == other["notes"] and bool(one["notes"]) == bool(slope)
    if not slope:
        np.testing.assert_allclose(one["entry_kl"], other["entry_kl"], rtol=1e-10)
        assert one["total_correlation"] == pytest.approx(other["total_correlation"], rel=1e-10)
    for name, error in one["standard_errors"].items():
        assert error == pytest.approx(other["standard_errors"][name], rel=1e-10), name


def test_what_is_read_of_a_vae_agrees() -> None:
    found = []
    x = (np.random.default_rng(2).random((6, 5)) > 0.5).astype(float)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        vae = pyro_dgm.VAE(5, 3, hidden=(7,))
        shake(vae)
        with jax.enable_x64(True):
            other = copy_weights(vae, numpyro_dgm.VAE(5, 3, hidden=(7,), key=jax.random.key(0)))
            for twin, made in ((pyro_dgm, vae), (numpyro_dgm, other)):
                run = SimpleNamespace(model=made.model, guide=made.guide)
                e = twin.evaluation
                found.append(
                    {
                        "moved": e.traverse(run, x, dims=[2, 0], num_steps=3)["x"],
                        "straight": e.interpolate(run, x[:2], x[2:4], num_steps=4)["x"],
                        "arc": e.interpolate(run, x[:2], x[2:4], path="spherical")["x"],
                        "units": [tuple(unit.values())[2:] for unit in e.collapse(run, x).units],
                    }
                )
    finally:
        torch.set_default_dtype(before)
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], rtol=1e-10, atol=1e-12, err_msg=name)
    assert np.ptp(found[0]["moved"], axis=2).max() > 0.05
