"""Layers with another weight than the one that is trained: divided by its norm, or scaled by a
constant; and what keeps the rows of weights orthogonal.
"""

from math import inf, prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_choice, check_count, check_number, refuse
from dgm_core.spectral import check_image_size, start_vector
from pyro_dgm.nn.image_layers import Conv2d
from pyro_dgm.nn.layers import Linear
from pyro_dgm.nn.states import is_repeated

__all__ = ["EqualizedRate", "SpectralNorm", "advance", "orthogonal_penalty", "power_step"]


class SpectralNorm(nn.Module):
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
        >>> SpectralNorm(Conv2d(2, 3))(torch.zeros(7, 2, 9, 8)).shape
        torch.Size([7, 3, 9, 8])
    """

    u: Tensor

    def __init__(
        self,
        layer: Linear | Conv2d,
        *,
        norm: str = "matrix",
        image_size: tuple[int, int] | None = None,
        num_steps: int = 1,
    ) -> None:
        super().__init__()
        self.layer, self.norm = check_layer(layer), check_choice("norm", norm, NORMS)
        self.num_steps = check_count("num_steps", num_steps)
        self.image_size = None
        if norm == "operator":
            if not isinstance(layer, Conv2d):
                refuse("layer", 'a Conv2d for norm="operator"', layer)
            self.image_size = check_image_size(image_size, (layer.kernel_size,) * 2)
        elif image_size is not None:
            raise ValueError('image_size is for norm="operator": leave it out, or give that norm.')
        start = start_vector((len(layer.weight), *(self.image_size or ())))
        self.register_buffer("u", torch.as_tensor(start).to(layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with its weight divided by the norm."""
        weight = self.layer.weight
        weight = weight / _largest(weight.detach())  # W / s is the same at every scale of W
        norm, u = self.norm_of(weight, self.u)
        if self.training and not is_repeated():
            self.u.copy_(self.moved(self.u, u))
        weight = weight / (norm + (norm == 0))  # zeros stay zeros
        if isinstance(self.layer, Conv2d):
            return self.layer.convolved(x, weight, self.layer.bias)
        check_last(self.layer, x)
        return F.linear(x.to(weight.dtype), weight, self.layer.bias)

    def estimate(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """s at u, differentiable, and u after a step."""
        return self.norm_of(self.layer.weight, u)

    def norm_of(self, weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The same of another weight."""
        if self.image_size is None:
            return power_step(weight.flatten(1), u)
        layer: Any = self.layer
        with torch.no_grad():
            v = _unit(_transposed(layer, u))
        image = layer.convolved(v, weight)
        with torch.no_grad():
            new = _unit(image)
        return (new * image).sum(), new

    def advance(self) -> None:
        """Moves u as a training step does."""
        with torch.no_grad():
            self.u.copy_(self.moved(self.u, self.estimate(self.u)[1]))

    def moved(self, u: Tensor, first: Tensor) -> Tensor:
        """u after a training step, given it after the first step of the iteration; anew where that
        found nothing.
        """
        if self.num_steps > 1 and not u.is_meta:
            with torch.no_grad(), torch.autocast(u.device.type, enabled=False):  # powers are small
                if self.image_size is None:
                    first = _powered(self.layer.weight.flatten(1), u, self.num_steps)
                else:
                    for _ in range(self.num_steps - 1):
                        first = self.estimate(first.to(u.dtype))[1]
        return torch.where(first.any(), first.to(u.dtype), u.numel() ** -0.5)

    def __repr__(self) -> str:
        others = f", norm='operator', image_size={self.image_size}" if self.image_size else ""
        others += f", num_steps={self.num_steps}" if self.num_steps > 1 else ""
        return f"SpectralNorm({self.layer!r}{others})"


class EqualizedRate(nn.Module):
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
        >>> round(EqualizedRate(Conv2d(16, 3)).scale, 8)
        0.11785113
    """

    def __init__(self, layer: Linear | Conv2d, *, gain: float = sqrt(2.0)) -> None:
        super().__init__()
        self.layer = check_layer(layer)
        self.scale = equal_scale(layer.weight.shape, gain)
        with torch.no_grad():
            layer.weight.normal_()
            if layer.bias is not None:
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with its weight scaled."""
        weight = self.scale * self.layer.weight
        if isinstance(self.layer, Conv2d):
            return self.layer.convolved(x, weight, self.layer.bias)
        check_last(self.layer, x)
        return F.linear(x.to(weight.dtype), weight, self.layer.bias)

    def __repr__(self) -> str:
        return f"EqualizedRate({self.layer!r})"


def power_step(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """One step of power iteration: |W v| at v = W' u / |W' u|, differentiable in W at constant u
    and v, and W v / |W v|.

    Args:
        matrix: W (out, in).
        u: (out,).

    Example:
        >>> matrix = torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]])
        >>> power_step(matrix, torch.tensor([1.0, 0.0]))[0]
        tensor(2.4083)
    """
    with torch.no_grad():
        v = _unit(u @ matrix)
        new = _unit(matrix @ v)
    return (new @ matrix) @ v, new


def orthogonal_penalty(module: Any) -> Tensor:
    """The sum over all weights W (out, all else) of a module of the squared entries of W W' off its
    diagonal: zero where the rows are orthogonal, whatever their lengths.

    Args:
        module: a network, or a single weight; vectors and scalars do not count.

    References:
        Brock, Donahue and Simonyan (2019), arXiv:1809.11096, equation 3.

    Example:
        >>> orthogonal_penalty(torch.tensor([[1.0, 0.5], [0.2, 2.0]]))
        tensor(2.8800)
    """
    weights = [module] if isinstance(module, Tensor) else list(module.parameters())
    penalty = weights[0].new_zeros(()) if weights else torch.zeros(())
    for weight in (weight for weight in weights if weight.ndim > 1):
        gram = weight.flatten(1) @ weight.flatten(1).T
        penalty = penalty + (gram - gram.diag().diag()).square().sum()
    return penalty


def advance(module: nn.Module) -> None:
    """Moves what the parts of a critic keep between its updates."""
    for part in module.modules():
        if part.training and isinstance(part, SpectralNorm):
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


def check_last(layer: Any, x: Tensor) -> None:
    """Raises ValueError for vectors of the wrong size."""
    if x.shape[-1] != layer.weight.shape[1]:
        raise ValueError(
            f"{layer} expects a last dimension of {layer.weight.shape[1]}, got shape "
            f"{tuple(x.shape)}."
        )


def _unit(x: Tensor) -> Tensor:
    """x over its length, zeros as they are."""
    x = _scaled(x)
    return x / torch.linalg.vector_norm(x).clamp_min(torch.finfo(x.dtype).tiny)


def _scaled(x: Tensor) -> Tensor:
    """x over its largest entry: its squares then neither overflow nor vanish."""
    return x / _largest(x)


def _largest(x: Tensor) -> Tensor:
    """The largest absolute value, of zeros a number above zero."""
    return torch.linalg.vector_norm(x, inf).clamp_min(torch.finfo(x.dtype).tiny)


def _powered(matrix: Tensor, u: Tensor, count: int) -> Tensor:
    """u after so many steps of power iteration, by squaring where that is cheaper."""
    rows, columns = matrix.shape
    dtype = torch.promote_types(matrix.dtype, torch.float32)  # powers vanish in half precision
    matrix, u = _scaled(matrix.to(dtype)), u.to(dtype)
    if min(rows, columns) >= 8 * count:
        for _ in range(count):
            u = power_step(matrix, u)[1]
        return u
    if rows > columns:  # (W W')^n = W (W' W)^(n - 1) W'
        return _unit(matrix @ _squared(matrix.T @ matrix, u @ matrix, count - 1))
    return _unit(_squared(matrix @ matrix.T, u, count))


def _squared(gram: Tensor, u: Tensor, count: int) -> Tensor:
    """gram^count u, of some length."""
    for index in range(count.bit_length()):
        gram, taken = gram @ gram if index else gram, count >> index & 1
        gram = gram / (gram.diagonal().sum() + 1e-24)
        u = _scaled(gram @ u) if taken else u
    return u


def _transposed(layer: Conv2d, y: Tensor) -> Tensor:
    """The transpose of a convolution at an image y (out, height, width)."""
    around = layer.kernel_size // 2
    if layer.padding == "zeros" or not around:
        return F.conv_transpose2d(y[None], layer.weight, padding=around)[0]
    wide = F.pad(y[None], (around,) * 4, mode="circular")
    return F.conv_transpose2d(wide, layer.weight, padding=2 * around)[0]
