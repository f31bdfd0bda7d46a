"""Geodesics between handwritten digits, beside straight lines of codes.

    python benchmarks/geometry.py [--epochs 300] [--pairs 100] [--seeds 0 1 2] [--backend pyro]
        [--digits 012]

Protocol: the 8x8 images of scikit-learn, all or those of some digits, binarized once, a VAE with
codes of 2 numbers, one hidden layer of 100 and a Bernoulli decoder, ELBO, Adam 1e-3, batches of
100. Pairs of test images are drawn at random, their codes are the guide's means. All ways have 33
codes; the 31 inner ones are compared. "to the data" is the distance of what is decoded from the
nearest training image, as the decoder reconstructs it; "to codes" that of the code from the nearest
training code; "bits" the mean entropy of the decoder's pixels: less is more like a digit. The
metric of "geodesic" is that of the mean and the standard deviation; that of "near" has, beside the
mean, a deviation that grows away from the training codes: `Surface.near` with its defaults, which
were chosen on seed 10. The results go to benchmarks/results/geometry.md and geometry_<digits>.png.
"""

import argparse
import importlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.neighbors import NearestNeighbors

from dgm_core.data import load
from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "geometry"

LOOKS: dict[str, dict[str, Any]] = {
    "straight": {"color": "black", "lw": 0.8, "ls": "--"},
    "geodesic": {"color": "tab:blue", "lw": 1.0},
    "near": {"color": "tab:red", "lw": 1.5},
}


def nearest(x: np.ndarray, among: np.ndarray) -> float:
    """The mean distance from rows of x to the nearest of others."""
    found = NearestNeighbors(n_neighbors=1).fit(among)
    return float(found.kneighbors(x.reshape(-1, x.shape[-1]))[0].mean())


def entropy(p: np.ndarray) -> float:
    """Bits of a pixel."""
    p = p.clip(1e-7, 1 - 1e-7)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())


def run_one(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, and compare the two kinds of ways."""
    package, data = importlib.import_module(f"{arguments.backend}_dgm"), load("digits")
    evaluation = package.evaluation
    options: dict[str, Any] = {"hidden": (100,)}
    if arguments.backend == "pyro":
        importlib.import_module("torch").manual_seed(seed)
    else:
        options["key"] = importlib.import_module("jax").random.key(seed)
    x, test = (
        (np.asarray(getattr(data, part))[chosen(data, part, arguments.digits)] > 0.5).astype(
            "float32"
        )
        for part in ("train", "test")
    )
    vae = package.VAE(64, 2, **options)
    run = package.fit(
        vae.model,
        vae.guide,
        x,
        num_epochs=arguments.epochs,
        batch_size=100,
        seed=seed,
        progress=False,
    )
    codes, ends = (evaluation.latents(run, part, means=True)["z"] for part in (x, test))
    over = evaluation.pullback(run, x[:1], spread=True)
    pairs = ends[np.random.default_rng(seed).choice(len(ends), (2, arguments.pairs))]
    start = time.process_time()
    found = over.geodesics(*pairs)
    middle = time.process_time()
    near = evaluation.pullback(run, x[:1]).near(codes).geodesics(*pairs)
    seconds = middle - start, time.process_time() - middle
    lines = found.curves[:, :1] + np.linspace(0, 1, 33)[:, None] * (
        found.curves[:, -1:] - found.curves[:, :1]
    )
    row: dict[str, Any] = {
        "seed": seed,
        "backend": arguments.backend,
        "epochs": arguments.epochs,
        "ELBO": float(run.history.last["ELBO"]),
        "pairs": arguments.pairs,
        "digits": arguments.digits,
        "geodesic, converged": float(found.converged.mean()),
        "near, converged": float(near.converged.mean()),
        "geodesic, CPU s": seconds[0],
        "near, CPU s": seconds[1],
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }
    known = over(codes)[:, :64]
    every = {"straight": lines, "geodesic": found.curves, "near": near.curves}
    for name, ways in every.items():
        pixels = over(ways[:, 1:-1])[..., :64]
        row[f"{name}, to the data"] = nearest(pixels, known)
        row[f"{name}, to codes"] = nearest(ways[:, 1:-1], codes)
        row[f"{name}, bits"] = entropy(pixels)
        row[f"{name}, length"] = float(over.length(ways).mean())
    if seed == arguments.seeds[0]:
        labels = np.asarray(data.labels["train"])[chosen(data, "train", arguments.digits)]
        picture(over.near(codes), codes, labels, every, arguments.digits)
    return row


def chosen(data: Any, part: str, digits: str) -> np.ndarray:
    """Which images are of these digits."""
    return np.isin(np.asarray(data.labels[part]), [int(digit) for digit in digits])


def picture(over: Any, codes: np.ndarray, labels: Any, every: Any, digits: str) -> None:
    """The plane of codes with some of both ways, over the volume; and what is decoded on one."""
    low, high = np.quantile(codes, 0.005, 0) - 0.5, np.quantile(codes, 0.995, 0) + 0.5
    axes = [np.linspace(a, b, 60) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), -1)
    figure = plt.figure(figsize=(9, 8), layout="constrained")
    rows = figure.add_gridspec(4, 12, height_ratios=[6, 1, 1, 1])
    top = figure.add_subplot(rows[0, :])
    shade = top.pcolormesh(*axes, over.log_volume(grid), cmap="Greys", shading="auto")
    figure.colorbar(shade, ax=top, label="log volume")
    top.scatter(*codes.T, c=labels, cmap="tab10", s=4)
    for name, look in LOOKS.items():
        for curve in every[name][:12]:
            top.plot(*curve.T, **look)
    top.set(xlim=axes[0][[0, -1]], ylim=axes[1][[0, -1]], xlabel="$z_1$", ylabel="$z_2$")
    top.set_title("Straight lines, geodesics (blue), those that stay near the codes (red)")
    for row, (name, ways) in enumerate(every.items(), 1):
        images = over(ways[0])[np.linspace(0, 32, 12).astype(int), :64].reshape(-1, 8, 8)
        for column, image in enumerate(images):
            axis = figure.add_subplot(rows[row, column])
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(name)
    figure.savefig(HERE.with_name(f"geometry_{digits}.png"), dpi=110)


def main() -> None:
    """Run what has not been run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--digits", default="0123456789")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backend", choices=("pyro", "numpyro"), default="pyro")
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        stem = f"{arguments.backend}-{arguments.epochs}-{arguments.pairs}"
        path = HERE / f"{stem}-{arguments.digits}-{seed}.json"
        if not path.exists():
            write_json(path, run_one(arguments, seed))
    rows = []
    for path in sorted(HERE.glob("*.json")):
        run = json.loads(path.read_text())
        for way in LOOKS:
            rows.append(
                {
                    "way": way,
                    **{k: run[k] for k in ("backend", "digits", "seed", "epochs", "pairs")},
                    **{
                        k: f"{run[f'{way}, {k}']:.3f}"
                        for k in ("length", "to the data", "to codes", "bits")
                    },
                    "converged": f"{run.get(f'{way}, converged', 1.0):.2f}",
                    "CPU s": f"{run.get(f'{way}, CPU s', 0.0):.1f}",
                }
            )
    text = f"# Geodesics between digits\n\n```\n{format_table(rows)}\n```\n\n"
    HERE.with_suffix(".md").write_text(text + __doc__.split("\n\n", 2)[2])
    print(text)


if __name__ == "__main__":
    main()
