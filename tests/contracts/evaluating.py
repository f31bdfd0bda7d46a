"""A loss of the registry evaluated in both libraries, at equal parameters, weights and draws.

The draws are made in NumPyro and carried over: where a site of Pyro is a location-scale family its
noise is solved for, so that gradients take the same path. What terms draw by themselves
(directions, permutations, points between two samples) is handed out in both from one table.
"""

import copy
import pickle
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pyro
import torch
from numpyro import handlers
from numpyro.infer import SVI
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from numpyro_dgm.joints.structure import random_sites
from numpyro_dgm.losses.adversarial.critics import default_critic
from tests.backends import NumPyroBackend, PyroBackend
from tests.cases import PROGRAMS, Loss, Programs
from tests.contracts.libraries import QUICKLY
from tests.contracts.writing import given_numbers, made
from tests.losses.training import package
from tests.twins.copying import arrays_of, copy_weights, shake

STEP, RATE, STOCK_RATE = 4, 0.1, 1e-2


class Evaluated(NamedTuple):
    """A loss and its terms, and the gradients of the total; of the critics (and in Pyro of
    teachers) the gradient of the total in their weights, and of the critics the weights after an
    update by gradient descent.
    """

    loss: float
    per_datum: float
    data_size: int
    terms: dict[str, float]
    gradients: dict[str, np.ndarray]
    slopes: dict[str, np.ndarray]
    critics: dict[str, np.ndarray]


def plain_players(loss: Any) -> list[Any]:
    """The terms with a critic, which then take one step of gradient descent at each update."""
    players = [term for term in loss.stateful.values() if hasattr(term, "critic")]
    for term in players:
        term.critic_steps = 1
        term.optim = (
            partial(torch.optim.SGD, lr=RATE)
            if isinstance(loss, package(PyroBackend()).losses.Loss)
            else optax.sgd(RATE)
        )
    return players


# NumPyro


class Drawn(NamedTuple):
    """What was drawn: by the guide, (num_particles, ...) each; in each forward run of the model."""

    guide: dict[str, Any]
    model: list[dict[str, Any]]


def drawn(joints: Any, loss: Any) -> Drawn:
    """The draws of joints that a loss has read."""
    guide: dict[str, Any] = {}
    for joint in joints._inference.values():
        guide = dict(joint.runs.record["values"])
    model = [
        {name: site["value"] for name, site in random_sites(trace).items()}
        for trace in joints._forward
    ]
    if any(getattr(term, "contrast", "adaptive") != "adaptive" for _, term in loss.terms):
        structure = joints.inference().structure
        model.append(joints.prior((*structure.latent_sites, *structure.observed_sites)))
    return Drawn(guide, model)


