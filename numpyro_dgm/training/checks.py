"""What can be found out before the first step: arguments out of range, data outside their support,
a guide that does not fit its model.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import ExpandedDistribution, Independent, MaskedDistribution, constraints
from numpyro.handlers import seed, substitute

from numpyro_dgm.joints.structure import Structure, find_structure, kind_of
from numpyro_dgm.losses import Loss
from numpyro_dgm.training.batches import Arrays, Stream, is_in_memory, take_rows
from numpyro_dgm.training.step import State, Step

__all__: list[str] = []  # for the package, not for users


def check_arguments(**arguments: Any) -> None:
    """Raises ValueError for an argument of `fit` out of its range, TypeError for a model or guide
    that cannot be called.
    """
    for name in ("model", "guide"):
        if not callable(arguments[name]):
            raise TypeError(f"{name} must be callable, got {type(arguments[name]).__name__}.")
    for name in ("loss", "validation_loss"):
        if not isinstance(arguments[name], Loss):
            raise ValueError(f"{name} must be a loss such as ELBO(), got {arguments[name]!r}.")
    if arguments["num_epochs"] is not None and arguments["num_steps"] is not None:
        raise ValueError(
            "The length of a run is num_epochs or num_steps, not both, "
            f"got {arguments['num_epochs']!r} and {arguments['num_steps']!r}."
        )
    for name in ("num_epochs", "num_steps", "batch_size", "checkpoint_every", "patience"):
        value = arguments[name]
        if value is None and name != "checkpoint_every":
            continue
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    if not isinstance(arguments["seed"], (int, np.integer)) or isinstance(arguments["seed"], bool):
        raise ValueError(f"seed must be an integer, got {arguments['seed']!r}.")
    if arguments["patience"] is not None and arguments["validation"] is None:
        raise ValueError(
            "patience counts epochs without a better validation score: pass validation data as "
            "well."
        )
    if arguments["clip_norm"] is not None and not arguments["clip_norm"] > 0:
        raise ValueError(f"clip_norm must be positive, got {arguments['clip_norm']!r}.")
    if arguments["average"] is not None and not 0 < arguments["average"] < 1:
        raise ValueError(f"average must lie between 0 and 1, got {arguments['average']!r}.")
    for name in ("lr_schedule", "transform"):
        if arguments[name] is not None and not callable(arguments[name]):
            raise ValueError(f"{name} must be callable, got {arguments[name]!r}.")
    if any(not callable(callback) for callback in arguments["callbacks"]):
        raise ValueError(
            f"callbacks must be callables that take the run, got {arguments['callbacks']!r}."
        )
    if arguments["compile"] not in (True, False, "auto"):
        raise ValueError(f'compile must be True, False or "auto", got {arguments["compile"]!r}.')
    if arguments["batch_size"] is not None and not is_in_memory(arguments["data"]):
        raise ValueError(
            "batch_size is for arrays; an iterable gives its own batches, so leave it out."
        )


def check_pair(step: Step, state: State, data: Arrays, key: Array) -> None:
    """Raises ValueError where guide and model do not fit each other, or do not fit minibatches."""
    structure, scaled = _shapes(step, state, data, data.batch_size, key)
    if data.batch_size == data.num_data:
        return
    if structure.global_sites and not structure.subsampled and not scaled:
        raise ValueError(
            f"The latent sites {list(structure.global_sites)} lie outside the data plate, and "
            f"the plate declares only the {data.batch_size} data of a "
            f"batch, so that their prior would count {data.num_data / data.batch_size:g} times: "
            f'write plate("data", {data.num_data}, subsample_size=len(x)).'
        )
    other = max(2, data.batch_size // 2) if data.batch_size != 2 else 1
    try:
        _shapes(step, state, data, other, key)
    except Exception as error:
        if not _runs_alone(step, state, data, other, key):
            return  # the model itself is written for one batch size
        raise ValueError(
            f"The guide does not follow the batch: at {other} rows instead of {data.batch_size} "
            f"it fails ({error}). Minibatches need a guide whose latents of a datum are amortized, "
            f'or lie one by one (AutoNormal) in plate("data", {data.num_data}, '
            "subsample_size=len(x)); a guide of all latents jointly, such as "
            "AutoMultivariateNormal, needs all the data at once."
        ) from error


def check_observations(step: Step, state: State, data: Arrays | Stream, key: Array) -> None:
    """Raises ValueError for observed values outside the support of their site, in all data in
    memory or in the first batch of an iterable.

    Cost: one pass through the data, of which compilation leaves only the comparisons.
    """
    found: dict[str, tuple[str, Any]] = {}

    def outside(arrays: tuple, rows: Array | None, key: Array) -> dict[str, tuple[Array, Array]]:
        batch, key = step.prepare(form.build(take_rows(arrays, rows)), key)
        _, trace = step.traces(state.params, state.mutable, batch, rows, key)
        sites = {name: site for name, site in trace.items() if kind_of(site) == "observed"}
        found.update({name: _family(site) for name, site in sites.items()})
        return {name: _outside(site) for name, site in sites.items()}

    compiled = jax.jit(outside)
    form, arrays = (data.form, data.arrays) if isinstance(data, Arrays) else data.first()
    batches: list[Array | None] = [None]
    if isinstance(data, Arrays) and data.batch_size < data.num_data:
        batches = [
            jnp.arange(start, min(start + data.batch_size, data.num_data))
            for start in range(0, data.num_data, data.batch_size)
        ]
    for index, rows in enumerate(batches):
        for name, (count, example) in compiled(
            arrays, rows, jax.random.fold_in(key, index)
        ).items():
            if count:
                raise ValueError(_complaint(name, *found[name], int(count), float(example)))


def check_compared(step: Step, state: State, batch: Any, key: Array) -> None:
    """Raises ValueError where a loss compares draws of a guide that was left out."""
    found: list[set[str]] = []

    def run() -> None:
        prepared, loss_key = step.prepare(batch, key)
        guide_trace, _ = step.traces(state.params, state.mutable, prepared, None, loss_key)
        found.append({name for name, site in guide_trace.items() if site["type"] == "sample"})

    compared = [term for _, term in step.loss.terms if term.sites]
    if compared:
        jax.eval_shape(run)
    for term in compared:
        if drawn := sorted(found[0] & set(term.sites)):
            raise ValueError(
                f"{term!r} compares the guide's draws of {drawn} with the model's, but the guide "
                "was left out."
            )


def check_states(loss: Loss, validation_loss: Loss) -> None:
    """Raises ValueError where validation asks for states, such as critics, that training does not
    bring.
    """
    if unknown := sorted(validation_loss.stateful.keys() - loss.stateful.keys()):
        raise ValueError(
            f"validation_loss has {unknown}, which learn while the loss is trained, but the loss "
            "has them not: add them to it."
        )


def _shapes(
    step: Step, state: State, data: Arrays, num_rows: int, key: Array
) -> tuple[Structure, bool]:
    """What factorises in model and guide, and whether the data are scaled, from a run on shapes
    alone.
    """
    found: list[tuple[Structure, bool]] = []

    def run() -> None:
        rows = None if num_rows == data.num_data else jnp.arange(num_rows)
        batch, loss_key = step.prepare(data.form.build(take_rows(data.arrays, rows)), key)
        guide_trace, model_trace = step.traces(state.params, state.mutable, batch, rows, loss_key)
        structure = find_structure(model_trace, guide_trace)
        found.append(
            (
                structure,
                any(
                    model_trace[name]["scale"] not in (None, 1.0)
                    for name in structure.observed_sites
                ),
            )
        )
        step.evaluate(state.params, state.mutable, batch, rows, loss_key, 0)

    jax.eval_shape(run)
    return found[0]


def _runs_alone(step: Step, state: State, data: Arrays, num_rows: int, key: Array) -> bool:
    """Whether the model without the guide takes a batch of this size."""

    def run() -> None:
        rows = jnp.arange(num_rows)
        model, _, args, kwargs = step.call(data.form.build(take_rows(data.arrays, rows)), rows)
        seed(
            substitute(
                model,
                data={**step.constrain(state.params), **jax.tree.map(lambda x: x, state.mutable)},
            ),
            key,
        )(*args, **kwargs)

    try:
        jax.eval_shape(run)
    except Exception:
        return False
    return True


def _outside(site: dict[str, Any]) -> tuple[Array, Array]:
    """How many observed values lie outside the support, NaN among them, and one of these."""
    value, support = jnp.asarray(site["value"]), site["fn"].support
    while isinstance(support, type(constraints.independent(constraints.real, 1))):
        support = support.base_constraint
    inside = support(value)
    inside = inside.reshape(inside.shape + (1,) * (value.ndim - inside.ndim))
    bad = jnp.broadcast_to(~inside & _mask(site), value.shape).ravel()
    return bad.sum(), value.ravel()[jnp.argmax(bad)]


def _mask(site: dict[str, Any]) -> Any:
    fn: Any = site["fn"]
    mask: Any = True
    while True:
        if isinstance(fn, MaskedDistribution):
            own = jnp.asarray(fn._mask)
            mask = mask & own.reshape(own.shape + (1,) * fn.event_dim)
        if not hasattr(fn, "base_dist"):
            return mask
        fn = fn.base_dist


def _family(site: dict[str, Any]) -> tuple[str, str]:
    fn = site["fn"]
    while isinstance(fn, (Independent, MaskedDistribution, ExpandedDistribution)):
        fn = fn.base_dist
    return type(fn).__name__.lstrip("_").removesuffix("Logits").removesuffix("Probs"), str(
        fn.support
    )


def _complaint(name: str, family: str, support: str, count: int, example: float) -> str:
    advice = "check the data and their scaling"
    if np.isnan(example):
        advice = "remove or fill in what is missing, or leave it out with numpyro.handlers.mask"
    elif family == "Bernoulli":
        advice = (
            "binarise the data (transform=binarize) or use a likelihood on [0, 1] such as "
            "ContinuousBernoulli"
        )
    elif family in ("Beta", "Kumaraswamy", "LogitNormal"):
        advice = (
            "dequantize the data (dgm_core.data.dequantize), move them inside, as in 0.001 + "
            "0.998 * x, or use ContinuousBernoulli"
        )
    return (
        f"Site '{name}' observes {example:g}, outside the support of {family} ({support}); "
        f"{count} values of this batch are: {advice}."
    )
