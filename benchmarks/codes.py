"""Codes of digits: VQ-VAEs beside a Gaussian VAE, with and without restarts, and a learned prior.

    python benchmarks/codes.py [--backend pyro] [--epochs 50] [--seeds 0 1] [--only NAME ...]
    [--data digits] [--batch 128] [--rate 2e-3] [--seconds 450]

Protocol: scikit-learn's digits, 8x8, 17 levels in [0, 1], the first 1,497 to train and the last 300
to test. All have the encoder and decoder of VQVAE with channels 16 and 32, 16 features of a pixel,
and a mixture of 2 discretized logistic distributions for each pixel; a code map is 2x2, of vectors
of 16 entries (64 numbers), with K = 128 codes. The Gaussian VAE has 64 latents, as many numbers as
the map. ELBO() + 64 Commitment("z", 0.25), Adam 2e-3, batches of 128. The prior is a GatedPixelCNN
of 32 channels and 4 layers over the code map, fitted afterwards by fit_prior to the training data
(--prior-epochs, 40; the best on 300 data held out of it).
--data mnist or fashion_mnist: 28x28 at 17 levels, 50,000 to train and 10,000 to test, channels 32
and 64, so a map of 7x7 codes of 16 entries (784 numbers), 784 latents of the Gaussian VAE,
784 Commitment("z", 0.25), a prior of 64 channels and 6 layers with 1,000
data held out.

Recorded of the test data: reconstruction (-log p(x | z) at one draw, nats) and the mean squared
error of the decoder's mean, the rate (KL, nats), bits per dimension as a bound (-ELBO / 64 ln 2)
with the first prior and with the learned one; of the training data: perplexity of the codes, dead
codes. Each run leaves a file in benchmarks/results/codes and is not repeated; the table goes to
benchmarks/results/codes.md, samples of the first seed to benchmarks/results/codes.png.
"""

import argparse
import json
import time
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from budget import Deadline, hardware, results

from dgm_core.data import load
from dgm_core.results import format_table, write_json

HERE = results("codes")
K = 128
SETTINGS = ("Gaussian VAE", "VQ restarts", "VQ no restarts", "VQ gradient", "FSQ")


