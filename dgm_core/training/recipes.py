"""How a guide of some numbers, without an encoder, is trained where nobody says how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dgm_core.arguments import check_count, check_number
from dgm_core.schedules import Schedule, linear

__all__ = ["Recipe"]

RISE = 40  # of the steps of a run, one in so many


@dataclass(frozen=True)
class Recipe:
    """Adam with a step that rises over a fortieth of the run and then falls linearly to zero, and
    a clipped gradient.

    A guide that has a `recipe`, as `JointGuide`, is trained by it where `fit` is given no
    optimizer; `optim=Recipe(...)` trains any other so.  Explicit arguments of `fit` win, one by
    one: `clip_norm`, `lr_schedule`, `loss`, `num_steps` or `num_epochs`.

    Args:
        learning_rate: the first step of Adam, in units of the guide's own scale.
        clip_norm: of the gradient per datum.
        num_steps: of a run that is given neither steps nor epochs.
        num_particles: of the ELBO, where no loss is given.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> Recipe().schedule(1000)
        Schedule((0, 25, 1000), (0.04, 1.0, 0.0))
    """

    learning_rate: float = 0.01
    clip_norm: float = 10.0
    num_steps: int = 4000
    num_particles: int = 8

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("clip_norm", self.clip_norm, above=0)
        check_count("num_steps", self.num_steps)
        check_count("num_particles", self.num_particles)

    def schedule(self, num_steps: int | None) -> Schedule | None:
        """The factor on the step in a run of so many; None where nobody knows how many."""
        if num_steps is None:
            return None
        rise = num_steps // RISE
        if rise < 2:
            return linear(num_steps, 1.0, 0.0)
        return Schedule((0, rise, num_steps), (1 / rise, 1.0, 0.0))


def with_recipe(
    guide: Any, options: Mapping[str, Any], elbo: Callable[..., Any], adam: Callable[[float], Any]
) -> tuple[dict[str, Any], Recipe | None]:
    """The arguments of `fit` with what the recipe of the guide says, and that recipe if the
    schedule of the step is its own.

    Args:
        guide: the guide.
        options: `loss`, `optim`, `clip_norm`, `lr_schedule`, `num_epochs`, `num_steps`, as given.
        elbo: builds the ELBO, of num_particles.
        adam: builds Adam of this learning rate.
    """
    found = dict(options)
    recipe = found["optim"]
    if recipe is None:
        recipe = getattr(guide, "recipe", None)
    if not isinstance(recipe, Recipe):
        found["loss"] = elbo() if found["loss"] is None else found["loss"]
        found["optim"] = adam(1e-3) if found["optim"] is None else found["optim"]
        return found, None
    own = {
        "loss": elbo(num_particles=recipe.num_particles),
        "clip_norm": recipe.clip_norm,
    }
    found |= {name: value for name, value in own.items() if found[name] is None}
    if found["num_epochs"] is None and found["num_steps"] is None:
        found["num_steps"] = recipe.num_steps
    found["optim"] = adam(recipe.learning_rate)
    return found, recipe if found["lr_schedule"] is None else None
