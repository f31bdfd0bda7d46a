"""Losses are weighted sums of terms: `ELBO() + 9.0 * MMD("z")` reads as in the paper and goes into
the stock SVI engine.

A term gives one quantity per datum (a bound, a divergence); the loss is N sum_i weight_i sign_i
quantity_i, with the data size N that the plates declare, so a weight means the same at every batch
size.  Bounds have sign -1: a loss is minimised.
"""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from dgm_core.schedules import value_of
from dgm_core.structure import chosen
from pyro_dgm.joints.joints import Joints

__all__ = ["Evaluation", "Loss", "Term", "Weight"]

Weight: TypeAlias = float | Callable[[Any], Any]


class Evaluation(NamedTuple):
    """A loss evaluated on one batch.

    per_datum: the loss in nats per datum, differentiable;  terms: each logged quantity in nats per
    datum, without gradient; data_size: N, the number of data that the plates declare;  loss: N
    per_datum, the total;  mutable_state (NumPyro only): the mutable sites after this batch.
    """

    per_datum: Tensor
    terms: dict[str, Tensor]
    data_size: int

    @property
    def loss(self) -> Tensor:
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

    def __init__(self, terms: tuple[tuple[Weight, "Term"], ...]) -> None:
        self.terms = terms
        self.log: dict[str, Tensor] = {}
        self._step = 0
        self._plans: dict = {}

    def __call__(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        out = self.evaluate(
            model, guide, args, kwargs, step=self._step, train_critics=torch.is_grad_enabled()
        )
        self.log = out.terms
        self._step += torch.is_grad_enabled()
        return out.loss

    def evaluate(
        self,
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        step: int | Tensor = 0,
        train_critics: bool = False,
        vectorize: bool | None = None,
    ) -> Evaluation:
        """Runs the joints on one batch and sums the terms; `step` is what schedules see; with
        `train_critics` the critics take their updates first; `vectorize` as in `Joints`.
        """

        def run() -> Joints:
            return Joints(
                model,
                guide,
                args,
                kwargs,
                num_particles=max(term.num_particles for _, term in self.terms),
                share_globals=any(term.shares_globals for _, term in self.terms),
                vectorize=chosen(vectorize, *(term.vectorize for _, term in self.terms)),
                plans=self._plans,
            )

        players = self._players if train_critics else []
        for left in range(max((term.critic_steps for term in players), default=1) - 1, 0, -1):
            with torch.no_grad():
                joints = run()
                for term in players:
                    if term.critic_steps > left:
                        term._train_critic(joints, step)
        joints = run()
        for term in players:
            term._train_critic(joints, step)
        log: dict[str, Tensor] = {}
        parts = []
        for (weight, term), name in zip(self.terms, self._names(), strict=True):
            quantity, details = term.estimate(joints, step)
            log[name] = quantity.detach()
            log.update({f"{name}/{key}": value.detach() for key, value in details.items()})
            parts.append(value_of(weight, step) * term.sign * quantity)
        return Evaluation(sum(parts[1:], parts[0]), log, joints.data_size)

    def attach(self, guide: Callable) -> Callable:
        """The guide with what the loss must keep between the steps of the stock SVI engine: the
        step that schedules see, a mutable site in NumPyro.

        That is also the critics with their optimisers.  The identity for a loss without either, and
        in Pyro, where the loss keeps them itself. (`fit` does all this by itself and needs no
        `attach`.)
        """
        return guide

    def critics(self) -> dict[str, nn.Module]:
        """The critics of all terms that have one, by the term's name, as they are now."""
        return {
            name: term.critic
            for (_, term), name in zip(self.terms, self._names(), strict=True)
            if term.critic is not None
        }

    def _critic_tensors(self) -> dict[str, Tensor]:
        """The weights and buffers of all critics, by term and path."""
        tensors: dict[str, Tensor] = {}
        for index, term in enumerate(self._players):
            if term.critic is not None:
                tensors |= {
                    f"{index}.{path}": tensor
                    for path, tensor in (
                        *term.critic.named_parameters(),
                        *term.critic.named_buffers(),
                    )
                }
        return tensors

    def _critic_optimisers(self) -> dict[str, Any]:
        """The states of the critics' optimisers."""
        return {
            str(index): (term._optimiser or term._begin()).state_dict()
            for index, term in enumerate(self._players)
        }

    def _restore_critic_optimisers(self, states: Mapping[str, Any]) -> None:
        """The critics' optimisers as they were."""
        for index, term in enumerate(self._players):
            term._begin().load_state_dict(states[str(index)])

    @property
    def _players(self) -> list["Term"]:
        """The terms with a critic, each once."""
        return list(dict.fromkeys(term for _, term in self.terms if term.critic_steps))

    @property
    def needs_guide(self) -> bool:
        """Whether a term of this sum makes no sense without a guide."""
        return any(term.guided for _, term in self.terms)

    @property
    def has_schedules(self) -> bool:
        """Whether a weight in this sum changes from step to step."""
        return any(
            callable(weight) or any(map(callable, term.weights())) for weight, term in self.terms
        )

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
    critic: nn.Module | None = None
    critic_steps: int = 0
    sites: tuple[str, ...] = ()
    _optimiser: torch.optim.Optimizer | None = None
    guided: bool = True

    def __init__(self) -> None:
        super().__init__(((1.0, self),))

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The quantity per datum, differentiable, and the details that are logged beside it."""
        raise TypeError(
            f"{type(self).__name__} must define estimate(joints, step): a term is a subclass "
            "of "
            "Term that says how its quantity is estimated."
        )

    def _begin(self) -> torch.optim.Optimizer:
        """A new optimiser for the critic."""
        raise TypeError(f"{type(self).__name__} has no critic.")

    def _train_critic(self, joints: Joints, step: int | Tensor = 0) -> None:
        """One update of the critic."""

    def weights(self) -> tuple[Weight, ...]:
        """The weights inside the term that may be schedules."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


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