def in_numpyro(loss: Any, programs: Programs) -> tuple[Evaluated, float, Drawn]:
    """0.5 loss + 2.0 loss, the value per datum where the plate declares half the data size, and
    the draws; all of one trace.
    """
    backend = NumPyroBackend()
    model, guide = programs.make(backend)
    key = jax.random.key(3)
    states = loss.init_states(None, key)
    twice, joints = 0.5 * loss + 2.0 * loss, []
    run = twice.joints
    twice.joints = lambda *args, **kwargs: joints.append(run(*args, **kwargs)) or joints[-1]
    half = {"size": programs.size // 2} if programs.size else {}

    def total(params: Any, weights: Any, x: Any) -> Any:
        given = {name: {**state, "weights": weights[name]} for name, state in states.items()}

        def evaluate(loss: Any, kwargs: Any) -> Any:
            settings = {"step": STEP, "states": given, "update": True}
            return loss.evaluate(key, params, model, guide, (x,), kwargs, **settings)

        out = evaluate(twice, programs.kwargs)
        sizes.append(out.data_size)
        after = {name: state["weights"] for name, state in out.states.items()}
        alone = evaluate(loss, half).per_datum
        return out.loss, (out.per_datum, out.terms, after, alone, drawn(joints[-1], loss))

    sizes: list[int] = []
    function = jax.value_and_grad(total, (0, 1), has_aux=True)
    weights = {name: state["weights"] for name, state in states.items()}
    params = {name: backend.array(value) for name, value in programs.params.items()}
    with given_numbers():
        found = jax.jit(function, **QUICKLY)(params, weights, backend.array(programs.data))
    (value, aux), (gradients, slopes) = jax.tree.map(np.asarray, found)
    per_datum, terms, after, alone, draws = aux
    evaluated = Evaluated(
        float(value),
        float(per_datum),
        sizes[-1],
        {name: float(term) for name, term in terms.items()},
        gradients,
        by_path(slopes),
        by_path(after),
    )
    return evaluated, float(alone), draws


def by_path(critics: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of critics by their terms and paths."""
    return {
        f"{name}: {path}": np.asarray(array)
        for name, critic in critics.items()
        for path, array in arrays_of(critic).items()
    }


# Pyro


class Carry(Messenger):
    """Hands out draws along the pathwise gradient of the distributions that they are to come from:
    those of the guide, and those of one forward run of the model after the other.
    """

    def __init__(self, draws: Drawn) -> None:
        super().__init__()
        self.draws, self.program, self.forward, self.started = draws, "", -1, False

    def marked(self, name: str, program: Callable) -> Callable:
        """A program that says when it runs."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.program, self.started = name, False
            return program(*args, **kwargs)

        return run

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"] or site_is_subsample(msg):
            return
        if self.program == "guide":
            planning = not torch.is_grad_enabled()
            found = {} if planning else self.draws.guide
        else:
            self.forward += not self.started
            self.started = True
            found = self.draws.model[min(self.forward, len(self.draws.model) - 1)]
        if msg["name"] in found:
            msg["value"], msg["done"] = carried(msg["fn"], found[msg["name"]]), True


def carried(fn: Any, value: Any) -> torch.Tensor:
    """A value as a draw of a distribution."""
    value = torch.as_tensor(np.array(value)).reshape(-1)
    shape = fn.shape()
    value = value[: shape.numel()].reshape(shape)  # what all particles share was drawn once
    if not fn.has_rsample:
        return value.to(fn.sample().dtype)
    return fn.mean + fn.stddev * ((value - fn.mean) / fn.stddev).detach()


def in_pyro(
    loss: Any, programs: Programs, draws: Drawn, *, size: int | None = None, step: int = STEP
) -> Evaluated:
    """A copy of the loss, evaluated."""
    loss = copy.deepcopy(loss)
    backend, carry = PyroBackend(), Carry(draws)
    leaves = fill_store(backend, programs)
    model, guide = map(carry.marked, ("model", "guide"), programs.make(backend))
    kwargs = programs.kwargs if size is None or not programs.size else {"size": size}
    x = backend.array(programs.data)
    with given_numbers(), carry:
        out = loss.evaluate(model, guide, (x,), kwargs, step=step, update=True)
    critics = {
        f"{name}: {path}": parameter
        for name, critic in loss.critics(out.states).items()
        for path, parameter in critic.named_parameters()
    }
    teachers = {
        f"teacher: {path}": parameter
        for _, term in loss.terms
        for path, parameter in getattr(term, "teacher", torch.nn.Module()).named_parameters()
    }
    wanted = {**leaves, **critics, **teachers}
    found = torch.autograd.grad(out.loss, list(wanted.values()), allow_unused=True)
    slopes = {
        name: np.zeros(leaf.shape) if gradient is None else gradient.numpy()
        for (name, leaf), gradient in zip(wanted.items(), found, strict=True)
    }
    return Evaluated(
        out.loss.item(),
        out.per_datum.item(),
        out.data_size,
        {name: term.item() for name, term in out.terms.items()},
        {name: slopes[name] for name in leaves},
        {name: slopes[name] for name in (*critics, *teachers)},
        {name: parameter.detach().numpy() for name, parameter in critics.items()},
    )


def fill_store(backend: PyroBackend, programs: Programs) -> dict[str, torch.Tensor]:
    """The parameters of the programs, anew in the store."""
    pyro.clear_param_store()
    store = pyro.get_param_store()
    for name, value in programs.params.items():
        store.setdefault(name, backend.array(value).clone())
    return {name: store._params[name] for name in programs.params}


# Stock engines, and other programs


def stock_step_in_pyro(
    loss: Any, programs: Programs, draws: Drawn
) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of the first step of `pyro.infer.SVI`, and the parameters after it."""
    backend, carry = PyroBackend(), Carry(draws)
    leaves = fill_store(backend, programs)
    model, guide = map(carry.marked, ("model", "guide"), programs.make(backend))
    optim = pyro.optim.SGD({"lr": STOCK_RATE})
    svi = pyro.infer.SVI(model, guide, optim, copy.deepcopy(loss))
    with given_numbers(), carry:
        value = svi.step(backend.array(programs.data), **programs.kwargs)
    return value, {name: leaf.detach().numpy() for name, leaf in leaves.items()}


def stock_states_in_numpyro(loss: Any, programs: Programs) -> tuple[Any, Any]:
    """The shapes of what `numpyro.infer.SVI` keeps, before and after a step."""
    backend = NumPyroBackend()
    model, guide = programs.make(backend)

    values = {name: backend.array(value) for name, value in programs.params.items()}
    model, guide = (handlers.substitute(program, data=values) for program in (model, guide))
    svi = SVI(model, loss.attach(guide), optax.sgd(STOCK_RATE), loss)
    x = backend.array(programs.data)
    before = jax.eval_shape(lambda: svi.init(jax.random.key(0), x, **programs.kwargs))
    after, _ = jax.eval_shape(lambda state: svi.update(state, x, **programs.kwargs), before)
    return before, after


def evaluate_anew(name: str, loss: Any, programs: Programs) -> None:
    """The loss evaluated on any programs, as users do it."""
    backend = {"pyro": PyroBackend, "numpyro": NumPyroBackend}[name]()
    model, guide = programs.make(backend)
    x = backend.array(programs.data)
    if name == "pyro":
        fill_store(backend, programs)
        loss.evaluate(model, guide, (x,), programs.kwargs)
        return
    params = {name: backend.array(value) for name, value in programs.params.items()}
    jax.eval_shape(
        jax.grad(
            lambda params: (
                loss.evaluate(jax.random.key(0), params, model, guide, (x,), programs.kwargs).loss
            )
        ),
        params,
    )


class Found:
    """A case, and what both libraries find for it."""

    def __init__(self, case: Loss) -> None:
        self.case, self.programs = case, PROGRAMS[case.programs]

    @cached_property
    def losses(self) -> dict[str, Any]:
        """As written, by library, through a pickle."""
        return {
            backend.name: pickle.loads(pickle.dumps(made(backend, self.case)))
            for backend in (PyroBackend(), NumPyroBackend())
        }

    @cached_property
    def twins(self) -> tuple[Any, Any]:
        """The losses with equal weights of their players, at no special values."""
        ours, theirs = (copy.deepcopy(loss) for loss in self.losses.values())
        programs, backend = self.programs, PyroBackend()
        fill_store(backend, programs)
        joints = ours.joints(*programs.make(backend), (backend.array(programs.data),))
        players = zip(plain_players(ours), plain_players(theirs), strict=True)
        for index, (term, twin) in enumerate(players):
            state = term.init_state(joints)
            if twin.critic is None:
                twin.critic = default_critic(tuple(state["shape"].tolist()), jax.random.key(0))
            term.critic = shake(state["critic"], seed=index)
            twin.critic = copy_weights(term.critic, twin.critic)
        for (_, term), (_, twin) in zip(ours.terms, theirs.terms, strict=True):
            if hasattr(term, "teacher"):
                twin.teacher = copy_weights(shake(term.teacher), twin.teacher)
        return ours, theirs

    @cached_property
    def numpyro(self) -> tuple[Evaluated, float, Drawn]:
        """What `in_numpyro` finds."""
        return in_numpyro(self.twins[1], self.programs)

    @cached_property
    def pyro(self) -> Evaluated:
        """The same loss at the same draws in Pyro."""
        return self.again()

    def again(self, loss: Any = None, **changes: Any) -> Evaluated:
        """In Pyro once more, of another loss or with another data size or step."""
        return in_pyro(loss or self.twins[0], self.programs, self.numpyro[2], **changes)

    def assert_twins_agree(self) -> None:
        """Values, terms, gradients of model and guide, and the critics after an update, to 1e-10;
        in NumPyro of 0.5 loss + 2.0 loss.
        """
        ours, (theirs, alone, _) = self.pyro, self.numpyro
        assert theirs.data_size == ours.data_size
        close(2.5 * ours.loss, theirs.loss)
        close(ours.per_datum, alone)
        for name, term in ours.terms.items():
            close(term, theirs.terms[name], name)
        assert ours.gradients.keys() == theirs.gradients.keys()
        for name, gradient in ours.gradients.items():
            close(2.5 * gradient, theirs.gradients[name], name, ours.data_size)
        assert ours.critics.keys() == theirs.critics.keys()
        for name, weight in ours.critics.items():
            close(weight, theirs.critics[name], name)
        assert any(np.abs(gradient).max() > 1e-6 for gradient in ours.gradients.values())


def close(ours: Any, theirs: Any, what: str = "", scale: float = 1.0) -> None:
    """Equal to 1e-10, relative or at this scale."""
    tolerance = 1e-10 * max(1.0, scale)
    np.testing.assert_allclose(theirs, ours, rtol=1e-10, atol=tolerance, err_msg=what)
