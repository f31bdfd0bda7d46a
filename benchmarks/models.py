"""Thirteen models of other people, fitted, summarized, predicted and exported in both backends.

    python benchmarks/models.py pyro|numpyro [names]

Protocol: the models and guides of models_pyro.py and models_numpyro.py are plain programs of the
two libraries; data are those of models_data.py, drawn from fixed seeds, and five posteriors of
posteriordb with their reference draws (DGM_DATA_DIR). Adam, the rate falling by a factor of 100
over the run, the ELBO, seed 0, single precision. Then `summary` of 1,000 weights,
`predict` on new inputs, `prior_predictive` and `to_arviz`. Means and standard deviations of 500
draws of the guide are held beside the reference draws, or beside one run of NumPyro's NUTS (1,000
warm-up steps, 2 x 1,000 draws): "off" is the largest distance of a mean in standard deviations of
the reference, "sd" the smallest and largest ratio of a standard deviation to the reference's.
A mean-field or diagonal guide has ratios below one by its nature. Each result leaves one JSON file
in benchmarks/results/models, the table of all goes to benchmarks/results/models.md. A finished
result is not repeated.
"""

import argparse
import importlib
import json
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from models_data import PROBLEMS, Problem, Stats

from dgm_core.diagnostics import summary
from dgm_core.results import format_table, write_json

HERE = Path(__file__).parent / "results" / "models"
FINDING = """\
ELBO and IWAE are in nats, of the whole data (per datum for the VAE, whose evidence is the exact one
at the learned weights; that of eight schools is a quadrature's). The twins end at the same bounds.
Where the guide's family holds the posterior (regressions, network, HMM, mixtures) means lie within
0.2 standard deviations of the reference and the spread is right to the noise of 500 draws and of
the last steps; mean-field and amortized guides (students, garch, correlations) are too narrow, as
they must be, and k-hat says so. A scale that starts far off takes time under Adam, which
remembers the first gradients: the HMM and the Gaussian mixture had spreads up to 1.8 times too wide
after 1,500 and 2,000 steps. Flat priors (kidiq, garch) are refused by `prior_predictive` in words.
The rows of garch are from before its prior was flat over the triangle (alpha1, beta1).
"""


def fitted(backend: str, problem: Problem, model: Any, guide: Any) -> Any:
    package = importlib.import_module(f"{backend}_dgm")
    return package.fit(
        model,
        guide,
        [problem.data] if problem.ragged else problem.data,
        loss=package.ELBO(),
        optim=package.Adam(problem.rate),
        num_steps=problem.num_steps,
        batch_size=problem.batch_size,
        lr_schedule=lambda step: 0.01 ** (step / problem.num_steps),
        progress=False,
    )


