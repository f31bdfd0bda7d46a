"""The passes of annealing over some data: a pilot that settles step sizes and temperatures, and
with both frozen the forward and the reverse chains that are weighted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from dgm_core.annealing.bounds import AnnealedBounds
from dgm_core.annealing.schedules import (
    between,
    inverse_temperatures,
    optimal_temperatures,
    smoothed,
)
from dgm_core.annealing.store import Store
from dgm_core.training.progress import Progress

PILOT, WARMUP = 100, 20  # steps of the pilot between start and target, and at the start before
_SEGMENTS = 50  # of a pass, between which progress is shown and a file may be written
_EAGER, _CALM = 1.0, 0.25  # rates of adaptation, in log step size per unit of acceptance


class Path(NamedTuple):
    """What a pass goes through: step k moves from temperature k - 1 to k and then makes a
    transition; entries behind its last step are not read.

    betas (length,), the inverse temperatures;  log_steps (length, num_data), what the kernel's step
    sizes are multiplied by, as logarithms;  rates (length,), of adaptation, 0 in weighted passes;
    seeds (length,), of the random numbers;  target, the acceptance that is adapted to.
    """

    betas: np.ndarray
    log_steps: np.ndarray
    rates: np.ndarray
    seeds: np.ndarray
    target: np.ndarray


class Moving(NamedTuple):
    """Chains on their way.

    position (chains, num_data, width);  log_w (chains, num_data);  log_step (num_data,), by which
    step sizes were adapted;  log_steps (length, num_data), acceptance (length,) and spread
    (length,): the step sizes, the mean acceptance and the variance of log f_1 - log f_0 at each
    step.
    """

    position: Any
    log_w: Any
    log_step: Any
    log_steps: Any
    acceptance: Any
    spread: Any


class Annealer(Protocol):
    """What a backend does."""

    num_chains: int
    num_data: int

    def advance(
        self, moving: Moving, path: Path, rows: np.ndarray | None, first: int, last: int
    ) -> Moving:
        """Steps first + 1, ..., last, in numpy arrays, of some data (None: all)."""


@dataclass(frozen=True)
class Plan:
    """How data are annealed.

    schedule: a name or numbers;  steps;  adapts: whether the kernel has step sizes to be
    adapted;  target: the acceptance;  reverse: whether reverse chains run;  seed;  most: data at
    once (None: all that there are, in one go).
    """

    schedule: Any
    steps: int
    adapts: bool
    target: float
    reverse: bool
    seed: int
    most: int | None

    @property
    def length(self) -> int:
        """Of the arrays of a path."""
        piloted = self.adapts or self.is_adaptive
        return 1 + (max(self.steps, PILOT + WARMUP) if piloted else self.steps)

    @property
    def is_adaptive(self) -> bool:
        """Whether the temperatures are found by a pilot."""
        return isinstance(self.schedule, str) and self.schedule == "adaptive"

    def undivided(self) -> Plan:
        """The same, with all data in one go."""
        return replace(self, most=None)

    def rows(self, num_data: int) -> list[np.ndarray | None]:
        """The data of each part, all of one length: what is missing at the end is filled up from
        the front."""
        if self.most is None or self.most >= num_data:
            return [None]
        num_parts = -(-num_data // self.most)
        at_once = -(-num_data // num_parts)
        starts = range(0, num_data, at_once)
        return [np.arange(start, start + at_once) % num_data for start in starts]


class Passes:
    """All passes of a plan.

    Args:
        annealer: makes the transitions.
        plan: how.
        store: what was found before, and where to keep what is found.
        bar: shows how far it is.
    """

    def __init__(self, annealer: Annealer, plan: Plan, store: Store, bar: Progress) -> None:
        self.annealer, self.plan, self.store, self.bar = annealer, plan, store, bar

    def bounds(
        self, starts: np.ndarray, ends: np.ndarray | None = None, *, exact: bool = False
    ) -> AnnealedBounds:
        """Bounds from chains that start at draws of the start, (chains, num_data, width), and
        reverse ones at `ends`, draws of the target; None: where forward chains have come to."""
        found = []
        for number, rows in enumerate(self.plan.rows(starts.shape[1])):
            own = slice(None) if rows is None else rows
            last = None if ends is None else ends[:, own]
            found.append(self._part(number, rows, starts[:, own], last))
        num = starts.shape[1]
        reverse = None
        if self.plan.reverse:
            reverse = np.concatenate([part["reverse"] for part in found], 1)[:, :num]
        names = ("forward", "reverse") if self.plan.reverse else ("forward",)
        return AnnealedBounds(
            np.concatenate([part["forward"] for part in found], 1)[:, :num],
            reverse,
            exact=exact,
            schedule=self._betas(),
            acceptance={
                name: float(np.mean([part[f"{name} acceptance"] for part in found]))
                for name in names
            },
        )

    def arrived(self, starts: np.ndarray) -> Moving:
        """Forward chains of all data in one go, where they have come to, with their weights."""
        seed = self.plan.seed % 2**64, 0
        log_steps = self._settled("0/", seed, None, starts)
        return self._weighted("forward", (*seed, 1), None, starts, self._betas(), log_steps)

    def _part(
        self, number: int, rows: Any, starts: np.ndarray, ends: np.ndarray | None
    ) -> dict[str, Any]:
        """Weights and acceptance of some data."""
        if (known := self.store.take(f"part {number}")) is not None:
            self.bar.advance(self._cost(number))
            return known
        prefix, seed = f"{number}/", (self.plan.seed % 2**64, number)
        log_steps = self._settled(prefix, seed, rows, starts)
        betas = self._betas()
        forward = self._weighted(f"{prefix}forward", (*seed, 1), rows, starts, betas, log_steps)
        found = _weights("forward", forward, self.plan.steps)
        if self.plan.reverse:
            if ends is None:
                ends = resampled(forward, np.random.default_rng((*seed, 3)))
            back, steps = betas[::-1], log_steps[::-1]
            reverse = self._weighted(f"{prefix}reverse", (*seed, 2), rows, ends, back, steps)
            found |= _weights("reverse", reverse, self.plan.steps)
            found["reverse"] = -found["reverse"]
            _check(found["reverse"])
        self.store.drop(prefix)
        self.store.put(f"part {number}", found, now=True)
        return found

    def _cost(self, number: int) -> int:
        """The steps of a part."""
        pilot = (self.plan.adapts or (self.plan.is_adaptive and not number)) * (PILOT + WARMUP)
        return pilot + self.plan.steps * (1 + self.plan.reverse)

    def _betas(self) -> np.ndarray:
        """The temperatures of the weighted passes, which those of the first data decide."""
        if not self.plan.is_adaptive:
            return inverse_temperatures(self.plan.schedule, self.plan.steps)
        known = self.store.take("schedule")
        assert known is not None
        return known["betas"]

    def _settled(self, prefix: str, seed: tuple[int, ...], rows: Any, starts: Any) -> np.ndarray:
        """The logarithms of step sizes at each temperature, (steps + 1, num_data), from a pass of
        its own."""
        plan, num_data = self.plan, starts.shape[1]
        unknown = plan.is_adaptive and self.store.take("schedule") is None
        if not (plan.adapts or unknown):
            return np.zeros((plan.steps + 1, num_data))
        betas = self._pilot_betas()
        path = self._path(
            np.concatenate([np.zeros(WARMUP), betas]),
            np.zeros((1, num_data)),
            (*seed, 0),
            rates=np.concatenate([np.geomspace(_EAGER, _CALM, WARMUP), np.full(len(betas), _CALM)])
            * plan.adapts,
        )
        pilot = self._run(f"{prefix}pilot", path, self._start(starts), rows, WARMUP + PILOT)
        if unknown:
            spread = np.sqrt(pilot.spread[WARMUP + 1 : WARMUP + PILOT + 1])
            found = optimal_temperatures(betas, np.append(spread, spread[-1]), plan.steps)
            self.store.put("schedule", {"betas": found})
        log_steps = smoothed(pilot.log_steps[WARMUP : WARMUP + PILOT + 1])
        return between(log_steps, betas, self._betas())

    def _pilot_betas(self) -> np.ndarray:
        """The temperatures of the pilot, like those of the weighted passes."""
        if self.plan.is_adaptive:
            return inverse_temperatures("power", PILOT)
        betas = self._betas()
        places = np.linspace(0, len(betas) - 1, PILOT + 1)
        return np.interp(places, np.arange(len(betas)), betas)

    def _weighted(
        self, name: str, seed: tuple[int, ...], rows: Any, starts: Any, betas: Any, log_steps: Any
    ) -> Moving:
        path = self._path(betas, log_steps, seed, rates=np.zeros(len(betas)))
        return self._run(name, path, self._start(starts), rows, self.plan.steps)

    def _start(self, starts: np.ndarray) -> Moving:
        """Chains before their first step."""
        chains, num_data, _ = starts.shape
        length = self.plan.length
        return Moving(
            starts,
            *(np.zeros(shape, starts.dtype) for shape in ((chains, num_data), num_data)),
            *(np.zeros(shape, starts.dtype) for shape in ((length, num_data), length, length)),
        )

    def _path(self, betas: Any, log_steps: Any, seed: tuple[int, ...], *, rates: Any) -> Path:
        """A path of the common length."""
        length, seeds = self.plan.length, np.random.SeedSequence(seed)

        def filled(x: np.ndarray) -> np.ndarray:
            return np.concatenate([x, np.repeat(x[-1:], length - len(x), 0)])

        return Path(
            filled(betas),
            filled(log_steps),
            filled(rates),
            seeds.generate_state(length),
            np.asarray(self.plan.target),
        )

    def _run(self, name: str, path: Path, moving: Moving, rows: Any, last: int) -> Moving:
        """A whole pass, or what is left of it."""
        first = 0
        if (known := self.store.take(name)) is not None:
            first = int(known["steps"])
            moving = Moving(*(known[field] for field in Moving._fields))
            self.bar.advance(first)
        segment = -(-last // _SEGMENTS)
        for begin in range(first, last, segment):
            end = min(begin + segment, last)
            moving = self.annealer.advance(moving, path, rows, begin, end)
            moving = Moving(*map(np.asarray, moving))
            _check(moving.log_w)
            self.bar.advance(end - begin)
            self.bar.show(f"part {name}", {"acceptance": float(moving.acceptance[end])})
            kept = {**moving._asdict(), "steps": end}
            self.store.put(name, kept, now=end == last)
        return moving


def num_steps(plan: Plan, num_data: int) -> int:
    """The steps of all passes, for a progress line."""
    parts = len(plan.rows(num_data))
    pilots = parts if plan.adapts else int(plan.is_adaptive)
    return pilots * (PILOT + WARMUP) + parts * plan.steps * (1 + plan.reverse)


def _weights(name: str, moving: Moving, steps: int) -> dict[str, Any]:
    rates = moving.acceptance[1 : steps + 1]
    return {name: moving.log_w.astype(np.float64), f"{name} acceptance": rates.mean()}


def resampled(moving: Moving, rng: np.random.Generator) -> np.ndarray:
    """Positions drawn again by their weights, datum by datum."""
    noise = rng.gumbel(size=(len(moving.log_w), *moving.log_w.shape))
    chosen = (moving.log_w[None].astype(np.float64) + noise).argmax(1)
    return np.take_along_axis(moving.position, chosen[..., None], 0)


def _check(log_w: np.ndarray) -> None:
    """Raises ValueError for weights that are NaN or infinite; zero weights are none of these."""
    if bad := int(np.sum(np.isnan(log_w) | np.isposinf(log_w))):
        raise ValueError(
            f"The annealed weights are NaN or infinite in {bad} of {log_w.size} chains: look at "
            "the log-densities of the model at its own draws (scales that are not positive?) and "
            "at the data."
        )
