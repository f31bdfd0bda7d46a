from tests.losses.conftest import backend

__all__ = ["backend"]
