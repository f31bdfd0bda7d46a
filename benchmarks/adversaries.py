"""GANs of residual blocks, and translation without pairs, on the digits of scikit-learn (8x8) and
on MNIST (28x28).

    python benchmarks/adversaries.py [--backend pyro] [--data digits] [--models DCGAN SNGAN SAGAN
    BigGAN inverse rotated] [--seeds 0 1 2] [--steps 1000] [--table]

Protocol: all 1,797 digits, or the 60,000 training images of MNIST, values in [0, 1]; batches of 64;
`--steps` steps of the generator, the same for all models, Adam with betas (0, 0.9), the rate of the
generator 1e-3, falling linearly to a twentieth. DCGAN (channels 32, 16, JensenShannon, R1(),
default critic with channels 32, 64, its rate 1e-3) is the baseline. SNGAN, SAGAN, BigGAN have
channels 32, 16 and Hinge with a ResidualCritic of channels 16, 32 (attention for the latter two),
its rate 4e-3 and two updates a step: chosen on seed 11. Latent vectors of size 16, of MNIST 32. No
model selection, no average of weights. Spectral norms and two updates make a step about two and a
half times as long as DCGAN's: DCGAN with so many more steps is a row by itself.
Reported: the Frechet distance of 5,000 draws to all digits (to the 10,000 test images), in the
features of a classifier of the data (`FeatureClassifier`), and for BigGAN the share of 2,000 draws
that the classifier gives the label they were drawn for, beside that of data ("undone").
CycleGAN: the first 1,000 digits, and the last 797 inverted (1 - y) or rotated by a quarter turn;
UNet(channels=(16, 32)) both ways; JensenShannon of both with R1(), 10 Cycle, all rates 1e-3.
Reported: the share of the first 1,000 whose translation, undone, is classified as their label (of
the digits themselves: "undone").
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
from dgm_core.truncation import truncated

FOLDER = Path(os.environ.get("DGM_RESULTS", Path(__file__).parent / "results")) / "adversaries"
BATCH = 64
SHAPES, Z_DIMS = {"digits": (1, 8, 8), "mnist": (1, 28, 28)}, {"digits": 16, "mnist": 32}
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

    def adam(self, rate: float = 1e-3) -> Any:
        """For both players."""
        return self.package.Adam(rate, betas=(0.0, 0.9))


def images_of(data: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to train on, and to compare with."""
    found = load(data)
    parts = ("train", "validation", "test")
    sets = [getattr(found, part).reshape(-1, *SHAPES[data]).astype(np.float32) for part in parts]
    labels = [found.labels[part] for part in parts]
    if data == "digits":
        x, y = np.concatenate(sets), np.concatenate(labels)
        return x, y, x, y
    return np.concatenate(sets[:2]), np.concatenate(labels[:2]), sets[2], labels[2]


def generator_of(backend: Backend, name: str, data: str) -> tuple[Any, Any]:
    """A model with its loss."""
    make, losses, shape = backend.make, backend.losses, SHAPES[data]
    if name == "DCGAN":
        gan = make("models", name, shape, Z_DIMS[data], hidden_channels=(32, 16))
        critic = make("losses", "ImageCritic", shape)
        regularizer = losses.R1()
        return gan, losses.JensenShannon("x", critic, regularizer=regularizer, optim=backend.adam())
    classes = (10,) if name == "BigGAN" else ()
    gan = make("models", name, shape, Z_DIMS[data], *classes, hidden_channels=(32, 16))
    critic = make(
        "losses",
        "ResidualCritic",
        shape,
        hidden_channels=(16, 32),
        attention=name != "SNGAN",
        num_classes=10 if classes else 0,
    )
    sites = ("x", "y") if classes else "x"
    return gan, losses.Hinge(sites, critic, optim=backend.adam(4e-3), critic_steps=2)


def flat(x: np.ndarray) -> np.ndarray:
    """One row for each image."""
    return np.asarray(x).reshape(len(x), -1)


