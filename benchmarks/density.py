"""Test log-likelihoods of flows on two-dimensional toys with known densities and on tables of real
numbers.

    python benchmarks/density.py [--data eight_gaussians ... kin40k protein] [--flows Gaussian MADE
    ...] [--backends numpyro pyro] [--seed 0]

Protocol: maximum likelihood with Adam 1e-3 (decaying linearly to 1e-4), batches of 256 (toys) or
512 (tables), early stopping on the validation split with a patience of 10 epochs, the weights that
scored best there, at most 60 epochs (toys) or 50 (tables).
Toys: 10,000 / 2,000 / 2,000 points, hidden layers of 64-64; "true" is the mean log-density of the
same test points under the distribution that they were drawn from, so that the difference to it
estimates KL(truth, flow). Tables: 80 / 10 / 10 % splits by seed 0, standardized by the training
split; rows that occur twice are kept once (protein has 3 % of them, which would otherwise be both
in training and in test), and every column gets uniform noise of the width of its smallest step,
without which a density can rise without bound on values that repeat; hidden layers of 128-128.
Gaussian: full covariance, in closed form. MADE: one autoregressive layer. MAF: 5 layers. RealNVP:
10 affine couplings. NSF and AutoregressiveNSF: 5 spline layers of 8 bins on [-5, 5], couplings with
linear maps between them, and autoregressive. DGM_DATA_DIR may point to a folder that holds uci/.
Each run is a process of its own and leaves one JSON file in benchmarks/results/density; the table
of all runs goes to benchmarks/results/density.md. A finished run is not repeated.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from dgm_core.data import load
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule

HERE = Path(__file__).parent / "results" / "density"
SETUP = {
    "toy": {"hidden": (64, 64), "batch": 256, "epochs": 60},
    "table": {"hidden": (128, 128), "batch": 512, "epochs": 50},
}
FLOWS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "Gaussian": None,
    "MADE": ("MAF", {"num_layers": 1}),
    "MAF": ("MAF", {"num_layers": 5}),
    "RealNVP": ("RealNVP", {"num_layers": 10}),
    "NSF": ("NSF", {"num_layers": 5}),
    "AutoregressiveNSF": ("AutoregressiveNSF", {"num_layers": 5}),
}


def mixture_log_density(x: np.ndarray, centers: np.ndarray, scale: float) -> np.ndarray:
    """The log-density at x (num, 2) of normal distributions with equal weights around the centers
    (components, 2).
    """
    square = ((x[:, None] - centers) ** 2).sum(-1)
    return logsumexp(-0.5 * square / scale**2, axis=1) - np.log(2 * np.pi * scale**2 * len(centers))


def circle() -> np.ndarray:
    angles = 2 * np.pi * np.arange(8) / 8
    return 4 / np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], -1)


def moons(num: int = 2000) -> np.ndarray:
    angles = np.pi * (np.arange(num) + 0.5) / num
    upper = np.stack([np.cos(angles) - 0.5, np.sin(angles) - 0.25], -1)
    return 2 * np.concatenate([upper, -upper])


def arms(num: int = 4000) -> np.ndarray:
    angles = 3 * np.pi * np.sqrt((np.arange(num) + 0.5) / num)
    one = angles[:, None] * np.stack([-np.cos(angles), np.sin(angles)], -1) / 3
    return np.concatenate([one, -one])


# The curves of the moons and spirals are cut into so many pieces that the sum over them is the
# integral to 1e-6.
TRUE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "eight_gaussians": lambda x: mixture_log_density(x, circle(), 0.5 / np.sqrt(2)),
    "two_moons": lambda x: mixture_log_density(x, moons(), 0.2),
    "spirals": lambda x: mixture_log_density(x, arms(), 0.1),
    "checkerboard": lambda x: np.full(len(x), -np.log(32.0)),
}
TABLES = ("kin40k", "protein")


def splits(data: str) -> dict[str, np.ndarray]:
    """Training, validation and test data."""
    dataset = load(data)
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    if data in TRUE:
        return parts
    rng = np.random.default_rng(0)
    known: set[bytes] = set()
    for name, part in parts.items():
        new = [row for row in np.unique(part, axis=0) if row.tobytes() not in known]
        known.update(row.tobytes() for row in new)
        parts[name] = np.stack(new)
    steps = np.array([np.diff(np.unique(column)).min() for column in parts["train"].T])
    return {
        name: (part + steps * (rng.random(part.shape) - 0.5)).astype(np.float32)
        for name, part in parts.items()
    }


def gaussian(parts: dict[str, np.ndarray]) -> np.ndarray:
    """The log-density of the test data under the normal distribution that fits the training data
    best.
    """
    train, test = parts["train"].astype(float), parts["test"].astype(float)
    away, covariance = test - train.mean(0), np.cov(train.T, bias=True)
    distance = (away * np.linalg.solve(covariance, away.T).T).sum(1)
    return -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1])


def build(
    backend: str, flow: str, dim: int, hidden: tuple[int, ...], seed: int
) -> tuple[Callable, Any]:
    """A model whose only site is x ~ flow, and the backend's package."""
    name, settings = FLOWS[flow] or ("", {})
    if backend == "pyro":
        import torch
        from pyro import plate, sample

        import pyro_dgm as package

        torch.manual_seed(seed)
        density = getattr(package.flows, name)(dim, hidden=hidden, **settings)
    else:
        import jax
        from numpyro import plate, sample

        import numpyro_dgm as package  # type: ignore[no-redef]

        density = getattr(package.flows, name)(
            dim, hidden=hidden, **settings, key=jax.random.key(seed)
        )

    def model(x: Any) -> None:
        with plate("data", len(x)):
            sample("x", package.nn.register("flow", density)(), obs=x)

    return model, package


