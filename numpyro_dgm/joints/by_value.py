"""Sums over the values of enumerated sites, in place of draws: with shares q(v) of the values v,

E_q [f] = sum_v q(v) f_v,  log w = log sum_v q(v) w_v.
"""

from collections.abc import Sequence
from functools import cached_property
from math import log
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from dgm_core.enumeration import Enumeration, is_unobserved_part, mixed_orders, not_summed
from numpyro_dgm.joints.structure import Structure

__all__: list[str] = []  # for the package, not for users


class ByValue:
    """What an inference joint with enumerated sites adds up."""

    if TYPE_CHECKING:
        structure: Structure
        enumeration: Enumeration | None
        sizes: tuple[int, ...]

        @property
        def log_likelihood(self) -> Array:
            """As in InferenceJoint."""

        @property
        def log_prior(self) -> Array:
            """As in InferenceJoint."""

        @property
        def log_posterior(self) -> Array:
            """As in InferenceJoint."""

        @property
        def log_joint(self) -> Array:
            """As in InferenceJoint."""

        @property
        def log_drawn(self) -> Array:
            """As in InferenceJoint."""

        @property
        def stand_ins(self) -> Array:
            """As in InferenceJoint."""

        @property
        def met(self) -> dict[str, tuple[str, ...]]:
            """As in InferenceJoint."""

        def score(self, name: str) -> Array:
            """log q of one latent site."""

        def counts(self, name: str) -> Array:
            """As in InferenceJoint."""

    @property
    def enumerated_sites(self) -> tuple[str, ...]:
        """The names of the sites whose values are enumerated."""
        return () if self.enumeration is None else tuple(self.enumeration.sizes)

    @property
    def summed_sites(self) -> tuple[str, ...]:
        """Those of them that the guide does not draw."""
        return () if self.enumeration is None else tuple(dict(self.enumeration.summed))

    @property
    def outer_sites(self) -> tuple[str, ...]:
        """Those of them that lie outside all plates."""
        return tuple(n for n in self.enumerated_sites if n in self.structure.global_sites)

    @cached_property
    def log_shares(self) -> Array:
        """log q of the enumerated values, one beside the other: (num_values, num_particles,
        *sizes)."""
        assert self.enumeration is not None
        names = dict(self.enumeration.guided)
        zero = jnp.zeros((1,) * (1 + len(self.sizes)))
        shares = sum((self._log_share(name, size) for name, size in names.items()), zero)
        return by_guided(shares, self.enumeration)

    def _log_share(self, name: str, size: int) -> Array:
        """log q of a site, or -log C where its value is observed: then all C draws count alike."""
        if not is_unobserved_part(name):
            return self.score(name)
        return jnp.where(self.counts(name), self.score(name), -log(size))

    def expected(self, local: Array, *, held: bool = False) -> Array:
        """A local quantity as the guide expects it, sum_v q(v) f_v over enumerated values v:
        (num_particles, *sizes); `held`: with constant q."""
        if self.enumeration is None:
            return local
        shares = jax.lax.stop_gradient(self.log_shares) if held else self.log_shares
        return expectation(shares, by_guided(local, self.enumeration))

    def each_value(self, local: Array) -> Array:
        """A quantity of each particle (num_particles, *sizes), for every enumerated value."""
        if self.enumeration is None:
            return local
        return jnp.tile(local, (self.enumeration.num_guided, *[1] * (local.ndim - 1)))

    def each_draw(self, name: str, local: Array) -> Array:
        """The sum of a local quantity over the draws of a site that belong to a particle: one, or
        where it is drawn after enumerated sites one for each of their values."""
        if self.enumeration is None:
            return local
        copies = self.enumeration.copies(self.met[name])
        return by_guided(local, self.enumeration).sum(0) / copies

    def log_parts(self, log_w: Array | None = None) -> Array:
        """log (q(v) w_v) of the enumerated values v, the sum of which is a particle's weight:
        (num_values, num_particles, *sizes)."""
        assert self.enumeration is not None
        if self.outer_sites:
            raise ValueError(not_summed(self.outer_sites[0]))
        if log_w is None:
            log_w = self.log_likelihood + self.log_prior - self.log_posterior
        return self.log_shares + by_guided(log_w, self.enumeration)

    def log_odds(self) -> Array:
        """Up to a constant, log q(v) of the values that the guide draws plus log p(v | x, z) of
        those that are summed out: (num_values, num_particles, *sizes)."""
        assert self.enumeration is not None
        if self.outer_sites:
            raise ValueError(not_summed(self.outer_sites[0]))
        ratio = by_value(self.log_joint - self.stand_ins, self.enumeration)
        ratio = ratio - logsumexp(ratio, 1, keepdims=True)
        ratio = ratio + self.log_shares[:, None]
        return ratio.reshape(-1, *ratio.shape[2:])

    def log_masses(self) -> Array:
        """log p(x, v, z) - log q(z | x, v) of the enumerated values v, by which Bayes' rule weighs
        them: (num_values, num_particles, *sizes)."""
        assert self.enumeration is not None
        if self.outer_sites:
            raise ValueError(not_summed(self.outer_sites[0]))
        ratio = by_value(self.log_joint - self.log_drawn, self.enumeration)
        ratio = ratio + self.log_shares[:, None]
        return ratio.reshape(-1, *ratio.shape[2:])

    def path_weights(self, weights: Array, sites: Sequence[str]) -> Array:
        """Weights (num_particles, *sizes) or (num_particles,) for every run, in which a draw has
        those of all that it is part of.

        Raises:
            ValueError: where some of the sites are drawn before enumerated ones, and others after.
        """
        if self.enumeration is None:
            return weights
        copies = {self.enumeration.copies(self.met[name]) for name in sites}
        if not copies <= {1} and copies != {self.enumeration.num_guided}:
            raise ValueError(mixed_orders(sites, tuple(self.enumeration.sizes)))
        weights = jnp.stack([weights] * self.enumeration.num_guided)
        if copies == {1}:
            ones = [1] * (1 + len(self.sizes) - (weights.ndim - 1))
            weights = weights.reshape(*weights.shape, *ones) * jax.nn.softmax(
                jax.lax.stop_gradient(self.log_parts()), 0
            )
        weights = jnp.stack([weights] * self.enumeration.num_summed, 1)
        return weights.reshape(-1, *weights.shape[3:])

    def _summed_out(self, log_p: Array) -> Array:
        """log sum_v exp(log p) over the values that the guide does not draw; a mean where a mask
        takes their site out."""
        if not self.summed_sites:
            return log_p
        assert self.enumeration is not None
        found = logsumexp(by_value(log_p - self.stand_ins, self.enumeration), 1)
        return found.reshape(-1, *found.shape[2:]) - log(self.enumeration.num_summed)

    def _of_guide(self, found: Array) -> Array:
        """What does not depend on the values that are summed out."""
        if self.enumeration is None:
            return found
        found = by_value(found, self.enumeration)[:, 0]
        return found.reshape(-1, *found.shape[2:])

    def _first(self, found: Array) -> Array:
        """A quantity outside the data plates, as the guide expects it over enumerated values."""
        if self.enumeration is None:
            return found
        if self.outer_sites:
            return expectation(self.log_shares, by_guided(found, self.enumeration))
        return found[: self.enumeration.num_draws]

    def _at_draws(self, name: str, found: Array) -> Array:
        is_outside = name in self.structure.global_sites and name not in self.enumerated_sites
        return self._first(found) if is_outside else self._of_guide(found)


def by_value(x: Array, enumeration: Enumeration) -> Array:
    """(num_particles, ...) -> (num_guided, num_summed, num_draws, ...)."""
    e = enumeration
    x = jnp.broadcast_to(x, (e.num_particles, *x.shape[1:]))
    return x.reshape(e.num_guided, e.num_summed, e.num_draws, *x.shape[1:])


def by_guided(x: Array, enumeration: Enumeration) -> Array:
    """(num_guided * num_draws, ...) -> (num_guided, num_draws, ...)."""
    e = enumeration
    x = jnp.broadcast_to(x, (e.num_guided * e.num_draws, *x.shape[1:]))
    return x.reshape(e.num_guided, e.num_draws, *x.shape[1:])


def expectation(log_shares: Array, x: Array) -> Array:
    """sum_v exp(log_shares_v) x_v over the leading dimension; a share of zero counts nothing."""
    shares = jnp.exp(log_shares)
    return (shares * jnp.where(shares > 0, x, 0.0)).sum(0)
