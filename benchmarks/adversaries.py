"""GANs of residual blocks, and translation without pairs, on the digits of scikit-learn (8x8).

    python benchmarks/adversaries.py [--backend pyro] [--models DCGAN SNGAN SAGAN BigGAN inverse
    rotated] [--seeds 0 1 2] [--steps 1500] [--table]

Protocol: all 1,797 digits, values in [0, 1]; batches of 64; `--steps` steps of the generator, the
same for all models, Adam with betas (0, 0.9) and rates 1e-3 for both players, that of the generator
falls linearly to a twentieth. DCGAN (channels 32, 16, JensenShannon, R1(), default critic with
channels 32, 64) is the baseline. SNGAN, SAGAN, BigGAN have channels 32, 16 and Hinge with a
ResidualCritic of channels 16, 32 (attention for the latter two). Latent vectors of size 16. No
model selection, no average of weights.
Reported: the Frechet distance of 5,000 draws to all digits, in the features of a classifier of the
digits (`FeatureClassifier`), and for BigGAN the share of 2,000 draws that the classifier gives the
label they were drawn for.
CycleGAN: the first 1,000 digits, and the last 797 inverted (1 - y) or rotated by a quarter turn;
UNet(channels=(16, 32)) both ways; JensenShannon of both with R1(), 10 Cycle. Reported: the share of
the first 1,000 whose translation, undone, is classified as their label (of the digits themselves:
"undone").
One result for each model and seed is kept in results/adversaries; those that are there are not run
again.
"""

import argparse
import importlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import load
from dgm_core.plots import samples_grid
from dgm_core.results import format_table
from dgm_core.samples.quality import FeatureClassifier, frechet_distance
from dgm_core.schedules import Schedule

FOLDER = Path(os.environ.get("DGM_RESULTS", Path(__file__).parent / "results")) / "adversaries"
SHAPE, Z_DIM, BATCH = (1, 8, 8), 16, 64
CHANGES = {
    "inverse": (lambda x: 1 - x, lambda y: 1 - y),
    "rotated": (lambda x: np.rot90(x, 1, (2, 3)), lambda y: np.rot90(y, -1, (2, 3))),
}


class Backend:
    """One library."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed
        self.package = importlib.import_module(f"{name}_dgm")
        self.losses = importlib.import_module(f"{name}_dgm.losses")
        self.count = 0
        if name == "pyro":
            import pyro

            pyro.clear_param_store()
            pyro.set_rng_seed(seed)

    def make(self, module: str, name: str, *sizes: Any, **settings: Any) -> Any:
        """A module of the library."""
        cls = getattr(importlib.import_module(f"{self.name}_dgm.{module}"), name)
        if self.name == "pyro":
            return cls(*sizes, **settings)
        import jax

        self.count += 1
        key = jax.random.fold_in(jax.random.key(self.seed), self.count)
        return cls(*sizes, **settings, key=key)

    def fit(self, gan: Any, data: Any, loss: Any, steps: int) -> Any:
        """Train by the protocol."""
        return self.package.fit(
            gan.model,
            None,
            data,
            loss=loss,
            optim=self.adam(),
            num_steps=steps,
            batch_size=BATCH,
            drop_last=True,
            lr_schedule=Schedule((0, steps), (1.0, 0.05)),
            seed=self.seed,
            progress=False,
        )

    def adam(self) -> Any:
        """For both players."""
        return self.package.Adam(1e-3, betas=(0.0, 0.9))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All images and their labels."""
    data = load("digits")
    x = np.concatenate([data.train, data.validation, data.test]).reshape(-1, *SHAPE)
    labels = np.concatenate([data.labels[part] for part in ("train", "validation", "test")])
    return x.astype(np.float32), labels


def generator_of(backend: Backend, name: str) -> tuple[Any, Any]:
    """A model with its loss."""
    make, losses = backend.make, backend.losses
    if name == "DCGAN":
        gan = make("models", name, SHAPE, Z_DIM, hidden_channels=(32, 16))
        critic = make("losses", "ImageCritic", SHAPE)
        regularizer = losses.R1()
        return gan, losses.JensenShannon("x", critic, regularizer=regularizer, optim=backend.adam())
    classes = (10,) if name == "BigGAN" else ()
    gan = make("models", name, SHAPE, Z_DIM, *classes, hidden_channels=(32, 16))
    critic = make(
        "losses",
        "ResidualCritic",
        SHAPE,
        hidden_channels=(16, 32),
        attention=name != "SNGAN",
        num_classes=10 if classes else 0,
    )
    return gan, losses.Hinge(("x", "y") if classes else "x", critic, optim=backend.adam())


