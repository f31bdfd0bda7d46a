"""Codes: a finite set of vectors e_1, ..., e_K, the point mass at the one that is nearest to a
vector, and distributions of them.

A value is an array of vectors, (D,) or (D, height, width): the embedding, through which gradients
pass. A distribution of index maps is one of such values, with the same probabilities.
"""

from abc import abstractmethod
from math import log, prod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.quantization import grid_constants, not_a_code_map

__all__ = ["CodePrior", "Quantized"]


class Codebook(eqx.Module):
    """A finite set of vectors (D,), numbered from zero.

    num_codes: K;  dim: D;  learned: whether gradients train the codes.
    """

    num_codes: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    learned: bool = eqx.field(static=True)

    def points(self, vectors: Array) -> Array:
        """What is quantized of vectors (*batch, D) that a network gives."""
        return vectors

    @abstractmethod
    def indices(self, points: Array) -> Array:
        """The numbers of the codes that are nearest to points (*batch, D): (*batch,)."""

    @abstractmethod
    def lookup(self, indices: Array) -> Array:
        """The codes of these numbers, (*batch, D)."""


class Nearest(Codebook):
    """The rows of a matrix (K, D); nearness by one product of matrices, |e|^2 - 2 z e'."""

    codes: Array

    def __init__(self, codes: Array, learned: bool = False) -> None:
        self.codes, self.learned = codes, learned
        self.num_codes, self.dim = codes.shape

    def indices(self, points: Array) -> Array:
        """The first of the nearest."""
        codes, points = jax.lax.stop_gradient((self.codes, points))
        return (jnp.square(codes).sum(-1) - 2 * (points @ codes.T)).argmin(-1)

    def lookup(self, indices: Array) -> Array:
        """Rows of the matrix; NaN where there is none."""
        return self.codes.at[indices].get(mode="fill", fill_value=jnp.nan)


class Grid(Codebook):
    """Levels in each entry, from -1 upwards: round(tanh(z)) in steps of half of their number."""

    levels: tuple[int, ...] = eqx.field(static=True)
    constants: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, levels: tuple[int, ...]) -> None:
        self.levels, self.dim, self.num_codes = levels, len(levels), prod(levels)
        self.learned = False
        self.constants = tuple(zip(*grid_constants(levels), strict=True))

    def points(self, vectors: Array) -> Array:
        """Bounded by tanh, so that every entry has its levels and zero stays zero."""
        half, offset, shift, low, _ = (jnp.array(x, vectors.dtype) for x in self.constants)
        return (jnp.tanh(vectors + shift) * half - offset) / low

    def indices(self, points: Array) -> Array:
        """The level of each entry, in mixed radix."""
        low, weight, last = self._integers()
        level = jnp.round(jnp.nan_to_num(jax.lax.stop_gradient(points)) * low).astype(int) + low
        return (jnp.clip(level, 0, last) * weight).sum(-1)

    def lookup(self, indices: Array) -> Array:
        """The levels that a number says."""
        low, weight, last = self._integers()
        level = indices[..., None] // weight % (last + 1)
        return (level - low).astype(float) / low

    def _integers(self) -> tuple[Array, Array, Array]:
        *_, low, weight = self.constants
        return jnp.array(low), jnp.array(weight), jnp.array(self.levels) - 1


class IsCode(constraints.ParameterFreeConstraint):
    """Arrays whose vectors, along the first axis of the event, are codes."""

    is_discrete = True

    def __init__(self, codebook: Codebook, event_dim: int) -> None:
        self.codebook, self._event_dim = codebook, event_dim

    @property
    def event_dim(self) -> int:
        """That of an array of codes."""
        return self._event_dim

    def at_positions(self, value: Array) -> Array:
        """Whether the vector at each position is one, up to rounding."""
        vectors = vectors_of(value, self.event_dim)
        codes = self.codebook.lookup(self.codebook.indices(vectors))
        return same_vectors(codes, vectors)

    def __call__(self, x: Array) -> Array:
        """Whether all vectors of a value are."""
        return self.at_positions(x).all(tuple(range(1 - self.event_dim, 0)))

    def feasible_like(self, prototype: Array) -> Array:
        """Zeros of this shape."""
        return jnp.zeros_like(prototype)

    def eq(self, other: object, static: bool = False) -> bool:
        """Whether another is the same."""
        return self is other

    def tree_flatten(self) -> tuple[tuple[()], tuple[tuple[()], dict[str, Any]]]:
        """What `jax` sees: nothing."""
        return (), ((), {"codebook": self.codebook, "_event_dim": self._event_dim})


