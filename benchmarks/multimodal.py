"""Models of several modalities beside each other, on three real views of digits.

    DGM_DATA_DIR=... python benchmarks/multimodal.py [--epochs 60] [--seeds 0] [--only NAME ...]

Protocol: the UCI Multiple Features (`mfeat/mfeat.npz`), 2,000 digits, views kar (64), fou (76)
and zer (47), standardized by the training data; 1,500 to train, 500 to test. Eight latents, MLPs of
100 units, DiagonalNormal(min_scale=0.1) as likelihoods, Adam 1e-3, batches of 100. MVAE by
sub_sampled, MMVAE and MoPoE by ELBO(enumerate="component"), JMVAE by jmvae(alpha=0.1).

Recorded of the test data: log p of all views, of zer by itself, and of zer given the others
(log_likelihood with 200 particles, nats, standard error over the data); coherence: how often a
logistic regression of kar, which knows that many of the real ones, names the digit of kar as drawn
from zer. Then the time of a step of MoPoE with five modalities of 100 entries (31 subsets) against
a stacked version by hand, in processor time. Each run leaves a file in
benchmarks/results/multimodal and is not repeated; the table is benchmarks/results/multimodal.md.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from sklearn.linear_model import LogisticRegression

from dgm_core.results import format_table, write_json
from pyro_dgm import Adam, fit, predict
from pyro_dgm.conditionals import DiagonalNormal
from pyro_dgm.evaluation import log_likelihood
from pyro_dgm.losses import ELBO, jmvae, sub_sampled
from pyro_dgm.models import JMVAE, MMVAE, MVAE, MoPoE

NOTE = """\
Three views of digits, one seed, 60 epochs, two cores shared with other processes. The product
(MVAE) is ahead of the mixtures in log p(all) and log p(zer), the mixtures in coherence; JMVAE is
ahead in log p(all) and in the conditional. For the MVAE log p(zer | others) is estimated below
log p(zer): too few particles or a poor fit may be why, which was not looked into (the difference of
two lower bounds is no bound). The step is one without compilation."""
HERE = Path(__file__).parent / "results" / "multimodal"
VIEWS = ("kar", "fou", "zer")
MODELS = {
    "MVAE": (MVAE, sub_sampled(VIEWS)),
    "MMVAE": (MMVAE, ELBO(enumerate="component")),
    "MoPoE": (MoPoE, ELBO(enumerate="component")),
    "JMVAE": (JMVAE, jmvae(VIEWS, 0.1)),
}


def views() -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Standardized views and labels, to train and to test."""
    archive = np.load(Path(os.environ["DGM_DATA_DIR"]) / "mfeat" / "mfeat.npz")
    rows = np.random.default_rng(0).permutation(2000)
    train, test = rows[:1500], rows[1500:]
    found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
    for name in VIEWS:
        x = archive[name].astype(np.float32)
        mean, scale = x[train].mean(0), x[train].std(0) + 1e-6
        for part, chosen in zip(found, (train, test), strict=True):
            part[name] = (x[chosen] - mean) / scale
    return found[0], archive["y"][train], found[1], archive["y"][test]


def measured(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """One run."""
    train, y, test, y_test = views()
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    make, loss = MODELS[name]
    shapes = {view: x.shape[1] for view, x in train.items()}
    likelihoods = {
        view: DiagonalNormal(size, context_shape=100, min_scale=0.1)
        for view, size in shapes.items()
    }
    model = make(shapes, 8, hidden=(100,), likelihoods=likelihoods)
    start = time.process_time()
    run = fit(
        model.model,
        model.guide,
        train,
        loss=loss,
        optim=Adam(1e-3),
        num_epochs=epochs,
        batch_size=100,
        progress=False,
        seed=seed,
    )
    row: dict[str, Any] = {"model": name, "seed": seed, "epochs": epochs}
    row["train s"] = round(time.process_time() - start, 1)
    alone = {"zer": test["zer"]}
    for label, data, given in (
        ("log p(all)", test, ()),
        ("log p(zer)", alone, ()),
        ("log p(zer | others)", test, ("kar", "fou")),
    ):
        report = log_likelihood(run, data, num_particles=200, given=given, progress=False)
        values = report["IWAE"]
        row[label] = f"{values.mean():.2f} +- {values.std() / np.sqrt(len(values)):.2f}"
    probe = LogisticRegression(max_iter=500).fit(train["kar"], y)
    drawn = predict(run, alone, num_draws=1, seed=seed)["kar"][0]
    row["coherence"] = round(float(probe.score(drawn, y_test)), 3)
    row["real"] = round(float(probe.score(test["kar"], y_test)), 3)
    return row


def step_times(rounds: int = 20) -> dict[str, Any]:
    """Processor time of a step, forward and backward, MoPoE against a stacked version by hand of
    the same networks and the same bound."""
    pyro.enable_validation(False)
    num, size, batch = 5, 100, 64
    names = [f"m{index}" for index in range(num)]
    pyro.clear_param_store()
    model = MoPoE(dict.fromkeys(names, size), 16, hidden=(200, 200))
    data = {name: torch.randint(0, 2, (batch, size)).float() for name in names}
    loss = ELBO(enumerate="component")
    members = torch.as_tensor(model.posterior._members).float()
    parameters = list(model.parameters())

    def library() -> torch.Tensor:
        return loss.evaluate(model.model, model.guide, (), data).per_datum

    def by_hand() -> torch.Tensor:
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


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=[*MODELS, "step"])
    options = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        for seed in options.seeds if name != "step" else [0]:
            place = HERE / f"{name}-{seed}.json"
            if not place.exists():
                found = step_times() if name == "step" else measured(name, seed, options.epochs)
                write_json(place, found)
    rows = [json.loads(p.read_text()) for n in MODELS for p in sorted(HERE.glob(f"{n}-*.json"))]
    protocol = __doc__[__doc__.index("Protocol") :]
    text = f"# Several modalities\n\n{protocol}\n{NOTE}\n\n```\n{format_table(rows)}\n```\n"
    if (HERE / "step-0.json").exists():
        step = json.loads((HERE / "step-0.json").read_text())
        text += f"\nA step of MoPoE, five modalities:\n\n```\n{format_table([step])}\n```\n"
    (HERE.parent / "multimodal.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
