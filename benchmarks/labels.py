"""A hundred labels: semi-supervised models of MNIST beside a classifier of the labels alone.

    python benchmarks/labels.py [--methods M1+M2 M2 ...] [--seeds 0 1 2] [--train 50000]
    [--labels 100] [--backend pyro]

Protocol: the first training images, binarized anew at every pass; 10 labels of each class, drawn by
the seed, and these rows are repeated among the data until a tenth of all is labeled, a seventh for
models of pixels. Networks have one hidden layer (ReLU), Adam with a linear decay to a tenth,
batches of 100, the last weights; the loss is ELBO(enumerate="y") + 20 NLL("y"). "supervised" is
scikit-learn's network with a hidden layer of 300 on the labels alone. Codes are those of a VAE with
16 latents and a hidden layer of 400, 14 epochs; "M1" is scikit-learn's support vector machine on
their means; "M1+M2" an M2 of them, drawn anew at every pass, with 8 latents and hidden layers of
150, "M1+SDGM" an SDGM (Adam 3e-3, 90 epochs). "M2", "ADGM" and "SDGM" see pixels: 10 latents,
hidden layers of 300, Adam 3e-3, 12 epochs, the weight of the KL part of z falls from 10 to 1.
Accuracy is on all 10,000 test images, by the mean of q(y | x) over 10 draws where the guide draws
something before y. --epochs counts in tenths of these epochs. Settings were chosen on other seeds,
100 and 101.
DGM_DATA_DIR may point to a folder that holds mnist/; otherwise the images are downloaded.  Each run
leaves one JSON file in benchmarks/results/labels, the table goes to benchmarks/results/labels.md,
and a finished run is not repeated.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from dgm_core.data import load
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule, linear

HERE = Path(__file__).parent / "results" / "labels"
HIDDEN, BATCH, CODES = (300,), 100, 16
METHODS = ("supervised", "M1", "M1+M2", "M1+SDGM", "M2", "ADGM", "SDGM")


class Library:
    """One of the libraries, with a seed for all weights."""

    def __init__(self, name: str, seed: int) -> None:
        self.package, self.name = importlib.import_module(f"{name}_dgm"), name
        self.seed, self.made = seed, 0
        if name == "pyro":
            importlib.import_module("torch").manual_seed(seed)

    def make(self, module: str, name: str, *sizes: Any, **settings: Any) -> Any:
        """A part with weights of its own."""
        if self.name == "numpyro":
            self.made += 1
            jax = importlib.import_module("jax")
            settings["key"] = jax.random.key(1000 * self.seed + self.made)
        return getattr(getattr(self.package, module), name)(*sizes, **settings)

    def optimizer(self, rate: float) -> Any:
        """Adam."""
        if self.name == "pyro":
            return self.package.Adam(rate)
        return importlib.import_module("optax").adam(rate)

    def drawn(self, batch: Any, **key: Any) -> Any:
        """Codes of a batch, (means and scales, labels), drawn anew."""
        both, labels = batch
        mean, scale = both[:, :CODES], both[:, CODES:]
        if self.name == "pyro":
            return mean + scale * importlib.import_module("torch").randn_like(mean), labels
        noise = importlib.import_module("jax").random.normal(key["key"], mean.shape)
        return mean + scale * noise, labels

    def fit(
        self, pair: Any, *data: Any, loss: Any, epochs: int, rate: float, **options: Any
    ) -> Any:
        """A run by the protocol."""
        steps = epochs * -(-len(data[0]) // BATCH)
        return self.package.fit(
            pair.model,
            pair.guide,
            data if len(data) > 1 else data[0],
            loss=loss,
            num_epochs=epochs,
            batch_size=min(BATCH, len(data[0])),
            optim=self.optimizer(rate),
            lr_schedule=Schedule((0, steps), (1.0, 0.1)),
            seed=self.seed,
            progress=False,
            **options,
        )


def chosen(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """The rows whose labels are known, as many of each class."""
    rng = np.random.default_rng(seed)
    each = number // (labels.max() + 1)
    return np.concatenate(
        [rng.choice(np.flatnonzero(labels == k), each, replace=False) for k in np.unique(labels)]
    )


def mixed(
    x: np.ndarray, labels: np.ndarray, known: np.ndarray, each: int
) -> tuple[np.ndarray, np.ndarray]:
    """All data without labels, and those with labels again and again, one for `each` of them."""
    again = np.resize(known, len(x) // each)
    missing = np.full(len(x), -1)
    return np.concatenate([x, x[again]]), np.concatenate([missing, labels[again]])


def binarized(x: np.ndarray, seed: int) -> np.ndarray:
    """Images as the models saw them."""
    return (np.random.default_rng(seed).random(x.shape) < x).astype("float32")


def accuracy(lib: Library, run: Any, x: np.ndarray, labels: np.ndarray, draws: int = 1) -> float:
    """Of the classifier of a guide."""
    p = lib.package.evaluation.class_probabilities(run, x, num_draws=draws)
    return float((p.argmax(1) == labels).mean())


def encoded(lib: Library, run: Any, x: np.ndarray) -> np.ndarray:
    """Means and scales of the codes of images, side by side."""
    vae = run.model.__self__ if lib.name == "pyro" else None
    if vae is not None:
        torch = importlib.import_module("torch")
        with torch.no_grad():
            q = vae.posterior(vae.encoder(torch.as_tensor(x)))
    else:
        substitute = importlib.import_module("numpyro").handlers.substitute
        with substitute(data=run.params):
            vae, register = run.model.__self__, lib.package.nn.register
            q = register("posterior", vae.posterior)(register("encoder", vae.encoder)(x))
    return np.concatenate([np.asarray(q.mean), np.asarray(q.variance) ** 0.5], 1)


def run_one(arguments: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Train and score one model."""
    data, lib = load("mnist"), Library(arguments.backend, seed)
    x = np.asarray(data.train, "float32").reshape(len(data.train), -1)[: arguments.train]
    labels = np.asarray(data.labels["train"])[: arguments.train].astype(int)
    test = np.asarray(data.test, "float32").reshape(len(data.test), -1)
    test, truth = binarized(test, 0), np.asarray(data.labels["test"]).astype(int)
    known = chosen(labels, arguments.labels, seed)
    start, epochs, losses = time.process_time(), arguments.epochs, lib.package.losses
    binarize, known_label = lib.package.training.binarize, 20.0 * losses.NLL("y")
    draws = 1 if method.endswith("M2") else 10
    if method == "supervised":
        network = MLPClassifier(HIDDEN, max_iter=500, random_state=seed)
        found = network.fit(binarized(x, seed)[known], labels[known]).score(test, truth)
    elif method.startswith("M1"):
        vae, elbo = lib.make("models", "VAE", 784, CODES, hidden=(400,)), losses.ELBO
        options = {"epochs": round(1.4 * epochs), "rate": 2e-3, "transform": binarize}
        run = lib.fit(vae, x, loss=elbo(analytic_kl=True), **options)
        codes = [encoded(lib, run, part) for part in (binarized(x, seed), test)]
        means = [part[:, :CODES] for part in codes]
        if method == "M1":
            found = SVC().fit(means[0][known], labels[known]).score(means[1], truth)
        else:
            name = method.removeprefix("M1+")
            normal = lib.make(
                "conditionals", "DiagonalNormal", CODES, context_shape=150, min_scale=0.01
            )
            pair = lib.make("models", name, CODES, 8, 10, hidden=(150,), likelihood=normal)
            data = mixed(codes[0], labels, known, 9)
            options = {"epochs": 9 * epochs, "rate": 3e-3, "transform": lib.drawn}
            run = lib.fit(pair, *data, loss=elbo(enumerate="y") + known_label, **options)
            found = accuracy(lib, run, means[1], truth, draws)
    else:
        pair = lib.make("models", method, 784, 10, 10, hidden=HIDDEN)
        data, number = mixed(x, labels, known, 6), round(1.2 * epochs)
        beta = {"z": linear(number * -(-len(data[0]) // BATCH), 10.0, 1.0)}
        loss = losses.ELBO(enumerate="y", beta=beta) + known_label
        run = lib.fit(pair, *data, loss=loss, epochs=number, rate=3e-3, transform=binarize)
        found = accuracy(lib, run, test, truth, draws)
    return {
        "method": method,
        "seed": seed,
        "backend": arguments.backend,
        "budget": epochs,
        "train": len(x),
        "labels": len(known),
        "accuracy": found,
        "CPU minutes": (time.process_time() - start) / 60,
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def table() -> str:
    """All runs, by method."""
    runs = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    rows = []
    kinds = sorted({(METHODS.index(run["method"]), run["budget"]) for run in runs})
    for index, budget in kinds:
        method = METHODS[index]
        found = [run for run in runs if (run["method"], run["budget"]) == (method, budget)]
        values = np.array([100 * run["accuracy"] for run in found])
        rows.append(
            {
                "method": method,
                "accuracy": f"{values.mean():.2f}",
                "each": " ".join(f"{value:.2f}" for value in values),
                "budget": budget,
                "train": found[0]["train"],
                "CPU minutes": f"{np.mean([run['CPU minutes'] for run in found]):.1f}",
            }
        )
    return format_table(rows)


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--train", type=int, default=50000)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for method in arguments.methods:
            path = HERE / f"{arguments.backend}_{method}_{seed}_{arguments.epochs}.json"
            if not path.exists():
                write_json(path, run_one(arguments, method, seed))
                print(path.stem, json.loads(path.read_text())["accuracy"], flush=True)
    text = f"# A hundred labels\n\n```\n{table()}\n```\n\n{__doc__[__doc__.index('Protocol') :]}"
    HERE.with_suffix(".md").write_text(text)
    print(table(), file=sys.stderr)


if __name__ == "__main__":
    main()
