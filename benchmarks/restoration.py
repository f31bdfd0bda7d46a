"""Restoration of real images beside classical methods, and what a masked autoencoder learns.

    python benchmarks/restoration.py [--data digits] [--tasks denoise super ...] [--steps 2000]
    [--train 5000] [--test 300] [--seeds 0] [--channels 16 32] [--batch-size 64] [--device cuda]
    [--seconds 430] [--threads 1] [--out FOLDER]

Protocol: images in [0, 1], the published splits ("cifar10": the binary files in the folder
cifar10/ of DGM_DATA_DIR). "denoise": normal noise of 0.3; "deblur": a blur of one pixel and noise
of 0.05; "super": means of 2x2 pixels; "inpaint": a square of three eighths of the height is hidden
at a random place; "segment": is a pixel brighter than 0.5, behind noise of 0.5; "color": the
luminance is given. `ImageToImage(channels=(16, 32))` with a normal likelihood (Bernoulli for
"segment"; for "inpaint" with hidden_only, so that only hidden pixels count; for "color" of the
differences to the luminance), NLL(), Adam 2e-3 with a linear decay to 1e-4, batches of 64, noise
and holes drawn four times for each image, oftener where these make fewer than 20,000 pairs (for
"color" every other pass has mirrored photographs), the last weights; one thread, or `--threads`.
Other channels and steps stand in the name of the result and in its row. With `--seconds`, what
would begin later than that is left out.
Scores on test images: PSNR in decibels (IoU of the bright pixels for "segment") of the mean; for
"inpaint" of the hidden pixels. Classical: total variation, its weight the best on 100 training
images; Wiener's filter of scikit-image with the known blur, its balance likewise; bicubic
resizing; biharmonic holes; Otsu's threshold behind a blur, its width likewise; the mean color
added to the luminance; and "linear", the best linear restoration with mean and covariance of the
training images (of images up to 28x28). Coverage: the share of pixels in the central 90 % of 99
draws, of all pixels and of those with a deviation above 0.02.
"probe": a masked autoencoder (patches of 4x4, 2x2 of 8x8 images, three quarters hidden, 64 numbers
for each, squared errors; its codes of all patches, and their mean), a denoising autoencoder with a
code of 64 numbers, and raw pixels: accuracy on 2,000 test images of a logistic regression and of 5
nearest neighbors on 1,000 labeled training images.
Needs scikit-image (the extra "benchmarks"). Each run leaves one JSON file in
benchmarks/results/restoration, tables go to benchmarks/results/restoration.md, pictures beside
them; a finished run is not repeated.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import photographs

from dgm_core.data import load
from dgm_core.plots import restorations, save
from dgm_core.restoration import (
    add_noise,
    blur,
    box_masks,
    coverage,
    downsample,
    hide,
    iou,
    linear_restorer,
    operator_matrix,
    psnr,
    to_gray,
)
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule
from pyro_dgm.conditionals import Bernoulli, DiagonalNormal, Normal
from pyro_dgm.evaluation import predict
from pyro_dgm.losses import NLL
from pyro_dgm.models import ImageToImage, MaskedAutoencoder
from pyro_dgm.nn import ConvDecoder, ConvEncoder
from pyro_dgm.training import Adam, fit

TASKS = ("denoise", "deblur", "super", "inpaint", "segment")
DRAWS, SHOWN = 99, 10


def folder() -> Path:
    """Where results go."""
    return Path(os.environ.get("DGM_RESULTS", Path(__file__).parent / "results")) / "restoration"


def images(name: str, train: int, test: int) -> tuple[np.ndarray, ...]:
    """Training and test images (num, channels, height, width) and their labels."""
    if name == "cifar10":
        (x, labels), (x_test, labels_test) = photographs()
    else:
        data = load(name)
        shape = (-1, *data.image_shape)
        x, x_test = (np.asarray(part).reshape(shape) for part in (data.train, data.test))
        labels, labels_test = data.labels["train"], data.labels["test"]
    return x[:train], labels[:train], x_test[:test], labels_test[:test]


def corrupt(task: str, x: np.ndarray, seed: int) -> np.ndarray:
    """What is given of images."""
    if task == "denoise":
        return add_noise(x, 0.3, seed=seed)
    if task == "deblur":
        return add_noise(blur(x, 1.0), 0.05, seed=seed)
    if task == "super":
        return downsample(x, 2)
    if task == "inpaint":
        return hide(x, box_masks(x.shape[1:], 3 * x.shape[2] // 8, len(x), seed=seed))
    return add_noise(x, 0.5, seed=seed) if task == "segment" else to_gray(x)


def wanted(task: str, x: np.ndarray) -> np.ndarray:
    """What is to be made of it."""
    return (x > 0.5).astype(float) if task == "segment" else x


def score(task: str, x: np.ndarray, y: np.ndarray, restored: np.ndarray) -> float:
    """PSNR, of the hidden pixels where some are hidden; IoU of the bright pixels."""
    if task == "segment":
        return float(iou(x, restored > 0.5, 2)[1])
    if task == "inpaint":
        hidden = np.broadcast_to(y[:, -1:] == 0, x.shape)
        return float(-10 * np.log10(((x - restored)[hidden] ** 2).mean()))
    return float(psnr(x, restored).mean())


def classical(task: str, x: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The methods of a task, tuned on training images."""
    if task == "color":
        offset = (x - to_gray(x)).mean((0, 2, 3))[:, None, None]
        return {"mean color": lambda y: y + offset}
    from skimage import filters, restoration, transform

    clean, some = wanted(task, x[:100]), corrupt(task, x[:100], 7)

    def each(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda y: np.stack([np.stack([function(c) for c in image]) for image in y])

    def best(family: Callable[[float], Any], values: Any) -> Any:
        return max((family(v) for v in values), key=lambda f: score(task, clean, some, f(some)))

    if task == "denoise":

        def variation(weight: float) -> Any:
            return each(partial(restoration.denoise_tv_chambolle, weight=weight))

        return {"total variation": best(variation, (0.05, 0.1, 0.2, 0.3, 0.5))}
    if task == "deblur":
        kernel = blur(np.eye(49)[24].reshape(1, 1, 7, 7), 1.0)[0, 0]

        def wiener(balance: float) -> Any:
            return each(lambda c: restoration.wiener(c, kernel, balance, clip=False))

        return {"Wiener": best(wiener, (0.003, 0.01, 0.03, 0.1, 0.3))}
    if task == "super":
        size = x.shape[2:]
        return {"bicubic": each(lambda c: transform.resize(c, size, order=3))}
    if task == "inpaint":

        def fill(y: np.ndarray) -> np.ndarray:
            masks = y[:, -1] == 0
            return np.stack(
                [
                    np.stack([restoration.inpaint_biharmonic(c, m) for c in image[:-1]])
                    for image, m in zip(y, masks)
                ]
            )

        return {"biharmonic": fill}

    def threshold(width: float) -> Any:
        def run(y: np.ndarray) -> np.ndarray:
            y = blur(y, width)
            return y > filters.threshold_otsu(y)

        return run

    return {"Otsu": best(threshold, (0.3, 0.5, 0.7, 1.0, 1.4))}


def linear(task: str, x: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The best linear restoration, where the corruption is one matrix for all images."""
    shape = x.shape[1:]
    if task in ("inpaint", "segment") or x[0].size > 1000:
        return {}
    operator = {
        "denoise": np.asarray,
        "deblur": partial(blur, width=1.0),
        "super": partial(downsample, factor=2),
    }[task]
    noise = {"denoise": 0.3, "deblur": 0.05, "super": 0.01}[task]
    flat = x.reshape(len(x), -1)
    best = linear_restorer(
        np.cov(flat.T), operator_matrix(operator, shape), noise**2, mean=flat.mean(0)
    )
    return {"linear": lambda y: best.restore(y).reshape(-1, *shape)}


def train(
    model: Any,
    arrays: Callable[[int], tuple[np.ndarray, ...]],
    arguments: argparse.Namespace,
    seed: int,
) -> Any:
    """A run over passes with corruptions of their own: `arrays(i)` for the i-th."""
    number = max(4, 20_000 // len(arrays(0)[0]))
    passes = [arrays(i) for i in range(number)]
    data = [np.concatenate(parts).astype("float32") for parts in zip(*passes)]
    return fit(
        model.model,
        model.guide,
        tuple(data) if len(data) > 1 else data[0],
        loss=NLL(),
        optim=Adam(2e-3),
        lr_schedule=Schedule((0, arguments.steps), (1.0, 0.05)),
        num_steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=seed,
        progress=False,
        device=arguments.device,
    )


def restore(arguments: argparse.Namespace, task: str, seed: int) -> dict[str, Any]:
    """Train and score one model."""
    x, _, x_test, _ = images(arguments.data, arguments.train, arguments.test)
    y_test, truth = corrupt(task, x_test, 99), wanted(task, x_test)
    torch.manual_seed(seed)
    shape, settings = truth.shape[1:], {"channels": arguments.channels}
    if task == "segment":
        settings["likelihood"] = Bernoulli(shape, context_shape=(16, *shape[1:]))
    settings["hidden_only"] = task == "inpaint"
    model, start = ImageToImage(shape, y_test.shape[1:], **settings), time.process_time()
    clean = wanted(task, x)

    def known(y: np.ndarray) -> Any:
        """What needs no net: the luminance, in colors."""
        return y if task == "color" else 0.0

    def pairs(index: int) -> tuple[np.ndarray, ...]:
        if task == "color" and index % 2:
            mirrored = x[..., ::-1]
            y = corrupt(task, mirrored, 0)
            return mirrored - y, y
        y = corrupt(task, x, 10 * seed + index)
        return clean - known(y), y

    run = train(model, pairs, arguments, seed)
    seconds = time.process_time() - start
    draws = predict(run, None, y_test.astype("float32"), num_draws=DRAWS, seed=seed)["x"]
    mean, draws = means(run, y_test) + known(y_test), draws + known(y_test)
    found = {"ours": score(task, truth, y_test, mean)}
    if task == "segment":
        found["accuracy"] = float(((mean > 0.5) == (truth > 0.5)).mean())
    for name, method in {**classical(task, x), **linear(task, x)}.items():
        found[name] = score(task, truth, y_test, method(y_test))
    row = {"task": task, "data": arguments.data, "seed": seed, "seconds": seconds}
    row |= {"channels": str(arguments.channels)[1:-1], "steps": arguments.steps, **found}
    if task != "segment":
        row |= covered(truth, draws)
    if seed == 0:
        picture = restorations(y_test[:SHOWN], draws[:, :SHOWN], truth[:SHOWN])
        save(picture, folder() / f"{arguments.data}-{task}.png")
    return row


def means(run: Any, y: np.ndarray) -> np.ndarray:
    """E[x | y]: the mean of the likelihood, by the trained networks of a run."""
    from pyro_dgm.evaluation import reconstruct

    shape = run.model.__self__.image_shape
    return reconstruct(run, np.zeros((len(y), *shape), "float32"), y.astype("float32"))["x"]


def covered(truth: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    """Of 90 %, over all pixels and those that are open."""
    open_ = draws.std(0) > 0.02
    return {
        "covered": coverage(truth, draws, (0.9,))[0].coverage,
        "covered open": coverage(truth[open_], draws[:, open_], (0.9,))[0].coverage,
        "open": float(open_.mean()),
    }


class Bottleneck(torch.nn.Module):
    """An encoder and a decoder with one code between them."""

    def __init__(self, shape: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.encoder = ConvEncoder(shape, out_dim=dim, activation="elu")
        self.decoder = ConvDecoder(dim, shape, activation="elu")
        self.out_shape = self.decoder.out_shape

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(y))


def probe(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Accuracies of three kinds of features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels, x_test, labels_test = images(arguments.data, arguments.train, 2000)
    shape, rng = x.shape[1:], np.random.default_rng(seed)
    torch.manual_seed(seed)
    patch = 4 if shape[1] > 8 else 2
    errors = Normal(shape[0] * patch**2, context_shape=32, scale=0.3)
    hidden = MaskedAutoencoder(shape, patch_size=patch, likelihood=errors)
    likelihood = DiagonalNormal(shape, context_shape=(16, *shape[1:]))
    denoiser = ImageToImage(shape, net=Bottleneck(shape, 64), likelihood=likelihood)
    seconds = {}
    start = time.process_time()
    run = train(hidden, lambda i: (x,), arguments, seed)
    seconds["masked autoencoder"] = time.process_time() - start
    start = time.process_time()
    train(denoiser, lambda i: (x, corrupt("denoise", x, 10 * seed + i)), arguments, seed)
    seconds["denoising autoencoder"] = time.process_time() - start

    def masked(x: np.ndarray) -> np.ndarray:
        every = hidden.every(len(x))
        codes = predict(run, x.astype("float32"), every, num_draws=1)["h"][0]
        return codes.reshape(len(x), -1)

    def denoised(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            y = torch.as_tensor(x, dtype=torch.float32, device=arguments.device)
            return denoiser.net.encoder(y).numpy(force=True)

    known, rows = rng.choice(len(x), 1000, replace=False), []
    features = {
        "raw pixels": lambda x: x.reshape(len(x), -1),
        "denoising autoencoder": denoised,
        "masked autoencoder": masked,
        "masked autoencoder, mean": lambda x: masked(x).reshape(len(x), -1, 64).mean(1),
    }
    for name, function in features.items():
        codes, codes_test = function(x[known]), function(x_test)
        logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
        nearest = make_pipeline(StandardScaler(), KNeighborsClassifier(5))
        scores = [
            c.fit(codes, labels[known]).score(codes_test, labels_test) for c in (logistic, nearest)
        ]
        row = {"features": name, "data": arguments.data, "seed": seed, "dim": codes.shape[1]}
        rows.append(row | {"linear": scores[0], "neighbors": scores[1]})
        rows[-1]["seconds"] = seconds.get(name, 0.0)
    return rows


def write_tables() -> None:
    """All results so far."""
    found = [json.loads(path.read_text()) for path in sorted(folder().glob("*.json"))]
    text = [f"# Restoration\n\n```\n{__doc__}```\n"]
    rows = [row for part in found for row in part["rows"] if "task" in row]
    for task in (*TASKS, "color"):
        some = [
            {k: v for k, v in row.items() if k != "task"} for row in rows if row["task"] == task
        ]
        if some:
            text.append(f"## {task}\n\n```\n{format_table(some)}\n```\n")
    probes = [row for part in found for row in part["rows"] if "features" in row]
    if probes:
        text.append(f"## probe\n\n```\n{format_table(probes)}\n```\n")
    folder().with_suffix(".md").write_text("\n".join(text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digits")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--channels", nargs="+", type=int, default=[16, 32])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--out", help="folder of results")
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.out:
        os.environ["DGM_RESULTS"] = arguments.out
    folder().mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")
    usual = (arguments.channels, arguments.steps) == ([16, 32], 2000)
    parts = "-".join(map(str, (*arguments.channels, arguments.steps)))
    for seed in arguments.seeds:
        for task in arguments.tasks:
            settings = "" if usual else f"-{parts}"
            path = folder() / f"{arguments.data}-{task}-{seed}{settings}.json"
            if path.exists() or time.monotonic() - began > arguments.seconds:
                continue
            rows = probe(arguments, seed) if task == "probe" else [restore(arguments, task, seed)]
            found = {"steps": arguments.steps, "train": arguments.train, "rows": rows}
            write_json(path, found)
            print(json.dumps(found), flush=True)
            write_tables()


if __name__ == "__main__":
    main()
