"""What evaluation decides without a tensor: which rows its data are, and what it says where it
would have to guess.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np

from dgm_core.arguments import check_numbers, refuse
from dgm_core.structure import Structure

__all__ = [
    "as_numbers",
    "check_densities",
    "check_no_nan",
    "check_no_parameters",
    "check_probs",
    "check_run",
    "check_scored",
    "follows_from_guide",
    "new_latents",
    "passes",
    "rows_at_once",
    "same_draws",
    "settled_rows",
    "stacked",
    "streamed",
    "unguided",
    "unknown_mean",
    "weighs_whole",
]


class Caller(Protocol):
    """What `settled_rows` asks of a backend: a run and its data.

    Attributes:
        num_rows: of the data (None: no argument is an array).
        num_data: of the fit (None: unknown).
    """

    num_rows: int | None
    num_data: int | None

    def guide_plates(self) -> list[tuple[int, int]]:
        """(size, declared size) of the plates in a run of the guide."""

    def guide_draws(self, rows: np.ndarray | None, *, rolled: bool = False) -> dict[str, Any]:
        """What the guide draws as these rows, always from the same random numbers, and how it
        scores that; rolled: from the data moved by one."""

    def is_other_data(self) -> bool:
        """Whether these are known not to be the data of the fit."""

    def differs_by_row(self, rows: np.ndarray) -> bool:
        """Whether the guide's distributions at these rows differ from row to row."""


def settled_rows(call: Caller, rows: Any) -> np.ndarray | None:
    """The numbers of the data in the data of the fit, for the plates of model and guide.

    Returns `rows` where they are given; all rows in order where these are as many as the guide
    declares; None where nothing depends on them.

    Raises:
        ValueError: for bad rows; and where a guide has parameters of each datum and it is not known
            which data these are, or known that they are none of those.
    """
    num_rows = call.num_rows
    if num_rows is None:
        if rows is not None:
            raise ValueError("rows are the numbers of data, but no argument here is an array.")
        return None
    if num_rows == 0:
        raise ValueError("The data are empty: pass one row or more.")
    declared = _declared(call.guide_plates(), num_rows, call.num_data)
    if rows is not None:
        call.num_data = call.num_data if declared is None else declared
        return _checked(rows, num_rows, call.num_data)
    if declared is None or declared < num_rows:
        return None
    first, last = np.arange(num_rows), np.arange(declared - num_rows, declared)
    call.num_data = declared
    if declared > num_rows:
        if not same_draws(call.guide_draws(first), call.guide_draws(last)):
            raise ValueError(
                f"The guide has parameters for each of its {declared} data, so it must know which "
                f"of them these {num_rows} are: pass rows=, their numbers in the data of the fit. "
                "Other data it does not know."
            )
    elif call.is_other_data() and _ignores_data(call, first) and call.differs_by_row(first):
        raise ValueError(
            f"The guide has parameters for each of its {declared} data and does not look at what "
            "it is given, but these are other data than those of the fit: for data that were "
            "changed on purpose pass rows=, their numbers in the data of the fit."
        )
    return first


def as_numbers(entry: Any, label: str) -> np.ndarray:
    """An array, a table or a list as an array of numbers; ValueError for anything else.

    Example:
        >>> as_numbers([1, 2], "data").shape
        (2,)
    """
    if isinstance(entry, np.ma.MaskedArray) and np.ma.is_masked(entry):
        raise ValueError(
            f"{label} has {np.ma.count_masked(entry)} masked entries, and a model does not see "
            "their mask: fill them in and leave them out by a mask in the model."
        )
    array = np.asarray(entry)
    if array.dtype.kind not in "biufc":
        raise ValueError(
            f"{label} must be an array of numbers with one row per datum, got "
            f"{repr(entry) if isinstance(entry, str) else type(entry).__name__} of type "
            f"{array.dtype}."
        )
    if array.ndim and not len(array):
        raise ValueError(f"The data are empty: {label} has no rows.")
    return array


