"""Data on the edge of a support are refused before the first step, with what to do about them."""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import LIBRARIES


@pytest.mark.parametrize("name", ["Beta", "Kumaraswamy", "LogitNormal"])
@pytest.mark.parametrize("edge", [0.0, 1.0])
@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_exactly_zero_or_one(library: str, name: str, edge: float) -> None:
    lib = LIBRARIES[library]()
    x = np.random.default_rng(0).uniform(0.1, 0.9, (8, 2)).astype(np.float32)
    x[5, 1] = edge
    likelihood = lib.build("conditionals", name, 2)

    def model(x: Any) -> None:
        with lib.plate("data", len(x)):
            lib.sample("x", lib.package.nn.register("x", likelihood)(), obs=x)

    with pytest.raises(ValueError, match=rf"outside the support of {name} .*dequantize the data"):
        lib.package.fit(model, None, x, loss=lib.package.NLL(), num_epochs=1, progress=False)
