"""How many data the plates of some rows hold."""

import numpy as np
import torch

from pyro_dgm.evaluation.calls import Call

__all__: list[str] = []


def sizes_of(call: Call, rows: np.ndarray) -> tuple[int, ...]:
    """The sizes of the data plates of some rows."""
    with torch.random.fork_rng():  # what is found out changes no draw
        return call.joint(1, rows).sizes
