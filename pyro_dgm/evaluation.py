"""Evaluation of a trained model and guide: importance weights, draws, reconstructions, and the way
into ArviZ.

Every function takes a run (what `fit` returns, or any object with `.model` and `.guide`) and data
as numpy arrays, and returns numpy arrays. It works in evaluation mode and leaves the global random
state as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from dgm_core.arviz_export import assemble
from dgm_core.diagnostics import psis_khat
from dgm_core.surgery import ELBOSurgery
from dgm_core.surgery import elbo_surgery as split_kl
from pyro_dgm.joints import Joints
from pyro_dgm.joints.handlers import GivenDraws
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.joints import draws_of
from pyro_dgm.joints.structure import random_sites
from pyro_dgm.nn import evaluation_mode
from pyro_dgm.nn.modes import modules_of
from pyro_dgm.training.weights import in_force

if TYPE_CHECKING:
    import arviz as az

__all__ = ["elbo_surgery", "generate", "latents", "log_weights", "reconstruct", "to_arviz"]

_ROWS = 256  # data per pass


def log_weights(
    run: Any, *data: Any, num_particles: int = 512, chunk_size: int = 32_768, seed: int = 0
) -> np.ndarray:
    """log p(x_n, z_kn) - log q(z_kn | x_n) with z_kn ~ q(z | x_n): what
    `dgm_core.diagnostics.summary` takes.

    Shapes: data as the model takes it, one row per datum -> (num_particles, num_data).  A model
    with global latents does not factorise: one weight of the whole data per draw of all latents,
    (num_particles, 1).
    Args: num_particles, draws per datum;  chunk_size, rows times particles held in memory at once;
        seed.
    Cost: num_particles passes of guide and model.
    Raises: ValueError for bad arguments, or when the model subsamples the data by itself.

    >>> from pyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,))
    >>> log_weights(vae, np.ones((3, 4)), num_particles=5).shape
    (5, 3)
    """
    _check_positive(num_particles=num_particles, chunk_size=chunk_size)
    with _evaluating(run, seed):
        batch = _tensors(run, data)
        first = _joint(run, batch, 1)
        num_data = first.log_w[0].numel()
        if first.data_scale != 1 and num_data != len(batch[0]):
            raise ValueError(
                "log_weights needs the model to score the data it is given, but it draws "
                f"{num_data} of {len(batch[0])} rows by itself: "
                "let its plate take the rows that are passed, as in plate('data', N, "
                "subsample_size=len(x))."
            )
        if first.structure.global_sites:
            if first.data_scale != 1:
                raise ValueError(
                    f"The model has global latents ({', '.join(first.structure.global_sites)}), "
                    "so its weights are those of the whole data: "
                    f"pass all {first.data_size} data instead of {num_data}."
                )
            return np.concatenate(
                [
                    _whole(_joint(run, batch, k))
                    for k in _chunks(num_particles, max(1, chunk_size // num_data))
                ]
            )
        rows = [batch] if len(first.sizes) != 1 else _row_batches(batch)
        return np.concatenate(
            [_per_row(run, part, num_particles, chunk_size) for part in rows], axis=1
        )


def latents(
    run: Any, *data: Any, num_draws: int = 1, means: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Draws of the latent sites from the guide, or with `means` the means of the guide's
    distributions.

    Shapes: data -> {site: (num_draws, ...)}, with means {site: (...)}, the batch dimensions as the
        guide has them.
    A mean that is not known (of a flow) is the average of `num_draws` draws, of which there must be
    two or more.
    Raises: ValueError when num_draws is below 1, or when a mean is asked of a distribution that has
        none with num_draws=1.

    >>> from pyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,))
    >>> latents(vae, np.ones((3, 4)), num_draws=5)["z"].shape
    (5, 3, 2)
    """
    _check_positive(num_draws=num_draws)
    with _evaluating(run, seed):
        batch = _tensors(run, data)
        if means:
            sites = random_sites(poutine.trace(run.guide).get_trace(*batch))
            drawn = latents(run, *data, num_draws=num_draws, seed=seed) if num_draws > 1 else {}
            return {
                name: drawn[name].mean(0)
                if drawn and _mean(site["fn"]) is None
                else _required_mean(name, site["fn"])
                for name, site in sites.items()
            }
        joint = _joint(run, batch, num_draws)
        return {name: joint.values(name).numpy(force=True) for name in joint.latent_sites}


