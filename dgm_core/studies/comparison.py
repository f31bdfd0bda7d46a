"""A table of guides: one row for every guide, objective and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_callable, check_floats, check_seed, refuse, shown
from dgm_core.chains import Chains
from dgm_core.diagnostics import psis_khat, summary
from dgm_core.results import format_table
from dgm_core.samples.distances import sliced_wasserstein
from dgm_core.studies.pictures import plot_comparison
from dgm_core.training.arguments import check_arguments, check_rates
from dgm_core.training.progress import Progress

if TYPE_CHECKING:
    import arviz as az
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Attempt", "Comparison", "compared", "reference_errors", "seconds_per_step"]

Draws = Mapping[str, np.ndarray]
COLUMNS = ("ELBO", "IWAE", "gap", "khat", "khat local", "khat global", "ESS")
ERRORS = ("mean error", "sd error", "quantile error", "distance")
PROBS = (0.05, 0.25, 0.5, 0.75, 0.95)
_POINTS = 2000  # draws that a distance is taken of


class Attempt(NamedTuple):
    """What came of one guide: draws {site: (num_draws, ...)}, seconds per step, parameters of the
    guide, a function that gives its log-weights, or raises, and such functions of the weights of
    groups of latents, by column.
    """

    draws: Draws
    seconds: float
    parameters: int
    log_weights: Callable[[], np.ndarray]
    groups: Mapping[str, Callable[[], np.ndarray]] = {}


class Comparison:
    """Guides side by side, as a table, a data frame, a picture, and draws for ArviZ.

    Columns:
        guide, objective, seed;  ELBO and IWAE in nats per datum (of the whole where there are
        global latents), and gap, the one less the other;  khat, the largest over the data;  khat
        local and khat global, of a guide with both kinds of latents: the largest over the data at
        one draw of the globals, and of the globals with the local ones summed out;  ESS, the
        smallest number of effective draws of a datum;  against the reference, over all
        entries of all sites: mean error, the largest |mean - mean'| in units of its sd; sd error,
        the largest |sd / sd' - 1|; quantile error, the largest error of the 5, 25, 50, 75 and 95 %
        quantiles in units of sd; distance, the sliced Wasserstein distance of entries in units of
        sd;  ms per step, after the first epoch;  parameters of the guide;  failed, why there is
        no more of this row.

    Attributes:
        rows: one dict for each guide, objective and seed.
        draws: (guide, objective, seed) -> draws of the guide.
        reference: draws of the posterior, or None.
        notes: sentences on what the numbers must not hide.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        draws: Mapping[tuple[str, str, int], Draws],
        reference: Draws | None,
        notes: Sequence[str] = (),
    ) -> None:
        self.rows = [dict(row) for row in rows]
        self.draws, self.reference, self.notes = dict(draws), reference, tuple(notes)

    def to_dataframe(self) -> pd.DataFrame:
        """All rows as a data frame; missing numbers are NaN."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def to_arviz(self) -> dict[str, az.InferenceData]:
        """The draws as `InferenceData` with a chain for each seed, by "guide" or "guide,
        objective", and "reference"; for `az.plot_forest` and others that take several."""
        groups: dict[str, list[Draws]] = {}
        several = len({objective for _, objective, _ in self.draws}) > 1
        for (guide, objective, _), draws in self.draws.items():
            groups.setdefault(f"{guide}, {objective}" if several else guide, []).append(draws)
        found = {
            label: Chains({n: np.stack([one[n] for one in draws]) for n in draws[0]}).to_arviz()
            for label, draws in groups.items()
        }
        if self.reference is not None:
            reference = {n: x[None] for n, x in self.reference.items()}
            found["reference"] = Chains(reference).to_arviz()
        return found

    def plot(self) -> Figure:
        """One line per guide and objective, a point per seed: bounds, k-hat, errors, time."""
        return plot_comparison(self.rows)

    def __repr__(self) -> str:
        shown = [{**row, "failed": _shortened(row.get("failed"))} for row in self.rows]
        return "\n".join([format_table(shown), *self.notes])