class Quantized(Distribution):
    """The point mass at the codes nearest to vectors:  z = e_k,  k = argmin_j |c - e_j|.

    A draw is the code exactly, and its gradient goes to the vector that was quantized, as if
    nothing had been rounded (straight-through). NaN where the vector is not finite.

    Attributes:
        codebook: what was searched;  points: the vectors (*batch, *positions, D);  indices: of
            their codes, (*batch, *positions).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("codebook", "points", "indices")
    pytree_aux_fields = ("num_positions", "_drawn")
    has_rsample = True

    def __init__(
        self, codebook: Codebook, points: Array, num_positions: int, indices: Array | None = None
    ) -> None:
        self.codebook, self.points, self.num_positions = codebook, points, num_positions
        self.indices = codebook.indices(points) if indices is None else indices
        self._drawn: Array | None = None
        split = points.ndim - 1 - num_positions
        event = (codebook.dim, *points.shape[split:-1])
        super().__init__(points.shape[:split], event, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Arrays of codes."""
        return IsCode(self.codebook, len(self.event_shape))

    @property
    def mean(self) -> Array:
        """The codes themselves."""
        return self._codes()

    def expand(self, batch_shape: tuple[int, ...]) -> "Quantized":
        """The same distribution with a larger batch shape."""
        positions = self.event_shape[1:]
        points = jnp.broadcast_to(self.points, (*batch_shape, *positions, self.codebook.dim))
        indices = jnp.broadcast_to(self.indices, (*batch_shape, *positions))
        return Quantized(self.codebook, points, self.num_positions, indices)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """The codes, (*sample_shape, *batch, *event)."""
        drawn = self._codes()
        self._drawn = jnp.broadcast_to(drawn, (*sample_shape, *drawn.shape))
        return self._drawn

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """log 1 = 0 of these codes, -inf of others: (*batch, *event) -> (*batch,)."""
        if value is self._drawn:  # known without a search
            return (jax.lax.stop_gradient(value) * 0).sum(tuple(range(-len(self.event_shape), 0)))
        vectors = vectors_of(value, len(self.event_shape))
        same = self.codebook.indices(vectors) == self.indices
        same = same | same_vectors(self.codebook.lookup(self.indices), vectors)
        return log_of(same, value, len(self.event_shape))

    def objective(self, value: Array) -> dict[str, Array]:
        """What brings vectors and codes together, per entry and value: "commitment", |c - e|^2
        with the gradient of the vector, and "codebook", the same with that of the code, where
        gradients train it.
        """
        codes = self.codebook.lookup(self.indices)
        axes = tuple(range(-1 - self.num_positions, 0))
        fixed, points = jax.lax.stop_gradient((codes, self.points))
        costs = {"commitment": jnp.square(self.points - fixed).mean(axes)}
        if self.codebook.learned:
            costs["codebook"] = jnp.square(points - codes).mean(axes)
        return costs

    def _codes(self) -> Array:
        codes, points = jax.lax.stop_gradient((self.codebook.lookup(self.indices), self.points))
        drawn = codes + (self.points - points)  # the code exactly, or NaN
        return jnp.moveaxis(drawn, -1, -1 - self.num_positions)


