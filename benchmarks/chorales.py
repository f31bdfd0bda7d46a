"""Sequence models of the JSB chorales: the bound on a held-out test set, in nats per time step.

    python benchmarks/chorales.py [--backend numpyro] [--models combiner affine iaf vrnn]
    [--seeds 0] [--epochs 1200] [--size small]

Protocol: the splits of Boulanger-Lewandowski et al. (2012), 229 / 76 / 77 sequences of 88 keys,
padded to 160 steps; the DMM of `models.DMM`, whose guide is one argument, and `models.VRNN`. Adam
with the learning rate 1e-3 falling to a tenth, batches of 20, gradients clipped at norm 10; the KL
part is raised from 0.2 to 1 in the first 40 percent of the steps. After every epoch the bound on
the validation set is measured, and the best weights are kept. What is recorded of the test set: the
ELBO and the importance-weighted bound (IWAE), of 64 draws of each sequence, each summed over
sequences and divided by the number of time steps, with the standard error over sequences; the bound
on all three splits. The VRNN's batches are of similar lengths (`Bucketed`); of it, trained by the
ELBO, three bounds of the same weights: ELBO, IWAE and FIVO (multinomial, resampled below half of
the effective sample size) of K draws of each test sequence, means over 4 seeds. A killed run
continues from its checkpoint. Each run leaves a file in benchmarks/results/chorales and is not
repeated; the table goes to benchmarks/results/chorales.md.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import load
from dgm_core.diagnostics import per_step
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule, linear

HERE = Path(__file__).parent / "results" / "chorales"
LENGTH, KEYS = 160, 88
SIZES = {  # z_dim, hidden, features
    "small": (32, 64, 128),
    "published": (100, 200, 600),
}
PARTICLES, REPEATS = (4, 16, 64), 4
PUBLISHED = """Published bounds on the test set, in nats per step: DMM 6.87 (importance-sampled
6.82; with an IAF guide 6.80) in Pyro's reproduction of Krishnan et al. (2017), trained for 5,000
epochs at z 100, hidden 200, RNN 600, with mini-batches of 20, gradient clipping and KL annealing
from 0.2 in 1,000 epochs. Differences here: smaller networks in "small", a GRU instead of an RNN, a
learning rate that falls, fewer epochs, the best epoch by validation instead of the last.

VRNN of Maddison et al. (2017, arXiv:1705.09279): 8.69 trained by the ELBO, 8.01 by IWAE, 7.51 by
FIVO, each a model of its own. Differences here: one model, trained by the ELBO, under all three
bounds; so the columns say how tight a bound is, and not what it is worth to train by it."""


def chorales() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Piano rolls (num, LENGTH, KEYS) and lengths, by split."""
    data, found = load("jsb_chorales"), {}
    for split in ("train", "validation", "test"):
        x = getattr(data, split)
        x = np.pad(x, ((0, 0), (0, LENGTH - x.shape[1]), (0, 0)))
        found[split] = x, data.lengths[split].astype(np.int32)
    return found


def model_of(backend: str, guide: str, size: str, seed: int) -> tuple[Any, Any]:
    """The model, and its library."""
    z_dim, hidden, features = SIZES[size]
    key: dict[str, Any] = {}
    if backend == "pyro":
        import torch

        import pyro_dgm as library

        torch.manual_seed(seed)
    else:
        import jax

        import numpyro_dgm as library

        key = {"key": jax.random.key(seed)}
    parts, sizes = library.conditionals, {"hidden": hidden, "features": features}
    if guide == "vrnn":
        return library.models.VRNN(KEYS, z_dim, LENGTH, **sizes, **key), library
    posterior = {
        "combiner": lambda: None,
        "affine": lambda: parts.AffineMarkov(
            (LENGTH, z_dim), context_shape=(LENGTH, features), **key
        ),
        "iaf": lambda: parts.Markov(
            library.flows.Flow(
                z_dim,
                [library.flows.Autoregressive(z_dim, hidden=(hidden,), **key)],
                context_shape=(z_dim, (features,)),
                base=parts.Combiner(z_dim, features, **key),
            ),
            LENGTH,
        ),
    }[guide]()
    model = library.models.DMM(KEYS, z_dim, LENGTH, **sizes, posterior=posterior, **key)
    return model, library


