"""Memory of long runs: 20,000 streamed steps, and 300 fits in one process.

    python benchmarks/memory.py [--backends pyro numpyro] [--steps 20000] [--fits 300] [--kinds ...]

Resident memory is read after a warm-up (a tenth of the steps, a tenth of the fits) and at the end;
the target is a growth below 50 MB.  `large` streams batches of 10 MB (`--megabytes`).
"""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table

TARGET = 50.0  # MB
KINDS = ("steps", "large", "fits")


def resident() -> float:
    """Megabytes of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


class Pyro:
    """`fit` in torch."""

    def __init__(self) -> None:
        import torch

        from pyro_dgm import losses, models, training

        self.torch, self.losses, self.models, self.training = torch, losses, models, training

    def vae(self, x_dim: int) -> Any:
        """A small network."""
        return self.models.VAE(x_dim, 2, hidden=(8,))


class NumPyro:
    """`fit` in JAX."""

    def __init__(self) -> None:
        import jax

        from numpyro_dgm import losses, models, training

        self.jax, self.losses, self.models, self.training = jax, losses, models, training

    def vae(self, x_dim: int) -> Any:
        """A small network."""
        return self.models.VAE(x_dim, 2, hidden=(8,), key=self.jax.random.key(0))


def growth(backend: Any, kind: str, steps: int, fits: int, megabytes: float) -> dict[str, Any]:
    """Megabytes after the warm-up and at the end."""
    seen: list[float] = []
    fit, rng = backend.training.fit, np.random.default_rng(0)
    if kind == "fits":
        loss = backend.losses.ELBO()
        bits = (rng.random((20, 6)) < 0.5).astype(np.float32)
        for _ in range(fits):
            vae = backend.vae(6)
            fit(vae.model, vae.guide, bits, loss=loss, batch_size=10, progress=False)
            seen.append(resident())
        warm = fits // 10
    else:
        x_dim = 6 if kind == "steps" else 1000
        rows = 16 if kind == "steps" else int(megabytes * 1e6 / 4 / x_dim)
        steps = steps if kind == "steps" else max(50, steps // 100)

        def batches() -> Iterator[np.ndarray]:
            while True:
                yield (rng.random((rows, x_dim), dtype=np.float32) < 0.5).astype(np.float32)

        vae = backend.vae(x_dim)
        options = {"num_steps": steps, "callbacks": [lambda run: seen.append(resident())]}
        fit(vae.model, vae.guide, batches, progress=False, **options)
        warm = len(seen) // 10
    return {"after warm-up": seen[warm], "end": seen[-1], "growth": seen[-1] - seen[warm]}


def main() -> int:
    """Print the table; exit status 1 where memory grows by more than the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--fits", type=int, default=300)
    parser.add_argument("--megabytes", type=float, default=10.0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.steps, options.fits, options.megabytes)
    if options.one:
        backend = {"pyro": Pyro, "numpyro": NumPyro}[options.backends[0]]()
        print(json.dumps(growth(backend, options.kinds[0], *sizes)))
        return 0
    rows = []
    numbers = [f"--{name}={value}" for name, value in zip(("steps", "fits", "megabytes"), sizes)]
    for backend in options.backends:
        for kind in options.kinds:
            command = [sys.executable, __file__, "--one", "--backends", backend, "--kinds", kind]
            done = subprocess.run(
                [*command, *numbers], stdout=subprocess.PIPE, text=True, check=True
            )
            rows.append({"backend": backend, "kind": kind, **json.loads(done.stdout)})
            print(rows[-1], file=sys.stderr, flush=True)
    print(format_table(rows))
    return int(any(row["growth"] > TARGET for row in rows))


if __name__ == "__main__":
    sys.exit(main())
