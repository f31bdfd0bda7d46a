"""Quantizers: a guide's distribution that puts a code in the place of each vector.

z = e_k,  k = argmin_j |c - e_j|, of the codes e_1, ..., e_K; and the priors of codes.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_shape
from dgm_core.contexts import shown_shape
from dgm_core.quantization import check_decay, check_levels
from numpyro_dgm.conditionals.base import Conditional, required_key
from numpyro_dgm.conditionals.codebooks import (
    Codebook,
    CodePrior,
    Grid,
    Nearest,
    Quantized,
    vectors_of,
)
from numpyro_dgm.nn.layers import EVALUATION
from numpyro_dgm.nn.requirements import require
from numpyro_dgm.nn.states import Stateful, is_repeated

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

    num_codes: int = eqx.field(static=True)
    positions: tuple[int, ...] = eqx.field(static=True)

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

    def indices(self, z: Array) -> Array:
        """The index maps (*batch, *positions) of arrays of codes (*batch, *dim)."""
        return self.codebook().indices(vectors_of(z, len(self.event_shape)))

    def embedded(self, indices: Array) -> Array:
        """The arrays of codes (*batch, *dim) of index maps (*batch, *positions); ValueError for
        numbers out of range, NaN where that cannot be raised.
        """
        good = (indices >= 0) & (indices < self.num_codes)
        require("indices", f"numbers of codes from 0 to {self.num_codes - 1}", indices, good)
        codes = self.codebook().lookup(indices * good)
        codes = jnp.where(good[..., None], codes, jnp.nan)
        return jnp.moveaxis(codes, -1, -len(self.event_shape))

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


class VectorQuantizer(Quantizer, Stateful):
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
        >>> quantizer = VectorQuantizer(2, 3, decay=0.9, key=jax.random.key(0))
        >>> c = quantizer.initial.codes[jnp.array([2, 0])] + 0.01
        >>> quantizer(c).indices
        Array([2, 0], dtype=int32)
    """

    codes: Any  # of a weight; None with a decay
    initial: Any  # of moving averages; None without
    decay: float | None = eqx.field(static=True)
    restart: float = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_codes: int = 512,
        *,
        decay: float | None = 0.99,
        restart: float = 0.0,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim)
        self.num_codes = check_count("num_codes", num_codes, 2)
        self.decay, self.restart = check_decay(decay, restart)
        key = required_key(key, type(self).__name__)
        codes = jax.random.normal(key, (self.num_codes, self.event_shape[0]))
        self.running, self.codes, self.initial = None, None, None
        if self.decay is None:
            self.codes = codes
        else:
            self.initial = Untrained(codes)

    def initial_state(self) -> dict[str, Array]:
        """The codes before the first step, those of the values at hand, and how many vectors chose
        them.
        """
        if self.decay is None:
            return {}
        codes = self.initial.codes
        counts, steps = jnp.ones(self.num_codes, codes.dtype), jnp.zeros((), jnp.int32)
        return {"codes": codes, "used": codes, "counts": counts, "steps": steps}

    def codebook(self) -> Nearest:
        """The codes that values at hand are made of: in training those from before the batch."""
        if self.decay is None:
            return Nearest(self.codes, True)
        return Nearest(self.state["codes" if EVALUATION.get() else "used"])

    def searched(self) -> Nearest:
        """The codes that a context is quantized with."""
        if self.decay is None or is_repeated():
            return self.codebook()
        return Nearest(self.state["codes"])

    def moved(self, found: Quantized) -> None:
        """Moves the averages, and codes that are not chosen."""
        if self.decay is None or EVALUATION.get() or is_repeated() or not self.running:
            return
        state = self.state
        vectors = jax.lax.stop_gradient(found.points).reshape(-1, self.event_shape[0])
        good = jnp.isfinite(vectors).all(-1)
        vectors = jnp.where(good[:, None], vectors, 0.0)
        index = found.indices.reshape(-1)
        number = jax.ops.segment_sum(good.astype(vectors.dtype), index, self.num_codes)
        total = jax.ops.segment_sum(vectors, index, self.num_codes)
        counts = self.decay * state["counts"] + (1 - self.decay) * number
        before = state["counts"][:, None] * state["codes"]
        mean = self.decay * before + (1 - self.decay) * total
        chosen = number > 0
        codes = jnp.where(
            chosen[:, None], mean / jnp.where(chosen, counts, 1.0)[:, None], state["codes"]
        )
        if self.restart:
            codes, counts = self._restarted(codes, counts, vectors, good)
        steps = state["steps"] + 1
        self.keep({"codes": codes, "used": state["codes"], "counts": counts, "steps": steps})

    def _restarted(
        self, codes: Array, counts: Array, vectors: Array, good: Array
    ) -> tuple[Array, Array]:
        """The averages with codes that are hardly chosen at vectors of the batch, each from a part
        of its own.
        """
        least, steps = self.restart * counts.mean(), self.state["steps"]
        row = spread_rows(self.num_codes, len(vectors), steps)
        dead = ((counts < least) | (steps == 0)) & good[row]
        counts = jnp.where(dead, jnp.where(steps == 0, counts, least), counts)
        return jnp.where(dead[:, None], vectors[row], codes), counts

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
        >>> quantizer(jnp.array([0.0, 9.0])).mean
        Array([0. , 0.5], dtype=float32)
    """

    levels: tuple[int, ...] = eqx.field(static=True)

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


class Untrained:
    """Codes that no optimizer sees: before the first step."""

    def __init__(self, codes: Array) -> None:
        self.codes = codes


def spread_rows(num: int, length: int, step: Array) -> Array:
    """Rows 0, ..., length - 1 for `num` codes, each from a part of its own where there are enough,
    at random places that are the same in every process and library.

    Example:
        >>> spread_rows(4, 400, jnp.array(0)) // 100
        Array([0, 1, 2, 3], dtype=int32)
    """
    index = jnp.arange(num, dtype=jnp.uint32)
    x = index + num * (step.astype(jnp.uint32) + 1)
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)  # a mixing of bits
    x = (x ^ (x >> 15)) * jnp.uint32(0x735A2D97)
    x = x ^ (x >> 15)
    part = length // num
    return (index * part + x % part if part else x % length).astype(jnp.int32)
