"""Diffusions of two-dimensional distributions with known densities.

    python benchmarks/diffusion.py [--data eight_gaussians two_moons checkerboard] [--seed 0]

Protocol: 100,000 points; `Diffusion(2, hidden=(128, 128, 128), predict="velocity",
schedule=VP(1000))` with the variance of the data, `DenoisingError`, batches of 512, Adam 2e-3
falling to 2e-5, a moving average of the weights of decay 0.999, 12,000 steps; for the edges of the
checkerboard one more hidden layer and 60,000 steps. NumPyro. Scored on 2,000 further points: "below
true" is the mean difference of the true log-density to that of the probability flow (40 steps of
RK4), with its standard error, an estimate of KL(truth, flow); "20 steps" is the same with half the
steps, "bound" that of the chain, with variance="small" as for draws. Draws are judged by the mean
log-density of the truth at 2,000 of them, less that of data: ancestral by all 1,000 steps, DDIM by
20. On the checkerboard that is infinite for every draw outside, and the share outside is printed.
Each run leaves one JSON file in benchmarks/results/diffusion. A finished run is not repeated.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from continuous import cosine, negative_entropy
from density import TRUE
from numpyro.handlers import substitute

from dgm_core.data.toys import TOYS
from dgm_core.diffusion import VP
from dgm_core.results import format_table, write_json
from numpyro_dgm import fit
from numpyro_dgm.conditionals import Diffusion
from numpyro_dgm.losses import DenoisingError
from numpyro_dgm.nn import register

HERE = Path(__file__).parent / "results" / "diffusion"
DATA = {
    "eight_gaussians": (12_000, (128, 128, 128)),
    "two_moons": (12_000, (128, 128, 128)),
    "checkerboard": (60_000, (128, 128, 128, 128)),
}


def trained(net: Any, x: Any, loss: Any, steps: int, batch: int, rate: float, seed: int) -> Any:
    """A density after so many steps, with the average of its weights."""

    def model(x: Any, context: Any = None) -> None:
        with numpyro.plate("data", len(x)):
            numpyro.sample("x", register("net", net)(context), obs=x)

    run = fit(
        model,
        None,
        x,
        loss=loss,
        optim=optax.adam(rate),
        num_steps=steps,
        batch_size=batch,
        drop_last=True,
        lr_schedule=cosine(steps),
        average=0.999,
        seed=seed,
        progress=False,
    )
    return substitute(lambda: register("net", net), data=run.params)()


def run_one(data: str, seed: int) -> dict[str, Any]:
    """Train and score one density."""
    steps, hidden = DATA[data]
    x, test = TOYS[data](100_000, seed + 1), TOYS[data](2_000, seed + 2)
    net = Diffusion(
        2,
        hidden=hidden,
        predict="velocity",
        schedule=VP(1000),
        data_variance=float(x.var()),
        key=jax.random.key(seed),
    )
    start, wall = time.process_time(), time.perf_counter()
    net = trained(net, x, DenoisingError("x"), steps, 512, 2e-3, seed)
    minutes = (time.process_time() - start) / 60, (time.perf_counter() - wall) / 60
    p, true = net(), TRUE[data](test.astype(float))
    scores = {
        num: np.asarray(jax.jit(lambda x, num=num: p.estimate_log_prob(x, num_steps=num)[0])(test))
        for num in (20, 40)
    }
    bounds = jax.jit(lambda key: p.bound(jnp.asarray(test), num_times=20, key=key))
    bound = np.mean([float(bounds(jax.random.key(i)).mean()) for i in range(10)])
    gap, entropy = true - scores[40], negative_entropy(data)
    found = {
        "data": data,
        "seed": seed,
        "log_likelihood": entropy - float(gap.mean()),
        "true": entropy,
        "below_true": float(gap.mean()),
        "standard_error": float(gap.std() / len(gap) ** 0.5),
        "below_true_20_steps": float((true - scores[20]).mean()),
        "bound": entropy - float(true.mean() - bound),
    }
    for name, how in (("ancestral", {}), ("ddim", {"method": "ddim", "num_steps": 20})):
        draws = np.asarray(p.sample(jax.random.key(1), (2_000,), **how), dtype=float)
        if data == "checkerboard":
            inside = (np.abs(draws) <= 4).all(-1) & (np.floor(draws / 2).sum(-1) % 2 == 0)
            found[name] = f"{1 - inside.mean():.3f} outside"
        else:
            found[name] = float(TRUE[data](draws).mean() - true.mean())
    hardware = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    return {
        **found,
        "minutes_of_processor": minutes[0],
        "minutes": minutes[1],
        "hardware": hardware,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for data in arguments.data:
        path = HERE / f"{data}-{arguments.seed}.json"
        if not path.exists():
            write_json(path, run_one(data, arguments.seed))
    results = [
        json.loads(path.read_text()) for data in DATA for path in HERE.glob(f"{data}-*.json")
    ]
    text = format_table([{k: v for k, v in r.items() if k != "hardware"} for r in results])
    print(text)
    protocol = (__doc__ or "").split("Protocol: ")[1].split("Each run")[0].strip()
    head = ["# Diffusions as densities", "", protocol, ""]
    head += [f"Nats; {results[0]['hardware']}, one thread, other work running beside.", ""]
    notes = (HERE.parent / "diffusion_notes.md").read_text()
    (HERE.parent / "diffusion.md").write_text("\n".join([*head, "```", text, "```", "", notes]))


if __name__ == "__main__":
    main()
