"""The experiments of `adversarial.py` with a generator of data: InfoGAN and Flow-GAN."""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from dgm_core.data import load
from dgm_core.samples.quality import (
    FeatureClassifier,
    frechet_distance,
    mode_counts,
    neighbor_scores,
)


def infogan(backend: Any, cell: str, num_epochs: int = 300) -> dict[str, Any]:
    """Protocol: InfoGAN of all 1,797 digits, scaled to [-1, 1], without labels: eight noise
    dimensions, a code of ten classes, a generator with one layer of 512 tanh units, an encoder with
    one layer of 256 and drop-out 0.5, a critic 256-256 with R1(), mutual information with weight 1,
    Adam 1e-3 (betas 0.5, 0.99) for all, batches of 128, 300 epochs, average of the weights 0.995.
    Reported: the share of digits whose class is that of their code (the most frequent of nine draws
    of the guide) after the best one-to-one matching, and the bound on the mutual information in
    nats (at most ln 10 = 2.303).
    """
    package = backend.package
    data = load("digits")
    x = (2 * np.concatenate([data.train, data.validation, data.test]) - 1).astype(np.float32)
    labels = np.concatenate([data.labels["train"], data.labels["validation"], data.labels["test"]])
    generator = backend.build("nn", "MLP", 18, (512,), 64, activation="tanh")
    encoder = backend.build("nn", "MLP", 64, (256,), dropout=0.5)
    gan = backend.build("models", "InfoGAN", 64, 8, 10, generator=generator, encoder=encoder)
    adam = package.Adam(1e-3, betas=(0.5, 0.99))
    critic = backend.build("losses", "Critic", 64, hidden=(256, 256))
    loss = package.losses.JensenShannon(
        "x", critic, optim=adam, regularizer=package.losses.R1()
    ) + package.losses.MutualInformation("c")
    run = backend.fit(
        gan.model,
        gan.guide,
        x,
        loss=loss,
        optim=adam,
        batch_size=128,
        num_epochs=num_epochs,
        average=0.995,
    )
    codes = np.stack([package.latents(run, x, seed=seed)["c"].reshape(-1) for seed in range(9)])
    codes = np.array(
        [np.bincount(column, minlength=10).argmax() for column in codes.T]
    )  # the most frequent of nine draws
    return {
        "accuracy": matched_accuracy(codes, labels),
        "bound": float(run.history.column("MutualInformation(c)")[-1]),
    }


def matched_accuracy(codes: np.ndarray, labels: np.ndarray) -> float:
    """The share of data whose class is that of their code, after the best one-to-one matching of
    codes and classes.
    """
    table = np.zeros((10, 10))
    np.add.at(table, (codes, labels), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(labels))


# Flow-GAN


FLOW_GANS = {
    f"{data}, {objective}": (data, objective)
    for data in ("eight_gaussians", "digits")
    for objective in ("MLE", "adversarial", "hybrid")
}


def flow_gan(backend: Any, cell: str, num_epochs: int | None = None) -> dict[str, Any]:
    """Protocol: RealNVP of 8 couplings (two layers of 64 units; digits: of 128) by likelihood,
    adversarially (JensenShannon with R1(0.1)) and by NLL + w JS (w = 1; digits, dequantized to 64
    numbers in [-2, 2]: 10); Adam 5e-4 (betas 0.5, 0.99), gradients clipped to norm 10, average of
    the weights 0.995, batches of 256 (digits: 64). Reported: -log p of test data in nats;
    precision, recall, density, coverage (k = 5), modes or Frechet distance of as many draws.
    """
    package = backend.package
    kind, objective = FLOW_GANS[cell]
    if kind == "digits":
        data = load("digits")
        rng = np.random.default_rng(0)
        x, test = (
            np.asarray(part, float)
            for part in (np.concatenate([data.train, data.validation]), data.test)
        )
        x, test = (
            (16 * part + rng.random(part.shape)) / 17 for part in (x, test)
        )  # 17 levels, dequantized
        x, test = 4 * x - 2, 4 * test - 2
        flow = {"num_layers": 8, "hidden": (128, 128)}
        hidden, epochs, batch = (256, 256), 60, 64
    else:
        x, test = load("eight_gaussians").train[:8192], load("eight_gaussians").test[:4096]
        flow = {"num_layers": 8, "hidden": (64, 64)}
        hidden, epochs, batch = (128, 128), 40, 256
    x, test = x.astype(np.float32), test.astype(np.float32)
    dim = x.shape[1]
    gan = backend.build(
        "models", "FlowGAN", dim, flow=backend.build("flows", "RealNVP", dim, **flow)
    )
    adam = package.Adam(5e-4, betas=(0.5, 0.99))
    term = package.losses.JensenShannon(
        "x",
        backend.build("losses", "Critic", dim, hidden=hidden),
        optim=adam,
        regularizer=package.losses.R1(0.1),
    )
    nll = package.losses.NLL()
    loss = {
        "MLE": nll,
        "adversarial": term,
        "hybrid": nll + (10.0 if kind == "digits" else 1.0) * term,
    }[objective]
    epochs = epochs if num_epochs is None else num_epochs
    run = backend.fit(
        gan.model,
        gan.guide,
        x,
        loss=loss,
        optim=adam,
        batch_size=batch,
        num_epochs=epochs,
        average=0.995,
        clip_norm=10.0,
    )
    drawn = package.generate(run, size=len(test), seed=1)["x"]
    log_p = package.log_weights(run, test, num_particles=1)[0]
    found = {
        "NLL (test)": float(-log_p.mean()),
        "NLL (train)": float(-package.log_weights(run, x, num_particles=1)[0].mean()),
    }
    scores = neighbor_scores(test, drawn)
    found |= {
        "precision": scores.precision,
        "recall": scores.recall,
        "density": scores.density,
        "coverage": scores.coverage,
    }
    if kind == "digits":
        network = FeatureClassifier(
            x, np.concatenate([data.labels["train"], data.labels["validation"]])
        )
        found["Frechet distance"] = frechet_distance(
            network.features(test), network.features(drawn)
        )
    else:
        angles = 2 * np.pi * np.arange(8) / 8
        modes = 4 / np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], 1)
        counts = mode_counts(drawn, modes, 0.5 / np.sqrt(2))
        found |= {"modes": counts.found, "share near modes": counts.share}
    return found
