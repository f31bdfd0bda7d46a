"""GANs of residual blocks, and translation without pairs, on the digits of scikit-learn (8x8), on
MNIST and Fashion-MNIST (28x28) and on CIFAR-10 (32x32, colors).

    python benchmarks/adversaries.py [--backend pyro] [--data digits] [--models DCGAN SNGAN SAGAN
    BigGAN inverse rotated] [--seeds 0 1 2] [--steps 1000] [--batch-size 64] [--width 1] [--rates 1]
    [--flat 0] [--critic residual] [--seconds 430] [--fill] [--out FOLDER] [--table]

Protocol: all 1,797 digits, or the training images of the larger sets ("cifar10": the binary files
in the folder cifar10/ of DGM_DATA_DIR, 10,000 and 2,000), values in [0, 1]; batches of 64;
`--steps` steps of the generator, the same for all models, Adam with betas (0, 0.9), the rate of the
generator 1e-3, falling linearly to a twentieth. DCGAN (channels 32, 16, JensenShannon, R1(),
default critic with channels 32, 64, its rate 1e-3) is the baseline. SNGAN, SAGAN, BigGAN have
channels 32, 16 and Hinge with a ResidualCritic of channels 16, 32 (attention for the latter two),
its rate 4e-3 and two updates a step: chosen on seed 11. Latent vectors of size 16, of the larger
sets 32. `--width` multiplies all channels, `--rates` the rates of both players, one run for each,
`--flat` are blocks of the ResidualCritic that keep the size; with `--critic unpooled` it has
pooling="none". `--critic plain`: SNGAN and SAGAN with the network of DCGAN's critic, its weights
divided by their norms, its rate 1e-3 and two updates a step; chosen on seed 11 of MNIST.
No model selection, no average of weights. Spectral norms and two updates make a step about two and
a half times as long as DCGAN's: DCGAN with so many more steps is a row by itself.
A run that is not over after `--seconds` is broken off and says so; with `--fill` the runs of
`--steps` are followed by others of as many steps as fit into these seconds, as many for each.
Reported: the Frechet distance of 5,000 draws to all digits (to the test images), in the features of
a classifier of the data (`FeatureClassifier`, of at most 20,000), precision, recall and coverage in
these, the share of the class that has the fewest draws, and for BigGAN the share of 2,000 draws
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
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from photographs import photographs

from dgm_core.data import load
from dgm_core.plots import samples_grid
from dgm_core.results import format_table
from dgm_core.samples.quality import FeatureClassifier, frechet_distance, neighbor_scores
from dgm_core.schedules import Schedule
from dgm_core.truncation import truncated

SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
}
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

    def fit(self, gan: Any, data: Any, loss: Any, job: "Job") -> Any:
        """Train by the protocol."""
        return self.package.fit(
            gan.model,
            None,
            data,
            loss=loss,
            optim=self.adam(job),
            num_steps=job.steps,
            batch_size=job.batch_size,
            drop_last=True,
            lr_schedule=Schedule((0, job.steps), (1.0, 0.05)),
            seed=self.seed,
            progress=False,
            callbacks=(lambda run: time.monotonic() > job.deadline,),
        )

    def adam(self, job: "Job", rate: float = 1e-3) -> Any:
        """For both players."""
        return self.package.Adam(job.rate * rate, betas=(0.0, 0.9))


class Job(NamedTuple):
    """What is run: `width` multiplies channels, `rate` rates; `deadline` by the monotonic clock."""

    data: str
    model: str
    backend: str
    seed: int
    steps: int
    batch_size: int
    width: int
    rate: float
    flat: int
    critic: str
    deadline: float

    @property
    def name(self) -> str:
        """Of its files; what is as always is left out."""
        parts = [] if self.data == "digits" else [self.data]
        parts += [self.model, self.backend, str(self.steps), str(self.seed)]
        others = (("b", self.batch_size, 64), ("w", self.width, 1), ("r", self.rate, 1.0))
        others += (("f", self.flat, 0),)
        parts += [f"{a}{value:g}" for a, value, usual in others if value != usual]
        return "_".join(parts + [self.critic] * (self.critic != "residual"))


@cache
def images_of(data: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to train on, and to compare with."""
    if data == "cifar10":
        (x, y), (other, other_y) = photographs()
        return x.astype(np.float32), y, other.astype(np.float32), other_y
    found = load(data)
    parts = ("train", "validation", "test")
    sets = [getattr(found, part).reshape(-1, *SHAPES[data]).astype(np.float32) for part in parts]
    labels = [found.labels[part] for part in parts]
    if data == "digits":
        x, y = np.concatenate(sets), np.concatenate(labels)
        return x, y, x, y
    return np.concatenate(sets[:2]), np.concatenate(labels[:2]), sets[2], labels[2]


