"""Layers with the same layout, initialization and constants in both twins, applied over any leading
dimensions.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_choice, check_count, check_fraction

__all__ = ["BatchNorm", "Dropout", "LayerNorm", "Linear", "activate", "check_activation"]


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp x), linear from where that is exact in double precision.

    Example:
        >>> softplus(torch.tensor(0.0))
        tensor(0.6931)
    """
    return F.softplus(x, threshold=40.0)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "gelu": F.gelu,  # the exact one
    "leaky_relu": F.leaky_relu,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": softplus,
    "tanh": torch.tanh,
}


def check_activation(name: str) -> str:
    """The name of an activation, if there is one: elu, gelu, leaky_relu, relu, sigmoid, silu,
    softplus or tanh.

    Example:
        >>> check_activation("tanh")
        'tanh'
    """
    return check_choice("activation", name, _ACTIVATIONS)


def activate(name: str, x: Tensor) -> Tensor:
    """Apply the named activation."""
    return _ACTIVATIONS[name](x)


class Linear(nn.Linear):
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

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(check_count("in_dim", in_dim), check_count("out_dim", out_dim))

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """Map x (*batch, in_dim), or several side by side, in the precision of the weights."""
        weight = self.weight
        if not more and x.shape[-1] == self.in_features and x.dtype == weight.dtype:
            return F.linear(x, weight, self.bias)  # at once: small networks wait for Python
        sizes = [part.shape[-1] for part in (x, *more)]
        if sum(sizes) != self.in_features:
            shapes = " and ".join(str(tuple(part.shape)) for part in (x, *more))
            raise ValueError(
                f"{self} expects a last dimension of {self.in_features}, got shape {shapes}."
            )
        weights = self.weight.split(sizes, 1) if more else (self.weight,)
        found = F.linear(x.to(self.weight.dtype), weights[0], self.bias)
        for part, weight in zip(more, weights[1:]):
            found = found + F.linear(part.to(weight.dtype), weight)
        return found


class BatchNorm(nn.BatchNorm1d):
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

    def __init__(self, dim: int) -> None:
        super().__init__(check_count("dim", dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (*batch, dim)."""
        if x.shape[-1] != self.num_features:
            raise ValueError(
                f"BatchNorm expects a last dimension of {self.num_features}, got shape "
                f"{tuple(x.shape)}."
            )
        if self.training and x.shape[:-1].numel() < 2:
            raise ValueError(
                f"BatchNorm needs at least two values in training, got shape {tuple(x.shape)}: "
                "leave out a "
                "last batch of one by drop_last=True."
            )
        return super().forward(x.reshape(-1, self.num_features)).reshape(x.shape)


class Dropout(nn.Dropout):
    """Set each entry to zero with probability `rate` in training and divide the others by 1 - rate;
    the identity inside `evaluation_mode`.

    Args:
        rate: in [0, 1).  Shapes: any.

    References:
        Srivastava et al. (2014), JMLR 15:1929.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(check_fraction("rate", rate))


class LayerNorm(nn.LayerNorm):
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

    def __init__(self, dim: int) -> None:
        super().__init__(check_count("dim", dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (*batch, dim)."""
        if x.shape[-1:] != self.weight.shape:
            raise ValueError(
                f"LayerNorm expects a last dimension of {len(self.weight)}, got shape "
                f"{tuple(x.shape)}."
            )
        return super().forward(x.to(self.weight.dtype))

    def __repr__(self) -> str:
        return f"LayerNorm({len(self.weight)})"
