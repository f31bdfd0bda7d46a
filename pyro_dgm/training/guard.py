"""What to do when a number is not finite: find where it began, and go back to what was good."""

import cmath
import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from dgm_core.schedules import value_of
from pyro_dgm.losses import Loss
from pyro_dgm.losses.state import restored, snapshot, tensors_of
from pyro_dgm.training.batches import Batch
from pyro_dgm.training.compiling import plain_step
from pyro_dgm.training.step import Parameters, Step
from pyro_dgm.training.updates import Updates

__all__: list[str] = []  # for the package, not for users

Where = tuple[str | None, str, str]  # the site or parameter; what is not finite; why


class Everything:
    """All that a step changes, where it lies: weights, running statistics, critics, optimizers,
    the average, random states.
    """

    def __init__(self, parameters: Parameters, updates: Updates, step: Step) -> None:
        self.parameters, self.updates, self.step = parameters, updates, step
        self.named_parameters = dict(parameters.distinct)
        self.weights: dict[str, dict[str, Tensor]] = {
            "parameters": {**self.named_parameters},
            "buffers": parameters.buffers,
        }
        self._odd = {name for name, value in self.named() if _first_bad(value)}
        for name, value in (*parameters.sites.items(), *tensors_of(step.states).items()):
            if value.isnan().any():
                raise ValueError(
                    f"'{name}' holds NaN before the first step: start from finite weights "
                    "(pyro.clear_param_store() forgets those of an earlier run)."
                )

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Copies of the weights of all networks, of their running statistics and of what the terms
        of the loss keep.
        """
        return snapshot({**self.weights, "states": self.step.states})

    def put(self, kept: Mapping[str, Mapping[str, Any]] | None) -> None:
        """The weights as they were."""
        if kept is None:
            return
        with torch.no_grad():
            for kind, tensors in self.weights.items():
                for name, tensor in tensors.items():
                    tensor.copy_(kept[kind][name])
        self.step.states = restored(self.step.states, kept["states"])

    def copies(self) -> dict[str, Any]:
        """All of it, as it is now."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        updates = copy.deepcopy(self.updates.state())
        random = (pyro.util.get_rng_state(), cuda)
        return {"weights": self.snapshot(), "updates": updates, "random": random}

    def back(self, copies: Mapping[str, Any]) -> None:
        """All of it, as it was."""
        self.put(copies["weights"])
        self.updates.restore(copies["updates"])
        random, cuda = copies["random"]
        pyro.util.set_rng_state(random)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    def named(self) -> Iterator[tuple[tuple[str | None, str], Tensor]]:
        """Every tensor, with the site it belongs to and its name in words, in the order in which a
        step changes them.
        """
        for term, state in self.step.states.items():
            for path, value in tensors_of(state).items():
                part, _, inside = path.partition(".")
                what = f"weight '{inside}' of the {part}" if inside else f"'{part}' in the state"
                yield (term, f"{what} of {term}"), value
        of = {id(value): name for name, value in self.weights["parameters"].items()}
        for name, value in self.weights["parameters"].items():
            yield (name, f"parameter '{name}'"), value
        for name, value in self.weights["buffers"].items():
            yield (None, f"the running statistic '{name}'"), value
        for weight, average in zip(self.updates.weights, self.updates.average or ()):
            name = of[id(weight)]
            yield (name, f"the average of parameter '{name}'"), average
        for parameter, state in self.updates.optimizer.state.items():
            name = of[id(parameter)]
            for value in _tensors(state):
                yield (name, f"the state of the optimizer for parameter '{name}'"), value
        for term, state in self.step.states.items():
            for value in state.values():
                if hasattr(value, "state_dict") and not isinstance(value, nn.Module):
                    for tensor in _tensors(value.state_dict()):
                        yield (term, f"the state of the optimizer of the critic of {term}"), tensor

    def first_bad(self) -> tuple[str | None, str] | None:
        """The first tensor that is not finite, by site and name; those that began so do not count.

        Cost:
            one pass over all numbers.
        """
        pairs = [(name, v) for name, v in self.named() if name not in self._odd and v.numel()]
        pairs = [(name, v) for name, v in pairs if v.is_floating_point() or v.is_complex()]
        sums = torch.stack([value.detach().sum().to(torch.complex128) for _, value in pairs])
        for (name, value), total in zip(
            pairs, sums.tolist(), strict=True
        ):  # a sum is fast, and ...
            if not cmath.isfinite(total) and not value.isfinite().all():  # ... may itself overflow
                return name
        return None


