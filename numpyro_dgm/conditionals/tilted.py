"""Exponential tilting: any conditional, reweighted by a network."""

from typing import Any

import equinox as eqx
from jax import Array
from numpyro.distributions import Distribution

from dgm_core.arguments import check_instance
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.conditionals.energy import UnnormalizedConditional, UnnormalizedDistribution
from numpyro_dgm.mcmc import Kernel

__all__ = ["Tilted"]


class Tilted(UnnormalizedConditional):
    """p(z | c) = base(z | c) exp(f(z, c)) / Z(c):  a conditional tilted by a network f, the
    latent-space energy prior when it is the prior of a VAE.

    Where f is bounded above the density exists, whatever f is: the base brings the tails. The sign
    is that of the tilt, f, not of an energy.

    Args:
        base: any conditional that can be drawn from and scored; it is trained as well.
        net: f, as `UnnormalizedConditional` takes it.
        kernel: that draws (default MALA(0.1)), from draws of the base.
        num_steps: its transitions.

    Cost:
        num_steps gradients of log base + f per draw; no log_prob.

    Raises:
        UnnormalizedError: when its distribution is asked for log_prob. In a loss
            `ELBO() + ContrastiveDivergence("z", ..., log_z=1000)` both are estimated; `normalized`
            states ln Z for an evaluation.
        ValueError: for a base that is no conditional or has no density, and a network as `Energy`
            refuses it.

    References:
        Pang et al. (2020), Learning latent space energy-based prior model, arXiv:2006.08205.

    Example:
        >>> import jax
        >>> from numpyro_dgm.conditionals.normal import StandardNormal
        >>> p = Tilted(StandardNormal(2), num_steps=3, key=jax.random.key(0))()
        >>> z = p.sample(jax.random.key(1), (5,))
        >>> z.shape, p.log_ratio(z).shape
        ((5, 2), (5,))
    """

    base: Conditional

    def __init__(
        self,
        base: Conditional,
        net: eqx.Module | None = None,
        *,
        kernel: Kernel | None = None,
        num_steps: int = 100,
        key: Array | None = None,
    ) -> None:
        check_instance("base", base, Conditional, "a conditional such as StandardNormal(2)")
        context = base.context_shape
        super().__init__(
            base.event_shape,
            net,
            kernel=kernel,
            num_steps=num_steps,
            context_shape=context if context else 0,
            key=key,
        )
        self.base = base

    def condition(self, context: Any) -> UnnormalizedDistribution:
        """The distribution given a checked context."""
        base = self.base.condition(context)
        given = None if context is None else self.flat(context)
        potential = eqx.Partial(self.potential, base, given)
        return UnnormalizedDistribution(potential, base, self.kernel, self.num_steps)

    def potential(self, base: Distribution, context: Array | None, value: Array) -> Array:
        """log base(z | c) + f(z, c)."""
        return base.log_prob(value) + self.output(value, context)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.base), *super()._sizes())
