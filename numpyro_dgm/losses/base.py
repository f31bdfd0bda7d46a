"""Losses are weighted sums of terms: `ELBO() + 9.0 * MMD("z")` reads as in the paper and goes into
the stock SVI engine.

A term gives one quantity per datum (a bound, a divergence); the loss is N sum_i weight_i sign_i
quantity_i, with the data size N that the plates declare, so a weight means the same at every batch
size.  Bounds have sign -1: a loss is minimised.
"""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.primitives import mutable

from dgm_core.schedules import value_of
from dgm_core.structure import chosen
from numpyro_dgm.joints.joints import Joints

_COUNTER, CRITICS = "loss$step", "loss$critics"  # mutable sites: what a loss keeps between steps

__all__ = ["Evaluation", "Loss", "Term", "Weight"]

Weight: TypeAlias = float | Callable[[Any], Any]


class Evaluation(NamedTuple):
    """A loss evaluated on one batch.

    per_datum: the loss in nats per datum, differentiable;  terms: each logged quantity in nats per
    datum, without gradient; data_size: N, the number of data that the plates declare;  loss: N
    per_datum, the total;  mutable_state (NumPyro only): the mutable sites after this batch.
    """

    per_datum: Array
    terms: dict[str, Array]
    data_size: int
    mutable_state: dict[str, Any]

    @property
    def loss(self) -> Array:
        """The total over the data size that the plates declare."""
        return self.per_datum * self.data_size


