"""WaveNet: gated causal dilated convolutions over time."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.causal import steps_of
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.autoregressive.base import Autoregressive
from pyro_dgm.conditionals.base import Parametric
from pyro_dgm.conditionals.logistic import LogisticMixture
from pyro_dgm.nn.causal import CausalStack
from pyro_dgm.nn.causal_steps import Steps


class WaveNet(Autoregressive):
    """p(x | c) = prod_t family(x_t | h_t(x_{t-1}, ..., x_{t-R}, c)),  h a `CausalStack` and an
    affine map.

    Draws keep the past of all layers in one ring buffer, so that a step computes nothing twice.

    Args:
        dim: T, or (T, D) for D entries at each step.
        family: of the entries of a step, given those of the steps before (default
            LogisticMixture): partial(Categorical, num_classes=256) for codes of `mu_law_codes`,
            partial(DiscretizedLogisticMixture, num_levels=256) for levels in [0, 1], DiagonalNormal
            for real numbers.
        channels, dilations, kernel_size, activation: as in `CausalStack`.
        one_hot: whether the network sees classes one-hot instead of as numbers from -1 to 1.
        context_shape: 0 = unconditional; (frames, channels) is a sequence whose frames hold for T /
            frames steps each; anything else is the same at all steps.

    Attributes:
        receptive_field: R = 1 + sum_l (kernel_size - 1) dilation_l; it counts past inputs.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Cost:
        log_prob one pass; a draw about one pass of arithmetic, in T steps.

    Raises:
        ValueError: for a dim of more than two axes, frames that do not divide T, sizes below 1, and
            as `Autoregressive` does.

    References:
        van den Oord et al. (2016), arXiv:1609.03499; cached draws: Le Paine et al. (2016),
        arXiv:1611.09482.

    Example:
        >>> net = WaveNet(16, dilations=(1, 2, 4))
        >>> net().sample((7,)).shape, net.receptive_field
        (torch.Size([7, 16]), 8)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        family: Callable[..., Parametric] = LogisticMixture,
        *,
        channels: int = 32,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        kernel_size: int = 2,
        activation: str = "relu",
        one_hot: bool = False,
        context_shape: ContextShape = 0,
    ) -> None:
        steps, size = steps_of(dim)
        super().__init__(
            dim,
            family,
            features=check_count("channels", channels),
            steps=steps,
            size=size,
            one_hot=one_hot,
            context_shape=context_shape,
        )
        self.stack = CausalStack(
            self.in_features,
            channels,
            steps,
            channels=channels,
            dilations=dilations,
            kernel_size=kernel_size,
            activation=activation,
            context_shape=context_shape,
        )

    @property
    def receptive_field(self) -> int:
        """The number of past inputs that a step depends on."""
        return self.stack.receptive_field

    def features(self, u: Tensor, context: Any) -> Tensor:
        """h of all steps, in one pass."""
        return self.stack(u, context)

    def begin(self, context: Any, num: int) -> Steps:
        """What all steps share, and the ring buffer."""
        return Steps(self.stack, context, num)

    def advance(self, state: Steps, index: int, previous: Tensor) -> tuple[Tensor, Steps]:
        """h of one step."""
        return state(index, previous), state

    def _sizes(self) -> tuple[str, ...]:
        return (f"{self.family}", f"receptive_field={self.receptive_field}")
