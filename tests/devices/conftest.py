"""What needs a GPU is skipped where there is none; `DGM_TEST_DEVICE=cpu` runs it all the same."""

import os

import pytest
import torch


@pytest.fixture
def gpu() -> torch.device:
    name = os.environ.get("DGM_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "")
    if not name:
        pytest.skip("This machine has no GPU that torch sees.")
    return torch.zeros((), device=name).device
