"""Quantizers: a guide's distribution that puts a code in the place of each vector.

z = e_k,  k = argmin_j |c - e_j|, of the codes e_1, ..., e_K; and the priors of codes.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_shape
from dgm_core.contexts import shown_shape
from dgm_core.quantization import check_decay, check_levels
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.codebooks import (
    Codebook,
    CodePrior,
    Grid,
    Nearest,
    Quantized,
    vectors_of,
)
from pyro_dgm.nn.requirements import require
from pyro_dgm.nn.states import is_repeated, rank, summed

__all__ = ["FiniteScalarQuantizer", "Quantizer", "VectorQuantizer"]


class Quantizer(Conditional):
    """Puts a code in the place of each vector of an array: the base of quantizers.

    `quantizer(c)` is the distribution of a guide, a `Quantized` array of codes; `quantizer.prior()`
    is that of a model, a `CodePrior`. The value of both is the array of codes itself, through which
    gradients pass straight on to c, and not their numbers, through which none could: decoders,
    `Reconstruction`, `MMD` see vectors. Log-probabilities are those of the numbers.

    Args:
        dim: D of a vector, or (D, *positions) of an array of vectors, each with a code.

    Attributes:
        positions: the shape of an index map, () of one vector.
        num_codes: K.

    Shapes:
        context (*batch, *dim) -> batch_shape (*batch,), event_shape dim.
    """

    num_codes: int

    def __init__(self, dim: int | tuple[int, ...]) -> None:
        shape = check_shape("dim", dim)
        super().__init__(shape, context_shape=shape)
        self.positions = shape[1:]

    def condition(self, context: Any) -> Quantized:
        """The codes of a checked context."""
        vectors = vectors_of(context, len(self.event_shape))
        codebook = self.searched()
        found = Quantized(codebook, codebook.points(vectors), len(self.positions))
        self.moved(found)
        return found

    def prior(self, indices: Any = None) -> CodePrior:
        """The distribution of arrays of codes whose index maps have a distribution.

        Args:
            indices: a distribution of the numbers of codes, in any shape with an entry for each
                position, such as `GatedPixelCNN((1, 7, 7), partial(Categorical, num_classes=K))()`;
                None for the uniform one, of which log p(z) = -positions ln K.

        Raises:
            ValueError: for a distribution of another number of entries.
        """
        return CodePrior(self.codebook(), self.positions, indices)

    def indices(self, z: Tensor) -> Tensor:
        """The index maps (*batch, *positions) of arrays of codes (*batch, *dim)."""
        return self.codebook().indices(vectors_of(z, len(self.event_shape)))

    def embedded(self, indices: Tensor) -> Tensor:
        """The arrays of codes (*batch, *dim) of index maps (*batch, *positions); ValueError for
        numbers out of range, NaN where that cannot be raised.
        """
        good = (indices >= 0) & (indices < self.num_codes)
        require("indices", f"numbers of codes from 0 to {self.num_codes - 1}", indices, good)
        codes = self.codebook().lookup(indices * good)
        codes = torch.where(good[..., None], codes, torch.nan)
        return codes.movedim(-1, -len(self.event_shape))

    @abstractmethod
    def codebook(self) -> Codebook:
        """The codes that values at hand are made of."""

    def searched(self) -> Codebook:
        """The codes that a context is quantized with."""
        return self.codebook()

    def moved(self, found: Quantized) -> None:
        """What a batch in training does to the codes."""

    def _sizes(self) -> tuple[str, ...]:
        return (f"num_codes={self.num_codes}",)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join((shown_shape(self.event_shape), *self._sizes()))})"
        )


class VectorQuantizer(Quantizer):
    """The nearest of K codes:  z = e_k,  k = argmin_j |c - e_j|, vector by vector.

    The codes are trained in one of two ways, never in both. With a `decay` they are moving averages
    of the vectors that chose them, n_k <- decay n_k + (1 - decay) (number of vectors),  e_k <-
    [decay n_k e_k + (1 - decay) (sum of vectors)] / n_k: no optimizer sees them, a batch is
    quantized with the codes from before it, and a code that no vector chose stays where it is, to
    the digit. Without one they are weights, which `Commitment` trains.

    Args:
        dim: D of a vector, or (D, *positions), such as (D, height, width).
        num_codes: K.
        decay: of the moving averages, in [0, 1) (0: a step of k-means); None: by gradient.
        restart: in [0, 1): a code that fewer vectors chose than this share of the average number
            moves to a vector of the batch, and all codes begin at vectors of the first batch; 0
            leaves them. Of moving averages alone.

    Attributes:
        codes: (K, D): a weight, or with a decay what training keeps (in NumPyro the codes before
            the first step: `register` keeps those of a run in a mutable site).
        counts: (K,), the moving averages of how many vectors of a batch chose a code.

    Shapes:
        context (*batch, *dim) -> batch_shape (*batch,), event_shape dim.

    Cost:
        one product of matrices, K D multiplications for each vector; a second one in the prior.

    Raises:
        ValueError: for arguments out of range, and a restart without a decay.

    References:
        van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937 (appendix A.1 for the moving
        averages, here without the smoothing that draws unused codes towards zero); Dhariwal et al.
        (2020), arXiv:2005.00341, section 3.1, for restarts.

    Example:
        >>> quantizer = VectorQuantizer(2, 3, decay=0.9)
        >>> _ = quantizer.codes.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]]))
        >>> c = torch.tensor([[0.2, -0.1], [0.4, 0.3], [0.9, 1.2], [1.5, 0.7]])
        >>> quantizer(c).indices, quantizer.counts
        (tensor([0, 0, 1, 1]), tensor([1.1000, 1.1000, 0.9000]))
    """

    codes: Tensor
    used: Tensor
    counts: Tensor
    steps: Tensor

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_codes: int = 512,
        *,
        decay: float | None = 0.99,
        restart: float = 0.0,
    ) -> None:
        super().__init__(dim)
        self.num_codes = check_count("num_codes", num_codes, 2)
        self.decay, self.restart = check_decay(decay, restart)
        codes = torch.randn(self.num_codes, self.event_shape[0])
        if self.decay is None:
            self.codes = nn.Parameter(codes)
            return
        self.register_buffer("codes", codes)
        self.register_buffer("used", codes.clone())  # by the values at hand
        self.register_buffer("counts", torch.ones(self.num_codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def codebook(self) -> Nearest:
        """The codes that values at hand are made of: in training those from before the batch."""
        moving = self.decay is not None and self.training
        return Nearest(self.used.clone() if moving else self.codes, self.decay is None)

    def searched(self) -> Nearest:
        """The codes that a context is quantized with."""
        if self.decay is None or is_repeated():
            return self.codebook()
        return Nearest(self.codes.clone())

    def moved(self, found: Quantized) -> None:
        """Moves the averages, and codes that are not chosen."""
        if self.decay is None or not self.training or is_repeated() or not found.points.numel():
            return
        with torch.no_grad():
            vectors = found.points.detach().reshape(-1, self.event_shape[0]).to(self.codes.dtype)
            good = vectors.isfinite().all(-1)
            vectors = torch.where(good[:, None], vectors, 0.0)
            index = found.indices.reshape(-1)
            number = torch.zeros_like(self.counts).index_add(0, index, good.to(self.counts.dtype))
            total = torch.zeros_like(self.codes).index_add(0, index, vectors)
            number, total = summed(number, total)
            counts = self.decay * self.counts + (1 - self.decay) * number
            mean = self.decay * self.counts[:, None] * self.codes + (1 - self.decay) * total
            chosen = number > 0
            codes = torch.where(
                chosen[:, None], mean / torch.where(chosen, counts, 1.0)[:, None], self.codes
            )
            if self.restart:
                codes, counts = self._restarted(codes, counts, vectors, good)
            self.used.copy_(self.codes)
            self.codes.copy_(codes)
            self.counts.copy_(counts)
            self.steps.add_(1)

    def _restarted(
        self, codes: Tensor, counts: Tensor, vectors: Tensor, good: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The averages with codes that are hardly chosen at vectors of the batch, each from a part
        of its own; of several processes each gives some.
        """
        least = self.restart * counts.mean()
        row = spread_rows(self.num_codes, len(vectors), self.steps)
        number, size = rank()
        own = good[row] & (torch.arange(self.num_codes, device=row.device) % size == number)
        candidates, found = summed(
            torch.where(own[:, None], vectors[row], 0.0), own.to(counts.dtype)
        )
        dead = ((counts < least) | (self.steps == 0)) & (found > 0)
        counts = torch.where(dead, torch.where(self.steps == 0, counts, least), counts)
        return torch.where(dead[:, None], candidates, codes), counts

    def _sizes(self) -> tuple[str, ...]:
        decay = () if self.decay == 0.99 else (f"decay={self.decay}",)
        restart = (f"restart={self.restart}",) if self.restart else ()
        return (*super()._sizes(), *decay, *restart)


