"""A run on data: model and guide called with the run's own weights, its rows and random numbers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import handlers
from numpyro.infer.autoguide import AutoGuide

from dgm_core.arguments import check_seed
from dgm_core.evaluation import as_numbers, check_run, settled_rows
from dgm_core.guides import extended as extended_by
from dgm_core.guides import plain
from dgm_core.missing import missing_named
from dgm_core.training.batches import check_accepts
from dgm_core.training.saved import fingerprint
from numpyro_dgm.joints import InferenceJoint, Joints
from numpyro_dgm.joints.entries import draws_and_densities
from numpyro_dgm.joints.handlers import Drawable, GivenDraws, Scored, Unconditioned, WiderPlates
from numpyro_dgm.joints.structure import Site, Trace, kind_of, random_sites
from numpyro_dgm.nn import evaluation_mode
from numpyro_dgm.nn.register import is_held
from numpyro_dgm.sequences.pairs import step_pair
from numpyro_dgm.training.batches import Form
from numpyro_dgm.training.rows import Rows
from numpyro_dgm.training.weights import in_force

__all__: list[str] = []  # for the package, not for users

Batch: TypeAlias = tuple[Array, tuple[Any, ...], Any]


@contextmanager
def calling(
    run: Any,
    data: tuple[Any, ...],
    *,
    seed: int = 0,
    rows: Any = None,
    vectorize: bool | None = None,
    more: Mapping[str, Any] | None = None,
    settle: bool = True,
    enumerated: tuple[str, ...] = (),
) -> Iterator["Call"]:
    """Inside this block model and guide of a run can be called on data: in evaluation mode, on the
    run's weights, with random numbers from `seed`, and leaving no trace.

    Args:
        run: what `fit` returns, or any object with .model and .guide.
        data: in any form of `fit`; more, further arguments by name;  settle, whether to find out
            which rows these are;  rows, vectorize, enumerated: see `log_weights`.
    """
    check_run(run)
    key = jax.random.key(check_seed("seed", seed))
    with in_force(run) as params, evaluation_mode(run.model, run.guide):
        form, entries = Form.of(data[0] if len(data) == 1 else data)
        arrays = {label: array_of(x, label) for label, x in form.labeled(entries).items()}
        args, kwargs = form.call(tuple(arrays.values()))
        kwargs |= {name: array_of(x, name) for name, x in (more or {}).items()}
        call = Call(run, args, kwargs, vectorize, params, key)
        call.enumerated = enumerated
        check_accepts("model", run.model, call.args, call.kwargs)
        with missing_named(arrays):
            if settle:
                check_accepts("guide", run.guide, call.args, call.kwargs)
                call.settle(rows)
            yield call


class Call:
    """Model and guide of a run with their arguments.

    Attributes:
        enumerated: the sites that the joints enumerate; scored, the observed ones that count.
        num_rows: of the data; None where no argument is an array. compiled: functions of them.
        num_data: of the data of the fit; None where that is unknown.
        rows: the numbers of the data in the data of the fit; None where nothing depends on them.
    """

    def __init__(
        self,
        run: Any,
        args: tuple,
        kwargs: dict[str, Any],
        vectorize: bool | None,
        params: dict[str, Any],
        key: Array,
    ) -> None:
        self.run, self.args, self.kwargs, self.vectorize = run, args, kwargs, vectorize
        arrays = [x for x in (*args, *kwargs.values()) if _is_array(x) and np.ndim(x)]
        self.num_rows = len(arrays[0]) if arrays else None
        self.num_data: int | None = getattr(run, "data_size", None)
        self.rows: np.ndarray | None = None
        self.enumerated, self.scored = (), ()  # type: tuple[str, ...], tuple[str, ...]
        self._params, self._key, self._drawn = params, key, 0
        self.compiled: dict[Any, Callable] = {}

    def settle(self, rows: Any) -> None:
        """Find out which rows the data are. Raises ValueError as `settled_rows`."""
        self.rows = settled_rows(self, rows)

    def replace(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Other arguments from here on, of the same forms."""

        def taken(x: Any) -> Any:
            return jnp.asarray(x) if isinstance(x, np.ndarray) else x

        self.args, self.kwargs = tuple(map(taken, args)), {n: taken(x) for n, x in kwargs.items()}

    def part(self, rows: np.ndarray) -> "Call":
        """The same on some rows of the data, which may be repeated."""
        own = copy(self)
        own.args, own.kwargs = self._mapped(lambda x: x[rows])
        own.rows = None if self.rows is None else self.rows[rows]
        own.num_rows = len(rows)
        own._key, own._drawn, own.compiled = self._next_key(), 0, {}
        return own

    def joint(self, num_particles: int = 1, rows: np.ndarray | None = None) -> InferenceJoint:
        """Guide and model replayed against it, on some rows of the data (None: all of them)."""
        return self.joint_on(num_particles, self.batch(rows))

    def joint_at(
        self, params: Mapping[str, Any], key: Array, num_particles: int, rows: Any
    ) -> InferenceJoint:
        """The same with other values of some parameters, and random numbers of its own."""
        own = copy(self)
        own._params, own._key, own._drawn = {**self._params, **params}, key, 0
        return own.joint(num_particles, rows)

    def sketch(self) -> InferenceJoint:
        """A joint of one draw, to look at its structure and at shapes."""
        found: list[InferenceJoint] = []
        jax.eval_shape(lambda batch: found.append(self.joint_on(1, batch)), self.batch(None))
        return found[0]

    def read(
        self,
        function: Callable[[InferenceJoint], Any],
        num_particles: int = 1,
        rows: np.ndarray | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Any:
        """What a function of a joint gives, a tree of arrays, in numpy; compiled in NumPyro.  The
        guide draws what is `given`, by site, as it is."""

        def run(given: dict[str, Any], batch: Batch) -> Any:
            with GivenDraws(None, given):
                return function(self.joint_on(num_particles, batch))

        key = (function, num_particles, self.scored, *self.kwargs)
        compiled = self.compiled.setdefault(key, jax.jit(run))
        return jax.tree.map(np.asarray, compiled(dict(given or {}), self.batch(rows)))

    def stepped(
        self, function: Callable, rows: np.ndarray | None = None, *, bootstrap: bool = False
    ) -> Any:
        """What a function of the steps of model and guide gives (with the model's own draws for
        the guide's), as `read`."""

        def run(batch: Batch) -> Any:
            key, arrays, numbers = batch
            args, kwargs = self._arguments(arrays)
            model, guide = self._functions(numbers, extended=True)
            seed_key, key = jax.random.split(key)
            seeded = handlers.seed(rng_seed=seed_key)
            with seeded, handlers.substitute(data=self._params):
                pair = step_pair(model, None if bootstrap else guide, args, kwargs)
            return function(pair, key=key)

        compiled = self.compiled.setdefault((function, bootstrap), jax.jit(run))
        return jax.tree.map(np.asarray, compiled(self.batch(rows)))

    def repeat(
        self,
        function: Callable[["Call", dict[str, Any]], dict[Any, Any]],
        num_draws: int,
        given: Mapping[str, Any] | None = None,
    ) -> dict[Any, np.ndarray]:
        """What `function(call, values)` gives in so many runs, each with its own random numbers and
        its own of the values given (num_draws, ...): arrays (num_draws, ...) by name."""
        names: list[Any] = []

        def run(key: Array, values: dict[str, Any]) -> tuple[Any, ...]:
            own = copy(self)
            own._key, own._drawn = key, 0
            found = function(own, values)
            names[:] = found  # JAX would sort them
            return tuple(found.values())

        keys, values = jax.random.split(self._next_key(), num_draws), dict(given or {})
        if self.vectorize is False:
            arrays = jax.lax.map(lambda both: run(*both), (keys, values))
        else:
            arrays = jax.vmap(run)(keys, values)
        return dict(zip(names, map(np.asarray, arrays), strict=True))

    def terms(self, loss: Any, step: int, num_draws: int) -> dict[str, np.ndarray]:
        """A loss and its terms on these data, in nats per datum, (num_draws,) each; with the
        critics of the run, in evaluation mode."""
        states = getattr(self.run, "term_state", None)
        options = {"step": step, "states": states, "vectorize": self.vectorize}

        def evaluated(call: Call, _: Any) -> dict[str, Array]:
            key, pair = call._next_key(), call._functions(call.rows, extended=True)
            with evaluation_mode(*loss.critics(states).values()):
                found = loss.evaluate(key, call._params, *pair, call.args, call.kwargs, **options)
            return {"loss": found.per_datum, **found.terms}

        return self.repeat(evaluated, num_draws)

    def traces(self) -> tuple[Trace, Trace]:
        """One run of the model and of the guide that it is replayed against."""
        args, kwargs = self._arguments(self.batch(None)[1])
        model, guide = self._functions(self.rows, extended=True)
        return self._joints(self._next_key(), model, guide, args, kwargs, 1).traces()

    def forward(self, values: Mapping[str, Any] | None = None) -> Trace:
        """One run of the model that ignores the data, with some of its draws given."""
        return self._run(Unconditioned(self._functions(self.rows)[0]), values)

    def model(self, values: Mapping[str, Any] | None = None, *, extended: bool = False) -> Trace:
        """One run of the model on the data, with some of its draws given; the `extended` one also
        scores what the guide draws beyond it."""
        return self._run(self._functions(self.rows, extended=extended)[0], values)

    def guide(self, values: Mapping[str, Any] | None = None) -> Trace:
        """One run of the guide, with some of its draws given."""
        return self._run(self._functions(self.rows)[1], values)

    def guide_plates(self) -> list[tuple[int, int]]:
        """(size, declared size) of the plates in a run of the guide."""
        found: dict[str, tuple[int, int]] = {}
        own = copy(self)
        own.rows = None

        def look() -> None:
            for name, site in own.guide().items():
                if site["type"] == "plate":
                    size, subsample_size = site["args"]
                    found[name] = (subsample_size or size, size)

        jax.eval_shape(look)
        return list(found.values())

    def guide_draws(self, rows: np.ndarray | None, *, rolled: bool = False) -> dict[str, Any]:
        """What the guide draws as these rows, always from the same random numbers, and how it
        scores that; rolled: from the data moved by one."""
        own = copy(self)
        own.rows, own._key, own._drawn = rows, jax.random.key(0), 0
        if rolled:
            own.args, own.kwargs = self._mapped(lambda x: jnp.roll(x, 1, 0))
        return draws_and_densities(random_sites(own.guide()))

    def is_other_data(self) -> bool:
        """Whether these are known not to be the data of the fit."""
        known = getattr(self.run, "config", {}).get("seen", {}).get("fingerprint")
        if known is None or self.num_rows is None:
            return False
        return fingerprint((*self.args, *self.kwargs.values()), self.num_rows) != known

    def differs_by_row(self, rows: np.ndarray) -> bool:
        """Whether the guide's distributions at these rows differ from row to row."""
        own = copy(self)
        own.rows = rows
        for site in random_sites(own.guide()).values():
            fn, value = site["fn"], site["value"]
            for frame in site["cond_indep_stack"]:
                if frame.size != self.num_rows:
                    continue
                moved = fn.log_prob(jnp.roll(value, 1, frame.dim - fn.event_dim))
                if not np.allclose(moved, jnp.roll(fn.log_prob(value), 1, frame.dim)):
                    return True
        return False

    def batch(self, rows: np.ndarray | None) -> Batch:
        """A key, the arrays among the arguments and the numbers of their rows: what a compiled
        function of some rows takes."""
        args, kwargs = self._mapped(lambda x: x if rows is None else x[rows])
        arrays = tuple(x if _is_array(x) else None for x in (*args, *kwargs.values()))
        numbers = self.rows if rows is None or self.rows is None else self.rows[rows]
        return self._next_key(), arrays, numbers

    def joint_on(self, num_particles: int, batch: Batch) -> InferenceJoint:
        """The joint of a batch."""
        key, arrays, rows = batch
        args, kwargs = self._arguments(arrays)
        functions = self._functions(rows, extended=True)
        return self._joints(key, *functions, args, kwargs, num_particles).inference(
            enumerate=self.enumerated
        )

    def _joints(
        self,
        key: Array,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: dict[str, Any],
        num_particles: int,
    ) -> Joints:
        return Joints(
            key,
            self._params,
            model,
            guide,
            args,
            kwargs,
            num_particles=num_particles,
            vectorize=self.vectorize,
        )

    def _functions(self, rows: Any, *, extended: bool = False) -> tuple[Callable, Callable]:
        """Model and guide, whose plates know which data these are."""
        own = extended_by(self.run.model, self.run.guide) if extended else plain(self.run.model)
        own = Scored(own, self.scored) if self.scored else own
        if rows is None:
            return WiderPlates(own), WiderPlates(self.run.guide)
        rows = jnp.asarray(rows)
        remembered = None  # an automatic guide remembers the size of the batch that it saw first
        if isinstance(self.run.guide, AutoGuide):
            remembered = next((s for s, full in self.guide_plates() if full == self.num_data), None)
        model = Rows(own, rows, self.num_data, None)
        return model, Rows(self.run.guide, rows, self.num_data, remembered)

    def _run(self, fn: Callable, values: Mapping[str, Any] | None) -> Trace:
        fn = GivenDraws(fn, dict(values or {}), {})
        fn = handlers.substitute(handlers.seed(fn, self._next_key()), data=self._params)
        return handlers.trace(Drawable(fn)).get_trace(*self.args, **self.kwargs)

    def _next_key(self) -> Array:
        self._drawn += 1
        return jax.random.fold_in(self._key, self._drawn)

    def _arguments(self, arrays: tuple) -> tuple[tuple, dict[str, Any]]:
        """The arguments with other arrays in the place of theirs."""
        own = (*self.args, *self.kwargs.values())
        new = [x if array is None else array for x, array in zip(own, arrays, strict=True)]
        return tuple(new[: len(self.args)]), dict(zip(self.kwargs, new[len(self.args) :]))

    def _mapped(self, change: Callable) -> tuple[tuple, dict[str, Any]]:
        """The arguments, changed where they have a row for each datum."""

        def changed(x: Any) -> Any:
            has_rows = _is_array(x) and np.ndim(x) and len(x) == self.num_rows
            return change(x) if has_rows else x

        return tuple(map(changed, self.args)), {n: changed(x) for n, x in self.kwargs.items()}


def kept_sites(trace: Trace) -> dict[str, Site]:
    """The latent, observed and deterministic sites of a run of the model, in its order, without
    what is stated beyond the user's."""
    kinds = ("latent", "observed", "deterministic")
    found = {name: site for name, site in trace.items() if kind_of(site) in kinds}
    beyond = [n for n, site in found.items() if is_held(site) or _is_reverse(site)]
    return {name: site for name, site in found.items() if name not in beyond}


def _is_reverse(site: Site) -> bool:
    return bool(site.get("infer", {}).get("reverse"))


def elementwise(site: Site) -> Array:
    """The log-density of an observed site, of its batch shape; masks are applied,
    scales are not.
    """
    value, fn = site["value"], site["fn"]
    log_prob = fn.log_prob(value)
    batch = jnp.shape(value)[: jnp.ndim(value) - fn.event_dim]
    return jnp.broadcast_to(log_prob, jnp.broadcast_shapes(batch, log_prob.shape))


def observed(site: Site) -> np.ndarray:
    """What a site observes, of the full batch shape."""
    value, event_dim = as_numpy(site["value"]), site["fn"].event_dim
    batch, event = value.shape[: value.ndim - event_dim], value.shape[value.ndim - event_dim :]
    return np.broadcast_to(value, (*np.broadcast_shapes(batch, site["fn"].batch_shape), *event))


def as_numpy(x: Any) -> np.ndarray:
    """An array as numpy's."""
    return np.asarray(x)


def _is_array(x: Any) -> bool:
    return isinstance(x, Array | np.ndarray)


def array_of(entry: Any, label: str) -> Any:
    """An array, a table or a list of numbers as an array; what is none of these stays."""
    is_data = hasattr(entry, "__array__") or isinstance(entry, list | str)
    if isinstance(entry, Array) or not is_data:
        return entry
    return jnp.asarray(as_numbers(entry, label))
