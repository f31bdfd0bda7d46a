"""Layers with another weight than the one that is trained: divided by its norm, or scaled by a
constant; and what keeps the rows of weights orthogonal.
"""

from math import prod, sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_number, refuse
from dgm_core.spectral import check_image_size, start_vector
from numpyro_dgm.nn.image_layers import Conv2d
from numpyro_dgm.nn.layers import EVALUATION, Linear, times
from numpyro_dgm.nn.states import Stateful, is_repeated

__all__ = ["EqualizedRate", "SpectralNorm", "advance", "orthogonal_penalty", "power_step"]


class SpectralNorm(Stateful):
    """A layer whose weight is divided by the norm of its linear map:  A(x) = W x / s(W) + b,  s
    estimated by power iteration,  v = W' u / |W' u|,  s = |W v|,  u <- W v / s.

    u is a state that no optimizer trains. A training step moves it `num_steps` times: where the
    layer is called in a model or guide, and once in an update of the critic that it is part of,
    before model and guide are scored. Inside `evaluation_mode` it stays. Its derivative is that of
    s at constant u and v. Where W is zero, so is W / s; where W'u is, u begins anew, all entries
    equal.

    With the usual one step at a time the estimate lags where weights move fast: u points to what
    was the largest singular vector until the iteration has turned it, and a critic of a high rate
    has had layers a quarter above norm one. Many steps of a small matrix cost little: they are
    taken by squaring W W' (or W' W, which is smaller where W is tall), ten products for 1,024. Of
    1,000 rows and columns they cost more than the layer itself at small batches.

    Args:
        layer: a Linear or Conv2d.
        norm: "matrix", of a kernel (out, in * height * width), as is usual and cheap;  "operator",
            of the convolution as a map of images with the padding of the layer.
        image_size: height and width of the images, for norm="operator".
        num_steps: of the iteration at a time.

    Attributes:
        u: (out,), or (out, height, width).

    Shapes:
        of the layer.

    Cost:
        beside the layer's own, three products of a matrix and a vector; with num_steps above 1 the
        square matrix and its log2(num_steps) squares, or 2 num_steps products with a vector where
        its size is above 8 num_steps; with norm="operator" three convolutions of one image, and
        two for each further step.

    Raises:
        ValueError: for another layer or norm, image_size with the wrong norm or smaller than the
            kernel, num_steps below 1.

    References:
        Miyato et al. (2018), arXiv:1802.05957, algorithm 1; Farnia et al. (2019), arXiv:1811.07457
        (the operator).

    Example:
        >>> layer = SpectralNorm(Conv2d(2, 3, key=jax.random.key(0)))
        >>> layer(jnp.zeros((7, 2, 9, 8))).shape
        (7, 3, 9, 8)
    """

    layer: Linear | Conv2d
    norm: str = eqx.field(static=True)
    image_size: tuple[int, int] | None = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        layer: Linear | Conv2d,
        *,
        norm: str = "matrix",
        image_size: tuple[int, int] | None = None,
        num_steps: int = 1,
    ) -> None:
        self.layer, self.norm = check_layer(layer), check_choice("norm", norm, NORMS)
        self.num_steps, self.running = check_count("num_steps", num_steps), None
        self.image_size = None
        if norm == "operator":
            if not isinstance(layer, Conv2d):
                refuse("layer", 'a Conv2d for norm="operator"', layer)
            self.image_size = check_image_size(image_size, (layer.kernel_size,) * 2)
        elif image_size is not None:
            raise ValueError('image_size is for norm="operator": leave it out, or give that norm.')

    def initial_state(self) -> dict[str, Array]:
        """Where the iteration starts."""
        start = start_vector((len(self.layer.weight), *(self.image_size or ())))
        return {"u": jnp.asarray(start, self.layer.weight.dtype)}

    @property
    def u(self) -> Array:
        """Where the iteration is."""
        return self.state["u"]

    def __call__(self, x: Array) -> Array:
        """Apply the layer with its weight divided by the norm."""
        weight = self.layer.weight
        weight = weight / _largest(jax.lax.stop_gradient(weight))  # W / s is so at every scale of W
        norm, u = self.norm_of(weight, self.u)
        if not EVALUATION.get() and not is_repeated():
            self.keep({"u": self.moved(self.u, u)})
        weight = weight / (norm + (norm == 0))  # zeros stay zeros
        if isinstance(self.layer, Conv2d):
            return self.layer.convolved(x, weight, self.layer.bias)
        check_last(self.layer, x)
        return times(x, weight) + self.layer.bias

    def estimate(self, u: Array) -> tuple[Array, Array]:
        """s at u, differentiable, and u after a step."""
        return self.norm_of(self.layer.weight, u)

    def norm_of(self, weight: Array, u: Array) -> tuple[Array, Array]:
        """The same of another weight."""
        if self.image_size is None:
            return power_step(weight.reshape(len(weight), -1), u)
        layer: Any = self.layer
        still = jax.lax.stop_gradient(weight)
        shape = layer.in_channels, *self.image_size
        transposed = jax.linear_transpose(
            lambda image: layer.convolved(image, still), jnp.zeros(shape, weight.dtype)
        )
        image = layer.convolved(_unit(transposed(u)[0]), weight)
        new = jax.lax.stop_gradient(_unit(image))
        return (new * image).sum(), new

    def advance(self) -> None:
        """Moves u as a training step does."""
        self.keep({"u": self.moved(self.u, self.estimate(self.u)[1])})

    def moved(self, u: Array, first: Array) -> Array:
        """u after a training step, given it after the first step of the iteration; anew where that
        found nothing.
        """
        if self.num_steps > 1 and self.image_size is None:
            matrix = jax.lax.stop_gradient(self.layer.weight)
            first = _powered(matrix.reshape(len(matrix), -1), u, self.num_steps)
        elif self.num_steps > 1:
            for _ in range(self.num_steps - 1):
                first = self.estimate(first)[1]
        return jnp.where(first.any(), first.astype(u.dtype), u.size**-0.5)

    def __repr__(self) -> str:
        others = f", norm='operator', image_size={self.image_size}" if self.image_size else ""
        others += f", num_steps={self.num_steps}" if self.num_steps > 1 else ""
        return f"SpectralNorm({self.layer!r}{others})"


