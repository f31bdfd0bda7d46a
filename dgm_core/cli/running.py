"""The commands: fit, evaluate, sample, compare, report, list."""

from __future__ import annotations

import platform
from argparse import Namespace
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core import plots
from dgm_core.cli.arguments import UsageError, in_words, settings_of
from dgm_core.cli.backend import Backend
from dgm_core.cli.building import Prepared, as_usage_error, build_loss, build_model, prepare
from dgm_core.cli.table import LIKELIHOODS, LOSSES, MODELS, POSTERIORS, PRIORS
from dgm_core.data import describe, names
from dgm_core.diagnostics import active_units, bits_per_dim, summary
from dgm_core.files import claimed
from dgm_core.report.facts import Observed
from dgm_core.report.pictures import plot_reconstructions, plot_samples
from dgm_core.report.result import write_netcdf
from dgm_core.results import format_table, read_json, write_json
from dgm_core.samples.quality import frechet_distance, neighbor_scores

_NUM_PICTURES = 64
_NUM_EXPORTED, _NUM_DRAWS = 50, 100  # data and draws in posterior.nc
_RUN = "model.run"


def fit(backend: Backend, arguments: Namespace) -> None:
    """Train a model, write everything into the output folder and print the table of bounds."""
    data = prepare(arguments)
    model = build_model(backend, arguments, data)
    loss = build_loss(backend, arguments, len(data.dataset.train))
    arguments.output.mkdir(parents=True, exist_ok=True)
    with claimed(arguments.output) as free:
        if not free:
            raise UsageError(f"Another run writes to {arguments.output}: give another --output.")
        run = _fit(backend, arguments, data, model, loss)
        table = _evaluated(backend, arguments, data, run, arguments.output)
    print(
        f"{backend.name} {arguments.model} on {arguments.data}, {loss!r}, best of {run.epoch} "
        f"epochs: {run.best_epoch}\n{table}\n{arguments.output}: {_listing(arguments.output)}"
    )


def _fit(backend: Backend, arguments: Namespace, data: Prepared, model: Any, loss: Any) -> Any:
    folder, training = arguments.output, backend.package.training
    splits = ("train", "validation", "test")
    config = {
        "backend": backend.name,
        "model": arguments.model,
        "arguments": settings_of(arguments),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", *backend.libraries)},
        },
        "likelihood": data.likelihood,
        "loss": repr(loss),
        "num_data": {name: len(getattr(data.dataset, name)) for name in splits},
    }
    write_json(folder / "config.json", config)  # now, so that an interrupted run can be resumed
    with as_usage_error():
        run = training.fit(
            model.model,
            model.guide,
            data.train,
            loss=loss,
            optim=training.Adam(arguments.learning_rate),
            num_epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            validation=data.validation if data.model.scored else None,
            patience=arguments.patience,
            transform=training.binarize if data.redraw else None,
            checkpoint=folder / "checkpoint",
            resume=arguments.resume,
            seed=arguments.seed,
            progress=not arguments.quiet,
            device=arguments.device,
        )
    run.save(folder / _RUN)
    run.history.to_csv(folder / "metrics.csv")
    plots.save(plots.loss_curves(run.history), folder / "losses.png")
    return run


def evaluate(backend: Backend, arguments: Namespace) -> None:
    """Evaluate a finished run again, with other particles, data or seed."""
    data, run = _loaded(backend, arguments)
    table = _evaluated(backend, arguments, data, run, arguments.folder)
    print(f"{backend.name} {arguments.model} on {arguments.data}, {run!r}\n{table}")


def sample(backend: Backend, arguments: Namespace) -> None:
    """Draw from a finished run: every site into `samples.npz`, a picture beside it."""
    data, run = _loaded(backend, arguments)
    folder, size = arguments.folder, arguments.size
    draws = _drawn(backend, data, run, size, means=arguments.means, seed=arguments.seed)
    np.savez(folder / "samples.npz", **draws)  # type: ignore[arg-type]
    _show(plot_samples, data, _tested(data, arguments)[0], draws["x"], folder / "samples.png")
    shapes = ", ".join(f"{name} {value.shape}" for name, value in draws.items())
    print(f"{shapes} in {folder / 'samples.npz'}")