def generated(
    backend: Backend, name: str, steps: int, data: str
) -> tuple[dict[str, Any], np.ndarray]:
    """Train a generator, and what its draws are like."""
    x, labels, other, other_labels = images_of(data)
    network = FeatureClassifier(flat(x[:20_000]), labels[:20_000])
    gan, loss = generator_of(backend, name, data)
    run = backend.fit(gan, (x, labels) if name == "BigGAN" else x, loss, steps)
    drawn = backend.package.generate(run, size=5000)
    images = flat(drawn["x"])
    real = network.features(flat(other))
    found: dict[str, Any] = {"frechet": frechet_distance(real, network.features(images))}
    if name == "BigGAN":
        given = network.probabilities(images[:2000]).argmax(1)
        found["label_accuracy"] = float((given == np.asarray(drawn["y"])[:2000]).mean())
        itself = network.probabilities(flat(other)).argmax(1)
        found["undone"] = float((itself == other_labels).mean())
        swept(backend, run, SHAPES[data], Z_DIMS[data], data)
    return found, images[:64].reshape(-1, *SHAPES[data])


def swept(backend: Backend, run: Any, shape: tuple[int, ...], z_dim: int, data: str) -> None:
    """Pictures of one seed: codes of each class under bounds from none to 0.1, and on the way from
    one code to another."""
    if backend.seed:
        return
    z, y = np.random.default_rng(0).standard_normal((2, 10, z_dim)), np.arange(10)
    bounds = [30.0, 2.0, 1.0, 0.5, 0.1]
    rows = {"truncation": [truncated(z[0], bound) for bound in bounds]}
    rows["interpolation"] = [(1 - a) * z[0] + a * z[1] for a in np.linspace(0, 1, 7)]
    for name, codes in rows.items():
        given = {"z": np.concatenate(codes), "y": np.tile(y, len(codes))}
        drawn = backend.package.generate(run, size=len(given["y"]), given=given)["x"]
        figure = samples_grid(np.asarray(drawn), shape, num_columns=10)
        figure.savefig(FOLDER / f"{name}_{data}.png", dpi=60)


def translated(
    backend: Backend, name: str, steps: int, data: str
) -> tuple[dict[str, Any], np.ndarray]:
    """Train a translator, and how many labels it keeps."""
    x, labels, _, _ = images_of(data)
    shape = SHAPES[data]
    network = FeatureClassifier(flat(x), labels)
    change, undo = CHANGES[name]
    one, two = x[:1000], np.ascontiguousarray(change(x[1000:]))
    settings = {"out_channels": 1, "channels": (16, 32)}
    nets = [backend.make("nn", "UNet", shape, **settings) for _ in range(2)]
    gan = backend.make("models", "CycleGAN", shape, to_y=nets[0], to_x=nets[1])
    losses = backend.losses
    loss = 10.0 * losses.Cycle(("x", "y"))
    for site in ("x", "y"):
        critic = backend.make("losses", "ImageCritic", shape)
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
    parser.add_argument("--data", default="digits", choices=SHAPES)
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds if not arguments.table else ():
        for name in arguments.models:
            of_data = "" if arguments.data == "digits" else f"{arguments.data}_"
            place = FOLDER / f"{of_data}{name}_{arguments.backend}_{arguments.steps}_{seed}.json"
            if place.exists():
                continue
            began, wall = time.process_time(), time.perf_counter()
            backend = Backend(arguments.backend, seed)
            kind = translated if name in CHANGES else generated
            found, images = kind(backend, name, arguments.steps, arguments.data)
            result = {
                "data": arguments.data,
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
                figure = samples_grid(images, SHAPES[arguments.data])
                figure.savefig(place.with_suffix(".png"), dpi=60)
            print(json.dumps(result), flush=True)
    rows = [
        {"data": "digits", **json.loads(place.read_text())}
        for place in sorted(FOLDER.glob("*.json"))
    ]
    columns = (
        "data",
        "model",
        "backend",
        "seed",
        "steps",
        "frechet",
        "label_accuracy",
        "label_agreement",
    )
    columns = (*columns, "undone", "cycle", "cpu_seconds")
    print(format_table([{name: row.get(name, "") for name in columns} for row in rows]))


if __name__ == "__main__":
    main()
