"""Layers with the same layout, initialization and constants in both twins, applied over any leading
dimensions.
"""

from collections.abc import Callable
from contextvars import ContextVar
from itertools import accumulate
from math import prod, sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_fraction
from numpyro_dgm.nn.initial import placed, uniform_draws
from numpyro_dgm.nn.states import Stateful

__all__ = ["BatchNorm", "Dropout", "LayerNorm", "Linear", "activate", "check_activation"]

EVALUATION: ContextVar[bool] = ContextVar(
    "evaluation", default=False
)  # set by `evaluation_mode`, read while tracing

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def check_activation(name: str) -> str:
    """The name of an activation, if there is one: elu, gelu, leaky_relu, relu, sigmoid, silu,
    softplus or tanh.

    Example:
        >>> check_activation("tanh")
        'tanh'
    """
    return check_choice("activation", name, _ACTIVATIONS)


def activate(name: str, x: Array) -> Array:
    """Apply the named activation."""
    return _ACTIVATIONS[name](x)


def times(x: Array, weight: Array) -> Array:
    """W x for x (*batch, in_dim), W (out_dim, in_dim): (*batch, out_dim).

    XLA multiplies a single row by a transposed matrix in twice the time.
    """
    if x.size == x.shape[-1]:
        return jax.lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
    return x @ weight.T


class Linear(eqx.Module):
    """An affine map over the last dimension, W x + b, with W and b drawn from U(-1/sqrt(in_dim),
    1/sqrt(in_dim)).

    Args:
        in_dim: the size of what comes in.
        out_dim: .  Attributes: weight (out_dim, in_dim), bias (out_dim,).

    Shapes:
        x (*batch, in_dim) -> (*batch, out_dim); or several x side by side, whose sizes add up to
        in_dim and whose batches broadcast: what one of them adds is computed once for all cases
        that share it.
    """

    weight: Array
    bias: Array

    def __init__(self, in_dim: int, out_dim: int, *, key: Array) -> None:
        in_dim, out_dim = check_count("in_dim", in_dim), check_count("out_dim", out_dim)
        rows = uniform_draws(key, (out_dim, in_dim + 1), 1.0 / sqrt(in_dim))
        self.weight, self.bias = placed(rows[:, :-1]), placed(rows[:, -1])

    def __call__(self, x: Array, *more: Array) -> Array:
        """Map x (*batch, in_dim), or several side by side, in the precision of the weights."""
        sizes = [part.shape[-1] for part in (x, *more)]
        if sum(sizes) != self.weight.shape[1]:
            shapes = " and ".join(str(part.shape) for part in (x, *more))
            raise ValueError(
                f"{self} expects a last dimension of {self.weight.shape[1]}, got shape {shapes}."
            )
        if not more:
            return times(x, self.weight) + self.bias
        weights = jnp.split(self.weight, list(accumulate(sizes))[:-1], 1)
        products = [times(part, weight) for part, weight in zip((x, *more), weights)]
        return sum(products[1:], products[0] + self.bias)

    def __repr__(self) -> str:
        return (
            f"Linear(in_features={self.weight.shape[1]}, out_features={self.weight.shape[0]}, "
            "bias=True)"
        )


class BatchNorm(Stateful):
    """Batch normalization over all leading dimensions, y = weight (x - mean) / sqrt(variance +
    1e-5) + bias.

    Training uses the statistics of the batch and moves the running ones towards them (momentum 0.1,
    unbiased variance); inside `evaluation_mode` the running statistics are used and left alone.

    Args:
        dim: of a vector.

    Attributes:
        weight, bias: (dim,).

    Shapes:
        x (*batch, dim) -> (*batch, dim).

    Raises:
        ValueError: for a batch of one value in training, which has no variance, and for a wrong
            last dimension.

    References:
        Ioffe & Szegedy (2015), arXiv:1502.03167.
    """

    weight: Array
    bias: Array
    dim: int = eqx.field(static=True)

    def __init__(self, dim: int) -> None:
        dim = check_count("dim", dim)
        self.weight, self.bias = jnp.ones(dim), jnp.zeros(dim)
        self.running, self.dim = None, dim

    def __call__(self, x: Array) -> Array:
        """Normalize x (*batch, dim)."""
        count = prod(x.shape[:-1])
        if x.shape[-1] != self.dim:
            raise ValueError(
                f"BatchNorm expects a last dimension of {self.dim}, got shape {x.shape}."
            )
        stored = self.state
        if EVALUATION.get():
            mean, variance = stored["running_mean"], stored["running_var"]
        else:
            if count < 2:
                raise ValueError(
                    f"BatchNorm needs at least two values in training, got shape {x.shape}: "
                    "leave out a "
                    "last batch of one by drop_last=True."
                )
            mean, variance = jnp.mean(x, range(x.ndim - 1)), jnp.var(x, range(x.ndim - 1))
            new = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
            self.keep({name: 0.9 * stored[name] + 0.1 * value for name, value in new.items()})
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * self.weight + self.bias

    def initial_state(self) -> dict[str, Array]:
        """The running statistics before the first step."""
        return {"running_mean": jnp.zeros(self.dim), "running_var": jnp.ones(self.dim)}


class Dropout(eqx.Module):
    """Set each entry to zero with probability `rate` in training and divide the others by 1 - rate;
    the identity inside `evaluation_mode`.

    Args:
        rate: in [0, 1).  Shapes: any.

    References:
        Srivastava et al. (2014), JMLR 15:1929.
    """

    rate: float = eqx.field(static=True)

    def __init__(self, rate: float) -> None:
        self.rate = check_fraction("rate", rate)

    def __call__(self, x: Array) -> Array:
        """Drop entries of x, with a key from the model's `seed` handler."""
        if self.rate == 0.0 or EVALUATION.get():
            return x
        key = numpyro.prng_key()
        if key is None:
            raise ValueError(
                "Dropout draws a random key: call it inside numpyro.handlers.seed or "
                "evaluation_mode."
            )
        keep = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)


class LayerNorm(eqx.Module):
    """Normalization of each vector by itself, y = weight (x - mean) / sqrt(variance + 1e-5) + bias.

    Args:
        dim: of a vector.

    Attributes:
        weight, bias: (dim,).

    Shapes:
        x (*batch, dim) -> (*batch, dim).

    Raises:
        ValueError: for a wrong last dimension.

    References:
        Ba et al. (2016), arXiv:1607.06450.
    """

    weight: Array
    bias: Array

    def __init__(self, dim: int) -> None:
        dim = check_count("dim", dim)
        self.weight, self.bias = jnp.ones(dim), jnp.zeros(dim)

    def __call__(self, x: Array) -> Array:
        """Normalize x (*batch, dim)."""
        if x.shape[-1:] != self.weight.shape:
            raise ValueError(
                f"LayerNorm expects a last dimension of {len(self.weight)}, got shape {x.shape}."
            )
        centered = x - x.mean(-1, keepdims=True)
        variance = (centered**2).mean(-1, keepdims=True)
        return centered * jax.lax.rsqrt(variance + 1e-5) * self.weight + self.bias

    def __repr__(self) -> str:
        return f"LayerNorm({len(self.weight)})"
