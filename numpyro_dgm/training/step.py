"""One training step: the loss of a batch as a function of the parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.distribution import validation_enabled
from numpyro.distributions.transforms import Transform
from numpyro.handlers import replay, seed, substitute, trace
from numpyro.primitives import Messenger

from dgm_core.guides import extended
from dgm_core.training.batches import Form, check_same_rows
from numpyro_dgm.losses import Loss
from numpyro_dgm.losses.state import STATES
from numpyro_dgm.nn.register import Place, is_held, shared_places, tied
from numpyro_dgm.training.rows import Rows
from numpyro_dgm.training.updates import Updates

__all__: list[str] = []  # for the package, not for users


class State(NamedTuple):
    """All that a step changes: unconstrained params, the optimizer's state, the average of the
    params, mutable sites, the number of steps done.
    """

    params: dict[str, Any]
    optim: Any
    average: dict[str, Any] | None
    mutable: dict[str, Any]
    step: Array


class Step:
    """A training step as a pure function, `step(state, batch, rows, key) -> (state, values)`.

    values: the loss and its terms, per datum, (1 + num_terms,), taken before the update.
    rows: which data the batch holds; they are handed to the plates that subsample the data, so that
    parameters of a datum meet that datum.
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        loss: Loss,
        updates: Updates,
        transforms: "Constrained",
        *,
        num_data: int | None,
        batch_size: int | None,
        spread: Callable[[Any], Any],
        transform: Callable | None = None,
    ) -> None:
        self.model, self.guide, self.loss, self.updates, self.transforms = (
            extended(model, guide),
            guide,
            loss,
            updates,
            transforms,
        )
        self.num_data, self.batch_size, self.transform, self.spread = (
            num_data,
            batch_size,
            transform,
            spread,
        )

    def init(self, params: dict[str, Any], mutable: dict[str, Any]) -> State:
        """The state before the first step, from unconstrained parameters."""
        average = params if self.updates.decay is not None else None
        return State(
            params, self.updates.optim.init(params), average, mutable, jnp.zeros((), jnp.int32)
        )

    def init_states(
        self, params: dict[str, Any], mutable: dict[str, Any], batch: Any, key: Array
    ) -> dict[str, Any]:
        """The mutable site that holds what the terms of the loss keep, made for the shapes that
        this batch gives; empty where they keep nothing.
        """
        if not self.loss.stateful:
            return {}
        batch, key = self.prepare(batch, key)
        model, guide, args, kwargs = self.call(batch, None)
        joints = self.loss.joints(
            key, self.constrain(params), model, guide, args, kwargs, mutable_state=mutable
        )
        return _strong({STATES: self.loss.init_states(joints, key)})

    def __call__(
        self, state: State, batch: Any, rows: Array | None, key: Array
    ) -> tuple[State, Array]:
        batch, key = self.prepare(batch, key)

        def objective(params: dict[str, Any]) -> tuple[Array, tuple[Array, dict[str, Any]]]:
            return self.evaluate(params, state.mutable, batch, rows, key, state.step, update=True)

        (loss, (values, mutable)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        params, optim = self.updates(
            grads,
            state.optim,
            state.params,
            state.step,
            value=loss,
            value_fn=lambda params: objective(params)[0],
        )
        return State(
            params,
            optim,
            self.updates.averaged(state.average, params, state.step),
            mutable,
            state.step + 1,
        ), values

    def prepare(self, batch: Any, key: Array) -> tuple[Any, Array]:
        """The batch as the model sees it, spread over the devices and transformed, and the key that
        is left for the loss.
        """
        batch, keys = self.spread(batch), jax.random.split(key)
        if self.transform is None:
            return batch, keys[1]
        transformed = self.transform(batch, key=keys[0])
        before = next(len(array) for array in Form.of(batch)[1] if array is not None)
        check_same_rows(before, Form.of(transformed)[1])
        return transformed, keys[1]

    def evaluate(
        self,
        params: dict[str, Any],
        mutable: dict[str, Any],
        batch: Any,
        rows: Array | None,
        key: Array,
        step: Any,
        *,
        update: bool = False,
    ) -> tuple[Array, tuple[Array, dict[str, Any]]]:
        """The loss per datum at unconstrained parameters; beside it all logged values and the
        mutable sites afterwards.
        """
        model, guide, args, kwargs = self.call(batch, rows)
        values = self.constrain(params)
        out = self.loss.evaluate(
            key, values, model, guide, args, kwargs, step=step, mutable_state=mutable, update=update
        )
        loss = out.per_datum
        return loss, (jnp.stack([loss, *out.terms.values()]), out.mutable_state)

    def traces(
        self,
        params: dict[str, Any],
        mutable: dict[str, Any],
        batch: Any,
        rows: Array | None,
        key: Array,
    ) -> tuple[dict, dict]:
        """Guide and model run once on a batch, the model at the guide's draws: (guide_trace,
        model_trace).
        """
        model, guide, args, kwargs = self.call(batch, rows)
        values = {**self.constrain(params), **jax.tree.map(lambda x: x, mutable)}
        keys = jax.random.split(key)
        guide_trace = trace(substitute(seed(guide, keys[0]), values)).get_trace(*args, **kwargs)
        return guide_trace, trace(
            substitute(replay(seed(model, keys[1]), guide_trace), values)
        ).get_trace(*args, **kwargs)

    def call(
        self, batch: Any, rows: Array | None
    ) -> tuple[Callable, Callable, tuple, dict[str, Any]]:
        """Model and guide, whose plates know the rows, and their arguments."""
        form, arrays = Form.of(batch)
        return (
            Rows(self.model, rows, self.num_data, self.batch_size),
            Rows(self.guide, rows, self.num_data, self.batch_size),
            *form.call(arrays),
        )

    def constrain(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters as the model and guide see them."""
        return self.transforms(params)


class Constrained:
    """Parameters as the model and guide see them: constrained, and one set of weights for a module
    that is part of two.
    """

    def __init__(self, transforms: dict[str, Transform], shared: dict[Place, Place]) -> None:
        self.transforms, self.shared = transforms, shared

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        """The constrained parameters."""
        values = {name: self.transforms[name](value) for name, value in params.items()}
        return tied(values, self.shared)


def initialize(
    model: Callable, guide: Callable, batch: Any, key: Array, *, compiled: bool
) -> tuple[dict[str, Any], Constrained, dict[str, Any]]:
    """Unconstrained parameters, the transforms that constrain them, and what is held beside them,
    mutable sites and constants, from one run of guide and model on a batch.

    The guide runs uncompiled, because automatic guides keep what they compute in their first run.
    """
    keys = jax.random.split(key)
    form, arrays = Form.of(batch)
    args, kwargs = form.call(arrays)
    transforms: dict[str, Transform] = {}
    shared: dict[Place, Place] = {}

    def collect(
        fn: Callable, values: dict[str, Any]
    ) -> tuple[dict, dict[str, Any], dict[str, Any]]:
        mutables = _Held()
        values = jax.tree.map(lambda x: x, values)  # a program may write into its own state
        with mutables, validation_enabled(False):  # our own checks say more
            sites = trace(substitute(fn, values)).get_trace(*args, **kwargs)
        params = {name: site["value"] for name, site in sites.items() if site["type"] == "param"}
        for name in params.keys() - transforms.keys():
            transforms[name] = biject_to(sites[name]["kwargs"].get("constraint", constraints.real))
        return sites, params, mutables.values

    guide_trace, params, mutable = collect(seed(guide, keys[0]), {})

    def run_model() -> tuple[dict[str, Any], dict[str, Any]]:
        model_trace, *found = collect(
            replay(seed(model, keys[1]), guide_trace), {**params, **mutable}
        )
        shared.update(shared_places(guide_trace, model_trace))
        return found[0], found[1]

    model_params, model_mutable = jax.jit(run_model)() if compiled else run_model()
    params, mutable = {**model_params, **params}, {**model_mutable, **mutable}
    return (
        _strong({name: transforms[name].inv(value) for name, value in params.items()}),
        Constrained(transforms, shared),
        _strong(mutable),
    )


class _Held(Messenger):
    """Collects mutable sites as they are before a run changes them, and constants."""

    def __init__(self) -> None:
        super().__init__(None)
        self.values: dict[str, Any] = {}

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if is_held(msg) and msg["value"] is not None:  # None: asked whether there is one
            self.values.setdefault(msg["name"], jax.tree.map(lambda x: x, msg["value"]))


def _strong(tree: Any) -> Any:
    """The same numbers as arrays that keep their type in arithmetic (Python numbers do not, and
    would have the step compiled twice).
    """
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)
