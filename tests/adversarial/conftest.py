from typing import Any

import pytest

from tests.contracts.libraries import LIBRARIES


@pytest.fixture(params=sorted(LIBRARIES))
def lib(request: pytest.FixtureRequest) -> Any:
    return LIBRARIES[request.param]()