def same_draws(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two runs of a guide drew the same."""
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name], equal_nan=np.asarray(a[name]).dtype.kind in "fc")
        for name in a
    )


def check_no_parameters(names: Collection[str]) -> None:
    """Raises ValueError where a model is learned: its posterior is not known beforehand."""
    if names:
        raise ValueError(
            f"The model has parameters of its own ({', '.join(sorted(names)[:3])}), so its "
            "posterior is another one under each guide: pass reference=None."
        )


def check_probs(name: str, probs: Any) -> tuple[float, ...]:
    """One or more probabilities.

    Example:
        >>> check_probs("probs", 0.5)
        (0.5,)
    """
    found = check_numbers(name, probs)
    if not all(0 <= p <= 1 for p in found):
        refuse(name, "a number in [0, 1], or a non-empty sequence of them", probs)
    return found


def check_run(run: Any) -> None:
    """Raises ValueError for what is no run."""
    if not (callable(getattr(run, "model", None)) and callable(getattr(run, "guide", None))):
        refuse("run", "what fit returns, or an object with a model and a guide", run)


def check_scored(num_scored: int, num_rows: int | None) -> None:
    """Raises ValueError where a model draws some of the data that it is given."""
    if num_rows is not None and num_scored != num_rows:
        raise ValueError(
            "Evaluation needs the model to score the data it is given, but it draws "
            f"{num_scored} of {num_rows} rows by itself: let its plate take the rows that are "
            "passed, as in plate('data', N, subsample_size=len(x))."
        )


def new_latents(plates: Mapping[str, Collection[str]], drawn: Collection[str]) -> set[str]:
    """The local latents of a model that was given no data: those that new data bring along.

    Local are the sites inside the data plates: these enclose all that the guide does not draw (what
    is predicted) and, where they enclose latents at all, every latent that lies in any of them.

    Args:
        plates: site of the model -> the names of the plates around it.
        drawn: the sites that the guide draws.

    Example:
        >>> new_latents({"w": (), "z": ("data",), "y": ("data",)}, ("w", "z"))
        {'z'}
    """
    latents = {name: set(around) for name, around in plates.items() if name in drawn}
    predicted = [set(around) for name, around in plates.items() if name not in drawn]
    common = set.intersection(*predicted) if predicted else set()
    inside = [around for around in latents.values() if around & common]
    kept = {plate for plate in common if all(plate in around for around in inside)}
    return {name for name, around in latents.items() if kept and kept <= around}


def follows_from_guide(plates: Mapping[str, Collection[str]]) -> bool:
    """Whether a model that was given no data may have latents that the guide must draw: some site
    lies outside the plates that others share."""
    around = [set(names) for names in plates.values()]
    return not around or not set.intersection(*around)


_MANY = 256  # particles of a pass


class Passes(NamedTuple):
    """How weights are computed: so many particles at a time, so often, for each of these rows."""

    num_particles: int
    num_chunks: int
    rows: list[np.ndarray | None]

    def note(self) -> str:
        """How much is held at once."""
        rows = "all data" if self.rows[0] is None else f"{len(self.rows[0])} data"
        return f"Held at once: {self.num_particles} draws for {rows}."


def rows_at_once(num_particles: int, chunk_size: int) -> int:
    """How many data `streamed` takes at a time.

    Example:
        >>> rows_at_once(5000, 32_768)
        128
    """
    return max(1, chunk_size // min(num_particles, _MANY))


def streamed(num_particles: int, num_data: int, chunk_size: int, *, split: bool) -> Passes:
    """Passes of many particles for few rows, so that what is computed once per row and pass, such
    as an encoder's features, weighs little.

    Example:
        >>> plan = streamed(5000, 10_000, 32_768, split=True)
        >>> plan.num_particles, plan.num_chunks, len(plan.rows[0])
        (250, 20, 127)
    """
    rows = rows_at_once(num_particles, chunk_size)
    if not split or rows >= num_data:
        return passes(num_particles, num_data, chunk_size, split=split)
    parts = passes(1, num_data, rows, split=True).rows
    at_once = num_data if parts[0] is None else len(parts[0])
    num_chunks = -(-num_particles // max(1, chunk_size // at_once))
    return Passes(-(-num_particles // num_chunks), num_chunks, parts)


def passes(num_particles: int, num_data: int, chunk_size: int, *, split: bool) -> Passes:
    """Equal chunks of particles, and of rows if `split`, of `chunk_size` particles times rows at
    most.

    What is too much is cut off at the end; missing rows are filled up from the front, so that all
    passes have one shape.

    Example:
        >>> passes(7, 600, 100, split=False), len(passes(7, 600, 100, split=True).rows)
        (Passes(num_particles=1, num_chunks=7, rows=[None]), 6)
    """
    num_parts = -(-num_data // chunk_size) if split else 1
    at_once = -(-num_data // num_parts)
    num_chunks = -(-num_particles // max(1, chunk_size // at_once))
    rows: list[np.ndarray | None] = [None]
    if num_parts > 1:
        starts = range(0, num_data, at_once)
        rows = [np.arange(start, start + at_once) % num_data for start in starts]
    return Passes(-(-num_particles // num_chunks), num_chunks, rows)


def stacked(draws: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Draws one behind the other, {site: (num_draws, ...)}.

    Raises:
        ValueError: where the sites or their shapes are not the same in every draw.
    """
    first = {name: np.shape(value) for name, value in draws[0].items()}
    for draw in draws:
        if (other := {name: np.shape(value) for name, value in draw.items()}) != first:
            raise ValueError(
                f"All draws must have the same sites and shapes, got {first} and then {other}: "
                "take one draw at a time (num_draws=1, with other seeds)."
            )
    return {name: np.stack([np.asarray(draw[name]) for draw in draws]) for name in first}


def unguided(error: Exception) -> str:
    """What to say where the guide does not run on new inputs."""
    return (
        "predict takes global latents from the guide, which fails on these inputs "
        f"({type(error).__name__}: {error}): it must run on them without the data that are to be "
        "predicted, so let its local part look only at what is given (not None)."
    )


def unknown_mean(name: str) -> str:
    """What to say where the mean of a site is not known."""
    return (
        f"The mean of site '{name}' is not known, or there is none: draw from it instead, several "
        "times for an average."
    )


def weighs_whole(structure: Structure, num_rows: int | None) -> bool:
    """Whether weights are those of the whole data rather than of each datum.

    Raises:
        ValueError: where the model draws data by itself, or was given a part of data that do not
            factorize.
    """
    if structure.subsampled:
        check_scored(prod(structure.sizes), num_rows)
    for plate, site in structure.other_subsampled:
        raise ValueError(
            f"Plate '{plate}' (at site '{site}') holds a part of its data and does not enclose all "
            "observed and all local latent sites, so there is no weight of these data alone: "
            "pass all its data."
        )
    outside = [*structure.global_sites, *structure.global_factors]
    if outside and structure.subsampled:
        raise ValueError(
            f"The model has global latents ({', '.join(outside)}), so its weights are those of the "
            f"whole data: pass all {structure.data_size} data instead of {prod(structure.sizes)}."
        )
    return bool(outside)


def check_densities(log_w: np.ndarray, densities: Callable[[], Mapping[str, Any]]) -> None:
    """Raises ValueError for weights that are NaN or infinite, with the site where that begins.

    Args:
        log_w: the weights.
        densities: gives the log-densities of the sites, by the words that an error names them with.
    """
    if not (np.isnan(log_w) | np.isposinf(log_w)).any():
        return
    for words, values in densities().items():
        values = np.asarray(values)
        if bad := int(np.sum(np.isnan(values) | np.isposinf(values))):
            raise ValueError(
                f"The log-density of {words} is "
                f"{values[np.isnan(values) | np.isposinf(values)][0]} in "
                f"{bad} of {values.size} entries, so there are no weights: look at the weights "
                "of the "
                "run (scales that are not positive?) and at the data."
            )
    raise ValueError(
        "The weights are NaN or infinite, though no site is: infinities cancel in them."
    )


def check_no_nan(values: Mapping[str, Any], what: str) -> None:
    """Raises ValueError, with the name of the site, where values are NaN."""
    for name, value in values.items():
        value = np.asarray(value)
        if value.dtype.kind in "fc" and (bad := int(np.isnan(value).sum())):
            raise ValueError(
                f"{what} of site '{name}' is NaN in {bad} of {value.size} entries: look at the "
                "weights of the run and at the data."
            )


def _declared(plates: list[tuple[int, int]], num_rows: int, num_data: int | None) -> int | None:
    """The number of data that the guide declares: that of the fit, or of a plate that
    holds fewer.
    """
    full_sizes = {full_size for _, full_size in plates}
    subsampled = {full_size for size, full_size in plates if size != full_size}
    for choice in (num_data, *(subsampled if len(subsampled) == 1 else ()), num_rows):
        if choice in full_sizes:
            return choice
    return None


def _checked(rows: Any, num_rows: int, num_data: int | None) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(
            "rows must be the numbers of the data in the data of the fit, one integer for each, "
            "got "
            f"an array of shape {rows.shape} and type {rows.dtype}."
        )
    if num_data is not None and len(rows) == num_data and (rows != np.arange(num_data)).any():
        raise ValueError(
            "rows of all data must be in order, from 0 on: pass the data as the fit had them."
        )
    if len(rows) != num_rows:
        raise ValueError(
            f"rows must give one number for each of the {num_rows} data, got {len(rows)}."
        )
    if num_data is not None and not (rows.min() >= 0 and rows.max() < num_data):
        raise ValueError(
            f"rows must lie between 0 and {num_data - 1}, the numbers of the data of the fit, got "
            f"{rows.min()} to {rows.max()}."
        )
    return rows.astype(np.int64)


def _ignores_data(call: Caller, rows: np.ndarray) -> bool:
    return same_draws(call.guide_draws(rows), call.guide_draws(rows, rolled=True))
