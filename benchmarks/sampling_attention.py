"""Speed of draws from a transformer with kept keys and values, and of a step that trains one.

    python benchmarks/sampling_attention.py [--backends pyro numpyro] [--rounds 9] [--record]

Binary images of 28 x 28, 784 steps, hidden_dim 64, 4 layers, 4 heads, one thread, processor time. A
naive draw is one pass for each step: run for the causal transformer at batch 1, elsewhere taken to
be 784 times the median pass; in JAX its time has that of compiling in it, about one second. The
same uniform numbers give the same images. `compile` is the time that JAX takes before the first
draw, tracing included. A step is log-density, gradients and Adam on 4 images, of a causal
transformer and of one written by hand with the same layers; a round is a step of each, and the
median of the ratios of the rounds is reported. Exit status 1 when a cached draw of the causal
transformer at batch 1 is less than 20 times as fast as a naive one, or a step takes more than 1.05
times as long as by hand.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from dgm_core.results import format_table

SHAPE, STEPS, HIDDEN, LAYERS, HEADS = (1, 28, 28), 784, 64, 4, 4
RECORD = Path(__file__).parent / "results" / "sampling_attention.md"
MEMBERS: dict[str, dict[str, Any]] = {
    "CausalTransformer": {},
    "ImageTransformer": {"block": 112, "memory": 112},
    "SparseTransformer": {},
}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of a call, and what it returns."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def seconds(function: Callable[[], Any]) -> float:
    """Processor time of a call."""
    return timed(function)[0]


def draws(backend: str) -> list[dict[str, Any]]:
    """Naive and cached draws and passes of each member."""
    lib = Torch() if backend == "pyro" else Jax()
    rows = []
    for name, settings in MEMBERS.items():
        module = lib.member(name, settings)
        for batch in (1, 16):
            uniforms = np.random.default_rng(0).uniform(size=(batch, STEPS, 1, 1))
            cached = lib.draw(module, uniforms, True)
            first = seconds(cached)
            one = median(seconds(cached) for _ in range(3))
            x = cached()
            passed = lib.one_pass(module, x)
            passed()
            a_pass = median(seconds(passed) for _ in range(5))
            slow = STEPS * a_pass
            if batch == 1 and name == "CausalTransformer":
                slow, naive = timed(lib.draw(module, uniforms, False))
                assert np.mean(np.asarray(naive) != np.asarray(x)) < 0.01
            row = {"backend": backend, "what": name, "batch": batch, "pass_ms": 1e3 * a_pass}
            row |= {"naive_s": slow, "cached_s": one, "ratio": slow / one, "passes": one / a_pass}
            rows.append(row | {"compile_s": first - one if backend == "numpyro" else 0.0})
    return rows


class Torch:
    """What is timed in Pyro."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.torch = torch

    def member(self, name: str, settings: dict[str, Any]) -> Any:
        from pyro_dgm import conditionals

        sizes = {"hidden_dim": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS}
        return getattr(conditionals, name)(SHAPE, **sizes, **settings)

    def draw(self, module: Any, uniforms: np.ndarray, cached: bool) -> Callable[[], Any]:
        u = self.torch.as_tensor(uniforms, dtype=self.torch.float32)
        return lambda: module().sample_from(u, cached=cached)

    def one_pass(self, module: Any, x: Any) -> Callable[[], Any]:
        def run() -> Any:
            with self.torch.no_grad():
                return module().log_prob(x)

        return run

    def steps(self) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """A step of ours and a step by hand."""
        torch, F = self.torch, self.torch.nn.functional
        x = torch.as_tensor(images())
        ours = self.member("CausalTransformer", {})

        class Block(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(HIDDEN) for _ in range(2))
                self.qkv = torch.nn.Linear(HIDDEN, 3 * HIDDEN, bias=False)
                self.out = torch.nn.Linear(HIDDEN, HIDDEN)
                self.wide = torch.nn.Linear(HIDDEN, 4 * HIDDEN)
                self.narrow = torch.nn.Linear(4 * HIDDEN, HIDDEN)

            def forward(self, h: Any) -> Any:
                qkv = self.qkv(self.norms[0](h)).unflatten(-1, (3, HEADS, -1))
                q, k, v = qkv.permute(2, 0, 3, 1, 4)
                a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                h = h + self.out(a.transpose(1, 2).flatten(-2))
                return h + self.narrow(F.gelu(self.wide(self.norms[1](h))))

        class ByHand(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed = torch.nn.Linear(1, HIDDEN)
                self.rows = torch.nn.Parameter(torch.randn(28, 1, HIDDEN))
                self.columns = torch.nn.Parameter(torch.randn(28, HIDDEN))
                blocks = [Block() for _ in range(LAYERS)]
                self.body = torch.nn.Sequential(*blocks, torch.nn.LayerNorm(HIDDEN))
                self.head = torch.nn.Linear(HIDDEN, 1)

            def forward(self, x: Any) -> Any:
                u = F.pad(x.flatten(1)[:, :-1], (1, 0))[..., None]
                h = self.embed(u) + (self.rows + self.columns).flatten(0, 1)
                logits = self.head(self.body(h))[..., 0]
                return -F.binary_cross_entropy_with_logits(
                    logits, x.flatten(1), reduction="none"
                ).sum(1)

        def step(module: Any, log_prob: Callable[[], Any]) -> Callable[[], None]:
            adam = torch.optim.Adam(module.parameters(), 1e-3)

            def run() -> None:
                adam.zero_grad()
                (-log_prob().sum()).backward()
                adam.step()

            return run

        hand = ByHand()
        return step(ours, lambda: ours().log_prob(x)), step(hand, lambda: hand(x))


class Jax(Torch):
    """What is timed in NumPyro."""

    def __init__(self) -> None:
        import equinox as eqx
        import jax

        self.eqx, self.jax = eqx, jax

    def member(self, name: str, settings: dict[str, Any]) -> Any:
        from numpyro_dgm import conditionals

        sizes = {"hidden_dim": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS}
        return getattr(conditionals, name)(SHAPE, **sizes, **settings, key=self.jax.random.key(0))

    def draw(self, module: Any, uniforms: np.ndarray, cached: bool) -> Callable[[], Any]:
        u = self.jax.numpy.asarray(uniforms, dtype="float32")
        return lambda: module().sample_from(u, cached=cached).block_until_ready()

    def one_pass(self, module: Any, x: Any) -> Callable[[], Any]:
        score = self.eqx.filter_jit(lambda module, x: module().log_prob(x))
        return lambda: score(module, x).block_until_ready()

    def steps(self) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """A step of ours and a step by hand."""
        import optax

        jax, jnp, eqx = self.jax, self.jax.numpy, self.eqx
        x = jnp.asarray(images())
        ours = self.member("CausalTransformer", {})

        def weight(*shape: int) -> Any:
            return jnp.asarray(np.random.default_rng(0).normal(0, 0.1, shape), "float32")

        def norm(h: Any, scale: Any, shift: Any) -> Any:
            h = h - h.mean(-1, keepdims=True)
            return h * jax.lax.rsqrt((h**2).mean(-1, keepdims=True) + 1e-5) * scale + shift

        ones, zeros = jnp.ones(HIDDEN), jnp.zeros(HIDDEN)
        block = {"norms": [(ones, zeros)] * 2, "qkv": weight(HIDDEN, 3 * HIDDEN)}
        block |= {"out": (weight(HIDDEN, HIDDEN), zeros), "narrow": (weight(256, HIDDEN), zeros)}
        block |= {"wide": (weight(HIDDEN, 256), jnp.zeros(256))}
        hand = {"embed": (weight(1, HIDDEN), zeros), "head": (weight(HIDDEN, 1), jnp.zeros(1))}
        hand |= {"rows": weight(28, 1, HIDDEN), "columns": weight(28, HIDDEN)}
        hand |= {"blocks": [block] * LAYERS, "norm": (ones, zeros)}
        mask = np.tri(STEPS, dtype=bool)

        def attend(h: Any, block: Any) -> Any:
            qkv = norm(h, *block["norms"][0]) @ block["qkv"]
            q, k, v = jnp.moveaxis(qkv.reshape(*h.shape[:2], 3, HEADS, -1), (2, 3), (0, 2))
            scores = jnp.where(mask, q / 4.0 @ jnp.swapaxes(k, -1, -2), -3e38)
            out = jnp.swapaxes(jax.nn.softmax(scores, -1) @ v, 1, 2).reshape(h.shape)
            h = h + out @ block["out"][0] + block["out"][1]
            wide = norm(h, *block["norms"][1]) @ block["wide"][0] + block["wide"][1]
            wide = jax.nn.gelu(wide, approximate=False)
            return h + wide @ block["narrow"][0] + block["narrow"][1]

        def by_hand(p: Any) -> Any:
            flat = x.reshape(len(x), -1)
            u = jnp.pad(flat[:, :-1], ((0, 0), (1, 0)))[..., None]
            h = u @ p["embed"][0] + p["embed"][1]
            h = h + (p["rows"] + p["columns"]).reshape(STEPS, HIDDEN)
            for block in p["blocks"]:
                h = attend(h, block)
            logits = (norm(h, *p["norm"]) @ p["head"][0] + p["head"][1])[..., 0]
            return (flat * logits - jax.nn.softplus(logits)).sum()

        def step(parameters: Any, log_prob: Callable[[Any], Any]) -> Callable[[], None]:
            adam = optax.adam(1e-3)
            held = [parameters, adam.init(eqx.filter(parameters, eqx.is_inexact_array))]

            @eqx.filter_jit
            def update(parameters: Any, state: Any) -> Any:
                gradient = eqx.filter_grad(lambda p: -log_prob(p))(parameters)
                updates, state = adam.update(gradient, state)
                return eqx.apply_updates(parameters, updates), state

            def run() -> None:
                held[:] = update(*held)
                jax.block_until_ready(held)

            return run

        return step(ours, lambda p: p().log_prob(x).sum()), step(hand, by_hand)


def images() -> np.ndarray:
    """Four binary images."""
    return np.random.default_rng(0).integers(0, 2, (4, *SHAPE)).astype("float32")


def training(backend: str, rounds: int) -> dict[str, Any]:
    """The ratio of our step to one by hand."""
    ours, hand = (Torch() if backend == "pyro" else Jax()).steps()
    times = []
    for _ in range(rounds + 2):
        times.append((seconds(ours), seconds(hand)))
    times = times[2:]  # the first compile
    ratio = median(a / b for a, b in times)
    a, b = (1e3 * median(column) for column in zip(*times))
    return {"backend": backend, "ours_ms": a, "by_hand_ms": b, "ratio": ratio}


def show(rows: list[dict[str, Any]]) -> str:
    return format_table(
        [{k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    arguments = parser.parse_args()
    if len(arguments.backends) == 1:
        backend = arguments.backends[0]
        print([training(backend, arguments.rounds)], flush=True)
        print(draws(backend), flush=True)
        return 0
    tables: list[list[dict[str, Any]]] = [[], []]
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    for backend in arguments.backends:  # a process for each
        command = [sys.executable, __file__, "--backends", backend]
        command += ["--rounds", str(arguments.rounds)]
        environment = {**os.environ, "XLA_FLAGS": flags, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(command, text=True, stdout=subprocess.PIPE, env=environment)
        lines = [line for line in run.stdout.splitlines() if line.startswith("[{")]
        for table, line in zip(tables, lines):
            table.extend(literal_eval(line))
    steps, sampled = tables
    text = f"{show(sampled)}\n\n{show(steps)}"
    print(text)
    if arguments.record:
        machine = f"{platform.machine()}, one thread, {arguments.rounds} rounds of steps"
        protocol = (__doc__ or "").split("\n\n", 2)[2].strip()
        RECORD.write_text(
            f"# Draws from transformers\n\n{protocol}\n\n{machine}.\n\n```\n{text}\n```\n"
        )
    slow = [r for r in sampled if r["what"] == "CausalTransformer" and r["batch"] == 1]
    bad = any(row["ratio"] < 20 for row in slow) or any(row["ratio"] > 1.05 for row in steps)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
