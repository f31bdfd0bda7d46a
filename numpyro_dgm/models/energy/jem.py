"""Joint energy model:  p(x, y) = base(x) exp(f(x)_y) / Z:  a classifier that is a density."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpyro
from jax import Array
from jax.scipy.special import logsumexp
from numpyro import distributions as dist

from dgm_core.arguments import check_callable, check_count, check_sizes
from dgm_core.contexts import Labels, check_context
from numpyro_dgm.conditionals import Conditional, StandardNormal, Tilted
from numpyro_dgm.mcmc import Kernel
from numpyro_dgm.models.parts import num_data
from numpyro_dgm.nn import MLP, register, require

__all__ = ["JEM"]


class JEM(eqx.Module):
    """A joint energy model: the logits f(x) of a classifier also say how likely x is.

    p(y | x) = softmax f(x), as ever, and p(x) = base(x) sum_y exp(f(x)_y) / Z. Trained by
    `ContrastiveDivergence("x", ...) + ConditionalNLL("y")`; data without labels leave y out, and
    the second term with it.

    Args:
        x_dim: the size of a datum.
        num_classes: K.
        hidden: layers of the classifier, with silu units.
        classifier: any module (num, x_dim) -> (num, K).
        base: of x, a conditional without context (default StandardNormal(x_dim)).
        kernel, num_steps: that draw x, as in `Tilted`.

    Sites: x (x_dim,) and y, in the plate "data".

    Shapes:
        x (batch, x_dim), y (batch,) integers.

    Raises:
        ValueError: if a size or a part does not fit, and for labels that are no classes.

    References:
        Grathwohl et al. (2020), Your classifier is secretly an energy based model and you should
        treat it like one, arXiv:1912.03263.

    Example:
        >>> jem = JEM(2, 3, hidden=(8,), num_steps=2, key=jax.random.key(0))
        >>> jem.classify(jax.numpy.zeros((5, 2))).shape
        (5, 3)
    """

    x_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    density: Tilted

    def __init__(
        self,
        x_dim: int,
        num_classes: int,
        *,
        hidden: Sequence[int] = (128, 128),
        classifier: eqx.Module | None = None,
        base: Conditional | None = None,
        kernel: Kernel | None = None,
        num_steps: int = 100,
        key: Array,
    ) -> None:
        self.x_dim = check_count("x_dim", x_dim)
        self.num_classes = check_count("num_classes", num_classes, 2)
        hidden = check_sizes("hidden", hidden)
        if classifier is None:
            classifier = MLP(x_dim, hidden, num_classes, activation="silu", key=key)
        check_callable("classifier", classifier, "a module from data to logits")
        if base is None:
            base = StandardNormal(x_dim)
        self.density = Tilted(base, Evidence(classifier), kernel=kernel, num_steps=num_steps)

    def model(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Draw `size` data with labels, or observe data x and, where they are known, labels y."""
        density = register("density", self.density)
        if y is not None:
            check_context(None, y, Labels(self.num_classes), name="y")
            wanted = f"labels from 0 to {self.num_classes - 1}"
            require("y", wanted, y, (y >= 0) & (y < self.num_classes))
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            drawn = numpyro.sample("x", density(), obs=x)
            if x is None or y is not None:
                logits = density.net.logits(drawn)
                numpyro.sample("y", dist.Categorical(logits=logits), obs=y)
            return drawn

    def guide(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> None:
        """Nothing: there are no latent sites."""

    def classify(self, x: Array) -> Array:
        """p(y | x), (*batch, num_classes)."""
        return jax.nn.softmax(self.density.net.logits(x))


class Evidence(eqx.Module):
    """log sum_y exp f(x)_y of a classifier."""

    classifier: Any

    def logits(self, x: Array) -> Array:
        """f(x), (*batch, x_dim) -> (*batch, num_classes)."""
        found = self.classifier(x.reshape(-1, x.shape[-1]))
        return found.reshape(*x.shape[:-1], -1)

    def __call__(self, x: Array) -> Array:
        return logsumexp(self.logits(x), -1)
