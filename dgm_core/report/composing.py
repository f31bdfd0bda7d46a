"""A report put together: every part is tried by itself, and one that cannot be had leaves a
sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import ismodule, unwrap
from typing import Any, NamedTuple

import numpy as np

from dgm_core import plots
from dgm_core.arguments import check_count, check_image_shape, check_seed, refuse
from dgm_core.diagnostics import summary
from dgm_core.diagnostics.khat import MIN_KHAT_PARTICLES
from dgm_core.energies import estimated, restarted
from dgm_core.latex import latex
from dgm_core.report import pictures, rows
from dgm_core.report.facts import Facts, Tools
from dgm_core.report.result import RunReport

__all__ = ["Options", "check_options", "composed", "enumerated_sites", "loss_of"]

_SURGERY, _SHOWN, _EXPORTED = 1000, 2000, 100  # data at most, where a part of them will do
_EVALUATIONS = 10  # of the loss
_ORDER: tuple[str, ...] = ("training", "reconstructions", "samples", "posterior predictive")
_ORDER = (*_ORDER, "codes", "posterior", "importance weights")


class Options(NamedTuple):
    """The arguments of `report` beside the run and its data."""

    labels: np.ndarray | None
    image_shape: tuple[int, int, int] | None
    num_particles: int
    num_draws: int
    title: str | None
    rows: Any
    vectorize: bool | None
    seed: int


def check_options(
    labels: Any,
    image_shape: Any,
    num_particles: Any,
    num_draws: Any,
    title: Any,
    rows: Any,
    vectorize: Any,
    seed: Any,
) -> Options:
    """The options in their plain forms. Raises ValueError for what they cannot be."""
    if labels is not None:
        given, labels = labels, np.asarray(labels)
        if labels.ndim != 1 or labels.dtype.kind not in "biuU":
            refuse("labels", "one class for each datum, integers or names", given)
    if image_shape is not None:
        image_shape = check_image_shape("image_shape", image_shape)
        if image_shape[0] not in (1, 3):
            refuse("image_shape", "(channels, height, width) with 1 or 3 channels", image_shape)
    if not (title is None or isinstance(title, str)):
        refuse("title", "text, or None", title)
    return Options(
        labels,
        image_shape,
        check_count("num_particles", num_particles),
        check_count("num_draws", num_draws, 2),
        title,
        rows,
        vectorize,
        check_seed("seed", seed),
    )


def loss_of(run: Any) -> Any:
    """What a run was trained by; None where it does not know."""
    loss = getattr(run, "loss", None)
    return loss if hasattr(loss, "terms") else None


def enumerated_sites(run: Any) -> tuple[str, ...]:
    """The discrete latents that the loss of a run sums out, so that its guide need not draw
    them.
    """
    loss = loss_of(run)
    return () if loss is None else tuple(loss.enumerated)


def composed(
    run: Any, data: tuple[Any, ...], facts: Facts, tools: Tools, options: Options
) -> RunReport:
    """The report of a run on data.

    Raises:
        ValueError: where there are not as many labels as data.
    """
    labels = options.labels
    if labels is not None and len(labels) != facts.num_rows:
        raise ValueError(
            f"labels must give one class for each of the {facts.num_rows} data, got {len(labels)}."
        )
    return _Composer(run, data, facts, tools, options).report()


@dataclass
class _Composer:
    """The parts that are there so far: rows, figures, notes."""

    run: Any
    data: tuple[Any, ...]
    facts: Facts
    tools: Tools
    options: Options

    def __post_init__(self) -> None:
        self.rows: list[rows.Row] = []
        self.figures: dict[str, Any] = {}
        self.notes: list[str] = []

    def report(self) -> RunReport:
        loss = loss_of(self.run)
        self._weights()
        self._terms(loss)
        self._surgery()
        self._codes()
        self._training()
        self._reconstructions()
        idata = self._draws()
        self._samples(idata)
        self.rows += rows.size_rows(self.facts.parameters)
        self.rows += rows.data_rows(self.data, self.options.labels)
        self.rows += rows.version_rows(self.tools.libraries)
        return RunReport(
            self.options.title or title_of(self.run),
            self.rows,
            dict(sorted(self.figures.items(), key=lambda item: _place(item[0]))),
            self.facts.sites,
            self._written(loss),
            (self._try("The formula of the loss", latex, loss) or "") if loss is not None else "",
            self._try("The graph of the model", self._called(self.tools.graph)),
            tuple(dict.fromkeys(self.notes)),
            idata,
        )

    def _try(self, what: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What a function gives; None with a sentence in the notes where it raises."""
        try:
            return function(*args, **options)
        except Exception as error:
            self.notes.append(left_out(what, error))
            return None

    def _called(self, tool: Callable[..., Any], most: int | None = None) -> Callable[..., Any]:
        """A tool with run and data, of which so many are enough."""
        data, numbers = self._first(most)

        def call(**options: Any) -> Any:
            return tool(self.run, *data, rows=numbers, seed=self.options.seed, **options)

        return call

    def _first(self, most: int | None) -> tuple[tuple[Any, ...], Any]:
        """The first data, where a part can be had, and their numbers in the data of the fit."""
        num = self.facts.num_rows
        if most is None or num is None or num <= most or not self.facts.divisible:
            return self.data, self.options.rows
        numbers = self.facts.rows
        return _cut(self.data, most, num), None if numbers is None else numbers[:most]

    def _weights(self) -> None:
        summed = enumerated_sites(self.run)
        log_w = self._try(
            "Bounds and importance weights",
            self._called(self.tools.log_weights),
            num_particles=self.options.num_particles,
            vectorize=self.options.vectorize,
            **({"enumerate": summed} if summed else {}),
        )
        found = None if log_w is None else self._try("Bounds", summary, log_w)
        if log_w is None or found is None:
            return
        self.rows += rows.bound_rows(log_w, found)
        self.notes += found.notes
        self._draw("importance weights", pictures.plot_weights, np.asarray(log_w), found)

    def _terms(self, loss: Any) -> None:
        if loss is None:
            self.notes.append(
                "The terms of the loss left out: this run does not know its loss, as those of fit "
                "and of load_run(..., loss=loss) do."
            )
            return
        values = self._try("The terms of the loss", self._evaluated, loss)
        self.rows += rows.term_rows(values or {})
        if sites := {site for _, term in loss.terms for site in term.log_zs}:
            self.notes.append(estimated(sites))

    def _evaluated(self, loss: Any) -> Mapping[str, np.ndarray]:
        if missing := sorted(loss.stateful.keys() - (getattr(self.run, "term_state", None) or {})):
            raise ValueError(
                f"the run does not hold what {', '.join(missing)} keeps from step to step, such as "
                "a critic."
            )
        options = {"num_draws": _EVALUATIONS, "vectorize": self.options.vectorize}
        return self._called(self.tools.terms)(loss=loss, step=step_of(self.run), **options)

    def _surgery(self) -> None:
        if not self._local():
            self.notes.append("ELBO surgery left out: the model has no latents of each datum.")
            return
        found = self._try("ELBO surgery", self._called(self.tools.elbo_surgery, _SURGERY))
        if found is not None:
            part = self._first(_SURGERY)[0] is not self.data
            about = f"the first {_SURGERY} of {self.facts.num_rows} data" if part else ""
            parts, notes = rows.surgery_rows(found, about)
            self.rows += parts
            self.notes += notes

    def _codes(self) -> None:
        """Active units, and the pictures of the codes of the data."""
        labels, local = self.options.labels, self._local()
        if not local or not self.facts.divisible:
            self.notes.append(
                "Codes and active units left out: the model has no latents of each datum."
                if not local
                else "Codes and active units left out: they are those of latents in one plate of "
                "the data, beside which there are none that all data share."
            )
            return
        drawn = self._try(
            "Codes and active units",
            self._called(self.tools.latents, _SHOWN),
            num_draws=self.options.num_draws,
            vectorize=self.options.vectorize,
        )
        for name in local if drawn is not None else ():
            draws = np.asarray(drawn[name], np.float64)
            unit = self._try(f"Active units of {name}", rows.unit_row, name, draws)
            self.rows += [] if unit is None else [unit]
            means = draws.mean(0).reshape(draws.shape[1], -1)
            classes = None if labels is None else labels[: len(means)]
            self._draw(f"codes: means of {name}", plots.latent_scatter, means, classes)

    def _latents(self) -> set[str]:
        return {site["site"] for site in self.facts.sites if site["kind"] == "latent"}

    def _local(self) -> list[str]:
        """The latents of each datum."""
        return [name for name in self.facts.structure.local_sites if name in self._latents()]

    def _shared(self) -> list[str]:
        """The latents that all data share."""
        return [name for name in self.facts.structure.global_sites if name in self._latents()]

    def _training(self) -> None:
        self.rows += rows.training_rows(self.run)
        history = getattr(self.run, "history", None)
        if history is None or not len(history):
            self.notes.append("Training curves left out: this run has no history.")
            return
        if note := restarted(history):
            self.notes.append(note)
        self._draw("training", plots.loss_curves, history)

    def _reconstructions(self) -> None:
        if not self.facts.observed:
            self.notes.append("Reconstructions and samples left out: no site is observed.")
            return
        latents = [site for site in self.facts.sites if site["kind"] == "latent"]
        if undrawn := [site["site"] for site in latents if not site["guide"]]:
            self.notes.append(f"Reconstructions left out: the guide does not draw {undrawn}.")
            return
        means = self._try("Reconstructions", self._called(self.tools.reconstruct, _SHOWN))
        for name, mean in (means or {}).items():
            site = self.facts.observed[name]
            shape = pictures.image_shape_of(site, self.options.image_shape)
            what = f"reconstructions of {name}"
            self._draw(what, pictures.plot_reconstructions, site, mean, shape)

    def _draws(self) -> Any:
        """Draws for ArviZ, and the picture of the latents that all data share."""
        idata = self._try(
            "Draws for ArviZ",
            self._called(self.tools.to_arviz, _EXPORTED),
            num_draws=self.options.num_draws,
            num_particles=min(max(self.options.num_particles, MIN_KHAT_PARTICLES), 256),
            vectorize=self.options.vectorize,
        )
        if idata is not None and (shared := self._shared()):
            named = {name: idata.posterior[_key(name)].values[0] for name in shared}
            self._draw("posterior", pictures.plot_draws, named, shared)
        return idata

    def _samples(self, idata: Any) -> None:
        """What the model generates: from its prior; where all data share latents, whose prior is
        not what was learned, from the guide's.
        """
        shared, observed = bool(self._shared()), self.facts.observed
        if shared and idata is None:
            return  # a sentence on the draws says why
        given = self.options.image_shape
        shapes = {name: pictures.image_shape_of(site, given) for name, site in observed.items()}
        words = "posterior predictive draws of" if shared else "samples of"
        kinds = {shape is not None for shape in shapes.values()}  # of images the means are shown
        found = {} if shared else {means: self._generated(means) for means in kinds}
        for name, site in observed.items():
            if shared:
                values = idata.posterior_predictive[_key(name)].values
            else:
                values = found[shapes[name] is not None].get(name)
            if values is not None:
                self._draw(f"{words} {name}", pictures.plot_samples, site, values, shapes[name])

    def _generated(self, means: bool) -> Mapping[str, np.ndarray]:
        data, _ = self._first(_SHOWN)
        options = {"means": means, "seed": self.options.seed}
        found = self._try("Samples", self.tools.generate, self.run, *data, **options)
        return found or {}

    def _draw(self, name: str, draw: Callable[..., Any], *args: Any) -> None:
        """A picture, where it can be drawn."""
        figure = self._try(f"The picture '{name}'", draw, *args)
        if figure is not None:
            self.figures[name] = figure

    def _written(self, loss: Any) -> str:
        if loss is not None:
            return repr(loss)
        return str((getattr(self.run, "config", None) or {}).get("loss") or "")


