"""What to do when a number is not finite: find the site where it began, and keep the last good
weights.
"""

from collections.abc import Callable, Mapping

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pyro_dgm.training.batches import Batch
from pyro_dgm.training.compiling import plain_step
from pyro_dgm.training.step import Step

__all__: list[str] = []  # for the package, not for users


def explain_nonfinite(
    step: Step, parameters: Mapping[str, nn.Parameter], batch: Batch, number: Tensor
) -> tuple[str | None, str, str]:
    """The first site that is not finite in a step, what is not finite, and why, by running model
    and guide once more, uncompiled.
    """
    for name, parameter in parameters.items():
        if bad := _first_bad(parameter):
            return name, "The update is not finite", f"parameter '{name}' has the value {bad}"
    notes: list[tuple[str, str]] = []
    model, guide = step.model, step.guide
    step.model, step.guide = _watched(model, "model", notes), _watched(guide, "guide", notes)
    buffers = [buffer.clone() for buffer in step.buffers()]
    try:
        with torch.no_grad():
            _, values = step.on(batch, number)
    finally:
        step.model, step.guide = model, guide
    if not notes and values.isfinite().all():
        plain_step(step, step, parameters, batch, number)
        gradients = (
            (name, parameter.grad)
            for name, parameter in parameters.items()
            if parameter.grad is not None
        )
        notes = [
            (name, f"the gradient with respect to parameter '{name}' is not finite")
            for name, gradient in gradients
            if _first_bad(gradient)
        ]
    for buffer, old in zip(step.buffers(), buffers):
        buffer.data.copy_(old)
    notes.sort(
        key=lambda note: " observes " not in note[1]
    )  # what is observed is the cause of all else
    named = zip(
        (*step.loss.term_names, "The loss"), (*values[1:].tolist(), values[0].item()), strict=True
    )
    subject = next(
        (f"{name} is {value}" for name, value in named if _first_bad(torch.tensor(value))),
        "The update is not finite",
    )
    return (notes[0][0], subject, notes[0][1]) if notes else (None, subject, "every site is finite")


def _watched(function: Callable, owner: str, notes: list[tuple[str, str]]) -> Callable:
    return _Watch(owner, notes)(function)


class _Watch(Messenger):
    """Notes, in the order in which they are reached, the parameters and sites of a function whose
    value or log-density is not finite.
    """

    def __init__(self, owner: str, notes: list[tuple[str, str]]) -> None:
        super().__init__()
        self.owner, self.notes = owner, notes

    def _pyro_post_param(self, msg: Message) -> None:
        if bad := _first_bad(msg["value"]):
            self.notes.append(
                (msg["name"], f"parameter '{msg['name']}' of the {self.owner} has the value {bad}")
            )

    def _pyro_post_sample(self, msg: Message) -> None:
        if site_is_subsample(msg):
            return
        name, value, observed = msg["name"], msg["value"], msg["is_observed"]
        try:
            log_prob = scale_and_mask(msg["fn"].log_prob(value), mask=msg["mask"])
        except Exception:  # a site without a density
            log_prob = torch.zeros(())
        if (bad := _first_bad(value)) and not (
            observed and not _first_bad(log_prob)
        ):  # an observation may be masked
            self.notes.append(
                (
                    name,
                    (
                        f"site '{name}' of the {self.owner} "
                        f"{'observes' if observed else 'has the value'} {bad}"
                    ),
                )
            )
        elif bad := _first_bad(log_prob):
            self.notes.append((name, f"site '{name}' of the {self.owner} has log_prob {bad}"))


def _first_bad(value: Tensor | None) -> str:
    """The first number that is not finite, as text; empty where there is none."""
    if value is None or not value.is_floating_point():
        return ""
    bad = value.detach()[~value.isfinite()]
    return str(bad.reshape(-1)[0].item()) if bad.numel() else ""
