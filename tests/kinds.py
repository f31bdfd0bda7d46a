"""What a case says of a conditional, a flow, a network or a model, for the contracts to test."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from dgm_core.contexts import Labels, check_context_shape

Rng = np.random.Generator

# Values in the support of a distribution, of any shape.
VALUES: dict[str, Callable[[Rng, tuple[int, ...]], np.ndarray]] = {
    "real": lambda rng, shape: 1.5 * rng.standard_normal(shape),
    "unit": lambda rng, shape: rng.uniform(0.02, 0.98, shape),
    "binary": lambda rng, shape: rng.integers(0, 2, shape).astype(float),
    "levels": lambda rng, shape: rng.integers(0, 256, shape) / 255,
    "thirds": lambda rng, shape: rng.integers(0, 3, shape) / 2,
    "simplex": lambda rng, shape: rng.dirichlet([2.0] * shape[-1], shape[:-1]),
    "one-hot": lambda rng, shape: np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])],
    "classes": lambda rng, shape: rng.integers(0, 4, shape),
}


def context_of(rng: Rng, context_shape: Any, *batch: int) -> list[np.ndarray]:
    """A context, if there is one, of a size, a shape or labels."""
    if isinstance(context_shape, Labels):
        return [rng.integers(0, context_shape.num_classes, batch)]
    shape = check_context_shape("context_shape", context_shape)
    return [rng.standard_normal((*batch, *shape))] if shape else []


@dataclass(frozen=True)
class Conditional:
    """A conditional distribution: `module.name(*sizes, context_shape=..., **settings)`."""

    name: str
    module: str
    sizes: tuple[Any, ...]
    support: str
    settings: dict[str, Any] = field(default_factory=dict)
    small: tuple[Any, ...] = (1,)  # sizes of one whose density can be integrated over a grid
    rsample: bool = True
    mean: bool = True  # whether it has one in closed form
    contexts: tuple[Any, ...] = (0, 4)  # shapes of contexts, one or none at a time
    outside: float | None = None  # a value that must be refused

    @property
    def event_shape(self) -> tuple[int, ...]:
        dim = self.sizes[0]
        return dim if isinstance(dim, tuple) else (dim,)

    def values(self, rng: Rng, *batch_shape: int) -> np.ndarray:
        return VALUES[self.support](rng, (*batch_shape, *self.event_shape))


@dataclass(frozen=True)
class Autoregressive(Conditional):
    """An autoregressive conditional: `conditionals.name(*sizes, family, context_shape=...,
    **settings)`; the family is a class with settings.
    """

    module: str = "conditionals"
    sizes: tuple[Any, ...] = ()
    support: str = "binary"
    family: tuple[str, dict[str, Any]] = ("Bernoulli", {})
    levels: int = 0  # how many values an entry of a discrete family has
    rsample: bool = False
    mean: bool = False
    blind: bool = False  # whether some of what comes before is not seen

    def made_of(self, conditionals: Any) -> Callable[..., Any]:
        """The family of one library."""
        name, settings = self.family
        return partial(getattr(conditionals, name), **settings)


GIVEN = "the context_shape of the case"


@dataclass(frozen=True)
class Flow(Conditional):
    """A flow: `flows.name(*sizes, context_shape=..., **settings)`; a stack `Flow(dim, transforms)`
    of transforms (name, sizes, settings).
    """

    module: str = "flows"
    sizes: tuple[Any, ...] = (3,)
    support: str = "real"
    small: tuple[Any, ...] = (2,)  # of one whose density can be integrated over a grid; () for none
    transforms: Callable[[int], list[tuple[str, tuple[Any, ...], dict[str, Any]]]] | None = (
        None  # of the dimension; context_shape may be GIVEN
    )
    base: str | None = None  # a prior, where it is not the default
    slow: str = ""  # "sample" or "log_prob": the direction that is not one pass


@dataclass(frozen=True)
class Path(Conditional):
    """A conditional of sequences, of this event shape: where it has parts,
    `module.name(*parts(build, context_shape))`, with the build of a library.
    """

    module: str = "conditionals"
    sizes: tuple[Any, ...] = ((3, 2),)
    support: str = "real"
    parts: Callable[[Callable[..., Any], Any], tuple[Any, ...]] | None = None
    contexts: tuple[Any, ...] = (0, (3, 4))


@dataclass(frozen=True)
class Network:
    """A network: `nn.name(*sizes, **settings)`, applied to arrays (*batch, *in_shape)."""

    name: str
    sizes: tuple[Any, ...]
    in_shape: tuple[int, ...]
    out: int | tuple[int, ...]  # the size or the shape of what comes out
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A model with its guide: `models.name(*sizes, **parts)`; a part is a conditional (module,
    name, sizes, settings).
    """

    name: str
    sizes: tuple[Any, ...]
    x_shape: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, tuple[str, str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    labels: tuple[int, ...] | None = None  # the shape of y; () for integers
    support: str = "binary"

    def data(self, rng: Rng, batch: int) -> tuple[np.ndarray, ...]:
        x = VALUES[self.support](rng, (batch, *self.x_shape))
        if self.labels is None:
            return (x,)
        return x, rng.integers(0, 4, batch) if self.labels == () else rng.standard_normal(
            (batch, *self.labels)
        )


@dataclass(frozen=True)
class Pair(Model):
    """A model with its guide that is trained by a loss of its own: the shapes of its latent sites,
    and the loss, made from the module of losses.
    """

    latents: dict[str, tuple[int, ...]] = field(default_factory=dict)
    loss: Callable[[Any], Any] = lambda losses: losses.ELBO()
