"""How much a PixelVAE uses its code as its decoder sees more pixels, and what is done about it.

    python benchmarks/pixelvae.py [--backend pyro] [--epochs 30] [--seeds 0] [--only NAME ...]

Protocol: scikit-learn's digits, 8x8, binary (above 1/2), the first 1,497 to train and the last 300
to test; ConvVAE with 8 latents, channels 16 and 32, 64 features, 16 features of a pixel; its
likelihood is Bernoulli, or GatedPixelCNN of 16 channels with 2 to 8 layers of 3x3; Adam 1e-3,
batches of 128. What is recorded of the test data: the bound on log p of 64 draws (IWAE), the ELBO;
of the training data: the mean KL, the mutual information of code and image with the exact aggregate
posterior, and the active units. Remedies: "warm-up" raises the weight of the KL part from 0 in the
first two thirds of the steps; "beta 0.3" keeps it at 0.3; "free bits 3" does not push it below 3
nats; "InfoVAE" adds 300 MMD("z") to beta 0.1; "MI term" rewards each nat of mutual information with
what the KL part charges for it, info_vae(1, 300).

A setting collapses where the mutual information is near 0: then the pixels explain each other.
Each run leaves a file in benchmarks/results/pixelvae and is not repeated; the table goes to
benchmarks/results/pixelvae.md.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table, write_json
from dgm_core.schedules import linear

HERE = Path(__file__).parent / "results" / "pixelvae"
# name: layers of the decoder's PixelCNN (0 for Bernoulli), remedy
SETTINGS: dict[str, tuple[int, str]] = {
    "ConvVAE": (0, ""),
    "PixelVAE-2": (2, ""),
    "PixelVAE-4": (4, ""),
    "PixelVAE-8": (8, ""),
    "PixelVAE-2, beta 0.3": (2, "beta"),
    "PixelVAE-4, warm-up": (4, "warm-up"),
    "PixelVAE-4, beta 0.3": (4, "beta"),
    "PixelVAE-4, InfoVAE": (4, "InfoVAE"),
    "PixelVAE-4, free bits 3": (4, "free bits"),
    "PixelVAE-4, MI term": (4, "MI"),
}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Binary images (count, 1, 8, 8) to train and to test."""
    from sklearn.datasets import load_digits

    x = (load_digits().images[:, None] > 8).astype(np.float32)
    return x[:1497], x[1497:]


def vae_of(backend: str, num_layers: int, seed: int) -> tuple[Any, Any]:
    """The model, and its library."""
    sizes: dict[str, Any] = {"hidden_channels": (16, 32), "features": 64}
    pixels: dict[str, Any] = {"hidden_channels": 16, "num_layers": num_layers}
    image, context_shape = (1, 8, 8), (16, 8, 8)
    if backend == "pyro":
        import torch

        import pyro_dgm as library
        from pyro_dgm.conditionals import GatedPixelCNN

        torch.manual_seed(seed)
        if num_layers:
            sizes["likelihood"] = GatedPixelCNN(image, context_shape=context_shape, **pixels)
        return library.models.ConvVAE(image, 8, **sizes), library
    import jax

    import numpyro_dgm as library
    from numpyro_dgm.conditionals import GatedPixelCNN

    keys = jax.random.split(jax.random.key(seed))
    if num_layers:
        sizes["likelihood"] = GatedPixelCNN(
            image, context_shape=context_shape, **pixels, key=keys[0]
        )
    return library.models.ConvVAE(image, 8, **sizes, key=keys[1]), library


def loss_of(losses: Any, remedy: str, num_steps: int) -> Any:
    """The bound, with what makes it use the code."""
    if remedy == "warm-up":
        return losses.ELBO(beta=linear(2 * num_steps // 3))
    if remedy == "beta":
        return losses.ELBO(beta=0.3)
    if remedy == "free bits":
        return losses.ELBO(free_bits=3.0)
    if remedy == "InfoVAE":
        return losses.ELBO(beta=0.1) + 300.0 * losses.MMD("z")
    if remedy == "MI":
        return losses.info_vae(1.0, 300.0)
    return losses.ELBO()


def run_one(name: str, backend: str, seed: int, num_epochs: int) -> dict[str, Any]:
    """Train one setting and measure it."""
    train, test = digits()
    num_layers, remedy = SETTINGS[name]
    vae, library = vae_of(backend, num_layers, seed)
    loss = loss_of(library.losses, remedy, num_epochs * -(-len(train) // 128))
    settings = {"compile": False} if backend == "pyro" else {}
    start = time.process_time()
    run = library.fit(
        vae.model,
        vae.guide,
        train,
        loss=loss,
        num_epochs=num_epochs,
        batch_size=128,
        seed=seed,
        progress=False,
        **settings,
    )
    seconds = time.process_time() - start
    report = library.evaluation.log_likelihood(run, test, num_particles=64, progress=False)
    surgery = library.evaluation.elbo_surgery(run, train, seed=seed)
    layers = library.evaluation.collapse(run, train, num_draws=2, seed=seed)
    return {
        "setting": name,
        "backend": backend,
        "seed": seed,
        "epochs": num_epochs,
        "test IWAE-64": float(report["IWAE"].mean()),
        "test ELBO": float(report["ELBO"].mean()),
        "mean KL": surgery.mean_kl,
        "MI": surgery.mutual_information,
        "active": layers.rows[0]["active"],
        "CPU seconds": round(seconds, 1),
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    a = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        for name in a.only:
            stem = name.replace(", ", "-").replace(" ", "-")
            path = HERE / f"{stem}-{a.backend}-{a.epochs}-{seed}.json"
            if not path.exists():
                write_json(path, run_one(name, a.backend, seed, a.epochs))
                print(path.read_text(), flush=True)
    results = [json.loads(path.read_text()) for path in HERE.glob("*.json")]
    order = list(SETTINGS)
    results.sort(key=lambda one: (one["backend"], one["epochs"], order.index(one["setting"])))
    columns = [name for name in results[0] if name != "hardware"]
    text = format_table([{name: one[name] for name in columns} for one in results], digits=2)
    print(text)
    notes = HERE.parent / "pixelvae_notes.md"
    words = "\n" + notes.read_text() if notes.exists() else ""
    (HERE.parent / "pixelvae.md").write_text(
        f"# How much a PixelVAE uses its code\n\n{__doc__}\n```\n{text}\n```\n\n"
        f"Hardware: {results[0]['hardware']}.\n{words}"
    )


if __name__ == "__main__":
    main()
