import pytest

from tests.backends import NumPyroBackend, PyroBackend


@pytest.fixture(params=[PyroBackend, NumPyroBackend], ids=["pyro", "numpyro"], scope="module")
def backend(request: pytest.FixtureRequest) -> PyroBackend | NumPyroBackend:
    """Both libraries in turn."""
    return request.param()
