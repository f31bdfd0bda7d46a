"""Images pixel by pixel and channel by channel:  p(x | c) = prod_i p(x_i | x_<i, c), with masked
convolutions, whose stack has a blind spot.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_count, check_image_shape
from dgm_core.contexts import ContextShape
from dgm_core.pixels import check_kernel_size
from pyro_dgm.conditionals.autoregressive.pixels import Pixels
from pyro_dgm.conditionals.base import Parametric
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.nn.layers import Linear, activate, check_activation
from pyro_dgm.nn.pixels import MaskedConv2d

__all__ = ["PixelCNN"]


class PixelCNN(Pixels):
    """The first PixelCNN: a stack of masked convolutions, one of type A and then type B, which
    draws the channels of a pixel one after the other.

    h_1 = f(A_1 x + C_1 c),  h_l = h_{l-1} + f(B_l h_{l-1} + C_l c). However many layers there are,
    they do not see the pixels i rows above and more than i (kernel_size - 1) / 2 columns to the
    right: the blind spot, for which `GatedPixelCNN` is the remedy. This one is for teaching.

    Args:
        dim: channels, height, width.
        family: of one channel of a pixel (default Bernoulli).
        hidden_channels: of the layers, in as many groups as the image has channels.
        num_layers: the first of type A, the others of type B.
        kernel_size: of the convolutions, odd.
        activation: f, as in `MLP`.
        one_hot: whether the network sees classes one-hot.
        context_shape: 0 = unconditional; a map (channels, height, width), a vector, a label, or
            several of these.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (channels, height,
        width).

    Cost:
        log_prob one pass; draws about one pass for each channel in arithmetic, step by step.

    Raises:
        ValueError: if a size is wrong, hidden_channels is no multiple of the channels, a map as
            context has other pixels, or the family is none.

    References:
        van den Oord et al. (2016), arXiv:1601.06759.

    Example:
        >>> pixels = PixelCNN((1, 4, 4), hidden_channels=2, num_layers=2)
        >>> pixels().log_prob(pixels().sample((7,))).shape
        torch.Size([7])
    """

    def __init__(
        self,
        dim: tuple[int, int, int],
        family: Callable[..., Parametric] = Bernoulli,
        *,
        hidden_channels: int = 32,
        num_layers: int = 8,
        kernel_size: int = 3,
        activation: str = "relu",
        one_hot: bool = False,
        context_shape: ContextShape = 0,
    ) -> None:
        channels = check_image_shape("dim", dim)[0]
        hidden_channels = check_count("hidden_channels", hidden_channels)
        num_layers = check_count("num_layers", num_layers)
        if hidden_channels % channels:
            raise ValueError(
                f"hidden_channels must be a multiple of the {channels} channels of the image, got "
                f"{hidden_channels}."
            )
        super().__init__(
            dim,
            family,
            features=hidden_channels // channels,
            ordered=True,
            one_hot=one_hot,
            context_shape=context_shape,
        )
        self.reach = check_kernel_size(kernel_size) // 2
        self.activation = check_activation(activation)
        self.convolutions = nn.ModuleList(
            MaskedConv2d(
                hidden_channels if index else channels * self.in_features,
                hidden_channels,
                kernel_size,
                kind="B" if index else "A",
                groups=channels,
            )
            for index in range(num_layers)
        )
        size = num_layers * hidden_channels
        self.given = Linear(self.context_channels, size) if self.context_channels else None

    @property
    def _layers(self) -> list[MaskedConv2d]:
        return cast("list[MaskedConv2d]", list(self.convolutions))

    def _given(self, context: Any) -> Any:
        """What the context adds (layers, batch, height or 1, width or 1, hidden_channels); None
        without one.
        """
        maps = self.context_of(context)
        if maps is None or self.given is None:
            return None
        return self.given(maps).unflatten(-1, (len(self.convolutions), -1)).movedim(-2, 0)

    def features(self, u: Tensor, context: Any) -> Tensor:
        """All pixels in one pass."""
        h, given = u.reshape(len(u), *self.event_shape[1:], -1), self._given(context)
        for index, layer in enumerate(self._layers):
            step = layer(h) if given is None else layer(h) + given[index]
            step = activate(self.activation, step)
            h = h + step if index else step
        return h.reshape(len(u), self.num_steps, -1)

    def begin(self, context: Any, num: int) -> dict[str, Any]:
        """The last rows of what the first layer sees, and of what all others see."""
        first, *rest = self._layers
        zeros, rows = first.bias.new_zeros, (self.reach + 1, self.event_shape[2] + 2 * self.reach)
        return {
            "given": self._given(context),
            "bias": torch.stack([layer.bias for layer in self._layers])[:, None],
            "first": first.taps(),
            "rest": [torch.stack(taps) for taps in zip(*(layer.taps() for layer in rest))],
            "rows": zeros(num, *rows, first.in_channels),
            "hidden": zeros(len(rest), num, *rows, first.out_channels),
            "pixel": zeros(num, self.event_shape[0], self.in_features),
            "row": 0,
        }

    def enter(self, state: dict[str, Any], block: int, previous: Tensor) -> dict[str, Any]:
        """A row further down."""
        if block > 0:
            self._write(state, self.event_shape[2] - 1, previous)
        for name in ("rows", "hidden"):
            state[name] = F.pad(state[name][..., 1:, :, :], (0, 0, 0, 0, 0, 1))
        state["row"] = block
        return state

    def _write(self, state: dict[str, Any], column: int, previous: Tensor) -> None:
        """The last channel of a pixel, and then the pixel."""
        state["pixel"][:, -1] = previous
        state["rows"][:, -1, column + self.reach] = state["pixel"].flatten(1)

    def advance(
        self, state: dict[str, Any], index: int, previous: Tensor
    ) -> tuple[Tensor, dict[str, Any]]:
        """The layers at a pixel, of whose channels the first are known: what all layers take from
        the pixels before it in one product, then the chain of the layers.
        """
        num_channels = self.event_shape[0]
        column, channel = index % self.block // num_channels, index % num_channels
        if channel:
            state["pixel"][:, channel - 1] = previous
        else:
            if column:
                self._write(state, column - 1, previous)
            state["pixel"].zero_()
        added, given = state["bias"], state["given"]
        if given is not None:
            row, at = (state["row"], column) if self.is_map else (0, 0)
            added = added + given[:, :, row, at]
        (past, own), window = state["first"], slice(column, column + 2 * self.reach + 1)
        step = torch.addmm(added[0], state["rows"][:, :, window].flatten(1), past)
        h = activate(self.activation, torch.addmm(step, state["pixel"].flatten(1), own))
        if state["rest"]:
            past, own = state["rest"]
            windows = state["hidden"][:, :, :, window].flatten(2)
            steps, hidden = torch.baddbmm(added[1:], windows, past), []
            for step, weight in zip(steps.unbind(0), own.unbind(0)):
                hidden.append(h)
                h = h + activate(self.activation, torch.addmm(step, h, weight))
            state["hidden"][:, :, -1, column + self.reach] = torch.stack(hidden)
        return h.unflatten(-1, (num_channels, -1))[:, channel], state

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.family),)
