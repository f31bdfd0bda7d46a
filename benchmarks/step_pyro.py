"""Speed of the Pyro `fit` against a hand-written eager PyTorch loop, the stock `SVI.step` and
Pythae's trainer: VAE 784-400-20, Adam, CPU.

    python benchmarks/step_pyro.py [--batch-sizes 32 128 512] [--epochs 15] [--rows 6144] [--threads
    2] [--json]

The hand-written loop is what a careful user would write: data indexed by a permutation, the
closed-form KL, `binary_cross_entropy_with_logits`, `torch.optim.Adam` and `loss.item()`; once more
with `fused=True`, for comparison.  SVI runs our model and guide with `Trace_ELBO`,
`pyro.optim.Adam` and validation off.  Pythae takes part where it is installed.  Each epoch of `fit`
(progress bar on) is paired with an epoch of every other system run right after it, from a callback;
what is reported is the median of the ratios, so a machine that is busy with other things slows all.
With and without compilation are processes of their own, as torch runs all Python more slowly once
it has compiled anything; so are memory peaks and the time to the first step (with an empty compiler
cache).
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dgm_core.results import format_table

SECONDS_TO_FIRST_STEP = 15.0
TARGETS = {  # of the ratio of fit to the system
    ("fit", "hand-written eager"): {32: 0.90, 128: 0.95, 512: 1.00},
    ("fit", "SVI.step"): {128: 0.75},
    ("fit", "Pythae"): {128: 0.70},
    ("fit, compile=False", "hand-written eager"): {128: 1.05},
}


def data(rows: int) -> Any:
    """Binary images of forty kinds, smooth and with dark borders."""
    import torch

    generator = torch.Generator().manual_seed(0)
    maps = torch.nn.functional.interpolate(
        torch.randn(40, 1, 7, 7, generator=generator), size=(20, 20), mode="bilinear"
    )
    maps = torch.nn.functional.pad(torch.sigmoid(6 * maps), (4, 4, 4, 4)).reshape(40, 784)
    return torch.bernoulli(
        maps[torch.randint(40, (rows,), generator=generator)], generator=generator
    )


def hand_written(x: Any, batch_size: int, *, fused: bool) -> Callable[[], None]:
    """An epoch of a VAE in plain PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
    decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))
    optimizer = torch.optim.Adam(
        [*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=fused
    )

    def epoch() -> None:
        total = 0.0
        for rows in torch.randperm(len(x)).split(batch_size):
            batch = x[rows]
            optimizer.zero_grad()
            mean, log_variance = encoder(batch).chunk(2, -1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            reconstruction = F.binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
            kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
            loss = (reconstruction + kl) / len(batch)
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def stock_svi(x: Any, batch_size: int) -> Callable[[], None]:
    """An epoch of `pyro.infer.SVI`."""
    import pyro
    import torch

    from pyro_dgm import VAE

    vae = VAE(784, 20, hidden=(400,))
    svi = pyro.infer.SVI(
        vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO()
    )

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(batch_size):
            svi.step(x[rows])

    return epoch


def pythae(x: Any, batch_size: int) -> Callable[[], None]:
    """An epoch of Pythae's trainer."""
    import logging

    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch import nn

    logging.disable(logging.INFO)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.mean, self.log_variance = (
                nn.Linear(784, 400),
                nn.Linear(400, 20),
                nn.Linear(400, 20),
            )

        def forward(self, x: Any) -> Any:
            h = torch.relu(self.hidden(x))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid()
            )

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.layers(z))

    model = VAE(
        VAEConfig(input_dim=(784,), latent_dim=20, reconstruction_loss="bce"),
        encoder=Encoder(),
        decoder=Decoder(),
    )
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=batch_size,
        learning_rate=1e-3,
        no_cuda=True,
    )
    trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=config)
    trainer.prepare_training()
    return lambda: trainer.train_step(1) and None


def systems(x: Any, batch_size: int) -> dict[str, Callable[[], Callable[[], None]]]:
    """What `fit` is compared with, by name; called, each gives its epoch."""
    found = {
        "hand-written eager": lambda: hand_written(x, batch_size, fused=False),
        "hand-written eager, fused Adam": lambda: hand_written(x, batch_size, fused=True),
        "SVI.step": lambda: stock_svi(x, batch_size),
    }
    return (
        {**found, "Pythae": lambda: pythae(x, batch_size)}
        if importlib.util.find_spec("pythae")
        else found
    )


