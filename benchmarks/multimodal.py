"""Models of several modalities beside each other: real views of digits, halves of MNIST.

    DGM_DATA_DIR=... python benchmarks/multimodal.py [--epochs 60] [--seeds 0] [--only NAME ...]
    [--data three] [--backend pyro] [--particles 200] [--seconds 450]

Protocol: --data three: the UCI Multiple Features (`mfeat/mfeat.npz`), 2,000 digits, views kar (64),
fou (76) and zer (47), standardized by the training data; 1,500 to train, 500 to test. Eight
latents, MLPs of 100 units, DiagonalNormal(min_scale=0.1) as likelihoods, Adam 1e-3, batches of 100.
--data six: all six views, with fac (216), pix (240) and mor (6) too, 16 latents. --data halves: the
upper and the lower half of MNIST, above 1/2 or not, 50,000 to train and the first 2,000 to test, 32
latents, MLPs of 400 units, Bernoulli likelihoods, batches of 500.
MVAE by sub_sampled, MMVAE and MoPoE by ELBO(enumerate="component"), JMVAE by jmvae(alpha=0.1).

Recorded of the test data: log p of all views, of one (zer; the lower half) by itself, and of this
one given the others (log_likelihood with --particles, nats, standard error over the data);
coherence: how often a classifier of another view (kar, the upper half), which knows so many of the
real ones ("real"), names the digit of what was drawn of it from the first (probe: ridge, a
regularized least-squares fit to the classes; logistic, a logistic regression). Then the time of a
step of MoPoE with five modalities of 100 entries (31 subsets) against a stacked version by hand, in
processor time; and, where MultiVae is installed, against a step of its MoPoE with the same networks
(--only peer): it draws one of the subsets for each datum, and so does ELBO() here. Each run leaves
a file in benchmarks/results/multimodal and is not repeated; the table is
benchmarks/results/multimodal.md.
"""

import argparse
import importlib
import json
import os
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from budget import Deadline, hardware, results

from dgm_core.data import load
from dgm_core.results import format_table, write_json

HERE = results("multimodal")
MODELS = ("MVAE", "MMVAE", "MoPoE", "JMVAE")
VIEWS = {
    "three": ("kar", "fou", "zer"),
    "six": ("kar", "fou", "zer", "fac", "pix", "mor"),
    "halves": ("upper", "lower"),
}
EPOCHS, PARTICLES = 60, 200
ONE, OTHER = {"halves": "lower"}, {"halves": "upper"}  # zer and kar of the others


@cache
def views(data: str) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Views and labels, to train and to test."""
    if data == "halves":
        mnist = load("mnist")
        parts = [
            (np.asarray(x).reshape(len(x), -1) > 0.5).astype(np.float32)
            for x in (mnist.train, mnist.test[:2000])
        ]
        halves = [{"upper": x[:, :392], "lower": x[:, 392:]} for x in parts]
        labels = [np.asarray(mnist.labels[name]).astype(int) for name in ("train", "test")]
        return halves[0], labels[0], halves[1], labels[1][:2000]
    archive = np.load(Path(os.environ["DGM_DATA_DIR"]) / "mfeat" / "mfeat.npz")
    rows = np.random.default_rng(0).permutation(2000)
    train, test = rows[:1500], rows[1500:]
    found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
    for name in VIEWS[data]:
        x = archive[name].astype(np.float32)
        mean, scale = x[train].mean(0), x[train].std(0) + 1e-6
        for part, chosen in zip(found, (train, test), strict=True):
            part[name] = (x[chosen] - mean) / scale
    return found[0], archive["y"][train].astype(int), found[1], archive["y"][test].astype(int)


class Probe:
    """A linear classifier by ridge regression on the classes, one-hot."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        wide = self._wide(x)
        square = wide.T @ wide + 1e-2 * len(x) * np.eye(wide.shape[1])
        self.weights = np.linalg.solve(square, wide.T @ np.eye(10)[y])

    @staticmethod
    def _wide(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.asarray(x, np.float64), np.ones((len(x), 1))], 1)

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        """The share that is named right."""
        return float(((self._wide(x) @ self.weights).argmax(1) == y).mean())


def model_of(package: Any, options: argparse.Namespace, name: str, seed: int) -> tuple[Any, Any]:
    """A model with its guide, and the loss that it is trained by."""
    shapes = {view: x.shape[1] for view, x in views(options.data)[0].items()}
    width, latents = {"three": (100, 8), "six": (100, 16), "halves": (400, 32)}[options.data]
    keys: list[dict[str, Any]] = [{}] * (len(shapes) + 1)
    if options.backend == "pyro":
        importlib.import_module("pyro").clear_param_store()
        importlib.import_module("pyro").set_rng_seed(seed)
    else:
        random = importlib.import_module("jax").random
        keys = [{"key": key} for key in random.split(random.key(seed), len(keys))]
    conditionals, losses = package.conditionals, package.losses
    likelihoods = {
        view: conditionals.Bernoulli(size, context_shape=width, **key)
        if options.data == "halves"
        else conditionals.DiagonalNormal(size, context_shape=width, min_scale=0.1, **key)
        for (view, size), key in zip(shapes.items(), keys[1:], strict=True)
    }
    model = getattr(package.models, name)(
        shapes, latents, hidden=(width,), likelihoods=likelihoods, **keys[0]
    )
    loss = {
        "MVAE": losses.sub_sampled(tuple(shapes)),
        "JMVAE": losses.jmvae(tuple(shapes), 0.1),
    }.get(name, losses.ELBO(enumerate="component"))
    return model, loss


