"""Critics and multipliers by themselves: equal outputs and gradients in both backends for the same
weights, at 1e-10.
"""

from typing import Any

import numpy as np
import pytest

from tests.cases import CRITICS
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake


def critic(lib: Any, name: str) -> Any:
    cls, sizes, settings, _ = CRITICS[name]
    if "encoder" in settings:
        network, network_sizes, network_settings = settings["encoder"]
        encoder = lib.build("nn", network, *network_sizes, **network_settings)
        settings = settings | {"encoder": encoder}
    return lib.build("losses", cls, *sizes, **settings)


@pytest.mark.parametrize("name", CRITICS)
def test_critics(x64: None, name: str) -> None:
    """Outputs, and the gradients of R1 in all weights, which are second derivatives."""
    libs = PyroLibrary(), NumPyroLibrary()
    ours = shake(critic(libs[0], name), scale=0.1)
    theirs = copy_weights(ours, critic(libs[1], name))
    assert repr(ours) == repr(theirs)
    x = np.random.default_rng(1).standard_normal((4, *CRITICS[name][3]))

    def cost(lib: Any) -> Any:
        return lambda critic, x: critic(x) + lib.package.losses.R1()(critic, x, x, None)

    (values, gradients, _), (twin_values, twin_gradients, _) = (
        lib.values_and_gradients(cost(lib), module, lib.array(x))
        for lib, module in zip(libs, (ours, theirs))
    )
    np.testing.assert_allclose(twin_values, values, rtol=1e-10, atol=1e-10)
    assert gradients.keys() == twin_gradients.keys()
    for path, gradient in gradients.items():
        np.testing.assert_allclose(
            twin_gradients[path], gradient, rtol=1e-9, atol=1e-10, err_msg=path
        )
        assert abs(gradient).max() > 1e-6, path
