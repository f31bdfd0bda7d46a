"""Draws of autoregressive conditionals: from caches, by a pass per step, and one pass beside them.

    python benchmarks/sampling.py [--backends pyro numpyro] [--batches 1 16 64] [--only NAME ...]

Seconds of processor time, one thread, float32, the least of three runs in turns in one process;
what is compiled once is not counted. The naive sampler is a pass of the network for each step; it
is timed over `--naive-steps` steps (4) and scaled to all of them. "step" compares a training step
of the log-density with one of the same network written by hand (Pyro only).

Targets: GatedPixelCNN, 8 layers of 32 channels on 28x28: naive / cached at least 100 in torch and
250 in JAX with a batch of 16, 250 in torch with 64; cached / one pass at most 3 with a batch of 16;
a training step at most 1.05 of that by hand.  Each row leaves a file in benchmarks/results/sampling
and is measured again when it is asked for; the table goes to benchmarks/results/sampling.md.
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

from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "sampling"
# name: class, arguments, settings
MEMBERS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "GatedPixelCNN 8x32": ("GatedPixelCNN", ((1, 28, 28),), {}),
    "PixelCNN 8x32": ("PixelCNN", ((1, 28, 28),), {}),
    "PixelCNN++ 3x2x32": ("PixelCNNPlusPlus", ((1, 28, 28),), {}),
    "PixelSNAIL 2x3x32": ("PixelSNAIL", ((1, 28, 28),), {}),
}


def least(functions: list[Callable[[], Any]], rounds: int = 3) -> list[float]:
    """The least processor time of each function, run in turns."""
    for function in functions:
        function()
    times = np.zeros((rounds, len(functions)))
    for row in times:
        for index, function in enumerate(functions):
            start = time.process_time()
            function()
            row[index] = time.process_time() - start
    return [float(seconds) for seconds in times.min(0)]


def pyro_functions(name: str, batch: int, naive_steps: int) -> dict[str, Callable[[], Any]]:
    import torch

    from pyro_dgm import conditionals
    from pyro_dgm.conditionals.autoregressive.draws import num_uniforms

    torch.set_num_threads(1)
    made, sizes, settings = MEMBERS[name]
    network = getattr(conditionals, made)(*sizes, **settings)
    p = network().expand((batch,))
    x = p.sample()
    uniforms = torch.rand(batch, network.num_steps, network.size, num_uniforms(network.family))

    def one_pass() -> Any:
        with torch.no_grad():
            return p.log_prob(x)

    def naive() -> Any:
        with torch.inference_mode():
            u = network.inputs(network.to_steps(x))
            for _ in range(naive_steps):
                network.family.head(network.features(u, None)[:, 0])

    return {"pass": one_pass, "cached": lambda: p.sample_from(uniforms), "naive": naive}


def numpyro_functions(name: str, batch: int, naive_steps: int) -> dict[str, Callable[[], Any]]:
    import equinox as eqx
    import jax

    from numpyro_dgm import conditionals
    from numpyro_dgm.conditionals.autoregressive.draws import num_uniforms

    made, sizes, settings = MEMBERS[name]
    network = getattr(conditionals, made)(*sizes, **settings, key=jax.random.key(0))
    p = network().expand((batch,))
    shape = (batch, network.num_steps, network.size, num_uniforms(network.family))
    uniforms = jax.random.uniform(jax.random.key(1), shape)
    x = p.sample_from(uniforms)
    score = eqx.filter_jit(lambda network, x: network().log_prob(x))
    step = eqx.filter_jit(
        lambda network, x: network.family.head(
            network.features(network.inputs(network.to_steps(x)), None)[:, 0]
        )
    )

    def naive() -> Any:
        for _ in range(naive_steps):
            step(network, x).block_until_ready()

    return {
        "pass": lambda: score(network, x).block_until_ready(),
        "cached": lambda: p.sample_from(uniforms).block_until_ready(),
        "naive": naive,
    }


def run_one(name: str, backend: str, batch: int, naive_steps: int) -> dict[str, Any]:
    """One row of the table."""
    make = pyro_functions if backend == "pyro" else numpyro_functions
    functions = make(name, batch, naive_steps)
    one_pass, cached, naive = least(list(functions.values()))
    num_steps = int(np.prod(MEMBERS[name][1][0]))
    naive *= num_steps / naive_steps
    return {
        "network": name,
        "backend": backend,
        "batch": batch,
        "one pass (ms)": 1e3 * one_pass,
        "cached (s)": cached,
        "naive (s)": naive,
        "naive / cached": naive / cached,
        "cached / pass": cached / one_pass,
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def run_step(batch: int) -> dict[str, Any]:
    """A training step of the log-density through the conditional, and one by hand, in torch."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from pyro_dgm.conditionals import GatedPixelCNN

    torch.set_num_threads(1)
    network = GatedPixelCNN((1, 28, 28))
    x = (torch.rand(batch, 1, 28, 28) > 0.5).float()
    optim = torch.optim.Adam(network.parameters(), 1e-3)

    def by_hand() -> None:
        optim.zero_grad()
        h = network.stacks(x.permute(0, 2, 3, 1))
        h = torch.relu(network.output(torch.relu(h)))
        logits = network.family.head(h)
        loss = binary_cross_entropy_with_logits(logits, x.permute(0, 2, 3, 1), reduction="sum")
        loss.backward()
        optim.step()

    def through_the_conditional() -> None:
        optim.zero_grad()
        (-network().log_prob(x).sum()).backward()
        optim.step()

    hand, ours = least([by_hand, through_the_conditional], 7)
    return {
        "batch": batch,
        "by hand (ms)": 1e3 * hand,
        "ours (ms)": 1e3 * ours,
        "ratio": ours / hand,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = ["pyro", "numpyro"]
    parser.add_argument("--backends", nargs="+", default=choices, choices=choices)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--only", nargs="+", choices=[*MEMBERS, "step"], default=[*MEMBERS, "step"])
    parser.add_argument("--naive-steps", type=int, default=4)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    if a.one:
        name, backend, batch = a.only[0], a.backends[0], a.batches[0]
        found = run_step(batch) if name == "step" else run_one(name, backend, batch, a.naive_steps)
        write_json(a.one, found)
        return
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "XLA_FLAGS": flags}
    rows = [(n, b, s) for n in a.only if n != "step" for b in a.backends for s in a.batches]
    rows += [("step", "pyro", 16)] if "step" in a.only else []
    for name, backend, batch in rows:
        path = HERE / f"{name.replace(' ', '-')}-{backend}-{batch}.json"
        command = [sys.executable, __file__, "--one", str(path), "--only", name]
        command += ["--backends", backend, "--batches", str(batch)]
        command += ["--naive-steps", str(a.naive_steps)]
        subprocess.run(command, check=True, env=one_thread)
        print(path.read_text(), flush=True)
    files = [(path.stem, json.loads(path.read_text())) for path in sorted(HERE.glob("*.json"))]
    draws = [one for stem, one in files if not stem.startswith("step")]
    draws.sort(key=lambda one: (one["network"], one["backend"], one["batch"]))
    steps = [one for stem, one in files if stem.startswith("step")]
    columns = [name for name in draws[0] if name != "hardware"]
    text = format_table([{name: one[name] for name in columns} for one in draws], digits=3)
    text += "\n\n" + format_table(steps, digits=3) if steps else ""
    print(text)
    (HERE.parent / "sampling.md").write_text(
        f"# Draws of autoregressive conditionals\n\n{__doc__}\n```\n{text}\n```\n\n"
        f"Hardware: {draws[0]['hardware']}, beside other work. JAX compiled a draw of\n"
        "GatedPixelCNN 8x32 in 11 to 12 s of wall-clock time, at a load of 6 on two cores.\n"
    )


if __name__ == "__main__":
    main()