def compared(
    guides: Mapping[str, Callable[[], Any]],
    objectives: Mapping[str, Any],
    seeds: Sequence[int],
    attempt: Callable[[Callable[[], Any], Any, int], Attempt],
    reference: Draws | None,
    *,
    progress: bool,
    notes: Sequence[str] = (),
) -> Comparison:
    """Every guide under every objective from every seed; what raises is a row that says why."""
    rows, kept = [], {}
    with Progress(len(guides) * len(objectives) * len(seeds), enabled=progress) as bar:
        for name, make in guides.items():
            for objective, loss in objectives.items():
                for seed in seeds:
                    bar.show(f"{name}, {objective}, seed {seed}", {})
                    row: dict[str, Any] = {"guide": name, "objective": objective, "seed": seed}
                    row |= dict.fromkeys((*COLUMNS, *ERRORS, "ms per step", "parameters", "failed"))
                    try:
                        found = attempt(make, loss, seed)
                        row |= {"ms per step": 1e3 * found.seconds, "parameters": found.parameters}
                        _check_finite(found.draws, "the draws")
                        if reference is not None:
                            row |= reference_errors(found.draws, reference)
                        kept[name, objective, seed] = found.draws
                        row |= _bounds(found.log_weights())
                        row |= _khats(found.groups)
                    except Exception as error:
                        row["failed"] = _sentence(error)
                    rows.append(row)
                    bar.advance()
    return Comparison(rows, kept, reference, notes)


def reference_errors(draws: Draws, reference: Draws, *, seed: int = 0) -> dict[str, float]:
    """How far draws are from reference draws, over all entries of the sites that both have.

    Returns:
        "mean error", "sd error", "quantile error" and "distance", see `Comparison`.

    Raises:
        ValueError: where they have no site in common, or one of another shape.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(1000, 2))
        >>> reference_errors({"z": x + [0.0, 0.5]}, {"z": x, "w": x})["mean error"] < 0.53
        True
    """
    names = [name for name in reference if name in draws]
    if not names:
        raise ValueError(
            f"The reference has the sites {list(reference)} and the guide {list(draws)}: none is "
            "common."
        )
    reference = flat_reference(reference, {name: np.shape(draws[name])[1:] for name in names})
    x, y = (_side_by_side(sites, names) for sites in (draws, reference))
    sd = y.std(0)
    varied = sd > 1e-12 * (1 + np.abs(y.mean(0)))
    x, y, sd = x[:, varied], y[:, varied], sd[varied]
    quantiles = np.abs(np.quantile(x, PROBS, axis=0) - np.quantile(y, PROBS, axis=0)) / sd
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(len(part))[:_POINTS] for part in (x, y)]
    return {
        "mean error": float(np.max(np.abs(x.mean(0) - y.mean(0)) / sd)),
        "sd error": float(np.max(np.abs(x.std(0) / sd - 1))),
        "quantile error": float(np.max(quantiles)),
        "distance": sliced_wasserstein(x[chosen[0]] / sd, y[chosen[1]] / sd),
    }


def seconds_per_step(history: Any) -> float:
    """Of a run, from the rows of its history after the first, which may compile."""
    seconds, steps = history.column("seconds"), history.column("step")
    if len(seconds) == 1:
        return float(seconds[0] / steps[0])
    return float(seconds[1:].sum() / (steps[-1] - steps[0]))


def checked_guides(guides: Any, built: tuple[type, ...]) -> dict[str, Callable[[], Any]]:
    """Names and functions without arguments that build a guide.

    Args:
        guides: what the user passed.
        built: the classes of guides, whose objects can be called and build none.

    Raises:
        ValueError: for anything else.
    """
    wanted = "a dict of names and functions without arguments that build one"
    if not isinstance(guides, Mapping) or not guides:
        refuse("guides", wanted, guides)
    for name, make in guides.items():
        if not isinstance(name, str) or isinstance(make, built) or not _is_factory(make):
            raise ValueError(
                f"guides must be {wanted}, got {shown(make)} as {name!r}: pass it as in "
                "{'mine': lambda: make_guide(model)}."
            )
    return dict(guides)


def built_by(make: Callable[[], Any]) -> Any:
    """A guide. Raises ValueError where a function gives something else."""
    return check_callable("what a function of guides returns", make(), "a guide")


def _is_factory(make: Any) -> bool:
    """Whether something can be called without arguments, as far as Python knows."""
    try:
        signature(make).bind()
    except TypeError:
        return False
    except ValueError:  # Python knows nothing of its arguments
        return callable(make)
    return True