@cache
def network_of(data: str) -> FeatureClassifier:
    """A classifier of images in rows."""
    x, labels, _, _ = images_of(data)
    return FeatureClassifier(flat(x[:20_000]), labels[:20_000])


def generator_of(backend: Backend, job: Job) -> tuple[Any, Any]:
    """A model with its loss."""
    make, losses, shape = backend.make, backend.losses, SHAPES[job.data]
    sizes: Any = (shape, z_dim(job.data), *((10,) if job.model == "BigGAN" else ()))
    wide = 32 * job.width, 16 * job.width
    gan = make("models", job.model, *sizes, hidden_channels=wide)
    if job.model == "DCGAN" or job.critic == "plain":
        norms = job.model != "DCGAN"
        channels = wide[0], 2 * wide[0]
        critic = make("losses", "ImageCritic", shape, hidden_channels=channels, spectral_norm=norms)
        if norms:
            return gan, losses.Hinge("x", critic, optim=backend.adam(job), critic_steps=2)
        settings = {"regularizer": losses.R1(), "optim": backend.adam(job)}
        return gan, losses.JensenShannon("x", critic, **settings)
    critic = make(
        "losses",
        "ResidualCritic",
        shape,
        hidden_channels=wide[::-1],
        num_flat=job.flat,
        pooling="none" if job.critic == "unpooled" else "sum",
        attention=job.model != "SNGAN",
        num_classes=10 if job.model == "BigGAN" else 0,
    )
    sites = ("x", "y") if job.model == "BigGAN" else "x"
    return gan, losses.Hinge(sites, critic, optim=backend.adam(job, 4e-3), critic_steps=2)


def z_dim(data: str) -> int:
    """The size of the latent vector."""
    return 16 if data == "digits" else 32


def flat(x: np.ndarray) -> np.ndarray:
    """One row for each image."""
    return np.asarray(x).reshape(len(x), -1)


def generated(backend: Backend, job: Job) -> tuple[dict[str, Any], np.ndarray]:
    """Train a generator, and what its draws are like."""
    x, labels, other, other_labels = images_of(job.data)
    gan, loss = generator_of(backend, job)
    run = backend.fit(gan, (x, labels) if job.model == "BigGAN" else x, loss, job)
    drawn = backend.package.generate(run, size=5000)
    images, network = flat(drawn["x"]), network_of(job.data)
    real, fake = network.features(flat(other)), network.features(images)
    found: dict[str, Any] = {**spent(run), "frechet": frechet_distance(real, fake)}
    scores = neighbor_scores(real[:5000], fake)
    found |= {name: getattr(scores, name) for name in ("precision", "recall", "coverage")}
    classes = network.probabilities(images).argmax(1)
    found["rarest"] = float(np.bincount(classes, minlength=10).min() / len(classes))
    if job.model == "BigGAN":
        found["label_accuracy"] = float((classes == np.asarray(drawn["y"]))[:2000].mean())
        itself = network.probabilities(flat(other)).argmax(1)
        found["undone"] = float((itself == other_labels).mean())
        swept(backend, run, job)
    return found, images[:64].reshape(-1, *SHAPES[job.data])


