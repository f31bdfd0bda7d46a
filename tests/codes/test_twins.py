"""Models of codes in both libraries, step by step, in float64: bound, gradients, codes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyro
import pytest
import torch

import numpyro_dgm
import pyro_dgm
from numpyro_dgm.conditionals.quantized import Untrained
from tests.twins.copying import arrays_of, copy_weights

X = np.random.default_rng(0).integers(0, 2, (6, 1, 8, 8)).astype(float)
CASES = {
    "VQVAE": (((1, 8, 8), 3, 5), {"hidden": (3, 4), "pixel_features": 2}, ("",), X),
    "VQVAE-vectors": ((9, 2, 5), {"hidden": (7, 6), "positions": 2}, ("",), X[:, 0, 0:3, 0:3]),
    "VQVAE2": (((1, 8, 8), 3, 5), {"hidden": (4,), "pixel_features": 2}, ("top_", "bottom_"), X),
}


@pytest.mark.slow("[VQVAE]")
@pytest.mark.parametrize("name", CASES)
def test_steps_are_equal(name: str, x64: None) -> None:
    """Two steps: the second is quantized with the codes that the first has moved."""
    sizes, settings, levels, x = CASES[name]
    x = x.reshape(len(x), -1) if isinstance(sizes[0], int) else x
    kind = name.split("-", maxsplit=1)[0]
    ours = getattr(pyro_dgm.models, kind)(*sizes, **settings)
    made = getattr(numpyro_dgm.models, kind)(*sizes, **settings, key=jax.random.key(0))
    theirs = copy_weights(ours, made)
    quantizers = [f"{level}quantizer" for level in levels]
    for part in quantizers:
        codes = Untrained(jnp.asarray(getattr(ours, part).codes.numpy()))
        theirs = eqx.tree_at(lambda m, part=part: getattr(m, part).initial, theirs, codes)
    losses = pyro_dgm.losses, numpyro_dgm.losses
    built = []
    for library in losses:
        loss = library.ELBO()
        for level in levels:
            loss = loss + 64.0 * library.Commitment(f"z_{level[:-1]}" if level else "z", 0.25)
        built.append(loss)

    state: Any = {}
    params, static = eqx.partition(theirs, eqx.is_inexact_array)
    run = jax.jit(lambda params, state: _differentiated(built[1], params, static, x, state))
    for number in range(2):
        pyro.clear_param_store()
        ours.zero_grad()
        out = built[0].evaluate(ours.model, ours.guide, (torch.as_tensor(x),))
        out.per_datum.backward()
        (_, (terms, state)), gradients = run(params, state)
        for key, value in out.terms.items():
            np.testing.assert_allclose(terms[key], value, rtol=1e-10, atol=1e-10, err_msg=key)
        found = arrays_of(gradients)
        for path, parameter in ours.named_parameters():
            expected = parameter.grad.numpy()
            np.testing.assert_allclose(found[path], expected, atol=1e-10, err_msg=path)
        for part in quantizers:
            kept = state[f"{part}$state"][""]
            for key in ("codes", "used", "counts", "steps"):
                expected = getattr(getattr(ours, part), key).numpy()
                np.testing.assert_allclose(kept[key], expected, atol=1e-10, err_msg=key)
            assert int(kept["steps"]) == number + 1
    positions = sum(np.prod(getattr(ours, part).positions) for part in quantizers)
    assert out.terms["ELBO/KL"].item() == pytest.approx(positions * np.log(5))


def _differentiated(loss: Any, params: Any, static: Any, x: Any, state: Any) -> Any:
    """Value, terms, what is kept, and the gradients of the weights."""

    def total(params: Any) -> Any:
        module = eqx.combine(params, static)
        args = (jax.random.key(0), {}, module.model, module.guide, (jnp.asarray(x),))
        out = loss.evaluate(*args, mutable_state=state)
        return out.per_datum, (out.terms, out.mutable_state)

    return jax.value_and_grad(total, has_aux=True)(params)
