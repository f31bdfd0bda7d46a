"""Five posteriors of posteriordb, one line each: guides at default settings against the reference.

    python benchmarks/posteriors.py [--backends numpyro pyro] [--seeds 0] [--names kidiq garch ...]
        [--families ...] [--jobs 12] [--seconds 480] [--out DIRECTORY] [--hardware ...]

Protocol: `fit(model, JointGuide(model, family), data, seed=seed)` and nothing else: the start and
the recipe are the defaults. The models are those of posteriors_models.py, the data
and 10 x 1,000 reference draws are of posteriordb (DGM_DATA_DIR). 10,000 weights give ELBO, IWAE and
k-hat; 8,000 draws give "off", the largest distance of a mean in reference standard deviations, and
"sd", the smallest and largest ratio of standard deviations. Single precision. Families: diagonal
normal (mean field), normal of full rank, IAF and NSF of two layers; "tails first" is an IAF that
also begins with learned tails (it ends in them anyway). Each run leaves one JSON file
in benchmarks/results/posteriors, the table goes to benchmarks/results/posteriors.md. A finished
run is not repeated. The mixture has ordered means; "centered" is eight schools with theta ~
Normal(mu, tau), whose posterior is the same. A guide that raises is a row with the error.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from models_data import PROBLEMS
from posteriors_models import model_of

from dgm_core.diagnostics import summary
from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "posteriors"
NAMES = ("eight_schools", "centered", "kidiq", "garch", "gauss_mix", "diamonds")
FAMILIES = ("mean field", "full rank", "IAF", "NSF", "tails first")
FLOWS = ("IAF", "NSF", "tails first")
OFF, SPREAD, KHAT, MINUTES = 0.1, 0.1, 0.7, 3  # the limits
COLUMNS = (
    "posterior",
    "backend",
    "guide",
    "seed",
    "ELBO",
    "IWAE",
    "k-hat",
    "off",
    "sd",
    "fit_s",
    "cpu_s",
    "hardware",
)


def guide_of(backend: str, family: str, model: Any, seed: int) -> Any:
    """One line of a user."""
    package = importlib.import_module(f"{backend}_dgm")
    families = {
        "mean field": package.conditionals.DiagonalNormal,
        "full rank": package.conditionals.FullRankNormal,
        "IAF": partial(package.flows.IAF, num_layers=2),
        "NSF": partial(package.flows.NSF, num_layers=2),
        "tails first": partial(tails_first, package.flows),
    }
    key = {}
    if backend == "pyro":
        importlib.import_module("pyro").clear_param_store()
        importlib.import_module("torch").manual_seed(seed)
    else:
        key = {"key": importlib.import_module("jax").random.key(seed)}
    return package.JointGuide(model, families[family], **key)


def tails_first(flows: Any, dim: int, **key: Any) -> Any:
    """An IAF of two layers after learned tails."""
    return flows.Flow(
        dim, [flows.SinhArcsinh(dim), *flows.IAF(dim, num_layers=2, **key).transforms]
    )


def run_one(
    backend: str, name: str, family: str, seed: int, hardware: str, steps: int | None
) -> dict[str, Any]:
    """Fit one guide and hold it beside the reference."""
    problem = PROBLEMS[name if name != "centered" else "eight_schools"]()
    package = importlib.import_module(f"{backend}_dgm")
    model = model_of(backend, name)
    if backend == "pyro":
        importlib.import_module("torch").set_num_threads(1)
    start, before = time.perf_counter(), time.process_time()
    guide = guide_of(backend, family, model, seed)
    options, num = ({}, 10_000) if steps is None else ({"num_steps": steps}, 100)
    run = package.fit(model, guide, problem.data, seed=seed, progress=False, **options)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - before
    weights = package.log_weights(run, problem.data, num_particles=num, seed=seed + 1)
    report = summary(weights)
    sample = package.evaluation.sample_posterior
    draws = sample(run, problem.data, num_draws=min(num, 8000), seed=seed)
    off, ratios = [], []
    for key in problem.keys:
        mean, sd = (np.reshape(x, draws[key].shape[1:]) for x in (problem.reference or {})[key])
        off.append(np.max(np.abs(draws[key].mean(0) - mean) / sd))
        ratios += list(np.ravel(draws[key].std(0) / sd))
    return {
        "posterior": name,
        "backend": backend,
        "guide": family,
        "seed": seed,
        "ELBO": report.mean("ELBO"),
        "IWAE": report.mean("IWAE"),
        "k-hat": float(report["k-hat"][0]),
        "off": float(max(off)),
        "sd": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "fit_s": seconds,
        "cpu_s": cpu_seconds,
        "hardware": hardware,
    }


def attempt(path: Path, *task: Any) -> str:
    """One run into its file; an error is a row."""
    try:
        row = run_one(*task)
    except Exception as error:  # a row of the table
        backend, name, family, seed = task[:4]
        row = {"posterior": name, "backend": backend, "guide": family, "seed": seed}
        row |= {"failed": f"{type(error).__name__}: {error}"[:300]}
    write_json(path, row)
    return str(row)


def run_all(tasks: list[tuple], jobs: int, seconds: float) -> None:
    """All of them, side by side, the first ones first; what is not begun in time is left out, what
    is not finished in time is ended."""
    end = time.monotonic() + seconds
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    waiting = [pool.submit(attempt, *task) for task in tasks]
    try:
        for future in as_completed(waiting, timeout=max(0.0, end - time.monotonic())):
            print(future.result(), flush=True)
    except TimeoutError:
        print(f"{sum(not future.done() for future in waiting)} runs were left out", flush=True)
    processes = multiprocessing.active_children()
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def beyond(rows: list[dict[str, Any]]) -> list[str]:
    """The runs beyond a limit, and which."""
    found = []
    for row in (row for row in rows if "cpu_s" in row or "failed" in row):
        name = f"{row['posterior']}, {row['backend']}, {row['guide']}, seed {row['seed']}"
        if "failed" in row:
            found.append(f"{name}: {row['failed']}")
            continue
        low, high = map(float, row["sd"].split(" to "))
        problems = {
            f"off {row['off']:.3f}": row["off"] > OFF,
            f"sd {row['sd']}": low < 1 - SPREAD or high > 1 + SPREAD,
            f"k-hat {row['k-hat']:.3f}": row["guide"] in FLOWS and row["k-hat"] >= KHAT,
            f"{row['cpu_s']:.0f} s": row["cpu_s"] > 60 * MINUTES,
        }
        if any(problems.values()):
            found.append(f"{name}: {', '.join(x for x, missed in problems.items() if missed)}")
    return found


def write_table() -> None:
    rows = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    order = (NAMES, ("numpyro", "pyro"), FAMILIES)
    fields = ("posterior", "backend", "guide")
    rows.sort(
        key=lambda row: (
            *(o.index(row[f]) for o, f in zip(order, fields, strict=True)),
            row["seed"],
        )
    )
    protocol = (__doc__ or "").split("Protocol: ")[1].replace("\n", " ").strip()
    lines = [
        "# Five posteriors at default settings",
        "",
        protocol,
        "",
        f"{os.cpu_count()} CPU cores, {platform.machine()}, one thread, with other work running "
        "beside (fit_s, with compiling, is an upper bound; cpu_s is the processor time of the fit,",
        "about what it takes on a quiet machine).",
        "",
        "A row without cpu_s is of earlier defaults, before the step of the recipe rose at "
        "first. The normal of full",
        "rank cannot reach the smallest standard deviation of garch (0.87 to 0.90) nor the shape "
        "of eight schools; the diagonal",
        "one none of the five in every standard deviation, and where latents are strongly "
        "correlated it has not arrived (kidiq in",
        "Pyro, diamonds).",
        "",
        f"Limits: off {OFF}, sd within {SPREAD:.0%}, k-hat {KHAT} for a flow, {MINUTES} minutes of "
        "processor. Beyond them, of the rows with cpu_s:",
        "",
        *(f"- {line}" for line in beyond(rows) or ["none"]),
        "",
        "```",
        format_table([{name: row.get(name) for name in COLUMNS} for row in rows], COLUMNS),
        "```",
        "",
    ]
    HERE.with_suffix(".md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", default=["numpyro", "pyro"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--names", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--families", nargs="+", default=list(FAMILIES[:4]), choices=list(FAMILIES))
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=1e9, help="what is not done then is left")
    parser.add_argument("--steps", type=int, help="fewer, to try the script; no table")
    parser.add_argument("--out", type=Path, default=HERE, help="for the JSON files")
    parser.add_argument("--hardware", default="2 shared CPU cores")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tasks = []
    for family in arguments.families:
        for name in arguments.names:
            for seed in arguments.seeds:
                for backend in arguments.backends:
                    end = f"{name}-{backend}-{family.replace(' ', '_')}-{seed}.json"
                    if not (path := arguments.out / end).exists():
                        run = backend, name, family, seed, arguments.hardware, arguments.steps
                        tasks.append((path, *run))
    run_all(tasks, arguments.jobs, arguments.seconds)
    if arguments.out == HERE and arguments.steps is None:
        write_table()


if __name__ == "__main__":
    main()
