from collections.abc import Iterator

import pytest

from tests.backends import NumPyroBackend, PyroBackend


@pytest.fixture(params=[PyroBackend, NumPyroBackend], ids=["pyro", "numpyro"])
def backend(request: pytest.FixtureRequest) -> Iterator[PyroBackend | NumPyroBackend]:
    """Both libraries in turn, in double precision."""
    backend = request.param()
    with backend.double_precision():
        yield backend
