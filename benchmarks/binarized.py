"""Models of dynamically binarized MNIST that train for so many seconds, for a GPU (or a CPU).

    python benchmarks/binarized.py [GatedPixelCNN ConvVAE PixelVAE ...] [--backend numpyro]
    [--device cuda] [--seconds 400] [--seeds 0] [--sizes hidden_channels=64 num_layers=10]
    [--processor] [--batch 128] [--average 0.999] [--scored 4000]

Protocol: all 60,000 images binarized anew at every pass (each pixel is one with its gray level as
probability), batches of 128, Adam 1e-3 of a gradient clipped at norm 10, with a rate that rises
over 300 steps and falls as a cosine of the time that is over; what is scored is a moving average of
the weights (.999). On a CPU, seconds are the processor's with `--processor`, and for a short run
batches are smaller and the average shorter. The 10,000 test images are binarized once (seed 0).
Nothing is chosen on them: the curve is the training loss, in nats, of each pass.

GatedPixelCNN: log p of every test image, exact. ConvVAE and PixelVAE: 32 latents, channels 32 and
64, 32 features of a pixel; the likelihood of PixelVAE is GatedPixelCNN of 32 channels, four layers
of 5x5. The bound of 64 draws (IWAE) and the ELBO of the first 4,000 test images (`--scored`); of as
many training images the mean KL, the mutual information of code and image with their exact
aggregate posterior (at most log 4,000 = 8.29), and the active units. Remedies: "beta 0.3" and "free
bits 10" (nats of a code below which its KL part is not pushed) act in training; the ELBO is the
bound.

Each run leaves a file, and a sheet of 64 draws, in benchmarks/results/binarized (or the folder that
OUT_DIR names) and is not repeated; the tables go to benchmarks/results/binarized.md. DGM_DATA_DIR
may point to a folder that holds mnist/.
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import binarize, load
from dgm_core.plots import samples_grid, save
from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "binarized"
IMAGE, RISE = (1, 28, 28), 300
DENSITIES: dict[str, dict[str, Any]] = {
    "GatedPixelCNN": {"hidden_channels": 64, "num_layers": 10, "kernel_size": 5},
    "PixelSNAIL": {"hidden_channels": 64, "num_blocks": 4, "num_layers": 4},
}
# name: whether the likelihood is a PixelCNN, arguments of the ELBO
VAES: dict[str, tuple[bool, dict[str, Any]]] = {
    "ConvVAE": (False, {}),
    "PixelVAE": (True, {}),
    "PixelVAE, beta 0.3": (True, {"beta": 0.3}),
    "PixelVAE, free bits 10": (True, {"free_bits": 10.0}),
}


class Clock:
    """A learning rate that rises with the first steps and falls as a cosine of the time that is
    over; and a callback that ends the run when it is.
    """

    def __init__(self, seconds: float, traced: bool, now: Callable[[], float]) -> None:
        self.seconds, self.traced, self.now = seconds, traced, now
        self.times = [now()]

    def left(self, step: Any) -> np.float32:
        part = min((self.now() - self.times[0]) / self.seconds, 1.0)
        rise = min((float(step) + 1) / RISE, 1.0)
        return np.float32(rise * max(0.5 + 0.5 * math.cos(math.pi * part), 1e-3))

    def __call__(self, step: Any) -> Any:
        if not self.traced:
            return float(self.left(step))
        import jax

        return jax.pure_callback(self.left, jax.ShapeDtypeStruct((), np.float32), step)

    def ended(self, run: Any) -> bool:
        self.times.append(self.now())
        last = self.times[-1] - self.times[-2]
        print(
            f"pass {run.epoch}, {last:.1f} s, loss {run.history.column('loss')[-1]:.3f}", flush=True
        )
        over = self.times[-1] - self.times[0]
        if run.epoch == 1 and over > 0.6 * self.seconds:
            raise SystemExit(
                f"--seconds {self.seconds:g} is too short: the first pass took {over:.0f}, and "
                "the rate has hardly risen when it falls. Give time for several passes."
            )
        return self.times[-1] + last / 2 > self.times[0] + self.seconds


def library_of(backend: str, device: str | None, seed: int) -> tuple[Any, Any, Any]:
    """The library, its language, and what makes one of its modules."""
    if backend == "pyro":
        import pyro
        import torch

        import pyro_dgm

        torch.manual_seed(seed)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        place = device or "cpu"
        return pyro_dgm, pyro, lambda made, *sizes, **given: made(*sizes, **given).to(place)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import numpyro

    import numpyro_dgm

    keys = iter(jax.random.split(jax.random.key(seed)))
    return numpyro_dgm, numpyro, lambda made, *sizes, **given: made(*sizes, **given, key=next(keys))


def density(library: Any, language: Any, network: Any) -> Any:
    """The model of a conditional without latents."""

    def model(x: Any = None, size: int = 1) -> Any:
        pixels = library.nn.register("pixels", network)
        with language.plate("data", size if x is None else len(x)):
            return language.sample("x", pixels(), obs=x)

    return model


def run_one(name: str, seed: int, a: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one model and score it."""
    now = time.process_time if a.processor else time.perf_counter
    began = now()
    images = load("mnist")
    train = np.concatenate([images.train, images.validation]).reshape(-1, *IMAGE)[: a.train]
    test = binarize(images.test, "static", seed=0).reshape(-1, *IMAGE)[: a.test]
    library, language, make = library_of(a.backend, a.device, seed)
    conditionals, losses = library.conditionals, library.losses
    sizes = {key: int(value) for key, value in (one.split("=") for one in a.sizes)}
    if name in DENSITIES:
        sizes = {**DENSITIES[name], **sizes}
        model, guide = (
            density(library, language, make(getattr(conditionals, name), IMAGE, **sizes)),
            None,
        )
        loss = losses.NLL()
    else:
        by_pixel, settings = VAES[name]
        sizes = {"hidden_channels": 32, "num_layers": 4, "kernel_size": 5, **sizes}
        made: dict[str, Any] = {"pixel_features": 32}
        if by_pixel:
            made["likelihood"] = make(
                conditionals.GatedPixelCNN, IMAGE, context_shape=(32, 28, 28), **sizes
            )
        vae = make(library.models.ConvVAE, IMAGE, 32, **made)
        model, guide = vae.model, vae.guide
        loss = losses.ELBO(**settings)
    clock = Clock(a.seconds, a.backend == "numpyro", now)
    run = library.fit(
        model,
        guide,
        train,
        loss=loss,
        optim=library.nn.Adam(1e-3),
        num_epochs=10_000,
        batch_size=a.batch,
        lr_schedule=clock,
        clip_norm=10.0,
        average=a.average,
        transform=library.binarize,
        callbacks=[clock.ended],
        seed=seed,
        progress=False,
        **({"compile": False} if a.backend == "pyro" else {}),
    )
    trained = now()
    found: dict[str, Any] = {
        "model": name,
        "backend": a.backend,
        "seed": seed,
        "seconds": a.seconds,
        "passes": run.epoch,
        "sizes": sizes,
        "curve": [round(float(loss), 4) for loss in run.history.column("loss")],
        "times": [round(later - clock.times[0], 2) for later in clock.times[1:]],
        "seconds training": trained - clock.times[0],
        "seconds before": clock.times[0] - began,
        "num_train": len(train),
        "num_test": len(test),
        "hardware": a.hardware or f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }
    score = partial(library.evaluation.log_likelihood, run, progress=False, seed=seed)
    if name in DENSITIES:
        nats = -score(test, num_particles=1, chunk_size=2_000)["IWAE"]
        found |= {"test nats": float(nats.mean()), "s.e.": float(nats.std() / len(nats) ** 0.5)}
    else:
        report = score(test[: a.scored], num_particles=64, chunk_size=4 * a.scored)
        seen = binarize(train[: a.scored], "static", seed=1)
        surgery = library.evaluation.elbo_surgery(run, seen, seed=seed)
        layers = library.evaluation.collapse(run, seen, num_draws=2, seed=seed)
        found |= {
            "scored": len(report["IWAE"]),
            "batch": a.batch,
            "test IWAE-64": float(report["IWAE"].mean()),
            "images": [round(float(nats), 3) for nats in report["IWAE"][:1_000]],
            "test ELBO": float(report["ELBO"].mean()),
            "mean KL": surgery.mean_kl,
            "MI": surgery.mutual_information,
            "active": layers.rows[0]["active"],
        }
    found["seconds scoring"] = now() - trained
    write_json(file_of(folder, name, a, seed), found)
    draws = library.evaluation.generate(run, size=64, seed=seed)["x"]
    figure = samples_grid(np.asarray(draws), IMAGE, title=f"{name}, {run.epoch} passes")
    save(figure, file_of(folder, name, a, seed).with_suffix(".png"), dpi=80)
    return found


