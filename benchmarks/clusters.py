"""Clusters of handwritten digits without labels, beside k-means and a Gaussian mixture on codes.

    python benchmarks/clusters.py [--epochs 150] [--seeds 0 1 2] [--backend pyro]

Protocol: the 8x8 images of scikit-learn, binarized anew at every pass; ten clusters, codes of 10
numbers, one hidden layer of 200 (ReLU), Adam 1e-3 with a linear decay to 1e-4, batches of 100, the
last weights.  Accuracy (best map from clusters to classes) and normalized mutual information of all
images, binarized once.  "k-means" and "Gaussian mixture" are scikit-learn's on the means of the
codes of a VAE with the same networks, the best of ten starts each; "GMVAE" draws y, "GMVAE, summed"
leaves it to Bayes' rule, and "GMVAE, from a VAE" is one that starts from such a VAE after all its
epochs and a mixture of its codes (`GMVAE.from_run`), and has as many epochs again.
Each run leaves one JSON file in benchmarks/results/clusters, the table goes to
benchmarks/results/clusters.md, and a finished run is not repeated.
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
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from dgm_core.data import binarize, load
from dgm_core.representation import clustering_accuracy
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule

HERE = Path(__file__).parent / "results" / "clusters"
MODELS = ("VAE", "GMVAE", "GMVAE, summed", "GMVAE, from a VAE", "DLGMM")
ROWS = ("k-means", "Gaussian mixture", *MODELS[1:])


def trained(arguments: argparse.Namespace, model: Any, x: Any, seed: int, **bound: Any) -> Any:
    """A run by the protocol, with these arguments of the bound."""
    package = importlib.import_module(f"{arguments.backend}_dgm")
    return package.fit(
        model.model,
        model.guide,
        x,
        loss=package.ELBO(**bound),
        num_epochs=arguments.epochs,
        batch_size=100,
        transform=package.binarize,
        lr_schedule=Schedule((0, arguments.epochs * -(-len(x) // 100)), (1.0, 0.1)),
        seed=seed,
        progress=False,
    )


def run_one(arguments: argparse.Namespace, name: str, seed: int) -> list[dict[str, Any]]:
    """Train one model, and the clusters that it gives."""
    package, data = importlib.import_module(f"{arguments.backend}_dgm"), load("digits")
    options: dict[str, Any] = {"hidden": (200,)}
    if arguments.backend == "pyro":
        importlib.import_module("torch").manual_seed(seed)
    else:
        options["key"] = importlib.import_module("jax").random.key(seed)
    x, labels = np.asarray(data.train, "float32"), np.asarray(data.labels["train"]).astype(int)
    seen, start = binarize(x, "static", seed=0), time.process_time()
    if name == "DLGMM":
        model = package.DLGMM(64, 10, 10, **options)
        run = trained(arguments, model, x, seed, enumerate="y", analytic_kl=True)
    elif name in ("GMVAE", "GMVAE, summed"):
        model = package.GMVAE(64, 10, 10, summed="summed" in name, **options)
        run = trained(arguments, model, x, seed, enumerate="y")
    else:
        run = trained(arguments, package.VAE(64, 10, **options), x, seed, analytic_kl=True)
        if name != "VAE":
            model = package.GMVAE.from_run(run, seen, 10, seed=seed)
            run = trained(arguments, model, x, seed, enumerate="y")
    if name == "VAE":
        codes = package.latents(run, seen, means=True)["z"]
        mixture = GaussianMixture(10, n_init=10, random_state=seed, reg_covar=1e-4)
        clusters = {
            "k-means": KMeans(10, n_init=10, random_state=seed).fit_predict(codes),
            "Gaussian mixture": mixture.fit_predict(codes),
        }
    else:
        p = package.evaluation.class_probabilities(run, seen, num_draws=20)
        clusters = {name: p.argmax(1)}
    return [
        {
            "clusters": row,
            "seed": seed,
            "backend": arguments.backend,
            "epochs": arguments.epochs,
            "accuracy": clustering_accuracy(labels, found),
            "NMI": float(normalized_mutual_info_score(labels, found)),
            "used": len(np.unique(found)),
            "ELBO": float(run.history.last["ELBO"]),
            "CPU minutes": (time.process_time() - start) / 60,
            "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        }
        for row, found in clusters.items()
    ]


def table(epochs: int) -> str:
    """All runs of so many epochs, by model."""
    paths = sorted(HERE.glob(f"*_{epochs}.json"))
    runs = [run for path in paths for run in json.loads(path.read_text())]
    rows = []
    for row in ROWS:
        if found := [run for run in runs if run["clusters"] == row]:
            values = [100 * run["accuracy"] for run in found]
            rows.append(
                {
                    "clusters": row,
                    "accuracy": f"{np.mean(values):.1f}",
                    "each": " ".join(f"{value:.1f}" for value in values),
                    "NMI": f"{np.mean([run['NMI'] for run in found]):.3f}",
                    "used": " ".join(str(run["used"]) for run in found),
                    "ELBO": f"{np.mean([run['ELBO'] for run in found]):.2f}",
                    "CPU min": f"{np.mean([run['CPU minutes'] for run in found]):.1f}",
                }
            )
    return format_table(rows)


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name in arguments.models:
            stem = name.replace(",", "").replace(" ", "_")
            path = HERE / f"{arguments.backend}_{stem}_{seed}_{arguments.epochs}.json"
            if not path.exists():
                write_json(path, run_one(arguments, name, seed))
                print(path.stem, [run["accuracy"] for run in json.loads(path.read_text())])
                sys.stdout.flush()
    found = table(arguments.epochs)
    notes = HERE.with_name("clusters_notes.md").read_text()
    protocol = __doc__[__doc__.index("Protocol") :]
    text = f"# Clusters of digits\n\n```\n{found}\n```\n\n{protocol}\n{notes}"
    HERE.with_suffix(".md").write_text(text)
    print(found, file=sys.stderr)


if __name__ == "__main__":
    main()
