"""Speed of drawing from a WaveNet: a pass for each step (naive), from the ring buffer (cached), one
pass, and one pass of a student of the same network; and of a step of training against hand-written
ones. CPU, one thread.

    python benchmarks/sampling_waves.py [--backends pyro numpyro] [--families DiagonalNormal
    Categorical] [--batch-sizes 1 16] [--steps 1024] [--record]

Ten layers of 32 channels, dilations 1, ..., 512, T = 1024 steps, single precision. Times are
processor seconds, of compiled functions after a first call; the naive sampler fills in the last
steps behind a prefix (its cost per step is that of a pass), all others draw whole waveforms. The
student is one inverse autoregressive layer with the network of the teacher; what is timed is a
draw, as of the teacher. A hand-written step of training is that of a user: convolutions of the
framework over (batch, channels, steps), the same likelihood, Adam; epochs of `fit` are paired with
hand-written ones run right after them. With --record the tables go to
benchmarks/results/sampling_waves.md, and behind them what is written by hand in
sampling_waves_notes.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table

RECORD = Path(__file__).parent / "results" / "sampling_waves.md"
NOTES = RECORD.with_name("sampling_waves_notes.md")
DILATIONS = tuple(2**i for i in range(10))
FAMILIES: dict[str, dict[str, Any]] = {
    "DiagonalNormal": {},
    "Categorical": {"num_classes": 256},
    "LogisticMixture": {"num_components": 5},
}


def seconds(run: Callable[[], Any], times: int = 5) -> float:
    """The least processor time of a call, after one that compiles."""
    run()
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def draws(backend: str, family: str, batch: int, steps: int) -> dict[str, Any]:
    """One row: microseconds per step of a waveform, and their ratios."""
    if backend == "pyro":
        import pyro
        import torch

        import pyro_dgm as package

        torch.set_num_threads(1)
        pyro.enable_validation(False)
        keys: dict[str, Any] = {}
        ready: Callable[[Any], Any] = lambda x: x  # noqa: E731
        compiled: Callable[[Any], Any] = torch.no_grad()
        array: Callable[[Any], Any] = torch.as_tensor
        of: tuple[Any, ...] = ()
    else:
        import jax

        import numpyro_dgm as package  # type: ignore[no-redef]

        keys = {"key": jax.random.key(0)}
        ready, compiled, array = jax.block_until_ready, jax.jit, jax.numpy.asarray
        of = (jax.random.key(1),)

    made = partial(getattr(package.conditionals, family), **FAMILIES[family])
    net = package.conditionals.WaveNet(steps, made, dilations=DILATIONS, **keys)
    student = package.flows.ParallelWaveNet(steps, num_layers=1, dilations=DILATIONS, **keys)
    num = package.conditionals.autoregressive.draws.num_uniforms(net.family)
    rng, last = np.random.default_rng(0), max(8, 64 // batch)
    uniforms = array(rng.random((batch, steps, 1, num)).astype(np.float32))
    x = net().sample_from(uniforms)
    prefix = x[:, : steps - last]

    naive = partial(net().sample_from, uniforms, prefix=prefix, cached=False)
    cached = partial(net().sample_from, uniforms)
    one_pass = compiled(lambda x: net().log_prob(x))
    of_student = compiled(lambda *key: student().sample(*key, (batch,)))
    times = {
        "naive": seconds(lambda: ready(naive())) / last,
        "cached": seconds(lambda: ready(cached())) / steps,
        "pass": seconds(lambda: ready(one_pass(x))) / steps,
        "student": seconds(lambda: ready(of_student(*of))) / steps,
    }
    return {
        "backend": backend,
        "family": family,
        "batch": batch,
        **{f"{name}_us": 1e6 * value for name, value in times.items()},
        "naive/cached": times["naive"] / times["cached"],
        "cached/pass": times["cached"] / times["pass"],
        "naive/student": times["naive"] / times["student"],
        "cached/student": times["cached"] / times["student"],
    }


def in_torch(x: np.ndarray, batch_size: int) -> Callable[[], None]:
    """An epoch in plain PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self, channels: int = 32) -> None:
            super().__init__()
            self.first = nn.Conv1d(1, channels, 1)
            self.gates = nn.ModuleList(
                nn.Conv1d(channels, 2 * channels, 2, dilation=d) for d in DILATIONS
            )
            self.residuals = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in DILATIONS[1:])
            self.skips = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in DILATIONS)
            self.out = nn.Sequential(
                nn.ReLU(), nn.Conv1d(channels, channels, 1), nn.ReLU(), nn.Conv1d(channels, 256, 1)
            )

        def forward(self, u: Any) -> Any:
            h, skipped = self.first(F.pad(u[:, None, :-1], (1, 0))), 0.0
            for index, dilation in enumerate(DILATIONS):
                a, b = self.gates[index](F.pad(h, (dilation, 0))).chunk(2, 1)
                g = torch.tanh(a) * torch.sigmoid(b)
                skipped = skipped + self.skips[index](g)
                if index < len(self.residuals):
                    h = h + self.residuals[index](g)
            return self.out(skipped)

    net, data = Net(), torch.as_tensor(x)
    optim = torch.optim.Adam(net.parameters(), 1e-3, fused=True)

    def epoch() -> None:
        for rows in torch.randperm(len(data)).split(batch_size):
            codes = data[rows]
            optim.zero_grad()
            loss = F.cross_entropy(net(codes / 127.5 - 1), codes, reduction="sum") / len(codes)
            loss.backward()
            optim.step()
            loss.item()

    return epoch


