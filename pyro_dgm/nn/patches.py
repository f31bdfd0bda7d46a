"""Networks over the patches of an image of which some are hidden."""

from math import sqrt

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count
from dgm_core.attention import full_attention
from pyro_dgm.nn.initial import uniform_draws
from pyro_dgm.nn.layers import Linear
from pyro_dgm.nn.transformer import Positions, Transformer

__all__: list[str] = []


class HiddenPatches(nn.Module):
    """Features of all patches of an image from those that are visible: an encoder of these alone,
    and a decoder of their codes and of one learned token in place of each hidden patch.

    Args:
        grid: rows and columns of patches.
        size: the numbers of a patch.
        dim, num_layers: of the encoder.
        decoder_dim, decoder_layers: of the decoder.
        num_heads: of every attention.

    Shapes:
        patches (batch, rows * columns, size), visible (batch, number), integers -> codes (batch,
        number, dim), features (batch, rows * columns, decoder_dim).
    """

    def __init__(
        self,
        grid: tuple[int, int],
        size: int,
        *,
        dim: int,
        num_layers: int,
        decoder_dim: int,
        decoder_layers: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        num_layers = check_count("num_layers", num_layers)
        decoder_layers = check_count("decoder_layers", decoder_layers)
        dim, decoder_dim = check_count("dim", dim), check_count("decoder_dim", decoder_dim)
        pattern, limit = full_attention(grid[0] * grid[1]), 1.0 / sqrt(decoder_dim)
        self.embed, self.positions = Linear(size, dim), Positions(grid, dim)
        self.encoder = Transformer(dim, [pattern] * num_layers, num_heads=num_heads)
        self.to_decoder, self.decoder_positions = (
            Linear(dim, decoder_dim),
            Positions(grid, decoder_dim),
        )
        self.token = nn.Parameter(uniform_draws((decoder_dim,), limit))
        self.decoder = Transformer(decoder_dim, [pattern] * decoder_layers, num_heads=num_heads)
        self.out_shape = (pattern.num_positions, decoder_dim)

    def forward(self, patches: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The codes of the visible patches and features of all."""
        tokens = self.positions(self.embed(patches))
        codes = self.encoder(tokens.gather(1, spread(visible, tokens.shape[-1])))
        shown = self.to_decoder(codes)
        tokens = self.token.expand(len(patches), *self.out_shape)
        tokens = tokens.scatter(1, spread(visible, shown.shape[-1]), shown)
        return codes, self.decoder(self.decoder_positions(tokens))

    def hidden(self, visible: Tensor) -> Tensor:
        """Which patches are not visible, (batch, rows * columns)."""
        hidden = torch.ones(len(visible), self.out_shape[0], dtype=torch.bool)
        return hidden.to(visible.device).scatter(1, visible, False)

    def __repr__(self) -> str:
        return f"HiddenPatches({self.encoder!r}, {self.decoder!r})"


def spread(index: Tensor, size: int) -> Tensor:
    """Places (batch, number) for entries of that size, (batch, number, size)."""
    return index[..., None].expand(-1, -1, size)
