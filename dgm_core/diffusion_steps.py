"""Chains of a diffusion: what one step down is, and what may be asked of it.

    q(x_s | x_t, x) = Normal(data x + noisy x_t, small),  s < t,

with data = alpha_s keep, noisy = alpha_s / alpha_t (1 - keep), small = sigma_s^2 keep, keep = 1 -
exp(gamma_s - gamma_t) and gamma = log(sigma^2 / alpha^2).
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import (
    check_callable,
    check_choice,
    check_count,
    check_instance,
    check_number,
    refuse,
    shown,
)
from dgm_core.contexts import Labels, parts_of

__all__ = ["Steps", "ddim", "guidance", "steps_between"]

PREDICTIONS = ("noise", "data", "velocity", "score")
VARIANCES = ("small", "large", "learned", "optimal")
WEIGHTS = ("simple", "data", "velocity", "min_snr")


class Steps(NamedTuple):
    """The steps of a chain from level 1, ..., S down to 0, ..., S - 1: arrays (S,).

    t: the time;  alpha, sigma: of the noisier end;  below: alpha and sigma of the other;  data,
    noisy, small: of the posterior;  large: sigma_t^2 - alpha_t^2 / alpha_s^2 sigma_s^2, the
    variance of a step up;  floor: small, at level 1 where that is 0 as at level 2 (large where
    there is none).
    """

    t: Any
    alpha: Any
    sigma: Any
    alpha_below: Any
    sigma_below: Any
    data: Any
    noisy: Any
    small: Any
    large: Any
    floor: Any

    def at(self, index: Any) -> Steps:
        """Some of the steps, or one."""
        return Steps(*(part[index] for part in self))


def steps_between(t: Any, log_alpha: Any, variance: Any, xp: Any = np) -> Steps:
    """The steps between levels (S + 1,), the first of which may be without noise.

    Example:
        >>> from dgm_core.diffusion import VP
        >>> schedule = VP(10)
        >>> steps = steps_between(schedule.times(), *schedule.levels())
        >>> steps.small[0].item(), round(steps.small[4].item(), 8)
        (0.0, 0.52032491)
    """
    with np.errstate(divide="ignore"):
        gamma = xp.log(variance) - 2 * log_alpha
    alpha = xp.exp(log_alpha)
    keep = -xp.expm1(gamma[:-1] - gamma[1:])
    sigma = variance**0.5
    small, large = variance[:-1] * keep, variance[1:] * keep
    second = small[1:2] if len(small) > 1 else large
    clean = (small[:1] == 0) * 1.0
    floor = xp.concatenate([small[:1] * (1 - clean) + second * clean, small[1:]])
    return Steps(
        t[1:],
        alpha[1:],
        sigma[1:],
        alpha[:-1],
        sigma[:-1],
        alpha[:-1] * keep,
        alpha[:-1] / alpha[1:] * xp.exp(gamma[:-1] - gamma[1:]),
        small,
        large,
        floor,
    )


def ddim(steps: Steps, eta: float) -> tuple[Any, Any]:
    """The direction coefficient and the standard deviation of DDIM steps,
    x_s = alpha_s x + direction eps + deviation noise,  deviation^2 = eta^2 small.

    Example:
        >>> from dgm_core.diffusion import VP
        >>> schedule = VP(10)
        >>> direction, deviation = ddim(steps_between(schedule.times(), *schedule.levels()), 1.0)
        >>> round(direction[4].item(), 8), round(deviation[4].item() ** 2, 8)
        (0.53304501, 0.52032491)
    """
    variance = eta**2 * steps.small
    rest = steps.sigma_below**2 - variance
    return (rest * (rest > 0)) ** 0.5, variance**0.5


def guidance(w: Any, scale: Any) -> float:
    """The weight g in  u + g (c - u)  of what a network predicts with (c) and without (u) a
    context, from one of two conventions: (1 + w) c - w u, or g itself.

    Example:
        >>> guidance(2.0, None), guidance(None, 3.0)
        (3.0, 3.0)
        >>> guidance(None, None)
        Traceback (most recent call last):
        ValueError: Guidance needs one of w, as in (1 + w) c - w u, and scale, as in u + scale \
