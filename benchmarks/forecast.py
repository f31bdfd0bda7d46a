"""Forecasts of a real series: do the intervals cover what they promise, and is it better than
repeating the last season?

    python benchmarks/forecast.py [--backend numpyro] [--seeds 0 1 2]

Protocol: the sea's surface temperature off Peru (Nino 1+2), monthly, 1950 to 2010. The model is a
linear-Gaussian state-space model with its states summed out (`LinearGaussian`), whose transition is
told the month (one-hot control inputs); trained by maximum likelihood on windows of 120 months, one
starting in each half-year, that end before 1990. Forecasts of 12 months from 108 known ones, from
the end of every month: those of targets in 1990 to 1999 are the validation stretch, on which the
size of the state was chosen by the CRPS (all settings are in the table);
those of 2000 to 2010 are reported, and nothing was chosen there. 2,000 draws. "coverage" is that of
90% intervals over all targets and steps ahead, "CRPS" their mean in degrees Celsius, beside that of
`seasonal_naive` from the same months. "+/-" is the standard error of the difference, over
years of origins.

Each run leaves a file in benchmarks/results/forecast and is not repeated; the table goes to
benchmarks/results/forecast.md.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import elnino
from dgm_core.forecasting import crps, seasonal_naive
from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "forecast"
LENGTH, HORIZON, SEASON = 120, 12, 12
STRETCHES = {"validation": (480, 600), "test": (600, 732)}  # months since January 1950
SETTINGS = [(z_dim, 300) for z_dim in (1, 2, 4)]


def windows(starts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures (num, LENGTH, 1), about their mean before 1990, and months one-hot."""
    series = elnino() - elnino()[:480].mean()
    steps = np.asarray(starts)[:, None] + np.arange(LENGTH)
    return series[steps], np.eye(SEASON, dtype=np.float32)[steps % SEASON]


def model_of(backend: str, z_dim: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Model, guide, optimizer and library."""
    key: dict[str, Any] = {}
    if backend == "pyro":
        import pyro as ppl
        import torch

        import pyro_dgm as library

        torch.manual_seed(seed)
    else:
        import jax
        import numpyro as ppl

        import numpyro_dgm as library

        key = {"key": jax.random.key(seed)}
    parts, register = library.conditionals, library.nn.register
    transition = parts.LinearNormal(z_dim, context_shape=(z_dim, (SEASON,)), **key)
    prior = parts.Markov(transition, LENGTH, initial=parts.LinearNormal(z_dim, **key))
    emission = parts.LinearNormal(1, context_shape=z_dim, **key)
    series = parts.LinearGaussian(prior, emission)

    def model(x: Any, months: Any, lengths: Any) -> None:
        with ppl.plate("data", len(x)):
            ppl.sample("x", register("series", series)(months, lengths), obs=x)

    def guide(x: Any, months: Any, lengths: Any) -> None:
        pass

    return model, guide, library.training.Adam(1e-2), library


def run_one(backend: str, z_dim: int, num_steps: int, seed: int) -> dict[str, Any]:
    """Train one model and measure its forecasts of both stretches."""
    model, guide, optim, library = model_of(backend, z_dim, seed)
    x, months = windows(np.arange(0, 480 - LENGTH + 1, 6))
    start = time.process_time()
    run = library.fit(
        model,
        guide,
        (x, months, np.full(len(x), LENGTH)),
        loss=library.losses.NLL(),
        optim=optim,
        num_steps=num_steps,
        seed=seed,
        progress=False,
    )
    found: dict[str, Any] = {"z_dim": z_dim, "steps": num_steps, "backend": backend, "seed": seed}
    for stretch, (first, end) in STRETCHES.items():
        origins = np.arange(first, end - HORIZON + 1)
        x, months = windows(origins - (LENGTH - HORIZON))
        lengths = np.full(len(x), LENGTH - HORIZON)
        truth = x[:, -HORIZON:]
        forecast = library.evaluation.forecast(
            run, x, months, lengths, horizon=HORIZON, num_draws=2000, chunk_size=50_000, seed=seed
        )
        naive = seasonal_naive(x[:, :-HORIZON], HORIZON, SEASON, num_draws=2000, seed=seed)
        scores = forecast.scores(truth)
        theirs = crps(naive, truth)
        gain = (theirs - crps(forecast.of("x"), truth)).mean((1, 2))
        years = gain[: len(gain) // 12 * 12].reshape(-1, 12).mean(1)
        found[f"{stretch} coverage"] = scores["coverage"]
        found[f"{stretch} CRPS"] = scores["CRPS"]
        found[f"{stretch} naive"] = float(theirs.mean())
        found[f"{stretch} +/-"] = float(years.std(ddof=1) / len(years) ** 0.5)
    found["CPU seconds"] = round(time.process_time() - start)
    return {**found, "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="numpyro", choices=["pyro", "numpyro"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    a = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        for z_dim, num_steps in SETTINGS:
            path = HERE / f"{z_dim}-{num_steps}-{a.backend}-{seed}.json"
            if not path.exists():
                write_json(path, run_one(a.backend, z_dim, num_steps, seed))
                print(path.read_text(), flush=True)
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    best: dict[tuple[int, int], list[float]] = {}
    for one in results:
        best.setdefault((one["z_dim"], one["steps"]), []).append(one["validation CRPS"])
    chosen = min(best, key=lambda setting: float(np.mean(best[setting])))
    rows = [
        {**{n: v for n, v in one.items() if n != "hardware"}, "chosen": "*" if own else ""}
        for one in results
        for own in [(one["z_dim"], one["steps"]) == chosen]
    ]
    text = format_table(rows, digits=3)
    print(text)
    (HERE.parent / "forecast.md").write_text(
        f"# Forecasts of a real series\n\n{__doc__}\n```\n{text}\n```\n\n"
        f"The star marks the setting with the best mean CRPS on the validation stretch.\n\n"
        f"Hardware: {results[0]['hardware']}.\n"
    )


if __name__ == "__main__":
    main()
