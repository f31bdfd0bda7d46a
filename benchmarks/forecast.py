"""Forecasts of real series: do the intervals cover what they promise, and is it better than
repeating the last season?

    python benchmarks/forecast.py [--series elnino co2] [--backend numpyro] [--seeds 0 1 2]

Protocol: "elnino" is the sea's surface temperature off Peru (Nino 1+2), monthly, 1950 to 2010, in
degrees Celsius; "co2" by how much carbon dioxide at Mauna Loa changed from month to month, 1965 to
2001, in parts per million. The model is a linear-Gaussian state-space model with its states summed
out (`LinearGaussian`), whose transition is told the month (one-hot control inputs); trained by
maximum likelihood on windows of 120 months, one starting in each half-year, that end before 1990
(co2: 1984). Forecasts of 12 months from 108 known ones, from the end of every month: those of
targets in 1990 to 1999 (1984 to 1992) are the validation stretch, on which the size of the state
was chosen by the CRPS (all settings are in the table); those of 2000 to 2010 (1993 to 2001) are
reported, and nothing was chosen there. 2,000 draws. "coverage" is that of 90% intervals over all
targets and steps ahead, "CRPS" their mean, beside that of `seasonal_naive` from the same months.
"+/-" is the standard error of the difference, over years of origins.

Each run leaves a file in benchmarks/results/forecast and is not repeated; the table goes to
benchmarks/results/forecast.md.
"""

import argparse
import json
import os
import platform
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import co2, elnino
from dgm_core.forecasting import crps, seasonal_naive
from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "forecast"
LENGTH, HORIZON, SEASON = 120, 12, 12
STRETCHES = {  # months since January 1950, or 1965
    "elnino": {"validation": (480, 600), "test": (600, 732)},
    "co2": {"validation": (228, 336), "test": (336, 444)},
}
SETTINGS = [(z_dim, 300) for z_dim in (1, 2, 4)]

READING = """Temperatures: covered and better than the naive forecast on each seed. Carbon dioxide:
better than the naive forecast, but 84.7 and 84.6 % of the stretch are covered where 85 to 95 were
wanted: missed by a little. What the months bring is constant in this model, and it moved: a month's
mean change after 1984 is .16 ppm (root mean square over months) from that before, where the changes
about the means of their months have a standard deviation of .30. The third seed was not run."""


def windows(name: str, starts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values (num, LENGTH, 1), about their mean in training, and months one-hot."""
    series = elnino() if name == "elnino" else np.diff(co2(), axis=0)[7:]
    series = series - series[: STRETCHES[name]["validation"][0]].mean()
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


def run_one(name: str, backend: str, z_dim: int, num_steps: int, seed: int) -> dict[str, Any]:
    """Train one model and measure its forecasts of both stretches."""
    model, guide, optim, library = model_of(backend, z_dim, seed)
    end = STRETCHES[name]["validation"][0]
    x, months = windows(name, np.arange(0, end - LENGTH + 1, 6))
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
    found: dict[str, Any] = {"series": name, "z_dim": z_dim, "steps": num_steps}
    found |= {"backend": backend, "seed": seed}
    for stretch, (first, end) in STRETCHES[name].items():
        origins = np.arange(first, end - HORIZON + 1)
        x, months = windows(name, origins - (LENGTH - HORIZON))
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
    parser.add_argument("--series", nargs="+", default=list(STRETCHES), choices=STRETCHES)
    parser.add_argument("--backend", default="numpyro", choices=["pyro", "numpyro"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    a = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for name, seed, (z_dim, num_steps) in product(a.series, a.seeds, SETTINGS):
        path = HERE / f"{name}-{z_dim}-{num_steps}-{a.backend}-{seed}.json"
        if not path.exists():
            write_json(path, run_one(name, a.backend, z_dim, num_steps, seed))
            print(path.read_text(), flush=True)
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    scores: dict[tuple[str, int, int], list[float]] = {}
    for one in results:
        setting = one["series"], one["z_dim"], one["steps"]
        scores.setdefault(setting, []).append(one["validation CRPS"])
    best: dict[str, Any] = {}
    for setting, _ in sorted(scores.items(), key=lambda item: -float(np.mean(item[1]))):
        best[setting[0]] = setting  # the last is the least
    rows = []
    for one in results:
        own = best[one["series"]] == (one["series"], one["z_dim"], one["steps"])
        kept = {column: value for column, value in one.items() if column != "hardware"}
        rows.append({**kept, "chosen": "*" if own else ""})
    text = format_table(rows, digits=3)
    print(text)
    (HERE.parent / "forecast.md").write_text(
        f"# Forecasts of real series\n\n{__doc__}\n```\n{text}\n```\n\nThe star marks the setting "
        "of a series with the best mean CRPS on the validation stretch.\n\n"
        f"{READING}\n\n"
        f"Hardware: {results[0]['hardware']}.\n"
    )


if __name__ == "__main__":
    main()
