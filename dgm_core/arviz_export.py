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
        posterior: site -> (num_draws, *shape).
        log_likelihood: observed site -> (num_draws, num_data), one number per datum, for `az.loo`.
        posterior_predictive: observed site -> (num_draws, num_data, ...).
        observed_data: observed site -> (num_data, ...).
        sample_stats: name -> (num_draws, ...), such as "lp".
        diagnostics: name -> (num_data,), such as "khat"; they join `sample_stats` without a draw
            axis.
        history: the columns of a run; they become the group `losses` over "epoch".
        dims: variable -> names of its axes behind the draws; missing ones get names from ArviZ. The
            first axis of all data is called "datum"; say {"z": ["datum"]} for a latent variable of
            each datum.
        attrs: configuration; what is neither text nor number is written as JSON.

    A "/" in a name becomes ".", since netCDF reserves it.

    Raises:
        ValueError: when there are no draws or the numbers of draws or data differ.

    `az.summary`, `az.plot_pair`, `az.loo` work on the result, and `result.to_netcdf(path)` writes
    it.

    >>> draws, scores = {"z": np.zeros((10, 3, 2))}, {"x": np.zeros((10, 3))}
    >>> idata = assemble(draws, log_likelihood=scores, dims={"z": ["datum"]})
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
    data = [
        (observed, 0),
        (extra, 0),
        (draws["log_likelihood"], 1),
        (draws["posterior_predictive"], 1),
    ]
    _check_equal(
        "draws", [(name, len(values)) for group in draws.values() for name, values in group.items()]
    )
    _check_equal(
        "data",
        [(name, values.shape[axis]) for group, axis in data for name, values in group.items()],
    )

    axes = {name: ["datum"] for group, _ in data for name in group} | {
        _name(key): list(value) for key, value in (dims or {}).items()
    }
    idata = az.from_dict(
        **{
            group: {name: values[None] for name, values in arrays.items()}
            for group, arrays in draws.items()
            if arrays
        },  # type: ignore[arg-type]
        observed_data=observed or None,
        dims=axes,
        attrs=_attributes(attrs or {}),
    )
    if extra:
        table = xr.Dataset({name: (("datum",), values) for name, values in extra.items()})
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
        idata.add_groups(
            losses=xr.Dataset(columns).set_coords(["epoch"] if "epoch" in columns else [])
        )
    return idata


def _name(name: str) -> str:
    """netCDF keeps "/" for its groups."""
    return name.replace("/", ".")


def _named(arrays: Arrays | None) -> dict[str, np.ndarray]:
    return {_name(name): np.asarray(values) for name, values in (arrays or {}).items()}


def _check_equal(what: str, sizes: Sequence[tuple[str, int]]) -> None:
    if len({size for _, size in sizes}) > 1:
        raise ValueError(
            f"All arrays must have the same number of {what}, got "
            f"{', '.join(f'{name}: {size}' for name, size in sizes)}."
        )
    if empty := [name for name, size in sizes if size == 0]:
        raise ValueError(f"There are no {what} in {', '.join(empty)}.")


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
