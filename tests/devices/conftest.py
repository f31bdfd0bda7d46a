"""Modules are put on one device while tensors without a device are made on another, so that what
forgets where it belongs fails: on the CPU, where the other device holds no numbers at all, and on a
GPU where torch sees one.
"""

from collections.abc import Iterator

import pytest
import torch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def place(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where modules are put; tensors are made elsewhere until the end of the test."""
    device = torch.zeros((), device=request.param).device
    torch.set_default_device("meta" if device.type == "cpu" else "cpu")
    yield device
    torch.set_default_device(None)


@pytest.fixture
def gpu() -> torch.device:
    """A GPU: without one, the test is skipped."""
    if not torch.cuda.is_available():
        pytest.skip("This machine has no GPU that torch sees.")
    return torch.device("cuda", 0)
