"""Every argument of the functions that evaluate a run."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.bad_inputs.base import BAD, Row, Twin, table


def evaluation(twin: Twin) -> Iterator[Row]:
    """Every argument of the functions that evaluate a run."""
    vae = twin.VAE(4, 2, hidden=(8,))
    run = SimpleNamespace(model=vae.model, guide=vae.guide, params={}, mutable_state={})
    x = np.zeros((3, 4), np.float32)
    counts = {
        "log_weights": ("num_particles", "chunk_size"),
        "latents": ("num_draws",),
        "to_arviz": ("num_draws", "num_particles"),
    }
    seed = (
        ("0", 1.5, True, None, 2**63),
        r"^seed must be an integer from -2\^63 to 2\^63 - 1, got",
    )
    for name in ("log_weights", "latents", "reconstruct", "generate", "elbo_surgery", "to_arviz"):
        bad: dict[str, tuple[tuple[Any, ...], str]] = {"seed": seed}
        for count in counts.get(name, ()):
            bad[count] = ((*BAD["count"], 0), f"^{count} must be an integer of at least 1, got")
        if name in ("latents", "generate"):
            bad["means"] = (BAD["flag"], "^means must be True or False, got")
        yield from table(partial(getattr(twin, name), run, x), {}, bad)
        if name == "generate":
            continue
        numbers = "must be an array of numbers with one row per datum, got"
        data: dict[str, tuple[Any, str]] = {
            "text": (np.array(["a"]), f"{numbers} ndarray"),
            "a word": ("abc", f"{numbers} 'abc'"),
            "objects": (np.array([None]), f"{numbers} ndarray"),
            "a mask": (np.ma.masked_array(x, x == 0), "has 12 masked entries"),
            "no rows": (x[:0], "are empty"),
            "another width": (x[:, :3], r"^x must have shape \(batch, 4\), got \(3, 3\)"),
        }
        for situation, (bad_data, sentence) in data.items():
            yield Row(f"{name}: {situation}", partial(getattr(twin, name), run, bad_data), sentence)
        no_run = partial(getattr(twin, name), 3, x)
        yield Row(
            f"{name} of no run",
            no_run,
            "^run must be what fit returns, or an object with a model and a guide, got 3",
        )