def file_of(folder: Path, name: str, a: argparse.Namespace, seed: int) -> Path:
    """Where a run leaves its result."""
    stem = name.replace(", ", "-").replace(" ", "-")
    sizes = "".join(f"-{one.replace('=', '')}" for one in a.sizes)
    return folder / f"{stem}{sizes}-{a.backend}-{a.seconds:g}-{seed}.json"


def write_tables() -> None:
    """All finished runs."""
    found = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    parts = []
    common = ("model", "backend", "seed", "passes", "seconds training")
    for score, columns in {
        "test nats": ("num_test", "test nats", "s.e."),
        "test IWAE-64": ("test IWAE-64", "test ELBO", "mean KL", "MI", "active"),
    }.items():
        own = sorted((one for one in found if score in one), key=lambda one: abs(one[score]))
        if own:
            rows = [{key: one[key] for key in (*common, *columns, "hardware")} for one in own]
            parts.append("```\n" + format_table(rows, digits=2) + "\n```\n")
    notes = HERE.parent / "binarized_notes.md"
    words = [notes.read_text()] if notes.exists() else []
    (HERE.parent / "binarized.md").write_text(
        "\n".join([f"# Binarized MNIST in so many seconds\n\n{__doc__}", *parts, *words])
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*DENSITIES, *VAES]
    parser.add_argument("models", nargs="*", default=["GatedPixelCNN"], help=", ".join(names))
    parser.add_argument("--backend", default="numpyro", choices=["pyro", "numpyro"])
    parser.add_argument("--device", help="of Pyro, such as cuda")
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sizes", nargs="*", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--processor", action="store_true", help="count seconds of the processor")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--scored", type=int, default=4_000, help="images for the bound of a VAE")
    parser.add_argument("--hardware", help="in words, for the table")
    a = parser.parse_args()
    if unknown := set(a.models) - set(names):
        parser.error(f"models are {', '.join(names)}, got {', '.join(sorted(unknown))}")
    folder = Path(os.environ.get("OUT_DIR") or HERE)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        for name in a.models:
            if not file_of(folder, name, a, seed).exists():
                print(json.dumps(run_one(name, seed, a, folder)), flush=True)
    if folder == HERE:
        write_tables()


if __name__ == "__main__":
    main()