def generated(backend: Backend, name: str, steps: int) -> tuple[dict[str, Any], np.ndarray]:
    """Train a generator, and what its draws are like."""
    x, labels = digits()
    network = FeatureClassifier(x.reshape(len(x), -1), labels)
    gan, loss = generator_of(backend, name)
    run = backend.fit(gan, (x, labels) if name == "BigGAN" else x, loss, steps)
    drawn = backend.package.generate(run, size=5000)
    images = np.asarray(drawn["x"]).reshape(5000, -1)
    real = network.features(x.reshape(len(x), -1))
    found: dict[str, Any] = {"frechet": frechet_distance(real, network.features(images))}
    if name == "BigGAN":
        given = network.probabilities(images[:2000]).argmax(1)
        found["label_accuracy"] = float((given == np.asarray(drawn["y"])[:2000]).mean())
    return found, images[:64].reshape(-1, *SHAPE)


def translated(backend: Backend, name: str, steps: int) -> tuple[dict[str, Any], np.ndarray]:
    """Train a translator, and how many labels it keeps."""
    x, labels = digits()
    network = FeatureClassifier(x.reshape(len(x), -1), labels)
    change, undo = CHANGES[name]
    one, two = x[:1000], np.ascontiguousarray(change(x[1000:]))
    settings = {"out_channels": 1, "channels": (16, 32)}
    nets = [backend.make("nn", "UNet", SHAPE, **settings) for _ in range(2)]
    gan = backend.make("models", "CycleGAN", SHAPE, to_y=nets[0], to_x=nets[1])
    losses = backend.losses
    loss = 10.0 * losses.Cycle(("x", "y"))
    for site in ("x", "y"):
        critic = backend.make("losses", "ImageCritic", SHAPE)
        loss += losses.JensenShannon(site, critic, regularizer=losses.R1(), optim=backend.adam())
    run = backend.fit(gan, backend.package.Unpaired(one, two), loss, steps)
    y = np.asarray(backend.package.generate(run, one)["y"])
    given = network.probabilities(undo(y).reshape(len(y), -1)).argmax(1)
    itself = network.probabilities(one.reshape(len(one), -1)).argmax(1)
    found = {
        "label_agreement": float((given == labels[:1000]).mean()),
        "undone": float((itself == labels[:1000]).mean()),
        "cycle": float(run.history.last["Cycle(x, y)"]),
    }
    rows = [part for i in range(0, 32, 8) for part in (one[i : i + 8], y[i : i + 8])]
    return found, np.concatenate(rows)


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["DCGAN", "SNGAN", "SAGAN", "BigGAN", *CHANGES]
    parser.add_argument("--backend", default="pyro", choices=("pyro", "numpyro"))
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds if not arguments.table else ():
        for name in arguments.models:
            place = FOLDER / f"{name}_{arguments.backend}_{arguments.steps}_{seed}.json"
            if place.exists():
                continue
            began, wall = time.process_time(), time.perf_counter()
            backend = Backend(arguments.backend, seed)
            kind = translated if name in CHANGES else generated
            found, images = kind(backend, name, arguments.steps)
            result = {
                "model": name,
                "backend": arguments.backend,
                "seed": seed,
                "steps": arguments.steps,
                **found,
                "cpu_seconds": time.process_time() - began,
                "seconds": time.perf_counter() - wall,
                "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
            }
            place.write_text(json.dumps(result, indent=1))
            if seed == 0:
                figure = samples_grid(images, SHAPE)
                figure.savefig(place.with_suffix(".png"), dpi=60)
            print(json.dumps(result), flush=True)
    rows = [json.loads(place.read_text()) for place in sorted(FOLDER.glob("*.json"))]
    columns = ("model", "backend", "seed", "steps", "frechet", "label_accuracy", "label_agreement")
    columns = (*columns, "undone", "cycle", "cpu_seconds")
    print(format_table([{name: row.get(name, "") for name in columns} for row in rows]))


if __name__ == "__main__":
    main()
