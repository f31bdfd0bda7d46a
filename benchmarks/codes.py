"""Codes of digits: VQ-VAEs beside a Gaussian VAE, with and without restarts, and a learned prior.

    python benchmarks/codes.py [--backend pyro] [--epochs 50] [--seeds 0 1] [--only NAME ...]

Protocol: scikit-learn's digits, 8x8, 17 levels in [0, 1], the first 1,497 to train and the last 300
to test. All have the encoder and decoder of VQVAE with channels 16 and 32, 16 features of a pixel,
and a mixture of 2 discretized logistic distributions for each pixel; a code map is 2x2, of vectors
of 16 entries (64 numbers), with K = 128 codes. The Gaussian VAE has 64 latents, as many numbers as
the map. ELBO() + 64 Commitment("z", 0.25), Adam 2e-3, batches of 128. The prior is a GatedPixelCNN
of 32 channels and 4 layers over the code map, fitted afterwards by fit_prior to the training data
(40 epochs, the best on 300 data held out of it).

Recorded of the test data: reconstruction (-log p(x | z) at one draw, nats) and the mean squared
error of the decoder's mean, the rate (KL, nats), bits per dimension as a bound (-ELBO / 64 ln 2)
with the first prior and with the learned one; of the training data: perplexity of the codes, dead
codes. Each run leaves a file in benchmarks/results/codes and is not repeated; the table goes to
benchmarks/results/codes.md, samples of the first seed to benchmarks/results/codes.png.
"""