def check_fits(
    fit: Callable, loss: type, objectives: Mapping[str, Any], **options: Any
) -> dict[str, Any]:
    """The arguments of every fit, as they came.

    Args:
        fit: whose defaults the others are.
        loss: the class of losses.
        objectives: the losses.
        options: `model`, `data` and others that are passed to `fit`.

    Raises:
        ValueError: as `fit` does, as far as that can be said without running anything.
    """
    defaults = {name: one.default for name, one in signature(fit).parameters.items()}
    for one in objectives.values():
        losses = {"loss": one, "validation_loss": one, "guide": options["model"]}
        check_arguments({**defaults, **options, **losses}, loss)
    if options["lr_schedule"] is not None:
        check_rates(options["lr_schedule"], options["num_steps"] or 1000)
    return {name: x for name, x in options.items() if name not in ("model", "data")}


def checked_seeds(seeds: Any) -> tuple[int, ...]:
    """One or more different seeds."""
    found = tuple(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else (seeds,)
    if not found or len(set(found)) < len(found):
        refuse("seeds", "one or more different integers", seeds)
    return tuple(check_seed("seeds", seed) for seed in found)


def checked_objectives(objectives: Any, default: Callable[[], Any]) -> dict[str, Any]:
    """Losses by name, from one, several or none."""
    if objectives is None:
        objectives = default()
    if not isinstance(objectives, Mapping):
        objectives = {repr(objectives).removesuffix("()"): objectives}
    if not objectives or not all(hasattr(loss, "terms") for loss in objectives.values()):
        refuse("objectives", "a loss, or a dict of names and losses", objectives)
    return dict(objectives)


def checked_reference(
    reference: Any, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Reference draws {site: (num_draws, ...)}.

    Args:
        reference: chains, or draws by site.
        shapes: latent or deterministic site of the model -> the shape of its value.

    Raises:
        ValueError: for anything else, sites that the model does not have, values of another shape,
            and draws that are not finite.
    """
    if not isinstance(reference, Mapping) or not reference:
        refuse("reference", "'nuts', draws by site, or None", reference)
    if unknown := [name for name in reference if name not in shapes]:
        raise ValueError(
            f"The reference has the sites {unknown}, which the model does not draw: its latent and "
            f"deterministic sites are {list(shapes)}."
        )
    draws = reference.flat() if isinstance(reference, Chains) else reference
    for name, values in draws.items():
        check_floats(f"reference[{name!r}]", values)
    found = flat_reference({name: np.asarray(x) for name, x in draws.items()}, shapes)
    _check_finite(found, "The reference draws")
    return found


def flat_reference(
    reference: Draws, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Reference draws as {site: (num_draws, ...)}, also from (num_chains, num_draws, ...).

    Args:
        reference: site -> draws.
        shapes: site -> the shape of a value.

    Raises:
        ValueError: for values of another shape.
    """
    found = dict(reference)
    for name in reference.keys() & shapes.keys():
        values, shape = reference[name], shapes[name]
        extra = values.ndim - len(shape)
        if extra not in (1, 2) or values.shape[extra:] != shape or not len(values):
            raise ValueError(
                f"The reference draws of site '{name}' must be (num_draws, ...) or (num_chains, "
                f"num_draws, ...) of values of shape {shape}, got shape {values.shape}."
            )
        found[name] = values.reshape(-1, *shape)
    return found


def _bounds(log_w: np.ndarray) -> dict[str, float]:
    report = summary(log_w)
    found = {"ELBO": report.mean("ELBO"), "IWAE": report.mean("IWAE")}
    if not np.isfinite(found["ELBO"]):
        raise ValueError(f"the ELBO is {found['ELBO']}.")
    found |= {"gap": found["IWAE"] - found["ELBO"], "ESS": float(np.min(report["ESS"]))}
    return found | ({"khat": float(np.max(report["k-hat"]))} if "k-hat" in report else {})


def _khats(groups: Mapping[str, Callable[[], np.ndarray]]) -> dict[str, float]:
    """The largest k-hat of each group of latents; without the groups that a guide does not have."""
    found = {}
    for column, weights in groups.items():
        try:
            log_w = weights()
        except ValueError:
            continue
        found[column] = float(np.max(psis_khat(log_w)))
    return found if len(found) == len(groups) else {}


def _check_finite(draws: Draws, what: str) -> None:
    for name, values in draws.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{what} of site '{name}' are not finite.")


def _side_by_side(draws: Draws, names: Sequence[str]) -> np.ndarray:
    columns = [np.asarray(draws[name], np.float64) for name in names]
    return np.concatenate([x.reshape(len(x), -1) for x in columns], 1)


def _sentence(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0] if words else 'no message'}"


def _shortened(text: str | None, most: int = 60) -> str | None:
    return text if text is None or len(text) <= most else text[: most - 3] + "..."
