"""What can be found out before the first step: data outside their support, a guide that does not
fit its model.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import ExpandedDistribution, Independent, MaskedDistribution, constraints
from numpyro.handlers import seed, substitute

from dgm_core.arguments import refuse
from dgm_core.training.observations import OPEN, complain
from numpyro_dgm.compat import mask_of, validates
from numpyro_dgm.joints.enumerated import as_enumerated
from numpyro_dgm.joints.structure import Structure, find_structure, kind_of, step_mask_of
from numpyro_dgm.losses import Loss
from numpyro_dgm.nn import evaluation_mode
from numpyro_dgm.nn.requirements import collected_requirements
from numpyro_dgm.training.batches import Arrays, Stream, take_rows
from numpyro_dgm.training.step import State, Step

__all__: list[str] = []  # for the package, not for users


def check_pair(step: Step, state: State, data: Arrays, key: Array) -> None:
    """Raises ValueError where guide and model do not fit each other, or do not fit minibatches."""
    structure, shared, scaled = _shapes(step, state, data, data.batch_size, key)
    if data.batch_size == data.num_data:
        return
    if shared and not structure.subsampled and not scaled:
        raise ValueError(
            f"The latent sites {shared} lie outside the data plate, and "
            f"the plate declares only the {data.batch_size} data of a "
            f"batch, so that their prior would count {data.num_data / data.batch_size:g} times: "
            f'write plate("data", {data.num_data}, subsample_size=len(x)).'
        )
    if data.num_batches > data.num_full and data.num_data % data.batch_size == 1:
        try:
            _shapes(step, state, data, 1, key)
        except ValueError as error:
            if "BatchNorm needs" in str(error):
                raise ValueError(
                    "The last batch of an epoch holds a single datum, which batch normalization "
                    "cannot use: leave it out by drop_last=True, or choose another batch_size."
                ) from error
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
    """Raises ValueError for observed values outside the support of their site, and for what the
    model requires of its data, in all data in memory or in the first batch of an iterable.

    Where validation has been switched off, for a site or for all, it warns.

    Cost:
        one pass through the data, of which compilation leaves only the comparisons.
    """
    known: dict[str, tuple[Any, ...]] = {}

    def outside(arrays: tuple, rows: Array | None, key: Array) -> dict[str, tuple[Array, Array]]:
        batch, key = step.prepare(form.build(take_rows(arrays, rows)), key)
        with collected_requirements() as required, evaluation_mode(step.model, step.guide):
            _, trace = step.traces(state.params, state.mutable, batch, rows, key)
        sites = {name: site for name, site in trace.items() if kind_of(site) == "observed"}
        known.update({name: (_family(site), validates(site["fn"])) for name, site in sites.items()})
        found = {name: _outside(site) for name, site in sites.items()}
        for index, (name, wanted, values, good) in enumerate(required):
            known[f"requirement {index}"] = name, wanted
            bad = ~jnp.broadcast_to(good, jnp.shape(values)).ravel()
            found[f"requirement {index}"] = bad.sum(), jnp.ravel(values)[jnp.argmax(bad)]
        return found

    warned: set[str] = set()
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
            if not count or name in warned:
                continue
            if name.startswith("requirement "):
                refuse(known[name][0], known[name][1], example.item())
            (family, support), validated = known[name]
            complain(name, family, support, int(count), float(example), validated=validated)
            warned.add(name)


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
) -> tuple[Structure, list[str], bool]:
    """What factorizes in model and guide, the model's global latents, and whether the data are
    scaled, from a run on shapes alone.
    """
    found: list[tuple[Structure, list[str], bool]] = []

    def run() -> None:
        rows = None if num_rows == data.num_data else jnp.arange(num_rows)
        batch, loss_key = step.prepare(data.form.build(take_rows(data.arrays, rows)), key)
        guide_trace, model_trace = step.traces(state.params, state.mutable, batch, rows, loss_key)
        as_enumerated(model_trace, guide_trace, step.loss.enumerated)
        structure = find_structure(model_trace, guide_trace)
        found.append(
            (
                structure,
                [name for name in structure.global_sites if name in model_trace],
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
    value, support = jnp.asarray(site["value"]), _data_support(_base(site["fn"]))
    while isinstance(support, type(constraints.independent(constraints.real, 1))):
        support = support.base_constraint
    inside = support(value)
    inside = inside.reshape(inside.shape + (1,) * (value.ndim - inside.ndim))
    if _family(site)[0] in OPEN:
        ends = getattr(support, "lower_bound", 0.0), getattr(support, "upper_bound", 1.0)
        inside = inside & (value != ends[0]) & (value != ends[1])
    bad = jnp.broadcast_to(~inside & _mask(site), value.shape).ravel()
    return bad.sum(), value.ravel()[jnp.argmax(bad)]


def _data_support(fn: Any) -> Any:
    """The support of a distribution, or what it says of data."""
    return getattr(fn, "data_support", None) or fn.support


def _mask(site: dict[str, Any]) -> Any:
    fn: Any = site["fn"]
    mask: Any = True
    while True:
        if (own := mask_of(fn)) is not None:
            own = jnp.asarray(own)
            mask = mask & own.reshape(own.shape + (1,) * fn.event_dim)
        if (steps := step_mask_of(fn)) is not None:
            mask = mask & steps.reshape(steps.shape + (1,) * (fn.event_dim - 1))
        if not hasattr(fn, "base_dist"):
            return mask
        fn = fn.base_dist


def _base(fn: Any) -> Any:
    """A distribution without what has been wrapped around it."""
    while isinstance(fn, (Independent, MaskedDistribution, ExpandedDistribution)):
        fn = fn.base_dist
    return fn


def _family(site: dict[str, Any]) -> tuple[str, str]:
    fn = _base(site["fn"])
    name = type(fn).__name__.lstrip("_").removesuffix("Logits").removesuffix("Probs")
    return name, str(_data_support(fn))
