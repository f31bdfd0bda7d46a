"""Throughput and memory of `log_likelihood`, and what each number says of one trained VAE.

    python benchmarks/likelihood.py speed [--backends pyro numpyro] [--data 1024] [--particles 512]
        [--chunk 32768]
    python benchmarks/likelihood.py memory [--backends ...]
    python benchmarks/likelihood.py bounds [--backends ...] [--epochs 5] [--images 20]

`speed`: VAE 784-200-200-50, importance weights per second of processor time, against a vectorized
loop written by hand in the same framework, which runs the encoder once per batch of images, draws
as many particles at once, and keeps a running log-sum; by default in the chunks that
`log_likelihood` takes. Both run in turns in one process; what
counts is the median of the ratios of neighbors, with what a call does once (it compiles, in
NumPyro) taken off: three times the particles less once. The target is 0.95.

`memory`: the peak of a process for twice the data, twice the particles and half the chunk.

`bounds`: the VAE of `mnist.py`, trained a little; ELBO, IWAE-500, JVI, AIS from both sides on test
images, and BDMC on simulated ones, with standard errors. DGM_DATA_DIR may point to a folder that
holds mnist/; a run that was killed continues.  Results of all go to benchmarks/results/likelihood.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "likelihood"
HIDDEN, Z_DIM = (200, 200), 50


def images(num: int) -> np.ndarray:
    """Binary images with dark borders."""
    rng = np.random.default_rng(0)
    maps = np.kron(rng.normal(size=(num, 7, 7)), np.ones((4, 4)))
    return (maps > 0.5).reshape(num, 784).astype(np.float32)


def model_of(backend: str) -> tuple[Any, Any]:
    """The VAE and the module `evaluation`."""
    if backend == "pyro":
        import torch

        from pyro_dgm import VAE, evaluation

        torch.manual_seed(0)
        return VAE(784, Z_DIM, hidden=HIDDEN), evaluation
    import jax

    from numpyro_dgm import VAE, evaluation

    return VAE(784, Z_DIM, hidden=HIDDEN, key=jax.random.key(0)), evaluation


def torch_by_hand(x: np.ndarray, rows: int, num_particles: int, chunk: int) -> Callable:
    """L_K of all images in plain PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    encoder = nn.Sequential(
        nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 2 * Z_DIM)
    )
    decoder = nn.Sequential(
        nn.Linear(Z_DIM, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 784)
    )
    data = torch.as_tensor(x)

    @torch.no_grad()
    def bounds() -> np.ndarray:
        found = []
        for batch in data.split(rows):
            mean, log_scale = encoder(batch).chunk(2, -1)
            scale, total = log_scale.exp(), torch.full((len(batch),), -torch.inf)
            for _ in range(num_particles // chunk):
                noise = torch.randn(chunk, *mean.shape)
                z = mean + scale * noise
                logits = decoder(z)
                log_x = -F.binary_cross_entropy_with_logits(
                    logits, batch.expand_as(logits), reduction="none"
                ).sum(-1)
                log_ratio = -0.5 * (z**2 - noise**2).sum(-1) + log_scale.sum(-1)
                total = torch.logaddexp(total, (log_x + log_ratio).logsumexp(0))
            found.append(total - np.log(num_particles))
        return torch.cat(found).numpy()

    return bounds


def jax_by_hand(x: np.ndarray, rows: int, num_particles: int, chunk: int) -> Callable:
    """L_K of all images in plain JAX."""
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    sizes = ((784, 200), (200, 200), (200, 2 * Z_DIM), (Z_DIM, 200), (200, 200), (200, 784))
    keys = jax.random.split(key, len(sizes))
    weights = [
        (jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes)
    ]

    def network(layers: Any, h: Any) -> Any:
        for index, (w, b) in enumerate(layers):
            h = h @ w + b
            h = jax.nn.relu(h) if index < len(layers) - 1 else h
        return h

    @jax.jit
    def encoded(weights: Any, batch: Any) -> Any:
        return jnp.split(network(weights[:3], batch), 2, -1)

    @jax.jit
    def step(weights: Any, key: Any, batch: Any, mean: Any, log_scale: Any, total: Any) -> Any:
        noise = jax.random.normal(key, (chunk, *mean.shape))
        z = mean + jnp.exp(log_scale) * noise
        logits = network(weights[3:], z)
        log_x = (batch * logits - jax.nn.softplus(logits)).sum(-1)
        log_ratio = -0.5 * (z**2 - noise**2).sum(-1) + log_scale.sum(-1)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_x + log_ratio, 0))

    def bounds() -> np.ndarray:
        found, key = [], jax.random.key(1)
        for begin in range(0, len(x), rows):
            batch = x[begin : begin + rows]
            mean, log_scale = encoded(weights, batch)
            total = jnp.full(len(batch), -jnp.inf)
            for _ in range(num_particles // chunk):
                key, own = jax.random.split(key)
                total = step(weights, own, batch, mean, log_scale, total)
            found.append(np.asarray(total) - np.log(num_particles))
        return np.concatenate(found)

    return bounds


def speed(
    backend: str, num_data: int, num_particles: int, rounds: int, chunk: int
) -> dict[str, Any]:
    """The ratio of weights per second."""
    from dgm_core.evaluation import streamed

    vae, evaluation = model_of(backend)
    x = images(num_data)
    plan = streamed(num_particles, num_data, chunk, split=True)
    rows = num_data if plan.rows[0] is None else len(plan.rows[0])
    make = torch_by_hand if backend == "pyro" else jax_by_hand
    by_hand = make(x, rows, num_particles, plan.num_particles)

    def ours(times: int) -> np.ndarray:
        options = {"num_particles": times * num_particles, "chunk_size": chunk, "progress": False}
        return evaluation.log_likelihood(vae, x, **options)["IWAE"]

    def seconds(function: Callable) -> float:
        before = time.process_time()  # others may use the machine
        assert np.isfinite(function()).all()
        return time.process_time() - before

    def marginal() -> float:
        """Without what a call does once: looks at the model, compiles (NumPyro)."""
        return seconds(lambda: ours(3)) - seconds(lambda: ours(1))

    by_hand()  # compile
    pairs = [(2 * seconds(by_hand), marginal()) for _ in range(rounds)]
    ratios = sorted(hand / own for hand, own in pairs)
    weights = 2 * num_data * num_particles
    return {
        "backend": backend,
        "rows x particles at once": f"{rows} x {plan.num_particles}",
        "by hand (weights/s)": round(weights / np.median([hand for hand, _ in pairs])),
        "log_likelihood": round(weights / np.median([own for _, own in pairs])),
        "ratio": round(float(np.median(ratios)), 3),
        "range": f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
    }


def memory(backend: str, num_data: int, num_particles: int, chunk: int) -> dict[str, Any]:
    """Megabytes beyond what the process had after a first small call."""
    vae, evaluation = model_of(backend)
    x = images(num_data)
    evaluation.log_likelihood(vae, x[:4], num_particles=2, progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    report = evaluation.log_likelihood(
        vae, x, num_particles=num_particles, chunk_size=chunk, progress=False
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {
        "backend": backend,
        "images": num_data,
        "particles": num_particles,
        "chunk": chunk,
        "MB of all weights": round(num_data * num_particles * 8 / 1e6, 1),
        "peak MB beyond the start": round(peak - before, 1),
        "note": report.notes[-1],
    }


def bounds(backend: str, num_epochs: int, num_images: int, steps: int, chains: int) -> list[dict]:
    """ELBO, IWAE-500, JVI and AIS of a VAE, and BDMC on what it makes."""
    from dgm_core.data import binarize, load
    from dgm_core.diagnostics import summary

    data = load("mnist")
    test = binarize(data.test, "static", seed=0)[:num_images]
    vae, evaluation = model_of(backend)
    start = time.perf_counter()
    if backend == "pyro":
        from pyro_dgm import training
    else:
        from numpyro_dgm import training
    run = training.fit(
        vae.model,
        vae.guide,
        np.concatenate([data.train, data.validation]),
        transform=training.binarize,
        num_epochs=num_epochs,
        batch_size=128,
        optim=training.Adam(1e-3),
        seed=0,
    )
    print(f"trained in {time.perf_counter() - start:.0f} s", flush=True)
    rows = []

    def row(name: str, values: np.ndarray, error: np.ndarray | None, seconds: float) -> None:
        own = None if error is None else float(np.sqrt((error**2).sum()) / len(values))
        rows.append(
            {
                "backend": backend,
                "number": name,
                "mean": round(float(values.mean()), 3),
                "s.e. of the data": round(float(values.std(ddof=1) / len(values) ** 0.5), 3),
                "Monte Carlo s.e.": None if own is None else round(own, 3),
                "seconds": round(seconds, 1),
            }
        )

    before = time.perf_counter()
    report = summary(evaluation.log_weights(run, test, num_particles=500))
    taken = time.perf_counter() - before
    for name in ("ELBO", "IWAE", "JVI-1", "JVI-2"):
        row("IWAE-500" if name == "IWAE" else name, report[name], None, taken)
    options = {"steps": steps, "chains": chains}
    for name in ("ais", "bdmc"):
        before = time.perf_counter()
        found = getattr(evaluation, name)(
            run, test, checkpoint=f"runs/likelihood/{backend}-{name}", **options
        )
        taken = time.perf_counter() - before
        label = "AIS" if name == "ais" else "BDMC, simulated images:"
        row(f"{label} lower", found.lower, found["AIS error"], taken)
        row(f"{label} upper", found.upper, found["reverse AIS error"], taken)
        row(f"{label} gap", found.gap, None, taken)
        if name == "ais":
            row("AIS lower - IWAE-500", found.lower - report["IWAE"], found["AIS error"], taken)
            print(found.acceptance, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "memory", "bounds"))
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--data", type=int, default=1024)
    parser.add_argument("--particles", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=32_768)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        found = {
            "speed": lambda b: [
                speed(b, options.data, options.particles, options.rounds, options.chunk)
            ],
            "bounds": lambda b: bounds(
                b, options.epochs, options.images, options.steps, options.chains
            ),
            "memory": lambda b: [memory(b.split()[0], *map(int, b.split()[1:]))],
        }[options.what](options.one)
        print(f"\nfound {json.dumps(found)}")
        return
    cases = options.backends
    if options.what == "memory":
        sizes = ("512 500 4096", "1024 500 4096", "512 1000 4096", "512 500 2048", "512 500 16384")
        cases = [f"{backend} {size}" for backend in options.backends for size in sizes]
    rows = []
    for case in cases:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--one", case],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows += json.loads(done.stdout.rsplit("found ", 1)[1])
    print(format_table(rows))
    write_json(HERE / f"{options.what}.json", {"machine": platform.processor(), "rows": rows})


if __name__ == "__main__":
    main()
