"""Simulation-based calibration: are the posteriors of data that the model made as often right as
they say?

If z ~ p(z), x ~ p(x | z) and z_1, ..., z_L ~ p(z | x), the rank of z among the z_l is uniform on
0, ..., L. A posterior that is too narrow gives ranks at both ends, one that is too wide gives ranks
in the middle, one that is shifted gives ranks at one end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from dgm_core.arguments import check_count, check_number, check_numbers, refuse
from dgm_core.chains import Chains
from dgm_core.evaluation import same_draws
from dgm_core.studies.pictures import plot_coverage, plot_ecdf, plot_ranks

__all__ = ["Calibration", "ecdf_band", "rank_of", "uniformity"]

_LEAST = 10  # simulations of a test


class Calibration:
    """What simulations say of a posterior, entry by entry.

    Attributes:
        ranks: site -> (num_simulations, ...), of the truth among the draws.
        num_draws: L, of each posterior.
        truths, means, sds: site -> (num_simulations, ...), the latents that made the data, and the
            posterior's means and standard deviations of them.
        labels: the names of all entries in the order of `columns`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = Calibration({"z": rng.integers(0, 100, (500, 2))}, 99)
        >>> found.labels, found.p_value > 0.01
        (['z[0]', 'z[1]'], True)

    Raises:
        ValueError: for ranks that are no integers from 0 to num_draws, as many of every site.
    """

    def __init__(
        self,
        ranks: Mapping[str, Any],
        num_draws: int,
        truths: Mapping[str, Any] | None = None,
        means: Mapping[str, Any] | None = None,
        sds: Mapping[str, Any] | None = None,
    ) -> None:
        self.num_draws = check_count("num_draws", num_draws)
        self.ranks = {name: _checked(x, num_draws, f"ranks['{name}']") for name, x in ranks.items()}
        self.truths, self.means, self.sds = (
            {name: np.asarray(x, np.float64) for name, x in (part or {}).items()}
            for part in (truths, means, sds)
        )
        self.labels = [
            name + (f"[{', '.join(map(str, index))}]" if index else "")
            for name, x in self.ranks.items()
            for index in np.ndindex(x.shape[1:])
        ]
        if not self.labels or len({len(x) for x in self.ranks.values()}) != 1:
            refuse("ranks", "those of one entry or more, as many of every site", ranks)

    @property
    def num_simulations(self) -> int:
        """How many data sets were simulated (times the data of each, where these are pooled)."""
        return len(next(iter(self.ranks.values())))

    @property
    def columns(self) -> np.ndarray:
        """The ranks of all entries side by side, (num_simulations, num_entries)."""
        return np.concatenate([x.reshape(len(x), -1) for x in self.ranks.values()], 1)

    def p_values(self) -> dict[str, np.ndarray]:
        """Of the chi-square test of uniform ranks, for every entry of every site."""
        return {name: uniformity(x, self.num_draws) for name, x in self.ranks.items()}

    @property
    def p_value(self) -> float:
        """Of all entries together: the smallest p-value times their number (Bonferroni), at most
        1; below 0.01 the posterior is not calibrated. ValueError with fewer than ten
        simulations."""
        values = np.concatenate([x.reshape(-1) for x in self.p_values().values()])
        return float(min(1.0, values.min() * len(values)))

    def coverage(self, levels: Any = (0.5, 0.8, 0.9, 0.95)) -> dict[str, np.ndarray]:
        """How often the central intervals of these levels hold the truth, {site: (len(levels),
        ...)}, levels in (0, 1); the standard error is sqrt(level (1 - level) / num_simulations).
        """
        levels = check_numbers("levels", levels, above=0, below=1)
        middle = {n: np.abs((x + 0.5) / (self.num_draws + 1) - 0.5) for n, x in self.ranks.items()}
        return {
            name: np.stack([(x <= level / 2).mean(0) for level in levels])
            for name, x in middle.items()
        }

    def contraction(self) -> dict[str, np.ndarray]:
        """1 - mean posterior variance / prior variance, of every entry: 0 where the data say
        nothing, near 1 where they say nearly all."""
        return {n: 1 - np.mean(self.sds[n] ** 2, 0) / self.truths[n].var(0) for n in self.sds}

    def z_scores(self) -> dict[str, np.ndarray]:
        """(posterior mean - truth) / posterior sd, (num_simulations, ...)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return {n: (self.means[n] - self.truths[n]) / self.sds[n] for n in self.sds}

    def plot_ranks(self) -> Figure:
        """Rank histograms with the band in which 99 % of the counts lie if all is well."""
        edges = bin_edges(self.num_simulations, self.num_draws)
        return plot_ranks(self.columns, self.labels, edges)

    def plot_ecdf(self, level: float = 0.95) -> Figure:
        """The distribution function of the ranks less the uniform one, with a simultaneous band."""
        band = ecdf_band(self.num_simulations, self.num_draws, level=level)
        return plot_ecdf(self.columns, self.labels, self.num_draws, band)

    def plot_coverage(self) -> Figure:
        """The coverage of central intervals over their level."""
        levels = np.linspace(0.05, 0.95, 19)
        found = self.coverage(levels)
        columns = np.concatenate([x.reshape(len(levels), -1) for x in found.values()], 1)
        return plot_coverage(levels, columns, self.labels, self.num_simulations)

    def __repr__(self) -> str:
        found = f"too few simulations for a test, which needs {_LEAST}"
        if self.num_simulations >= _LEAST:
            worst = np.concatenate([x.reshape(-1) for x in self.p_values().values()])
            found = f"p = {self.p_value:.2g}, worst {self.labels[int(worst.argmin())]}"
        return (
            f"Calibration({self.num_simulations} simulations, {len(self.labels)} entries: {found})"
        )


