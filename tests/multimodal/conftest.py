from tests.contracts.conftest import lib, rng
from tests.losses.conftest import backend

__all__ = ["backend", "lib", "rng"]
