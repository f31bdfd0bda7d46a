"""Autoregressive flows whose map of each coordinate is more than affine: mixtures, monotone
networks, splines.
"""

from collections.abc import Sequence

from jax import Array

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals import Conditional, StandardLogistic
from numpyro_dgm.flows.autoregressive import AutoregressiveFlow
from numpyro_dgm.flows.scalar import Affine, MixtureCDF, Sigmoidal, Spline
from numpyro_dgm.flows.transform import Inverse

__all__ = ["NAF", "AutoregressiveNSF", "MAFMoG"]


class MAFMoG(AutoregressiveFlow):
    """Autoregressive mixtures of normal distributions under masked autoregressive layers:  noise_i
    | noise_<i ~ sum_k p_ik Normal(m_ik, s_ik^2).

    The mixtures are a layer of `MixtureCDF` maps on standard logistic noise, so their parameters
    come from one more network.

    Args:
        dim: D.
        context_shape: 0 = unconditional.
        num_layers: the first the one of mixtures, the others affine: 1 gives an autoregressive
            model with mixture conditionals, 6 the paper's MAF MoG (5).
        num_components: of each mixture.
        hidden, activation: of each layer's network.
        base: (default StandardLogistic(dim)).

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,). Cost, of each
        layer: log_prob one pass; draws about one pass of arithmetic in D steps, a root search at
        each step in the layer of mixtures.

    Raises:
        ValueError: if num_layers < 1 or num_components < 1, and as `MADE` does.

    References:
        Papamakarios et al. (2017), arXiv:1705.07057, section 3.1, MAF MoG.

    Example:
        >>> MAFMoG(3, key=jax.random.key(0))().log_prob(jax.numpy.zeros((7, 3))).shape
        (7,)
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 6,
        num_components: int = 10,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        scalars = [
            MixtureCDF(num_components),
            *[Affine()] * (check_count("num_layers", num_layers) - 1),
        ]
        base = StandardLogistic(dim) if base is None else base
        super().__init__(dim, scalars, Inverse, context_shape, hidden, activation, base, key=key)


class NAF(AutoregressiveFlow):
    """Neural autoregressive flow: every conditional distribution is a small increasing network
    (`Sigmoidal`) of x_i, whose weights depend on x_<i and c.

    Args:
        dim: D.
        context_shape: 0 = unconditional.
        num_layers: the number of layers.
        num_components, hidden: units of each increasing network; the others as for `MAF`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,). Cost, of each
        layer: log_prob one pass; draws about one pass of arithmetic in D steps, with a root search
        at each.

    Raises:
        ValueError: if num_layers < 1 or num_components < 1, and as `MADE` does.

    References:
        Huang et al. (2018), arXiv:1804.00779.

    Example:
        >>> NAF(3, key=jax.random.key(0))().log_prob(jax.numpy.zeros((7, 3))).shape
        (7,)
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 5,
        num_components: int = 16,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        scalars = [Sigmoidal(num_components)] * check_count("num_layers", num_layers)
        super().__init__(dim, scalars, Inverse, context_shape, hidden, activation, base, key=key)


class AutoregressiveNSF(AutoregressiveFlow):
    """Neural spline flow with autoregressive layers: monotone rational-quadratic splines of x_i,
    whose knots depend on x_<i and c.

    Args:
        dim: D.
        context_shape: 0 = unconditional.
        num_layers: the number of layers.
        num_bins, bound: of the splines, which are the identity outside [-bound, bound]; the others
            as for `MAF`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,). Cost, of each
        layer: log_prob one pass; draws about one pass of arithmetic in D steps.

    Raises:
        ValueError: if num_layers < 1, num_bins < 2 or bound is not positive, and as `MADE` does.

    References:
        Durkan et al. (2019), arXiv:1906.04032, RQ-NSF (AR).

    Example:
        >>> AutoregressiveNSF(3, key=jax.random.key(0))().log_prob(jax.numpy.zeros((7, 3))).shape
        (7,)
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 5,
        num_bins: int = 8,
        bound: float = 5.0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        scalars = [Spline(num_bins, bound)] * check_count("num_layers", num_layers)
        super().__init__(dim, scalars, Inverse, context_shape, hidden, activation, base, key=key)
