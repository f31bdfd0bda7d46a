"""Content and style of groups of digits: what each knows of the class, and a picture of a swap.

    python benchmarks/groups.py [--data mnist] [--epochs 20] [--train 10000] [--seeds 0 1 2]
    [--backend numpyro]

Protocol: the first images of MNIST, above 1/2 or not, in groups of 10 of one class (`grouped`, new
ones for each seed); MLVAE with 16 latents of content, 8 of style and hidden layers of 300, ReLU;
ELBO, Adam 2e-3, batches of 20 groups. --data digits are the 8x8 images of scikit-learn, groups of
5, content 8, style 4, hidden layers of 100. Probes: for each of the first 2,000 test images (300 of
digits) a group of this and k - 1 others of its class, drawn from the test images; a logistic
regression (`linear_probe`, five folds) tells the class from the means of the content of the group,
and from those of the style of that image, on the same images for every k. "bound" is the mean ELBO
of the test images in groups as for training, in nats per image.
Each run leaves one JSON file in benchmarks/results/groups, the table goes to
benchmarks/results/groups.md, the swaps of the first seed to benchmarks/results/groups_<data>.png
(in row i and column j the content of group i and the style of image j); a finished run is not
repeated. DGM_DATA_DIR may point to a folder that holds mnist/.
"""

import argparse
import importlib
import json
import sys
import time
from typing import Any

import numpy as np
from budget import hardware, results

from dgm_core.data import load
from dgm_core.members import grouped, per_member
from dgm_core.plots import swaps
from dgm_core.representation import linear_probe
from dgm_core.results import format_table, write_json

HERE = results("groups")
SIZES = (1, 2, 5, 10)
PROBLEMS: dict[str, dict[str, Any]] = {
    "mnist": {"members": 10, "sizes": (16, 8), "hidden": (300,), "scored": 2000},
    "digits": {"members": 5, "sizes": (8, 4), "hidden": (100,), "scored": 300},
}


def companions(y: np.ndarray, num: int, size: int, seed: int) -> np.ndarray:
    """The rows of groups: each of the first `num` data with `size` - 1 others of its class."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(y == k) for k in range(10)]
    others = [rng.choice(np.setdiff1d(rows[y[i]], [i]), size - 1, False) for i in range(num)]
    return np.array([[i, *found] for i, found in enumerate(others)])


def run_one(a: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one model and probe it."""
    problem = PROBLEMS[a.data]
    data = load(a.data)
    x, test = (
        (np.asarray(part).reshape(len(part), -1) > 0.5).astype(np.float32)
        for part in (data.train[: a.train], data.test)
    )
    y, y_test = (np.asarray(data.labels[part]).astype(int) for part in ("train", "test"))
    package, keys = importlib.import_module(f"{a.backend}_dgm"), {}
    if a.backend == "pyro":
        importlib.import_module("torch").manual_seed(seed)
    else:
        keys = {"key": importlib.import_module("jax").random.key(seed)}
    start = time.process_time()
    mlvae = package.models.MLVAE(x.shape[1], *problem["sizes"], hidden=problem["hidden"], **keys)
    run = package.fit(
        mlvae.model,
        mlvae.guide,
        grouped(x, y[: len(x)], problem["members"], seed=seed)[:2],
        loss=package.losses.ELBO(),
        optim=package.Adam(2e-3),
        num_epochs=a.epochs,
        batch_size=20,
        seed=seed,
        progress=False,
    )
    row = {"data": a.data, "backend": a.backend, "seed": seed, "train": len(x), "epochs": a.epochs}
    row["CPU seconds"] = round(time.process_time() - start, 1)
    groups, has, _ = grouped(test, y_test, problem["members"], seed=seed)
    log_w = package.log_weights(run, groups, has, num_particles=8)
    row["bound"] = round(per_member(np.asarray(log_w).mean(0), has), 2)
    num = min(problem["scored"], len(test))
    for size in SIZES:
        rows = companions(y_test, num, size, seed)
        codes = package.evaluation.latents(run, test[rows], means=True)
        for name, values in (("content", codes["content"][:, 0]), ("style", codes["style"][:, 0])):
            found = linear_probe(values.reshape(num, -1), y_test[:num]).accuracy
            row[f"{name}, k={size}"] = round(found, 3)
    if seed == a.seeds[0]:
        firsts = np.array([np.flatnonzero(y_test == k)[0] for k in range(10)])
        chosen = test[companions(y_test, int(firsts.max()) + 1, 5, seed)[firsts]]
        grid = package.evaluation.swap(run, chosen, sites="content")["x"]
        side = int(x.shape[1] ** 0.5)
        images = grid.reshape(10, 10, 5, -1)[:, :, 0]
        figure = swaps(chosen[:, 0], images, (1, side, side))
        figure.savefig(HERE.with_name(f"groups_{a.data}.png"), dpi=80)
    return {**row, "hardware": hardware(a.backend)}


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist", choices=list(PROBLEMS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train", type=int, default=10000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backend", default="numpyro", choices=["pyro", "numpyro"])
    a = parser.parse_args()
    for seed in a.seeds:
        path = HERE / f"{a.data}-{a.backend}-{a.epochs}-{seed}.json"
        if not path.exists():
            write_json(path, run_one(a, seed))
            print(path.read_text(), flush=True)
    table = format_table([json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))])
    notes = HERE.with_name("groups_notes.md")
    text = f"# Groups of digits\n\n```\n{table}\n```\n\n{__doc__[__doc__.index('Protocol') :]}\n"
    HERE.with_suffix(".md").write_text(text + (notes.read_text() if notes.exists() else ""))
    print(table, file=sys.stderr)


if __name__ == "__main__":
    main()