class EqualizedRate(eqx.Module):
    """A layer whose weight is scaled when it is applied:  A(x) = g sqrt(1 / n) W x + b,  n the
    number of inputs of an entry;  W starts as N(0, 1), b as zeros.

    All weights then have one scale, so that optimizers such as Adam move all layers at one rate.

    Args:
        layer: a Linear or Conv2d, which is taken over and begins anew.
        gain: g.

    Attributes:
        scale: g / sqrt(n).

    Shapes:
        of the layer.

    Raises:
        ValueError: for another layer, and a gain that is not positive.

    References:
        Karras et al. (2018), arXiv:1710.10196, section 4.1.

    Example:
        >>> key = jax.random.key(0)
        >>> round(EqualizedRate(Conv2d(16, 3, key=key), key=key).scale, 8)
        0.11785113
    """

    layer: Linear | Conv2d
    scale: float = eqx.field(static=True)

    def __init__(self, layer: Linear | Conv2d, *, gain: float = sqrt(2.0), key: Array) -> None:
        shape = check_layer(layer).weight.shape
        self.scale = equal_scale(shape, gain)
        new = jax.random.normal(key, shape, layer.weight.dtype)
        self.layer = eqx.tree_at(lambda own: own.weight, layer, new)
        if layer.bias is not None:
            zeros = jnp.zeros_like(layer.bias)
            self.layer = eqx.tree_at(lambda own: own.bias, self.layer, zeros)

    def __call__(self, x: Array) -> Array:
        """Apply the layer with its weight scaled."""
        weight = self.scale * self.layer.weight
        if isinstance(self.layer, Conv2d):
            return self.layer.convolved(x, weight, self.layer.bias)
        check_last(self.layer, x)
        return times(x, weight) + self.layer.bias

    def __repr__(self) -> str:
        return f"EqualizedRate({self.layer!r})"


