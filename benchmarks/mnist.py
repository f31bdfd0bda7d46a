"""The VAE of the first lecture on dynamically binarized MNIST under several objectives, in both
backends: test bounds, active units and surgery of the bound over several seeds.

    python benchmarks/mnist.py [--objectives VAE-1 VAE-5 IWAE-5 ...] [--epochs 60] [--seeds 0 1 2]
    [--backends pyro numpyro] [--particles 500] [--test 10000]

Protocol: 784-200-200-50 with one stochastic layer (ReLU, Bernoulli likelihood, Normal(0, I)
prior, diagonal Gaussian posterior), all 60,000 training images binarized anew at every pass, KL
warm-up over the first sixth of the run where the objective has a KL part, Adam 1e-3 with a linear
decay to 1e-4, batches of 128, the last weights; the first test images are binarized once (seed 0)
and scored with L_500; MI and marginal KL are those of `elbo_surgery` on the first 2,000 training
images.  VAE-k: ELBO of k particles; IWAE-k; beta-VAE: beta = 4; InfoVAE: alpha = 0, lambda = 10
with an MMD.  Published: Burda et al. (2016), table 1, one stochastic layer, L_5000, tanh, batches
of 20, eight stages of 3^i epochs.
DGM_DATA_DIR may point to a folder that holds mnist/; otherwise the images are downloaded.  Each run
is a process of its own and leaves one JSON file in benchmarks/results/mnist; the tables of all runs
go to benchmarks/results/mnist.md.  A finished run is not repeated.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import binarize, load
from dgm_core.diagnostics import active_units, summary
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule, linear

HERE = Path(__file__).parent / "results" / "mnist"
Z_DIM, HIDDEN, BATCH = 50, (200, 200), 128
OBJECTIVES = ("VAE-1", "VAE-5", "VAE-50", "IWAE-5", "IWAE-50", "beta-VAE", "InfoVAE")
PUBLISHED = {
    "VAE-1": -86.76,
    "VAE-5": -86.47,
    "VAE-50": -86.35,
    "IWAE-5": -85.54,
    "IWAE-50": -84.78,
}


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
    vae, losses, training, evaluation = vae_and_tools(backend, seed)
    num_steps = arguments.epochs * -(-len(x) // BATCH)
    start = time.perf_counter()
    run = training.fit(
        vae.model,
        vae.guide,
        x,
        loss=objective(name, losses, num_steps // 6),
        num_epochs=arguments.epochs,
        batch_size=BATCH,
        transform=training.binarize,
        lr_schedule=Schedule((0, num_steps), (1.0, 0.1)),
        seed=seed,
        checkpoint=os.environ.get("DGM_CHECKPOINTS")
        and Path(os.environ["DGM_CHECKPOINTS"]) / f"{name}-{backend}-{seed}",
    )
    trained = time.perf_counter()
    weights = evaluation.log_weights(run, test, num_particles=arguments.particles, seed=seed)
    report = summary(weights)
    surgery = evaluation.elbo_surgery(run, binarize(x[:2000], "static", seed=0))
    return {
        "objective": name,
        "backend": backend,
        "seed": seed,
        "num_epochs": arguments.epochs,
        "num_particles": arguments.particles,
        "num_test": len(test),
        "ELBO": report.mean("ELBO"),
        f"L_{arguments.particles}": report.mean("IWAE"),
        "JVI-1": report.mean("JVI-1"),
        "JVI-2": report.mean("JVI-2"),
        "standard_errors": {key: report.standard_error(key) for key in ("ELBO", "IWAE", "JVI-1")},
        "MI": surgery.mutual_information,
        "marginal KL": surgery.marginal_kl,
        "active_units": active_units(evaluation.latents(run, test, means=True)["z"]),
        "khat": report.khat_counts,
        "minutes_training": (trained - start) / 60,
        "minutes_scoring": (time.perf_counter() - trained) / 60,
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


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
        columns = ["ELBO", "L_500", "JVI-1", "JVI-2", "active_units", "MI", "marginal KL"]
        for column in [*columns, "minutes_training"]:
            values = [result[column] for result in own if column in result]
            row[column] = float(np.mean(values)) if values else "-"
        bounds = [result["L_500"] for result in own if "L_500" in result]
        row["range L_500"] = float(np.ptp(bounds)) if bounds else "-"
        row["published"] = PUBLISHED.get(name, "-")
        rows.append(row)
    return format_table(rows, digits=2)


def write_tables() -> str:
    """All finished runs, by their budget."""
    found = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    order = {name: index for index, name in enumerate(OBJECTIVES)}
    found.sort(key=lambda r: (order[r.get("objective", "VAE-1")], r["backend"], r["seed"]))
    protocol = (__doc__ or "").split("Protocol: ")[1].split("DGM_DATA_DIR")[0].split()
    lines = ["# Objectives on dynamically binarized MNIST", "", " ".join(protocol), ""]
    for epochs, tested in sorted({(r["num_epochs"], r.get("num_test", 10000)) for r in found}):
        own = [r for r in found if (r["num_epochs"], r.get("num_test", 10000)) == (epochs, tested)]
        lines += [f"## {epochs} epochs, {tested:,} test images; {own[0]['hardware']}", ""]
        lines += ["```", table(own), "```", ""]
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
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        write_json(arguments.one, run_one(arguments))
        return
    cells = product(arguments.seeds, arguments.backends, arguments.objectives)
    for seed, backend, name in cells:
        prefix = "" if name == "VAE-1" else f"{name}-"
        path = HERE / f"{prefix}{backend}-{arguments.epochs}-{seed}.json"
        if not path.exists():
            command = [sys.executable, __file__, "--one", str(path), "--objectives", name]
            command += ["--backends", backend, "--seeds", str(seed), "--test", str(arguments.test)]
            command += ["--epochs", str(arguments.epochs)]
            command += ["--particles", str(arguments.particles)]
            subprocess.run(command, check=True)
    print(write_tables())


if __name__ == "__main__":
    main()
