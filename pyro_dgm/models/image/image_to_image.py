"""Images given images:  x_n | y_n ~ likelihood(net(y_n)), and with a latent code  z_n ~ prior;
x_n | z_n, y_n ~ likelihood(net(y_n, z_n));  q(z_n | x_n, y_n) = posterior(encoder(x_n, y_n)).

Denoising, super-resolution, colorization, inpainting, segmentation, translation between domains
whose images come in pairs: all are this model, with different y and likelihoods.
"""

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import (
    check_count,
    check_flag,
    check_image_shape,
    check_sizes,
    refuse,
)
from dgm_core.images import seen_channels
from pyro_dgm.conditionals import Conditional, DiagonalNormal, StandardNormal
from pyro_dgm.conditionals.stated import Stated
from pyro_dgm.models.image.parts import filled, fitted, image_pairs, within
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network, features_of
from pyro_dgm.nn import ConvEncoder, UNet, register


class ImageToImage(nn.Module):
    """A model of images x given images y, with a code z of what y leaves open where z_dim > 0.

    y is a site as well, which is given and counts nothing, log p(y) = 0: a critic that compares x
    and y, JensenShannon(("x", "y"), ImageCritic(image_shape, context_shape=given_shape)), makes
    pix2pix of it, NLL() a regression, ELBO() with a code a conditional autoencoder.

    Args:
        image_shape: (channels, height, width) of x.
        given_shape: of y (default: that of x, with hidden_only one channel more). It may have a
            multiple of the pixels of x, which are taken in blocks, or a fraction, which are
            repeated.
        z_dim: the size of a code; 0 for none.
        hidden_only: for holes: whether y is x with a mask behind its channels, as
            `dgm_core.restoration.hide` makes it, and x is known where that is 1. Only the rest is
            scored and drawn; else a net that can copy what is seen is trained to do little else.
        channels: of each scale of the net, and of the encoder's convolutions.
        pixel_features: of a pixel behind the net.
        features: of a pair of images in the encoder.
        net: from y, with the pixels of x, to a map of features, called as net(y), or net(y,
            context=z) (default UNet).
        encoder: from x and y, one behind the other, to features (default ConvEncoder).
        prior: of z, without context or given y (default StandardNormal(z_dim)).
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the net's map (default DiagonalNormal(image_shape)). Sites: y
            (*given_shape), z (z_dim,) if there is a code, x (*image_shape), in the plate "data".

    Shapes:
        x (batch, *image_shape), y (batch, *given_shape).

    Raises:
        ValueError: if a size, a network, a conditional or the data do not fit, for parts of a code
            without one, for numbers like 255 that are no classes, and with hidden_only for masks
            of other numbers than 0 and 1 and pixels that are not independent.

    References:
        Isola et al. (2017), arXiv:1611.07004; Sohn, Lee & Yan (2015), NeurIPS 28.

    Example:
        >>> denoiser = ImageToImage((1, 8, 8), channels=(4, 8))
        >>> denoiser.model(y=torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 1, 8, 8])
    """

    prior: Any
    encoder: Any
    posterior: Any

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        given_shape: tuple[int, int, int] | None = None,
        *,
        z_dim: int = 0,
        hidden_only: bool = False,
        channels: Sequence[int] = (16, 32),
        pixel_features: int = 16,
        features: int = 128,
        net: UNet | None = None,
        encoder: ConvEncoder | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape("image_shape", image_shape)
        self.hidden_only = check_flag("hidden_only", hidden_only)
        masked = image_shape[0] + 1, *image_shape[1:]
        if given_shape is None:
            given_shape = masked if hidden_only else image_shape
        self.given_shape = check_image_shape("given_shape", given_shape)
        if hidden_only and self.given_shape != masked:
            refuse("given_shape", f"{masked}, the channels of x and the mask", given_shape)
        self.z_dim = check_count("z_dim", z_dim, 0)
        channels = check_sizes("channels", channels, least=1)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        check_network("net", net)
        check_network("encoder", encoder)
        self._check_code(prior=prior, posterior=posterior, encoder=encoder)
        pixels = self.image_shape[1:]
        seen = seen_channels(self.given_shape, pixels)
        self.net = net or UNet(
            (seen, *pixels),
            channels=channels,
            out_channels=check_count("pixel_features", pixel_features),
            context_shape=self.z_dim,
        )
        features = check_count("features", features)
        self.prior = self.encoder = self.posterior = None
        if self.z_dim:
            both = (self.image_shape[0] + seen, *pixels)
            self.prior = prior or StandardNormal(self.z_dim)
            self.encoder = encoder or ConvEncoder(both, hidden_channels=channels, out_dim=features)
            found = features_of(self.encoder)
            self.posterior = posterior or DiagonalNormal(self.z_dim, context_shape=found)
            check_fit("prior", self.prior, (self.z_dim,), 0, self.given_shape)
            check_fit("posterior", self.posterior, (self.z_dim,), found)
        found = features_of(self.net)
        self.likelihood = likelihood or DiagonalNormal(self.image_shape, context_shape=found)
        check_fit("likelihood", self.likelihood, self.image_shape, found)

    def _check_code(self, **parts: Any) -> None:
        for role, part in parts.items():
            if part is not None and not self.z_dim:
                raise ValueError(f"The {role} is that of a code z: give z_dim, or leave it out.")

    def model(self, x: Tensor | None = None, y: Any = None) -> Tensor:
        """Generate one image for each of y (batch, *given_shape), or score those of x (batch,
        *image_shape) given y.
        """
        y = image_pairs(x, y, self.image_shape, self.given_shape)
        net, likelihood = register("net", self.net), register("likelihood", self.likelihood)
        prior = register("prior", self.prior) if self.z_dim else None
        with pyro.plate("data", len(y)):
            pyro.sample("y", Stated(y, 3), obs=y)
            seen = fitted(y, self.image_shape[1:])
            if prior is None:
                h = net(seen)
            else:
                z = pyro.sample("z", prior(y if prior.context_shape else None))
                h = net(seen, context=z)
            fn = likelihood(h)
            fn = filled(fn, y) if self.hidden_only else fn
            within(x, fn)
            return pyro.sample("x", fn, obs=x)

    def guide(self, x: Tensor | None = None, y: Any = None) -> Tensor | None:
        """Infer z from the images x (batch, *image_shape) given y (batch, *given_shape); nothing
        where there is no code.
        """
        if not self.z_dim:
            return None
        if x is None:
            raise ValueError(
                "The guide infers z from data: call it with x of shape (batch, "
                f"*{self.image_shape})."
            )
        y = image_pairs(x, y, self.image_shape, self.given_shape)
        encoder = register("encoder", self.encoder)
        posterior = register("posterior", self.posterior)
        both = torch.cat([x.to(y.dtype), fitted(y, self.image_shape[1:])], 1)
        with pyro.plate("data", len(y)):
            return pyro.sample("z", posterior(encoder(both)))