def explain_nonfinite(
    step: Step,
    updates: Updates,
    everything: Everything,
    batch: Batch,
    number: Tensor,
    spoiled: tuple[str | None, str] | None,
) -> Where:
    """The first site that is not finite in a step, what is not finite, and why.

    Runs model and guide once more, uncompiled, from the state before that step; `spoiled` is the
    first tensor that was not finite after it.
    """
    factor = updates.factor(int(number))
    if not math.isfinite(factor) or factor < 0:
        return None, "The learning rate is no number of at least 0", f"lr_schedule gives {factor}"
    parameters = everything.named_parameters
    random = torch.get_rng_state()
    notes, values = watched_values(step, batch, number)
    if not notes and values.isfinite().all():
        torch.set_rng_state(random)
        plain_step(step, step, parameters, batch, number)
        notes = [
            (name, f"the gradient with respect to parameter '{name}' is not finite")
            for name, parameter in parameters.items()
            if parameter.grad is not None and _first_bad(parameter.grad)
        ]
    subject = _subject(step.loss, values)
    if notes:
        return notes[0][0], subject, notes[0][1]
    for words, weight, least in step.loss.schedules:
        now = float(value_of(weight, number))
        if not math.isfinite(now) or now < least:
            return None, subject, f"{words} is {now}"
    if spoiled is not None:
        return spoiled[0], subject, f"the step makes {spoiled[1]} not finite"
    return None, subject, "every site is finite"


def watched_values(
    step: Step, batch: Batch, number: Tensor
) -> tuple[list[tuple[str, str]], Tensor]:
    """What is not finite in one run of guide and model, by site, and the loss and its terms."""
    notes: list[tuple[str, str]] = []
    model, guide = step.model, step.guide
    step.model, step.guide = _Watch("model", notes)(model), _Watch("guide", notes)(guide)
    buffers = [buffer.clone() for buffer in step.buffers()]
    try:
        with torch.no_grad():
            _, values = step.on(batch, number)
    finally:
        step.model, step.guide = model, guide
        for buffer, old in zip(step.buffers(), buffers):
            buffer.data.copy_(old)
    notes.sort(key=lambda note: " observes " not in note[1])  # the cause of all else
    return notes, values


def _subject(loss: Loss, values: Tensor) -> str:
    names = (*loss.term_names, "The loss")
    numbers = (*values[1:].tolist(), values[0].item())
    bad = (f"{name} is {value}" for name, value in zip(names, numbers) if not math.isfinite(value))
    return next(bad, "The update is not finite")


class _Watch(Messenger):
    """Notes, in the order in which they are reached, the parameters and sites of a function whose
    value or log-density is not finite.
    """

    def __init__(self, owner: str, notes: list[tuple[str, str]]) -> None:
        super().__init__()
        self.owner, self.notes = owner, notes

    def _pyro_post_param(self, msg: Message) -> None:
        if bad := _first_bad(msg["value"]):
            reason = f"parameter '{msg['name']}' of the {self.owner} has the value {bad}"
            self.notes.append((msg["name"], reason))

    def _pyro_post_sample(self, msg: Message) -> None:
        if site_is_subsample(msg):
            return
        name, value, observed = msg["name"], msg["value"], msg["is_observed"]
        try:
            log_prob = scale_and_mask(msg["fn"].log_prob(value), mask=msg["mask"])
        except Exception:  # a site without a density
            log_prob = torch.zeros(())
        site = f"site '{name}' of the {self.owner}"
        bad = _first_bad(value)
        if bad and not (observed and not _first_bad(log_prob)):  # an observation may be masked
            self.notes.append((name, f"{site} {'observes' if observed else 'has the value'} {bad}"))
        elif bad := _first_bad(log_prob):
            self.notes.append((name, f"{site} has log_prob {bad}"))


def _first_bad(value: Tensor | None) -> str:
    """The first number that is not finite, as text; empty where there is none."""
    if value is None or not value.is_floating_point():
        return ""
    bad = value.detach()[~value.isfinite()]
    return str(bad.reshape(-1)[0].item()) if bad.numel() else ""


def _tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested dicts and lists."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(part)