class Loss:
    """A weighted sum of terms, itself usable wherever the library takes a loss.

    In Pyro `pyro.infer.SVI(model, guide, optim, loss)`: a call returns the total loss, and `log`
    then holds its terms in nats per datum. In NumPyro
    `numpyro.infer.SVI(model, loss.attach(guide), optim, loss)`, through `loss.loss`.
    `a + b` and `2.0 * a` give losses; a weight may be a schedule, a callable of the step.  The
    value of the total is the quantity itself, its gradient that of the estimator; `evaluate`
    returns the terms too.
    Errors: TypeError for anything but a number, a schedule or a loss as operand.
    """

    can_infer_discrete = True

    def __init__(self, terms: tuple[tuple[Weight, "Term"], ...]) -> None:
        self.terms = terms

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
        return self.evaluate(
            rng_key, param_map, model, guide, args, kwargs, mutable_state=_mutable_part(param_map)
        ).loss

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
        before = _mutable_part(param_map)
        if self._players and CRITICS not in before:
            raise ValueError(
                f"{self!r} has critics to train: write SVI(model, loss.attach(guide), optim, loss)."
            )
        step = before[_COUNTER]["step"] if _COUNTER in before else 0
        out = self.evaluate(
            rng_key,
            param_map,
            model,
            guide,
            args,
            kwargs,
            step=step,
            mutable_state=before,
            train_critics=True,
        )
        counter = {_COUNTER: {"step": step + 1}} if _COUNTER in before else {}
        return {"loss": out.loss, "mutable_state": {**out.mutable_state, **counter} or None}

    def attach(self, guide: Callable) -> Callable:
        """The guide with what the loss must keep between the steps of the stock SVI engine: the
        step that schedules see, a mutable site in NumPyro.

        That is also the critics with their optimisers.  The identity for a loss without either, and
        in Pyro, where the loss keeps them itself. (`fit` does all this by itself and needs no
        `attach`.)
        """
        if not self.has_schedules and not self._players:
            return guide

        def attached(*args: Any, **kwargs: Any) -> Any:
            if self.has_schedules:
                mutable(_COUNTER, {"step": jnp.zeros((), jnp.int32)})
            if self._players:
                mutable(CRITICS, self._init_critics())
            return guide(*args, **kwargs)

        return attached

    def critics(self, mutable_state: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The critics of all terms that have one, by the term's name, as they are now."""
        states = (mutable_state or {}).get(CRITICS, {})
        found = {
            name: term
            for (_, term), name in zip(self.terms, self._names(), strict=True)
            if term.critic is not None
        }
        return {
            name: term._critic(states.get(self._player_name(term))) for name, term in found.items()
        }

    @property
    def _players(self) -> list["Term"]:
        """The terms with a critic, each once."""
        return list(dict.fromkeys(term for _, term in self.terms if term.critic_steps))

    def _player_name(self, term: "Term") -> str:
        return str(self._players.index(term))

    def _init_critics(self) -> dict[str, Any]:
        """The state of all critics before the first step."""
        return {self._player_name(term): term._init_critic() for term in self._players}

    def _build_critics(self, joints: Joints, key: Array) -> None:
        """Makes the default critics of the terms that were given none, for the shapes that the
        joints have.
        """
        for index, term in enumerate(self._players):
            term._build_critic(joints, jax.random.fold_in(key, index))

    @property
    def needs_guide(self) -> bool:
        """Whether a term of this sum makes no sense without a guide."""
        return any(term.guided for _, term in self.terms)

    @property
    def has_schedules(self) -> bool:
        """Whether a weight in this sum changes from step to step."""
        weights = [each for weight, term in self.terms for each in (weight, *term.weights())]
        return any(map(callable, weights))

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
        train_critics: bool = False,
        vectorize: bool | None = None,
        mutable_state: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Runs the joints on one batch and sums the terms; `step` is what schedules see; with
        `train_critics` the critics take their updates first; `vectorize` as in `Joints`.
        """
        kept = dict(mutable_state or {})
        states = dict(kept.get(CRITICS) or {})

        def run(rng_key: Array, params: Mapping[str, Any]) -> Joints:
            return Joints(
                rng_key,
                params,
                model,
                guide,
                args,
                kwargs,
                num_particles=max(term.num_particles for _, term in self.terms),
                share_globals=any(term.shares_globals for _, term in self.terms),
                vectorize=chosen(vectorize, *(term.vectorize for _, term in self.terms)),
                analytic_kl=any(term.analytic_kl for _, term in self.terms),
                mutable_state=kept,
            )

        if train_critics and states:
            states = self._warm_up(
                states, lambda key: run(key, jax.lax.stop_gradient(dict(params))), rng_key, step
            )
        joints = run(rng_key, params)
        if train_critics and states:
            states = self._train_critics(states, joints, jax.random.fold_in(rng_key, 0), step)
        joints.critics = {term: states[self._player_name(term)] for term in self._players if states}
        log: dict[str, Array] = {}
        total: Array | float = 0.0
        for (weight, term), name in zip(self.terms, self._names(), strict=True):
            quantity, details = term.estimate(joints, step)
            log[name] = jax.lax.stop_gradient(quantity)
            log.update(
                {f"{name}/{key}": jax.lax.stop_gradient(value) for key, value in details.items()}
            )
            total = total + value_of(weight, step) * term.sign * quantity
        after = {**joints.mutable_state, **({CRITICS: states} if states else {})}
        return Evaluation(jnp.asarray(total), log, joints.data_size, after)

    def _warm_up(
        self,
        states: dict[str, Any],
        run: Callable[[Array], Joints],
        rng_key: Array,
        step: int | Array,
    ) -> dict[str, Any]:
        """All updates of the critics but the last, each on fresh draws; a term with fewer of them
        joins later.
        """
        rounds = max(term.critic_steps for term in self._players) - 1

        def update(left: Array, states: dict[str, Any]) -> dict[str, Any]:
            key = jax.random.fold_in(rng_key, left)
            new = self._train_critics(states, run(key), jax.random.fold_in(key, 0), step)
            return {
                self._player_name(term): jax.tree.map(
                    lambda a, b, active=term.critic_steps > left: jnp.where(active, a, b),
                    new[self._player_name(term)],
                    states[self._player_name(term)],
                )
                for term in self._players
            }

        return (
            jax.lax.stop_gradient(
                jax.lax.fori_loop(0, rounds, lambda i, states: update(rounds - i, states), states)
            )
            if rounds
            else states
        )

    def _train_critics(
        self, states: dict[str, Any], joints: Joints, key: Array, step: int | Array
    ) -> dict[str, Any]:
        """One update of every critic."""
        return {
            self._player_name(term): jax.lax.stop_gradient(
                term._train_critic(
                    states[self._player_name(term)], joints, jax.random.fold_in(key, index), step
                )
            )
            for index, term in enumerate(self._players)
        }

    @property
    def term_names(self) -> tuple[str, ...]:
        """The names under which quantities are logged, in the order of `Evaluation.terms`."""
        return tuple(
            full
            for (_, term), name in zip(self.terms, self._names(), strict=True)
            for full in (name, *(f"{name}/{key}" for key in term.details))
        )

    def _names(self) -> list[str]:
        names = [term.name for _, term in self.terms]
        return [
            name if names.index(name) == i else f"{name} ({names[: i + 1].count(name)})"
            for i, name in enumerate(names)
        ]

    def __add__(self, other: "Loss") -> "Loss":
        if not isinstance(other, Loss):
            return NotImplemented
        return Loss(self.terms + other.terms)

    def __mul__(self, weight: Weight) -> "Loss":
        if isinstance(weight, Loss) or not (isinstance(weight, Real) or callable(weight)):
            return NotImplemented
        return Loss(tuple((_product(weight, own), term) for own, term in self.terms))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return " + ".join(
            repr(term) if weight == 1.0 else f"{weight!r} * {term!r}" for weight, term in self.terms
        )


class Term(Loss):
    """One quantity that compares the two joints: the part of a loss that other terms are added to.

    A subclass writes `estimate(joints, step)`, which returns the quantity per datum, with its
    gradient, and the dict of details, and gives name: under which the quantity is logged;  details:
    further quantities, logged as "name/detail";
    sign: -1 for a bound, which is maximised, +1 for a divergence or a cost;  num_particles: how
    many draws of the guide it needs; shares_globals: whether global latents must be drawn once for
    all particles;  analytic_kl: whether it asks for KL parts in closed form; critic and
    critic_steps: of a term with two players (None and 0 of others);  guided: whether it makes no
    sense without a guide.
    """

    name: str
    details: tuple[str, ...] = ()
    sign: int = 1
    num_particles: int = 1
    vectorize: bool | None = None
    shares_globals: bool = False
    analytic_kl: bool = False
    critic: Any = None
    critic_steps: int = 0
    sites: tuple[str, ...] = ()
    guided: bool = True

    def __init__(self) -> None:
        super().__init__(((1.0, self),))

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        """The quantity per datum, differentiable, and the details that are logged beside it."""
        raise TypeError(
            f"{type(self).__name__} must define estimate(joints, step): a term is a subclass "
            "of "
            "Term that says how its quantity is estimated."
        )

    def _critic(self, state: dict[str, Any] | None) -> Any:
        """The critic with the weights of its state, if there is one."""
        return self.critic

    def _init_critic(self) -> dict[str, Any]:
        """The state of the critic before the first step."""
        return {}

    def _build_critic(self, joints: Joints, key: Array) -> None:
        """Makes the default critic if none was given."""

    def _train_critic(
        self, state: dict[str, Any], joints: Joints, key: Array, step: int | Array = 0
    ) -> dict[str, Any]:
        """The state of the critic after one update."""
        return state

    def weights(self) -> tuple[Weight, ...]:
        """The weights inside the term that may be schedules."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _mutable_part(param_map: Mapping[str, Any]) -> dict[str, Any]:
    """The mutable sites among what the stock engine hands over: those of losses, and those of
    networks, whose names end in "$state".
    """
    return {
        name: value
        for name, value in param_map.items()
        if name in (_COUNTER, CRITICS) or name.endswith("$state")
    }


def _product(a: Weight, b: Weight) -> Weight:
    if isinstance(a, Real) and isinstance(b, Real):
        return float(a) * float(b)
    if b == 1.0:
        return a
    return lambda step: value_of(a, step) * value_of(b, step)


def check_particles(num_particles: int) -> int:
    """Raises ValueError unless `num_particles` is an integer of at least 1."""
    if not isinstance(num_particles, int) or isinstance(num_particles, bool) or num_particles < 1:
        raise ValueError(f"num_particles must be an integer of at least 1, got {num_particles!r}.")
    return num_particles


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    return value
