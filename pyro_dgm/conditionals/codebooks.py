"""Codes: a finite set of vectors e_1, ..., e_K, the point mass at the one that is nearest to a
vector, and distributions of them.

A value is an array of vectors, (D,) or (D, height, width): the embedding, through which gradients
pass. A distribution of index maps is one of such values, with the same probabilities.
"""

from abc import ABC, abstractmethod
from math import log, prod
from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from dgm_core.quantization import grid_constants, not_a_code_map

__all__ = ["CodePrior", "Quantized"]


class Codebook(ABC):
    """A finite set of vectors (D,), numbered from zero.

    num_codes: K;  dim: D;  learned: whether gradients train the codes.
    """

    num_codes: int
    dim: int
    learned = False

    def points(self, vectors: Tensor) -> Tensor:
        """What is quantized of vectors (*batch, D) that a network gives."""
        return vectors

    @abstractmethod
    def indices(self, points: Tensor) -> Tensor:
        """The numbers of the codes that are nearest to points (*batch, D): (*batch,)."""

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """The codes of these numbers, (*batch, D)."""


class Nearest(Codebook):
    """The rows of a matrix (K, D); nearness by one product of matrices, |e|^2 - 2 z e'."""

    def __init__(self, codes: Tensor, learned: bool = False) -> None:
        self.codes, self.learned = codes, learned
        self.num_codes, self.dim = codes.shape

    def indices(self, points: Tensor) -> Tensor:
        """The first of the nearest."""
        with torch.no_grad():
            lengths = self.codes.square().sum(-1)
            flat = points.reshape(-1, self.dim).to(self.codes.dtype)
            scores = torch.addmm(lengths, flat, self.codes.mT, alpha=-2)
            return scores.argmin(-1).reshape(points.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Rows of the matrix."""
        return torch.nn.functional.embedding(indices.long(), self.codes)


class Grid(Codebook):
    """Levels in each entry, from -1 upwards: round(tanh(z)) in steps of half of their number."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        self.levels, self.dim, self.num_codes = levels, len(levels), prod(levels)
        self.constants = tuple(zip(*grid_constants(levels), strict=True))

    def points(self, vectors: Tensor) -> Tensor:
        """Bounded by tanh, so that every entry has its levels and zero stays zero."""
        half, offset, shift, low, _ = map(vectors.new_tensor, self.constants)
        return (torch.tanh(vectors + shift) * half - offset) / low

    def indices(self, points: Tensor) -> Tensor:
        """The level of each entry, in mixed radix."""
        with torch.no_grad():
            low, weight, last = self._integers(points.device)
            level = (points.nan_to_num() * low).round().long() + low
            return (level.clamp(min=0).minimum(last) * weight).sum(-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """The levels that a number says."""
        low, weight, last = self._integers(indices.device)
        level = indices.long()[..., None].div(weight, rounding_mode="floor") % (last + 1)
        return (level - low).to(torch.get_default_dtype()) / low

    def _integers(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        *_, low, weight = self.constants
        level = torch.tensor(self.levels, device=device)
        return torch.tensor(low, device=device), torch.tensor(weight, device=device), level - 1


class IsCode(constraints.Constraint):
    """Arrays whose vectors, along the first axis of the event, are codes."""

    is_discrete = True

    def __init__(self, codebook: Codebook, event_dim: int) -> None:
        self.codebook, self._event_dim = codebook, event_dim
        super().__init__()

    @property
    def event_dim(self) -> int:
        """That of an array of codes."""
        return self._event_dim

    def at_positions(self, value: Tensor) -> Tensor:
        """Whether the vector at each position is one, up to rounding."""
        vectors = vectors_of(value, self.event_dim)
        codes = self.codebook.lookup(self.codebook.indices(vectors))
        return same_vectors(codes, vectors)

    def check(self, value: Tensor) -> Tensor:
        """Whether all vectors of a value are."""
        good = self.at_positions(value)
        return good if self.event_dim == 1 else good.flatten(1 - self.event_dim).all(-1)


class Quantized(TorchDistribution):
    """The point mass at the codes nearest to vectors:  z = e_k,  k = argmin_j |c - e_j|.

    A draw is the code exactly, and its gradient goes to the vector that was quantized, as if
    nothing had been rounded (straight-through). NaN where the vector is not finite.

    Attributes:
        codebook: what was searched;  points: the vectors (*batch, *positions, D);  indices: of
            their codes, (*batch, *positions).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self, codebook: Codebook, points: Tensor, num_positions: int, indices: Tensor | None = None
    ) -> None:
        self.codebook, self.points, self.num_positions = codebook, points, num_positions
        self.indices = codebook.indices(points) if indices is None else indices
        self._drawn: Tensor | None = None
        split = points.ndim - 1 - num_positions
        event = torch.Size((codebook.dim, *points.shape[split:-1]))
        super().__init__(points.shape[:split], event, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Arrays of codes."""
        return IsCode(self.codebook, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The codes themselves."""
        return self.rsample()

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "Quantized":
        """The same distribution with a larger batch shape."""
        positions = self.event_shape[1:]
        points = self.points.expand(*batch_shape, *positions, -1)
        indices = self.indices.expand(*batch_shape, *positions)
        return Quantized(self.codebook, points, self.num_positions, indices)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """The codes, (*sample_shape, *batch, *event)."""
        codes = self.codebook.lookup(self.indices).detach()
        drawn = codes + (self.points - self.points.detach())  # the code exactly, or NaN
        drawn = drawn.movedim(-1, -1 - self.num_positions)
        self._drawn = drawn.expand(*sample_shape, *drawn.shape)
        return self._drawn

    def log_prob(self, value: Tensor) -> Tensor:
        """log 1 = 0 of these codes, -inf of others: (*batch, *event) -> (*batch,)."""
        if value is self._drawn:  # known without a search
            return (value.detach() * 0).flatten(-len(self.event_shape)).sum(-1)
        vectors = vectors_of(value, len(self.event_shape))
        same = self.codebook.indices(vectors) == self.indices
        same = same | same_vectors(self.codebook.lookup(self.indices), vectors)
        return log_of(same, value, len(self.event_shape))

    def objective(self, value: Tensor) -> dict[str, Tensor]:
        """What brings vectors and codes together, per entry and value: "commitment", |c - e|^2
        with the gradient of the vector, and "codebook", the same with that of the code, where
        gradients train it.
        """
        codes = self.codebook.lookup(self.indices)
        axes = tuple(range(-1 - self.num_positions, 0))
        costs = {"commitment": (self.points - codes.detach()).square().mean(axes)}
        if self.codebook.learned:
            costs["codebook"] = (self.points.detach() - codes).square().mean(axes)
        return costs


class CodePrior(TorchDistribution):
    """The distribution of arrays of codes:  z = e_k,  k ~ prior, a distribution of index maps.

    p(z) = prior(k) where z is an array of codes, and zero elsewhere.

    Attributes:
        codebook: the codes;  positions: the shape of an index map;  prior: of index maps, in any
            shape with as many entries; None for the uniform one, log p(z) = -positions ln K.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        codebook: Codebook,
        positions: tuple[int, ...],
        prior: TorchDistribution | None = None,
        batch_shape: tuple[int, ...] = (),
    ) -> None:
        self.codebook, self.positions, self.prior = codebook, tuple(positions), prior
        if prior is not None:
            event = tuple(prior.event_shape)
            if prod(event) != prod(self.positions) or not event:
                raise ValueError(not_a_code_map(event, self.positions, codebook.num_codes))
            batch_shape = prior.batch_shape
        event_shape = torch.Size((codebook.dim, *positions))
        super().__init__(torch.Size(batch_shape), event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Arrays of codes."""
        return IsCode(self.codebook, len(self.event_shape))

    def of(self, prior: TorchDistribution) -> "CodePrior":
        """The same codes with another distribution of index maps."""
        return CodePrior(self.codebook, self.positions, prior)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "CodePrior":
        """The same distribution with a larger batch shape."""
        prior = None if self.prior is None else self.prior.expand(batch_shape)
        return CodePrior(self.codebook, self.positions, prior, tuple(batch_shape))

    def indices(self, value: Tensor) -> Tensor:
        """The index maps (*batch, *positions) of arrays of codes."""
        return self.codebook.indices(vectors_of(value, len(self.event_shape)))

    def embedded(self, indices: Tensor) -> Tensor:
        """The arrays of codes (*batch, D, *positions) of index maps (*batch, *positions)."""
        return self.codebook.lookup(indices).movedim(-1, -1 - len(self.positions))

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws without gradient."""
        with torch.no_grad():
            if self.prior is None:
                shape = (*sample_shape, *self.batch_shape, *self.positions)
                return self.embedded(torch.randint(self.codebook.num_codes, shape))
            drawn = self.prior.sample(torch.Size(sample_shape))
            batch = drawn.shape[: drawn.ndim - len(self.prior.event_shape)]
            return self.embedded(drawn.reshape(*batch, *self.positions))

    def log_prob(self, value: Tensor) -> Tensor:
        """log prior(k), -inf where a vector is no code: (*batch, *event) -> (*batch,)."""
        event_dim = len(self.event_shape)
        log_mass = log_of(IsCode(self.codebook, event_dim).at_positions(value), value, event_dim)
        if self.prior is None:
            log_prob = log_mass - prod(self.positions) * log(self.codebook.num_codes)
            return log_prob + log_prob.new_zeros(self.batch_shape)
        indices = self.indices(value)
        shape = (*indices.shape[: indices.ndim - len(self.positions)], *self.prior.event_shape)
        return self.prior.log_prob(indices.reshape(shape)) + log_mass


def vectors_of(value: Tensor, event_dim: int) -> Tensor:
    """Arrays (*batch, D, *positions) with their vectors last, (*batch, *positions, D)."""
    return value.movedim(-event_dim, -1)


def log_of(good: Tensor, value: Tensor, event_dim: int) -> Tensor:
    """0 where all positions (*batch, *positions) are good, -inf elsewhere, NaN where the value
    (*batch, D, *positions) holds one: (*batch,).
    """
    if event_dim > 1:
        good = good.flatten(1 - event_dim).all(-1)
    mass = torch.where(good, 0.0, -torch.inf).to(value.dtype)
    return mass + (value.detach() * 0).flatten(-event_dim).sum(-1)


def same_vectors(codes: Tensor, vectors: Tensor) -> Tensor:
    """Whether vectors are codes, up to rounding: that of a search by squared lengths too, which
    takes one of two codes for the other that are closer than the root of it.
    """
    length = codes.square().sum(-1, keepdim=True).sqrt()
    rounding = (8 * torch.finfo(codes.dtype).eps) ** 0.5 * length
    return ((codes - vectors).abs() <= 1e-5 * (1 + codes.abs()) + rounding).all(-1)
