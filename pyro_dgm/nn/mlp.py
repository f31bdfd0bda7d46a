"""Networks from features to features: the multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dgm_core.arguments import check_count, check_flag, check_fraction, check_sizes
from pyro_dgm.nn.layers import BatchNorm, Dropout, Linear, activate, check_activation


class MLP(nn.Module):
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
        >>> import torch
        >>> MLP(784, (200, 200))(torch.zeros(7, 784)).shape
        torch.Size([7, 200])
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int | None = None,
        *,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = check_sizes("hidden", hidden)
        last = () if out_dim is None else (check_count("out_dim", out_dim),)
        sizes = (check_count("in_dim", in_dim), *hidden, *last)
        self.in_dim = sizes[0]
        self.hidden = hidden
        self.out_dim = sizes[-1]
        self.activation = check_activation(activation)
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(
            BatchNorm(size) for size in (hidden if check_flag("batch_norm", batch_norm) else ())
        )
        self.dropout = Dropout(check_fraction("dropout", dropout))

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """Features of x (*batch, in_dim), or of several side by side."""
        if sum(part.shape[-1] for part in (x, *more)) != self.in_dim:
            shapes = " and ".join(str(tuple(part.shape)) for part in (x, *more))
            raise ValueError(
                f"{self} expects a last dimension of {self.in_dim}, got shape {shapes}."
            )
        norms, dropout = self.norms, self.dropout
        num_hidden, drops, normed = len(self.hidden), dropout.p, len(norms)
        for index, layer in enumerate(self.layers):
            x = layer(x) if index else layer(x, *more)
            if index < num_hidden:
                x = norms[index](x) if normed else x
                x = activate(self.activation, x)
                x = dropout(x) if drops else x
        return x

    def __repr__(self) -> str:
        out = f", {self.out_dim}" if len(self.layers) > len(self.hidden) else ""
        return f"MLP({self.in_dim}, {self.hidden}{out}, activation={self.activation!r})"
