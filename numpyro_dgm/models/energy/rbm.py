"""Restricted Boltzmann machine:  p(v, h) = exp(v^T W h + b^T v + c^T h) / Z,  binary v and h."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from jax.nn import softplus
from jax.scipy.special import logsumexp
from numpyro import distributions as dist

from dgm_core.annealing import AnnealedBounds
from dgm_core.annealing.boltzmann import annealed_boltzmann, check_enumerated, states
from dgm_core.arguments import check_count
from numpyro_dgm.conditionals import Conditional, UnnormalizedDistribution
from numpyro_dgm.mcmc import Info, Noise, State, start
from numpyro_dgm.models.parts import num_data
from numpyro_dgm.nn import register

__all__ = ["RBM"]


class RBM(Conditional):
    """A restricted Boltzmann machine, and the energy of its visible units:

    E(v) = -b^T v - sum_j log(1 + exp(c_j + v^T W_j)), the hidden ones summed out.

    Trained by `ContrastiveDivergence("x")`, whose chains take block Gibbs steps, or, where one
    layer is small, by its likelihood: `NLL()` of `normalized(rbm.model, {"x": rbm.log_z()})`
    evaluates it. It is a conditional of binary vectors as well.

    Args:
        num_visible, num_hidden: units.
        num_steps: Gibbs steps from independent bits to a draw.

    Sites: x (num_visible,), in the plate "data".

    Shapes:
        x (batch, num_visible), zeros and ones.

    Raises:
        ValueError: for sizes below 1; by `log_z`, `log_prob` where both layers have more than 20
            units.

    References:
        Smolensky (1986), Information processing in dynamical systems; Hinton (2002), Neural
        Computation 14.

    Example:
        >>> rbm = RBM(4, 2, key=jax.random.key(0))
        >>> rbm.log_prob(jnp.ones((3, 4))).shape, rbm.annealed(steps=20, chains=5).lower.shape
        ((3,), (1,))
    """

    num_hidden: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    weight: Array
    visible: Array
    hidden: Array

    def __init__(
        self, num_visible: int, num_hidden: int, *, num_steps: int = 100, key: Array
    ) -> None:
        super().__init__(check_count("num_visible", num_visible))
        self.num_hidden = check_count("num_hidden", num_hidden)
        self.num_steps = check_count("num_steps", num_steps)
        self.weight = 0.01 * jax.random.normal(key, (num_visible, num_hidden))
        self.visible, self.hidden = jnp.zeros(num_visible), jnp.zeros(num_hidden)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Draw `size` data, or observe the data x (batch, num_visible)."""
        rbm = register("rbm", self)
        with numpyro.plate("data", num_data(x, self.event_shape, size)):
            return numpyro.sample("x", rbm(), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> None:
        """Nothing: hidden units are summed out."""

    def condition(self, context: Any) -> UnnormalizedDistribution:
        """The distribution of the visible units."""
        base = dist.Bernoulli(logits=self.visible).to_event(1)
        gibbs = BlockGibbs(self.weight, self.visible, self.hidden)
        return UnnormalizedDistribution(self.potential, base, gibbs, self.num_steps)

    def potential(self, v: Array) -> Array:
        """-E(v), (*batch, num_visible) -> (*batch,)."""
        return v @ self.visible + softplus(self.hidden + v @ self.weight).sum(-1)

    def log_z(self) -> Array:
        """ln Z, exactly, by the states of the smaller layer; a number with a gradient."""
        check_enumerated(min(self.weight.shape))
        if self.event_shape[0] <= self.num_hidden:
            return logsumexp(self.potential(self._states(self.event_shape[0])))
        h = self._states(self.num_hidden)
        return logsumexp(h @ self.hidden + softplus(self.visible + h @ self.weight.T).sum(-1))

    def log_prob(self, x: Array) -> Array:
        """log p(x), exactly, (*batch, num_visible) -> (*batch,)."""
        return self.potential(x) - self.log_z()

    def annealed(
        self, *, steps: int = 1000, chains: int = 100, schedule: Any = "linear", seed: int = 0
    ) -> AnnealedBounds:
        """An interval of ln Z by annealed Gibbs steps, forward and reverse."""
        machine = (self.weight, self.visible, self.hidden)
        return annealed_boltzmann(
            *machine, steps=steps, chains=chains, schedule=schedule, seed=seed
        )

    def _states(self, num: int) -> Array:
        return jnp.asarray(states(num), self.weight.dtype)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_hidden),)


class BlockGibbs(eqx.Module):
    """A transition kernel: h given v, then v given h, all units of a layer at once."""

    weight: Array
    visible: Array
    hidden: Array

    def noise(self, state: State, *, key: Array) -> Noise:
        """Uniform numbers for both layers."""
        v, keys = state.position, jax.random.split(key)
        shapes = v.shape, (*v.shape[:-1], len(self.hidden))
        return Noise(*(jax.random.uniform(k, s, v.dtype) for k, s in zip(keys, shapes)))

    def __call__(self, log_density: Any, state: State, noise: Noise) -> tuple[State, Info]:
        """One step of both layers."""
        v = state.position
        h = (noise.uniform < jax.nn.sigmoid(self.hidden + v @ self.weight)).astype(v.dtype)
        v = (noise.normal < jax.nn.sigmoid(self.visible + h @ self.weight.T)).astype(v.dtype)
        one = jnp.ones_like(state.log_density)
        return start(log_density, v), Info(one, one > 0, jnp.zeros_like(one))
