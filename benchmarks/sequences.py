"""Speed of a training step of deep Markov models, beside Pyro's way of a site per step under stock
SVI, and steps written by hand.

    python benchmarks/sequences.py [--size small published] [--lengths 32 128] [--repeat 15]
    [--backends torch jax] [--record]

The same networks in all (gated transition, combiner, GRU from the end, Bernoulli of 88 keys), batch
20, float32: forward, backward, Adam. Processor time, medians over rounds in which all take their
turn in one process with one thread; `ratio` is to the stock example (torch) and to the step written
by hand (JAX). The stock step and the loop by hand run torch's own GRU. `GRU and Adam alone` is the
encoder and the optimizer, and no guide or prior can go below. `DMM, compiled` is a step of
`fit(..., compile=True)` with all that `fit` does, in a process of its own, since torch runs all
Python more slowly once it has compiled; its ratio is that of the medians. Validation is off in all.
Before, log p(x, z) - log q(z | x) of one path is compared in all, in float64.
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
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table

RECORD = Path(__file__).parent / "results" / "sequences.md"
SIZES = {  # z_dim, hidden, features
    "small": (16, 32, 64),
    "published": (100, 200, 600),
}
BATCH, KEYS = 20, 88


def torch_steps(size: str, length: int) -> tuple[dict[str, Callable], dict[str, float]]:
    """Steps by name, and the log-weight of one path by each."""
    import pyro
    import torch

    from pyro_dgm.conditionals import AffineMarkov
    from pyro_dgm.losses import ELBO
    from pyro_dgm.models import DMM

    pyro.enable_validation(False)
    z_dim, hidden, features = SIZES[size]
    x = torch.bernoulli(torch.full((BATCH, length, KEYS), 0.1))

    def built(**parts: Any) -> Any:
        torch.manual_seed(0)
        return DMM(KEYS, z_dim, length, hidden=hidden, features=features, **parts)

    def encoded(dmm: Any, x: Any) -> Any:
        """By torch's own GRU."""
        return torch.nn.GRU.forward(dmm.encoder, x.flip(1))[0].flip(1)

    def ours(dmm: Any) -> Callable[[], None]:
        optim, loss = torch.optim.Adam(dmm.parameters(), 1e-3, fused=True), ELBO()

        def step() -> None:
            optim.zero_grad()
            (loss.evaluate(dmm.model, dmm.guide, (x,)).loss / BATCH).backward()
            optim.step()

        return step

    def stock(dmm: Any) -> tuple[Callable, Callable]:
        transition, likelihood = dmm.prior.transition, dmm.likelihood.conditional
        combiner, rows = dmm.posterior.transition, pyro.plate("data", BATCH)

        def model(x: Any) -> None:
            pyro.module("dmm", dmm)
            z = dmm.prior.start.expand(BATCH, -1)
            with rows:
                for t in pyro.markov(range(length)):
                    z = pyro.sample(f"z{t}", transition(z))
                    pyro.sample(f"x{t}", likelihood(dmm.decoder(z)), obs=x[:, t])

        def guide(x: Any) -> None:
            pyro.module("dmm", dmm)
            seen, z = encoded(dmm, x), dmm.posterior.start.expand(BATCH, -1)
            with rows:
                for t in pyro.markov(range(length)):
                    z = pyro.sample(f"z{t}", combiner((z, seen[:, t])))

        return model, guide

    def stock_step(dmm: Any) -> Callable[[], None]:
        pyro.clear_param_store()
        optim = pyro.optim.Adam({"lr": 1e-3})
        svi = pyro.infer.SVI(*stock(dmm), optim, pyro.infer.Trace_ELBO())
        return lambda: svi.step(x)

    def hand_bound(dmm: Any, path: Any = None) -> Any:
        transition, likelihood = dmm.prior.transition, dmm.likelihood.conditional
        seen, bound = encoded(dmm, x.to(dmm.prior.start.dtype)), 0.0
        z, last = dmm.posterior.start.expand(BATCH, -1), dmm.prior.start.expand(BATCH, -1)
        for t in range(length):
            q = dmm.posterior.transition((z, seen[:, t]))
            z = q.rsample() if path is None else path[:, t]
            x_t = x[:, t].to(z.dtype)
            bound = bound + transition(last).log_prob(z) - q.log_prob(z)
            bound, last = bound + likelihood(dmm.decoder(z)).log_prob(x_t), z
        return bound.mean()

    def hand(dmm: Any) -> Callable[[], None]:
        optim = torch.optim.Adam(dmm.parameters(), 1e-3, fused=True)

        def step() -> None:
            optim.zero_grad()
            (-hand_bound(dmm)).backward()
            optim.step()

        return step

    def shared(dmm: Any) -> Callable[[], None]:
        optim = torch.optim.Adam(dmm.parameters(), 1e-3, fused=True)

        def step() -> None:
            optim.zero_grad()
            dmm.encoder(x).sum().backward()
            optim.step()

        return step

    with torch.no_grad():
        dmm, data = built().double(), x.double()
        z = dmm.posterior(dmm.encoder(data)).rsample()
        log_p = dmm.prior().log_prob(z) + dmm.likelihood(dmm.decoder(z)).log_prob(data)
        log_q = dmm.posterior(dmm.encoder(data)).log_prob(z)
        model, guide = stock(dmm)
        given = {f"z{t}": z[:, t] for t in range(length)}
        traces = [
            pyro.poutine.trace(pyro.poutine.condition(part, given)).get_trace(data)
            for part in (model, guide)
        ]
        weights = {
            "ours": (log_p - log_q).mean().item(),
            "hand": hand_bound(dmm, z).item(),
            "stock": (traces[0].log_prob_sum() - traces[1].log_prob_sum()).item() / BATCH,
        }
    pyro.clear_param_store()
    affine = AffineMarkov((length, z_dim), context_shape=(length, features))
    steps = {
        "stock Pyro, a site per step": stock_step(built()),
        "loop by hand": hand(built()),
        "DMM": ours(built()),
        "DMM, AffineMarkov": ours(built(posterior=affine)),
        "GRU and Adam alone": shared(built()),
    }
    return steps, weights


