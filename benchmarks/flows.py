"""Speed of a masked autoregressive flow in both directions, beside zuko, nflows, normflows and Pyro
(torch), FlowJAX and NumPyro (JAX).

    python benchmarks/flows.py [--sizes 8 64 256 784] [--repeat 15] [--backends torch jax]
    [--threads 2] [--json]

One affine layer with two hidden layers; noise Normal(0, I); float32. Measured in turn, in one
process per size and backend: log_prob (one pass), sample (the other direction), and either with the
gradient of its mean in all parameters. Times are medians after a warm-up, of turns of at least 20
ms; `ratio` is to log_prob of the same library, `ours` says how many times as long a library takes
as ours for the same work: the median over rounds in which all libraries take their turn one after
the other. A peer's slow direction runs for one turn after its first call and is compared with our
median. Compilation (JAX) is listed apart, and JAX's parameters are lists of arrays, as to take
modules apart at every call costs Python time. The C library keeps the memory that it has
(MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_), so that nobody's time is that of the system's
paging. Memory: the largest sum of what our tasks allocate at one time (torch: by its profiler; JAX:
by the compiler's analysis, temporary and output arrays).
A library that is not installed is left out. Only a run of all sizes and backends is recorded.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flows_jax import jax_libraries
from flows_torch import torch_libraries

from dgm_core.results import format_table

RECORD = Path(__file__).parent / "results" / "flows.md"
SETUP = {
    8: ((64, 64), 1000),
    64: ((512, 512), 1000),
    256: ((512, 512), 500),
    784: ((1024, 1024), 100),
}  # D -> hidden, batch
LIMITS = {64: 3.0, 784: 10.0}  # of the slow direction to the fast one, ours
TASKS = ("log_prob", "sample", "log_prob+grad", "sample+grad")


def measure(backend: str, dim: int, repeat: int) -> list[dict[str, Any]]:
    """Rows of one size."""
    hidden, batch = SETUP[dim]
    libraries = {"torch": torch_libraries, "jax": jax_libraries}[backend](dim, hidden, batch)
    rows = []
    first = next(iter(libraries))
    for task in TASKS:
        times: dict[str, list[float]] = {name: [] for name in libraries}
        compilation = {name: timed(tasks[task]) for name, tasks in libraries.items()}
        calls = {
            name: 1 if seconds > 1.0 else max(1, round(0.02 / timed(libraries[name][task])))
            for name, seconds in compilation.items()
        }
        for turn in range(repeat):
            for name, tasks in libraries.items():
                slow_peer = "sample" in task and "_dgm" not in name
                if turn < 1 or not slow_peer:
                    times[name].append(timed(tasks[task], calls[name]))
        for name, seconds in times.items():
            paired = len(seconds) == len(times[first])
            ours = float(
                np.median(np.divide(seconds, times[first]))
                if paired
                else np.median(seconds) / np.median(times[first])
            )
            row = {
                "backend": backend,
                "D": dim,
                "hidden": "-".join(map(str, hidden)),
                "batch": batch,
                "library": name,
                "task": task,
            }
            rows.append(
                {
                    **row,
                    "ms": 1e3 * float(np.median(seconds)),
                    "ours": ours,
                    "first_call_s": compilation[name],
                }
            )
    fast = {row["library"]: row["ms"] for row in rows if row["task"] == "log_prob"}
    return [{**row, "ratio": row["ms"] / fast[row["library"]]} for row in rows]


def timed(task: Callable[[], Any], calls: int = 1) -> float:
    """Seconds of one call, over some."""
    began = time.perf_counter()
    for _ in range(calls):
        task()
    return (time.perf_counter() - began) / calls


def peaks(backend: str, dim: int) -> dict[str, float]:
    """Megabytes that each of our tasks allocates at most at one time."""
    hidden, batch = SETUP[dim]
    if backend == "jax":
        tasks = next(iter(jax_libraries(dim, hidden, batch).values()))
        found = {}
        for name, task in tasks.items():
            used = task.compiled().memory_analysis()  # type: ignore[attr-defined]
            found[name] = (used.temp_size_in_bytes + used.output_size_in_bytes) / 2**20
        return found
    from torch.profiler import ProfilerActivity, profile

    tasks = next(iter(torch_libraries(dim, hidden, batch).values()))
    found = {}
    for name, task in tasks.items():
        task()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            task()
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            record.export_chrome_trace(file.name)
            events = [
                event["args"]
                for event in json.loads(Path(file.name).read_text())["traceEvents"]
                if event["name"] == "[memory]"
            ]
        held = events[0]["Total Allocated"] - events[0]["Bytes"]
        found[name] = (max(event["Total Allocated"] for event in events) - held) / 2**20
    return found


def child(*options: str) -> Any:
    """What this program prints with other options."""
    keep = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296"}
    command = [sys.executable, __file__, *options]
    output = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | keep,
    ).stdout
    return json.loads(output.splitlines()[-1])


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """Our numbers in words, for the sizes that have a limit."""
    lines = []
    for row in rows:
        if "_dgm" in row["library"] and row["task"] == "sample" and row["D"] in LIMITS:
            others = [
                r
                for r in rows
                if (r["backend"], r["D"], r["task"]) == (row["backend"], row["D"], "sample")
                and "_dgm" not in r["library"]
            ]
            faster = ", ".join(f"{r['library']} {r['ms'] / row['ms']:.0f} x" for r in others)
            lines.append(
                f"{row['library']}, D = {row['D']}: slow direction {row['ratio']:.1f} x the "
                "fast "
                f"one (limit {LIMITS[row['D']]:g}); peers take {faster} as long"
            )
        if "_dgm MAF" in row["library"] and row["task"] == "log_prob":
            others = [
                r
                for r in rows
                if (r["backend"], r["D"], r["task"]) == (row["backend"], row["D"], "log_prob")
                and "_dgm" not in r["library"]
            ]
            best = min(others, key=lambda r: r["ours"])
            lines.append(
                f"{row['library']}, D = {row['D']}: fast direction {1 / best['ours']:.2f} x "
                "the "
                f"fastest peer's ({best['library']}; limit 1.1)"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SETUP), choices=list(SETUP))
    parser.add_argument("--backends", nargs="+", default=["torch", "jax"], choices=["torch", "jax"])
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--threads", type=int, help="of torch and XLA; left out, their default")
    parser.add_argument("--json", action="store_true", help="print the rows as one JSON line")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--peaks", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is imported
    if arguments.peaks:
        print(json.dumps(peaks(arguments.peaks, arguments.sizes[0])))
        return
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.sizes[0], arguments.repeat)))
        return
    rows: list[dict[str, Any]] = []
    memory = []
    for size in arguments.sizes:
        for backend in arguments.backends:
            rows += child("--one", backend, "--sizes", str(size), "--repeat", str(arguments.repeat))
            used = child("--peaks", backend, "--sizes", str(size))
            row = {
                "backend": backend,
                "D": size,
                **{f"{task} MB": megabytes for task, megabytes in used.items()},
            }
            memory.append(
                row
                | {
                    "ratio": used["sample"] / used["log_prob"],
                    "ratio+grad": used["sample+grad"] / used["log_prob+grad"],
                }
            )
    columns = [
        "backend",
        "D",
        "hidden",
        "batch",
        "library",
        "task",
        "ms",
        "ratio",
        "ours",
        "first_call_s",
    ]
    text = "\n".join(
        [
            format_table(rows, columns, digits=3),
            "",
            *verdict(rows),
            "",
            format_table(memory, digits=1),
        ]
    )
    print(text)
    if arguments.json:
        print(json.dumps(rows))
    protocol = (__doc__ or "").split("One affine layer", 1)[1]
    head = [
        "# Flows in both directions",
        "",
        "One affine layer " + protocol.strip().replace("\n", " "),
        "",
        f"{os.cpu_count()} CPU cores.",
        "",
        "```",
        text,
        "```",
        "",
    ]
    if set(arguments.sizes) == set(SETUP) and len(set(arguments.backends)) == 2:
        RECORD.write_text("\n".join(head))


if __name__ == "__main__":
    main()
