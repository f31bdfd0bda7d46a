"""Conditionals of sequences."""

from collections.abc import Callable
from typing import Any

from dgm_core.contexts import Labels
from tests.kinds import Path


def step(build: Callable[..., Any], context: Any) -> Any:
    """A transition of states (2,), with the control inputs of a step of this context."""
    given = (2, context[1:]) if context else 2
    return build("conditionals", "LinearNormal", 2, context_shape=given)


def chain(build: Callable[..., Any], context: Any) -> Any:
    """A linear-Gaussian path of 3 steps."""
    return build("conditionals", "Markov", step(build, context), 3)


def linear(build: Callable[..., Any], context: Any) -> tuple[Any, ...]:
    """The prior and the emission of a linear-Gaussian model, with these control inputs."""
    return chain(build, context), build("conditionals", "LinearNormal", 2, context_shape=2)


PATHS: dict[str, Path] = {
    "Steps": Path(
        "Steps",
        parts=lambda build, context: (
            build("conditionals", "DiagonalNormal", 2, context_shape=context[1:] if context else 0),
            3,
        ),
    ),
    "Markov": Path(
        "Markov",
        parts=lambda build, context: (step(build, context), 3),
        mean=False,
        contexts=((3, 4),),
    ),
    "Markov-gated": Path(
        "Markov",
        parts=lambda build, _: (build("conditionals", "GatedTransition", 2, 4), 3),
        mean=False,
        contexts=(0,),
    ),
    "Markov-combiner": Path(
        "Markov",
        parts=lambda build, _: (build("conditionals", "Combiner", 2, 4), 3),
        mean=False,
        contexts=((3, 4),),
    ),
    "AffineMarkov": Path("AffineMarkov"),
    "LinearGaussian": Path("LinearGaussian", parts=linear, contexts=((3, 4),)),
    "KalmanSmoother": Path(
        "KalmanSmoother", parts=lambda build, _: linear(build, 0), contexts=((3, 2),)
    ),
    "Reshaped": Path(
        "Reshaped",
        parts=lambda build, context: (
            build("conditionals", "FullRankNormal", 6, context_shape=context),
            (3, 2),
        ),
        mean=False,
        contexts=((3, 4),),
    ),
    "HiddenMarkov": Path(
        "HiddenMarkov",
        parts=lambda build, _: (
            build("conditionals", "DiagonalNormal", 2, context_shape=Labels(3)),
            3,
        ),
        rsample=False,
        contexts=(0,),
    ),
}