(c - u), got w=None and scale=None.
    """
    if (w is None) == (scale is None):
        raise ValueError(
            "Guidance needs one of w, as in (1 + w) c - w u, and scale, as in u + scale (c - u), "
            f"got w={shown(w)} and scale={shown(scale)}."
        )
    return check_number("scale", scale) if w is None else 1.0 + check_number("w", w)


def check_kind(predict: Any, variance: Any) -> None:
    """Raise a ValueError for a prediction or a variance that there is not."""
    check_choice("predict", predict, PREDICTIONS)
    check_choice("variance", variance, VARIANCES)


def check_output(owner: Any, found: Any, wanted: tuple[int, ...], event: tuple[int, ...]) -> None:
    """Raise a ValueError unless a network gives an array of the right shape.

    Example:
        >>> check_output("Diffusion(2)", np.zeros((5, 2)), (5, 2), (2,))
    """
    shape = getattr(found, "shape", None)
    if shape is None or tuple(shape) != tuple(wanted):
        raise ValueError(
            f"The network of {owner} must give arrays of shape {tuple(wanted)} for values of shape "
            f"{(wanted[0], *event)}, got {type(found).__name__ if shape is None else tuple(shape)}."
        )


def check_batches(owner: Any, found: Any, own: Any) -> tuple[int, ...]:
    """The batch shape of values and of the distribution that they are values of.

    Example:
        >>> check_batches("Diffusion(2)", (5, 3), (3,))
        (5, 3)
        >>> check_batches("Diffusion(2)", (3,), (2,))
        Traceback (most recent call last):
        ValueError: Diffusion(2) has the batch shape (2,), and values of batch shape (3,) do not \
broadcast with it: hand over as many values as contexts.
    """
    try:
        return np.broadcast_shapes(tuple(found), tuple(own))
    except ValueError:
        raise ValueError(
            f"{owner} has the batch shape {tuple(own)}, and values of batch shape {tuple(found)} "
            "do not broadcast with it: hand over as many values as contexts."
        ) from None


def check_event(owner: Any, found: Any, event: tuple[int, ...]) -> int:
    """How many batch dimensions a value has; a ValueError where it ends in no event.

    Example:
        >>> check_event("Diffusion((1, 8, 8))", (5, 8, 8, 1), (1, 8, 8))
        Traceback (most recent call last):
        ValueError: Diffusion((1, 8, 8)) expects values of shape (*batch, 1, 8, 8), channels \
before height and width, got (5, 8, 8, 1).
    """
    split = len(found) - len(event)
    if split < 0 or tuple(found[split:]) != tuple(event):
        image = ", channels before height and width" if len(event) == 3 else ""
        raise ValueError(
            f"{owner} expects values of shape (*batch, {', '.join(map(str, event))}){image}, got "
            f"{tuple(found)}."
        )
    return split


def check_schedule(schedule: Any, kinds: tuple[type, ...], variance: Any) -> None:
    """Raise a ValueError for what is no schedule, or has no levels that variances are learned
    for."""
    check_instance("schedule", schedule, kinds, "a schedule of noise such as Linear(1000) or VP()")
    if variance == "learned" and schedule.num_steps is None:
        raise ValueError(
            'variance="learned" is of the steps of a chain, and continuous time has none: give the '
            f"schedule some, as in VP(1000), got {schedule}."
        )


def output_shape(event: tuple[int, ...], variance: str) -> tuple[int, ...]:
    """What a network gives for a value of this shape: one like it, and as much for the variance.

    Example:
        >>> output_shape((1, 8, 8), "learned"), output_shape((2,), "small")
        ((2, 8, 8), (2,))
    """
    return (2 * event[0], *event[1:]) if variance == "learned" else tuple(event)


def seen_shape(context_shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shape of a context as the network of a diffusion sees it, labels one-hot.

    Example:
        >>> seen_shape(Labels(3)), seen_shape((Labels(3), (2,))), seen_shape(())
        ((3,), ((3,), (2,)), ())
    """
    parts = tuple(tuple(part) for part in parts_of(context_shape))
    return parts if len(parts) > 1 else (*parts, ())[0]


