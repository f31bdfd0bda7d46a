"""Continuous flows on two-dimensional distributions with known densities.

    python benchmarks/continuous.py [--data eight_gaussians two_moons checkerboard]
    [--methods matching longer optimal likelihood regularized] [--backends numpyro pyro] [--seed 0]

Protocol: 100,000 points; hidden layers of 128-128-128; batches of 512, Adam 2e-3 falling to 2e-5, a
moving average of the weights of decay 0.999. "matching" and "optimal" are FlowMatching with either
coupling, 12,000 steps; "longer" is the first with 60,000 steps and one more hidden layer, for the
edges of the checkerboard. "likelihood" is NLL through 6 steps of RK4 with the exact trace, hidden
layers of 64-64-64, 4,000 batches of 128, Adam 1e-3 falling to 1e-5; "regularized" adds 0.01 of the
kinetic energy and of the Jacobian; "both" is NLL for 1,500 batches, Adam 3e-4, after "matching",
"longer both" after "longer". "midpoint" shows what goes wrong: 8 steps of the midpoint rule and
Adam 5e-3, 2,500 batches of 512.
Scored on 4,000 further points by 40 steps of RK4; "below true" is the mean difference of the true
log-density to the flow's, with its standard error: an estimate of KL(truth, flow). The mean of the
true log-density itself is minus the entropy, by quadrature over a grid (in closed form, -log 32,
for the checkerboard). "20 steps" is the same with half the steps, and "as trained" with those of
the training: what the solver is responsible for.
Each run is a process of its own and leaves one JSON file and one picture of its density in
benchmarks/results/continuous, or in OUT_DIR. A finished run is not repeated.
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
from density import TRUE

from dgm_core.data.toys import TOYS
from dgm_core.results import format_table, write_json

RECORD = Path(__file__).parent / "results" / "continuous"
HERE = Path(os.environ.get("OUT_DIR", RECORD))
DATA = ("eight_gaussians", "two_moons", "checkerboard")
MATCHED: dict[str, Any] = {"steps": 12_000, "rate": 2e-3, "hidden": (128, 128, 128), "batch": 512}
SOLVED = {"steps": 4_000, "rate": 1e-3, "hidden": (64, 64, 64), "batch": 128, "num_steps": 6}
METHODS: dict[str, dict[str, Any]] = {
    "matching": MATCHED,
    "longer": {**MATCHED, "steps": 60_000, "hidden": (128, 128, 128, 128)},
    "optimal": MATCHED,
    "likelihood": SOLVED,
    "regularized": SOLVED,
    "both": {**SOLVED, "steps": 1_500, "rate": 3e-4, "hidden": (128, 128, 128)},
    "longer both": {**SOLVED, "steps": 1_500, "rate": 3e-4, "hidden": (128, 128, 128, 128)},
    "midpoint": {
        "steps": 2_500,
        "rate": 5e-3,
        "hidden": (64, 64, 64),
        "batch": 512,
        "num_steps": 8,
        "solver": "midpoint",
    },
}


def cosine(steps: int) -> Callable[[Any], Any]:
    """From 1 to 0.01, for arrays of either library and numbers."""

    def factor(step: Any) -> Any:
        part = step / steps
        bent = part * part * (3 - 2 * part)  # as a cosine, without one
        return 1 - 0.99 * bent

    return factor


def negative_entropy(data: str) -> float:
    """E log p under the truth, by quadrature."""
    if data == "checkerboard":
        return float(-np.log(32.0))
    axis = np.linspace(-5.5, 5.5, 221)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    log_p = np.concatenate([TRUE[data](part) for part in np.array_split(grid, 200)])
    return float((np.exp(log_p) * log_p).sum() * (axis[1] - axis[0]) ** 2)


def run_one(backend: str, data: str, method: str, seed: int, path: Path) -> dict[str, Any]:
    """Train, score and draw one flow."""
    setup = METHODS[method]
    x, test = TOYS[data](100_000, seed + 1), TOYS[data](4_000, seed + 2)
    settings = {"hidden": setup["hidden"], "num_steps": setup.get("num_steps", 8)}
    settings["solver"] = setup.get("solver", "rk4")
    if backend == "pyro":
        import torch
        from pyro import plate, sample

        import pyro_dgm as package

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        transform = package.flows.ContinuousTransform(2, **settings)
        array, adam = torch.as_tensor, package.Adam
    else:
        import jax
        import jax.numpy as jnp
        import optax
        from numpyro import plate, sample

        import numpyro_dgm as package  # type: ignore[no-redef]

        transform = package.flows.ContinuousTransform(2, **settings, key=jax.random.key(seed))
        array, adam = jnp.asarray, optax.adam
    flow, losses = package.flows.Flow(2, [transform]), package.losses

    def model(x: Any) -> None:
        with plate("data", len(x)):
            sample("x", package.nn.register("flow", flow)(), obs=x)

    loss: Any = losses.NLL()
    if method in ("matching", "longer", "optimal"):
        coupling = "optimal" if method == "optimal" else "independent"
        loss = losses.FlowMatching("x", coupling=coupling)
    if method == "regularized":
        loss = loss + 0.01 * losses.KineticEnergy("x") + 0.01 * losses.JacobianNorm("x")
    parts = [(loss, setup)]
    if method.endswith("both"):
        first = METHODS["longer" if "longer" in method else "matching"]
        parts.insert(0, (losses.FlowMatching("x"), first))
    start, wall = time.process_time(), time.perf_counter()
    for part, (objective, own) in enumerate(parts):
        run = package.fit(
            model,
            None,
            x,
            loss=objective,
            optim=adam(own["rate"]),
            num_steps=own["steps"],
            batch_size=own["batch"],
            drop_last=True,
            lr_schedule=cosine(own["steps"]),
            average=0.999 if own["steps"] > 3000 else 0.998,
            seed=seed + part,
            progress=False,
        )
        net = trained_net(package, run, backend, flow)
        transform = package.flows.ContinuousTransform(net, **{**settings, "hidden": ()})
        flow = package.flows.Flow(2, [transform])
    trained = time.process_time() - start, time.perf_counter() - wall
    scores = {}
    axis = np.linspace(-4.5, 4.5, 121, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    for steps in (0, 20, 40):
        finer = package.flows.ContinuousTransform(net, num_steps=steps or 1)
        log_prob = package.flows.Flow(2, [finer])().log_prob if steps else flow().log_prob
        if backend == "numpyro":
            log_prob = jax.jit(log_prob)
        parts = [log_prob(array(part)) for part in test.reshape(8, -1, 2)]
        scores[steps] = np.concatenate([np.asarray(detached(part)) for part in parts])
    picture(path.with_suffix(".png"), axis, np.asarray(detached(log_prob(array(grid)))), data)
    gap = TRUE[data](test.astype(float)) - scores[40]
    return {
        "data": data,
        "method": method,
        "backend": backend,
        "seed": seed,
        "log_likelihood": negative_entropy(data) - float(gap.mean()),
        "true": negative_entropy(data),
        "below_true": float(gap.mean()),
        "standard_error": float(gap.std() / len(gap) ** 0.5),
        "below_true_20_steps": float(gap.mean() + (scores[40] - scores[20]).mean()),
        "below_true_as_trained": float(gap.mean() + (scores[40] - scores[0]).mean()),
        "minutes_of_processor": trained[0] / 60,
        "minutes": trained[1] / 60,
        "hardware": os.environ.get("HARDWARE", f"{os.cpu_count()} CPU cores, {platform.machine()}"),
    }


def detached(x: Any) -> Any:
    return x.detach() if hasattr(x, "detach") else x


def trained_net(package: Any, run: Any, backend: str, flow: Any) -> Any:
    """The network of the flow as the run has ended; Pyro trains in place."""
    if backend == "numpyro":
        from numpyro.handlers import substitute

        flow = substitute(lambda: package.nn.register("flow", flow), data=run.params)()
    return flow.transforms[0].net


def picture(path: Path, axis: np.ndarray, log_prob: np.ndarray, data: str) -> None:
    """The density over the plane, beside the true one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(float)
    inside = (np.abs(grid) <= 4).all(-1) & ((np.floor(grid / 2).sum(-1)) % 2 == 0)
    true = inside / 32.0 if data == "checkerboard" else np.exp(TRUE[data](grid))
    figure, places = plt.subplots(1, 2, figsize=(5.0, 2.6))
    for place, density, name in zip(places, (true, np.exp(log_prob)), ("true", "learned")):
        image = density.reshape(len(axis), -1)
        place.imshow(image, origin="lower", vmin=0, vmax=true.max(), extent=[-4.5, 4.5] * 2)
        place.set_title(name, fontsize=9)
        place.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def table(results: list[dict[str, Any]]) -> str:
    """One row per run."""
    rows = [
        {
            **{name: r[name] for name in ("data", "method", "backend", "seed")},
            "log-likelihood": r["log_likelihood"],
            "below true": r["below_true"],
            "std. error": r["standard_error"],
            "20 steps": r["below_true_20_steps"],
            "as trained": r.get("below_true_as_trained", r["below_true_20_steps"]),
            "minutes of processor": round(r["minutes_of_processor"], 1),
            "minutes": round(r["minutes"], 1),
        }
        for r in results
    ]
    return format_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--backends", nargs="+", default=["numpyro", "pyro"], choices=["pyro", "numpyro"]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        path = Path(arguments.one)
        chosen = arguments.backends[0], arguments.data[0], arguments.methods[0]
        write_json(path, run_one(*chosen, arguments.seed, path))
        return
    for backend in arguments.backends:
        for method in arguments.methods:
            for data in arguments.data:
                path = HERE / f"{data}-{method.replace(' ', '_')}-{backend}-{arguments.seed}.json"
                if not path.exists():
                    command = [sys.executable, __file__, "--one", str(path), "--backends", backend]
                    command += ["--data", data, "--methods", method, "--seed", str(arguments.seed)]
                    subprocess.run(command, check=True)
    results = [json.loads(path.read_text()) for path in HERE.glob("*.json")]
    places = [(d, m, b) for d in DATA for m in METHODS for b in ("numpyro", "pyro")]
    results.sort(key=lambda r: (places.index((r["data"], r["method"], r["backend"])), r["seed"]))
    text = table(results)
    print(text)
    if HERE != RECORD:
        return
    protocol = (__doc__ or "").split("Protocol: ")[1].split("Each run is")[0].strip()
    head = ["# Continuous flows as densities", "", protocol, ""]
    head += [f"Nats; {results[0]['hardware']}, one thread, other work running beside.", ""]
    notes = (HERE.parent / "continuous_notes.md").read_text()
    (HERE.parent / "continuous.md").write_text("\n".join([*head, "```", text, "```", "", notes]))


if __name__ == "__main__":
    main()
