"""Translation between two domains without pairs:  y_n = G(x_n),  x_m = F(y_m),  x and y data of
which no rows belong together.

Trained by Hinge("x") + Hinge("y") + 10.0 * Cycle(("x", "y")), to which 5.0 * Identity(("x", "y"))
adds that data of a domain stay as they are.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_shape
from dgm_core.translating import check_domains, check_rows, check_translator
from numpyro_dgm.models.parts import given, given_image, outline
from numpyro_dgm.nn import MLP, UNet, register


class CycleGAN(eqx.Module):
    """Two networks that translate, each into the domain of the other (Zhu et al. 2017).

    Train it by `fit(gan.model, None, Unpaired(x, y), loss=..., batch_size=...)` on data sets of any
    sizes. Translations are `generate(run, x)["y"]` and `generate(run, None, y)["x"]`. Images have
    values in [0, 1]: the sigmoid of what the networks give.

    Args:
        x_shape: the size of a vector, or (channels, height, width).
        y_shape: (default x_shape).
        to_y: the network G (default for images UNet(x_shape, out_channels=...), for vectors
            MLP(x_dim, (128, 128), y_dim)).
        to_x: the network F (default likewise). Sites: x (*x_shape,), y (*y_shape,), in the plate
            "data".

    Shapes:
        x (batch, *x_shape), y (batch, *y_shape).

    Raises:
        ValueError: for shapes between which the default networks cannot translate, networks that do
            not fit, data of other shapes, and batches of unequal length.
        NoDensityError: when a loss asks for a density.

    References:
        Zhu et al. (2017), arXiv:1703.10593.

    Example:
        >>> gan = CycleGAN(3, 2, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     gan.model(jax.numpy.zeros((5, 3)))["y"].shape
        (5, 2)
    """

    x_shape: tuple[int, ...] = eqx.field(static=True)
    y_shape: tuple[int, ...] = eqx.field(static=True)
    to_y: Any
    to_x: Any

    def __init__(
        self,
        x_shape: int | tuple[int, ...],
        y_shape: int | tuple[int, ...] | None = None,
        *,
        to_y: eqx.Module | None = None,
        to_x: eqx.Module | None = None,
        key: Array,
    ) -> None:
        self.x_shape = check_shape("x_shape", x_shape)
        self.y_shape = self.x_shape if y_shape is None else check_shape("y_shape", y_shape)
        if to_y is None or to_x is None:
            check_domains(self.x_shape, self.y_shape)
        one, two = jax.random.split(key)
        x_shape, y_shape = self.x_shape, self.y_shape
        self.to_y = check_translator("to_y", to_y or _translator(x_shape, y_shape, one))
        self.to_x = check_translator("to_x", to_x or _translator(y_shape, x_shape, two))

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, y: Array | None = None) -> dict[str, Array]:
        """Translate x (batch, *x_shape), y (batch, *y_shape), or both, which are then observed."""
        number, drawn = check_rows(x, y, self.x_shape, self.y_shape), {}
        to_y, to_x = register("to_y", self.to_y), register("to_x", self.to_x)
        with numpyro.plate("data", number):
            if x is not None:
                fake = self.translated(to_y, x, self.y_shape)
                drawn["y"] = numpyro.sample("y", fake, obs=y)
            if y is not None:
                fake = self.translated(to_x, y, self.x_shape)
                drawn["x"] = numpyro.sample("x", fake, obs=x)
        return drawn

    def guide(self, x: Array | None = None, y: Array | None = None) -> None:
        """Nothing: there are no latent sites."""

    def translated(self, network: Any, data: Array, shape: tuple[int, ...]) -> Any:
        """The distribution of what a network makes of data, images between 0 and 1."""
        out = network(jnp.asarray(data, jnp.result_type(data, float)))
        if tuple(out.shape) != (len(data), *shape):
            raise ValueError(
                f"A network of this CycleGAN must give {(len(data), *shape)} from data of shape "
                f"{tuple(data.shape)}, got {tuple(out.shape)}."
            )
        return given_image(out) if len(shape) == 3 else given(out, len(shape))


def _translator(source: tuple[int, ...], target: tuple[int, ...], key: Array) -> eqx.Module:
    """The default network from one domain to the other."""
    if len(source) == 3:
        return UNet(source, out_channels=target[0], key=key)
    return MLP(source[0], (128, 128), target[0], key=key)
