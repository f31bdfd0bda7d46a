"""The rows of the table of a report."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from dgm_core.diagnostics import Report, active_units, effective_sample_size
from dgm_core.results import History
from dgm_core.training.batches import Form

__all__ = [
    "bound_rows",
    "data_rows",
    "row",
    "size_rows",
    "surgery_rows",
    "term_rows",
    "training_rows",
    "unit_row",
    "version_rows",
]

_GOOD = 0.7  # above this k-hat, weights are not to be relied on
_ENTRIES = 10  # of an array of numbers
_NOT_METRICS = ("epoch", "step", "seconds")

Row = dict[str, Any]


def row(part: str, quantity: str, value: Any, error: float = math.nan, about: str = "") -> Row:
    """One row: a part of the table, what it is, its value, the standard error, and over what."""
    return {"part": part, "quantity": quantity, "value": value, "s.e.": error, "about": about}


def bound_rows(log_w: np.ndarray, found: Report) -> list[Row]:
    """Bounds and diagnostics of log-weights (num_particles, num_data), as `summary` found them.

    Of several data the standard errors are those of the mean over the data. Of a single one they
    are those over the draws, where they are known: sd(log w) / sqrt(K) of the ELBO and
    sqrt(1 / ESS - 1 / K) of the IWAE bound, the spread of log mean w to first order.

    Example:
        >>> from dgm_core.diagnostics import summary
        >>> log_w = np.random.default_rng(0).normal(size=(400, 1))
        >>> rows = bound_rows(log_w, summary(log_w))
        >>> [(r["quantity"], round(r["s.e."], 2)) for r in rows[:2]]
        [('ELBO', 0.05), ('IWAE-400', 0.06)]
    """
    num, rows = found.num_data, list[Row]()
    errors = _errors_of_draws(log_w) if num == 1 else {}
    for name, each in zip(found, found.rows(), strict=True):
        error = errors.get(name, math.nan) if num == 1 else found.standard_error(name)
        about = "all data together, s.e. over draws" if name in errors else "all data together"
        if num > 1:
            about = f"mean of {num} data, {each['min']:.4g} to {each['max']:.4g}"
        about += ", no bound" if name.startswith("JVI") else ""
        rows.append(row("bounds", str(each["quantity"]), each["mean"], error, about))
    if "k-hat" in found:
        bad = int(np.sum(~(found["k-hat"] <= _GOOD)))
        rows.append(row("bounds", f"k-hat above {_GOOD}", bad, about=f"of {num}"))
    return rows


def _errors_of_draws(log_w: np.ndarray) -> dict[str, float]:
    num = len(log_w)
    if num < 2 or np.isneginf(log_w).any():
        return {}
    spread = 1 / float(effective_sample_size(log_w).item()) - 1 / num
    elbo = float(np.std(log_w, ddof=1)) / math.sqrt(num)
    return {"ELBO": elbo, "IWAE": math.sqrt(max(spread, 0.0))}


def term_rows(values: Mapping[str, np.ndarray]) -> list[Row]:
    """A loss and its terms, each evaluated several times with other draws."""
    rows = []
    for name, x in values.items():
        error = float(np.std(x, ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.nan
        rows.append(
            row("loss", name, float(np.mean(x)), error, f"nats per datum, {len(x)} evaluations")
        )
    return rows


def surgery_rows(found: Any, about: str) -> tuple[list[Row], tuple[str, ...]]:
    """The fields of a named tuple, whichever there are, and its `notes`; `standard_errors` by the
    names of the fields; arrays number by number as far as they are short.

    Example:
        >>> from collections import namedtuple
        >>> found = namedtuple("Found", "mean_kl parts")(1.5, np.array([1.0, 0.5]))
        >>> [(r["quantity"], r["value"]) for r in surgery_rows(found, "")[0]]
        [('mean kl', 1.5), ('parts 1', 1.0), ('parts 2', 0.5)]
    """
    fields = found._asdict()
    errors, notes = fields.pop("standard_errors", {}), fields.pop("notes", ())
    return [
        row("surgery", name, value, errors.get(field, math.nan), about)
        for field, entry in fields.items()
        for name, value in _flat(field.replace("_", " "), entry)
    ], tuple(notes)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The numbers and texts inside a value, each with its name."""
    if isinstance(value, str | bool | int | float):
        yield name, value
    elif value is not None:
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "biuf" or not numbers.size:
            return
        if numbers.ndim == 0:
            yield name, numbers.item()
        elif numbers.size <= _ENTRIES:
            yield from ((f"{name} {i}", x.item()) for i, x in enumerate(numbers.ravel(), 1))
        else:
            yield f"{name}, mean of {numbers.size}", float(numbers.mean())