def measured(options: argparse.Namespace, name: str, seed: int, stop: Any) -> dict[str, Any]:
    """One run."""
    train, y, test, y_test = views(options.data)
    package = importlib.import_module(f"{options.backend}_dgm")
    model, loss = model_of(package, options, name, seed)
    start, began = time.process_time(), time.perf_counter()
    run = package.fit(
        model.model,
        model.guide,
        train,
        loss=loss,
        optim=package.Adam(1e-3),
        num_epochs=options.epochs,
        batch_size=500 if options.data == "halves" else 100,
        progress=False,
        callbacks=[stop],
        seed=seed,
    )
    row: dict[str, Any] = {"data": options.data, "model": name, "backend": options.backend}
    row |= {"seed": seed, "epochs": run.epoch, "particles": options.particles}
    row |= {"train s": round(time.process_time() - start, 1)}
    row["seconds"] = round(time.perf_counter() - began, 1)
    one, other = ONE.get(options.data, "zer"), OTHER.get(options.data, "kar")
    alone, given = {one: test[one]}, tuple(view for view in test if view != one)
    for label, data, known in (
        ("log p(all)", test, ()),
        ("log p(one)", alone, ()),
        ("log p(one | others)", test, given),
    ):
        report = package.evaluation.log_likelihood(
            run, data, num_particles=options.particles, given=known, progress=False
        )
        values = report["IWAE"]
        row[label] = f"{values.mean():.2f} +- {values.std() / np.sqrt(len(values)):.2f}"
    probe = Probe(train[other], y)
    drawn = package.predict(run, alone, num_draws=1, seed=seed)[other][0]
    row["coherence"] = round(probe.score(drawn, y_test), 3)
    row["real"] = round(probe.score(test[other], y_test), 3)
    return {**row, "probe": "ridge", "hardware": hardware(options.backend)}


def step_times(rounds: int = 20) -> dict[str, Any]:
    """Processor time of a step, forward and backward, MoPoE against a stacked version by hand of
    the same networks and the same bound."""
    import pyro
    import torch

    from pyro_dgm.losses import ELBO
    from pyro_dgm.models import MoPoE

    pyro.enable_validation(False)
    num, size, batch = 5, 100, 64
    names = [f"m{index}" for index in range(num)]
    pyro.clear_param_store()
    model = MoPoE(dict.fromkeys(names, size), 16, hidden=(200, 200))
    data = {name: torch.randint(0, 2, (batch, size)).float() for name in names}
    loss = ELBO(enumerate="component")
    members = torch.as_tensor(model.posterior._members).float()
    parameters = list(model.parameters())

    def library() -> Any:
        return loss.evaluate(model.model, model.guide, (), data).per_datum

    def by_hand() -> Any:
        raw = [
            e.head(n(data[k]))
            for k, n, e in zip(names, model.encoders.values(), model.posterior.experts, strict=True)
        ]
        loc, scale = torch.stack(raw).chunk(2, -1)
        scale = model.posterior.experts[0].positive(scale)
        precision = scale**-2
        total = 1 + torch.tensordot(members, precision, 1)
        mean = torch.tensordot(members, precision * loc, 1) / total
        q = torch.distributions.Normal(mean, total.rsqrt())  # (31, batch, 8)
        z = q.rsample()
        log_q = q.log_prob(z[:, None]).sum(-1).logsumexp(1) - np.log(len(members))
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        for name in names:
            logits = model.likelihoods[name].head(model.decoders[name](z))
            x = data[name].expand_as(logits)
            log_p = log_p - torch.nn.functional.binary_cross_entropy_with_logits(
                logits, x, reduction="none"
            ).sum(-1)
        return -(log_p - log_q).mean()

    times: dict[str, list[float]] = {"library": [], "by hand": []}
    for _ in range(rounds):
        for label, step in (("library", library), ("by hand", by_hand)):
            start = time.process_time()
            torch.autograd.grad(step(), parameters, allow_unused=True)
            times[label].append(time.process_time() - start)
    medians = {label: 1e3 * float(np.median(values[5:])) for label, values in times.items()}
    values = {
        label: float(step().detach())
        for label, step in (("library", library), ("by hand", by_hand))
    }
    return {
        **{f"{label} ms": round(value, 1) for label, value in medians.items()},
        "ratio": round(medians["library"] / medians["by hand"], 3),
        **{f"{label} loss": round(value, 2) for label, value in values.items()},
    }