class Problem:
    """Images (count, 1, size, size) of levels k / 16 to train and to test, and the sizes of what
    learns them.
    """

    def __init__(self, name: str, num_train: int | None) -> None:
        self.name, small = name, name == "digits"
        if small:
            from sklearn.datasets import load_digits

            x = (load_digits().images[:, None] / 16).astype(np.float32)
            self.train, self.test = x[:1497], x[1497:]
        else:
            data = load(name)
            self.train, self.test = (
                (np.round(np.asarray(part) * 16) / 16).astype(np.float32).reshape(-1, 1, 28, 28)
                for part in (data.train, data.test)
            )
        self.train = self.train[:num_train]
        size = self.train.shape[-1]
        self.image, self.map = (1, size, size), (16, size // 4, size // 4)
        self.pixels, self.numbers = size**2, 16 * (size // 4) ** 2
        self.channels, self.features = (16, 32) if small else (32, 64), 16
        self.held_out, self.prior_channels, self.prior_layers = (
            (300, 32, 4) if small else (1000, 64, 6)
        )
        self.weight = float(self.pixels)


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


def model_of(name: str, problem: Problem, library: Any, build: Any) -> Any:
    """A model with its guide."""
    c, image = library.conditionals, problem.image
    context = (problem.features, *image[1:])
    likelihood = build(c.DiscretizedLogisticMixture, image, 2, num_levels=17, context_shape=context)
    if name == "Gaussian VAE":
        sizes = {"hidden_channels": problem.channels, "features": 128}
        numbers = problem.numbers
        return build(library.models.ConvVAE, image, numbers, **sizes, likelihood=likelihood)
    codes, scalars = problem.map, (3, *problem.map[1:])
    quantizers = {
        "VQ restarts": partial(c.VectorQuantizer, codes, K, restart=0.1),
        "VQ no restarts": partial(c.VectorQuantizer, codes, K),
        "VQ gradient": partial(c.VectorQuantizer, codes, K, decay=None),
        "FSQ": partial(c.FiniteScalarQuantizer, scalars, (5, 5, 5)),
    }
    quantizer = build(quantizers[name])
    sizes = {"hidden": problem.channels, "likelihood": likelihood}
    return build(library.models.VQVAE, image, quantizer=quantizer, **sizes)


def run_one(a: argparse.Namespace, name: str, seed: int, deadline: Any, cells: int) -> Any:
    """Train one setting, the first of so many `cells`, fit a prior to its codes, measure both."""
    problem, backend, num_epochs = Problem(a.data, a.train), a.backend, a.epochs
    train, test = problem.train, problem.test[: a.test]
    library, build = library_of(backend, seed)
    losses, c = library.losses, library.conditionals
    vae = model_of(name, problem, library, build)
    loss = losses.ELBO()
    if name.startswith("VQ"):
        loss = loss + problem.weight * losses.Commitment("z", 0.25)
    settings: dict[str, Any] = {"batch_size": a.batch, "seed": seed, "progress": False}
    if backend == "pyro":
        settings["compile"] = False
    start, began = time.process_time(), time.perf_counter()
    run = library.fit(
        vae.model,
        vae.guide,
        train,
        loss=loss,
        num_epochs=num_epochs,
        optim=library.Adam(a.rate),
        callbacks=[deadline.share(2 * cells)],
        **settings,
    )
    seconds, whole = time.process_time() - start, time.perf_counter() - began
    row = {"setting": name, "backend": backend, "seed": seed, "epochs": run.epoch}
    row |= parts(library, run, test)
    if name != "Gaussian VAE":
        settings.pop("compile", None)
        use = library.evaluation.codes(run, train[:10_000])["z"].use
        num_codes = use.num_codes
        row |= {"codes": num_codes, "perplexity": use.perplexity, "dead": len(use.dead)}
        prior = build(
            c.GatedPixelCNN,
            (1, *problem.map[1:]),
            partial(c.Categorical, num_classes=num_codes),
            hidden_channels=problem.prior_channels,
            num_layers=problem.prior_layers,
            one_hot=True,
        )
        held = -problem.held_out
        better = library.evaluation.fit_prior(
            run,
            train[:held],
            prior,
            num_epochs=a.prior_epochs,
            optim=library.Adam(2e-3),
            validation=train[held:],
            **settings,
        )
        row["bits, learned prior"] = bits_of(library, better, test)
        if seed == 0:
            drawn = library.generate(better, size=64, seed=0)["x"]
            plain = library.generate(run, size=64, seed=0)["x"]
            np.savez(HERE / f"samples-{a.data}-{name}-{backend}.npz", prior=drawn, uniform=plain)
    elif seed == 0:
        drawn = library.generate(run, size=64, seed=0)["x"]
        np.savez(HERE / f"samples-{a.data}-{name}-{backend}.npz", uniform=drawn)
    row |= {"CPU seconds": round(seconds, 1), "seconds": round(whole, 1), "data": a.data}
    return {**row, "batch": a.batch, "step size": a.rate, "hardware": hardware(backend)}


def parts(library: Any, run: Any, x: np.ndarray) -> dict[str, float]:
    """Reconstruction, its squared error, the rate, and the bound in bits per dimension."""
    x = x[:500]
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
    log_w = library.log_weights(run, x, num_particles=8, chunk_size=8192, seed=1)
    return float(-log_w.mean() / (x[0].size * np.log(2)))


def picture(data: str, backend: str) -> None:
    """Samples of the first seed: of the Gaussian VAE, of the uniform and of the learned prior."""
    import matplotlib.pyplot as plt

    shown = [("Gaussian VAE", "uniform"), ("VQ restarts", "uniform"), ("VQ restarts", "prior")]
    files = [HERE / f"samples-{data}-{name}-{backend}.npz" for name, _ in shown]
    if not all(file.exists() for file in files):
        return
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3))
    titles = ("Gaussian VAE", "VQ-VAE, uniform prior", "VQ-VAE, PixelCNN prior")
    for axis, title, file, (_, which) in zip(axes, titles, files, shown, strict=True):
        images = np.pad(np.load(file)[which][:, 0], ((0, 0), (1, 1), (1, 1)), constant_values=0.4)
        size = images.shape[-1]
        grid = images.reshape(8, 8, size, size).swapaxes(1, 2)  # rows, height, columns, width
        axis.imshow(grid.reshape(8 * size, 8 * size), cmap="gray")
        axis.set_title(title)
        axis.set_axis_off()
    figure.tight_layout()
    name = "codes" if data == "digits" else f"codes_{data}"
    figure.savefig(HERE.with_name(f"{name}.png"), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="pyro", choices=["pyro", "numpyro"])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--data", default="digits", choices=["digits", "mnist", "fashion_mnist"])
    parser.add_argument("--train", type=int)
    parser.add_argument("--test", type=int)
    parser.add_argument("--prior-epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seconds", type=float, help="of all training")
    a = parser.parse_args()
    deadline, cells = Deadline(a.seconds), list(product(a.seeds, a.only))
    for index, (seed, name) in enumerate(cells):
        data = "" if a.data == "digits" else f"{a.data}-"
        path = HERE / f"{data}{name.replace(' ', '-')}-{a.backend}-{a.epochs}-{seed}.json"
        if not path.exists():
            write_json(path, run_one(a, name, seed, deadline, len(cells) - index))
            print(path.read_text(encoding="utf-8"), flush=True)
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.json"))]
    rows = [{"data": "digits", "batch": 128, "step size": 2e-3, **row} for row in rows]
    rows.sort(
        key=lambda row: (row["data"], SETTINGS.index(row["setting"]), row["backend"], row["seed"])
    )
    machines = sorted({row.pop("hardware") for row in rows})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = format_table([{name: row.get(name, "") for name in columns} for row in rows])
    text = f"# Codes of digits\n\n{(__doc__ or '').strip()}\n\n```\n{table}\n```\n\n"
    notes = HERE.parent / "codes_notes.md"
    text += f"Hardware: {'; '.join(machines)}.\n"
    text += "\n" + notes.read_text(encoding="utf-8") if notes.exists() else ""
    (HERE.parent / "codes.md").write_text(text, encoding="utf-8")
    picture(a.data, a.backend)
    print(table)


if __name__ == "__main__":
    main()
