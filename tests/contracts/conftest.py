"""Every contract runs in both libraries."""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import LIBRARIES


@pytest.fixture(params=sorted(LIBRARIES))
def lib(request: pytest.FixtureRequest) -> Any:
    return LIBRARIES[request.param]()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
