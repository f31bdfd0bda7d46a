"""Losses are weighted sums of terms: `ELBO() + 9.0 * MMD("z")` reads as in the paper and goes into
the stock SVI engine.

A term gives one quantity per datum (a bound, a divergence); the loss is N sum_i weight_i sign_i
quantity_i, with the data size N that the plates declare, so a weight means the same at every batch
size.  Bounds have sign -1: a loss is minimized.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.primitives import mutable, prng_key

from dgm_core.algebra import WeightedSum, check_terms
from dgm_core.modalities import tells
from dgm_core.schedules import value_of
from dgm_core.structure import chosen
from dgm_core.terms import Asked, checked_estimate
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.state import COUNTER, STATES, mutable_part, updated, warmed_up

__all__ = ["Evaluation", "Loss", "Term", "Weight"]

Weight: TypeAlias = float | Callable[[Any], Any]


class Evaluation(NamedTuple):
    """A loss evaluated on one batch.

    per_datum: the loss in nats per datum, differentiable;  terms: each logged quantity in nats per
    datum, without gradient; data_size: N, the number of data that the plates declare;  loss: N
    per_datum, the total;  states: what the terms keep, after this batch; mutable_state (NumPyro
    only): the mutable sites after this batch, the states among them.
    """

    per_datum: Array
    terms: dict[str, Array]
    data_size: int
    states: dict[str, Any]
    mutable_state: dict[str, Any]

    @property
    def loss(self) -> Array:
        """The total over the data size that the plates declare."""
        return self.per_datum * self.data_size


class Loss(WeightedSum["Loss"]):
    """A weighted sum of terms, itself usable wherever the library takes a loss.

    In Pyro `pyro.infer.SVI(model, guide, optim, loss)`: a call returns the total loss, and `log`
    then holds its terms in nats per datum. In NumPyro
    `numpyro.infer.SVI(model, loss.attach(guide), optim, loss)`, through `loss.loss`.
    `a + b` and `2.0 * a` give losses; a weight may be a schedule, a callable of the step.  The
    value of the total is the quantity itself, its gradient that of the estimator; `evaluate`
    returns the terms too.

    Raises:
        TypeError: for anything but a number, a schedule or a loss as operand.
    """

    can_infer_discrete = True
    vectorize: bool | None = None  # whether particles run at once; None chooses

    def __init__(self, terms: tuple[tuple[Weight, "Term"], ...]) -> None:
        self.terms = check_terms(terms, Term)

    def loss(
        self,
        rng_key: Array,
        param_map: Mapping[str, Any],
        model: Callable,
        guide: Callable,
        *args: Any,
        **kwargs: Any,
    ) -> Array:
        """The total loss at the constrained parameters `param_map`: what
        `numpyro.infer.SVI` calls.
        """
        return self.loss_with_mutable_state(rng_key, param_map, model, guide, *args, **kwargs)[
            "loss"
        ]

    def loss_with_mutable_state(
        self,
        rng_key: Array,
        param_map: Mapping[str, Any],
        model: Callable,
        guide: Callable,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The total loss and the mutable sites after the step, as `numpyro.infer.SVI`
        takes them.
        """
        before = mutable_part(param_map)
        if (self.has_schedules and COUNTER not in before) or (
            self.stateful and STATES not in before
        ):
            raise ValueError(
                f"{self!r} keeps something from step to step, the step of schedules or critics, "
                "and this call does not know it: to train write "
                "SVI(model, loss.attach(guide), optim, loss), to evaluate loss.evaluate(key, "
                "params, model, guide, args, step=..., "
                "mutable_state=state.mutable_state), since SVI.evaluate leaves it out."
            )
        step = before[COUNTER]["step"] if COUNTER in before else 0
        out = self.evaluate(
            rng_key,
            param_map,
            model,
            guide,
            args,
            kwargs,
            step=step,
            mutable_state=before,
            update=True,
        )
        counter = {COUNTER: {"step": step + 1}} if COUNTER in before else {}
        return {"loss": out.loss, "mutable_state": {**out.mutable_state, **counter} or None}

    def attach(self, guide: Callable) -> Callable:
        """The guide with what the loss must keep between the steps of the stock SVI engine: the
        step that schedules see, a mutable site in NumPyro.

        That is also what terms keep, such as critics with their optimizers.  The identity for a
        loss without either, and in Pyro, where each SVI keeps its own.  (`fit` does all this by
        itself and needs no `attach`.)
        """
        if not self.has_schedules and not self.stateful:
            return guide

        def attached(*args: Any, **kwargs: Any) -> Any:
            drawn = guide(*args, **kwargs)
            if self.has_schedules:
                mutable(COUNTER, {"step": jnp.zeros((), jnp.int32)})
            if self.stateful:
                mutable(STATES, self.init_states(None, prng_key()))
            return drawn

        if hasattr(guide, "extension"):  # it draws more than the model
            attached.extension = guide.extension  # type: ignore[attr-defined]
        attached.given = tells(guide)  # type: ignore[attr-defined]
        return attached

    def init_states(self, joints: Joints | None, key: Array) -> dict[str, Any]:
        """What all terms keep, before the first step."""
        return {
            name: term.init_state(joints, key=jax.random.fold_in(key, index))
            for index, (name, term) in enumerate(self.stateful.items())
        }

    def critics(self, states: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The critics of all terms that have one, by the term's name: of the states of a run
        (`run.term_state`); without these as they were given, in Pyro as the last engine left them.
        """
        states = (states or {}).get(STATES, states or {})
        found = {name: term.critic_in(states.get(name)) for name, term in self.stateful.items()}
        return {name: critic for name, critic in found.items() if critic is not None}

    def evaluate(
        self,
        rng_key: Array,
        params: Mapping[str, Any],
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        step: int | Array = 0,
        states: Mapping[str, Any] | None = None,
        update: bool = False,
        vectorize: bool | None = None,
        mutable_state: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Runs the joints on one batch and sums the terms.

        `step` is what schedules see; `states` what the terms keep (in NumPyro also found among the
        mutable sites), made anew where it is missing; with `update` they take their updates first;
        `vectorize` as in `Joints`.
        """
        kept = dict(mutable_state or {})
        before = dict(states if states is not None else kept.get(STATES) or {})
        stateful = self.stateful

        def run(rng_key: Array, params: Mapping[str, Any]) -> Joints:
            return self.joints(
                rng_key,
                params,
                model,
                guide,
                args,
                kwargs,
                vectorize=vectorize,
                mutable_state=kept,
            )

        if missing := stateful.keys() - before.keys():
            before |= {
                name: state
                for name, state in self.init_states(run(rng_key, params), rng_key).items()
                if name in missing
            }
        after = {name: before[name] for name in stateful}
        if update and stateful:
            after = warmed_up(
                stateful,
                after,
                lambda key: run(key, jax.lax.stop_gradient(dict(params))),
                rng_key,
                step,
            )
        joints = run(rng_key, params)
        if update and stateful:
            after = updated(stateful, after, joints, jax.random.fold_in(rng_key, 0), step)
        joints.states = {term: after[name] for name, term in stateful.items()}
        log: dict[str, Array] = {}
        total: Array | float = 0.0
        for (weight, term), name in zip(self.terms, self.names, strict=True):
            quantity, details = checked_estimate(term, term.estimate(joints, step))
            log[name] = jax.lax.stop_gradient(quantity)
            log.update(
                {f"{name}/{key}": jax.lax.stop_gradient(value) for key, value in details.items()}
            )
            total = total + value_of(weight, step) * term.sign * quantity
        sites = {**joints.mutable_state, **({STATES: before | after} if stateful else {})}
        return Evaluation(jnp.asarray(total), log, joints.data_size, before | after, sites)

    def joints(
        self,
        rng_key: Array,
        params: Mapping[str, Any],
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        vectorize: bool | None = None,
        mutable_state: Mapping[str, Any] | None = None,
    ) -> Joints:
        """Both joints of one step, run as the terms of this sum need them."""
        joints = Joints(
            rng_key,
            params,
            model,
            guide,
            args,
            kwargs,
            num_particles=max(term.num_particles for _, term in self.terms),
            share_globals=any(term.shares_globals for _, term in self.terms),
            vectorize=chosen(vectorize, self),
            analytic_kl=any(term.analytic_kl for _, term in self.terms),
            objectives=tuple(name for _, term in self.terms for name in term.objectives),
            mutable_state=mutable_state,
        )
        joints.log_z = {site: own for _, term in self.terms for site, own in term.log_zs.items()}
        return joints


class Term(Loss):
    """One quantity that compares the two joints: the part of a loss that other terms are added to.

    A subclass writes `estimate(joints, step)`, which returns the quantity per datum, with its
    gradient, and the dict of details, and gives name: under which the quantity is logged;  details:
    further quantities, logged as "name/detail";
    sign: -1 for a bound, which is maximized, +1 for a divergence or a cost;  num_particles: how
    many draws of the guide it needs; shares_globals: whether global latents must be drawn once for
    all particles;  analytic_kl: whether it asks for KL parts in closed form; guided: whether it
    makes no sense without a guide;  enumerate: the sites whose values it enumerates;  objectives:
    the sites whose distributions are asked for theirs, or for what else `dgm_core.terms.Asked` says
    (`InferenceJoint.objectives`);  log_zs: what finds ln Z of unnormalized sites, for the others.

    A term that keeps something from step to step also writes `init_state(joints)` and
    `update(state, joints, step)`, in NumPyro with a further argument `key`; `estimate` reads
    `joints.state(self)`.  The state is a dict of arrays, in Pyro also of networks and optimizers;
    it is saved, resumed and checked with the run.  num_updates: how often it is updated before each
    step of model and guide, all but the last time on draws of its own.
    """

    name: str
    details: tuple[str, ...] = ()
    sign: int = 1
    num_particles: int = 1
    shares_globals: bool = False
    analytic_kl: bool = False
    num_updates: int = 1
    sites: tuple[str, ...] = ()
    enumerate: tuple[str, ...] = ()
    objectives: tuple[str | Asked, ...] = ()
    guided: bool = True
    log_zs: Mapping[str, Callable] = {}

    def __init__(self) -> None:
        super().__init__(((1.0, self),))

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        """The quantity per datum, differentiable, and the details that are logged beside it."""
        raise TypeError(
            f"{type(self).__name__} must define estimate(joints, step): a term is a subclass "
            "of "
            "Term that says how its quantity is estimated."
        )

    @property
    def has_state(self) -> bool:
        """Whether the term keeps something from step to step."""
        return type(self).init_state is not Term.init_state

    def init_state(self, joints: Joints | None, *, key: Array) -> dict[str, Any]:
        """The state before the first step; in NumPyro `joints` is None where only the guide is
        known, in `attach`.
        """
        return {}

    def update(
        self, state: dict[str, Any], joints: Joints, step: int | Array, *, key: Array
    ) -> dict[str, Any]:
        """The state after a step, from the state before it; no gradient passes.  Arrays are
        replaced, networks and optimizers of Pyro changed in place.
        """
        return state

    def critic_in(self, state: Any) -> Any:
        """The critic that a state (or a copy of one) holds, if this term has one."""
        return None

    def weights(self) -> tuple[Weight, ...]:
        """The weights inside the term that may be schedules, numbers of at least 0 at each step."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
