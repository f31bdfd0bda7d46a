"""Networks over the pixels of an image in raster order, each in two forms: all pixels in one pass,
and pixel by pixel from caches. Channels come last here: (*batch, height, width, channels).
"""

from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_choice, check_count, check_counts
from dgm_core.pixels import check_kernel_size, pixel_mask

__all__ = ["MaskedConv2d", "PixelStacks"]


def uniform(*shape: int, inputs: int) -> nn.Parameter:
    """A weight from U(-1/sqrt(inputs), 1/sqrt(inputs))."""
    return nn.Parameter((2 * torch.rand(shape) - 1) / sqrt(inputs))


def convolved(x: Tensor, weight: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """x (batch, height, width, in) with zeros at the left, right, top and bottom, correlated with
    weight (rows, columns, in, out).
    """
    x = F.pad(x.permute(0, 3, 1, 2), padding)
    return F.conv2d(x, weight.permute(3, 2, 0, 1)).permute(0, 2, 3, 1)


class MaskedConv2d(nn.Module):
    """A convolution (cross-correlation) that sees pixels before each one in raster order, and of
    the pixel itself nothing (kind "A") or all (kind "B").

    With groups, channels are ordered: of its own pixel, group g of the output sees the groups
    before g ("A") or up to g ("B") of the input.

    Args:
        in_channels: of the image.
        out_channels: of the result.
        kernel_size: odd.
        kind: "A" in the first layer, "B" behind it.
        groups: of channels, in both.

    Attributes:
        weight (kernel_size, kernel_size, in_channels, out_channels), bias (out_channels,).

    Shapes:
        x (*batch, height, width, in_channels) -> (*batch, height, width, out_channels).

    Raises:
        ValueError: if a size is wrong, or the groups do not divide the channels.

    References:
        van den Oord et al. (2016), arXiv:1601.06759.

    Example:
        >>> MaskedConv2d(1, 6, kind="A")(torch.zeros(7, 8, 8, 1)).shape
        torch.Size([7, 8, 8, 6])
    """

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        kind: str = "B",
        groups: int = 1,
    ) -> None:
        super().__init__()
        in_channels, out_channels, groups = check_counts(
            in_channels=in_channels, out_channels=out_channels, groups=groups
        )
        check_choice("kind", kind, ("A", "B"))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.kind = check_kernel_size(kernel_size), kind
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups must divide the channels {in_channels} and {out_channels}, got {groups}."
            )
        mask = pixel_mask(kind, kernel_size, in_channels, out_channels, groups)
        self.register_buffer("mask", torch.as_tensor(mask), persistent=False)
        self.weight = uniform(*mask.shape, inputs=int(mask[..., -1].sum()) or 1)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def masked(self) -> Tensor:
        """The weights that count."""
        return torch.where(self.mask, self.weight, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """All pixels in one pass."""
        if x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{self} expects a last dimension of {self.in_channels}, got shape "
                f"{tuple(x.shape)}."
            )
        reach = self.kernel_size // 2
        y = convolved(
            x.reshape(-1, *x.shape[-3:]).to(self.weight.dtype),
            self.masked()[: reach + 1],
            (reach, reach, reach, 0),
        )
        return (y + self.bias).reshape(*x.shape[:-1], self.out_channels)

    def taps(self) -> tuple[Tensor, Tensor]:
        """What a pixel takes from the window around it, the rows above and its own: the weights of
        the pixels before it, one pixel behind the other and zeros for the others, ((reach + 1)
        kernel_size in_channels, out_channels), and those of its own channels (in_channels,
        out_channels).
        """
        reach = self.kernel_size // 2
        weight = self.masked()[: reach + 1]
        past = weight.clone()
        past[reach, reach:] = 0.0
        return past.flatten(0, 2), weight[reach, reach]

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        return f"MaskedConv2d({sizes}, kind={self.kind!r})"


