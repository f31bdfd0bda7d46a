"""Gaussian mixture variational autoencoder:  y_n ~ class_prior;  z_n | y_n ~ prior(y_n);  x_n | z_n
~ likelihood(decoder(z_n)).

The guide has q(y_n | x_n) = classes(classifier(x_n)) and q(z_n | x_n, y_n) = posterior(encoder(x_n,
y_n)); or q(z_n | x_n) alone, and y_n is summed out: by Bayes' rule p(y_n | z_n) is its posterior.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_counts, check_flag, check_seed, check_sizes
from dgm_core.contexts import Labels
from dgm_core.mixtures import fitted_mixture, raw_scale
from pyro_dgm.conditionals import Bernoulli, Categorical, Conditional, DiagonalNormal
from pyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    num_data,
)
from pyro_dgm.models.semi_supervised.labels import check_class_prior, class_prior_of, seen_by
from pyro_dgm.models.vae.pretrained import codes_of, parts_of_run
from pyro_dgm.nn import MLP, register


class GMVAE(nn.Module):
    """A variational autoencoder whose codes come in clusters.

    Fit it by `ELBO(enumerate="y")`. Summing y out is never looser than a guide with the same q(z |
    x) for all y: the bound is that under the mixture as prior.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        num_classes: the number of clusters, K, at least 2.
        summed: whether the guide leaves y out.
        hidden: the sizes of the hidden layers of encoder and classifier, which the decoder has in
            reverse order.
        encoder: of (x, y), with `summed` of x; decoder of z, and classifier of x, networks with an
            attribute `out_dim` (default MLP).
        prior: of z given y, `Labels(num_classes)` (default DiagonalNormal(z_dim)).
        class_prior: of y, without context (default Categorical((), num_classes), learned).
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: y (), z
            (z_dim,), x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    Cost:
        networks that see y, and the decoder, run for all K clusters of each datum.

    References:
        Kingma et al. (2014), arXiv:1406.5298; Jiang et al. (2017), arXiv:1611.05148 (Bayes' rule);
        Dilokthanakul et al. (2016), arXiv:1611.02648.

    Example:
        >>> GMVAE(64, 2, 10, hidden=(100,)).model(size=5).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        num_classes: int,
        *,
        summed: bool = False,
        hidden: Sequence[int] = (200, 200),
        encoder: MLP | None = None,
        decoder: MLP | None = None,
        classifier: MLP | None = None,
        prior: Conditional | None = None,
        class_prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        summed, hidden = check_flag("summed", summed), check_sizes("hidden", hidden)
        if summed and classifier is not None:
            raise ValueError("With summed=True the guide draws no y: leave out the classifier.")
        seen = x_dim if summed else x_dim + num_classes
        check_network("encoder", encoder, seen)
        check_network("decoder", decoder, z_dim)
        check_network("classifier", classifier, x_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        check_class_prior(class_prior, num_classes)
        self.x_dim, self.z_dim, self.num_classes, self.summed = x_dim, z_dim, num_classes, summed
        self.encoder = encoder or MLP(seen, hidden)
        self.decoder = decoder or MLP(z_dim, hidden[::-1])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = prior or DiagonalNormal(z_dim, context_shape=Labels(num_classes))
        self.class_prior = class_prior or Categorical((), num_classes)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1])
        self.classifier: MLP | None = None
        self.classes: Categorical | None = None
        if not summed:
            self.classifier = classifier or MLP(x_dim, hidden)
            self.classes = Categorical((), num_classes, context_shape=features_of(self.classifier))
        check_fit("prior", self.prior, (z_dim,), Labels(num_classes))
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    @classmethod
    def from_run(cls, run: Any, x: Any, num_classes: int, *, seed: int = 0) -> "GMVAE":
        """A model of clusters that starts where the run of a VAE ended, with its networks, their
        weights copied, and `summed`; the prior is the Gaussian mixture of the means of the codes of
        x (num_data, x_dim), without correlations.

        What the clusters are is decided there: a VAE that is fitted with clusters from the first
        step finds others in every run. Fit it by `ELBO(enumerate="y")`, as any GMVAE.

        Args:
            run: what `fit` returned for `vae.model` and `vae.guide` of a VAE, which stays as it is.
            x: data of that kind, from whose codes the mixture is fitted; 10,000 rows at the most.
            num_classes: the number of clusters, K.
            seed: of the ten starts of the mixture.

        Cost:
            one pass of the encoder, and ten fits of scikit-learn's mixture.

        Raises:
            ValueError: for a run of another model than a VAE, of one with running statistics, and
                for data that do not fit, or too few.

        References:
            Jiang et al. (2017), Variational deep embedding, arXiv:1611.05148.

        Example:
            >>> from pyro_dgm import fit
            >>> from pyro_dgm.models import VAE
            >>> x = np.eye(8, dtype="float32")
            >>> vae = VAE(8, 2, hidden=(4,))
            >>> run = fit(vae.model, vae.guide, x, progress=False)
            >>> GMVAE.from_run(run, x, 3).num_classes
            3
        """
        num_classes = check_count("num_classes", num_classes, 2)
        vae, parts = parts_of_run(run, ("encoder", "decoder", "posterior", "likelihood"))
        codes = codes_of(vae, parts, x)
        log_weights, means, scales = fitted_mixture(codes, num_classes, check_seed("seed", seed))
        class_prior = Categorical((), num_classes)
        prior = DiagonalNormal(vae.z_dim, context_shape=Labels(num_classes))
        raw = raw_scale(scales, prior.floor)
        with torch.no_grad():
            for place, value in (
                (class_prior.free, log_weights),
                (prior.head.weight, np.concatenate([means, raw], 1).T),
                (prior.head.bias, np.zeros(2 * means.shape[1])),
            ):
                place.copy_(torch.as_tensor(value))
        return cls(
            vae.x_dim,
            vae.z_dim,
            num_classes,
            summed=True,
            prior=prior,
            class_prior=class_prior,
            **parts,
        )

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            y = pyro.sample("y", class_prior_of(self))
            z = pyro.sample("z", prior(y))
            return pyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Infer y and z from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            y = None
            if self.classifier is not None and self.classes is not None:
                classifier = register("classifier", self.classifier)
                y = pyro.sample("y", register("classes", self.classes)(classifier(x)))
            return pyro.sample("z", posterior(seen_by(encoder, self.num_classes, y, x)))
