"""Layers of latents beside one, at the same budget.

    python benchmarks/ladders.py [--data digits] [--epochs 150] [--seeds 0 1 2] [--backend pyro]
    [--train 20000] [--test 1000] [--batch 100] [--rate 1e-3] [--seconds 450]

Protocol: the images binarized anew at every pass; hidden layers of 200, ReLU; "flat" is a VAE with
40 latents and two hidden layers, "ladder" a LadderVAE with 32 and 8 (one hidden layer in each
network), "residual" a HierarchicalVAE with 16, 16 and 8 of width 128, each also with free bits of
half a nat for each layer; KL warm-up over the first third, Adam 1e-3 with a linear decay to 1e-4,
batches of 100, the last weights. L_500 of the test images, binarized once; active units and KL of
each layer by `collapse`. --data digits are the 8x8 images of scikit-learn, mnist the first 20,000
of MNIST and the first 1,000 of its test images (DGM_DATA_DIR may point to a folder that holds
mnist/); the table names what other options were given.
Each run leaves one JSON file in benchmarks/results/ladders, the table goes to
benchmarks/results/ladders.md, and a finished run is not repeated.
"""

import argparse
import importlib
import json
import sys
import time
from itertools import product
from typing import Any

import numpy as np
from budget import Deadline, hardware, results

from dgm_core.data import binarize, load
from dgm_core.diagnostics import summary
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule, linear

HERE = results("ladders")
MODELS = ("flat", "ladder", "residual", "ladder, free bits", "residual, free bits")


def made(package: Any, name: str, dim: int, key: dict[str, Any]) -> Any:
    """A model by its name."""
    if name.startswith("flat"):
        return package.VAE(dim, 40, **key)
    if name.startswith("ladder"):
        return package.LadderVAE(dim, (32, 8), hidden=(200,), **key)
    return package.HierarchicalVAE(dim, (16, 16, 8), **key)


def run_one(arguments: argparse.Namespace, name: str, seed: int, stop: Any) -> dict[str, Any]:
    """Train and score one model."""
    package, data = importlib.import_module(f"{arguments.backend}_dgm"), load(arguments.data)
    key: dict[str, Any] = {}
    if arguments.backend == "pyro":
        importlib.import_module("torch").manual_seed(seed)
    else:
        key = {"key": importlib.import_module("jax").random.key(seed)}
    x, test = (np.asarray(part, "float32") for part in (data.train, data.test))
    x, test = x[: arguments.train], binarize(test[: arguments.test], "static", seed=0)
    steps = arguments.epochs * -(-len(x) // arguments.batch)
    model, free = made(package, name, x.shape[1], key), 0.5 if "free" in name else 0.0
    start, began = time.process_time(), time.perf_counter()
    run = package.fit(
        model.model,
        model.guide,
        x,
        loss=package.ELBO(beta=linear(steps // 3), analytic_kl=True, free_bits=free),
        num_epochs=arguments.epochs,
        batch_size=arguments.batch,
        optim=package.Adam(arguments.rate),
        callbacks=[stop],
        transform=package.binarize,
        lr_schedule=Schedule((0, steps), (1.0, 0.1)),
        seed=seed,
        progress=False,
    )
    minutes = (time.process_time() - start) / 60
    report = summary(package.log_weights(run, test, num_particles=500, chunk_size=100_000, seed=0))
    layers = package.evaluation.collapse(run, test, num_draws=4).rows
    return {
        "model": name,
        "data": arguments.data,
        "seed": seed,
        "backend": arguments.backend,
        "epochs": run.epoch,
        "train": len(x),
        "test": len(test),
        "batch": arguments.batch,
        "rate": arguments.rate,
        "ELBO": report.mean("ELBO"),
        "L_500": report.mean("IWAE"),
        "layers": [{k: row[k] for k in ("site", "KL", "active", "entries")} for row in layers],
        "CPU minutes": minutes,
        "minutes": (time.perf_counter() - began) / 60,
        "hardware": hardware(arguments.backend),
    }


def table() -> str:
    """All runs, by data and model."""
    runs = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    rows = []
    kinds = ("data", "train", "epochs", "batch", "backend", "hardware")
    for kind in sorted({tuple(run[name] for name in kinds) for run in runs}):
        for name in MODELS:
            alike = [r for r in runs if tuple(r[name] for name in kinds) == kind]
            if found := [r for r in alike if r["model"] == name]:
                layers = {
                    row["site"]: f"{row['active']}/{row['entries']} ({row['KL']:.1f})"
                    for row in found[0]["layers"]
                }
                rows.append(
                    {
                        "data": kind[0],
                        "model": name,
                        "L_500": f"{np.mean([r['L_500'] for r in found]):.2f}",
                        "each": " ".join(f"{r['L_500']:.2f}" for r in found),
                        "ELBO": f"{np.mean([r['ELBO'] for r in found]):.2f}",
                        "active (KL), seed 0": " ".join(f"{k} {v}" for k, v in layers.items()),
                        **dict(zip(kinds[1:], kind[1:], strict=True)),
                        "CPU minutes": f"{np.mean([r['CPU minutes'] for r in found]):.1f}",
                    }
                )
    return format_table(rows)


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=["digits", "mnist"])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    parser.add_argument("--train", type=int, default=20000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seconds", type=float, help="of all training")
    arguments = parser.parse_args()
    deadline, cells = Deadline(arguments.seconds), list(product(arguments.seeds, arguments.models))
    for index, (seed, name) in enumerate(cells):
        words = name.replace(", ", "_").replace(" ", "_")
        path = HERE / f"{arguments.backend}_{arguments.data}_{words}_{arguments.epochs}_{seed}.json"
        if not path.exists():
            stop = deadline.share(len(cells) - index)
            write_json(path, run_one(arguments, name, seed, stop))
            print(path.stem, json.loads(path.read_text())["L_500"], flush=True)
    text = f"# Layers of latents\n\n```\n{table()}\n```\n\n{__doc__[__doc__.index('Protocol') :]}"
    notes = HERE.with_name("ladders_notes.md")
    HERE.with_suffix(".md").write_text(text + (notes.read_text() if notes.exists() else ""))
    print(table(), file=sys.stderr)


if __name__ == "__main__":
    main()
