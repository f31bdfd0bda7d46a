"""Autoregressive models of images at a stated budget: bits per dimension of digits, nats of MNIST.

    python benchmarks/images.py digits [--backend numpyro] [--epochs 30] [--only NAME ...]
    python benchmarks/images.py mnist [--backend numpyro] [--epochs 40] [--only GatedPixelCNN]

`digits`: scikit-learn's, 8x8 with 17 levels, the first 1,497 to train and the last 300 to test; the
levels are classes (Categorical of 17), of which the networks see a number. Adam 1e-3 with a linear
decay to a tenth, batches of 64, the last weights; 32 channels. PixelCNNPlusPlus has a discretized
mixture of five logistics and two scales. What stands beside them, with the same budget: ConvVAE
with 8 latents and DiscretizedLogisticMixture, by IWAE-256 (a bound), and flows of 64 dimensions, of
(x + u) / 17, u uniform and anew in every epoch, as logits of .05 + .9 times it, by the mean of the
density over 64 draws of u (a bound).

`mnist`: dynamically binarized, 28x28, the official split; GatedPixelCNN 8 x 32, Adam 1e-3 with the
same decay, batches of 128; the test images are binarized once. A run that was broken off goes on
from its last epoch (DGM_CHECKPOINTS names a folder). DGM_DATA_DIR may point to a folder that holds
mnist/. Each run leaves a file in benchmarks/results/images and is not repeated; the table goes to
benchmarks/results/images.md.
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

from dgm_core.data import dequantize, logit_transform
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule

HERE = Path(__file__).parent / "results" / "images"
SIZES: dict[str, dict[str, Any]] = {
    "PixelCNN": {"num_layers": 6},
    "GatedPixelCNN": {"num_layers": 6},
    "ImageTransformer": {"block": 16, "memory": 48, "hidden_dim": 32},
    "PixelSNAIL": {"num_blocks": 2, "num_layers": 3},
    "PixelCNNPlusPlus": {"num_scales": 2},
    "ConvVAE": {},
    "MAF": {"num_layers": 5, "hidden": (256,)},
    "NSF": {"num_layers": 4, "hidden": (256,)},
}


def data_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images to train and to test; classes of digits, gray levels of MNIST."""
    if name == "digits":
        from sklearn.datasets import load_digits

        x = load_digits().images[:, None].astype(np.int32)
        return x[:1497], x[1497:]
    from dgm_core.data import binarize, load

    found = load("mnist")
    test = binarize(found.test, "static", seed=0)
    return tuple(x.reshape(-1, 1, 28, 28).astype(np.float32) for x in (found.train, test))


def library_of(backend: str, seed: int) -> tuple[Any, Any]:
    """The library, and what makes one of its modules."""
    if backend == "pyro":
        import pyro
        import torch

        import pyro_dgm

        torch.manual_seed(seed)
        return (pyro_dgm, pyro), lambda made, *sizes, **settings: made(*sizes, **settings)
    import jax
    import numpyro

    import numpyro_dgm

    key = jax.random.key(seed)
    return (numpyro_dgm, numpyro), lambda made, *sizes, **settings: made(
        *sizes, **settings, key=key
    )