def spent(run: Any) -> dict[str, Any]:
    """Steps that were taken, seconds of them all and of one, without those of the compiler where
    there is more than one pass."""
    steps, seconds = run.history.column("step"), run.history.column("seconds")
    sizes = np.diff(steps, prepend=0)
    one = np.median(seconds[1:] / sizes[1:]) if len(steps) > 1 else seconds[0] / steps[0]
    return {
        "taken": int(steps[-1]),
        "train_seconds": float(seconds.sum()),
        "step_seconds": float(one),
    }


def swept(backend: Backend, run: Any, job: Job) -> None:
    """Pictures of one seed: codes of each class under bounds from none to 0.1, and on the way from
    one code to another."""
    if job.seed:
        return
    z, y = np.random.default_rng(0).standard_normal((2, 10, z_dim(job.data))), np.arange(10)
    bounds = [30.0, 2.0, 1.0, 0.5, 0.1]
    rows = {"truncation": [truncated(z[0], bound) for bound in bounds]}
    rows["interpolation"] = [(1 - a) * z[0] + a * z[1] for a in np.linspace(0, 1, 7)]
    for name, codes in rows.items():
        given = {"z": np.concatenate(codes), "y": np.tile(y, len(codes))}
        drawn = backend.package.generate(run, size=len(given["y"]), given=given)["x"]
        figure = samples_grid(np.asarray(drawn), SHAPES[job.data], num_columns=10)
        figure.savefig(folder() / f"{name}_{job.data}.png", dpi=60)


def translated(backend: Backend, job: Job) -> tuple[dict[str, Any], np.ndarray]:
    """Train a translator, and how many labels it keeps."""
    x, labels, _, _ = images_of(job.data)
    shape, network = SHAPES[job.data], network_of(job.data)
    change, undo = CHANGES[job.model]
    one, two = x[:1000], np.ascontiguousarray(change(x[1000:]))
    settings = {"out_channels": 1, "channels": (16, 32)}
    nets = [backend.make("nn", "UNet", shape, **settings) for _ in range(2)]
    gan = backend.make("models", "CycleGAN", shape, to_y=nets[0], to_x=nets[1])
    losses = backend.losses
    loss = 10.0 * losses.Cycle(("x", "y"))
    for site in ("x", "y"):
        critic = backend.make("losses", "ImageCritic", shape)
        loss += losses.JensenShannon(site, critic, regularizer=losses.R1(), optim=backend.adam(job))
    run = backend.fit(gan, backend.package.Unpaired(one, two), loss, job)
    y = np.asarray(backend.package.generate(run, one)["y"])
    given = network.probabilities(undo(y).reshape(len(y), -1)).argmax(1)
    itself = network.probabilities(one.reshape(len(one), -1)).argmax(1)
    found = {
        **spent(run),
        "label_agreement": float((given == labels[:1000]).mean()),
        "undone": float((itself == labels[:1000]).mean()),
        "cycle": float(run.history.last["Cycle(x, y)"]),
    }
    rows = [part for i in range(0, 32, 8) for part in (one[i : i + 8], y[i : i + 8])]
    return found, np.concatenate(rows)


def folder() -> Path:
    """Where results go."""
    return Path(os.environ.get("DGM_RESULTS", Path(__file__).parent / "results")) / "adversaries"


