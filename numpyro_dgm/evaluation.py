"""Evaluation of a trained model and guide: importance weights, draws, reconstructions, and the way
into ArviZ.

Every function takes a run (what `fit` returns, or any object with `.model` and `.guide`) and data
as numpy arrays, and returns numpy arrays. It works in evaluation mode and leaves the global random
state as it was.
"""

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import Array
from numpyro import handlers

from dgm_core.arviz_export import assemble
from dgm_core.diagnostics import psis_khat
from dgm_core.surgery import ELBOSurgery
from dgm_core.surgery import elbo_surgery as split_kl
from numpyro_dgm.joints import Joints
from numpyro_dgm.joints.handlers import GivenDraws
from numpyro_dgm.joints.inference import InferenceJoint
from numpyro_dgm.joints.structure import Structure, Trace, random_sites
from numpyro_dgm.nn import evaluation_mode

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

    >>> from numpyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
    >>> log_weights(vae, np.ones((3, 4)), num_particles=5).shape
    (5, 3)
    """
    _check_positive(num_particles=num_particles, chunk_size=chunk_size)
    key = jax.random.key(seed)
    first = _structure(run, key, data)
    num_data = prod(first.sizes)
    if first.data_scale != 1 and num_data != len(data[0]):
        raise ValueError(
            f"log_weights needs the model to score the data it is given, but it draws {num_data} "
            f"of {len(data[0])} rows by itself: "
            "let its plate take the rows that are passed, as in plate('data', N, "
            "subsample_size=len(x))."
        )
    if first.global_sites and first.data_scale != 1:
        raise ValueError(
            f"The model has global latents ({', '.join(first.global_sites)}), so its "
            "weights are those of the whole data: "
            f"pass all {first.data_size} data instead of {num_data}."
        )

    @partial(jax.jit, static_argnums=1)
    def weights(key: Array, num_particles: int, batch: tuple[Any, ...]) -> Array:
        joint = _joint(run, key, batch, num_particles)
        log_w = joint.log_w.reshape(joint.log_w.shape[0], -1)
        if joint.structure.global_sites:
            return (log_w.sum(1) + joint.global_log_w.reshape(-1))[:, None]
        return jax.numpy.broadcast_to(log_w, (num_particles, log_w.shape[1]))

    whole = bool(first.global_sites) or len(first.sizes) != 1
    columns = []
    at_once = max(1, chunk_size // (num_data if whole else min(_ROWS, num_data)))
    num_chunks = -(-num_particles // at_once)
    at_once = -(
        -num_particles // num_chunks
    )  # equal chunks of rows and particles, what is too much cut off at the end: one compilation
    for i, batch in enumerate([data] if whole else _row_batches(data)):
        keys = jax.random.split(jax.random.fold_in(key, i), num_chunks)
        columns.append(np.concatenate([weights(k, at_once, batch) for k in keys]))
    kept = 1 if first.global_sites else num_data
    return np.concatenate(columns, axis=1)[:num_particles, :kept].astype(np.float64)


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

    >>> from numpyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
    >>> latents(vae, np.ones((3, 4)), num_draws=5)["z"].shape
    (5, 3, 2)
    """
    _check_positive(num_draws=num_draws)
    key = jax.random.key(seed)
    if means:
        sites = random_sites(_run(run, run.guide, key, data))
        drawn = latents(run, *data, num_draws=num_draws, seed=seed) if num_draws > 1 else {}
        return {
            name: drawn[name].mean(0)
            if drawn and _mean(site["fn"]) is None
            else _required_mean(name, site["fn"])
            for name, site in sites.items()
        }
    return {
        name: np.asarray(value)
        for name, value in _joint(run, key, data, num_draws).runs.record["values"].items()
    }