def left_out(what: str, error: Exception) -> str:
    """The sentence on a part that could not be had: refused in words, or failed.

    Example:
        >>> left_out("Surgery", ValueError("the model has global latents."))
        'Surgery left out: the model has global latents.'
        >>> left_out("Surgery", KeyError("z"))
        "Surgery failed (KeyError: 'z')."
    """
    words = " ".join(str(error).split())
    if isinstance(error, ValueError) and words:
        return f"{what} left out: {words.rstrip('.')}."
    return f"{what} failed ({type(error).__name__}{': ' if words else ''}{words.rstrip('.')})."


def title_of(run: Any) -> str:
    """What a run is called: the class that its model is a method of, or the function.

    Example:
        >>> from types import SimpleNamespace
        >>> title_of(SimpleNamespace(model=len))
        'len'
    """
    model = unwrap(run.model)
    owner = getattr(model, "__self__", None)
    if owner is not None and not ismodule(owner):
        return type(owner).__name__
    return getattr(model, "__name__", type(model).__name__)


def step_of(run: Any) -> int:
    """The step that the schedules of a run have come to, 0 where nothing is known.

    Example:
        >>> from types import SimpleNamespace
        >>> step_of(SimpleNamespace(history=[{"step": 8}, {"step": 16}])), step_of(None)
        (16, 0)
    """
    history = getattr(run, "history", None)
    return int(history[-1].get("step", 0)) if history is not None and len(history) else 0


def _place(figure: str) -> int:
    """Where a picture stands on the page."""
    return next(i for i, words in enumerate(_ORDER) if figure.startswith(words))


def _key(name: str) -> str:
    """What a site is called in an ArviZ file."""
    return name.replace("/", ".")


def _cut(data: Any, num: int, num_rows: int) -> Any:
    """The first rows of all arrays that have a row for each datum."""
    if isinstance(data, Mapping):
        return {name: _cut(x, num, num_rows) for name, x in data.items()}
    if isinstance(data, tuple):
        return tuple(_cut(x, num, num_rows) for x in data)
    shape = np.shape(data) if isinstance(data, list) else getattr(data, "shape", ())
    return data[:num] if tuple(shape[:1]) == (num_rows,) else data
