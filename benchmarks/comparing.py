"""Eight guides of eight schools in one table: `compare_guides` at its defaults, NUTS beside them.

    python benchmarks/comparing.py [--backend numpyro] [--seeds 0 1 2]

Protocol: eight schools, not centered (mu ~ Normal(0, 5), tau ~ HalfCauchy(5)); the two automatic
guides of the engine (normals, diagonal and of full rank) and six of the library; the objective, the
optimizer, the number of steps and the reference are the defaults. "minutes" are of the clock, from
the import of the engine to the table and with NUTS. The limits are 6 minutes for three seeds in
NumPyro, and 10 for one in Pyro, on two cores.

The table goes to benchmarks/results/comparing.md.
"""

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from budget import hardware, results

from dgm_core.results import format_table, write_json

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
LIMITS = {("numpyro", 3): 6, ("pyro", 1): 10}  # minutes


def model_of(backend: str) -> Callable:
    """Eight schools, not centered."""
    ppl = importlib.import_module(backend)
    dist = importlib.import_module(f"{backend}.distributions")

    def model(sigma: Any, y: Any) -> None:
        mu = ppl.sample("mu", dist.Normal(0.0, 5.0))
        tau = ppl.sample("tau", dist.HalfCauchy(5.0))
        with ppl.plate("schools", len(sigma)):
            effect = ppl.sample("effect", dist.Normal(0.0, 1.0))
            ppl.sample("y", dist.Normal(mu + tau * effect, sigma), obs=y)

    return model


def guides_of(backend: str, model: Callable) -> dict[str, Callable]:
    """The guides, by name."""
    library = importlib.import_module(f"{backend}_dgm")
    auto = importlib.import_module(f"{backend}.infer.autoguide")
    key: dict[str, Any] = {}
    if backend == "numpyro":
        key = {"key": importlib.import_module("jax").random.key(0)}
    normals, flows, guides = library.conditionals, library.flows, library.guides
    families = {
        "diagonal": normals.DiagonalNormal,
        "full rank": normals.FullRankNormal,
        "low rank": partial(normals.LowRankNormal, rank=2),
        "IAF": partial(flows.IAF, num_layers=2),
        "splines": partial(flows.NSF, num_layers=2),
    }
    return {
        "AutoNormal": lambda: auto.AutoNormal(model),
        "AutoMultivariateNormal": lambda: auto.AutoMultivariateNormal(model),
        **{
            name: partial(guides.JointGuide, model, family, **key)
            for name, family in families.items()
        },
        "mixture": lambda: guides.MixtureGuide(model, [normals.DiagonalNormal] * 2, **key),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", default="numpyro", choices=["numpyro", "pyro"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    start, backend = time.perf_counter(), arguments.backend
    model = model_of(backend)
    evaluation = importlib.import_module(f"{backend}_dgm.evaluation")
    table = evaluation.compare_guides(
        model, guides_of(backend, model), (ERRORS, EFFECTS), seeds=arguments.seeds
    )
    print(table)
    times = os.times()
    row = {
        "backend": backend,
        "guides": 8,
        "seeds": len(arguments.seeds),
        "minutes": (time.perf_counter() - start) / 60,
        "limit": LIMITS.get((backend, len(arguments.seeds))),
        "CPU minutes": (times.user + times.system) / 60,
        "failed": sum(bool(row.get("failed")) for row in table.rows),
        "hardware": hardware(backend),
    }
    folder = results("comparing")
    write_json(folder / f"{backend}-{len(arguments.seeds)}.json", {"row": row, "table": str(table)})
    write_table(folder)


def write_table(folder: Path) -> None:
    """All that was measured, with the tables themselves."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    parts = ["# Eight guides in one table", f"```\n{format_table([f['row'] for f in found])}\n```"]
    parts.append((__doc__ or "").split("\n\n", 2)[2].split("\n\n")[0])
    parts += [f"{f['row']['backend']}:\n\n```\n{f['table']}\n```" for f in found]
    folder.with_suffix(".md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
