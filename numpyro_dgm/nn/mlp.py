"""Networks from features to features: the multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

import equinox as eqx
import jax
from jax import Array

from dgm_core.arguments import check_count, check_flag, check_fraction, check_sizes
from numpyro_dgm.nn.layers import BatchNorm, Dropout, Linear, activate, check_activation


class MLP(eqx.Module):
    """Multilayer perceptron over the last dimension: h_0 = x;  h_l =
    dropout(activation(batch_norm(W_l h_{l-1} + b_l)));  an affine output layer.

    Args:
        in_dim: the size of what comes in.
        hidden: the sizes of the hidden layers.
        out_dim: None: no output layer, the last hidden layer is the output.
        activation: one of elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh.
        batch_norm: before each activation.
        dropout: the rate after it.

    Attributes:
        layers: (the affine ones), norms, out_dim.  With `hidden=()` and no out_dim it is the
            identity.

    Shapes:
        x (*batch, in_dim) -> (*batch, out_dim); or several x side by side, as Linear takes them.

    Raises:
        ValueError: for a size below 1, an unknown activation, a rate outside [0, 1) or an x of the
            wrong size.

    Example:
        >>> MLP(784, (200, 200), key=jax.random.key(0))(jax.numpy.zeros((7, 784))).shape
        (7, 200)
    """

    in_dim: int = eqx.field(static=True)
    hidden: tuple[int, ...] = eqx.field(static=True)
    out_dim: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    layers: list[Linear]
    norms: list[BatchNorm]
    dropout: Dropout

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int | None = None,
        *,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        key: Array,
    ) -> None:
        hidden = check_sizes("hidden", hidden)
        last = () if out_dim is None else (check_count("out_dim", out_dim),)
        sizes = (check_count("in_dim", in_dim), *hidden, *last)
        self.in_dim = sizes[0]
        self.hidden = hidden
        self.out_dim = sizes[-1]
        self.activation = check_activation(activation)
        keys = jax.random.split(key, max(len(sizes) - 1, 1))
        self.layers = [Linear(a, b, key=k) for (a, b), k in zip(pairwise(sizes), keys)]
        self.norms = [
            BatchNorm(size) for size in (hidden if check_flag("batch_norm", batch_norm) else ())
        ]
        self.dropout = Dropout(check_fraction("dropout", dropout))

    def __call__(self, x: Array, *more: Array) -> Array:
        """Features of x (*batch, in_dim), or of several side by side."""
        if sum(part.shape[-1] for part in (x, *more)) != self.in_dim:
            shapes = " and ".join(str(part.shape) for part in (x, *more))
            raise ValueError(
                f"{self} expects a last dimension of {self.in_dim}, got shape {shapes}."
            )
        for index, layer in enumerate(self.layers):
            x = layer(x) if index else layer(x, *more)
            if index < len(self.hidden):
                x = self.norms[index](x) if self.norms else x
                x = self.dropout(activate(self.activation, x))
        return x

    def __repr__(self) -> str:
        out = f", {self.out_dim}" if len(self.layers) > len(self.hidden) else ""
        return f"MLP({self.in_dim}, {self.hidden}{out}, activation={self.activation!r})"
