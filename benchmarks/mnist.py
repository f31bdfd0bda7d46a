"""The VAE of the first lecture on dynamically binarized MNIST under several objectives, in both
backends: test bounds, active units and surgery of the bound over several seeds.

    python benchmarks/mnist.py [--objectives VAE-1 VAE-5 IWAE-5 ...] [--epochs 60] [--seeds 0 1 2]
    [--backends pyro numpyro] [--particles 500] [--test 10000] [--batch 128] [--rate 1e-3]
    [--activation relu] [--seconds 450]

Protocol: 784-200-200-50 with one stochastic layer (Bernoulli likelihood, Normal(0, I)
prior, diagonal Gaussian posterior), all 60,000 training images binarized anew at every pass, KL
warm-up over the first sixth of the run where the objective has a KL part, Adam with a linear
decay to a tenth, the last weights; the first test images are binarized once (seed 0) and scored
with as many particles as L says, in single precision; MI and marginal KL are those of
`elbo_surgery` on the first 2,000 training images.  VAE-k: ELBO of k particles; IWAE-k; beta-VAE:
beta = 4; InfoVAE: alpha = 0, lambda = 10 with an MMD.  Published: Burda et al. (2016), table 1, one
stochastic layer, L_5000, tanh, batches of 20, eight stages of 3^i epochs with Adam 1e-3 x
10^(-i/7), 3,280 epochs in all.
DGM_DATA_DIR may point to a folder that holds mnist/; otherwise the images are downloaded.  Each run
is a process of its own and leaves one JSON file in benchmarks/results/mnist; the tables of all runs
go to benchmarks/results/mnist.md.  A finished run is not repeated.  --seconds is for all runs,
which stop training when their share of it is over.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from budget import Deadline, hardware, results

from dgm_core.data import binarize, load
from dgm_core.diagnostics import active_units, summary
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule, linear

HERE = results("mnist")
Z_DIM, HIDDEN, SECONDS_OF_SCORING, CHUNK = 50, (200, 200), 100, 200_000
OBJECTIVES = ("VAE-1", "VAE-5", "VAE-50", "IWAE-5", "IWAE-50", "beta-VAE", "InfoVAE")
PUBLISHED = {
    "VAE-1": -86.76,
    "VAE-5": -86.47,
    "VAE-50": -86.35,
    "IWAE-5": -85.54,
    "IWAE-50": -84.78,
}


def vae_and_tools(backend: str, seed: int, activation: str) -> tuple[Any, Any]:
    """The model and the library."""
    if backend == "pyro":
        import torch

        import pyro_dgm as library

        torch.manual_seed(seed)
        networks = [library.nn.MLP(dim, HIDDEN, activation=activation) for dim in (784, Z_DIM)]
        return library.VAE(784, Z_DIM, encoder=networks[0], decoder=networks[1]), library
    import jax

    import numpyro_dgm as library

    keys = jax.random.split(jax.random.key(seed), 3)
    networks = [
        library.nn.MLP(dim, HIDDEN, activation=activation, key=key)
        for dim, key in zip((784, Z_DIM), keys[1:], strict=True)
    ]
    vae = library.VAE(784, Z_DIM, encoder=networks[0], decoder=networks[1], key=keys[0])
    return vae, library


def precisely(backend: str) -> Any:
    """A context in which products are taken in full single precision."""
    if backend == "pyro":
        return nullcontext()
    return importlib.import_module("jax").default_matmul_precision("float32")


def objective(name: str, losses: Any, warm_up: int) -> Any:
    """The loss of a row."""
    kind, _, number = name.partition("-")
    if kind == "VAE":
        return losses.ELBO(num_particles=int(number), beta=linear(warm_up))
    if kind == "IWAE":
        return losses.IWAE(num_particles=int(number))
    if kind == "beta":
        return losses.ELBO(beta=linear(warm_up, 0.0, 4.0))
    return losses.ELBO(beta=linear(warm_up)) + 9.0 * losses.MMD("z")


def run_one(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and score one model."""
    (backend,), (seed,), (name,) = arguments.backends, arguments.seeds, arguments.objectives
    data = load("mnist")
    x = np.concatenate([data.train, data.validation])
    test = binarize(data.test[: arguments.test], "static", seed=0)
    vae, library = vae_and_tools(backend, seed, arguments.activation)
    num_steps = arguments.epochs * -(-len(x) // arguments.batch)
    training = None if arguments.seconds is None else arguments.seconds - SECONDS_OF_SCORING
    start = time.perf_counter()
    run = library.fit(
        vae.model,
        vae.guide,
        x,
        loss=objective(name, library.losses, num_steps // 6),
        num_epochs=arguments.epochs,
        batch_size=arguments.batch,
        optim=library.Adam(arguments.rate),
        transform=library.binarize,
        lr_schedule=Schedule((0, num_steps), (1.0, 0.1)),
        seed=seed,
        progress=False,
        callbacks=[Deadline(training).share(1)],
        checkpoint=os.environ.get("DGM_CHECKPOINTS")
        and Path(os.environ["DGM_CHECKPOINTS"]) / f"{name}-{backend}-{seed}",
    )
    trained = time.perf_counter()
    with precisely(backend):
        weights = np.concatenate(
            [
                library.log_weights(
                    run, part, num_particles=arguments.particles, chunk_size=CHUNK, seed=seed
                )
                for part in np.array_split(test, -(-len(test) // 2000))
            ],
            1,
        )
        scored = time.perf_counter()
        surgery = library.evaluation.elbo_surgery(run, binarize(x[:2000], "static", seed=0))
    report = summary(weights)
    return {
        "objective": name,
        "backend": backend,
        "seed": seed,
        "num_epochs": arguments.epochs,
        "epochs_reached": run.epoch,
        "batch": arguments.batch,
        "rate": arguments.rate,
        "activation": arguments.activation,
        "num_particles": arguments.particles,
        "num_test": len(test),
        "ELBO": report.mean("ELBO"),
        "L": report.mean("IWAE"),
        "JVI-1": report.mean("JVI-1"),
        "JVI-2": report.mean("JVI-2"),
        "standard_errors": {key: report.standard_error(key) for key in ("ELBO", "IWAE", "JVI-1")},
        "differences": {
            f"{more} - {less}": differences(report[more] - report[less])
            for less, more in pairwise(("ELBO", "IWAE", "JVI-1", "JVI-2"))
        },
        "MI": surgery.mutual_information,
        "marginal KL": surgery.marginal_kl,
        "active_units": active_units(library.evaluation.latents(run, test, means=True)["z"]),
        "khat": report.khat_counts,
        "minutes_training": (trained - start) / 60,
        "minutes_scoring": (time.perf_counter() - trained) / 60,
        "seconds_of_weights": scored - trained,
        "hardware": hardware(backend),
    }


def differences(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def table(results: list[dict[str, Any]]) -> str:
    """One row per objective and backend: means over the seeds."""
    rows = []
    keys = dict.fromkeys(
        (result.get("objective", "VAE-1"), result["backend"]) for result in results
    )
    for name, backend in keys:
        own = [
            result
            for result in results
            if (result.get("objective", "VAE-1"), result["backend"]) == (name, backend)
        ]
        row = {"objective": name, "backend": backend, "seeds": len(own)}
        columns = ["ELBO", "L", "JVI-1", "JVI-2", "active_units", "MI", "marginal KL"]
        for column in [*columns, "minutes_training"]:
            values = [result[column] for result in own if column in result]
            row[column] = float(np.mean(values)) if values else "-"
        bounds = [result["L"] for result in own if "L" in result]
        row["range L"] = float(np.ptp(bounds)) if bounds else "-"
        row["published"] = PUBLISHED.get(name, "-")
        rows.append(row)
    return format_table(rows, digits=2)


def settings_of(result: dict[str, Any]) -> tuple[Any, ...]:
    """What the runs of a table have in common."""
    return (
        result["num_epochs"],
        result.get("num_test", 10000),
        result["num_particles"],
        result.get("batch", 128),
        result.get("rate", 1e-3),
        result.get("activation", "relu"),
        result["hardware"],
    )


def write_tables() -> str:
    """All finished runs, by their budget."""
    found = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    found = [{"L": r.get("L_500"), **r} for r in found]
    order = {name: index for index, name in enumerate(OBJECTIVES)}
    found.sort(key=lambda r: (order[r.get("objective", "VAE-1")], r["backend"], r["seed"]))
    protocol = (__doc__ or "").split("Protocol: ")[1].split("DGM_DATA_DIR")[0].split()
    lines = ["# Objectives on dynamically binarized MNIST", "", " ".join(protocol), ""]
    for group in sorted({settings_of(r) for r in found}, key=str):
        own = [r for r in found if settings_of(r) == group]
        epochs, tested, particles, batch, rate, activation, machine = group
        lines += [f"## {epochs} epochs, {tested:,} test images, L_{particles}; {machine}", ""]
        lines += [f"Batches of {batch}, Adam {rate}, {activation}.", ""]
        early = [r for r in own if r.get("epochs_reached", epochs) < epochs]
        lines += [
            f"{r['objective']}, {r['backend']}, seed {r['seed']}: stopped after "
            f"{r['epochs_reached']} epochs.\n"
            for r in early
        ]
        lines += ["```", table(own), "```", ""]
    notes = HERE.parent / "mnist_notes.md"
    lines += [notes.read_text()] if notes.exists() else []
    (HERE.parent / "mnist.md").write_text("\n".join(lines))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objectives", nargs="+", default=["VAE-1"], choices=OBJECTIVES)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    backends = ["pyro", "numpyro"]
    parser.add_argument("--backends", nargs="+", default=backends, choices=backends)
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--test", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        write_json(arguments.one, run_one(arguments))
        return
    deadline, missing = Deadline(arguments.seconds), []
    for seed, backend, name in product(arguments.seeds, arguments.backends, arguments.objectives):
        prefix = "" if name == "VAE-1" else f"{name}-"
        batch = "" if arguments.batch == 128 else f"-b{arguments.batch}"
        path = HERE / f"{prefix}{backend}-{arguments.epochs}{batch}-{seed}.json"
        if not path.exists():
            missing.append((path, seed, backend, name))
    for index, (path, seed, backend, name) in enumerate(missing):
        command = [sys.executable, __file__, "--one", str(path), "--objectives", name]
        command += ["--backends", backend, "--seeds", str(seed)]
        for option in ("test", "epochs", "particles", "batch", "rate", "activation"):
            command += [f"--{option}", str(getattr(arguments, option))]
        if arguments.seconds:
            command += ["--seconds", str(deadline.left / (len(missing) - index))]
        subprocess.run(command, check=True)
    print(write_tables())


if __name__ == "__main__":
    main()
