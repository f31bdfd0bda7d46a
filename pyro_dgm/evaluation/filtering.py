"""Particle filters and smoothers of sequences whose model is written as steps."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgm_core.arguments import check_count, check_flag, check_seed
from dgm_core.evaluation import check_probs, check_scored, passes
from dgm_core.filtering import Course, Filtered, Smoothed, joined
from dgm_core.resampling import Resampling, check_resampling
from dgm_core.training.progress import Progress
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import calling
from pyro_dgm.sequences.backward import simulated
from pyro_dgm.sequences.filtering import Moment, filtered

__all__ = ["particle_filter", "particle_smoother"]


@one_at_a_time
def particle_filter(
    run: Any,
    *data: Any,
    num_particles: int = 1000,
    resample: str | float = 0.5,
    scheme: str = "systematic",
    bootstrap: bool = False,
    probs: Any = (0.05, 0.5, 0.95),
    chunk_size: int = 32_768,
    rows: Any = None,
    seed: int = 0,
    progress: bool = False,
) -> Filtered:
    """log p(x_1, ..., x_T) and its parts one step ahead, and the latents of each step given the
    data up to it, by a particle filter that proposes by the guide.

    log p(x_t | x_1, ..., x_{t-1}) is estimated by log sum_k W_k w_k, with the normalized weights
    W_k that the particles carry into step t and those w_k that they get there. E Zhat = p(x) for
    the exponential of their sum, whatever the rule, so that the log-likelihood is a lower bound on
    average.  A guide that looks ahead is a proposal as any: what is said of step t is given
    x_1, ..., x_t alone.

    Args:
        run, data, rows, seed: as `log_weights` takes them.
        num_particles: K.
        resample, scheme: as in `losses.FIVO`.
        bootstrap: whether the model's own draws are the proposal, instead of the guide's.
        probs: of the quantiles.
        chunk_size: sequences times particles held in memory at once, with all their steps.
        progress: one line of progress.

    Returns:
        `Filtered`: the log-likelihood and its parts, means, variances and quantiles, effective
        sample sizes, a sequence in each row. Latents that are classes count as numbers.

    Cost:
        K runs of guide and model, step by step; memory for all latents of a chunk.

    Raises:
        ValueError: for bad arguments; a model or a guide that is no `unroll`; latents outside it;
            weights that are NaN; sequences of which no particle has a weight.

    References:
        Doucet and Johansen (2009), A tutorial on particle filtering and smoothing.

    Example:
        >>> from types import SimpleNamespace
        >>> import pyro.distributions as dist
        >>> from pyro_dgm.sequences import unroll
        >>> def step(z, inputs, x_t):
        ...     z = pyro.sample("z", dist.Normal(0.9 * z, 0.5).to_event(1))
        ...     pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x_t)
        ...     return z
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         unroll(step, torch.zeros(1), x)
        >>> run = SimpleNamespace(model=model, guide=lambda x: None)
        >>> found = particle_filter(run, np.ones((3, 4, 1)), num_particles=50, bootstrap=True)
        >>> found.log_likelihood.shape, found.step_log_likelihood.shape, found.means["z"].shape
        ((3,), (3, 4), (3, 4, 1))
    """
    probs = check_probs("probs", probs)
    rule = check_resampling(resample, scheme)
    options = {"bootstrap": bootstrap, "chunk_size": chunk_size, "rows": rows, "seed": seed}
    return _run(
        run, data, num_particles, rule, lambda course: course.filtered(probs), progress, **options
    )


@one_at_a_time
def particle_smoother(
    run: Any,
    *data: Any,
    num_particles: int = 1000,
    resample: str | float = 0.5,
    scheme: str = "systematic",
    bootstrap: bool = False,
    probs: Any = (0.05, 0.5, 0.95),
    num_draws: int = 100,
    backward: bool = False,
    chunk_size: int = 32_768,
    rows: Any = None,
    seed: int = 0,
    progress: bool = False,
) -> Smoothed:
    """The latents of each step given all of x, along the paths of the particles of the last step,
    which a filter keeps by the ancestors of each.

    This holds for any step function, also where the state remembers all of the past (VRNN). After
    many resamplings the particles of the last step descend from few of an early one, `distinct`:
    what is said of that step rests on these alone.  More particles, a guide that looks ahead, and
    a rule that resamples rarely help; so does `backward`: paths are then drawn from their end, each
    step among all of its particles, by their weights times the density of what was drawn behind.

    Args:
        run, data, num_particles, resample, scheme, bootstrap: as `particle_filter` takes them.
        probs, chunk_size, rows, seed, progress: likewise.
        num_draws: paths that are drawn from the posterior.
        backward: whether they are simulated backward, of a state without memory; then means,
            variances and quantiles are those of the draws.

    Returns:
        `Smoothed`: what `particle_filter` returns, its means, variances and quantiles given all of
        x; draws of paths; how many particles of each step have descendants.

    Cost:
        as the filter; the paths are followed back once, T K index operations, or backward K steps
        of the model for each draw and step.

    Raises:
        ValueError: as `particle_filter`; backward, for states that remember more than the draws of
            the step before.

    References:
        Kitagawa (1996), Monte Carlo filter and smoother for non-Gaussian nonlinear state space
        models; Godsill, Doucet and West (2004), Monte Carlo smoothing for nonlinear time series.

    Example:
        >>> from types import SimpleNamespace
        >>> import pyro.distributions as dist
        >>> from pyro_dgm.sequences import unroll
        >>> def step(z, inputs, x_t):
        ...     z = pyro.sample("z", dist.Normal(0.9 * z, 0.5).to_event(1))
        ...     pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x_t)
        ...     return z
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         unroll(step, torch.zeros(1), x)
        >>> run = SimpleNamespace(model=model, guide=lambda x: None)
        >>> x = np.ones((3, 4, 1))
        >>> found = particle_smoother(run, x, num_particles=50, num_draws=9, bootstrap=True)
        >>> found.draws["z"].shape, found.distinct.shape
        ((9, 3, 4, 1), (3, 4))
    """
    probs, num_draws = check_probs("probs", probs), check_count("num_draws", num_draws)
    rule, rng = check_resampling(resample, scheme), np.random.default_rng(check_seed("seed", seed))
    options = {"bootstrap": bootstrap, "chunk_size": chunk_size, "rows": rows, "seed": seed}

    def smoothed(course: Course) -> Smoothed:
        return course.smoothed(probs, num_draws, rng)

    drawn = num_draws if check_flag("backward", backward) else 0
    return _run(run, data, num_particles, rule, smoothed, progress, num_draws=drawn, **options)


def _run(
    run: Any,
    data: tuple[Any, ...],
    num_particles: int,
    rule: Resampling,
    reduce: Callable[[Course], Any],
    progress: bool,
    *,
    bootstrap: bool,
    chunk_size: int,
    rows: Any,
    seed: int,
    num_draws: int = 0,
) -> Any:
    """What `reduce` finds in the particles of all sequences, chunk by chunk."""
    num_particles = check_count("num_particles", num_particles)
    chunk_size, progress = check_count("chunk_size", chunk_size), check_flag("progress", progress)
    bootstrap = check_flag("bootstrap", bootstrap)
    function = _Particles(num_particles, rule, num_draws, chunk_size)
    with calling(run, data, seed=seed, rows=rows) as call:
        shape = tuple(map(int, call.stepped(batch_shape, bootstrap=bootstrap)))
        num_data, split = prod(shape), shape == (call.num_rows,)
        if len(shape) == 1:
            check_scored(num_data, call.num_rows)
        plan = passes(1, num_data, max(1, chunk_size // num_particles), split=split)
        found, first = [], 0
        with Progress(len(plan.rows), enabled=progress) as bar:
            bar.show("particles", {})
            for part in plan.rows:
                course = Course(**call.stepped(function, part, bootstrap=bootstrap))
                found.append(reduce(course.checked(first)))
                first += len(found[-1].log_likelihood)
                bar.advance()
    return joined(found, num_data)


def batch_shape(pair: Any) -> tuple[int, ...]:
    """How many sequences there are."""
    return tuple(pair.batch_shape)


class _Particles:
    """All particles of a pair of steps, as `Course` takes them, with paths drawn backward."""

    def __init__(
        self, num_particles: int, rule: Resampling, num_draws: int, chunk_size: int
    ) -> None:
        self.num_particles, self.rule = num_particles, rule
        self.num_draws, self.chunk_size = num_draws, chunk_size

    def __call__(self, pair: Any) -> dict[str, Any]:
        keep = partial(self._kept, pair.latents)
        _, kept = filtered(pair, self.num_particles, self.rule, keep)
        steps = torch.arange(pair.length, device=kept["chosen"].device)[:, None]
        ends = pair.length if pair.lengths is None else pair.lengths.flatten()
        kept["alive"] = (steps < ends).expand(kept["chosen"].shape)
        states = kept.pop("states")
        return kept | (self._backward(pair, states, kept) if self.num_draws else {})

    def _backward(self, pair: Any, states: Any, kept: dict[str, Any]) -> dict[str, Tensor]:
        """Paths that are drawn backward, and what the states remember."""
        shape = (pair.length, self.num_particles, *pair.batch_shape)
        log_w = kept["log_w"].reshape(shape)
        values = {n: x.reshape(*shape, *x.shape[3:]) for n, x in kept["values"].items()}
        size = max(1, self.chunk_size // log_w[0].numel())  # of a block of draws
        blocks = torch.arange(self.num_draws).split(size)
        found = [simulated(pair, states, log_w, values, len(block)) for block in blocks]
        paths = torch.cat([index for index, _ in found], 1)
        memory = torch.stack([gap for _, gap in found]).amax(0)
        return {"paths": paths.reshape(*paths.shape[:2], -1), "memory": memory.reshape(-1)}

    def _kept(self, latents: tuple[str, ...], now: Moment) -> dict[str, Any]:
        """What is kept of a step, with one dimension of sequences."""
        num, shape = len(now.log_w), now.log_w.shape

        def flat(x: Tensor) -> Tensor:
            x = x.expand(*shape, *x.shape[len(shape) :])
            return x.reshape(num, -1, *x.shape[len(shape) :])

        return {
            "log_evidence": now.log_evidence.reshape(-1),
            "chosen": now.chosen.reshape(-1),
            "log_w": flat(now.log_w),
            "ancestors": flat(now.ancestors),
            "values": {name: flat(now.step.values[name]) for name in latents},
            "states": now.step.states[0] if self.num_draws else (),
        }
