"""Every argument of the functions that evaluate a run."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.bad_inputs.base import BAD, NAN, Row, Twin, table


def evaluation(twin: Twin) -> Iterator[Row]:
    """Every argument of the functions that evaluate a run."""
    vae = twin.VAE(4, 2, hidden=(8,))
    run = SimpleNamespace(model=vae.model, guide=vae.guide, params={}, mutable_state={})
    x = np.zeros((3, 4), np.float32)
    counts = {
        "ais": ("steps", "chains", "chunk_size"),
        "bdmc": ("steps", "chains", "chunk_size"),
        "log_likelihood": ("num_particles", "chunk_size"),
        "log_weights": ("num_particles", "chunk_size"),
        "latents": ("num_draws",),
        "elbo_surgery": ("num_draws",),
        "traverse": ("num_draws",),
        "to_arviz": ("num_draws", "num_particles"),
        "report": ("num_particles",),
    }
    seed = (
        ("0", 1.5, True, None, 2**63),
        r"^seed must be an integer from -2\^63 to 2\^63 - 1, got",
    )
    names = ("log_weights", "latents", "reconstruct", "generate", "elbo_surgery", "to_arviz")
    for name in (*names, "collapse", "traverse", "log_likelihood", "ais", "bdmc", "report"):
        bad: dict[str, tuple[tuple[Any, ...], str]] = {"seed": seed}
        for count in counts.get(name, ()):
            bad[count] = ((*BAD["count"], 0), f"^{count} must be an integer of at least 1, got")
        if name in ("ais", "bdmc"):
            bad |= _annealing()
        if name in ("ais", "bdmc", "log_likelihood", "log_weights"):
            bad["progress"] = (BAD["flag"], "^progress must be True or False, got")
        if name in ("latents", "generate"):
            bad["means"] = (BAD["flag"], "^means must be True or False, got")
        yield from table(partial(getattr(twin, name), run, x), {}, bad)
        if name == "generate":
            continue
        numbers = "must be an array of numbers with one row per datum, got"
        data: dict[str, tuple[Any, str]] = {
            "text": (np.array(["a"]), f"{numbers} ndarray"),
            "a word": ("abc", f"{numbers} 'abc'"),
            "objects": (np.array([None]), f"{numbers} ndarray"),
            "a mask": (np.ma.masked_array(x, x == 0), "has 12 masked entries"),
            "no rows": (x[:0], "are empty"),
            "another width": (x[:, :3], r"^x must have shape \(batch, 4\), got \(3, 3\)"),
        }
        for situation, (bad_data, sentence) in data.items():
            yield Row(f"{name}: {situation}", partial(getattr(twin, name), run, bad_data), sentence)
        no_run = partial(getattr(twin, name), 3, x)
        yield Row(
            f"{name} of no run",
            no_run,
            "^run must be what fit returns, or an object with a model and a guide, got 3",
        )
    yield from _of_codes(twin, run, x)
    yield from _priors(twin, run, x)


def _of_codes(twin: Twin, run: SimpleNamespace, x: np.ndarray) -> Iterator[Row]:
    """What only the functions of codes take."""
    tables: list[tuple[str, tuple[Any, ...], dict[str, tuple[tuple[Any, ...], str]]]] = [
        (
            "elbo_surgery",
            (run, x),
            {
                "aggregate": (("all", 3, None), "^aggregate must be one of 'exact', 'stratified'"),
                "batch_size": ((2, 0, "2", 2.5), "^batch_size is that of the minibatch"),
            },
        ),
        (
            "collapse",
            (run, x),
            {
                "num_draws": (
                    (1, 0, 2.5, "2", None),
                    "^num_draws must be an integer of at least 2",
                ),
                "threshold": ((-1.0, NAN, "0", None), "^threshold must be a number of at least 0"),
                "epsilon": ((0, NAN, "0", None), "^epsilon must be a positive number, got"),
                "delta": ((-1, 1, NAN, "0", None), "^delta must be a number in .0, 1., got"),
            },
        ),
        (
            "generate",
            (run, x),
            {
                "given": (
                    (3, [x], {"y": x}, {"z": x}, {"x": np.full((3, 4), 0.5)}),
                    "^given must be a mapping from sites to values|^given names .'y'., the model "
                    r"has the sites .'x', 'z'|^given.'z'. must have the shape of a draw, \(3, 2\)|"
                    "^Codes of site 'x' leave its support",
                )
            },
        ),
        (
            "traverse",
            (run, x),
            {
                "site": (("y", 3), "^site must be one of the latents of each datum, .'z'., got"),
                "dims": ((2, -1, [], [0.5], "0", [True]), "^dims must be numbers of entries from"),
                "span": ((0, -1, NAN, "3", (1, 0), (1,), None), "^span must be"),
                "num_steps": ((1, 2.5, "3", None), "^num_steps must be an integer of at least 2"),
            },
        ),
        (
            "interpolate",
            (run, x, x),
            {
                "path": (("arc", 3, None), "^path must be one of 'linear', 'spherical', got"),
                "num_steps": ((1, 2.5, "3", None), "^num_steps must be an integer of at least 2"),
                "num_draws": ((0, 2.5, "3", None), "^num_draws must be an integer of at least 1"),
            },
        ),
    ]
    for name, arguments, bad in tables:
        yield from table(partial(getattr(twin, name), *arguments), {}, bad)
    for runs in ([run], {}, None, run):
        call = partial(twin.rate_distortion, runs, x)
        yield Row(
            f"rate_distortion of {runs!r:.20}", call, "^runs must be a dict of one run or more"
        )


def _annealing() -> dict[str, tuple[tuple[Any, ...], str]]:
    """Bad values of the arguments of annealing."""
    return {
        "schedule": (("cosine", (0.0, 1.0), 3, None, "Linear"), "^schedule must be"),
        "start": (("model", None, 1), "^start must be one of 'guide', 'prior', got"),
        "kernel": (("hmc", 3, int), "^kernel must be a transition kernel such as HMC"),
        "target_accept": ((0, 1, "0.6", None, NAN), r"^target_accept must be a number in \(0, 1"),
        "checkpoint": ((3, "", True), "^checkpoint must be the path of a folder, got"),
    }


def _priors(twin: Twin, run: Any, x: np.ndarray) -> Iterator[Row]:
    """Every argument of the functions that exchange a prior."""
    prior = twin.StandardNormal(2)
    given = {"run": run, "data": x, "conditional": prior}
    conditional = "^conditional must be a conditional such as .*, got"
    bad: dict[str, tuple[tuple[Any, ...], str]] = {
        name: (BAD["count"], f"^{name} must be an integer of at least 1, got")
        for name in ("num_epochs", "batch_size")
    }
    bad["conditional"] = (BAD["conditional"], conditional)
    bad["run"] = ((3, None, run), "^run must be what fit returns, got")
    yield from table(twin.fit_prior, given, bad)
    given = {"model": run.model, "site": "z", "conditional": prior}
    bad = {
        "site": ((3, "", None), "^site must be the name of a sample site, got"),
        "conditional": (BAD["conditional"], conditional),
    }
    yield from table(twin.with_prior, given, bad)