def check_net(net: Any, context_shape: tuple[Any, ...]) -> None:
    """Raise a ValueError for what cannot be called, and for a network that expects another context
    than it is given."""
    check_callable("net", net, "a network that is called net(x, t), or net(x, t, context)")
    own = getattr(net, "context_shape", None)
    if own is None or own == seen_shape(context_shape):
        return
    if Labels in map(type, (own, *own)):
        raise ValueError(
            "Labels reach the network of a diffusion one-hot, so that they can be left out: build "
            f"it with context_shape={own[0]}, not {own}."
            if isinstance(own, Labels)
            else "Labels reach the network of a diffusion one-hot: build it with sizes for Labels, "
            f"got context_shape={own}."
        )
    raise ValueError(
        f"The network of a diffusion with context_shape={context_shape or 0} must have the same, "
        f"got {own or 0}."
    )


def no_null(owner: Any, what: str) -> str:
    """What to say where a network cannot do without its context."""
    return (
        f"{what[0].upper()}{what[1:]} needs a context that training leaves out now and then: build "
        "the diffusion with context_shape=... and drop_context=0.1."
    )


def error_weight(kind: Any, alpha: Any, sigma: Any) -> Any:
    """What the squared error of the noise is multiplied by.

    Example:
        >>> round(error_weight("velocity", 0.6, 0.8), 8)
        2.77777778
    """
    if kind == "simple":
        return 1.0
    if kind == "data":
        return (sigma / alpha) ** 2
    if kind == "velocity":
        return ((alpha**2 + sigma**2) / alpha) ** 2
    noise = 5.0 * (sigma / alpha) ** 2  # 5 / SNR
    return noise * (noise < 1) + 1.0 * (noise >= 1)


def exact_trace(event: tuple[int, ...]) -> bool:
    """Whether the divergence of a flow of such values is computed exactly: up to 64 entries.

    Example:
        >>> exact_trace((64,)), exact_trace((1, 8, 9))
        (True, False)
    """
    return prod(event) <= 64


def no_density(owner: Any, *, guided: bool) -> str:
    """What to say where a density is asked for that there is not."""
    if guided:
        return (
            f"Under guidance {owner} has no density, since the guided noise is that of no "
            "diffusion: it can be drawn from alone."
        )
    return (
        f"{owner} has levels, whose mass no flow gives: use DenoisingELBO, or num_levels=None and "
        "data with noise as wide as a level."
    )


def no_moment(owner: Any, name: str) -> str:
    """What to say where a mean or a variance is asked for."""
    return f"{owner} has no {name} in closed form: take that of draws, as in sample((100,))."


def no_gradient(owner: Any) -> str:
    """What to say where draws with gradients are asked for."""
    return (
        f"Draws of {owner} have no gradient, they take a step for each level: use sample, or a "
        "flow such as IAF."
    )


def no_own_density(owner: Any) -> str:
    """What to say where draws are to be scored that do not come from the flow."""
    return (
        f"{owner} is drawn from step by step and scored along its flow, which is another "
        'distribution: build it with method="ode", that its draws are scored as what they are.'
    )


def check_chain(diffusion: Any) -> None:
    """Raise a ValueError for a diffusion that is no chain of normal distributions."""
    if diffusion.num_levels is not None:
        raise ValueError(
            f"{diffusion} decodes levels, not by a normal distribution: its chain is that of "
            "DenoisingELBO alone; build it with num_levels=None for ordinary sites."
        )


def check_is_teacher(teacher: Any) -> Any:
    """A diffusion; a ValueError for anything else."""
    if not all(hasattr(teacher, name) for name in ("noise", "steps", "own_schedule", "guided")):
        refuse("teacher", "a Diffusion, whose steps are distilled", teacher)
    return teacher


def check_teacher(student: Any, teacher: Any, num_steps: Any) -> int:
    """The steps of a student; a ValueError unless the teacher makes twice as many in the same
    diffusion."""
    check_is_teacher(teacher)
    if teacher is student:
        raise ValueError(
            f"The teacher of {student} is the student itself, which would change with it: give the "
            "student a copy, copy.deepcopy(teacher)."
        )
    for name in ("schedule", "event_shape", "context_shape", "num_levels"):
        own, its = (
            getattr(x, "own_schedule" if name == "schedule" else name) for x in (student, teacher)
        )
        if own is None and name == "schedule":
            raise ValueError(
                f"Distillation needs a fixed schedule such as VP(1000), got {student}, whose "
                "schedule is learned."
            )
        if own != its:
            raise ValueError(f"The teacher must have the {name} of the student, {own}, got {its}.")
    levels = student.schedule.num_steps
    return check_count("num_steps", num_steps, 1, None if levels is None else levels // 2)
