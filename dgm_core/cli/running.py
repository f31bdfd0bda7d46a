"""The commands: fit and evaluate, list, compare."""

from __future__ import annotations

import platform
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core import plots
from dgm_core.cli.arguments import (
    LIKELIHOODS,
    LOSSES,
    MODELS,
    POSTERIORS,
    PRIORS,
    UsageError,
    settings_of,
)
from dgm_core.cli.backend import Backend
from dgm_core.cli.building import Prepared, as_usage_error, build_loss, build_model, prepare
from dgm_core.data import describe, names
from dgm_core.diagnostics import active_units, bits_per_dim, summary
from dgm_core.files import claimed, unused
from dgm_core.results import format_table, read_json, write_json

_NUM_PICTURES = 64
_NUM_EXPORTED, _NUM_DRAWS = 50, 100  # data and draws in posterior.nc


def fit(backend: Backend, arguments: Namespace) -> None:
    """Train a model, write everything into the output folder and print the table of bounds."""
    data = prepare(arguments)
    model = build_model(backend, arguments, data)
    loss = build_loss(backend, arguments, len(data.train))
    arguments.output.mkdir(parents=True, exist_ok=True)
    with claimed(arguments.output) as free:
        if not free:
            raise UsageError(f"Another run writes to {arguments.output}: give another --output.")
        _fit(backend, arguments, data, model, loss)


def _fit(backend: Backend, arguments: Namespace, data: Prepared, model: Any, loss: Any) -> None:
    folder = arguments.output
    config = {
        "backend": backend.name,
        "model": arguments.model,
        "arguments": settings_of(arguments),
        "versions": _versions(backend),
    }
    config |= {
        "likelihood": data.likelihood,
        "loss": repr(loss),
        "num_data": {name: len(getattr(data, name)) for name in ("train", "validation", "test")},
    }
    write_json(folder / "config.json", config)  # now, so that an interrupted run can be resumed
    with as_usage_error():
        run = backend.fit(
            model.model,
            model.guide,
            data.train,
            loss=loss,
            optim=backend.Adam(arguments.learning_rate),
            num_epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            validation=data.validation,
            patience=arguments.patience,
            transform=backend.binarize if data.redraw else None,
            checkpoint=folder / "checkpoint",
            resume=arguments.resume,
            seed=arguments.seed,
            progress=not arguments.quiet,
            device=arguments.device,
        )
    run.history.to_csv(folder / "metrics.csv")
    plots.save(plots.loss_curves(run.history), folder / "losses.png")
    table = _evaluate(backend, arguments, data, run)
    print(
        f"{backend.name} {arguments.model} on {arguments.data}, {loss!r}, best of {run.epoch} "
        f"epochs: {run.best_epoch}\n{table}\n{folder}: {_listing(folder)}"
    )


def show(backend: Backend, arguments: Namespace) -> None:
    """Print the data sets, models and their parts."""
    print(format_table([{"data set": name, "": describe(name)} for name in names()]))
    parts = {
        "model": MODELS,
        "--posterior": POSTERIORS,
        "--prior": PRIORS,
        "--likelihood": LIKELIHOODS,
        "--loss": [f"{loss} ({', '.join(estimators)})" for loss, estimators in LOSSES.items()],
    }
    print(
        "\n"
        + format_table(
            [{"flag": flag, "values": ", ".join(values)} for flag, values in parts.items()]
        )
    )


def compare(backend: Backend, arguments: Namespace) -> None:
    """Print one table of finished runs, of either backend. Raises UsageError for a folder without
    one.
    """
    print(format_table([_row(folder) for folder in arguments.folders]))


def _evaluate(backend: Backend, arguments: Namespace, data: Prepared, run: Any) -> str:
    """Bounds, pictures and draws on the test data; returns the table."""
    folder, seed = arguments.output, arguments.seed
    x = data.test[: arguments.eval_data or None]
    labels = None if data.dataset.labels is None else data.dataset.labels["test"][: len(x)]
    report = summary(backend.log_weights(run, x, num_particles=arguments.eval_particles, seed=seed))
    means = backend.latents(run, x, means=True, num_draws=_NUM_DRAWS, seed=seed)["z"]
    extra: dict[str, float] = {"active_units": active_units(means), "z_dim": arguments.z_dim}
    lines = [str(report), f"active units: {extra['active_units']} of {arguments.z_dim}"]
    if data.levels is not None:
        extra["bits_per_dim"] = float(bits_per_dim(report.mean("IWAE"), x[0].size, data.levels))
        lines.append(f"bits per dimension: {extra['bits_per_dim']:.3f}")
    write_json(
        folder / "results.json",
        {
            **report.to_dict(),
            **extra,
            "epoch": run.epoch,
            "seconds": float(np.nansum(run.history.column("seconds"))),
        },
    )

    shape = data.dataset.image_shape
    rebuilt = backend.reconstruct(run, x, seed=seed)["x"]
    made = backend.generate(
        run, size=_NUM_PICTURES if shape else len(x), means=shape is not None, seed=seed
    )["x"]
    if shape is not None:
        plots.save(plots.samples_grid(made, shape), folder / "samples.png")
        plots.save(
            plots.reconstructions(x[:40], rebuilt[:40], shape), folder / "reconstructions.png"
        )
    else:
        columns = [f"$x_{{{index + 1}}}$" for index in range(x.shape[1])]
        plots.save(
            plots.pair_plot({"data": x, "samples": made}, names=columns), folder / "samples.png"
        )
        plots.save(
            plots.pair_plot({"data": x, "reconstructions": rebuilt}, names=columns),
            folder / "reconstructions.png",
        )
    plots.save(
        plots.latent_scatter(means, labels, title="posterior means of the test data"),
        folder / "latent.png",
    )
    idata = backend.to_arviz(run, x[:_NUM_EXPORTED], num_draws=_NUM_DRAWS, seed=seed)
    temporary = unused(folder / "posterior.nc")
    try:
        idata.to_netcdf(str(temporary))
        temporary.replace(folder / "posterior.nc")
    finally:
        temporary.unlink(missing_ok=True)
    return "\n".join(lines)


def _row(folder: Path) -> dict[str, Any]:
    """One line of the comparison."""
    try:
        config, results = read_json(folder / "config.json"), read_json(folder / "results.json")
        counts = results["khat_counts"]
        return {
            "run": folder.resolve().name,
            "backend": config["backend"],
            "data": config["arguments"]["data"],
            "posterior": config["arguments"]["posterior"],
            "prior": config["arguments"]["prior"],
            "loss": config["loss"],
            **{
                f"IWAE-{results['num_particles']}" if name == "IWAE" else name: mean
                for name, mean in results["mean"].items()
                if name != "k-hat"
            },
            "k-hat >= 0.7": counts["0.7 <= k < 1"] + counts["k >= 1"] if counts else None,
            "active units": results["active_units"],
            "epochs": results["epoch"],
            "seconds": results["seconds"],
        }
    except Exception as error:  # whatever a wrong file leads to
        raise UsageError(
            f"{folder} does not hold the results of a finished run ({error})."
        ) from error


def _versions(backend: Backend) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", *backend.libraries)},
    }


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir()))