class PixelStacks(nn.Module):
    """A stack of gated masked convolutions without a blind spot.

    A vertical stack v sees all rows above a pixel, a horizontal one h the pixels at its left and,
    through v, the rows above. With the convolutions V, H of layer l and gate(a, b) = tanh(a)
    sigmoid(b):  p = V_l v + C_l c,  v <- gate(p),  g_l = gate(H_l h + A_l p + D_l c),  h <- h +
    R_l g_l,  and the result is the sum of S_l g_l.

    Args:
        in_channels: of the image.
        channels: of v and h.
        num_layers: at least 2.
        out_channels: of the result.
        kernel_size: odd.
        context_size: of c, a vector for each pixel or for all; 0 for none.

    Shapes:
        x (*batch, height, width, in_channels), c (*batch, height or 1, width or 1, context_size)
        -> (*batch, height, width, out_channels).

    Cost:
        The incremental form keeps kernel_size // 2 rows of all layers; it computes v a row at a
        time and h a pixel at a time, the taps at the left of all layers in one product.

    Raises:
        ValueError: if a size is wrong.

    References:
        van den Oord et al. (2016), arXiv:1606.05328; Ramachandran et al. (2017), arXiv:1704.06001.

    Example:
        >>> PixelStacks(1, 4, 2, 5)(torch.zeros(7, 8, 8, 1)).shape
        torch.Size([7, 8, 8, 5])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_layers: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        context_size: int = 0,
    ) -> None:
        super().__init__()
        in_channels, channels, out_channels = check_counts(
            in_channels=in_channels, channels=channels, out_channels=out_channels
        )
        layers = check_count("num_layers", num_layers, 2)
        size = check_kernel_size(kernel_size)
        reach, both = size // 2, 2 * channels
        self.in_channels, self.channels, self.out_channels = in_channels, channels, out_channels
        self.num_layers, self.reach = layers, reach
        self.context_size = check_count("context_size", context_size, 0)
        first, rest = reach * size * in_channels, (reach + 1) * size * channels
        self.vertical_first = uniform(reach, size, in_channels, both, inputs=first)
        self.vertical = uniform(layers - 1, reach + 1, size, channels, both, inputs=rest)
        self.vertical_bias = nn.Parameter(torch.zeros(layers, both))
        self.left_first = uniform(reach, in_channels, both, inputs=reach * in_channels)
        self.left = uniform(layers - 1, reach + 1, channels, both, inputs=(reach + 1) * channels)
        self.across = uniform(layers, both, both, inputs=both)
        self.bias = nn.Parameter(torch.zeros(layers, both))
        self.residual = uniform(layers - 1, channels, channels, inputs=channels)
        self.residual_bias = nn.Parameter(torch.zeros(layers - 1, channels))
        self.skip = uniform(layers, channels, out_channels, inputs=channels)
        self.skip_bias = nn.Parameter(torch.zeros(out_channels))
        self.given = (
            uniform(layers, context_size, 2 * both, inputs=context_size) if context_size else None
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """All pixels in one pass."""
        if x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{self} expects a last dimension of {self.in_channels}, got shape "
                f"{tuple(x.shape)}."
            )
        batch, reach = x.shape[:-3], self.reach
        x = x.reshape(prod(batch), *x.shape[-3:]).to(self.bias.dtype)
        height, width = x.shape[1:3]
        if context is not None:
            context = context.reshape(len(x), *context.shape[-3:])
        v, h, total = x, x, x.new_zeros(())
        for index in range(self.num_layers):
            above, beside = self._given(index, context)
            if index == 0:
                p = convolved(v, self.vertical_first, (reach, reach, reach, 0))[:, :height]
                left = convolved(h, self.left_first[None], (reach, 0, 0, 0))[:, :, :width]
            else:
                p = convolved(v, self.vertical[index - 1], (reach, reach, reach, 0))
                left = convolved(h, self.left[index - 1][None], (reach, 0, 0, 0))
            p = p + self.vertical_bias[index] + above
            g = gate(left + p @ self.across[index] + self.bias[index] + beside)
            total = total + g @ self.skip[index]
            if index < self.num_layers - 1:
                v = gate(p)
                step = g @ self.residual[index] + self.residual_bias[index]
                h = step if index == 0 else h + step
        return (total + self.skip_bias).reshape(*batch, height, width, self.out_channels)

    def _given(self, index: int, context: Tensor | None) -> tuple[Any, Any]:
        """What the context adds in a layer to the vertical and to the horizontal stack."""
        if context is None or self.given is None:
            return 0.0, 0.0
        above, beside = (context @ self.given[index]).chunk(2, -1)
        return above, beside

    def begin(self, num: int, width: int, context: Tensor | None = None) -> dict[str, Any]:
        """The caches before the first row of `num` images of a width."""
        reach, layers = self.reach, self.num_layers

        def zeros(*shape: int) -> Tensor:
            return self.bias.new_zeros(shape)

        shift = self.residual_bias.cumsum(0)  # of h, which the caches hold and `advance` leaves out
        own = self.left[:, reach]
        return {
            "context": context,
            "rows": zeros(num, reach, width + 2 * reach, self.in_channels),
            "above": zeros(layers - 1, num, reach, width + 2 * reach, self.channels),
            "given": zeros(layers, num, width, 2 * self.channels),
            "row": zeros(num, width + reach, self.in_channels),
            "hidden": zeros(layers - 1, num, width + reach, self.channels),
            "left_first": self.left_first.flatten(0, 1),
            "left": self.left[:, :reach].flatten(1, 2),
            "own": own.unbind(0),
            "bias": torch.cat([self.bias[:1], self.bias[1:] + (shift[:, None] @ own)[:, 0]]),
            "shift": shift[:, None],
            "residual": self.residual.unbind(0),
            "skip": self.skip.flatten(0, 1),
        }

    def enter(self, caches: dict[str, Any], index: int, last: Tensor) -> dict[str, Any]:
        """The caches at the beginning of row `index`, given the last pixel (batch, in_channels) of
        the row before: the vertical stack.
        """
        reach, layers = self.reach, self.num_layers
        row, context = caches["row"], caches["context"]
        if index > 0:
            row[:, -1] = last
            done = F.pad(row[:, None, reach:], (0, 0, reach, reach))
            caches["rows"] = torch.cat([caches["rows"], done], 1)[:, 1:]
        if context is not None and context.shape[1] > 1:
            context = context[:, index : index + 1]
        v, above = caches["rows"], caches["above"]
        for layer in range(layers):
            weight = self.vertical_first if layer == 0 else self.vertical[layer - 1]
            over, beside = self._given(layer, context)
            p = convolved(v, weight, (0, 0, 0, 0)) + self.vertical_bias[layer] + over
            given = p @ self.across[layer] + caches["bias"][layer] + beside
            caches["given"][layer] = given[:, 0]
            if layer < layers - 1:
                v = torch.cat([above[layer], F.pad(gate(p), (0, 0, reach, reach))], 1)
                above[layer] = v[:, 1:]
        row.zero_()
        caches["hidden"].zero_()
        return caches

    def advance(
        self, caches: dict[str, Any], column: int, last: Tensor
    ) -> tuple[Tensor, dict[str, Any]]:
        """The result at a pixel (batch, out_channels) and the next caches, given the pixel (batch,
        in_channels) at its left: the horizontal stack.
        """
        reach, row, hidden = self.reach, caches["row"], caches["hidden"]
        if column > 0:
            row[:, column + reach - 1] = last
        given = caches["given"][:, :, column]
        window = row[:, column : column + reach].flatten(1)
        first = torch.addmm(given[0], window, caches["left_first"])
        window = hidden[:, :, column : column + reach].flatten(2)
        left = torch.baddbmm(given[1:], window, caches["left"]).unbind(0)
        gates = [gate(first)]
        h = gates[0] @ caches["residual"][0]
        states = [h]
        for layer in range(1, self.num_layers):
            gates.append(gate(torch.addmm(left[layer - 1], h, caches["own"][layer - 1])))
            if layer < self.num_layers - 1:
                h = torch.addmm(h, gates[-1], caches["residual"][layer])
                states.append(h)
        torch.add(torch.stack(states), caches["shift"], out=hidden[:, :, column + reach])
        return torch.addmm(self.skip_bias, torch.cat(gates, 1), caches["skip"]), caches

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.channels}, {self.num_layers}, {self.out_channels}"
        return f"PixelStacks({sizes})"


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the channels times sigmoid of the second."""
    a, b = x.chunk(2, -1)
    return torch.tanh(a) * torch.sigmoid(b)
