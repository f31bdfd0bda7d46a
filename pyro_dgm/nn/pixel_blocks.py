"""The gated residual blocks of PixelCNN++ at one resolution, in two forms: all pixels in one pass,
and row by row, pixel by pixel from caches. Channels come last.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_count
from pyro_dgm.nn.pixels import convolved, uniform

__all__ = ["PixelBlocks"]

# Zeros at the left, right, top and bottom: what v and h may see.
ABOVE, LEFT = (1, 1, 1, 0), (1, 0, 1, 0)


class PixelBlocks(nn.Module):
    """The blocks of a resolution, and the ways down to the next and up from it.

    Args:
        channels: of both streams.
        num_layers: blocks before the next scale.
        is_last: whether there is no further one.
        context_size: 0 for none.
    """

    def __init__(
        self, channels: int, num_layers: int, is_last: bool, context_size: int = 0
    ) -> None:
        super().__init__()
        behind = num_layers + (not is_last)
        blocks, wide = num_layers + behind, 2 * channels
        self.num_layers, self.num_blocks, self.is_last = num_layers, blocks, is_last
        one, two, small = 6 * wide, 4 * wide, 10  # a block begins near the identity
        self.v_first = uniform(blocks, 2, 3, wide, channels, inputs=one)
        self.v_second = uniform(blocks, 2, 3, wide, wide, inputs=one * small**2)
        self.h_first = uniform(blocks, 2, 2, wide, channels, inputs=two)
        self.h_second = uniform(blocks, 2, 2, wide, wide, inputs=two * small**2)
        self.across = uniform(blocks, wide, channels, inputs=wide)
        self.v_skip = uniform(behind, wide, channels, inputs=wide)
        self.h_skip = uniform(behind, wide, channels, inputs=wide)
        self.first_bias = nn.Parameter(torch.zeros(2, blocks, channels))
        self.second_bias = nn.Parameter(torch.zeros(2, blocks, wide))
        self.given = None
        if check_count("context_size", context_size, 0):
            self.given = uniform(blocks, context_size, 2 * wide, inputs=context_size)
        if not is_last:
            self.v_down = uniform(2, 3, channels, channels, inputs=6 * channels)
            self.h_down = uniform(2, 2, channels, channels, inputs=4 * channels)
            self.v_up = uniform(2, 2, channels, channels, inputs=channels)
            self.h_up = uniform(2, 2, channels, channels, inputs=channels)
            self.v_down_bias = nn.Parameter(torch.zeros(channels))
            self.h_down_bias = nn.Parameter(torch.zeros(channels))
            self.v_up_bias = nn.Parameter(torch.zeros(channels))
            self.h_up_bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self,
        block: int,
        v: Tensor,
        h: Tensor,
        context: Tensor | None,
        v_saved: Tensor | None = None,
        h_saved: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Both streams behind a block, all pixels in one pass."""
        above, beside = self._given(block, context)
        y = convolved(units(v), self.v_first[block], ABOVE)
        y = y + self.first_bias[0, block] + self._short_cut(self.v_skip, block, v_saved)
        y = convolved(units(y), self.v_second[block], ABOVE) + self.second_bias[0, block]
        v = v + gate(y + above)
        y = convolved(units(h), self.h_first[block], LEFT) + units(v) @ self.across[block]
        y = y + self.first_bias[1, block] + self._short_cut(self.h_skip, block, h_saved)
        y = convolved(units(y), self.h_second[block], LEFT) + self.second_bias[1, block]
        return v, h + gate(y + beside)

    def _given(self, block: int, context: Tensor | None) -> tuple[Any, Any]:
        """What the context adds in a block to v and to h."""
        if context is None or self.given is None:
            return 0.0, 0.0
        above, beside = (context @ self.given[block]).chunk(2, -1)
        return above, beside

    def _short_cut(self, weight: Tensor, block: int, saved: Tensor | None) -> Any:
        """What an earlier state adds in a block behind the next scale."""
        return 0.0 if saved is None else units(saved) @ weight[block - self.num_layers]

    def begin(self, num: int, width: int, context: Tensor | None) -> dict[str, Any]:
        """The caches before the first row: of the inputs of all convolutions, with zeros at the
        sides, the row above for v and the current one for h, and what h sees of the row above.
        """
        blocks, wide, channels = self.num_blocks, *self.across.shape[1:]

        def zeros(*shape: int) -> Tensor:
            return self.across.new_zeros(shape)

        caches = {
            "context": context,
            "v_first": zeros(blocks, num, width + 2, wide),
            "v_second": zeros(blocks, num, width + 2, wide),
            "first": zeros(blocks, num, width + 1, wide),
            "second": zeros(blocks, num, width + 1, wide),
            "given_first": zeros(blocks, num, width, channels),
            "given_second": zeros(blocks, num, width, wide),
        }
        if not self.is_last:
            half = (width + 1) // 2
            caches |= {
                "v_down": zeros(num, width + 2, channels),
                "down": zeros(num, 2 * half + 1, channels),
                "given_down": zeros(num, half, channels),
                "v_low": zeros(num, half, channels),
                "h_low": zeros(num, half, channels),
            }
        return caches

    def above(self, cache: dict[str, Any], row: int) -> list[Any]:
        """The caches with what h sees of the row above, whose inputs are all known now, and of the
        context; and what the context adds to v in each block.
        """
        context = cache["context"]
        if context is not None and context.shape[1] > 1:
            context = context[:, row : row + 1]
        for name, weight, bias in (
            ("first", self.h_first, self.first_bias[1]),
            ("second", self.h_second, self.second_bias[1]),
        ):
            past = cache[name]
            cache[f"given_{name}"] = (
                past[:, :, :-1] @ weight[:, None, 0, 0]
                + past[:, :, 1:] @ weight[:, None, 0, 1]
                + bias[:, None, None]
            )
            past.zero_()
        given = [self._given(block, context) for block in range(self.num_blocks)]
        for block, (_, beside) in enumerate(given):
            cache["given_second"][block] += in_a_row(beside)
        if not self.is_last:
            past, (weight, _) = cache["down"], self.h_down
            cache["given_down"] = (
                past[:, :-1:2] @ weight[0] + past[:, 1::2] @ weight[1] + self.h_down_bias
            )
            past.zero_()
        return [in_a_row(over) for over, _ in given]

    def enter(
        self,
        cache: dict[str, Any],
        block: int,
        over: Any,
        v: Tensor,
        saved: Tensor | None = None,
    ) -> Tensor:
        """v behind a block, in a row (batch, width, channels)."""
        y = below(cache["v_first"][block], units(v), self.v_first[block])
        y = y + self.first_bias[0, block] + self._short_cut(self.v_skip, block, saved)
        y = below(cache["v_second"][block], units(y), self.v_second[block])
        v = v + gate(y + self.second_bias[0, block] + over)
        cache["given_first"][block] += units(v) @ self.across[block]
        return v

    def enter_down(self, cache: dict[str, Any], v: Tensor) -> Tensor:
        """v at the next scale, in a row (batch, half the width, channels)."""
        return below(cache["v_down"], v, self.v_down)[:, ::2] + self.v_down_bias

    def left(self, cache: dict[str, Any], column: int) -> tuple[list[Tensor], list[Tensor]]:
        """What the convolutions of h see but the pixel itself, in all blocks."""
        first = torch.baddbmm(
            cache["given_first"][:, :, column], cache["first"][:, :, column], self.h_first[:, 1, 0]
        )
        second = torch.baddbmm(
            cache["given_second"][:, :, column],
            cache["second"][:, :, column],
            self.h_second[:, 1, 0],
        )
        return list(first.unbind(0)), list(second.unbind(0))

    def advance(
        self,
        cache: dict[str, Any],
        block: int,
        column: int,
        left: tuple[list[Tensor], list[Tensor]],
        h: Tensor,
        saved: Tensor | None = None,
    ) -> Tensor:
        """h behind a block, at a pixel (batch, channels)."""
        first = units(h)
        cache["first"][block, :, column + 1] = first
        y = torch.addmm(left[0][block], first, self.h_first[block, 1, 1])
        second = units(y + self._short_cut(self.h_skip, block, saved))
        cache["second"][block, :, column + 1] = second
        return h + gate(torch.addmm(left[1][block], second, self.h_second[block, 1, 1]))

    def advance_down(self, cache: dict[str, Any], column: int, h: Tensor) -> Tensor:
        """h at the next scale, at an even pixel (batch, channels)."""
        past = cache["down"][:, column] @ self.h_down[1, 0]
        return cache["given_down"][:, column // 2] + past + h @ self.h_down[1, 1]


def units(x: Tensor) -> Tensor:
    """Concatenated exponential linear units: elu([x, -x])."""
    return F.elu(torch.cat([x, -x], -1))


def gate(x: Tensor) -> Tensor:
    """The first half of the channels times the sigmoid of the second."""
    a, b = x.chunk(2, -1)
    return a * torch.sigmoid(b)


def in_a_row(x: Any) -> Any:
    """A term (batch, 1, width, channels) of a row without its height; 0 as it is."""
    return x[:, 0] if isinstance(x, Tensor) else x


def coarse(context: Tensor | None) -> Tensor | None:
    """A context at every second row and column, as the next scale has it."""
    return None if context is None else context[:, ::2, ::2]


def raised(x: Tensor, weight: Tensor) -> Tensor:
    """Four pixels for each, by weight (2, 2, channels, channels)."""
    return torch.einsum("nhwc,abcd->nhawbd", x, weight).flatten(3, 4).flatten(1, 2)


def below(above: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """A row x (batch, width, in) and the row above, which x then replaces, correlated with weight
    (2, 3, in, out).
    """
    row = F.pad(x, (0, 0, 1, 1))
    y = convolved(torch.stack([above, row], 1), weight, (0, 0, 0, 0))[:, 0]
    above.copy_(row)
    return y
