"""Transitions of deep Markov models: of the states themselves, and of a guide that also reads
features of the data.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution

from dgm_core.arguments import check_count, check_counts, check_fraction
from numpyro_dgm.conditionals.base import Conditional, positive, required_key
from numpyro_dgm.conditionals.normal import TypedNormal
from numpyro_dgm.nn.layers import Linear

__all__ = ["Combiner", "GatedTransition"]


class GatedTransition(Conditional):
    """The gated transition of deep Markov models:  z_t ~ Normal((1 - g) (A z + a) + g m, s),  with
    g = sigmoid(net(z)), m = net'(z), s from relu(m), of z = z_{t-1}.

    A starts as the identity, so that states persist.

    Args:
        z_dim: of a state.
        hidden: units of the two networks.
        min_scale: the smallest s.

    Shapes:
        context z_{t-1} (*batch, z_dim) -> batch_shape (*batch,), event_shape (z_dim,).

    Raises:
        ValueError: for a size below 1.

    References:
        Krishnan, Shalit & Sontag (2017), arXiv:1609.09869, eq. (8).

    Example:
        >>> GatedTransition(2, 8, key=jax.random.key(0))(jnp.zeros((5, 2))).batch_shape
        (5,)
    """

    floor: float = eqx.field(static=True)
    gate_in: Linear
    gate_out: Linear
    proposal_in: Linear
    proposal_out: Linear
    linear: Linear
    scale: Linear

    def __init__(
        self,
        z_dim: int,
        hidden: int = 200,
        *,
        min_scale: float = 1e-4,
        key: Array | None = None,
    ) -> None:
        z_dim, hidden = check_counts(z_dim=z_dim, hidden=hidden)
        super().__init__(z_dim, context_shape=z_dim)
        self.floor = check_fraction("min_scale", min_scale)
        keys = jax.random.split(required_key(key, "GatedTransition"), 6)
        self.gate_in = Linear(z_dim, hidden, key=keys[0])
        self.gate_out = Linear(hidden, z_dim, key=keys[1])
        self.proposal_in = Linear(z_dim, hidden, key=keys[2])
        self.proposal_out = Linear(hidden, z_dim, key=keys[3])
        self.scale = Linear(z_dim, z_dim, key=keys[4])
        self.linear = eqx.tree_at(
            lambda layer: (layer.weight, layer.bias),
            Linear(z_dim, z_dim, key=keys[5]),
            (jnp.eye(z_dim), jnp.zeros(z_dim)),
        )

    def condition(self, context: Any) -> Distribution:
        """The distribution given a checked state."""
        gate = jax.nn.sigmoid(self.gate_out(jax.nn.relu(self.gate_in(context))))
        proposal = self.proposal_out(jax.nn.relu(self.proposal_in(context)))
        loc = (1 - gate) * self.linear(context) + gate * proposal
        scale = positive(self.scale(jax.nn.relu(proposal)), self.floor)
        return TypedNormal(loc, scale).to_event(1)


class Combiner(Conditional):
    """The combiner of a deep Markov model's guide:  z_t ~ Normal(loc(c), scale(c)),  c = (tanh(W
    z_{t-1} + w) + h_t) / 2,  with features h_t of the data.

    Args:
        z_dim: of a state.
        features: of h_t.
        min_scale: the smallest scale.

    Shapes:
        context z_{t-1} (*batch, z_dim) and h_t (*batch, features) -> batch_shape (*batch,),
        event_shape (z_dim,).

    Raises:
        ValueError: for a size below 1.

    References:
        Krishnan, Shalit & Sontag (2017), arXiv:1609.09869, Section 5 (DKS and ST-R).

    Example:
        >>> combiner = Combiner(2, 8, key=jax.random.key(0))
        >>> combiner((jnp.zeros((5, 2)), jnp.zeros((5, 8)))).batch_shape
        (5,)
    """

    floor: float = eqx.field(static=True)
    state: Linear
    head: Linear

    def __init__(
        self, z_dim: int, features: int, *, min_scale: float = 1e-4, key: Array | None = None
    ) -> None:
        z_dim, features = check_count("z_dim", z_dim), check_count("features", features)
        super().__init__(z_dim, context_shape=(z_dim, (features,)))
        self.floor = check_fraction("min_scale", min_scale)
        keys = jax.random.split(required_key(key, "Combiner"))
        self.state = Linear(z_dim, features, key=keys[0])
        self.head = Linear(features, 2 * z_dim, key=keys[1])

    def condition(self, context: Any) -> Distribution:
        """The distribution given a checked state and checked features."""
        state, features = context
        both = self.head((jnp.tanh(self.state(state)) + features) / 2)
        loc, raw = jnp.split(both, 2, -1)
        return TypedNormal(loc, positive(raw, self.floor)).to_event(1)
