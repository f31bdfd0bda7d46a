"""ADGM:  y_n ~ class_prior;  z_n ~ prior;  x_n | y_n, z_n ~ likelihood;  a_n | x_n, y_n, z_n ~
Normal;  SDGM:  a_n | y_n, z_n ~ Normal;  x_n | a_n, y_n, z_n ~ likelihood.

The guide of both has q(a_n | x_n), q(y_n | a_n, x_n) and q(z_n | a_n, y_n, x_n): the auxiliary
variable a makes q(y, z | x) a mixture. In ADGM nothing in the model depends on it.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import check_count, check_counts, check_sizes
from numpyro_dgm.conditionals import (
    Bernoulli,
    Categorical,
    Conditional,
    DiagonalNormal,
    StandardNormal,
)
from numpyro_dgm.models.parts import check_conditionals, check_fit, outline
from numpyro_dgm.models.semi_supervised.labels import (
    check_class_prior,
    class_prior_of,
    guessed,
    labels,
    num_labeled,
    seen_by,
)
from numpyro_dgm.nn import MLP, register


class ADGM(eqx.Module):
    """The auxiliary deep generative model (Maaløe et al. 2016).

    Fit it by `ELBO(enumerate="y") + weight * NLL("y")`, as M2. The bound on log p(x, y) counts the
    auxiliary variable by log p(a | x, y, z) - log q(a | x).

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        num_classes: K, at least 2.
        a_dim: the size of the auxiliary variable (default z_dim).
        hidden: the sizes of the hidden layers of all networks, in reverse order in the decoder.
        prior: of z (default StandardNormal(z_dim)).
        class_prior: of y, a Categorical((), num_classes) to learn it (default: uniform).
        posterior: of z given the last hidden layer of its network (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: y (), z
            (z_dim,), x (x_dim,), a (a_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch,) integers, -1 where the label is missing; without y all are.

    Raises:
        ValueError: if a size, a conditional or the data do not fit, and for labels out of range.

    Cost:
        under enumeration all networks but q(a | x) and q(y | a, x) run for all K labels.

    References:
        Maaløe, Sønderby, Sønderby & Winther (2016), arXiv:1602.05473.

    Example:
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     ADGM(64, 2, 10, hidden=(100,), key=jax.random.key(0)).model(y=jnp.arange(10)).shape
        (10, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    a_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    auxiliary_encoder: MLP
    classifier: MLP
    encoder: MLP
    auxiliary_decoder: MLP
    decoder: MLP
    auxiliary_posterior: DiagonalNormal
    classes: Categorical
    auxiliary: DiagonalNormal
    prior: Conditional
    class_prior: Conditional | None
    posterior: Conditional
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        num_classes: int,
        *,
        a_dim: int | None = None,
        hidden: Sequence[int] = (200, 200),
        prior: Conditional | None = None,
        class_prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        a_dim = z_dim if a_dim is None else check_count("a_dim", a_dim)
        hidden = check_sizes("hidden", hidden, least=1)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        check_class_prior(class_prior, num_classes)
        self.x_dim, self.z_dim, self.a_dim, self.num_classes = x_dim, z_dim, a_dim, num_classes
        auxiliary, decoder = self.sizes()
        keys = jax.random.split(key, 10)
        self.auxiliary_encoder = MLP(x_dim, hidden, key=keys[0])
        self.classifier = MLP(x_dim + a_dim, hidden, key=keys[1])
        self.encoder = MLP(x_dim + a_dim + num_classes, hidden, key=keys[2])
        self.auxiliary_decoder = MLP(auxiliary, hidden, key=keys[3])
        self.decoder = MLP(decoder, hidden[::-1], key=keys[4])
        self.auxiliary_posterior = DiagonalNormal(a_dim, context_shape=hidden[-1], key=keys[5])
        self.classes = Categorical((), num_classes, context_shape=hidden[-1], key=keys[6])
        self.auxiliary = DiagonalNormal(a_dim, context_shape=hidden[-1], key=keys[7])
        self.prior = prior or StandardNormal(z_dim)
        self.class_prior = class_prior
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=hidden[-1], key=keys[8])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=hidden[0], key=keys[9])
        check_fit("prior", self.prior, (z_dim,), 0)
        check_fit("posterior", self.posterior, (z_dim,), hidden[-1])
        check_fit("likelihood", self.likelihood, (x_dim,), hidden[0])

    def __repr__(self) -> str:
        return outline(self)

    def sizes(self) -> tuple[int, int]:
        """What the networks of a and of x in the model take."""
        return self.x_dim + self.z_dim + self.num_classes, self.z_dim + self.num_classes

    def model(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Generate a datum for each label y or `size` data, or score the data x (batch, x_dim)."""
        prior = register("prior", self.prior)
        with numpyro.plate("data", num_labeled(y, self.num_classes, x, (self.x_dim,), size)):
            y = labels(class_prior_of(self), y)
            return self.drawn(numpyro.sample("z", prior()), y, x)

    def drawn(self, z: Array, y: Array, x: Array | None) -> Array:
        """The sites x and a of the model."""
        x = numpyro.sample("x", self.data_given(z, y), obs=x)
        numpyro.sample("a", self.auxiliary_given(x, z, y))
        return x

    def data_given(self, *parts: Array) -> numpyro.distributions.Distribution:
        """p(x | parts, y), the labels last."""
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        return likelihood(seen_by(decoder, self.num_classes, parts[-1], *parts[:-1]))

    def auxiliary_given(self, *parts: Array) -> numpyro.distributions.Distribution:
        """p(a | parts, y), the labels last."""
        decoder = register("auxiliary_decoder", self.auxiliary_decoder)
        auxiliary = register("auxiliary", self.auxiliary)
        return auxiliary(seen_by(decoder, self.num_classes, parts[-1], *parts[:-1]))

    def guide(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Infer a, y where it is missing, and z from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        auxiliary_encoder = register("auxiliary_encoder", self.auxiliary_encoder)
        auxiliary = register("auxiliary_posterior", self.auxiliary_posterior)
        classifier = register("classifier", self.classifier)
        classes = register("classes", self.classes)
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with numpyro.plate("data", num_labeled(y, self.num_classes, x, (self.x_dim,), size)):
            a = numpyro.sample("a", auxiliary(auxiliary_encoder(x)))
            y = guessed(classes(seen_by(classifier, self.num_classes, None, x, a)), y)
            return numpyro.sample("z", posterior(seen_by(encoder, self.num_classes, y, x, a)))


class SDGM(ADGM):
    """The skip deep generative model: an ADGM whose data depend on the auxiliary variable, a layer
    between z and x (Maaløe et al. 2016).

    Args:
        x_dim, z_dim, num_classes, a_dim, hidden, prior, class_prior, posterior, likelihood: as ADGM
            takes them.

    Shapes:
        x (batch, x_dim); y (batch,) integers, -1 where the label is missing; without y all are.

    Raises:
        ValueError: if a size, a conditional or the data do not fit, and for labels out of range.

    References:
        Maaløe, Sønderby, Sønderby & Winther (2016), arXiv:1602.05473, section 2.3.

    Example:
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     SDGM(64, 2, 10, hidden=(100,), key=jax.random.key(0)).model(y=jnp.arange(10)).shape
        (10, 64)
    """

    def sizes(self) -> tuple[int, int]:
        """What the networks of a and of x in the model take."""
        return self.z_dim + self.num_classes, self.a_dim + self.z_dim + self.num_classes

    def drawn(self, z: Array, y: Array, x: Array | None) -> Array:
        """The sites a and x of the model."""
        a = numpyro.sample("a", self.auxiliary_given(z, y))
        return numpyro.sample("x", self.data_given(a, z, y), obs=x)
