"""Parts of networks over images (batch, channels, height, width): normalization without a state,
residual blocks that a vector modulates, attention over all pixels, halving and doubling.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.attention import full_attention
from dgm_core.images import group_count
from pyro_dgm.nn.attention import MaskedAttention
from pyro_dgm.nn.convolution import by_pixel
from pyro_dgm.nn.image_layers import Conv2d
from pyro_dgm.nn.layers import Linear, activate

__all__: list[str] = []


class GroupNorm(nn.GroupNorm):
    """Normalization of the groups of channels of each image by itself, with statistics over pixels
    and the channels of a group: y = weight (x - mean) / sqrt(variance + 1e-5) + bias.

    References:
        Wu & He (2018), arXiv:1803.08494.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(group_count(channels), channels)


class ResidualBlock(nn.Module):
    """h = W f(norm(x)),  x' = S x + W' f((1 + a) norm(h) + b),  where (a, b) = V e + v of a vector
    e, 0 without one; W, W' are convolutions, S is the identity where the channels stay.

    Args:
        in_channels: of x.
        out_channels: of x'.
        embedding_dim: of e; 0 for none.
        activation: f.
    """

    def __init__(
        self, in_channels: int, out_channels: int, embedding_dim: int, activation: str
    ) -> None:
        super().__init__()
        self.activation = activation
        self.first_norm, self.first = GroupNorm(in_channels), Conv2d(in_channels, out_channels)
        self.second_norm, self.second = GroupNorm(out_channels), Conv2d(out_channels, out_channels)
        self.modulation = Linear(embedding_dim, 2 * out_channels) if embedding_dim else None
        self.skip = Linear(in_channels, out_channels) if in_channels != out_channels else None

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        """Map x (batch, in_channels, height, width), given e (batch, embedding_dim)."""
        h = self.first(activate(self.activation, self.first_norm(x)))
        h = self.second_norm(h)
        if self.modulation is not None and e is not None:
            scale, shift = self.modulation(e)[..., None, None].chunk(2, 1)
            h = h * (1.0 + scale) + shift
        h = self.second(activate(self.activation, h))
        return h + (x if self.skip is None else by_pixel(self.skip, x))


class PixelAttention(nn.Module):
    """x' = x + attention(norm(x)), in which every pixel sees all.

    Args:
        channels: of x.
        pixels: (height, width).
        num_heads: of the attention.
    """

    def __init__(self, channels: int, pixels: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels)
        pattern = full_attention(pixels[0] * pixels[1])
        self.attention = MaskedAttention(channels, pattern, num_heads=num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (batch, channels, height, width)."""
        h = self.norm(x).flatten(2).mT
        return x + self.attention(h).mT.reshape(x.shape)


def halved(x: Tensor) -> Tensor:
    """Means of 2x2 pixels, those of the last row and column taken twice where there are odd ones.

    Example:
        >>> halved(torch.tensor([[[[1.0, 3.0, 5.0]]]]))
        tensor([[[[2., 5.]]]])
    """
    height, width = x.shape[-2:]
    return F.avg_pool2d(F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def doubled(x: Tensor, pixels: tuple[int, ...]) -> Tensor:
    """Every pixel as 2x2, without the last row and column where there are odd ones.

    Example:
        >>> doubled(torch.tensor([[[[2.0, 5.0]]]]), (1, 3))
        tensor([[[[2., 2., 5.]]]])
    """
    x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    return x[..., : pixels[0], : pixels[1]]