def nuts(name: str, problem: Problem) -> Stats:
    """Means and standard deviations of the keys by NumPyro's NUTS."""
    import jax
    from models_numpyro import MODELS
    from numpyro.infer import MCMC, NUTS, init_to_uniform, init_to_value

    data = problem.data
    args = () if isinstance(data, dict) else data if isinstance(data, tuple) else (data,)
    kwargs = data if isinstance(data, dict) else {}
    start = problem.start
    init = init_to_value(values=start) if isinstance(start, dict) else init_to_uniform
    sampler = MCMC(
        NUTS(MODELS[name][0], init_strategy=init), num_warmup=1000, num_samples=1000, num_chains=2,
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    sampler.run(jax.random.key(0), *args, **kwargs)
    draws = sampler.get_samples()
    return {key: (np.mean(draws[key], 0), np.std(draws[key], 0)) for key in problem.keys}


def reference(name: str, problem: Problem) -> Stats:
    """The reference of a problem; that of NUTS is drawn once and kept."""
    if problem.reference is not None or not problem.keys:
        return problem.reference or {}
    path = HERE / f"nuts-{name}.json"
    if not path.exists():
        found = nuts(name, problem)
        write_json(path, {key: [x.tolist() for x in pair] for key, pair in found.items()})
    pairs = json.loads(path.read_text())
    return {key: (np.asarray(mean), np.asarray(sd)) for key, (mean, sd) in pairs.items()}


def compared(problem: Problem, expected: Stats, idata: Any) -> dict[str, Any]:
    """The guide's means and standard deviations beside those of the reference."""
    off, ratios, shown = [0.0], [], {}
    for key in problem.keys:
        draws = idata.posterior[key].values[0]
        mean, sd = draws.mean(0), draws.std(0)
        wanted, spread = (np.reshape(x, mean.shape) for x in expected[key])
        free = spread > 1e-6 * np.abs(wanted).max()  # the diagonal of a correlation is no draw
        off.append(float((np.abs(mean - wanted) / np.where(free, spread, 1.0))[free].max()))
        ratios += list((sd[free] / spread[free]).ravel())
        if mean.size <= 12:
            shown[key] = {
                "mean": mean.tolist(),
                "sd": sd.tolist(),
                "reference mean": wanted.tolist(),
                "reference sd": spread.tolist(),
            }
    if not ratios:
        return {"off": None, "sd": None, "values": {}}
    return {"off": max(off), "sd": f"{min(ratios):.2f} to {max(ratios):.2f}", "values": shown}


def factor_analysis(run: Any, problem: Problem) -> float:
    """The exact log evidence per datum of the linear model at the weights of the run."""
    W, bias, noise = (np.asarray(run.params[n], float) for n in ("W", "bias", "noise"))
    total = 0.0
    for x, seen in zip(*problem.data):
        covariance = W.T[seen] @ W[:, seen] + noise**2 * np.eye(seen.sum())
        error = x[seen] - bias[seen]
        total -= 0.5 * (
            error @ np.linalg.solve(covariance, error)
            + np.linalg.slogdet(2 * np.pi * covariance)[1]
        )
    return total / len(problem.data[0])


def run_one(backend: str, name: str) -> dict[str, Any]:
    problem = PROBLEMS[name]()
    evaluation = importlib.import_module(f"{backend}_dgm.evaluation")
    model, make = importlib.import_module(f"models_{backend}").MODELS[name]
    if backend == "pyro":  # whose parameters outlive a model
        importlib.import_module("pyro").clear_param_store()
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fitted(backend, problem, model, make(problem.start))
        seconds = time.perf_counter() - start
        weights = evaluation.log_weights(run, problem.data, num_particles=1000)
        report = summary(weights)
        predicted = evaluation.predict(run, problem.new, num_draws=20)
        prior = (
            evaluation.prior_predictive(model, problem.new, num_draws=20) if problem.proper else {}
        )
        idata = evaluation.to_arviz(run, problem.data, num_draws=500)
    evidence = problem.evidence
    if name == "vae_missing":
        evidence = factor_analysis(run, problem)
    return {
        "model": name,
        "backend": backend,
        "ELBO": report.mean("ELBO"),
        "IWAE": report.mean("IWAE"),
        "evidence": evidence,
        "k-hat": float(np.median(report["k-hat"])),
        "weights": list(weights.shape),
        **compared(problem, reference(name, problem), idata),
        "fit_s": seconds,
        "all_s": time.perf_counter() - start,
        "predicted": {site: list(np.shape(x)) for site, x in predicted.items()},
        "prior": {site: list(np.shape(x)) for site, x in prior.items()},
        "exported": {g: {k: list(v.dims) for k, v in idata[g].items()} for g in idata.groups()},
        "warnings": sorted({str(w.message)[:300] for w in caught}),
    }


def write_table() -> None:
    rows = [json.loads(path.read_text()) for path in sorted(HERE.glob("*numpyro.json"))]
    rows += [json.loads(path.read_text()) for path in sorted(HERE.glob("*-pyro.json"))]
    order = list(PROBLEMS)
    rows.sort(key=lambda row: (order.index(row["model"]), row["backend"]))
    columns = ["model", "backend", "ELBO", "IWAE", "evidence", "k-hat", "off", "sd"]
    columns += ["fit_s", "all_s"]
    protocol = (__doc__ or "").split("Protocol: ")[1].replace("\n", " ").strip()
    hardware = (
        f"{os.cpu_count()} CPU cores, {platform.machine()}, one thread, with other work running "
        "beside (the times are upper bounds)."
    )
    lines = [
        "# Models of other people",
        "",
        protocol[0].upper() + protocol[1:],
        "",
        hardware,
        "",
        "```",
        format_table([{name: row[name] for name in columns} for row in rows], columns),
        "```",
        "",
        FINDING,
    ]
    HERE.with_suffix(".md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backend", choices=["pyro", "numpyro"])
    parser.add_argument("names", nargs="*", default=list(PROBLEMS))
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        path = HERE / f"{name}-{arguments.backend}.json"
        if not path.exists():
            write_json(path, run_one(arguments.backend, name))
        row = json.loads(path.read_text())
        print({key: value for key, value in row.items() if key != "values"}, flush=True)
    write_table()


if __name__ == "__main__":
    main()