def power_step(matrix: Array, u: Array) -> tuple[Array, Array]:
    """One step of power iteration: |W v| at v = W' u / |W' u|, differentiable in W at constant u
    and v, and W v / |W v|.

    Args:
        matrix: W (out, in).
        u: (out,).

    Example:
        >>> matrix = jnp.array([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]])
        >>> power_step(matrix, jnp.array([1.0, 0.0]))[0].round(4)
        Array(2.4083, dtype=float32)
    """
    still = jax.lax.stop_gradient(matrix)
    v = _unit(u @ still)
    new = _unit(still @ v)
    return (new @ matrix) @ v, new


def orthogonal_penalty(module: Any) -> Array:
    """The sum over all weights W (out, all else) of a module of the squared entries of W W' off its
    diagonal: zero where the rows are orthogonal, whatever their lengths.

    Args:
        module: a network, or a single weight; vectors and scalars do not count.

    References:
        Brock, Donahue and Simonyan (2019), arXiv:1809.11096, equation 3.

    Example:
        >>> round(float(orthogonal_penalty(jnp.array([[1.0, 0.5], [0.2, 2.0]]))), 4)
        2.88
    """
    penalty = jnp.zeros(())
    for weight in jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array)):
        if weight.ndim > 1:
            gram = weight.reshape(len(weight), -1) @ weight.reshape(len(weight), -1).T
            penalty = penalty + ((gram - jnp.diag(jnp.diag(gram))) ** 2).sum()
    return penalty


def advance(module: Any) -> None:
    """Moves what the parts of a critic keep between its updates."""
    parts = jax.tree.leaves(module, is_leaf=lambda part: isinstance(part, SpectralNorm))
    for part in parts:
        if isinstance(part, SpectralNorm) and not EVALUATION.get():
            part.advance()


NORMS = ("matrix", "operator")


def check_layer(layer: Any) -> Any:
    """A Linear or Conv2d."""
    if not isinstance(layer, Linear | Conv2d):
        refuse("layer", "a Linear or a Conv2d of this package", layer)
    return layer


def equal_scale(shape: tuple[int, ...], gain: float) -> float:
    """g / sqrt(n) for a weight of this shape."""
    return check_number("gain", gain, above=0) / sqrt(prod(shape[1:]))


def check_last(layer: Any, x: Array) -> None:
    """Raises ValueError for vectors of the wrong size."""
    if x.shape[-1] != layer.weight.shape[1]:
        raise ValueError(
            f"{layer} expects a last dimension of {layer.weight.shape[1]}, got shape "
            f"{tuple(x.shape)}."
        )


def _unit(x: Array) -> Array:
    """x over its length, zeros as they are."""
    x = _scaled(x)
    return x / jnp.sqrt((x**2).sum()).clip(jnp.finfo(x.dtype).tiny)


def _scaled(x: Array) -> Array:
    """x over its largest entry: its squares then neither overflow nor vanish."""
    return x / _largest(x)


def _largest(x: Array) -> Array:
    """The largest absolute value, of zeros a number above zero."""
    return jnp.abs(x).max().clip(jnp.finfo(x.dtype).tiny)


def _powered(matrix: Array, u: Array, count: int) -> Array:
    """u after so many steps of power iteration, by squaring where that is cheaper."""
    rows, columns = matrix.shape
    dtype = jnp.promote_types(matrix.dtype, jnp.float32)  # powers vanish in half precision
    matrix, u = _scaled(matrix.astype(dtype)), u.astype(dtype)
    if min(rows, columns) >= 8 * count:
        for _ in range(count):
            u = power_step(matrix, u)[1]
        return u
    if rows > columns:  # (W W')^n = W (W' W)^(n - 1) W'
        return _unit(matrix @ _squared(matrix.T @ matrix, u @ matrix, count - 1))
    return _unit(_squared(matrix @ matrix.T, u, count))


def _squared(gram: Array, u: Array, count: int) -> Array:
    """gram^count u, of some length."""
    for index in range(count.bit_length()):
        gram, taken = gram @ gram if index else gram, count >> index & 1
        gram = gram / (jnp.trace(gram) + 1e-24)
        u = _scaled(gram @ u) if taken else u
    return u
