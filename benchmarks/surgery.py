"""ELBO surgery of VAEs with 2, 10 and 20 latents on binarized MNIST, beside the table of Hoffman
and Johnson (2016).

    python benchmarks/surgery.py [--epochs 60] [--dims 2 10 20] [--backends pyro numpyro]
    [--seeds 0] [--data 50000] [--batch 128] [--rate 1e-3] [--seconds 450]

Protocol (the published architecture is not known to us, so that only the pattern can be compared):
VAE 784-200-200-z (ReLU, Bernoulli likelihood, Normal(0, I) prior, diagonal Gaussian
posterior), the first 50,000 training images binarized once (above 1/2), Adam 1e-3 with a linear
decay to a tenth, batches of 128 (or as the table says, with --rate), the last weights.  Surgery
with the exact aggregate posterior of the first `--data` of these images, whose logarithm bounds the
mutual information.  DGM_DATA_DIR may point to a folder that holds mnist/.  Each run is a process of
its own and leaves one JSON file in benchmarks/results/surgery; the table of all runs goes to
benchmarks/results/surgery.md.  A finished run is not repeated, one that was
broken off goes on from its last epoch with DGM_CHECKPOINTS.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from budget import Deadline, hardware, results

from dgm_core.data import load
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule

HERE = results("surgery")
PUBLISHED = {  # Hoffman and Johnson (2016): ELBO, mean KL, mutual information, marginal KL
    2: (-129.63, 7.41, 7.20, 0.21),
    10: (-88.95, 19.17, 10.82, 8.35),
    20: (-87.45, 20.2, 10.67, 9.53),
}
COLUMNS = ("ELBO", "mean KL", "MI", "marginal KL")


def vae_of(backend: str, z_dim: int, seed: int) -> tuple[Any, Any, Any]:
    """The model, and the backend's modules of training and evaluation."""
    if backend == "pyro":
        import torch

        from pyro_dgm import VAE, evaluation, training

        torch.manual_seed(seed)
        return VAE(784, z_dim), training, evaluation
    import jax

    from numpyro_dgm import VAE, evaluation, training

    return VAE(784, z_dim, key=jax.random.key(seed)), training, evaluation


def run_one(a: argparse.Namespace) -> dict[str, Any]:
    """Train one model and take its bound apart."""
    (backend,), (z_dim,), (seed,) = a.backends, a.dims, a.seeds
    num_epochs, num_data = a.epochs, a.data
    x = (load("mnist").train[:50_000] > 0.5).astype(np.float32)
    vae, training, evaluation = vae_of(backend, z_dim, seed)
    num_steps = num_epochs * -(-len(x) // a.batch)
    start = time.perf_counter()
    folder = os.environ.get("DGM_CHECKPOINTS")
    run = training.fit(
        vae.model,
        vae.guide,
        x,
        num_epochs=num_epochs,
        batch_size=a.batch,
        optim=training.Adam(a.rate),
        progress=False,
        callbacks=[Deadline(a.seconds).share(1)],
        lr_schedule=Schedule((0, num_steps), (1.0, 0.1)),
        seed=seed,
        checkpoint=folder and Path(folder) / f"surgery-{backend}-{z_dim}-{seed}",
    )
    trained = time.perf_counter()
    found = evaluation.elbo_surgery(run, x[:num_data], seed=seed)
    layers = evaluation.collapse(run, x[:num_data], num_draws=2, seed=seed)
    return {
        "backend": backend,
        "z_dim": z_dim,
        "seed": seed,
        "epochs": run.epoch,
        "batch": a.batch,
        "rate": a.rate,
        "data": num_data,
        "log N": float(np.log(num_data)),
        "ELBO": found.elbo,
        "mean KL": found.mean_kl,
        "MI": found.mutual_information,
        "marginal KL": found.marginal_kl,
        "TC": found.total_correlation,
        "dimension-wise KL": found.dimension_wise_kl,
        "active": layers.rows[0]["active"],
        "standard errors": dict(found.standard_errors),
        "minutes training": (trained - start) / 60,
        "minutes surgery": (time.perf_counter() - trained) / 60,
        "hardware": hardware(backend),
    }


def table(found: list[dict[str, Any]]) -> str:
    """Published rows and ours."""
    rows: list[dict[str, Any]] = []
    for z_dim, numbers in PUBLISHED.items():
        rows.append({"z": z_dim, "by": "published", **dict(zip(COLUMNS, numbers, strict=True))})
        for one in found:
            if one["z_dim"] == z_dim:
                names = ("log N", *COLUMNS, "TC", "dimension-wise KL", "active", "epochs", "batch")
                by = f"{one['backend']}, seed {one['seed']}"
                rows.append({"z": z_dim, "by": by, **{n: one.get(n, 128) for n in names}})
    return format_table(rows, digits=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", type=int, default=50_000)
    parser.add_argument(
        "--backends", nargs="+", default=["pyro", "numpyro"], choices=["pyro", "numpyro"]
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seconds", type=float, help="of all training")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        write_json(a.one, run_one(a))
        return
    deadline, cells = Deadline(a.seconds), list(product(a.seeds, a.dims, a.backends))
    for index, (seed, z_dim, backend) in enumerate(cells):
        batch = "" if a.batch == 128 else f"-b{a.batch}"
        path = HERE / f"{backend}-{z_dim}-{a.epochs}-{a.data}{batch}-{seed}.json"
        if not path.exists():
            command = [sys.executable, __file__, "--one", str(path), "--backends", backend]
            command += ["--dims", str(z_dim), "--seeds", str(seed)]
            for option in ("epochs", "data", "batch", "rate"):
                command += [f"--{option}", str(getattr(a, option))]
            if a.seconds:
                command += ["--seconds", str(deadline.left / (len(cells) - index))]
            subprocess.run(command, check=True)
    found = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    text = table(found)
    print(text)
    minutes = ", ".join(
        f"{one['backend']} z = {one['z_dim']}: {one['minutes training']:.1f} + "
        f"{one['minutes surgery']:.1f}"
        for one in found
    )
    notes = HERE.with_name("surgery_notes.md")
    (HERE.parent / "surgery.md").write_text(
        f"# ELBO surgery on MNIST\n\n{__doc__}\n```\n{text}\n```\n\n"
        f"Hardware: {'; '.join(sorted({r['hardware'] for r in found}))}. "
        f"Minutes of training and surgery: {minutes}.\n"
        + (notes.read_text() if notes.exists() else "")
    )


if __name__ == "__main__":
    main()
