"""Joint energy model:  p(x, y) = base(x) exp(f(x)_y) / Z:  a classifier that is a density."""

from collections.abc import Sequence

import pyro
import torch
from pyro import distributions as dist
from torch import Tensor, nn

from dgm_core.arguments import check_callable, check_count, check_sizes
from dgm_core.contexts import Labels, check_context
from pyro_dgm.conditionals import Conditional, StandardNormal, Tilted
from pyro_dgm.mcmc import Kernel
from pyro_dgm.models.parts import num_data
from pyro_dgm.nn import MLP, register, require

__all__ = ["JEM"]


class JEM(nn.Module):
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
        >>> jem = JEM(2, 3, hidden=(8,), num_steps=2)
        >>> jem.classify(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        x_dim: int,
        num_classes: int,
        *,
        hidden: Sequence[int] = (128, 128),
        classifier: nn.Module | None = None,
        base: Conditional | None = None,
        kernel: Kernel | None = None,
        num_steps: int = 100,
    ) -> None:
        super().__init__()
        self.x_dim = check_count("x_dim", x_dim)
        self.num_classes = check_count("num_classes", num_classes, 2)
        hidden = check_sizes("hidden", hidden)
        if classifier is None:
            classifier = MLP(x_dim, hidden, num_classes, activation="silu")
        check_callable("classifier", classifier, "a module from data to logits")
        if base is None:
            base = StandardNormal(x_dim)
        self.density = Tilted(base, Evidence(classifier), kernel=kernel, num_steps=num_steps)

    def model(self, x: Tensor | None = None, y: Tensor | None = None, size: int = 1) -> Tensor:
        """Draw `size` data with labels, or observe data x and, where they are known, labels y."""
        density = register("density", self.density)
        if y is not None:
            check_context(None, y, Labels(self.num_classes), name="y")
            wanted = f"labels from 0 to {self.num_classes - 1}"
            require("y", wanted, y, (y >= 0) & (y < self.num_classes))
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            drawn = pyro.sample("x", density(), obs=x)
            if x is None or y is not None:
                logits = density.net.logits(drawn)
                pyro.sample("y", dist.Categorical(logits=logits), obs=y)
            return drawn

    def guide(self, x: Tensor | None = None, y: Tensor | None = None, size: int = 1) -> None:
        """Nothing: there are no latent sites."""

    def classify(self, x: Tensor) -> Tensor:
        """p(y | x), (*batch, num_classes)."""
        return self.density.net.logits(x).softmax(-1)


class Evidence(nn.Module):
    """log sum_y exp f(x)_y of a classifier."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def logits(self, x: Tensor) -> Tensor:
        """f(x), (*batch, x_dim) -> (*batch, num_classes)."""
        found = self.classifier(x.reshape(-1, x.shape[-1]))
        return found.reshape(*x.shape[:-1], -1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.logsumexp(self.logits(x), -1)