def run_fit(
    x: Any,
    batch_size: int,
    *,
    compiled: bool,
    epochs: int = 1,
    callbacks: tuple = (),
    progress: bool = True,
) -> Any:
    """Our epochs."""
    from pyro_dgm import ELBO, VAE
    from pyro_dgm.training import Adam, fit

    vae = VAE(784, 20, hidden=(400,))
    options = {
        "num_epochs": epochs,
        "callbacks": callbacks,
        "compile": compiled,
        "progress": progress,
    }
    return fit(
        vae.model, vae.guide, x, loss=ELBO(), optim=Adam(1e-3), batch_size=batch_size, **options
    )


def compare(batch_size: int, epochs: int, rows: int, *, compiled: bool) -> list[dict[str, Any]]:
    """Milliseconds per step and ratios at one batch size."""
    import pyro

    pyro.enable_validation(False)
    x = data(max(rows // batch_size, 8) * batch_size)
    steps, own = len(x) // batch_size, "fit" if compiled else "fit, compile=False"
    others = {
        name: make()
        for name, make in systems(x, batch_size).items()
        if compiled or name.startswith("hand-written")
    }
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in others}

    def alternate(run: Any) -> None:
        ours.append(run.history.last["seconds"])
        for name, epoch in others.items():
            began = time.perf_counter()
            epoch()
            theirs[name].append(time.perf_counter() - began)

    run_fit(x, batch_size, compiled=compiled, epochs=epochs + 1, callbacks=(alternate,))
    result: list[dict[str, Any]] = [
        {"system": own, "ms": milliseconds(ours, steps), "ratio": 1.0, "target": None}
    ]
    for name, times in theirs.items():
        ratio = float(np.median(np.divide(ours[1:], times[1:])))
        target = TARGETS.get((own, name), {}).get(batch_size)
        result.append(
            {
                "system": f"{own} / {name}",
                "ms": milliseconds(times, steps),
                "ratio": ratio,
                "target": target,
            }
        )
    return [{"backend": "pyro", "batch": batch_size, **row} for row in result]


def milliseconds(seconds: list[float], steps: int) -> float:
    """The median per step; the first epoch warms up."""
    return 1e3 * float(np.median(seconds[1:])) / steps


def footprint(system: str, batch_size: int) -> dict[str, float]:
    """Memory peak in megabytes and, for `fit`, seconds to the first step, of this process."""
    x = data(4 * batch_size)
    result = {}
    if "/" not in system:
        began = time.perf_counter()
        run_fit(x[:batch_size], batch_size, compiled=system == "fit", progress=False)
        result["first_step_s"] = time.perf_counter() - began
        run_fit(x, batch_size, compiled=system == "fit", epochs=10, progress=False)
    else:
        epoch = systems(x, batch_size)[system.partition(" / ")[2]]()
        for _ in range(10):
            epoch()
    return {**result, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> int:
    """Print the table, or JSON as well; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rows", type=int, default=6144)
    parser.add_argument("--threads", type=int, help="of torch; left out, its default")
    parser.add_argument("--json", action="store_true", help="print the rows as one JSON line")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--footprint", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is imported
    if arguments.one:
        if arguments.footprint:
            print(json.dumps(footprint(arguments.footprint, arguments.one)))
        else:
            print(
                json.dumps(
                    compare(
                        arguments.one,
                        arguments.epochs,
                        arguments.rows,
                        compiled=not arguments.plain,
                    )
                )
            )
        return 0

    rows = []
    for batch_size in arguments.batch_sizes:
        size = "--epochs", str(arguments.epochs), "--rows", str(arguments.rows)
        for row in (*child(batch_size, *size), *child(batch_size, *size, "--plain")):
            seen = "fit, compile=False / " in row["system"]  # measured above
            rows.append(row if seen else {**row, **child(batch_size, "--footprint", row["system"])})
    missed = [
        row
        for row in rows
        if (row["target"] and row["ratio"] > row["target"])
        or row.get("first_step_s", 0.0) > SECONDS_TO_FIRST_STEP
    ]
    print(format_table(rows))
    print(
        f"First step within {SECONDS_TO_FIRST_STEP:g} s, ratios at most as in the column "
        f"`target`: {'MISSED' if missed else 'kept'}."
    )
    if arguments.json:
        print(json.dumps(rows))
    return 1 if missed else 0


def child(batch_size: int, *options: str) -> Any:
    """What a process of its own prints, with an empty compiler cache."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--one", str(batch_size), *options]
        output = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache},
        ).stdout
    return json.loads(output.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
