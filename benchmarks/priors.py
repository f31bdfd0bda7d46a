"""What a better prior is worth: one VAE on dynamically binarized MNIST under four priors, and a
prior fitted afterwards.

    python benchmarks/priors.py [--epochs 30] [--seeds 0 1 2] [--train 20000] [--test 1000]
    [--backend pyro] [--priors standard ...] [--hidden 200] [--components 100] [--batch 128]
    [--rate 1e-3] [--particles 500] [--seconds 450]

Protocol: VAE 784-200-200-40 (ReLU, Bernoulli likelihood, diagonal normal posterior) on the first
training images, binarized anew at every pass, KL warm-up over the first sixth of the run, Adam 1e-3
with a linear decay to a tenth, batches of 128, the last weights: the same for all priors (standard
normal; mixture of 100 diagonal normals; VampPrior with 100 pseudo-inputs that start around the mean
image; MAF of two layers).  The first test images are binarized once (seed 0) and scored with L_500.
The three terms are those of `elbo_surgery` on the first 2,000 training images.  To the run with the
standard prior a MAF is fitted afterwards by `fit_prior`, 50 epochs; the Frechet distance of 5,000
drawn images to as many binarized test images is taken in the features of a classifier of the
digits.
DGM_DATA_DIR may point to a folder that holds mnist/; otherwise the images are downloaded.  Each run
leaves one JSON file in benchmarks/results/priors, the table goes to benchmarks/results/priors.md,
and a finished run is not repeated.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from budget import Deadline, hardware, results

from dgm_core.data import binarize, load
from dgm_core.results import format_table, write_json
from dgm_core.samples.quality import FeatureClassifier, frechet_distance
from dgm_core.schedules import Schedule, linear

HERE = results("priors")
Z_DIM, CHUNK = 40, 100_000
OPTIONS = {"hidden": 200, "components": 100, "batch": 128, "rate": 1e-3, "particles": 500}
PRIORS = ("standard", "mixture", "vamp", "maf")


class Backend:
    """One of the libraries, with a seed for all weights."""

    def __init__(self, name: str, seed: int) -> None:
        self.package = importlib.import_module(f"{name}_dgm")
        self.name, self.seed, self.made = name, seed, 0
        if name == "pyro":
            importlib.import_module("torch").manual_seed(seed)

    def make(self, module: str, name: str, *sizes: Any, **settings: Any) -> Any:
        """A part with weights of its own."""
        if self.name == "numpyro":
            self.made += 1
            settings["key"] = importlib.import_module("jax").random.key(
                1000 * self.seed + self.made
            )
        return getattr(getattr(self.package, module), name)(*sizes, **settings)

    def prior(self, name: str, mean: np.ndarray, number: int) -> Any:
        """A prior by its name."""
        if name == "standard":
            return self.package.conditionals.StandardNormal(Z_DIM)
        if name == "mixture":
            return self.make("conditionals", "MixturePrior", Z_DIM, number)
        if name == "vamp":
            return self.make("conditionals", "VampPrior", num_components=number, mean=mean)
        return self.make("flows", "MAF", Z_DIM, num_layers=2, hidden=(200,))


def score(backend: Backend, run: Any, test: np.ndarray, particles: int) -> dict[str, float]:
    """The bounds of test data."""
    report = backend.package.evaluation.log_likelihood(
        run, test, num_particles=particles, chunk_size=CHUNK, seed=0, progress=False
    )
    return {"ELBO": report.mean("ELBO"), "L": report.mean("IWAE")}


def terms(backend: Backend, run: Any, x: np.ndarray) -> dict[str, float]:
    """Mutual information and marginal KL."""
    found = backend.package.evaluation.elbo_surgery(run, binarize(x, "static", seed=1))
    return {"MI": found.mutual_information, "marginal KL": found.marginal_kl}


def run_one(arguments: argparse.Namespace, prior: str, seed: int) -> dict[str, Any]:
    """Train and score one model."""
    data, backend = load("mnist"), Backend(arguments.backend, seed)
    x, test = data.train[: arguments.train], data.test[: arguments.test]
    mean = x.mean(0).clip(0.0, 1.0)
    made = backend.prior(prior, mean, arguments.components)
    hidden = (arguments.hidden, arguments.hidden)
    vae = backend.make("models", "VAE", 784, Z_DIM, hidden=hidden, prior=made)
    num_steps = arguments.epochs * -(-len(x) // arguments.batch)
    losses, training = backend.package.losses, backend.package.training
    start = time.perf_counter()
    run = training.fit(
        vae.model,
        vae.guide,
        x,
        loss=losses.ELBO(beta=linear(num_steps // 6)),
        num_epochs=arguments.epochs,
        batch_size=arguments.batch,
        optim=backend.package.Adam(arguments.rate),
        callbacks=[Deadline(arguments.seconds).share(1)],
        transform=training.binarize,
        lr_schedule=Schedule((0, num_steps), (1.0, 0.1)),
        seed=seed,
        progress=False,
    )
    result: dict[str, Any] = {
        "prior": prior,
        "seed": seed,
        "backend": arguments.backend,
        "epochs": arguments.epochs,
        "train": len(x),
        "test": len(test),
        "minutes": (time.perf_counter() - start) / 60,
        "train_ELBO": float(run.history.last["ELBO"]),
        "reached": run.epoch,
        **{name: getattr(arguments, name) for name in OPTIONS},
        "hardware": hardware(arguments.backend),
        **score(backend, run, binarize(test, "static", seed=0), arguments.particles),
        **terms(backend, run, x[:2000]),
    }
    if prior != "standard" or not arguments.afterwards:
        return result
    return {**result, **afterwards(backend, run, x, data, len(test), arguments.particles)}


def afterwards(
    backend: Backend, run: Any, x: np.ndarray, data: Any, num_test: int, particles: int
) -> dict[str, Any]:
    """What a fitted prior changes."""
    codes = binarize(x, "static", seed=1)
    test = binarize(data.test, "static", seed=0)
    flow = backend.make("flows", "MAF", Z_DIM, num_layers=2, hidden=(200,))
    better = backend.package.evaluation.fit_prior(run, codes, flow, num_epochs=50, progress=False)
    labels = data.labels["train"][: len(x)]
    network = FeatureClassifier(codes, labels, num_epochs=20)
    real, other = network.features(test[:5000]), network.features(test[5000:])
    found: dict[str, Any] = {"Frechet of the data": frechet_distance(real, other)}
    for name, one in (("before", run), ("after", better)):
        drawn = backend.package.generate(one, size=5000, seed=0)["x"]
        found[f"Frechet {name}"] = frechet_distance(real, network.features(drawn))
    scored = score(backend, better, test[:num_test], particles)
    found |= {f"{name} after": value for name, value in scored.items()}
    found |= {f"{name} after": value for name, value in terms(backend, better, x[:2000]).items()}
    return found


def table(found: list[dict[str, Any]]) -> str:
    """One row per prior: the mean over the seeds, and the gain over the standard normal."""
    rows = []
    standard = {r["seed"]: r["L"] for r in found if r["prior"] == "standard"}
    for prior in PRIORS:
        runs = [r for r in found if r["prior"] == prior]
        if not runs:
            continue
        names = ("train_ELBO", "ELBO", "L", "MI", "marginal KL", "minutes")
        gains = [r["L"] - standard[r["seed"]] for r in runs if r["seed"] in standard]
        row: dict[str, Any] = {"prior": prior, "seeds": len(runs)}
        row |= {name: float(np.mean([r[name] for r in runs])) for name in names}
        if gains:
            row |= {"gain": float(np.mean(gains)), "least": min(gains), "most": max(gains)}
        rows.append(row)
    return format_table(rows, list(rows[0]), digits=2)


def refitted(found: list[dict[str, Any]]) -> str:
    """One row per seed: the run with the standard prior, before and after a prior was fitted."""
    names = ("Frechet of the data", "Frechet before", "Frechet after", "L", "L after")
    names = (*names, "marginal KL", "marginal KL after")
    runs = [r for r in found if r["prior"] == "standard" and "Frechet before" in r]
    rows = [{"seed": r["seed"], **{name: r[name] for name in names}} for r in runs]
    return format_table(rows, ["seed", *names], digits=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", type=int, default=20000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    parser.add_argument("--priors", nargs="+", default=PRIORS, choices=PRIORS)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--seconds", type=float, help="of all training")
    parser.add_argument("--no-afterwards", dest="afterwards", action="store_false")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    def path(prior: str, seed: int) -> Path:
        size = f"{arguments.epochs}-{arguments.train}"
        size += "" if arguments.batch == 128 else f"-b{arguments.batch}"
        return HERE / f"{arguments.backend}-{prior}-{size}-{seed}.json"

    if arguments.one:
        prior, seed = arguments.one[0], int(arguments.one[1])
        write_json(path(prior, seed), run_one(arguments, prior, seed))
        return
    names = ["epochs", "train", "test", "backend", *OPTIONS]
    given = [f"--{name}={getattr(arguments, name)}" for name in names]
    given += [] if arguments.afterwards else ["--no-afterwards"]
    deadline = Deadline(arguments.seconds)
    cells = list(product(arguments.seeds, arguments.priors))
    for index, (seed, prior) in enumerate(cells):
        if not path(prior, seed).exists():
            command = [sys.executable, __file__, "--one", prior, str(seed), *given]
            if arguments.seconds:
                command += [f"--seconds={deadline.left / (len(cells) - index)}"]
            subprocess.run(command, check=True)
        write()


def write() -> None:
    """The tables of the runs that are finished, those alike in one."""
    protocol = (__doc__ or "").split("Protocol: ")[1].split("DGM_DATA_DIR")[0]
    lines = ["# Priors on dynamically binarized MNIST", "", " ".join(protocol.split()), ""]
    runs = [json.loads(file.read_text()) for file in sorted(HERE.glob("*.json"))]
    runs = [{**OPTIONS, "L": r.get("L_500"), "L after": r.get("L_500 after"), **r} for r in runs]
    names = ("epochs", "train", "test", "backend", "hardware", *OPTIONS)
    for kind in sorted({tuple(r[name] for name in names) for r in runs}):
        found = [r for r in runs if tuple(r[name] for name in names) == kind]
        epochs, train, test, backend, machine, hidden, components, batch, rate, particles = kind
        lines += [
            f"## {epochs} epochs of {train} images, {backend}, {machine}",
            "",
            f"{test} test images; networks of {hidden}, {components} components, batches of "
            f"{batch}, Adam {rate}, L of {particles} particles; gain: of L over the standard prior "
            "of the same seed, its mean, least and most.",
            "",
        ]
        early = [r for r in found if r.get("reached", epochs) < epochs]
        lines += [
            f"{r['prior']}, seed {r['seed']}: stopped after {r['reached']} epochs.\n" for r in early
        ]
        lines += ["```", table(found), "```", ""]
        if any("Frechet before" in one for one in found):
            lines += [
                "A MAF fitted afterwards to the codes of the runs with the standard prior:",
                "",
                "```",
                refitted(found),
                "```",
                "",
            ]
    notes = HERE.with_name("priors_notes.md")
    lines += [notes.read_text()] if notes.exists() else []
    (HERE.parent / "priors.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