def rank_of(truth: np.ndarray, draws: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many draws (num_draws, ...) lie below a truth (...), ties split at random.

    Example:
        >>> rank_of(np.array(2.5), np.array([1.0, 2.0, 3.0]), np.random.default_rng(0))
        array(2)
    """
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    return np.asarray(below + rng.integers(0, equal, endpoint=True))


def bin_edges(num_simulations: int, num_draws: int) -> np.ndarray:
    """The first rank of each bin of the ranks 0, ..., num_draws, and num_draws + 1: as many bins,
    at most 20, as leave five simulations or more to be expected in the smallest, and two at least.

    Bins are of one size, or of two that differ by one rank.

    Example:
        >>> bin_edges(25, 100)
        array([  0,  26,  51,  76, 101])
    """
    ranks = num_draws + 1
    fitting = [n for n in range(2, min(20, ranks) + 1) if ranks // n * num_simulations >= 5 * ranks]
    bins = max(fitting, default=2)
    return -(-np.arange(bins + 1) * ranks // bins)


def uniformity(ranks: np.ndarray, num_draws: int) -> np.ndarray:
    """p-values of the chi-square test that ranks (num_simulations, ...) are uniform on 0, ...,
    num_draws.

    Ranks fall into bins, at most 20; a bin of k ranks is expected to hold num_simulations k /
    (num_draws + 1) of them.

    Raises:
        ValueError: with fewer than ten simulations, and for ranks that are no integers from 0 to
            num_draws.

    Example:
        >>> bool(uniformity(np.arange(100), 99) > 0.99)
        True
    """
    ranks = _checked(ranks, check_count("num_draws", num_draws), "ranks")
    num = len(ranks)
    if num < _LEAST:
        raise ValueError(
            f"The test of uniform ranks needs {_LEAST} simulations or more, got {num}: raise "
            "num_simulations."
        )
    edges = bin_edges(num, num_draws)
    counts = np.stack([((ranks >= a) & (ranks < b)).sum(0) for a, b in pairwise(edges)], -1)
    expected = num * np.diff(edges) / (num_draws + 1)
    statistic = ((counts - expected) ** 2 / expected).sum(-1)
    return np.asarray(stats.chi2.sf(statistic, len(expected) - 1))


def _checked(ranks: Any, num_draws: int, name: str) -> np.ndarray:
    found = np.asarray(ranks)
    good = found.ndim > 0 and found.dtype.kind in "iu" and len(found) > 0
    if not good or (found < 0).any() or (found > num_draws).any():
        refuse(name, f"integers from 0 to {num_draws}, (num_simulations, ...)", ranks)
    return found


def ecdf_band(
    num_simulations: int, num_draws: int, *, level: float = 0.95, num_sets: int = 1000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the distribution function of uniform ranks lies everywhere at once, with probability
    `level`: points (in units of the ranks' range), lower and upper bounds.

    References:
        Saeilynoja, Buerkner and Vehtari (2022), Graphical test for discrete uniformity and its
        applications in goodness-of-fit evaluation, Statistics and Computing 32.

    Example:
        >>> points, low, high = ecdf_band(100, 99)
        >>> bool((low < points).all() and (points < high).all())
        True
    """
    level = check_number("level", level, above=0, below=1)
    ends = np.unique(np.linspace(1, num_draws, min(num_draws, 50)).astype(int))
    points = ends / (num_draws + 1)  # P(rank < end)
    rng = np.random.default_rng(0)
    ranks = np.sort(rng.integers(0, num_draws + 1, (num_sets, num_simulations)), 1)
    below = np.stack([np.searchsorted(one, ends) for one in ranks])
    binomial = stats.binom(num_simulations, points)
    tails = 2 * np.minimum(binomial.cdf(below), binomial.sf(below - 1)).min(1)
    rare = np.quantile(np.minimum(tails, 1.0), 1 - level)
    low, high = binomial.ppf(rare / 2), binomial.ppf(1 - rare / 2)
    return points, low / num_simulations, high / num_simulations


def observed_arguments(
    seen: Mapping[str, np.ndarray],
    given: Mapping[Any, Any],
    arguments: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Which argument holds the data of each observed site.

    Args:
        seen: site -> what it observes.
        given: name or position -> argument.
        arguments: {site: name or position}, where it is known.

    Raises:
        ValueError: where no argument, or more than one, equals what a site observes, and for
            `arguments` that are no such dict.
    """
    if not (arguments is None or isinstance(arguments, Mapping)):
        refuse("arguments", "a dict of observed sites and names or positions, or None", arguments)
    found = dict(arguments or {})
    if unknown := [n for n in found if n not in seen or not _is_key(found[n], given)]:
        raise ValueError(
            f"arguments must map observed sites {list(seen)} to arguments {list(given)}, got "
            f"{unknown}."
        )
    if not seen:
        raise ValueError("The model observes nothing with these arguments: pass its data.")
    for name, value in seen.items():
        if name in found:
            continue
        equal = [key for key, one in given.items() if _same(one, value)]
        if len(equal) != 1:
            raise ValueError(
                f"{'No' if not equal else 'More than one'} argument equals what site '{name}' "
                f"observes: say which it is, arguments={{'{name}': name or position}}."
            )
        found[name] = equal[0]
    return found


def check_looks(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Raises ValueError for a guide that draws the same from different data, with the same random
    numbers; draws that are all integers may be the same by chance."""
    whole = all(np.array_equal(np.round(x), x) for x in map(np.asarray, first.values()))
    if same_draws(first, second) and not whole:
        raise ValueError(
            "The guide does not look at its data, so it is the posterior of one data set only: "
            "pass a function that fits it to each simulated one, as in lambda x: fit(model, guide, "
            "x)."
        )


def thinned(found: Any, num_draws: int) -> dict[str, np.ndarray]:
    """So many draws of each site, evenly spaced, of chains or of draws {site: (num_draws, ...)}.

    Raises:
        ValueError: for what is neither, and for fewer draws.
    """
    if not isinstance(found, Mapping) or not found:
        refuse("posterior(...)", "a run, chains, or draws by site", found)
    draws = found.flat() if isinstance(found, Chains) else found
    draws = {name: np.atleast_1d(values) for name, values in draws.items()}
    if fewer := [name for name, values in draws.items() if len(values) < num_draws]:
        raise ValueError(
            f"The posterior must have {num_draws} draws or more, got {len(draws[fewer[0]])} of "
            f"site '{fewer[0]}'."
        )
    return {
        name: values[np.linspace(0, len(values) - 1, num_draws).astype(int)]
        for name, values in draws.items()
    }


def _is_key(key: Any, given: Mapping[Any, Any]) -> bool:
    plain = isinstance(key, (int, np.integer, str)) and not isinstance(key, bool)
    return plain and key in given


def _same(argument: Any, value: np.ndarray) -> bool:
    if not hasattr(argument, "shape") or tuple(argument.shape) != value.shape:
        return False
    argument = np.asarray(argument)
    return np.array_equal(argument, value, equal_nan=argument.dtype.kind in "fc")


def joined(
    truths: Mapping[str, np.ndarray],
    posteriors: Sequence[Mapping[str, np.ndarray]],
    axes: Mapping[str, int | None],
    seed: int,
) -> Calibration:
    """A calibration from truths (num_simulations, ...) and the draws of each simulation; the data
    along the axes named (negative, of a value) are pooled.

    Raises:
        ValueError: where the posteriors have none of the latents, or one of another shape.
    """
    rng = np.random.default_rng(seed % 2**64)
    names = [name for name in truths if all(name in draws for draws in posteriors)]
    if not names:
        raise ValueError(
            f"The model has the latents {list(truths)} and the posterior {list(posteriors[0])}: "
            "none is common."
        )
    num_draws = len(posteriors[0][names[0]])
    parts: dict[str, dict[str, np.ndarray]] = {"ranks": {}, "truths": {}, "means": {}, "sds": {}}
    for name in names:
        rows: dict[str, list[np.ndarray]] = {part: [] for part in parts}
        for truth, draws in zip(truths[name], posteriors, strict=True):
            drawn = np.asarray(draws[name], np.float64)
            if drawn.shape[1:] != np.shape(truth):
                raise ValueError(
                    f"The posterior's draws of site '{name}' must have the shape "
                    f"{(len(drawn), *np.shape(truth))}, as the model draws it, got {drawn.shape}."
                )
            rows["ranks"].append(rank_of(truth, drawn, rng))
            rows["truths"].append(truth)
            rows["means"].append(drawn.mean(0))
            rows["sds"].append(drawn.std(0))
        for part, values in rows.items():
            parts[part][name] = _pooled(np.stack(values), axes.get(name))
    return Calibration(num_draws=num_draws, **parts)


def _pooled(values: np.ndarray, axis: int | None) -> np.ndarray:
    if axis is None:
        return values
    moved = np.moveaxis(values, axis, 1)
    return moved.reshape(-1, *moved.shape[2:])