def run_one(data: str, name: str, backend: str, seed: int, num_epochs: int) -> dict[str, Any]:
    """Train one model and score the test images."""
    train, test = data_of(data)
    (library, language), make = library_of(backend, seed)
    conditionals, shape = library.conditionals, train.shape[1:]
    batch = 64 if data == "digits" else 128
    settings: dict[str, Any] = {
        "num_epochs": num_epochs,
        "batch_size": batch,
        "lr_schedule": Schedule((0, num_epochs * -(-len(train) // batch)), (1.0, 0.1)),
        "seed": seed,
        "progress": False,
    }
    if backend == "pyro":
        settings["compile"] = False
    start = time.process_time()
    if name == "ConvVAE":
        mixture = partial(conditionals.DiscretizedLogisticMixture, num_levels=17)
        likelihood = make(mixture, shape, context_shape=(16, *shape[1:]))
        vae = make(library.models.ConvVAE, shape, 8, likelihood=likelihood)
        gray = (train / 16).astype(np.float32), (test / 16).astype(np.float32)
        run = library.fit(vae.model, vae.guide, gray[0], loss=library.losses.ELBO(), **settings)
        report = library.evaluation.log_likelihood(run, gray[1], num_particles=256, progress=False)
        nats = -report["IWAE"]
        count = sum(int(np.prod(np.shape(value))) for value in leaves(run.params))
    else:
        flow, sizes = hasattr(library.flows, name), SIZES[name] if data == "digits" else {}
        if flow:
            network = make(getattr(library.flows, name), 64, **sizes)
            train = np.concatenate([real(train, seed=index)[0] for index in range(num_epochs)])
            settings["num_epochs"] = 1
            settings["lr_schedule"] = Schedule((0, -(-len(train) // batch)), (1.0, 0.1))
        else:
            families = (family_of(conditionals, name),) if data == "digits" else ()
            network = make(getattr(conditionals, name), shape, *families, **sizes)
            if name == "PixelCNNPlusPlus":
                train, test = ((x / 16).astype(np.float32) for x in (train, test))

        def model(x: Any) -> None:
            pixels = library.nn.register("pixels", network)
            with language.plate("data", len(x)):
                language.sample("x", pixels(), obs=x)

        folder = os.environ.get("DGM_CHECKPOINTS")
        if folder:
            settings["checkpoint"] = Path(folder) / f"images-{data}-{name}-{backend}-{seed}"
        if data == "mnist":
            settings["transform"] = library.binarize
        run = library.fit(model, None, train, loss=library.losses.NLL(), **settings)
        if flow:
            nats = -dequantized(library, run, test)
        else:
            report = library.evaluation.log_likelihood(run, test, num_particles=1, progress=False)
            nats = -report["IWAE"]
        count = sum(int(np.prod(np.shape(value))) for value in leaves(run.params))
    entries = int(np.prod(shape))
    return {
        "data": data,
        "model": name,
        "backend": backend,
        "seed": seed,
        "epochs": num_epochs,
        "parameters": count,
        "test nats": float(np.mean(nats)),
        "s.e.": float(np.std(nats) / len(nats) ** 0.5),
        "bits/dim": float(np.mean(nats)) / entries / float(np.log(2)),
        "CPU minutes": (time.process_time() - start) / 60,
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def family_of(conditionals: Any, name: str) -> Any:
    """Of a pixel of the digits."""
    if name == "PixelCNNPlusPlus":
        return partial(conditionals.DiscretizedLogisticMixture, num_levels=17)
    return partial(conditionals.Categorical, num_classes=17)


def real(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits on the real line, and the logarithm of the change of volume."""
    spread = dequantize((x.reshape(len(x), -1) / 16).astype(np.float32), 17, seed=seed)
    return logit_transform(spread, alpha=0.05)


def dequantized(library: Any, run: Any, test: np.ndarray, num_draws: int = 64) -> np.ndarray:
    """A bound on log p(x): the logarithm of the mean density over the cells of the levels."""
    found = []
    for index in range(num_draws):
        y, log_det = real(test, seed=10_000 + index)
        report = library.evaluation.log_likelihood(run, y, num_particles=1, progress=False)
        found.append(report["IWAE"] + log_det - test[0].size * np.log(17))
    return np.logaddexp.reduce(found) - np.log(num_draws)


def leaves(params: Any) -> list[Any]:
    """All arrays of a run's parameters."""
    values = list(params.values())
    if any(not hasattr(value, "shape") for value in values):
        import jax

        return list(jax.tree.leaves(values))
    return values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=["digits", "mnist"])
    parser.add_argument("--backend", default="numpyro", choices=["pyro", "numpyro"])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    a = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        for name in a.only:
            path = HERE / f"{a.data}-{name}-{a.backend}-{a.epochs}-{seed}.json"
            if not path.exists():
                write_json(path, run_one(a.data, name, a.backend, seed, a.epochs))
                print(path.read_text(), flush=True)
    results = [json.loads(path.read_text()) for path in HERE.glob("*.json")]
    results.sort(key=lambda one: (one["data"], one["bits/dim"]))
    columns = [name for name in results[0] if name != "hardware"]
    text = format_table([{name: one[name] for name in columns} for one in results], digits=3)
    print(text)
    (HERE.parent / "images.md").write_text(
        f"# Autoregressive models of images\n\n{__doc__}\n```\n{text}\n```\n\n"
        f"Hardware: {results[0]['hardware']}, beside other work.\n"
    )


if __name__ == "__main__":
    main()