def reconstruct(run: Any, *data: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """The mean of every observed site given one draw of the latents from the guide, E[x | z], z ~
    q(z | x).

    Shapes: data -> {site: as observed}.  Raises: ValueError when a distribution has no mean.

    >>> from numpyro_dgm import VAE
    >>> reconstruct(VAE(4, 2, hidden=(8,), key=jax.random.key(0)), np.ones((3, 4)))["x"].shape
    (3, 4)
    """
    guide_key, model_key = jax.random.split(jax.random.key(seed))
    drawn = {
        name: site["value"]
        for name, site in random_sites(_run(run, run.guide, guide_key, data)).items()
    }
    sites = random_sites(_run(run, GivenDraws(run.model, drawn, {}), model_key, data))
    return {
        name: _required_mean(name, site["fn"])
        for name, site in sites.items()
        if site["is_observed"]
    }


def generate(
    run: Any, *args: Any, means: bool = False, seed: int = 0, **kwargs: Any
) -> dict[str, np.ndarray]:
    """Run the model forward: every sample site is drawn, observed ones as well; with `means`, each
    site's mean given the draws before it, where it has one.

    Args: what the model takes, e.g. `size=64` for a VAE, or data, of which only the plate sizes
        count.
    Shapes: {site: (...)} as the model draws it.

    >>> from numpyro_dgm import VAE
    >>> generate(VAE(4, 2, hidden=(8,), key=jax.random.key(0)), size=6)["x"].shape
    (6, 4)
    """
    sites = random_sites(
        _run(run, handlers.uncondition(run.model), jax.random.key(seed), args, kwargs)
    )
    values = {name: _mean(site["fn"]) if means else None for name, site in sites.items()}
    return {
        name: np.asarray(sites[name]["value"] if value is None else value)
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

    >>> from numpyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
    >>> abs(elbo_surgery(vae, np.ones((3, 4))).mutual_information) < 1e-6  # of equal data
    True
    """
    key = jax.random.key(seed)
    joint = _joint(run, key, data, 1)
    structure = joint.structure
    if structure.global_sites or len(joint.sizes) != 1 or structure.batch_ndim != 1:
        raise ValueError(
            "elbo_surgery needs all latents inside one plate of the data, the only batch "
            "dimension, got "
            f"{list(structure.global_sites)} outside and {structure.batch_ndim} batch dimensions."
        )
    drawn = {name: joint.values(name)[0] for name in joint.latent_sites}

    @jax.jit
    def row(draw: dict[str, Array]) -> Array:
        values = {
            name: jax.numpy.broadcast_to(value, drawn[name].shape) for name, value in draw.items()
        }  # one draw under all data
        sites = _run(run, GivenDraws(run.guide, values, {}), key, data)
        return sum(sites[name]["fn"].log_prob(value) for name, value in values.items())

    log_q = jax.lax.map(row, drawn, batch_size=_ROWS)
    return split_kl(np.asarray(log_q), np.asarray(joint.log_prior).reshape(-1))


def to_arviz(
    run: Any, *data: Any, num_draws: int = 200, num_particles: int = 256, seed: int = 0
) -> "az.InferenceData":
    """Posterior draws, pointwise log-likelihood, posterior predictive draws, k-hat and the losses
    of a run, as ArviZ takes them.

    Groups: posterior (the guide's draws of the model's latent sites), log_likelihood (per datum,
    for `az.loo`), posterior_predictive, observed_data, sample_stats (k-hat per datum, from
    `num_particles` weights of their own), losses (the history of the run).
    Raises: ValueError for bad arguments.

    >>> from numpyro_dgm import VAE
    >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
    >>> to_arviz(vae, np.ones((3, 4)), num_draws=10).posterior["z"].shape
    (1, 10, 3, 2)
    """
    _check_positive(num_draws=num_draws, num_particles=num_particles)
    keys = jax.random.split(jax.random.key(seed), num_draws + 1)
    joint = _joint(run, keys[0], data, num_draws)
    values = joint.runs.record["values"]

    def predict(key: Array, values: dict[str, Array]) -> dict[str, Array]:
        trace = _run(run, GivenDraws(handlers.uncondition(run.model), values, {}), key, data)
        return {name: trace[name]["value"] for name in joint.structure.observed_sites}

    draws = jax.vmap(predict)(keys[1:], values)
    model_trace = _run(
        run,
        GivenDraws(run.model, {name: value[0] for name, value in values.items()}, {}),
        keys[0],
        data,
    )
    observed = {name: model_trace[name] for name in joint.structure.observed_sites}
    in_model = {name: value for name, value in values.items() if name in model_trace}
    shape = (num_draws, *joint.sizes)
    log_likelihood = {
        name: jax.numpy.broadcast_to(joint.log_likelihood_of(name), shape).reshape(num_draws, -1)
        for name in observed
    }
    weights = log_weights(run, *data, num_particles=num_particles, seed=seed + 1)
    local = [name for name in in_model if name in joint.structure.local_sites]
    return assemble(
        {name: np.asarray(value) for name, value in in_model.items()},
        log_likelihood={name: np.asarray(value) for name, value in log_likelihood.items()},
        posterior_predictive={name: np.asarray(value) for name, value in draws.items()},
        observed_data={name: np.asarray(site["value"]) for name, site in observed.items()},
        diagnostics={"khat": psis_khat(weights)} if weights.shape[1] > 1 else None,
        history=getattr(run, "history", None),
        dims={name: ["datum"] for name in local} if len(joint.sizes) == 1 else None,
        attrs=getattr(run, "config", None),
    )


def _params(run: Any) -> dict[str, Any]:
    """Parameters and running statistics of a run; an untrained model has none of its own and starts
    from its initial ones.
    """
    return {**getattr(run, "params", {}), **getattr(run, "mutable_state", {})}


def _joint(run: Any, key: Array, batch: tuple[Any, ...], num_particles: int) -> InferenceJoint:
    with evaluation_mode(run.model, run.guide):
        return Joints(
            key, _params(run), run.model, run.guide, batch, num_particles=num_particles
        ).inference()


def _structure(run: Any, key: Array, batch: tuple[Any, ...]) -> Structure:
    """How the weights of a batch will factorise, from the shapes alone."""
    found: list[Structure] = []
    jax.eval_shape(
        lambda batch: found.append(_joint(run, key, batch, 1).runs.layout.structure), batch
    )
    return found[0]


def _run(
    run: Any, fn: Any, key: Array, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> Trace:
    fn = handlers.substitute(handlers.seed(fn, key), data=_params(run))
    with evaluation_mode(run.model, run.guide):
        return handlers.trace(fn).get_trace(*args, **(kwargs or {}))


def _row_batches(batch: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Batches of _ROWS rows each; the last one is filled up with rows from the front."""
    num_data = len(batch[0])
    for start in range(0, num_data, _ROWS):
        rows = np.arange(start, start + min(_ROWS, num_data)) % num_data
        yield tuple(x[rows] if np.ndim(x) and len(x) == num_data else x for x in batch)


def _mean(fn: Any) -> Array | None:
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
    return np.asarray(mean)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")