class CodePrior(Distribution):
    """The distribution of arrays of codes:  z = e_k,  k ~ prior, a distribution of index maps.

    p(z) = prior(k) where z is an array of codes, and zero elsewhere.

    Attributes:
        codebook: the codes;  positions: the shape of an index map;  prior: of index maps, in any
            shape with as many entries; None for the uniform one, log p(z) = -positions ln K.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("codebook", "prior")
    pytree_aux_fields = ("positions",)
    has_rsample = False

    def __init__(
        self,
        codebook: Codebook,
        positions: tuple[int, ...],
        prior: Distribution | None = None,
        batch_shape: tuple[int, ...] = (),
    ) -> None:
        self.codebook, self.positions, self.prior = codebook, tuple(positions), prior
        if prior is not None:
            event = tuple(prior.event_shape)
            if prod(event) != prod(self.positions) or not event:
                raise ValueError(not_a_code_map(event, self.positions, codebook.num_codes))
            batch_shape = prior.batch_shape
        event_shape = (codebook.dim, *positions)
        super().__init__(tuple(batch_shape), event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Arrays of codes."""
        return IsCode(self.codebook, len(self.event_shape))

    def of(self, prior: Distribution) -> "CodePrior":
        """The same codes with another distribution of index maps."""
        return CodePrior(self.codebook, self.positions, prior)

    def expand(self, batch_shape: tuple[int, ...]) -> "CodePrior":
        """The same distribution with a larger batch shape."""
        prior = None if self.prior is None else self.prior.expand(batch_shape)
        return CodePrior(self.codebook, self.positions, prior, tuple(batch_shape))

    def indices(self, value: Array) -> Array:
        """The index maps (*batch, *positions) of arrays of codes."""
        return self.codebook.indices(vectors_of(value, len(self.event_shape)))

    def embedded(self, indices: Array) -> Array:
        """The arrays of codes (*batch, D, *positions) of index maps (*batch, *positions)."""
        codes = self.codebook.lookup(indices)
        return jnp.moveaxis(codes, -1, -1 - len(self.positions))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws without gradient."""
        if self.prior is None:
            shape = (*sample_shape, *self.batch_shape, *self.positions)
            drawn = jax.random.randint(key, shape, 0, self.codebook.num_codes)
        else:
            drawn = self.prior.sample(key, sample_shape)
            batch = drawn.shape[: drawn.ndim - len(self.prior.event_shape)]
            drawn = drawn.reshape(*batch, *self.positions)
        return jax.lax.stop_gradient(self.embedded(drawn))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """log prior(k), -inf where a vector is no code: (*batch, *event) -> (*batch,)."""
        event_dim = len(self.event_shape)
        log_mass = log_of(IsCode(self.codebook, event_dim).at_positions(value), value, event_dim)
        if self.prior is None:
            log_prob = log_mass - prod(self.positions) * log(self.codebook.num_codes)
            return log_prob + jnp.zeros(self.batch_shape)
        indices = self.indices(value)
        shape = (*indices.shape[: indices.ndim - len(self.positions)], *self.prior.event_shape)
        return self.prior.log_prob(indices.reshape(shape)) + log_mass


def vectors_of(value: Array, event_dim: int) -> Array:
    """Arrays (*batch, D, *positions) with their vectors last, (*batch, *positions, D)."""
    return jnp.moveaxis(value, -event_dim, -1)


def log_of(good: Array, value: Array, event_dim: int) -> Array:
    """0 where all positions (*batch, *positions) are good, -inf elsewhere, NaN where the value
    (*batch, D, *positions) holds one: (*batch,).
    """
    mass = jnp.where(good.all(tuple(range(1 - event_dim, 0))), 0.0, -jnp.inf)
    return mass + (jax.lax.stop_gradient(value) * 0).sum(tuple(range(-event_dim, 0)))


def same_vectors(codes: Array, vectors: Array) -> Array:
    """Whether vectors are codes, up to rounding: that of a search by squared lengths too, which
    takes one of two codes for the other that are closer than the root of it.
    """
    length = jnp.sqrt(jnp.square(codes).sum(-1, keepdims=True))
    rounding = (8 * jnp.finfo(codes.dtype).eps) ** 0.5 * length
    return (jnp.abs(codes - vectors) <= 1e-5 * (1 + jnp.abs(codes)) + rounding).all(-1)