def in_jax(x: np.ndarray, batch_size: int) -> Callable[[], None]:
    """An epoch in plain JAX."""
    import jax
    import jax.numpy as jnp
    import optax

    def weights(key: Any, inputs: int, outputs: int, taps: int = 1) -> Any:
        scale = (inputs * taps) ** -0.5
        w = jax.random.uniform(key, (taps, inputs, outputs), minval=-scale, maxval=scale)
        return w, jnp.zeros(outputs)

    keys = iter(jax.random.split(jax.random.key(0), 64))
    params = {
        "first": weights(next(keys), 1, 32),
        "gates": [weights(next(keys), 32, 64, 2) for _ in DILATIONS],
        "residuals": [weights(next(keys), 32, 32) for _ in DILATIONS[1:]],
        "skips": [weights(next(keys), 32, 32) for _ in DILATIONS],
        "out": [weights(next(keys), 32, 32), weights(next(keys), 32, 256)],
    }

    def conv(h: Any, weights: Any, dilation: int = 1) -> Any:
        w, b = weights
        past = (len(w) - 1) * dilation
        return b + jax.lax.conv_general_dilated(
            h,
            w,
            (1,),
            [(past, 0)],
            rhs_dilation=(dilation,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )

    def nll(params: Any, codes: Any) -> Any:
        u = (codes / 127.5 - 1)[..., None]
        h = conv(jnp.pad(u[:, :-1], ((0, 0), (1, 0), (0, 0))), params["first"])
        skipped: Any = 0.0
        for index, dilation in enumerate(DILATIONS):
            a, b = jnp.split(conv(h, params["gates"][index], dilation), 2, -1)
            g = jnp.tanh(a) * jax.nn.sigmoid(b)
            skipped = skipped + conv(g, params["skips"][index])
            if index < len(params["residuals"]):
                h = h + conv(g, params["residuals"][index])
        for layer in params["out"]:
            skipped = conv(jax.nn.relu(skipped), layer)
        log_p = jax.nn.log_softmax(skipped)
        return -jnp.take_along_axis(log_p, codes[..., None], -1).sum() / len(codes)

    data, optim = jax.device_put(x), optax.adam(1e-3)

    @jax.jit
    def epoch(carry: Any, key: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            params, state = carry
            loss, grads = jax.value_and_grad(nll)(params, data[rows])
            updates, state = optim.update(grads, state)
            return (optax.apply_updates(params, updates), state), loss

        order = jax.random.permutation(key, len(data)).reshape(-1, batch_size)
        return jax.lax.scan(step, carry, order)

    carry = [(params, optim.init(params))]

    def run() -> None:
        carry[0], losses = epoch(carry[0], jax.random.key(0))
        losses.block_until_ready()

    return run


def training(backend: str, steps: int, batch_size: int = 4, epochs: int = 7) -> dict[str, Any]:
    """Milliseconds per step of `fit` and of a hand-written loop, and the median of their ratios."""
    x = np.random.default_rng(0).integers(256, size=(6 * batch_size, steps))
    if backend == "pyro":
        import pyro
        import torch

        import pyro_dgm as package

        torch.set_num_threads(1)
        pyro.enable_validation(False)
        keys: dict[str, Any] = {}
    else:
        import jax

        import numpyro_dgm as package  # type: ignore[no-redef]

        keys = {"key": jax.random.key(0)}
    family = partial(package.conditionals.Categorical, num_classes=256)
    net = package.conditionals.WaveNet(steps, family, dilations=DILATIONS, **keys)
    if backend == "pyro":
        plate, sample = pyro.plate, pyro.sample
    else:
        import numpyro

        plate, sample = numpyro.plate, numpyro.sample

    def model(x: Any) -> None:
        with plate("data", len(x)):
            sample("x", package.nn.register("net", net)(), obs=x)

    by_hand = {"pyro": in_torch, "numpyro": in_jax}[backend](x, batch_size)
    pairs: list[tuple[float, float]] = []
    ended = [time.process_time()]

    def alternate(run: Any) -> None:
        began = time.process_time()
        by_hand()
        pairs.append((began - ended[0], time.process_time() - began))
        ended[0] = time.process_time()

    settings: dict[str, Any] = {"compile": False} if backend == "pyro" else {}
    package.fit(
        model,
        None,
        x,
        loss=package.losses.NLL(),
        batch_size=batch_size,
        num_epochs=epochs + 2,
        callbacks=(alternate,),
        progress=False,
        **settings,
    )
    ours, theirs = np.array(pairs[2:]).T  # the first ones compile and warm up
    fit_ms, hand_ms = 1e3 * np.median([ours, theirs], axis=1) / 6
    ratio = float(np.median(ours / theirs))
    return {"backend": backend, "fit_ms": fit_ms, "hand_ms": hand_ms, "ratio": ratio}


def main() -> int:
    """Print the tables; exit status 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--families", nargs="+", default=["DiagonalNormal", "Categorical"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        backend, family, batch = arguments.one.split()
        row = (
            training(backend, arguments.steps)
            if family == "training"
            else draws(backend, family, int(batch), arguments.steps)
        )
        print(json.dumps(row))
        return 0

    threads = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}

    def one(*what: object) -> dict[str, Any]:
        command = [sys.executable, __file__, "--one", " ".join(map(str, what))]
        command += ["--steps", str(arguments.steps)]
        out = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
        ).stdout
        return dict(json.loads(out.splitlines()[-1]))

    rows = [
        one(backend, family, batch)
        for backend in arguments.backends
        for family in arguments.families
        for batch in arguments.batch_sizes
    ]
    steps = [one(backend, "training", 0) for backend in arguments.backends]
    limits = [row["naive/cached"] >= (20 if row["batch"] == 1 else 200) for row in rows]
    limits += [row["cached/pass"] <= 3 for row in rows if row["batch"] >= 16]
    limits += [row["naive/student"] >= 900 for row in rows]
    limits += [row["ratio"] <= 1.05 for row in steps]
    text = f"{format_table(rows)}\n\n{format_table(steps)}"
    verdict = (
        "Naive over cached at least 20 (batch 1) and 200 (batch 16), cached over one pass at most "
        "3 (batch 16), naive over the student at least 900, training at most 1.05: "
        f"{sum(limits)} of {len(limits)} kept."
    )
    print(f"{text}\n{verdict}")
    if arguments.record:
        machine = f"{os.cpu_count()} CPU cores, one thread, {platform.machine()}"
        RECORD.write_text(
            "# Draws from a WaveNet\n\nMicroseconds per step of all waveforms of a batch; ten "
            f"layers of 32 channels, T = {arguments.steps}; {machine}. Below, milliseconds per "
            "step of training, 256 codes, batches of 4.\n\n"
            f"```\n{text}\n```\n\n{verdict}\n"
            + (f"\n{NOTES.read_text()}" if NOTES.exists() else "")
        )
    return 0 if all(limits) else 1


if __name__ == "__main__":
    sys.exit(main())