def run_one(backend: str, data: str, flow: str, seed: int) -> dict[str, Any]:
    """Train and score one flow."""
    parts = splits(data)
    result: dict[str, Any] = {
        "data": data,
        "flow": flow,
        "backend": "-" if flow == "Gaussian" else backend,
        "seed": seed,
        "num_test": len(parts["test"]),
    }
    start, epochs = time.perf_counter(), 0
    if flow == "Gaussian":
        scores = gaussian(parts)
    else:
        setup: dict[str, Any] = SETUP["toy" if data in TRUE else "table"]
        model, package = build(backend, flow, parts["train"].shape[1], setup["hidden"], seed)
        run = package.fit(
            model,
            None,
            parts["train"],
            loss=package.NLL(),
            validation=parts["validation"],
            validation_loss=package.NLL(),
            patience=10,
            num_epochs=setup["epochs"],
            batch_size=setup["batch"],
            drop_last=True,
            lr_schedule=Schedule(
                (0, setup["epochs"] * (len(parts["train"]) // setup["batch"])), (1.0, 0.1)
            ),
            seed=seed,
            progress=False,
        )
        epochs = run.epoch
        scores = package.log_weights(run, parts["test"], num_particles=1)[0]
    result |= {
        "log_likelihood": float(scores.mean()),
        "standard_error": float(scores.std() / len(scores) ** 0.5),
        "epochs": epochs,
    }
    if data in TRUE:
        result["true"] = float(TRUE[data](parts["test"].astype(float)).mean())
    return result | {
        "minutes": (time.perf_counter() - start) / 60,
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def table(results: list[dict[str, Any]]) -> str:
    """One row per data set and flow."""
    rows = []
    for r in results:
        row = {name: r[name] for name in ("data", "backend", "flow", "seed")}
        row |= {"log-likelihood": r["log_likelihood"], "std. error": r["standard_error"]}
        row |= {
            "below true": r["true"] - r["log_likelihood"] if "true" in r else None,
            "epochs": r["epochs"] or None,
            "minutes": round(r["minutes"], 2),
        }
        rows.append(row)
    return format_table(rows)


def order(results: list[dict[str, Any]]) -> str:
    """Which flow is above which, counted over data sets, backends and seeds; the Gaussian has
    neither backend nor seed.
    """
    score = {(r["data"], r["flow"], r["backend"], r["seed"]): r["log_likelihood"] for r in results}
    lines = []
    for above, below in (
        ("MAF", "Gaussian"),
        ("MAF", "MADE"),
        ("NSF", "MAF"),
        ("AutoregressiveNSF", "MAF"),
        ("NSF", "RealNVP"),
    ):
        others = [
            (data, below, "-", 0) if below == "Gaussian" else (data, below, *rest)
            for data, flow, *rest in score
            if flow == above
        ]
        own = [key for key in score if key[1] == above]
        wins = [score[a] > score[b] for a, b in zip(own, others) if b in score]
        lines.append(f"- {above} above {below}: {sum(wins)} of {len(wins)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=[*TRUE, *TABLES], choices=[*TRUE, *TABLES])
    parser.add_argument("--flows", nargs="+", default=list(FLOWS), choices=list(FLOWS))
    parser.add_argument(
        "--backends", nargs="+", default=["numpyro", "pyro"], choices=["pyro", "numpyro"]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        write_json(
            arguments.one,
            run_one(arguments.backends[0], arguments.data[0], arguments.flows[0], arguments.seed),
        )
        return
    for backend in arguments.backends:
        for data in arguments.data:
            for flow in arguments.flows:
                label = flow if flow == "Gaussian" else f"{flow}-{backend}"
                path = HERE / f"{data}-{label}-{arguments.seed}.json"
                if not path.exists():
                    command = [
                        sys.executable,
                        __file__,
                        "--one",
                        str(path),
                        "--backends",
                        backend,
                        "--seed",
                        str(arguments.seed),
                    ]
                    subprocess.run([*command, "--data", data, "--flows", flow], check=True)
    places = [
        (data, backend, flow)
        for data in (*TRUE, *TABLES)
        for backend in ("-", "numpyro", "pyro")
        for flow in FLOWS
    ]
    results = [json.loads(path.read_text()) for path in HERE.glob("*.json")]
    results.sort(key=lambda r: (places.index((r["data"], r["backend"], r["flow"])), r["seed"]))
    text = table(results)
    print(text)
    protocol = (
        (__doc__ or "").split("Protocol: ")[1].split("DGM_DATA_DIR")[0].replace("\n", " ").strip()
    )
    head = [
        "# Flows as densities",
        "",
        protocol,
        "",
        (
            f"Nats per test datum; {results[0]['hardware']}, one thread, with other work running "
            "beside."
        ),
        "",
    ]
    (HERE.parent / "density.md").write_text(
        "\n".join([*head, "```", text, "```", "", order(results), ""])
    )


if __name__ == "__main__":
    main()
