"""M1:  z_n ~ prior;  x_n | z_n ~ likelihood(decoder(z_n));  y_n | z_n ~ classes(classifier(z_n));
q(z_n | x_n) = posterior(encoder(x_n)).

A label that is missing is integrated out, and then says nothing of z: it counts zero.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_count, check_sizes
from numpyro_dgm.conditionals import Categorical, Conditional
from numpyro_dgm.models.parts import check_network, features_of, outline, prior_of
from numpyro_dgm.models.semi_supervised.labels import num_labeled
from numpyro_dgm.models.vae.vae import VAE
from numpyro_dgm.nn import MLP, register


class M1(VAE):
    """A variational autoencoder whose codes are classified (Kingma et al. 2014).

    Fit it by `ELBO()`: labels that are missing cost nothing. The paper fits the autoencoder alone
    and then a classifier of codes; here both learn from each other.

    Args:
        x_dim, z_dim, hidden, encoder, decoder, prior, posterior, likelihood: as VAE takes them.
        num_classes: K, at least 2.
        classifier: of z, a network with an attribute `out_dim` (default MLP with hidden[-1:]).
            Sites: z (z_dim,), x (x_dim,), y (), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch,) integers, -1 where the label is missing. Without y it is drawn:
        enumerate it to predict labels.

    Raises:
        ValueError: if a size, a conditional or the data do not fit, and for labels out of range.

    References:
        Kingma, Rezende, Mohamed & Welling (2014), arXiv:1406.5298, section 2.1.

    Example:
        >>> m1 = M1(64, 2, 10, hidden=(100,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     m1.model(size=5).shape
        (5, 64)
    """

    num_classes: int = eqx.field(static=True)
    classifier: MLP
    classes: Categorical

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
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        keys = jax.random.split(key, 3)
        super().__init__(
            x_dim,
            z_dim,
            hidden=hidden,
            encoder=encoder,
            decoder=decoder,
            prior=prior,
            posterior=posterior,
            likelihood=likelihood,
            key=keys[0],
        )
        num_classes = check_count("num_classes", num_classes, 2)
        check_network("classifier", classifier, z_dim)
        self.num_classes = num_classes
        self.classifier = classifier or MLP(z_dim, check_sizes("hidden", hidden)[-1:], key=keys[1])
        self.classes = Categorical(
            (), num_classes, context_shape=features_of(self.classifier), key=keys[2]
        )

    def __repr__(self) -> str:
        return outline(self)

    def model(  # type: ignore[override]
        self, x: Array | None = None, y: Array | None = None, size: int = 1
    ) -> Array:
        """Generate `size` data with labels, or score the data x (batch, x_dim) and labels y."""
        prior, decoder = prior_of(self), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        classifier = register("classifier", self.classifier)
        classes = register("classes", self.classes)
        with numpyro.plate("data", num_labeled(y, self.num_classes, x, (self.x_dim,), size)):
            z = numpyro.sample("z", prior)
            x = numpyro.sample("x", likelihood(decoder(z)), obs=x)
            fn = classes(classifier(z))
            if y is None:
                numpyro.sample("y", fn)
            else:
                seen = y != -1
                with numpyro.handlers.mask(mask=seen):
                    numpyro.sample("y", fn, obs=jnp.where(seen, y, jnp.zeros_like(y)))
            return x

    def guide(  # type: ignore[override]
        self, x: Array | None = None, y: Array | None = None, size: int = 1
    ) -> Array:
        """Infer z from the data x (batch, x_dim)."""
        num_labeled(y, self.num_classes, x, (self.x_dim,), size)
        return super().guide(x, size)