def run_one(
    backend: str, guide: str, size: str, seed: int, num_epochs: int, folder: Path
) -> dict[str, Any]:
    """Train one model and measure it."""
    data = chorales()
    dmm, library = model_of(backend, guide, size, seed)
    num_steps = num_epochs * -(-len(data["train"][0]) // 20)
    start = time.process_time()
    run = library.fit(
        dmm.model,
        dmm.guide,
        library.Bucketed(*data["train"]) if guide == "vrnn" else data["train"],
        loss=library.losses.ELBO(beta=linear(int(0.4 * num_steps), start=0.2)),
        optim=adam(backend, 1e-3),
        lr_schedule=Schedule((0, num_steps // 2, num_steps), (1.0, 1.0, 0.1)),
        clip_norm=10.0,
        num_epochs=num_epochs,
        batch_size=20,
        validation=data["validation"],
        checkpoint=folder,
        checkpoint_every=25,
        seed=seed,
        progress=False,
    )
    found: dict[str, Any] = {
        "model": guide,
        "size": size,
        "backend": backend,
        "seed": seed,
        "epochs": num_epochs,
    }
    for split, particles in (("train", 1), ("validation", 4), ("test", 64)):
        x, lengths = data[split]
        report = library.evaluation.log_likelihood(
            run, (x, lengths), num_particles=particles, chunk_size=512, progress=False
        )
        bounds = per_step(report, lengths)
        found[f"{split} -ELBO"] = -bounds["ELBO"][0]
        if split == "test":
            found["error"] = bounds["ELBO"][1]
            found["test -IWAE-64"] = -bounds["IWAE"][0]
    if guide == "vrnn":
        found["bounds"] = bounds_of(run, library, *data["test"])
    return {
        **found,
        "CPU seconds": round(time.process_time() - start),
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def bounds_of(run: Any, library: Any, x: np.ndarray, lengths: np.ndarray) -> list[dict[str, Any]]:
    """The bounds of one model of its data, in nats per step, and their differences, each with its
    standard error over sequences.
    """
    evaluation, rows = library.evaluation, []
    for num in PARTICLES:
        found: dict[str, Any] = {"ELBO": 0.0, "IWAE": 0.0, "FIVO": 0.0}
        for seed in range(REPEATS):
            options = {"num_particles": num, "chunk_size": 2048, "seed": seed, "progress": False}
            report = evaluation.log_likelihood(run, (x, lengths), **options)
            particles = evaluation.particle_filter(
                run, (x, lengths), resample=0.5, scheme="multinomial", **options
            )
            for name in ("ELBO", "IWAE"):
                found[name] = found[name] + report[name] / REPEATS
            found["FIVO"] = found["FIVO"] + particles.log_likelihood / REPEATS
        found["IWAE - ELBO"] = found["IWAE"] - found["ELBO"]
        found["FIVO - IWAE"] = found["FIVO"] - found["IWAE"]
        cells = per_step(found, lengths).items()
        rows.append({"K": num} | {n: f"{v:.3f} +/- {error:.3f}" for n, (v, error) in cells})
    return rows


def adam(backend: str, lr: float) -> Any:
    """Adam of a backend."""
    if backend == "pyro":
        from pyro.optim import Adam

        return Adam({"lr": lr})
    import optax

    return optax.adam(lr)


def write_table() -> None:
    """The runs so far."""
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    columns = [name for name in results[0] if name not in ("hardware", "bounds")]
    text = format_table([{name: one[name] for name in columns} for one in results], digits=3)
    for one in results:
        if "bounds" in one:
            title = f"VRNN, {one['backend']}, {one['size']}, {one['epochs']} epochs, seed"
            text += f"\n\n{title} {one['seed']}: bounds on log p of the test set, nats per step\n"
            text += format_table(one["bounds"])
    print(text)
    (HERE.parent / "chorales.md").write_text(
        f"# Sequence models of the JSB chorales\n\n{__doc__}\n{PUBLISHED}\n\n```\n{text}\n```\n"
        f"\nHardware: {results[0]['hardware']}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="numpyro", choices=["pyro", "numpyro"])
    parser.add_argument(
        "--models", nargs="+", choices=["combiner", "affine", "iaf", "vrnn"], default=["combiner"]
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=1200)
    parser.add_argument("--runs", type=Path, default=Path("runs") / "chorales")
    a = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        for guide in a.models:
            name = f"{guide}-{a.size}-{a.backend}-{a.epochs}-{seed}"
            path = HERE / f"{name}.json"
            if not path.exists():
                found = run_one(a.backend, guide, a.size, seed, a.epochs, a.runs / name)
                write_json(path, found)
                print(path.read_text(), flush=True)
    write_table()


if __name__ == "__main__":
    main()