def compare(backend: Backend, arguments: Namespace) -> None:
    """Print one table of finished runs, of either backend. Raises UsageError for a folder without
    one.
    """
    print(format_table([_row(folder) for folder in arguments.folders]))


def report(backend: Backend, arguments: Namespace) -> None:
    """Put a finished run on one page: `report.html`, with its table, pictures and draws beside."""
    data, run = _loaded(backend, arguments, with_loss=True)
    test = _tested(data, arguments)
    with as_usage_error():
        made = backend.package.evaluation.report(
            run,
            *test,
            labels=_labels(data, len(test[0])),
            image_shape=data.dataset.image_shape,
            num_particles=arguments.eval_particles,
            title=f"{arguments.model} on {arguments.data}, {backend.name}",
            seed=arguments.seed,
        )
    paths = made.save(arguments.folder)
    print(f"{made}\n{arguments.folder}: {', '.join(path.name for path in paths)}")


def show(backend: Backend, arguments: Namespace) -> None:
    """Print the data sets, models and their parts."""
    print(format_table([{"data set": name, "": describe(name)} for name in names()]) + "\n")
    rows = [
        {"model": name, "": model.about, "data": model.data, "loss": ", ".join(model.losses)}
        for name, model in MODELS.items()
    ]
    print(format_table(rows) + "\n")
    parts = {
        "--posterior": POSTERIORS,
        "--prior": PRIORS,
        "--likelihood": LIKELIHOODS,
        "--loss": [f"{name} ({', '.join(loss.estimators)})" for name, loss in LOSSES.items()],
    }
    print(format_table([{"flag": f, "values": ", ".join(values)} for f, values in parts.items()]))


def _loaded(
    backend: Backend, arguments: Namespace, *, with_loss: bool = False
) -> tuple[Prepared, Any]:
    """The data and the run of a folder. Raises UsageError or CheckpointError where it has none."""
    data = prepare(arguments)
    model = build_model(backend, arguments, data)
    loss = build_loss(backend, arguments, len(data.dataset.train)) if with_loss else None
    path = arguments.folder / _RUN
    return data, backend.package.training.load_run(path, model.model, model.guide, loss=loss)


def _tested(data: Prepared, arguments: Namespace) -> tuple[np.ndarray, ...]:
    """The test data that are evaluated, and their classes where the model is given them."""
    test = data.test if isinstance(data.test, tuple) else (data.test,)
    return tuple(part[: arguments.eval_data or None] for part in test)


def _labels(data: Prepared, num: int) -> np.ndarray | None:
    return None if data.dataset.labels is None else data.dataset.labels["test"][:num]


def _evaluated(
    backend: Backend, arguments: Namespace, data: Prepared, run: Any, folder: Path
) -> str:
    """Numbers, pictures and draws of the test data; returns the table."""
    test = _tested(data, arguments)
    x, seed = test[0], arguments.seed
    results: dict[str, Any] = {}
    lines = []
    if data.model.scored:
        options = {"enumerate": data.model.summed} if data.model.summed else {}
        with as_usage_error():
            log_w = backend.package.evaluation.log_weights(
                run, *test, num_particles=arguments.eval_particles, seed=seed, **options
            )
        found = summary(log_w)
        results |= found.to_dict()
        lines.append(str(found))
        if data.levels is not None:
            bits = float(bits_per_dim(found.mean("IWAE"), x[0].size, data.levels))
            results["bits_per_dim"] = bits
            lines.append(f"bits per dimension: {bits:.3f}")
    if data.model.inferred:
        units = _inferred(backend, data, run, test, folder, seed)
        results |= {"active_units": units, "z_dim": arguments.z_dim}
        lines.append(f"active units: {units} of {arguments.z_dim}")
    made = _drawn(backend, data, run, len(x), means=False, seed=seed)["x"]
    flat = x.reshape(len(x), -1), made.reshape(len(x), -1)
    scores = neighbor_scores(*flat)._asdict() if len(x) > 5 else {}
    results["samples"] = {**scores, "frechet": frechet_distance(*flat)}
    lines.append(", ".join(f"{name} {value:.3f}" for name, value in results["samples"].items()))
    pictures = data.dataset.image_shape is not None
    if pictures and data.likelihood is not None:
        made = _drawn(backend, data, run, _NUM_PICTURES, means=True, seed=seed)["x"]
    _show(plot_samples, data, x, made, folder / "samples.png")
    seconds = float(np.nansum(run.history.column("seconds")))
    results |= {"epoch": run.epoch, "seconds": seconds}
    write_json(folder / "results.json", results)
    return "\n".join(lines)


