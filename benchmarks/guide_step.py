"""Speed of a step with `JointGuide` against the engine's automatic guide of the same family: stock
SVI, stock Trace_ELBO, Adam, one particle, CPU, one thread.

    python benchmarks/guide_step.py [--backends pyro numpyro] [--rounds 60] [--record]

Models: eight schools (not centered), and radon-like data (919 houses in 85 counties, a slope per
county). The IAF has one layer with the hidden units of the engine's, and then the learned tails in
which every flow of ours ends, which the engine's has not. A round is 10 steps of one
guide followed by 10 of the other (in NumPyro 500, in one jitted scan), by processor time; the
median of the ratios of the rounds is reported, so that a machine that is busy with other things
slows both. Exit status 1 when a ratio is above 1.1.
"""

import argparse
import platform
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table

LIMIT = 1.1
RECORD = Path(__file__).parent / "results" / "guide_step.md"
FAMILIES = {
    "diagonal normal": ("AutoDiagonalNormal", "DiagonalNormal"),
    "full-rank normal": ("AutoMultivariateNormal", "FullRankNormal"),
    "low-rank normal": ("AutoLowRankMultivariateNormal", "LowRankNormal"),
    "IAF": ("AutoIAFNormal", "IAF"),
}


def models(ppl: Any, dist: Any, array: Callable) -> dict[str, tuple[Callable, tuple]]:
    """Name: (model, its data), for either engine."""

    def schools(sigma: Any, y: Any) -> None:
        mu = ppl.sample("mu", dist.Normal(0.0, 5.0))
        tau = ppl.sample("tau", dist.HalfCauchy(5.0))
        with ppl.plate("schools", 8):
            effect = ppl.sample("effect", dist.Normal(0.0, 1.0))
            ppl.sample("y", dist.Normal(mu + tau * effect, sigma), obs=y)

    def radon(county: Any, floor: Any, y: Any) -> None:
        mu = ppl.sample("mu", dist.Normal(array(np.zeros(2)), 1.0).to_event(1))
        tau = ppl.sample("tau", dist.HalfNormal(array(np.ones(2))).to_event(1))
        sigma = ppl.sample("sigma", dist.HalfNormal(1.0))
        with ppl.plate("counties", 85):
            raw = ppl.sample("raw", dist.Normal(array(np.zeros(2)), 1.0).to_event(1))
        coefficients = mu + tau * raw
        with ppl.plate("houses", 919):
            mean = coefficients[county, 0] + coefficients[county, 1] * floor
            ppl.sample("y", dist.Normal(mean, sigma), obs=y)

    rng = np.random.default_rng(0)
    county, floor = np.sort(rng.integers(0, 85, 919)), rng.binomial(1, 0.2, 919).astype("float32")
    y = 1.3 + 0.3 * rng.standard_normal(85)[county] - 0.7 * floor + rng.normal(0, 0.8, 919)
    measured = np.array([[15, 10, 16, 11, 9, 11, 10, 18], [28, 8, -3, 7, -1, 1, 18, 12]])
    return {
        "eight schools": (schools, tuple(array(x) for x in measured.astype("float32"))),
        "radon": (radon, (array(county), array(floor), array(y.astype("float32")))),
    }


def in_pyro(model: Callable, data: tuple, names: tuple[str, str]) -> list[Callable[[], None]]:
    """10 steps of the stock guide, and of ours."""
    from functools import partial

    import pyro
    import pyro.infer.autoguide as stock

    from pyro_dgm import JointGuide, conditionals, flows

    rank = {"rank": 5} if names[1] == "LowRankNormal" else {}
    ours = getattr(conditionals, names[1], None) or getattr(flows, names[1])
    guides = [
        getattr(stock, names[0])(model, **rank),
        JointGuide(model, partial(ours, **rank) if rank else ours),
    ]
    if names[1] == "IAF":
        guides[0](*data)
        hidden = (guides[0].latent_dim,)
        guides[1] = JointGuide(model, partial(ours, num_layers=1, hidden=hidden))
    steps, store = [], pyro.get_param_store()
    for guide in guides:
        pyro.clear_param_store()
        guide(*data)
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO())
        svi.step(*data)
        state = [store.get_state()]

        def step(svi: Any = svi, state: list = state) -> None:
            store.set_state(state[0])
            for _ in range(10):
                svi.step(*data)
            state[0] = store.get_state()

        steps.append(step)
    return steps


