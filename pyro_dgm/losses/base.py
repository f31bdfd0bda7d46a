"""Losses are weighted sums of terms: `ELBO() + 9.0 * MMD("z")` reads as in the paper and goes into
the stock SVI engine.

A term gives one quantity per datum (a bound, a divergence); the loss is N sum_i weight_i sign_i
quantity_i, with the data size N that the plates declare, so a weight means the same at every batch
size.  Bounds have sign -1: a loss is minimized.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import pyro
import torch
from torch import Tensor, nn

from dgm_core.algebra import WeightedSum, check_terms
from dgm_core.schedules import value_of
from dgm_core.structure import chosen
from dgm_core.terms import Asked, checked_estimate
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.state import updated
from pyro_dgm.nn.states import repeated

__all__ = ["Evaluation", "Loss", "Term", "Weight"]

Weight: TypeAlias = float | Callable[[Any], Any]


class Evaluation(NamedTuple):
    """A loss evaluated on one batch.

    per_datum: the loss in nats per datum, differentiable;  terms: each logged quantity in nats per
    datum, without gradient; data_size: N, the number of data that the plates declare;  loss: N
    per_datum, the total;  states: what the terms keep, after this batch; mutable_state (NumPyro
    only): the mutable sites after this batch, the states among them.
    """

    per_datum: Tensor
    terms: dict[str, Tensor]
    data_size: int
    states: dict[str, Any]

    @property
    def loss(self) -> Tensor:
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

    vectorize: bool | None = None  # whether particles run at once; None chooses

    def __init__(self, terms: tuple[tuple[Weight, "Term"], ...]) -> None:
        self.terms = check_terms(terms, Term)
        self.log: dict[str, Tensor] = {}
        self._engine: _Engine | None = None  # the one that ran last
        self._plans: dict = {}

    def __call__(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        if self._engine is None or self._engine.pair != (model, guide):
            self._engine = _Engine(self, (model, guide))
        return self._engine(model, guide, *args, **kwargs)

    @property
    def loss(self) -> "_Engine":
        """What `pyro.infer.SVI` takes: each engine begins with the first step of schedules, and
        with terms as they are before it.
        """
        self._engine = _Engine(self, None)
        return self._engine

    @property
    def loss_and_grads(self) -> Callable:
        """The same, with the gradients left in the parameters."""
        return (self._engine or self.loss).loss_and_grads

    def evaluate(
        self,
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        step: int | Tensor = 0,
        states: Mapping[str, Any] | None = None,
        update: bool = False,
        vectorize: bool | None = None,
    ) -> Evaluation:
        """Runs the joints on one batch and sums the terms.

        `step` is what schedules see; `states` what the terms keep (in NumPyro also found among the
        mutable sites), made anew where it is missing; with `update` they take their updates first;
        `vectorize` as in `Joints`.
        """
        kept = dict(states or {})

        def run() -> Joints:
            return self.joints(model, guide, args, kwargs, vectorize=vectorize)

        stateful = self.stateful
        rounds = max((term.num_updates for term in stateful.values()), default=0) if update else 0
        for left in range(rounds - 1, 0, -1):  # all updates but the last, each on fresh draws
            with torch.no_grad(), repeated():  # what moves with every batch moves once a step
                updated(stateful, kept, run(), step, left=left)
        joints = run()
        if stateful:
            updated(stateful, kept, joints, step, left=0 if update else None)
        joints.states = {term: kept[name] for name, term in stateful.items()}
        log: dict[str, Tensor] = {}
        parts = []
        # What distributions are asked for comes first: they may keep the density that it took.
        places = sorted(range(len(self.terms)), key=lambda i: not self.terms[i][1].objectives)
        found = {i: self.terms[i][1].estimate(joints, step) for i in places}
        for i, ((weight, term), name) in enumerate(zip(self.terms, self.names, strict=True)):
            quantity, details = checked_estimate(term, found[i])
            log[name] = quantity.detach()
            log.update({f"{name}/{key}": value.detach() for key, value in details.items()})
            parts.append(value_of(weight, step) * term.sign * quantity)
        return Evaluation(sum(parts[1:], parts[0]), log, joints.data_size, kept)

    def joints(
        self,
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        vectorize: bool | None = None,
    ) -> Joints:
        """Both joints of one step, run as the terms of this sum need them."""
        joints = Joints(
            model,
            guide,
            args,
            kwargs,
            num_particles=max(term.num_particles for _, term in self.terms),
            share_globals=any(term.shares_globals for _, term in self.terms),
            vectorize=chosen(vectorize, self),
            plans=self._plans,
        )
        joints.log_z = {site: own for _, term in self.terms for site, own in term.log_zs.items()}
        return joints

    def attach(self, guide: Callable) -> Callable:
        """The guide with what the loss must keep between the steps of the stock SVI engine: the
        step that schedules see, a mutable site in NumPyro.

        That is also what terms keep, such as critics with their optimizers.  The identity for a
        loss without either, and in Pyro, where each SVI keeps its own.  (`fit` does all this by
        itself and needs no `attach`.)
        """
        return guide

    def init_states(self, joints: Joints) -> dict[str, Any]:
        """What all terms keep, before the first step."""
        return {name: term.init_state(joints) for name, term in self.stateful.items()}

    def critics(self, states: Mapping[str, Any] | None = None) -> dict[str, nn.Module]:
        """The critics of all terms that have one, by the term's name: of the states of a run
        (`run.term_state`); without these as they were given, in Pyro as the last engine left them.
        """
        if states is None:
            states = self._engine.states if self._engine else {}
        found = {name: term.critic_in(states.get(name)) for name, term in self.stateful.items()}
        return {name: critic for name, critic in found.items() if critic is not None}

    def __getstate__(self) -> dict[str, Any]:
        """A loss is copied and pickled as a description, without the run that it was last in."""
        return {**self.__dict__, "log": {}, "_engine": None, "_plans": {}}


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

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
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

    def init_state(self, joints: Joints) -> dict[str, Any]:
        """The state before the first step; in NumPyro `joints` is None where only the guide is
        known, in `attach`.
        """
        return {}

    def update(self, state: dict[str, Any], joints: Joints, step: int | Tensor) -> dict[str, Any]:
        """The state after a step, from the state before it; no gradient passes.  Arrays are
        replaced, networks and optimizers of Pyro changed in place.
        """
        return state

    def critic_in(self, state: Any) -> nn.Module | None:
        """The critic that a state (or a copy of one) holds, if this term has one."""
        return None

    def weights(self) -> tuple[Weight, ...]:
        """The weights inside the term that may be schedules, numbers of at least 0 at each step."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Engine:
    """What a loss keeps between the steps of one stock engine: the step that schedules see, and the
    states of its terms.
    """

    def __init__(self, loss: Loss, pair: tuple[Callable, Callable] | None) -> None:
        self.description, self.pair = loss, pair
        self.step, self.states = 0, {}  # type: int, dict[str, Any]

    def __call__(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        training, loss = torch.is_grad_enabled(), self.description
        out = loss.evaluate(
            model, guide, args, kwargs, step=self.step, states=self.states, update=training
        )
        self.step, self.states = self.step + training, out.states
        loss.log, loss._engine = out.terms, self
        return out.loss

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """The total loss, with its gradients added to those of the parameters."""
        total = self(model, guide, *args, **kwargs)
        if total.requires_grad:
            total.backward()
        return total


# pyro.infer.SVI takes `loss` and `loss_and_grads` of an ELBO once: every engine has its own states.
pyro.infer.ELBO.register(Loss)
