"""The VAE of the first lecture on dynamically binarized MNIST, in both backends: test bounds over
several seeds.

    python benchmarks/mnist.py [--epochs 60] [--seeds 0 1 2] [--backends pyro numpyro] [--particles
    500]

Protocol: VAE 784-200-200-50 with one stochastic layer (ReLU, Bernoulli likelihood, Normal(0, I)
prior, diagonal Gaussian posterior), all 60,000 training images binarized anew at every pass, KL
warm-up over the first sixth of the run, Adam 1e-3 with a linear decay to 1e-4, batches of 128, the
last weights; the 10,000 test images are binarized once (seed 0) and scored with L_500.
DGM_DATA_DIR may point to a folder that holds mnist/; otherwise the images are downloaded.  Each run
is a process of its own and leaves one JSON file in benchmarks/results/mnist; the table of all runs
goes to benchmarks/results/mnist.md.  A finished run is not repeated.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import binarize, load
from dgm_core.diagnostics import active_units, summary
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule, linear

HERE = Path(__file__).parent / "results" / "mnist"
Z_DIM, HIDDEN, BATCH = 50, (200, 200), 128


def vae_and_tools(backend: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """The model and the backend's modules of losses, training and evaluation."""
    if backend == "pyro":
        import torch

        from pyro_dgm import VAE, evaluation, losses, training

        torch.manual_seed(seed)
        return VAE(784, Z_DIM, hidden=HIDDEN), losses, training, evaluation
    import jax

    from numpyro_dgm import VAE, evaluation, losses, training

    return VAE(784, Z_DIM, hidden=HIDDEN, key=jax.random.key(seed)), losses, training, evaluation


def run_one(backend: str, seed: int, num_epochs: int, num_particles: int) -> dict[str, Any]:
    """Train and score one model."""
    data = load("mnist")
    x = np.concatenate([data.train, data.validation])
    test = binarize(data.test, "static", seed=0)
    vae, losses, training, evaluation = vae_and_tools(backend, seed)
    num_steps = num_epochs * -(-len(x) // BATCH)
    start = time.perf_counter()
    run = training.fit(
        vae.model,
        vae.guide,
        x,
        loss=losses.ELBO(beta=linear(num_steps // 6)),
        num_epochs=num_epochs,
        batch_size=BATCH,
        transform=training.binarize,
        lr_schedule=Schedule((0, num_steps), (1.0, 0.1)),
        seed=seed,
        checkpoint=os.environ.get("DGM_CHECKPOINTS")
        and Path(os.environ["DGM_CHECKPOINTS"]) / f"{backend}-{seed}",
    )
    trained = time.perf_counter()
    report = summary(evaluation.log_weights(run, test, num_particles=num_particles, seed=seed))
    means = evaluation.latents(run, test, means=True)["z"]
    return {
        "backend": backend,
        "seed": seed,
        "num_epochs": num_epochs,
        "num_particles": num_particles,
        "train_ELBO": float(run.history.last["ELBO"]),
        "ELBO": report.mean("ELBO"),
        f"L_{num_particles}": report.mean("IWAE"),
        "JVI-1": report.mean("JVI-1"),
        "active_units": active_units(means),
        "khat": report.khat_counts,
        "minutes_training": (trained - start) / 60,
        "minutes_scoring": (time.perf_counter() - trained) / 60,
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def table(results: list[dict[str, Any]], num_particles: int) -> str:
    """One row per run and one per backend."""
    bound = f"L_{num_particles}"
    columns = [
        "backend",
        "seed",
        "train_ELBO",
        "ELBO",
        bound,
        "JVI-1",
        "active_units",
        "minutes_training",
        "minutes_scoring",
    ]
    rows = [{name: result[name] for name in columns} for result in results]
    means = {}
    for backend in dict.fromkeys(result["backend"] for result in results):
        values = [result for result in results if result["backend"] == backend]
        rows.append(
            {
                "backend": backend,
                "seed": "mean",
                **{name: float(np.mean([value[name] for value in values])) for name in columns[2:]},
            }
        )
        means[backend] = rows[-1][bound]
    text = format_table(rows, columns, digits=2)
    if len(means) == 2:
        text += (
            f"\n\nDifference of the backends' mean {bound}: "
            f"{abs(means['pyro'] - means['numpyro']):.2f} nat"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--backends", nargs="+", default=["pyro", "numpyro"], choices=["pyro", "numpyro"]
    )
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        result = run_one(
            arguments.backends[0], arguments.seeds[0], arguments.epochs, arguments.particles
        )
        write_json(arguments.one, result)
        return
    results = []
    for seed in arguments.seeds:
        for backend in arguments.backends:
            path = HERE / f"{backend}-{arguments.epochs}-{seed}.json"
            if not path.exists():
                command = [
                    sys.executable,
                    __file__,
                    "--one",
                    str(path),
                    "--backends",
                    backend,
                    "--seeds",
                    str(seed),
                ]
                subprocess.run(
                    [
                        *command,
                        "--epochs",
                        str(arguments.epochs),
                        "--particles",
                        str(arguments.particles),
                    ],
                    check=True,
                )
            results.append(json.loads(path.read_text()))
    text = table(
        sorted(results, key=lambda result: (result["backend"], result["seed"])), arguments.particles
    )
    print(text)
    protocol = (
        (__doc__ or "").split("Protocol: ")[1].split("DGM_DATA_DIR")[0].replace("\n", " ").strip()
    )
    lines = [
        "# VAE on dynamically binarized MNIST",
        "",
        protocol,
        "",
        f"{arguments.epochs} epochs; {results[0]['hardware']}.",
        "",
        "```",
        text,
        "```",
        "",
    ]
    (HERE.parent / "mnist.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
