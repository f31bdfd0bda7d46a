"""Annealed importance sampling of any model, and bidirectional Monte Carlo."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from dgm_core.annealing import AnnealedBounds
from dgm_core.annealing.passes import Passes, num_steps
from dgm_core.annealing.starting import check_kernel, check_reverse, check_start, checked_plan
from dgm_core.annealing.store import store_in
from dgm_core.arguments import check_count, check_flag
from dgm_core.evaluation import check_run
from dgm_core.guides import plain
from dgm_core.posterior import run_of
from dgm_core.training.batches import check_accepts
from dgm_core.training.checkpoint import usable_folder
from dgm_core.training.progress import Progress
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.bridge import Bridge
from pyro_dgm.evaluation.calibration import simulated
from pyro_dgm.evaluation.calls import Call, calling
from pyro_dgm.guides import Guide
from pyro_dgm.joints.handlers import Drawable
from pyro_dgm.mcmc import HMC, Langevin

__all__ = ["ais", "bdmc"]


@one_at_a_time
def ais(
    run: Any,
    *data: Any,
    steps: int = 1000,
    chains: int = 16,
    schedule: Any = "sigmoid",
    start: str = "guide",
    kernel: Any = None,
    target_accept: float = 0.65,
    reverse_from: Any = "chains",
    chunk_size: int = 4096,
    rows: Any = None,
    vectorize: bool | None = None,
    checkpoint: Any = None,
    progress: bool = True,
    seed: int = 0,
) -> AnnealedBounds:
    """Annealed importance sampling: bounds on log p(x_n) from both sides, for any model.

    Chains move from draws of q to the posterior through f_b(z) = q(z)^(1 - b) p(x, z)^b, whose
    logarithms they collect on the way:  log w = sum_k (b_k - b_{k-1}) log (p / q)(z_{k-1}), with
    E w = p(x). Reverse chains do the same from the posterior to q, with E 1 / w = 1 / p(x). Where
    one of q and the posterior does not cover the other, its equation becomes <.

    All that q draws moves on the real line, whatever its support. A model with global latents or
    factors has one evidence of all its data; without observations it is the normalizing constant
    of the density that the model states.

    Args:
        run: what `fit` returns, any object with .model and .guide, or with start="prior" a model.
        data: as `log_weights` takes them.
        steps: K, transitions of each chain.
        chains: of each datum, all at once.
        schedule: of b: "linear", "sigmoid", "power", "adaptive", or K + 1 numbers from 0 to 1; see
            `dgm_core.annealing.inverse_temperatures`. The adaptive one is found by a pilot on the
            first data, and frozen before anything is weighted.
        start: "guide", or "prior": the model's own latent statements.
        kernel: of `mcmc`, reversible; default HMC(0.1, 10). Or a function of b that gives one. A
            pilot on each chunk adapts step sizes per datum and temperature, and they are frozen
            before anything is weighted; what has no `step_size` is left as it is.
        target_accept: the acceptance that step sizes are adapted to.
        reverse_from: where reverse chains start: "chains", from the ends of the forward chains,
            resampled by their weights; draws {site: (num_draws, ...)}, of `nuts` for one; None:
            there are no reverse chains. Only exact draws of the posterior make the upper bound
            one; `bdmc` has them.
        chunk_size: chains times data that are held at once.
        rows, vectorize: as `log_weights` takes them.
        checkpoint: a folder; a killed call continues from its file in the same numbers.
        progress: one line of progress.
        seed: of all random numbers.

    Returns:
        `AnnealedBounds`: `lower`, `upper`, `gap` (num_data,), their errors, and a table.

    Cost:
        (num_steps of the kernel + 1) times 2 K + 120 gradients of log p and log q per chain; half
        of it without reverse chains. Memory as one gradient of a chunk takes it.

    Raises:
        ValueError: for bad arguments and where `log_weights` raises it; for discrete latents, and
            others that are not mapped to the real line; for weights that are NaN.
        CheckpointError: for the folder of another call.

    References:
        Neal (2001), Annealed importance sampling, Statistics and Computing 11; Wu et al. (2017), On
        the quantitative analysis of decoder-based generative models, arXiv:1611.04273; Grosse et
        al. (2015), arXiv:1511.02543.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> bounds = ais(vae, np.ones((3, 4)), steps=10, chains=4, progress=False)
        >>> bounds.lower.shape, bool((bounds.lower < 0).all())
        ((3,), True)
    """
    given = check_reverse(reverse_from)
    if not callable(run):
        check_run(run)
    with calling(run_of(run), data, seed=seed, vectorize=vectorize, settle=False) as call:
        return _annealed(
            call,
            given,
            has_guide=hasattr(run, "guide"),
            exact=False,
            steps=steps,
            chains=chains,
            schedule=schedule,
            start=start,
            kernel=kernel,
            target_accept=target_accept,
            reverse=reverse_from is not None,
            chunk_size=chunk_size,
            rows=rows,
            checkpoint=checkpoint,
            progress=progress,
            seed=seed,
        )


@one_at_a_time
def bdmc(
    run: Any,
    *data: Any,
    arguments: Any = None,
    steps: int = 1000,
    chains: int = 16,
    schedule: Any = "sigmoid",
    start: str = "guide",
    kernel: Any = None,
    target_accept: float = 0.65,
    chunk_size: int = 4096,
    vectorize: bool | None = None,
    checkpoint: Any = None,
    progress: bool = True,
    seed: int = 0,
) -> AnnealedBounds:
    """Bidirectional Monte Carlo: annealed importance sampling in both directions on data that the
    model makes, whose latents are exact draws of their posterior.

    So the upper bound is exact in expectation, and the gap says how far off `ais` is with these
    settings, on data like the model's own.

    Args:
        data: as `ais` takes them. What the observed sites hold is replaced by draws of the model;
            sizes, inputs and masks stay.
        arguments: {observed site: name or position of its argument}, where no argument, or more
            than one, equals what the site observes.
        run, steps, chains, schedule, start, kernel, target_accept, chunk_size, vectorize: see
            `ais`.
        checkpoint, progress, seed: likewise.

    Returns:
        `AnnealedBounds` of the simulated data, `exact`. The reverse chains of a datum start in one
        and the same draw, so that "reverse AIS error" does not see how it would differ from draw to
        draw.

    Cost:
        that of `ais`.

    Raises:
        ValueError: as `ais`; where a guide draws other things than the model's sites (pass
            start="prior"); for priors that cannot be drawn from.

    References:
        Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood using
        bidirectional Monte Carlo, arXiv:1511.02543; Grosse, Ancha and Roy (2016),
        arXiv:1606.02275.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> bounds = bdmc(vae, np.ones((3, 4)), steps=10, chains=4, progress=False)
        >>> bounds.exact, bounds.gap.shape
        (True, (3,))
    """
    if not callable(run):
        check_run(run)
    with calling(run_of(run), data, seed=seed, vectorize=vectorize, settle=False) as call:
        truths, calls = simulated(call, 1, arguments)
        call.replace(*calls[0])
        return _annealed(
            call,
            truths,
            has_guide=hasattr(run, "guide"),
            exact=True,
            steps=steps,
            chains=chains,
            schedule=schedule,
            start=start,
            kernel=kernel,
            target_accept=target_accept,
            reverse=True,
            chunk_size=chunk_size,
            rows=None,
            checkpoint=checkpoint,
            progress=progress,
            seed=seed,
        )


def _annealed(
    call: Call,
    given: Mapping[str, Any] | None,
    *,
    has_guide: bool,
    exact: bool,
    chains: int,
    start: str,
    kernel: Any,
    rows: Any,
    checkpoint: Any,
    progress: bool,
    seed: int,
    **options: Any,
) -> AnnealedBounds:
    """The bounds of a call; `given` are draws of its posterior."""
    chains, progress = check_count("chains", chains), check_flag("progress", progress)
    kernel = HMC(0.1, 10) if kernel is None else kernel
    adapts = check_kernel(kernel, Langevin)
    folder = None if checkpoint is None else usable_folder(checkpoint)
    plan = checked_plan(chains=chains, adapts=adapts, seed=seed, **options)
    if check_start(start, has_guide=has_guide) == "prior":
        model = plain(call.run.model)
        call.run = SimpleNamespace(model=model, guide=Guide(model, name="prior"))
    check_accepts("guide", call.run.guide, call.args, call.kwargs)
    with Drawable():
        call.settle(rows)
        bridge = Bridge(call, chains, kernel)
        starts = bridge.starts(seed=seed)
    plan = plan if bridge.splits(plan.most or bridge.num_data) else plan.undivided()
    ends = None if given is None else bridge.starts(given, seed=seed)
    identity: dict[str, Any] = {}
    if folder is not None:
        first = plan.rows(bridge.num_data)[0]
        own = starts if first is None else starts[:, first]
        identity = {
            "plan": vars(plan),
            "kernel": kernel,
            "start": start,
            "data": [call.args, call.kwargs],
            "draws": [starts, ends],
            "log_w": bridge.weights(own, first),
        }
    with (
        store_in(folder, identity) as store,
        Progress(num_steps(plan, bridge.num_data), enabled=progress) as bar,
    ):
        bounds = Passes(bridge, plan, store, bar).bounds(starts, ends, exact=exact)
    bounds.notes = (*bridge.notes, *bounds.notes)
    return bounds