import argparse
import json
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "codes"
K, IMAGE, MAP = 128, (1, 8, 8), (16, 2, 2)
SETTINGS = ("Gaussian VAE", "VQ restarts", "VQ no restarts", "VQ gradient", "FSQ")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 1, 8, 8) of levels k / 16 to train and to test."""
    from sklearn.datasets import load_digits

    x = (load_digits().images[:, None] / 16).astype(np.float32)
    return x[:1497], x[1497:]


def library_of(backend: str, seed: int) -> tuple[Any, Any]:
    """The library, and what builds a module of it from the next random numbers."""
    if backend == "pyro":
        import torch

        import pyro_dgm as library

        torch.manual_seed(seed)
        return library, lambda make, *sizes, **settings: make(*sizes, **settings)
    import jax

    import numpyro_dgm as library

    key = jax.random.key(seed)

    def build(make: Any, *sizes: Any, **settings: Any) -> Any:
        nonlocal key
        key, own = jax.random.split(key)
        try:
            return make(*sizes, **settings, key=own)
        except TypeError:  # a module without weights
            return make(*sizes, **settings)

    return library, build


def model_of(name: str, library: Any, build: Any) -> Any:
    """A model with its guide."""
    c = library.conditionals
    likelihood = build(
        c.DiscretizedLogisticMixture, IMAGE, 2, num_levels=17, context_shape=(16, 8, 8)
    )
    if name == "Gaussian VAE":
        sizes = {"hidden_channels": (16, 32), "features": 128}
        return build(library.models.ConvVAE, IMAGE, 64, **sizes, likelihood=likelihood)
    quantizers = {
        "VQ restarts": partial(c.VectorQuantizer, MAP, K, restart=0.1),
        "VQ no restarts": partial(c.VectorQuantizer, MAP, K),
        "VQ gradient": partial(c.VectorQuantizer, MAP, K, decay=None),
        "FSQ": partial(c.FiniteScalarQuantizer, (3, 2, 2), (5, 5, 5)),
    }
    quantizer = build(quantizers[name])
    sizes = {"hidden": (16, 32), "likelihood": likelihood}
    return build(library.models.VQVAE, IMAGE, quantizer=quantizer, **sizes)


def run_one(name: str, backend: str, seed: int, num_epochs: int) -> dict[str, Any]:
    """Train one setting, fit a prior to its codes, and measure both."""
    train, test = digits()
    library, build = library_of(backend, seed)
    losses, c = library.losses, library.conditionals
    vae = model_of(name, library, build)
    loss = losses.ELBO()
    if name.startswith("VQ"):
        loss = loss + 64.0 * losses.Commitment("z", 0.25)
    settings: dict[str, Any] = {"batch_size": 128, "seed": seed, "progress": False}
    if backend == "pyro":
        settings["compile"] = False
    optim = library.Adam(2e-3)
    start = time.process_time()
    run = library.fit(
        vae.model, vae.guide, train, loss=loss, num_epochs=num_epochs, optim=optim, **settings
    )
    seconds = time.process_time() - start
    row = {"setting": name, "backend": backend, "seed": seed, "epochs": num_epochs}
    row |= parts(library, run, test)
    if name != "Gaussian VAE":
        settings.pop("compile", None)
        use = library.evaluation.codes(run, train)["z"].use
        num_codes = use.num_codes
        row |= {"codes": num_codes, "perplexity": use.perplexity, "dead": len(use.dead)}
        prior = build(
            c.GatedPixelCNN,
            (1, 2, 2),
            partial(c.Categorical, num_classes=num_codes),
            hidden_channels=32,
            num_layers=4,
            one_hot=True,
        )
        better = library.evaluation.fit_prior(
            run, train[:-300], prior, num_epochs=40, optim=library.Adam(2e-3),
            validation=train[-300:], **settings,
        )  # fmt: skip
        row["bits, learned prior"] = bits_of(library, better, test)
        if seed == 0:
            drawn = library.generate(better, size=64, seed=0)["x"]
            plain = library.generate(run, size=64, seed=0)["x"]
            np.savez(HERE / f"samples-{name}-{backend}.npz", prior=drawn, uniform=plain)
    elif seed == 0:
        drawn = library.generate(run, size=64, seed=0)["x"]
        np.savez(HERE / f"samples-{name}-{backend}.npz", uniform=drawn)
    row["CPU seconds"] = round(seconds, 1)
    row["hardware"] = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    return row


def parts(library: Any, run: Any, x: np.ndarray) -> dict[str, float]:
    """Reconstruction, its squared error, the rate, and the bound in bits per dimension."""
    surgery = library.evaluation.elbo_surgery(run, x, seed=1)
    means = library.evaluation.reconstruct(run, x, seed=1)["x"]
    return {
        "reconstruction": -surgery.reconstruction,
        "squared error": float(((means - x) ** 2).mean()),
        "rate": surgery.mean_kl,
        "bits": bits_of(library, run, x),
    }


def bits_of(library: Any, run: Any, x: np.ndarray) -> float:
    """Bits per dimension, as a bound: of the ELBO."""
    log_w = library.log_weights(run, x, num_particles=8, seed=1)
    return float(-log_w.mean() / (64 * np.log(2)))


def picture() -> None:
    """Samples of the first seed: of the Gaussian VAE, of the uniform and of the learned prior."""
    import matplotlib.pyplot as plt

    shown = [("Gaussian VAE", "uniform"), ("VQ restarts", "uniform"), ("VQ restarts", "prior")]
    files = [HERE / f"samples-{name}-pyro.npz" for name, _ in shown]
    if not all(file.exists() for file in files):
        return
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3))
    titles = ("Gaussian VAE", "VQ-VAE, uniform prior", "VQ-VAE, PixelCNN prior")
    for axis, title, file, (_, which) in zip(axes, titles, files, shown, strict=True):
        images = np.pad(np.load(file)[which][:, 0], ((0, 0), (1, 1), (1, 1)), constant_values=0.4)
        grid = images.reshape(8, 8, 10, 10).swapaxes(1, 2)  # rows, height, columns, width
        axis.imshow(grid.reshape(80, 80), cmap="gray")
        axis.set_title(title)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(HERE.with_suffix(".png"), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    a = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        for name in a.only:
            path = HERE / f"{name.replace(' ', '-')}-{a.backend}-{a.epochs}-{seed}.json"
            if not path.exists():
                write_json(path, run_one(name, a.backend, seed, a.epochs))
                print(path.read_text(encoding="utf-8"), flush=True)
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.json"))]
    rows.sort(key=lambda row: (SETTINGS.index(row["setting"]), row["backend"], row["seed"]))
    hardware = sorted({row.pop("hardware") for row in rows})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = format_table([{name: row.get(name, "") for name in columns} for row in rows])
    text = f"# Codes of digits\n\n{(__doc__ or '').strip()}\n\n```\n{table}\n```\n\n"
    notes = HERE.parent / "codes_notes.md"
    text += f"Hardware: {'; '.join(hardware)}.\n"
    text += "\n" + notes.read_text(encoding="utf-8") if notes.exists() else ""
    (HERE.parent / "codes.md").write_text(text, encoding="utf-8")
    picture()
    print(table)


if __name__ == "__main__":
    main()
