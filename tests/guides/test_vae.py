"""An amortized guide of a VAE is the guide that its author writes by hand."""

from typing import Any

import numpy as np
import pytest

X = (np.sin(np.arange(30.0)) > 0).astype(float).reshape(5, 6)
LOSSES = {
    "ELBO": ("ELBO", {}),
    "analytic": ("ELBO", {"analytic_kl": True, "num_particles": 2}),
    "stl": ("ELBO", {"estimator": "stl", "num_particles": 3}),
    "IWAE": ("IWAE", {"num_particles": 4}),
    "dreg": ("IWAE", {"num_particles": 4, "estimator": "dreg"}),
}


def pyro_values(loss: str, *, by_hand: bool) -> tuple[float, dict[str, np.ndarray]]:
    import pyro
    import torch

    from pyro_dgm import VAE, losses
    from pyro_dgm.guides import AmortizedGuide

    torch.manual_seed(0)
    vae = VAE(6, 2, hidden=(4,))
    guide: Any = vae.guide
    if not by_hand:
        guide = AmortizedGuide(vae.model, vae.encoder, {"z": vae.posterior})
        guide.prepare(torch.as_tensor(X))
    name, settings = LOSSES[loss]
    pyro.clear_param_store()
    torch.manual_seed(7)
    out = getattr(losses, name)(**settings).evaluate(vae.model, guide, (torch.as_tensor(X),), {})
    out.loss.backward()
    gradients = {n: p.grad.numpy() for n, p in vae.named_parameters() if p.grad is not None}
    return out.loss.item(), gradients


def numpyro_values(loss: str, *, by_hand: bool) -> tuple[float, dict[str, np.ndarray]]:
    import jax
    import jax.numpy as jnp

    from numpyro_dgm import VAE, losses
    from numpyro_dgm.guides import AmortizedGuide
    from tests.backends import NumPyroBackend
    from tests.twins.copying import arrays_of

    vae = VAE(6, 2, hidden=(4,), key=jax.random.key(0))
    guide: Any = vae.guide
    if not by_hand:
        guide = AmortizedGuide(vae.model, vae.encoder, {"z": vae.posterior})
    x = jnp.asarray(X)
    b = NumPyroBackend()
    params = b.parameters(vae.model, x) | b.parameters(guide, x)
    name, settings = LOSSES[loss]

    def total(params: Any) -> Any:
        term = getattr(losses, name)(**settings)
        return term.evaluate(jax.random.key(7), params, vae.model, guide, (x,), {}).loss

    value, found = jax.jit(jax.value_and_grad(total))(params)
    gradients = {}
    for site, tree in found.items():
        for path, leaf in arrays_of(tree).items():
            name = f"{site.removesuffix('$params')}.{path}"
            name = name.replace("amortized.0.encoder", "encoder")
            gradients[name.replace("amortized.0.families.0", "posterior")] = np.asarray(leaf)
    return float(value), gradients


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("values", [pyro_values, numpyro_values])
def test_values_and_gradients(x64: None, values: Any, loss: str) -> None:
    by_hand, gradients = values(loss, by_hand=True)
    found, our_gradients = values(loss, by_hand=False)
    assert found == pytest.approx(by_hand, abs=1e-12)
    assert gradients.keys() == our_gradients.keys() and len(gradients) == 8
    for name, gradient in gradients.items():
        np.testing.assert_allclose(our_gradients[name], gradient, rtol=0, atol=1e-12, err_msg=name)