def unit_row(site: str, draws: np.ndarray) -> Row:
    """How many units of a latent (num_draws, num_data, *event) vary with the data."""
    flat = draws.reshape(*draws.shape[:2], -1)
    return row(
        "latents", f"active units of {site}", active_units(flat), about=f"of {flat.shape[2]}"
    )


def training_rows(run: Any) -> list[Row]:
    """Epochs, steps, seconds, and the metrics of the epoch whose weights these are."""
    history: History = getattr(run, "history", None) or History()
    if not len(history):
        return []
    best = getattr(run, "best_epoch", 0)
    chosen = next((r for r in history if best and r.get("epoch") == best), history.last)
    rows = [row("training", "epochs", history.last.get("epoch", len(history)))]
    if "epoch" in chosen:
        rows.append(row("training", "epoch of these weights", chosen["epoch"]))
    if "step" in chosen:
        rows.append(row("training", "steps", history.last["step"]))
    if "seconds" in history.columns:
        rows.append(row("training", "seconds", float(np.nansum(history.column("seconds")))))
    metrics = {name: x for name, x in chosen.items() if name not in _NOT_METRICS}
    return rows + [row("training", name, x, about="of that epoch") for name, x in metrics.items()]


def size_rows(parameters: Mapping[str, Mapping[Any, int]]) -> list[Row]:
    """How many numbers are learned: by the model, by the guide, and by both."""
    rows = [
        row("size", f"parameters of the {owner}", sum(sizes.values()))
        for owner, sizes in parameters.items()
    ]
    everything = {name: size for sizes in parameters.values() for name, size in sizes.items()}
    return [*rows, row("size", "parameters in all", sum(everything.values()))]


def version_rows(libraries: Sequence[str]) -> list[Row]:
    """Python, this library and those below it."""
    rows = [row("versions", "python", platform.python_version())]
    for name in ("ppl-dgm", *libraries, "numpy"):
        try:
            rows.append(row("versions", name, version(name)))
        except PackageNotFoundError:
            rows.append(row("versions", name, "not installed as a package"))
    return rows


def data_rows(data: tuple[Any, ...], labels: np.ndarray | None = None) -> list[Row]:
    """The arrays of the data: shape, type and range.

    Example:
        >>> [(r["quantity"], r["value"], r["about"]) for r in data_rows((np.eye(2),))]
        [('data', '(2, 2) float64', '0 to 1, mean 0.5')]
    """
    form, entries = Form.of(data[0] if len(data) == 1 else data)
    rows = [_data_row(form.label(index), entry) for index, entry in enumerate(entries)]
    if labels is not None:
        classes = len(np.unique(labels))
        rows.append(
            row("data", "labels", f"{labels.shape} {labels.dtype}", about=f"{classes} kinds")
        )
    return rows


def _data_row(label: str, entry: Any) -> Row:
    try:
        x = np.asarray(entry.detach().cpu() if hasattr(entry, "detach") else entry)
    except (TypeError, ValueError, RuntimeError):
        x = np.asarray(None)
    if x.dtype.kind not in "biuf" or x.ndim == 0:
        return row(
            "data", label, str(entry) if x.ndim == 0 and x.dtype.kind in "biuf" else _kind(entry)
        )
    finite, about = x[np.isfinite(x)], []
    if finite.size:
        about.append(f"{finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}")
    if missing := x.size - finite.size:
        about.append(f"{missing} not finite")
    return row("data", label, f"{x.shape} {x.dtype}", about=", ".join(about))


def _kind(entry: Any) -> str:
    return "None" if entry is None else type(entry).__name__
