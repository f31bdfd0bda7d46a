"""Translation between two domains without pairs:  y_n = G(x_n),  x_m = F(y_m),  x and y data of
which no rows belong together.

Trained by Hinge("x") + Hinge("y") + 10.0 * Cycle(("x", "y")), to which 5.0 * Identity(("x", "y"))
adds that data of a domain stay as they are.
"""

from typing import Any

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_shape
from dgm_core.translating import check_domains, check_rows, check_translator
from pyro_dgm.models.parts import given, given_image
from pyro_dgm.nn import MLP, UNet, register


class CycleGAN(nn.Module):
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
        >>> gan = CycleGAN(3, 2)
        >>> gan.model(torch.zeros(5, 3))["y"].shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        x_shape: int | tuple[int, ...],
        y_shape: int | tuple[int, ...] | None = None,
        *,
        to_y: nn.Module | None = None,
        to_x: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.x_shape = check_shape("x_shape", x_shape)
        self.y_shape = self.x_shape if y_shape is None else check_shape("y_shape", y_shape)
        if to_y is None or to_x is None:
            check_domains(self.x_shape, self.y_shape)
        self.to_y = check_translator("to_y", to_y or _translator(self.x_shape, self.y_shape))
        self.to_x = check_translator("to_x", to_x or _translator(self.y_shape, self.x_shape))

    def model(self, x: Tensor | None = None, y: Tensor | None = None) -> dict[str, Tensor]:
        """Translate x (batch, *x_shape), y (batch, *y_shape), or both, which are then observed."""
        number, drawn = check_rows(x, y, self.x_shape, self.y_shape), {}
        to_y, to_x = register("to_y", self.to_y), register("to_x", self.to_x)
        with pyro.plate("data", number):
            if x is not None:
                fake = self.translated(to_y, x, self.y_shape)
                drawn["y"] = pyro.sample("y", fake, obs=y)
            if y is not None:
                fake = self.translated(to_x, y, self.x_shape)
                drawn["x"] = pyro.sample("x", fake, obs=x)
        return drawn

    def guide(self, x: Tensor | None = None, y: Tensor | None = None) -> None:
        """Nothing: there are no latent sites."""

    def translated(self, network: Any, data: Tensor, shape: tuple[int, ...]) -> Any:
        """The distribution of what a network makes of data, images between 0 and 1."""
        real = data.is_floating_point()
        out = network(data if real else data.to(torch.get_default_dtype()))
        if tuple(out.shape) != (len(data), *shape):
            raise ValueError(
                f"A network of this CycleGAN must give {(len(data), *shape)} from data of shape "
                f"{tuple(data.shape)}, got {tuple(out.shape)}."
            )
        return given_image(out) if len(shape) == 3 else given(out, len(shape))


def _translator(source: tuple[int, ...], target: tuple[int, ...]) -> nn.Module:
    """The default network from one domain to the other."""
    if len(source) == 3:
        return UNet(source, out_channels=target[0])
    return MLP(source[0], (128, 128), target[0])
