"""A hundred labels: semi-supervised models of MNIST beside a classifier of the labels alone.

    python benchmarks/labels.py [--methods M1+M2 M2 ...] [--seeds 0 1 2] [--train 50000]
    [--labels 100] [--backend pyro] [--settings small] [--seconds 450]

Protocol: the first training images, binarized anew at every pass; 10 labels of each class, drawn by
the seed, and these rows are repeated among the data until there is one for every `each` of the
others.  Adam with a linear decay to a tenth, the last weights; the loss is ELBO(enumerate="y") +
`weight` NLL("y").  "supervised" is scikit-learn's network with a hidden layer of 300 on the labels
alone.  "M1" is scikit-learn's support vector machine on the means of a VAE's codes; "M1+M2" and
"M1+SDGM" are models of these codes, drawn anew at every pass.  "M2", "ADGM" and "SDGM" see pixels;
in them the weight of the KL part of z falls from `beta` to 1.  Accuracy is on all 10,000 test
images, by the mean of q(y | x) over 10 draws where the guide draws something before y.
Settings (`SETTINGS`) were chosen on other seeds, 100 and (small) 101. "small" is for processors:
networks with one hidden layer (ReLU), batches of 100. "wide" is for an accelerator, with 50 latents
and hidden layers of 500 and 500, as published, batches of 1,000; "wide, norm" has batch
normalization in all networks of the guide and the model.  --epochs counts in tenths of a setting's
epochs.
DGM_DATA_DIR may point to a folder that holds mnist/; otherwise the images are downloaded.  Each run
leaves one JSON file in benchmarks/results/labels, the table goes to benchmarks/results/labels.md,
and a finished run is not repeated.  After --seconds all training stops, each run after its share.
"""

import argparse
import importlib
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from operator import attrgetter
from typing import Any

import numpy as np
from budget import Deadline, hardware, results

from dgm_core.data import load
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule, linear

HERE = results("labels")
METHODS = ("supervised", "M1", "M1+M2", "M1+SDGM", "M2", "ADGM", "SDGM")


@dataclass(frozen=True)
class Codes:
    """The VAE of M1 and how it is trained."""

    size: int = 16
    hidden: tuple[int, ...] = (400,)
    batch: int = 100
    epochs: int = 14
    rate: float = 2e-3


@dataclass(frozen=True)
class Setting:
    """A model of labels and how it is trained."""

    hidden: tuple[int, ...] = (300,)
    latents: int = 10
    activation: str = "relu"
    norm: bool = False
    weight: float = 20.0
    each: int = 6
    beta: float = 10.0
    batch: int = 100
    epochs: int = 12
    rate: float = 3e-3
    codes: Codes | None = None


