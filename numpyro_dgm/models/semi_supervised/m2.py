"""M2:  y_n ~ class_prior;  z_n ~ prior;  x_n | y_n, z_n ~ likelihood(decoder(z_n, y_n));  the guide
has q(y_n | x_n) = classes(classifier(x_n)) and q(z_n | x_n, y_n) = posterior(encoder(x_n, y_n)).

Where the label is known the bound is log p(x, y)'s, L(x, y); elsewhere, summed over the labels,
U(x) = sum_y q(y | x) [L(x, y) - log q(y | x)].
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import check_count, check_counts, check_sizes
from dgm_core.contexts import Labels
from numpyro_dgm.conditionals import (
    Bernoulli,
    Categorical,
    Conditional,
    DiagonalNormal,
    StandardNormal,
)
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    outline,
)
from numpyro_dgm.models.semi_supervised.labels import (
    check_class_prior,
    class_prior_of,
    guessed,
    labels,
    num_labeled,
    seen_by,
)
from numpyro_dgm.nn import MLP, register


class M2(eqx.Module):
    """A generative model of data and their labels, some of which are missing (Kingma et al. 2014).

    Fit it by `ELBO(enumerate="y") + weight * NLL("y")`: the labels that are missing are summed out
    in one call of the decoder, and NLL("y") teaches the classifier those that are known; with the
    paper's alpha = 0.1 N the weight is 0.1 N / (number of labels).

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        num_classes: K, at least 2.
        hidden: the sizes of the hidden layers of encoder and classifier, which the decoder has in
            reverse order.
        encoder: of (x, y), decoder of (z, y) and classifier of x, networks with an attribute
            `out_dim` (default MLP).
        prior: of z, without context or given y, `Labels(num_classes)` (default
            StandardNormal(z_dim)).
        class_prior: of y, a Categorical((), num_classes) to learn it (default: uniform).
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: y (), z
            (z_dim,), x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch,) integers, -1 where the label is missing; without y all are.

    Raises:
        ValueError: if a size, a conditional or the data do not fit, and for labels out of range.

    Cost:
        under enumeration networks that see y run for all K labels of each datum.

    References:
        Kingma, Rezende, Mohamed & Welling (2014), arXiv:1406.5298, section 2.2.

    Example:
        >>> m2 = M2(64, 2, 10, hidden=(100,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     m2.model(y=jnp.arange(10)).shape
        (10, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    encoder: MLP
    decoder: MLP
    classifier: MLP
    prior: Conditional
    class_prior: Conditional | None
    classes: Categorical
    posterior: Conditional
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        num_classes: int,
        *,
        hidden: Sequence[int] = (200, 200),
        encoder: MLP | None = None,
        decoder: MLP | None = None,
        classifier: MLP | None = None,
        prior: Conditional | None = None,
        class_prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        hidden = check_sizes("hidden", hidden)
        check_network("encoder", encoder, x_dim + num_classes)
        check_network("decoder", decoder, z_dim + num_classes)
        check_network("classifier", classifier, x_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        check_class_prior(class_prior, num_classes)
        self.x_dim, self.z_dim, self.num_classes = x_dim, z_dim, num_classes
        keys = jax.random.split(key, 6)
        self.encoder = encoder or MLP(x_dim + num_classes, hidden, key=keys[0])
        self.decoder = decoder or MLP(z_dim + num_classes, hidden[::-1], key=keys[1])
        self.classifier = classifier or MLP(x_dim, hidden, key=keys[2])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = prior or StandardNormal(z_dim)
        self.class_prior = class_prior
        self.classes = Categorical(
            (), num_classes, context_shape=features_of(self.classifier), key=keys[3]
        )
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0], key=keys[4])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1], key=keys[5])
        check_fit("prior", self.prior, (z_dim,), 0, Labels(num_classes))
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Generate a datum for each label y or `size` data, or score the data x (batch, x_dim)."""
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", num_labeled(y, self.num_classes, x, (self.x_dim,), size)):
            y = labels(class_prior_of(self), y)
            z = numpyro.sample("z", prior(y if prior.context_shape else None))
            return numpyro.sample("x", likelihood(seen_by(decoder, self.num_classes, y, z)), obs=x)

    def guide(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Infer z, and y where it is missing, from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        classifier = register("classifier", self.classifier)
        classes = register("classes", self.classes)
        encoder = register("encoder", self.encoder)
        posterior = register("posterior", self.posterior)
        with numpyro.plate("data", num_labeled(y, self.num_classes, x, (self.x_dim,), size)):
            y = guessed(classes(classifier(x)), y)
            return numpyro.sample("z", posterior(seen_by(encoder, self.num_classes, y, x)))
