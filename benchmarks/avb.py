"""Adversarial variational Bayes on its four-point toy: a guide without a density against a Gaussian
one.

    python benchmarks/avb.py [--backends numpyro pyro] [--seeds 0 1]

Protocol: the data are the four 2x2 images with one pixel on, 16 copies of each; a VAE with a
two-dimensional latent and layers of 64-64 ReLU units, trained for 10,000 steps on all the data with
Adam (2e-3, betas 0.5 and 0.99), the learning rate falling as 1 / (1 + step / 2500), and the average
of the weights (decay 0.999). The guide is a Gaussian, trained by the ELBO, or a Generator with four
noise units, trained by RatioELBO (adaptive contrast, 16 particles, two critic steps). Reported: the
exact log-likelihood per image, by a grid of 241 x 241 codes; the optimum is -ln 4 = -1.38629, and
-2.249 means that the codes are not used: one Gaussian run comes near it. With 6,000 steps one
implicit run of four was at -1.434, the Gaussian ones at -1.51 to -1.55. Each run leaves one JSON
file in benchmarks/results/avb, the table of all goes to benchmarks/results/avb.md. A finished run
is not repeated.
Reference: Mescheder, Nowozin and Geiger (2017), arXiv:1701.04722, section 6.1: Gaussian VAE -1.568,
    AVB -1.403.
"""

import argparse
import importlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "avb"
STEPS, HIDDEN = 10_000, (64, 64)
IMAGES = np.eye(4, dtype=np.float32)


def log_likelihood(logits: Any, codes: np.ndarray) -> float:
    """Mean over the images of log p(x), from the decoder's logits at a grid of codes."""
    log_px = -np.logaddexp(0, -logits) @ IMAGES.T - np.logaddexp(0, logits) @ (1 - IMAGES).T
    weights = np.exp(-0.5 * (codes**2).sum(1))
    return float(np.log((weights / weights.sum()) @ np.exp(log_px)).mean())


def run_one(backend: str, guide: str, seed: int) -> dict[str, Any]:
    package = importlib.import_module(f"{backend}_dgm")
    keys: list[dict[str, Any]] = [{}, {}]
    if backend == "pyro":
        import torch

        torch.manual_seed(seed)
    else:
        import jax

        keys = [{"key": key} for key in jax.random.split(jax.random.key(seed))]
    adam = package.Adam(1e-3, betas=(0.5, 0.99))
    posterior = (
        package.nn.Generator(2, noise_dim=4, hidden=HIDDEN, context_shape=HIDDEN[-1], **keys[0])
        if guide == "implicit"
        else None
    )
    loss = (
        package.losses.RatioELBO(contrast="adaptive", num_particles=16, critic_steps=2, optim=adam)
        if guide == "implicit"
        else package.ELBO()
    )
    vae = package.VAE(4, 2, hidden=HIDDEN, posterior=posterior, **keys[1])
    start = time.perf_counter(), time.process_time()
    run = package.fit(
        vae.model,
        vae.guide,
        np.tile(IMAGES, (16, 1)),
        loss=loss,
        optim=package.Adam(2e-3, betas=(0.5, 0.99)),
        num_epochs=STEPS,
        average=0.999,
        lr_schedule=lambda step: 1 / (1 + step / (STEPS / 4)),
        seed=seed,
        progress=False,
    )
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    axis = np.linspace(-6, 6, 241)
    codes = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)
    if backend == "pyro":
        with torch.no_grad():
            logits = vae.likelihood.head(vae.decoder(torch.as_tensor(codes))).numpy()
    else:
        import equinox as eqx

        decoder, likelihood = (
            eqx.combine(run.params[f"{name}$params"], getattr(vae, name))
            for name in ("decoder", "likelihood")
        )
        logits = np.asarray(likelihood.head(decoder(codes)))
    return {
        "backend": backend,
        "guide": guide,
        "seed": seed,
        "log_likelihood": log_likelihood(logits, codes),
        "seconds": seconds,
        "cpu_seconds": cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backends", nargs="+", default=["numpyro", "pyro"], choices=["pyro", "numpyro"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    for backend in arguments.backends:
        for seed in arguments.seeds:
            for guide in ("Gaussian", "implicit"):
                path = HERE / f"{backend}-{guide}-{seed}.json"
                if not path.exists():
                    write_json(path, run_one(backend, guide, seed))
                print(path.read_text(), flush=True)
    protocol = (__doc__ or "").split("Protocol: ")[1].replace("\n", " ").strip()
    protocol = protocol[0].upper() + protocol[1:]
    hardware = (
        f"{os.cpu_count()} CPU cores, {platform.machine()}, one thread, with other work "
        "running beside (the times are upper bounds)."
    )
    rows = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    lines = [
        "# Adversarial variational Bayes on four images",
        "",
        protocol,
        "",
        hardware,
        "",
        "```",
        format_table(rows),
        "```",
        "",
    ]
    HERE.with_suffix(".md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
