import pytest

from tests.training.faces import NumPyroFace, PyroFace


@pytest.fixture(scope="module", params=[PyroFace, NumPyroFace], ids=["pyro", "numpyro"])
def face(request: pytest.FixtureRequest) -> PyroFace | NumPyroFace:
    """`fit` of both libraries in turn."""
    return request.param()