def run_one(job: Job) -> dict[str, Any]:
    """The result of a job, which is run unless there is one."""
    place = folder() / f"{job.name}.json"
    if place.exists():
        return json.loads(place.read_text())
    network_of(job.data)  # kept: no part of the time of a run
    began, wall = time.process_time(), time.perf_counter()
    kind = translated if job.model in CHANGES else generated
    found, images = kind(Backend(job.backend, job.seed), job)
    settings = {k: v for k, v in job._asdict().items() if k != "deadline"}
    result = {
        **settings,
        **found,
        "cpu_seconds": time.process_time() - began,
        "seconds": time.perf_counter() - wall,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "device": device_of(job.backend),
    }
    place.write_text(json.dumps(result, indent=1))
    if job.seed in (0, 11):
        samples_grid(images, SHAPES[job.data]).savefig(place.with_suffix(".png"), dpi=60)
    print(json.dumps(result), flush=True)
    return result


def device_of(backend: str) -> str:
    """What arrays are on."""
    if backend == "pyro":
        import torch

        return str(torch.get_default_device())
    import jax

    return jax.devices()[0].device_kind


def fitting(found: list[dict[str, Any]], copies: int, seconds: float) -> int:
    """Steps, in hundreds, of which every run has so many that all are over in these seconds."""
    spare = 1.15 * sum(one["seconds"] - one["taken"] * one["step_seconds"] for one in found)
    left = 0.9 * seconds - copies * spare
    return 100 * int(left / (copies * 100 * sum(one["step_seconds"] for one in found)))


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["DCGAN", "SNGAN", "SAGAN", "BigGAN", *CHANGES]
    parser.add_argument("--backend", default="pyro", choices=("pyro", "numpyro"))
    parser.add_argument("--data", default="digits", choices=SHAPES)
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--flat", type=int, default=0, help="blocks that keep the size")
    critics = ("residual", "unpooled", "plain")
    parser.add_argument("--critic", default=critics[0], choices=critics)
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0])
    parser.add_argument("--seconds", type=float, default=1e9, help="in all")
    parser.add_argument("--fill", action="store_true", help="all seconds, by longer runs")
    parser.add_argument("--device", help="of Pyro; JAX takes the best that there is")
    parser.add_argument("--out", help="folder of results")
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    if arguments.out:
        os.environ["DGM_RESULTS"] = arguments.out
    if arguments.device:
        import torch

        torch.set_default_device(arguments.device)
        torch.set_float32_matmul_precision("high")
    folder().mkdir(parents=True, exist_ok=True)
    sizes = (arguments.batch_size, arguments.width)
    kept = (arguments.flat, arguments.critic)
    if arguments.critic == "plain" and not {"SNGAN", "SAGAN"} >= set(arguments.models):
        parser.error("--critic plain is for SNGAN and SAGAN: give --models.")

    def jobs(steps: int, rates: list[float]) -> list[Job]:
        """Of all models, seeds and rates."""
        return [
            Job(arguments.data, name, arguments.backend, seed, steps, *sizes, rate, *kept, end)
            for rate in rates
            for seed in arguments.seeds
            for name in arguments.models
        ]

    if not arguments.table:
        first = jobs(arguments.steps, arguments.rates[:1] if arguments.fill else arguments.rates)
        found = [run_one(job) for job in first if time.monotonic() < end]
        copies, left = len(arguments.rates), end - time.monotonic()
        if arguments.fill and (steps := fitting(found, copies, left)) > 0:
            for job in jobs(steps, arguments.rates):
                if time.monotonic() < end:
                    run_one(job)
    rows = [
        {"data": "digits", **json.loads(place.read_text())} for place in folder().glob("*.json")
    ]
    rows.sort(key=lambda row: [str(row[name]) for name in ("data", "model", "steps", "seed")])
    columns = (
        *("data", "model", "backend", "seed", "steps", "taken", "batch_size", "width", "rate"),
        *("flat", "critic", "frechet", "precision", "recall", "coverage", "rarest"),
        *("label_accuracy", "label_agreement", "undone", "cycle", "train_seconds", "cpu_seconds"),
    )
    shown = [name for name in columns if any(name in row for row in rows)]
    print(format_table([{name: row.get(name, "") for name in shown} for row in rows]))


if __name__ == "__main__":
    main()