def in_numpyro(model: Callable, data: tuple, names: tuple[str, str]) -> list[Callable[[], None]]:
    """500 steps of the stock guide, and of ours."""
    from functools import partial

    import jax
    import numpyro
    import numpyro.infer.autoguide as stock

    from numpyro_dgm import JointGuide, conditionals, flows

    rank = {"rank": 5} if names[1] == "LowRankNormal" else {}
    ours = getattr(conditionals, names[1], None) or getattr(flows, names[1])
    size = 10 if len(data) == 2 else 175
    if names[1] == "IAF":
        ours = partial(ours, num_layers=1, hidden=(size, size), activation="elu")
    stock_options = {"num_flows": 1} if names[1] == "IAF" else rank
    guides = [
        getattr(stock, names[0])(model, **stock_options),
        JointGuide(model, partial(ours, **rank) if rank else ours, key=jax.random.key(0)),
    ]
    steps = []
    for guide in guides:
        svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(1e-3), numpyro.infer.Trace_ELBO())
        state = [svi.init(jax.random.key(0), *data)]

        def run(state: Any, svi: Any = svi) -> Any:
            return jax.lax.scan(lambda s, _: svi.update(s, *data), state, length=500)

        jitted = jax.jit(run)

        def step(jitted: Callable = jitted, state: list = state) -> None:
            state[0], losses = jitted(state[0])
            assert np.isfinite(np.asarray(losses)).all()

        steps.append(step)
    return steps


def measure(backend: str, rounds: int) -> list[dict[str, Any]]:
    if backend == "pyro":
        import pyro as ppl
        import torch

        torch.set_num_threads(1)
        array, factory, per_call = torch.as_tensor, in_pyro, 10
    else:
        import jax.numpy as jnp
        import numpyro as ppl

        array, factory, per_call = jnp.asarray, in_numpyro, 500
    rows = []
    single = lambda x: array(x.astype("float32") if x.dtype == np.float64 else x)  # noqa: E731
    for name, (model, data) in models(ppl, ppl.distributions, single).items():
        for family, names in FAMILIES.items():
            times = []
            pair = factory(model, data, names)
            for step in pair:
                step()
            for _ in range(rounds):
                moments = [time.process_time()]
                for step in pair:
                    step()
                    moments.append(time.process_time())
                times.append(np.diff(moments) / per_call * 1e3)
            stock, ours = np.median(times, axis=0)
            ratio = float(np.median([b / a for a, b in times]))
            rows.append(
                {
                    "backend": backend,
                    "model": name,
                    "family": family,
                    "stock_ms": f"{stock:.4f}",
                    "ours_ms": f"{ours:.4f}",
                    "ratio": f"{ratio:.3f}",
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    arguments = parser.parse_args()
    if len(arguments.backends) > 1:  # a process for each
        rows = []
        for backend in arguments.backends:
            command = [sys.executable, __file__, "--backends", backend]
            command += ["--rounds", str(arguments.rounds)]
            lines = subprocess.run(command, text=True, stdout=subprocess.PIPE).stdout.splitlines()
            rows += [literal_eval(line) for line in lines if line.startswith("{")]
    else:
        rows = measure(arguments.backends[0], arguments.rounds)
    table = format_table(rows)
    print(table)
    if arguments.record:
        machine = f"{platform.machine()}, one thread, {arguments.rounds} rounds"
        protocol = (__doc__ or "").split("\n\n", 2)[2].strip()
        RECORD.write_text(
            f"# Steps with a guide\n\n{protocol}\n\n{machine}.\n\n```\n{table}\n```\n"
        )
    return int(any(float(row["ratio"]) > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
