"""Networks over the patches of an image of which some are hidden."""

from math import sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.attention import full_attention
from numpyro_dgm.nn.initial import placed, uniform_draws
from numpyro_dgm.nn.layers import Linear
from numpyro_dgm.nn.transformer import Positions, Transformer

__all__: list[str] = []


class HiddenPatches(eqx.Module):
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

    embed: Linear
    positions: Positions
    encoder: Transformer
    to_decoder: Linear
    decoder_positions: Positions
    token: Array
    decoder: Transformer
    out_shape: tuple[int, int] = eqx.field(static=True)

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
        key: Array,
    ) -> None:
        num_layers = check_count("num_layers", num_layers)
        decoder_layers = check_count("decoder_layers", decoder_layers)
        dim, decoder_dim = check_count("dim", dim), check_count("decoder_dim", decoder_dim)
        pattern, limit = full_attention(grid[0] * grid[1]), 1.0 / sqrt(decoder_dim)
        keys = jax.random.split(key, 7)
        self.embed = Linear(size, dim, key=keys[0])
        self.positions = Positions(grid, dim, key=keys[1])
        patterns = [pattern] * num_layers, [pattern] * decoder_layers
        self.encoder = Transformer(dim, patterns[0], num_heads=num_heads, key=keys[2])
        self.to_decoder = Linear(dim, decoder_dim, key=keys[3])
        self.decoder_positions = Positions(grid, decoder_dim, key=keys[4])
        self.token = placed(uniform_draws(keys[5], (decoder_dim,), limit))
        self.decoder = Transformer(decoder_dim, patterns[1], num_heads=num_heads, key=keys[6])
        self.out_shape = (pattern.num_positions, decoder_dim)

    def __call__(self, patches: Array, visible: Array) -> tuple[Array, Array]:
        """The codes of the visible patches and features of all."""
        tokens = self.positions(self.embed(patches))
        codes = self.encoder(jnp.take_along_axis(tokens, visible[..., None], 1))
        shown = self.to_decoder(codes)
        tokens = jnp.broadcast_to(self.token, (len(patches), *self.out_shape))
        tokens = tokens.at[jnp.arange(len(patches))[:, None], visible].set(shown)
        return codes, self.decoder(self.decoder_positions(tokens))

    def hidden(self, visible: Array) -> Array:
        """Which patches are not visible, (batch, rows * columns)."""
        hidden = jnp.ones((len(visible), self.out_shape[0]), bool)
        return hidden.at[jnp.arange(len(visible))[:, None], visible].set(False)

    def __repr__(self) -> str:
        return f"HiddenPatches({self.encoder!r}, {self.decoder!r})"