def peer_times(rounds: int = 200) -> dict[str, Any]:
    """Processor time of a step, forward and backward, of MoPoE here and in MultiVae: one draw of
    each datum, from one of the subsets."""
    import pyro
    import torch
    from multivae.data.datasets.base import MultimodalBaseDataset
    from multivae.models.mopoe.mopoe_config import MoPoEConfig
    from multivae.models.mopoe.mopoe_model import MoPoE as Theirs
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder
    from torch import nn

    from pyro_dgm.losses import ELBO
    from pyro_dgm.models import MoPoE

    def hidden(size: int) -> Any:
        return nn.Sequential(nn.Linear(size, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU())

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.latent_dim, self.network = 16, hidden(100)
            self.mean, self.log_variance = nn.Linear(200, 16), nn.Linear(200, 16)

        def forward(self, x: Any) -> Any:
            h = self.network(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.head = hidden(16), nn.Linear(200, 100)

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.head(self.network(z)).sigmoid())

    pyro.enable_validation(False)
    pyro.clear_param_store()
    names = [f"m{index}" for index in range(5)]
    config = MoPoEConfig(
        n_modalities=5,
        latent_dim=16,
        input_dims=dict.fromkeys(names, (100,)),
        decoders_dist=dict.fromkeys(names, "bernoulli"),
    )
    parts = {name: Encoder() for name in names}, {name: Decoder() for name in names}
    theirs, ours = Theirs(config, *parts), MoPoE(dict.fromkeys(names, 100), 16, hidden=(200, 200))
    data = {name: torch.randint(0, 2, (64, 100)).float() for name in names}
    loss, dataset = ELBO(), MultimodalBaseDataset(data)
    steps = {
        "library": (lambda: loss.evaluate(ours.model, ours.guide, (), data).per_datum, ours),
        "MultiVae": (lambda: theirs(dataset).loss, theirs),
    }
    times: dict[str, list[float]] = {label: [] for label in steps}
    for _ in range(rounds):
        for label, (step, module) in steps.items():
            start = time.process_time()
            torch.autograd.grad(step(), list(module.parameters()), allow_unused=True)
            times[label].append(1e3 * (time.process_time() - start))
    found = {label: np.array(values[5:]) for label, values in times.items()}
    ratios = found["library"] / found["MultiVae"]
    return {
        **{f"{label} ms, least": round(x.min(), 1) for label, x in found.items()},
        **{f"{label} ms, median": round(float(np.median(x)), 1) for label, x in found.items()},
        "ratio of least": round(found["library"].min() / found["MultiVae"].min(), 3),
        "median of ratios": round(float(np.median(ratios)), 3),
        "steps": len(ratios),
    }


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=[*MODELS, "step"])
    parser.add_argument("--data", default="three", choices=list(VIEWS))
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--seconds", type=float, help="of all training")
    options = parser.parse_args()
    deadline = Deadline(options.seconds)
    cells = [cell for cell in product(options.seeds, options.only) if cell[1] in MODELS]
    for name, measure in (("step", step_times), ("peer", peer_times)):
        if name in options.only and not (HERE / f"{name}-0.json").exists():
            write_json(HERE / f"{name}-0.json", measure())
    for index, (seed, name) in enumerate(cells):
        place = HERE / file_name(options, name, seed)
        if not place.exists():
            stop = deadline.share(len(cells) - index)
            write_json(place, measured(options, name, seed, stop))
            print(place.read_text(), flush=True)
    write()


def file_name(options: argparse.Namespace, name: str, seed: int) -> str:
    """Of a run; a budget that is not the usual one is part of it."""
    parts = [options.data, name, options.backend, str(seed)]
    parts += [f"e{options.epochs}"] if options.epochs != EPOCHS else []
    parts += [f"p{options.particles}"] if options.particles != PARTICLES else []
    return f"{'-'.join(parts)}.json"


def write() -> None:
    """The tables."""
    notes = HERE.with_name("multimodal_notes.md")
    protocol = __doc__[__doc__.index("Protocol") :]
    text = f"# Several modalities\n\n{protocol}\n"
    text += notes.read_text() + "\n" if notes.exists() else ""
    for data in VIEWS:
        found = [json.loads(path.read_text()) for path in sorted(HERE.glob(f"{data}-*.json"))]
        found.sort(key=lambda row: (row["backend"], MODELS.index(row["model"]), row["seed"]))
        if found:
            machines = sorted({row.pop("hardware") for row in found})
            text += f"\n{data}; {' and '.join(machines)}:\n\n```\n{format_table(found)}\n```\n"
    for name, what in (("step", "all subsets drawn"), ("peer", "one drawn, beside MultiVae")):
        if (HERE / f"{name}-0.json").exists():
            step = format_table([json.loads((HERE / f"{name}-0.json").read_text())])
            text += f"\nA step of MoPoE, five modalities, {what}:\n\n```\n{step}\n```\n"
    (HERE.parent / "multimodal.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