class FiniteScalarQuantizer(Quantizer):
    """Each entry rounded to one of a few levels:  z_i = round(b_i(c_i)) / floor(L_i / 2), with b_i
    = h_i tanh(c_i + s_i) - o_i between the first level and the last, and b_i(0) = 0.

    The codes are the prod_i L_i points of a grid: there is nothing to learn, to commit to or to
    restart. Gradients pass through the bound and, straight on, the rounding.

    Args:
        dim: D of a vector, or (D, *positions).
        levels: L_i of each of the D entries, at least 3; a number for all of them.

    Shapes:
        context (*batch, *dim) -> batch_shape (*batch,), event_shape dim.

    Cost:
        a tanh and a rounding for each entry.

    Raises:
        ValueError: for levels out of range.

    References:
        Mentzer et al. (2023), arXiv:2309.15505 (whose code has tan where b_i(0) = 0 asks for the
        inverse of tanh).

    Example:
        >>> quantizer = FiniteScalarQuantizer(2, levels=(5, 4))
        >>> quantizer(torch.tensor([0.0, 9.0])).mean
        tensor([0.0000, 0.5000])
    """

    def __init__(
        self, dim: int | tuple[int, ...], levels: int | tuple[int, ...] = (8, 5, 5, 5)
    ) -> None:
        super().__init__(dim)
        self.levels = check_levels(levels, self.event_shape[0])
        self.num_codes = Grid(self.levels).num_codes

    def codebook(self) -> Grid:
        """The grid."""
        return Grid(self.levels)

    def _sizes(self) -> tuple[str, ...]:
        return (f"levels={self.levels}",)


def spread_rows(num: int, length: int, step: Tensor) -> Tensor:
    """Rows 0, ..., length - 1 for `num` codes, each from a part of its own where there are enough,
    at random places that are the same in every process and library.

    Example:
        >>> spread_rows(4, 400, torch.tensor(0)) // 100
        tensor([0, 1, 2, 3])
    """
    bits = 2**32 - 1
    index = torch.arange(num, device=step.device)
    x = (index + num * (step + 1)) & bits
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & bits  # a mixing of bits, products below 2**63
    x = ((x ^ (x >> 15)) * 0x735A2D97) & bits
    x = x ^ (x >> 15)
    part = length // num
    return index * part + x % part if part else x % length
