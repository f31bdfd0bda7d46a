"""Draws, pointwise likelihoods, predictions and diagnostics as one ArviZ `InferenceData`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgm_core.files import plain
from dgm_core.results import History

if TYPE_CHECKING:
    import arviz as az

Arrays = Mapping[str, np.ndarray]
DATUM = "datum"  # the dimension of the data


def assemble(
    posterior: Arrays,
    *,
    log_likelihood: Arrays | None = None,
    posterior_predictive: Arrays | None = None,
    observed_data: Arrays | None = None,
    sample_stats: Arrays | None = None,
    diagnostics: Arrays | None = None,
    history: History | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> az.InferenceData:
    """Put arrays into the groups where ArviZ looks for them, with one chain.

    Args:
        posterior: site -> (num_draws, *shape); may be empty, for a model without latents.
        log_likelihood: observed site -> (num_draws, *batch), one number per datum, for `az.loo`;
            of the axes that `dims` names it has as many as there are.
        posterior_predictive: observed site -> (num_draws, *batch, *event).
        observed_data: observed site -> (*batch, *event).
        sample_stats: name -> (num_draws, ...), such as "lp".
        diagnostics: name -> (*batch,), such as "khat"; they join `sample_stats` without draws.
        history: the columns of a run; they become the group `losses` over "epoch".
        dims: variable -> names of its leading axes behind the draws, in all groups; missing ones
            get names from ArviZ. A variable of the data that is not named here has the first axis
            "datum"; say {"x": []} for a scalar, {"x": ["students", "items"]} for two plates.
        attrs: configuration; what is neither text nor number is written as JSON.

    A "/" in a name becomes ".", since netCDF reserves it; a dimension that is called as a variable
    gets "_plate" behind its name, since xarray cannot hold both.

    Raises:
        ValueError: when there are no draws, or one dimension has two sizes.

    `az.summary`, `az.plot_pair`, `az.loo` work on the result; `result.to_netcdf(path)` writes it.

    Example:
        >>> z, log_p = np.zeros((10, 3, 2)), np.zeros((10, 3))
        >>> idata = assemble({"z": z}, log_likelihood={"x": log_p}, dims={"z": ["datum"]})
        >>> dict(idata.posterior["z"].sizes)
        {'chain': 1, 'draw': 10, 'datum': 3, 'z_dim_1': 2}
    """
    with warnings.catch_warnings():  # ArviZ announces its next version on import
        warnings.simplefilter("ignore")
        import arviz as az
    import xarray as xr

    draws = {
        "posterior": _named(posterior),
        "log_likelihood": _named(log_likelihood),
        "posterior_predictive": _named(posterior_predictive),
        "sample_stats": _named(sample_stats),
    }
    observed, extra = _named(observed_data), _named(diagnostics)
    data = [observed, extra, draws["log_likelihood"], draws["posterior_predictive"]]
    axes = {name: [DATUM] for group in data for name in group}
    axes |= {_name(key): [_name(axis) for axis in value] for key, value in (dims or {}).items()}
    groups = [(observed, 0), (extra, 0), *((group, 1) for group in draws.values())]
    _check_draws(draws)
    scored = draws["log_likelihood"]  # has no axes of what a datum consists of
    _check_sizes(groups, axes, scored)
    axes = _apart(axes, {name for group, _ in groups for name in group})
    batches = {n: axes.get(n, [])[: x.ndim - 1] for n, x in scored.items()}
    idata = az.from_dict(
        **{  # type: ignore[arg-type]
            group: {name: values[None] for name, values in arrays.items()}
            for group, arrays in draws.items()
            if arrays and group != "log_likelihood"
        },
        observed_data=observed or None,
        dims=axes,
        attrs=_attributes(attrs or {}),
    )
    if batches:
        scores = {name: values[None] for name, values in scored.items()}
        idata.extend(az.from_dict(log_likelihood=scores, dims=batches))
    if extra:
        table = xr.Dataset({name: (axes[name], values) for name, values in extra.items()})
        if "sample_stats" in idata.groups():
            idata.sample_stats = idata.sample_stats.merge(table)
        else:
            idata.add_groups(sample_stats=table)
    if history is not None and len(history):
        columns = {
            _name(name): (("epoch",), history.column(name))
            for name in history.columns
            if _is_numeric(history, name)
        }
        coordinates = ["epoch"] if "epoch" in columns else []
        idata.add_groups(losses=xr.Dataset(columns).set_coords(coordinates))
    return idata


def axis_names(
    name: str,
    shape: Sequence[int],
    event_dim: int | None,
    plates: Mapping[str, tuple[int, int]],
) -> list[str]:
    """The names of the batch axes of a site: those of its plates, and made up ones for all others.

    Args:
        name, shape: of the site and its value.
        event_dim: the number of event axes; None: as many as fit the plates.
        plates: name -> (dimension, size) of the plates around it.

    Example:
        >>> axis_names("y", (50, 20, 3), 1, {"students": (-2, 50), "items": (-1, 20)})
        ['students', 'items']
    """
    if event_dim is None:
        fitting = (
            number
            for number in range(len(shape) + 1)
            if all(
                len(shape) - number + dim >= 0 and shape[len(shape) - number + dim] == size
                for dim, size in plates.values()
            )
        )
        event_dim = next(fitting, len(shape)) if plates else len(shape)
    batch_ndim = len(shape) - event_dim
    names = {batch_ndim + dim: plate for plate, (dim, _) in plates.items()}
    return [names.get(axis, f"{name}_dim_{axis}") for axis in range(batch_ndim)]


def with_time(axes: Mapping[str, list[str]], steps: Mapping[str, int]) -> dict[str, list[str]]:
    """The axes, with one more behind those of the batch where a site is a path of so many steps:
    "time", or "<site>_time" where there are paths of several lengths.

    Example:
        >>> with_time({"z": ["datum"], "w": ["datum"]}, {"z": 5})
        {'z': ['datum', 'time'], 'w': ['datum']}
    """
    same = len(set(steps.values())) < 2
    return {
        name: [*own, "time" if same else f"{name}_time"] if name in steps else list(own)
        for name, own in axes.items()
    }


def _name(name: str) -> str:
    """netCDF keeps "/" for its groups."""
    return name.replace("/", ".")


def _named(arrays: Arrays | None) -> dict[str, np.ndarray]:
    return {_name(name): np.asarray(values) for name, values in (arrays or {}).items()}


def _check_draws(draws: Mapping[str, Arrays]) -> None:
    _check_equal(
        "draws",
        [(name, len(values)) for group in draws.values() for name, values in group.items()],
    )


def _check_sizes(
    groups: Sequence[tuple[Arrays, int]], axes: Mapping[str, Sequence[str]], shorter: Arrays
) -> None:
    """Every dimension has one size, wherever it is named; the arrays of the group `shorter` may
    have fewer.
    """
    sizes: dict[str, list[tuple[str, int]]] = {}
    for group, start in groups:
        for name, values in group.items():
            for axis, dimension in enumerate(axes.get(name, ()), start):
                if axis >= values.ndim and group is shorter and axis > start:
                    break
                if axis >= values.ndim:
                    raise ValueError(
                        f"{name} has shape {values.shape}, which has no axis for {dimension!r}."
                    )
                sizes.setdefault(dimension, []).append((name, values.shape[axis]))
    for dimension, found in sizes.items():
        _check_equal("data" if dimension == DATUM else dimension, found)


def _check_equal(what: str, sizes: Sequence[tuple[str, int]]) -> None:
    if len({size for _, size in sizes}) > 1:
        found = ", ".join(f"{name}: {size}" for name, size in sizes)
        raise ValueError(f"All arrays must have the same number of {what}, got {found}.")
    if empty := [name for name, size in sizes if size == 0]:
        raise ValueError(f"There are no {what} in {', '.join(empty)}.")


def _apart(axes: Mapping[str, Sequence[str]], names: set[str]) -> dict[str, list[str]]:
    """The dimensions under names that no variable has."""
    return {
        name: [f"{axis}_plate" if axis in names else axis for axis in dimensions]
        for name, dimensions in axes.items()
    }


def _is_numeric(history: History, name: str) -> bool:
    return all(isinstance(row.get(name, 0.0), (int, float, np.number)) for row in history)


def _attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What netCDF can hold as attributes: text and numbers."""
    return {
        name: value
        if isinstance(value, (str, int, float)) and not isinstance(value, bool)
        else json.dumps(value, default=plain)
        for name, value in attrs.items()
    }