def reconstruct(run: Any, *data: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """The mean of every observed site given one draw of the latents from the guide, E[x | z], z ~
    q(z | x).

    Shapes: data -> {site: as observed}.  Raises: ValueError when a distribution has no mean.

    >>> from pyro_dgm import VAE
    >>> reconstruct(VAE(4, 2, hidden=(8,)), np.ones((3, 4)))["x"].shape
    (3, 4)
    """
    with _evaluating(run, seed):
        model_trace, _ = Joints(run.model, run.guide, _tensors(run, data)).traces()
        sites = {
            name: site for name, site in random_sites(model_trace).items() if site["is_observed"]
        }
        return {name: _required_mean(name, site["fn"]) for name, site in sites.items()}


def generate(
    run: Any, *args: Any, means: bool = False, seed: int = 0, **kwargs: Any
) -> dict[str, np.ndarray]:
    """Run the model forward: every sample site is drawn, observed ones as well; with `means`, each
    site's mean given the draws before it, where it has one.

    Args: what the model takes, e.g. `size=64` for a VAE, or data, of which only the plate sizes
        count.
    Shapes: {site: (...)} as the model draws it.

    >>> from pyro_dgm import VAE
    >>> generate(VAE(4, 2, hidden=(8,)), size=6)["x"].shape
    (6, 4)
    """
    with _evaluating(run, seed):
        trace = poutine.trace(poutine.uncondition(run.model)).get_trace(
            *_tensors(run, args), **kwargs
        )
        sites = random_sites(trace)
        values = {name: _mean(site["fn"]) if means else None for name, site in sites.items()}
        return {
            name: (sites[name]["value"] if value is None else value).numpy(force=True)
            for name, value in values.items()
        }


def elbo_surgery(run: Any, *data: Any, seed: int = 0) -> ELBOSurgery:
    """What the KL of a run's bound is made of: the mutual information of data and codes, and the
    mismatch KL(q(z), p(z)) (see `dgm_core.surgery`).

    Args: data as the model takes it, one row per datum; seed, of the one draw of all local latents
        per datum that is scored under all data.
    Cost: num_data^2 log-densities of the guide, 256 draws at a time.
    Raises: ValueError for models with global latents, or more than one batch dimension;
        NoDensityError for a guide or prior without a density (whose mismatch
        `dgm_core.surgery.ratio_kl` estimates from draws).

    >>> from pyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,))
    >>> abs(elbo_surgery(vae, np.ones((3, 4))).mutual_information) < 1e-6  # of equal data
    True
    """
    with _evaluating(run, seed):
        batch = _tensors(run, data)
        joint = _joint(run, batch, 1)
        structure = joint.structure
        if structure.global_sites or len(joint.sizes) != 1 or structure.batch_ndim != 1:
            raise ValueError(
                "elbo_surgery needs all latents inside one plate of the data, the only batch "
                "dimension, got "
                f"{list(structure.global_sites)} outside and {structure.batch_ndim} batch "
                "dimensions."
            )
        drawn = {name: joint.values(name)[0] for name in joint.latent_sites}
        log_q = []
        for start in range(0, joint.sizes[0], _ROWS):
            values = {
                name: value[start : start + _ROWS, None] for name, value in drawn.items()
            }  # (draws, 1, *event): each draw under all data
            with GivenDraws(values, {}):
                sites = random_sites(poutine.trace(run.guide).get_trace(*batch))
            log_q.append(
                sum(sites[name]["fn"].log_prob(value) for name, value in values.items()).numpy(
                    force=True
                )
            )
        return split_kl(np.concatenate(log_q), joint.log_prior.reshape(-1).numpy(force=True))


def to_arviz(
    run: Any, *data: Any, num_draws: int = 200, num_particles: int = 256, seed: int = 0
) -> "az.InferenceData":
    """Posterior draws, pointwise log-likelihood, posterior predictive draws, k-hat and the losses
    of a run, as ArviZ takes them.

    Groups: posterior (the guide's draws of the model's latent sites), log_likelihood (per datum,
    for `az.loo`), posterior_predictive, observed_data, sample_stats (k-hat per datum, from
    `num_particles` weights of their own), losses (the history of the run).
    Raises: ValueError for bad arguments.

    >>> from pyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,))
    >>> to_arviz(vae, np.ones((3, 4)), num_draws=10).posterior["z"].shape
    (1, 10, 3, 2)
    """
    _check_positive(num_draws=num_draws, num_particles=num_particles)
    with _evaluating(run, seed):
        batch = _tensors(run, data)
        joint = _joint(run, batch, num_draws)
        predictive = []
        for _, guide_trace in joint.runs:
            with draws_of(guide_trace):
                forward = poutine.trace(poutine.uncondition(run.model)).get_trace(*batch)
            predictive.append((forward, guide_trace))
        model_trace = joint.runs[0][0]
        observed = {name: model_trace.nodes[name] for name in joint.structure.observed_sites}
        in_model = {
            name: joint.values(name).numpy(force=True)
            for name in joint.latent_sites
            if name in model_trace.nodes
        }
        shape = (num_draws, *joint.sizes)
        log_likelihood = {
            name: joint.log_likelihood_of(name).expand(shape).reshape(num_draws, -1)
            for name in observed
        }
        redrawn = InferenceJoint(predictive, joint.structure)
        draws = {name: redrawn.values(name).numpy(force=True) for name in observed}
    weights = log_weights(run, *data, num_particles=num_particles, seed=seed + 1)
    local = [name for name in in_model if name in joint.structure.local_sites]
    return assemble(
        in_model,
        log_likelihood={name: value.numpy(force=True) for name, value in log_likelihood.items()},
        posterior_predictive=draws,
        observed_data={name: site["value"].numpy(force=True) for name, site in observed.items()},
        diagnostics={"khat": psis_khat(weights)} if weights.shape[1] > 1 else None,
        history=getattr(run, "history", None),
        dims={name: ["datum"] for name in local} if len(joint.sizes) == 1 else None,
        attrs=getattr(run, "config", None),
    )


@contextmanager
def _evaluating(run: Any, seed: int) -> Iterator[None]:
    with (
        torch.no_grad(),
        torch.random.fork_rng(),
        in_force(run),
        evaluation_mode(run.model, run.guide),
    ):
        torch.manual_seed(seed)
        yield


def _tensors(run: Any, data: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arrays as tensors of the model's device and precision; what is no array stays."""
    parameters = [p for module in modules_of(run.model, run.guide) for p in module.parameters()]
    device = parameters[0].device if parameters else None
    dtype = parameters[0].dtype if parameters else torch.get_default_dtype()

    def tensor(x: Any) -> Any:
        if not isinstance(x, np.ndarray | Tensor):
            return x
        x = torch.as_tensor(x, device=device)
        return x.to(dtype) if x.is_floating_point() else x

    return tuple(map(tensor, data))


def _joint(run: Any, batch: tuple[Any, ...], num_particles: int) -> InferenceJoint:
    return Joints(run.model, run.guide, batch, num_particles=num_particles).inference()


def _row_batches(batch: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    num_data = len(batch[0])
    for start in range(0, num_data, _ROWS):
        yield tuple(
            x[start : start + _ROWS] if isinstance(x, Tensor) and len(x) == num_data else x
            for x in batch
        )


def _chunks(num_particles: int, at_once: int) -> list[int]:
    return [min(at_once, num_particles - start) for start in range(0, num_particles, at_once)]


def _per_row(run: Any, batch: tuple[Any, ...], num_particles: int, chunk_size: int) -> np.ndarray:
    num_data = _joint(run, batch, 1).log_w[0].numel()
    parts = []
    for k in _chunks(num_particles, max(1, chunk_size // num_data)):
        log_w = _joint(run, batch, k).log_w
        parts.append(log_w.expand(k, *log_w.shape[1:]).reshape(k, -1).numpy(force=True))
    return np.concatenate(parts).astype(np.float64)


def _whole(joint: InferenceJoint) -> np.ndarray:
    local = joint.log_w.reshape(joint.log_w.shape[0], -1).sum(1)
    return (local + joint.global_log_w.reshape(-1))[:, None].numpy(force=True).astype(np.float64)


def _mean(fn: Any) -> Tensor | None:
    try:
        return fn.mean
    except (NotImplementedError, AttributeError):
        return None


def _required_mean(name: str, fn: Any) -> np.ndarray:
    mean = _mean(fn)
    if mean is None:
        raise ValueError(
            f"Site '{name}' has a {type(fn).__name__} distribution, whose mean is not known: "
            "draw from it instead, several times for an average."
        )
    return mean.numpy(force=True)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")