SMALL, SMALL_CODES = Setting(), Setting((150,), 8, each=9, beta=1.0, epochs=90, codes=Codes())
WIDE = Setting((500, 500), 50, "softplus", each=9, batch=1000, epochs=250, rate=1e-3)
NORM = replace(WIDE, activation="relu", norm=True)
MANY = Codes(50, (500, 500), batch=500, epochs=200, rate=1e-3)
WIDE_CODES = replace(WIDE, hidden=(500,), beta=1.0, codes=MANY, epochs=400)
NORM_CODES = replace(WIDE_CODES, activation="relu", norm=True)
SETTINGS = {
    "small": (SMALL, SMALL_CODES),
    "wide": (WIDE, WIDE_CODES),
    "wide, norm": (NORM, NORM_CODES),
    "wide, norm, flat": (replace(NORM, beta=1.0), replace(NORM_CODES, hidden=(150,), latents=8)),
    "wide, norm, half": (
        replace(NORM, each=1, epochs=140),
        replace(NORM_CODES, each=1, epochs=250),
    ),
    "wide, norm, 100": (replace(NORM, weight=100.0), replace(NORM_CODES, weight=100.0)),
}  # of pixels and of codes


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

    def drawn(self, batch: Any, **key: Any) -> Any:
        """Codes of a batch, (means and scales, labels), drawn anew."""
        both, labels = batch
        size = both.shape[1] // 2
        mean, scale = both[:, :size], both[:, size:]
        if self.name == "pyro":
            return mean + scale * importlib.import_module("torch").randn_like(mean), labels
        noise = importlib.import_module("jax").random.normal(key["key"], mean.shape)
        return mean + scale * noise, labels

    def networks(self, pair: Any, setting: Setting) -> Any:
        """The model with these activations in all of its networks."""
        names = ("auxiliary_encoder", "classifier", "encoder", "auxiliary_decoder", "decoder")
        for name in names:
            if old := getattr(pair, name, None):
                options = {"activation": setting.activation, "batch_norm": setting.norm}
                new = self.make("nn", "MLP", old.in_dim, old.hidden, **options)
                if self.name == "pyro":
                    setattr(pair, name, new)
                else:
                    where = attrgetter(name)
                    pair = importlib.import_module("equinox").tree_at(where, pair, new)
        return pair

    def fit(
        self, pair: Any, *data: Any, loss: Any, epochs: int, setting: Any, **options: Any
    ) -> Any:
        """A run by the protocol."""
        steps = epochs * -(-len(data[0]) // setting.batch)
        return self.package.fit(
            pair.model,
            pair.guide,
            data if len(data) > 1 else data[0],
            loss=loss,
            num_epochs=epochs,
            batch_size=min(setting.batch, len(data[0])),
            optim=self.package.Adam(setting.rate),
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


@cache
def images(num_train: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to train, and to test."""
    data = load("mnist")
    x = np.asarray(data.train, "float32").reshape(len(data.train), -1)[:num_train]
    test = np.asarray(data.test, "float32").reshape(len(data.test), -1)
    labels = (np.asarray(data.labels[part]).astype(int) for part in ("train", "test"))
    train, truth = (part[:end] for part, end in zip(labels, (num_train, None), strict=True))
    return x, train, binarized(test, 0), truth


@cache
def codes_of(lib: Library, codes: Codes, epochs: int, num_train: int, deadline: Deadline) -> Any:
    """Means and scales of the codes of all images, to train and to test; at most for a third of the
    time that is left.
    """
    x, _, test, _ = images(num_train)
    vae = lib.make("models", "VAE", 784, codes.size, hidden=codes.hidden)
    run = lib.fit(
        vae,
        x,
        loss=lib.package.losses.ELBO(analytic_kl=True),
        epochs=max(1, round(codes.epochs * epochs / 10)),
        setting=codes,
        transform=lib.package.training.binarize,
        callbacks=[deadline.share(3)],
    )
    return [encoded(lib, run, part) for part in (binarized(x, lib.seed), test)]


@cache
def library(name: str, seed: int) -> Library:
    """One for each seed, so that what it has trained is found again."""
    return Library(name, seed)


def run_one(
    arguments: argparse.Namespace, method: str, name: str, seed: int, deadline: Deadline, cells: int
) -> dict[str, Any]:
    """Train and score one model, the first of so many `cells`."""
    lib, epochs = library(arguments.backend, seed), arguments.epochs
    x, labels, test, truth = images(arguments.train)
    known = chosen(labels, arguments.labels, seed)
    setting = SETTINGS[name][method.startswith("M1")]
    clock, start, losses = time.process_time(), time.perf_counter(), lib.package.losses
    if setting.codes and method != "supervised":
        size = setting.codes.size
        seen, unseen = codes_of(lib, setting.codes, epochs, arguments.train, deadline)
    run = None
    if method == "supervised":
        network = importlib.import_module("sklearn.neural_network").MLPClassifier(
            (300,), max_iter=500, random_state=seed
        )
        found = network.fit(binarized(x, seed)[known], labels[known]).score(test, truth)
    elif method == "M1":
        machine = importlib.import_module("sklearn.svm").SVC()
        machine.fit(seen[known, :size], labels[known])
        found = machine.score(unseen[:, :size], truth)
    else:
        kind, options = method.removeprefix("M1+"), {"hidden": setting.hidden}
        inputs, transform, dim = (x, lib.package.training.binarize, 784)
        if setting.codes:
            inputs, transform, dim = (seen, lib.drawn, size)
            options["likelihood"] = lib.make(
                "conditionals",
                "DiagonalNormal",
                size,
                context_shape=setting.hidden[0],
                min_scale=0.01,
            )
        pair = lib.make("models", kind, dim, setting.latents, 10, **options)
        if setting.norm or setting.activation != "relu":
            pair = lib.networks(pair, setting)
        data = mixed(inputs, labels, known, setting.each)
        number = max(1, round(setting.epochs * epochs / 10))
        steps = number * -(-len(data[0]) // setting.batch)
        beta = {} if setting.beta == 1 else {"beta": {"z": linear(steps, setting.beta, 1.0)}}
        loss = losses.ELBO(enumerate="y", **beta) + setting.weight * losses.NLL("y")
        run = lib.fit(
            pair,
            *data,
            loss=loss,
            epochs=number,
            setting=setting,
            transform=transform,
            callbacks=[deadline.share(cells)],
        )
        draws = 1 if kind == "M2" else 10
        found = accuracy(lib, run, unseen[:, :size] if setting.codes else test, truth, draws)
    return {
        "method": method,
        "setting": name,
        **({} if run is None else {"details": asdict(setting), "epochs": run.epoch}),
        "seed": seed,
        "backend": arguments.backend,
        "budget": epochs,
        "train": len(x),
        "labels": len(known),
        "accuracy": float(found),
        "CPU minutes": (time.process_time() - clock) / 60,
        "minutes": (time.perf_counter() - start) / 60,
        "hardware": hardware(arguments.backend),
    }


def table() -> str:
    """All runs, by method, setting and budget."""
    runs = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    runs = [{"setting": "small", **run} for run in runs if run["seed"] < 100]
    rows = []
    kinds = {
        (METHODS.index(run["method"]), run["setting"], run["budget"], run["backend"])
        for run in runs
    }
    for index, setting, budget, backend in sorted(kinds):
        kind = {
            "method": METHODS[index],
            "setting": setting,
            "budget": budget,
            "backend": backend,
        }
        found = [run for run in runs if kind.items() <= run.items()]
        values = np.array([100 * run["accuracy"] for run in found])
        rows.append(
            {
                "method": METHODS[index],
                "accuracy": f"{values.mean():.2f}",
                "each": " ".join(f"{value:.2f}" for value in values),
                **kind,
                "hardware": " and ".join(sorted({run["hardware"] for run in found})),
                "CPU minutes": f"{np.mean([run['CPU minutes'] for run in found]):.1f}",
            }
        )
    return format_table(rows)


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--settings", nargs="+", default=["small"], choices=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--train", type=int, default=50000)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    deadline, missing = Deadline(arguments.seconds), []
    for seed, name, method in product(arguments.seeds, arguments.settings, arguments.methods):
        tag = "" if name == "small" else f"_{name.replace(', ', '-')}"
        path = HERE / f"{arguments.backend}_{method}{tag}_{seed}_{arguments.epochs}.json"
        if not path.exists():
            missing.append((path, method, name, seed))
    for index, (path, *cell) in enumerate(missing):
        write_json(path, run_one(arguments, *cell, deadline, len(missing) - index))
        print(path.stem, json.loads(path.read_text())["accuracy"], flush=True)
    notes = HERE.with_name("labels_notes.md")
    said = notes.read_text() if notes.exists() else ""
    text = f"# A hundred labels\n\n```\n{table()}\n```\n\n{__doc__[__doc__.index('Protocol') :]}"
    HERE.with_suffix(".md").write_text(f"{text}\n{said}")
    print(table(), file=sys.stderr)


if __name__ == "__main__":
    main()
