"""The log-likelihood of many data under many particles, none of which is kept."""

from math import prod
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_flag
from dgm_core.diagnostics import LatentKL, Report, RunningWeights, unused_message
from dgm_core.diagnostics.report import without_weight
from dgm_core.enumeration import check_names
from dgm_core.evaluation import rows_at_once, streamed
from dgm_core.matching import warn_estimated
from dgm_core.modalities import check_given
from dgm_core.training.progress import Progress
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import Call, calling
from pyro_dgm.evaluation.conditioned import given_alone
from pyro_dgm.evaluation.weights import looked_at, num_entries, splits, weights_at_once
from pyro_dgm.joints.points import estimated_sites

__all__ = ["log_likelihood"]


@one_at_a_time
def log_likelihood(
    run: Any,
    *data: Any,
    num_particles: int = 5000,
    chunk_size: int = 32_768,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
    enumerate: str | tuple[str, ...] = (),
    given: str | tuple[str, ...] = (),
    progress: bool = True,
) -> Report:
    """The importance-weighted bound L_K on log p(x_n), with K as large as you can wait for.

    L_K = log (1/K) sum_k w_kn with the weights of `log_weights`, which come chunk by chunk into
    running sums and are not kept. What needs all weights at once, JVI and k-hat, is in `summary` of
    `log_weights`.

    Args:
        run, data, rows, vectorize, seed, enumerate, given: as `log_weights` takes them.
        num_particles: K, draws per datum.
        chunk_size: rows times particles held in memory at once.
        progress: one line of progress.

    Returns:
        A `Report`: "ELBO", "IWAE", "IWAE error" (`evidence_error`, of the Monte Carlo estimate; NaN
        of one particle, a dash in the table), "ESS" and "KL <site>" per datum, their means and
        standard errors over the data. With `given`, "IWAE" estimates log p(the others | these),
        "IWAE error" is that of the difference, and what is left is that of all sites.

    Cost:
        num_particles passes of guide and model. Memory: one pass of `chunk_size` draws, whatever K
        and the number of data; a note says how many draws that were.

    Raises:
        ValueError: as `log_weights`.

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, arXiv:1509.00519.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> report = log_likelihood(vae, np.ones((3, 4)), num_particles=50, progress=False)
        >>> report["IWAE"].shape, bool((report["ELBO"] <= report["IWAE"]).all())
        ((3,), True)
    """
    num_particles = check_count("num_particles", num_particles)
    chunk_size, progress = check_count("chunk_size", chunk_size), check_flag("progress", progress)
    names, given = check_names(enumerate), check_given(given)
    with calling(run, data, seed=seed, rows=rows, vectorize=vectorize, enumerated=names) as call:
        found, said = _streamed(call, num_particles, chunk_size, progress)
        joined, latents = found
        if given:
            alone, _ = _streamed(given_alone(call, given), num_particles, chunk_size, progress)[0]
            for name in ("ELBO", "IWAE"):
                joined[name] = joined[name] - alone["IWAE"]
            joined["IWAE error"] = np.hypot(joined["IWAE error"], alone["IWAE error"])
    unused = [note for name, kl in latents.items() if (note := unused_message(name, kl))]
    return Report(joined, num_particles, (*unused, *without_weight(joined["IWAE"]), *said))


def _streamed(
    call: Call, num_particles: int, chunk_size: int, progress: bool
) -> tuple[tuple[dict[str, np.ndarray], dict[str, LatentKL]], tuple[str, ...]]:
    """What is kept of the weights of all data, and what was found of the latents; notes, the last
    one on how many draws ran at once."""
    first = call.sketch()
    whole, notes = looked_at(call, first.structure)
    if num_particles > 1:
        warn_estimated("a mean of weights", estimated_sites(first))
    num_data = prod(first.sizes)
    most = rows_at_once(num_particles, chunk_size)
    split = not whole and splits(call, first.sizes, most)
    plan = streamed(num_particles, num_data, chunk_size, split=split)
    reports = []
    with Progress(plan.num_chunks * len(plan.rows), enabled=progress) as bar:
        bar.show("weights", {})
        for part in plan.rows:
            running = RunningWeights(1 if whole else num_data if part is None else len(part))
            kls: dict[str, np.ndarray] = {}
            for index in range(plan.num_chunks):
                log_w, found = weights_at_once(call, plan.num_particles, part)
                wanted = min(plan.num_particles, num_particles - index * plan.num_particles)
                running.add(log_w[:wanted])
                kls = {n: kls.get(n, 0.0) + x.mean(0) / plan.num_chunks for n, x in found.items()}
                bar.advance()
            reports.append(running.report({f"KL {n}": kl for n, kl in kls.items()}))
    kept = 1 if whole else num_data
    joined = {n: np.concatenate([r[n] for r in reports])[:kept] for n in reports[0]}
    latents = {n: LatentKL(joined[f"KL {n}"], num_entries(first, n)) for n in kls}
    return (joined, latents), (*notes, plan.note())