def compiled_step(size: str, length: int, repeat: int) -> list[dict[str, Any]]:
    """The row of a compiled step of `fit`."""
    import pyro
    import torch

    from pyro_dgm.losses import ELBO
    from pyro_dgm.models import DMM
    from pyro_dgm.training import Adam, fit

    pyro.enable_validation(False)
    z_dim, hidden, features = SIZES[size]
    torch.manual_seed(0)
    dmm = DMM(KEYS, z_dim, length, hidden=hidden, features=features)
    x = torch.bernoulli(torch.full((10 * BATCH, length, KEYS), 0.1))
    ends: list[float] = []
    fit(
        dmm.model,
        dmm.guide,
        x,
        loss=ELBO(),
        optim=Adam(1e-3),
        batch_size=BATCH,
        num_epochs=repeat + 1,
        callbacks=(lambda run: ends.append(time.process_time()),),
        compile=True,
        progress=False,
    )
    ms = 1e3 * float(np.median(np.diff(ends))) / 10
    named = {"backend": "torch", "size": size, "T": length, "step": "DMM, compiled"}
    return [{**named, "ms": f"{ms:.1f}", "ratio": ""}]


def jax_steps(size: str, length: int) -> tuple[dict[str, Callable], dict[str, float]]:
    """Steps by name, and the log-weight of one path by each."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpyro
    import optax

    from numpyro_dgm.conditionals import AffineMarkov
    from numpyro_dgm.losses import ELBO
    from numpyro_dgm.models import DMM

    numpyro.enable_validation(False)
    z_dim, hidden, features = SIZES[size]
    key = jax.random.key(0)
    x = jax.random.bernoulli(key, 0.1, (BATCH, length, KEYS)).astype(float)

    def built(**parts: Any) -> Any:
        return DMM(KEYS, z_dim, length, hidden=hidden, features=features, key=key, **parts)

    def bound_by_hand(dmm: Any, key: Any, path: Any = None) -> Any:
        transition, likelihood = dmm.prior.transition, dmm.likelihood.conditional

        def step(carry: Any, given: Any) -> Any:
            z, last = carry
            h, x_t, key_t, z_t = given
            q = dmm.posterior.transition((z, h))
            z = q.sample(key_t) if z_t is None else z_t
            log_w = transition(last).log_prob(z) - q.log_prob(z)
            return (z, z), log_w + likelihood(dmm.decoder(z)).log_prob(x_t)

        by_time = [jnp.moveaxis(a, 1, 0) for a in (dmm.encoder(x), x)]
        given = None if path is None else jnp.moveaxis(path, 1, 0)
        starts = dmm.posterior.start, dmm.prior.start
        carry = tuple(jnp.broadcast_to(s, (BATCH, z_dim)) for s in starts)
        keys = jax.random.split(key, length)
        return jax.lax.scan(step, carry, (*by_time, keys, given))[1].sum(0).mean()

    def bound_of_ours(dmm: Any, key: Any) -> Any:
        return -ELBO().evaluate(key, {}, dmm.model, dmm.guide, (x,)).per_datum

    def stepping(bound: Callable, dmm: Any) -> Callable[[], None]:
        optim = optax.adam(1e-3)
        params, static = eqx.partition(dmm, eqx.is_inexact_array)

        @jax.jit
        def update(params: Any, state: Any, key: Any) -> Any:
            gradient = jax.grad(lambda p: -bound(eqx.combine(p, static), key))(params)
            moves, state = optim.update(gradient, state)
            return optax.apply_updates(params, moves), state

        held = [params, optim.init(params)]

        def step() -> None:
            held[:] = jax.block_until_ready(update(*held, key))

        return step

    with jax.enable_x64(True):
        exact = jax.tree.map(
            lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, built()
        )

        def both(x: Any) -> Any:
            q = exact.posterior(exact.encoder(x))
            z = q.sample(key)
            log_p = exact.prior().log_prob(z) + exact.likelihood(exact.decoder(z)).log_prob(x)
            return (log_p - q.log_prob(z)).mean(), bound_by_hand(exact, key, z)

        ours, hand = map(float, jax.jit(both)(x.astype(jnp.float64)))
    affine = AffineMarkov((length, z_dim), context_shape=(length, features), key=key)
    steps = {
        "scan by hand": stepping(bound_by_hand, built()),
        "DMM": stepping(bound_of_ours, built()),
        "DMM, AffineMarkov": stepping(bound_of_ours, built(posterior=affine)),
    }
    return steps, {"ours": ours, "hand": hand}


def measure(backend: str, size: str, length: int, repeat: int) -> list[dict[str, Any]]:
    """Rows of one backend, size and length."""
    build = {"torch": torch_steps, "jax": jax_steps}[backend]
    steps, weights = build(size, length)
    apart = max(weights.values()) - min(weights.values())
    if not apart < 1e-8 * max(1.0, abs(weights["ours"])):
        raise SystemExit(f"The bounds of one path differ: {weights}")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeat + 2):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if turn > 1:  # the first two warm up, and compile
                times[name].append(time.process_time() - start)
    first = next(iter(times))
    return [
        {
            "backend": backend,
            "size": size,
            "T": length,
            "step": name,
            "ms": f"{1e3 * float(np.median(seconds)):.1f}",
            "ratio": f"{float(np.median(np.divide(seconds, times[first]))):.2f}",
        }
        for name, seconds in times.items()
    ]


def alone(backend: str, size: str, length: int, repeat: int) -> list[dict[str, Any]]:
    """Rows that a process of its own measures."""
    threads = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    command = [sys.executable, __file__, "--repeat", str(repeat)]
    command += ["--one", f"{backend},{size},{length}"]
    found = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--lengths", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--backends", nargs="+", choices=["torch", "jax"], default=["torch", "jax"])
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of its own measures
    args = parser.parse_args()
    if args.one:
        backend, size, length = args.one.split(",")
        run = compiled_step if backend == "compiled" else partial(measure, backend)
        print(json.dumps(run(size, int(length), args.repeat)))
        return
    rows: list[dict[str, Any]] = []
    for backend in args.backends:
        for size, length in product(args.size, args.lengths):
            rows += alone(backend, size, length, args.repeat)
            if backend == "torch":
                first = next(r for r in reversed(rows) if r["ratio"] == "1.00")
                (own,) = alone("compiled", size, length, args.repeat)
                rows.append(own | {"ratio": f"{float(own['ms']) / float(first['ms']):.2f}"})
    table = format_table(rows)
    print(table)
    if args.record:
        protocol = (__doc__ or "").split("\n\n", 2)[2].strip()
        machine = f"{platform.machine()}, one thread, {args.repeat} rounds"
        text = f"# A step of deep Markov models\n\n{protocol}\n\n{machine}.\n\n```\n{table}\n```\n"
        RECORD.write_text(text)


if __name__ == "__main__":
    main()