def _inferred(
    backend: Backend, data: Prepared, run: Any, test: tuple, folder: Path, seed: int
) -> int:
    """Latents, reconstructions and draws of the posterior of the test data, as files; returns the
    number of active units.
    """
    evaluation, x = backend.package.evaluation, test[0]
    found = evaluation.latents(run, *test, means=True, num_draws=_NUM_DRAWS, seed=seed)
    means = found[data.model.latent]
    title = "posterior means of the test data"
    figure = plots.latent_scatter(means, _labels(data, len(x)), title=title)
    plots.save(figure, folder / "latent.png")
    if data.likelihood is not None:
        rebuilt = evaluation.reconstruct(run, *test, seed=seed)["x"]
        _show(plot_reconstructions, data, x, rebuilt, folder / "reconstructions.png")
    if data.model.scored:
        exported = tuple(part[:_NUM_EXPORTED] for part in test)
        idata = evaluation.to_arviz(run, *exported, num_draws=_NUM_DRAWS, seed=seed)
        write_netcdf(idata, folder / "posterior.nc")
    return int(active_units(means))


def _drawn(
    backend: Backend, data: Prepared, run: Any, size: int, *, means: bool, seed: int
) -> dict[str, np.ndarray]:
    """So many draws of the model run forward; a conditional one is given the classes in turn."""
    generate = backend.package.evaluation.generate
    if data.model.kind == "ConditionalVAE":
        classes = np.arange(size, dtype=np.int32) % data.dataset.num_classes
        return generate(run, None, classes, means=means, seed=seed)
    return generate(run, size=size, means=means, seed=seed)


def _show(draw: Callable, data: Prepared, x: np.ndarray, made: np.ndarray, path: Path) -> None:
    """The picture of test data and of what was made, as images where they are."""
    site = Observed(x, x.ndim - 1)
    plots.save(draw(site, made, data.dataset.image_shape), path)


def _row(folder: Path) -> dict[str, Any]:
    """One line of the comparison."""
    try:
        config, results = read_json(folder / "config.json"), read_json(folder / "results.json")
        if config["model"] not in MODELS:
            raise ValueError(f"unknown model {config['model']!r}")
        settings, flags = config["arguments"], MODELS[config["model"]].flags
        row = {"run": folder.resolve().name, "backend": config["backend"]}
        row |= {"model": config["model"], "data": settings["data"]}
        row |= {name: settings[name] for name in ("posterior", "prior") if name in flags}
        row["loss"] = config["loss"]
        for name, mean in results.get("mean", {}).items():
            if name != "k-hat":
                row[f"IWAE-{results['num_particles']}" if name == "IWAE" else name] = mean
        if counts := results.get("khat_counts"):
            row["k-hat >= 0.7"] = counts["0.7 <= k < 1"] + counts["k >= 1"]
        samples = dict(results["samples"])
        row |= {name: samples[name] for name in ("precision", "recall") if name in samples}
        if "active_units" in results:
            row["active units"] = results["active_units"]
        return row | {"epochs": results["epoch"], "seconds": results["seconds"]}
    except Exception as error:  # whatever a wrong file leads to
        raise UsageError(
            f"{folder} does not hold the results of a finished run ({in_words(error)})."
        ) from error


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir()))
