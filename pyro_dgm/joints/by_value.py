"""Sums over the values of enumerated sites, in place of draws: with shares q(v) of the values v,

E_q [f] = sum_v q(v) f_v,  log w = log sum_v q(v) w_v.
"""

from collections.abc import Sequence
from functools import cached_property
from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dgm_core.enumeration import Enumeration, is_unobserved_part, mixed_orders, not_summed
from pyro_dgm.joints.structure import Structure

__all__: list[str] = []  # for the package, not for users


class ByValue:
    """What an inference joint with enumerated sites adds up."""

    if TYPE_CHECKING:
        structure: Structure
        enumeration: Enumeration | None
        sizes: tuple[int, ...]

        @property
        def log_likelihood(self) -> Tensor:
            """As in InferenceJoint."""

        @property
        def log_prior(self) -> Tensor:
            """As in InferenceJoint."""

        @property
        def log_posterior(self) -> Tensor:
            """As in InferenceJoint."""

        @property
        def log_joint(self) -> Tensor:
            """As in InferenceJoint."""

        @property
        def log_drawn(self) -> Tensor:
            """As in InferenceJoint."""

        @property
        def stand_ins(self) -> Tensor:
            """As in InferenceJoint."""

        @property
        def met(self) -> dict[str, tuple[str, ...]]:
            """As in InferenceJoint."""

        def score(self, name: str) -> Tensor:
            """log q of one latent site."""

        def counts(self, name: str) -> Tensor:
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
    def log_shares(self) -> Tensor:
        """log q of the enumerated values, one beside the other: (num_values, num_particles,
        *sizes)."""
        assert self.enumeration is not None
        names = dict(self.enumeration.guided)
        zero = self.log_posterior.new_zeros((1,) * (1 + len(self.sizes)))
        shares = sum((self._log_share(name, size) for name, size in names.items()), zero)
        return by_guided(shares, self.enumeration)

    def _log_share(self, name: str, size: int) -> Tensor:
        """log q of a site, or -log C where its value is observed: then all C draws count alike."""
        if not is_unobserved_part(name):
            return self.score(name)
        return torch.where(self.counts(name), self.score(name), -log(size))

    def expected(self, local: Tensor, *, held: bool = False) -> Tensor:
        """A local quantity as the guide expects it, sum_v q(v) f_v over enumerated values v:
        (num_particles, *sizes); `held`: with constant q."""
        if self.enumeration is None:
            return local
        shares = self.log_shares.detach() if held else self.log_shares
        return expectation(shares, by_guided(local, self.enumeration))

    def each_value(self, local: Tensor) -> Tensor:
        """A quantity of each particle (num_particles, *sizes), for every enumerated value."""
        if self.enumeration is None:
            return local
        return local.repeat(self.enumeration.num_guided, *[1] * (local.ndim - 1))

    def each_draw(self, name: str, local: Tensor) -> Tensor:
        """The sum of a local quantity over the draws of a site that belong to a particle: one, or
        where it is drawn after enumerated sites one for each of their values."""
        if self.enumeration is None:
            return local
        copies = self.enumeration.copies(self.met[name])
        return by_guided(local, self.enumeration).sum(0) / copies

    def log_parts(self, log_w: Tensor | None = None) -> Tensor:
        """log (q(v) w_v) of the enumerated values v, the sum of which is a particle's weight:
        (num_values, num_particles, *sizes)."""
        assert self.enumeration is not None
        if self.outer_sites:
            raise ValueError(not_summed(self.outer_sites[0]))
        if log_w is None:
            log_w = self.log_likelihood + self.log_prior - self.log_posterior
        return self.log_shares + by_guided(log_w, self.enumeration)

    def log_odds(self) -> Tensor:
        """Up to a constant, log q(v) of the values that the guide draws plus log p(v | x, z) of
        those that are summed out: (num_values, num_particles, *sizes)."""
        assert self.enumeration is not None
        if self.outer_sites:
            raise ValueError(not_summed(self.outer_sites[0]))
        ratio = by_value(self.log_joint - self.stand_ins, self.enumeration)
        ratio = ratio - ratio.logsumexp(1, keepdim=True)
        ratio = ratio + self.log_shares[:, None]
        return ratio.flatten(0, 1)

    def log_masses(self) -> Tensor:
        """log p(x, v, z) - log q(z | x, v) of the enumerated values v, by which Bayes' rule weighs
        them: (num_values, num_particles, *sizes)."""
        assert self.enumeration is not None
        if self.outer_sites:
            raise ValueError(not_summed(self.outer_sites[0]))
        ratio = by_value(self.log_joint - self.log_drawn, self.enumeration)
        return (ratio + self.log_shares[:, None]).flatten(0, 1)

    def path_weights(self, weights: Tensor, sites: Sequence[str]) -> Tensor:
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
        weights = weights[None].expand(self.enumeration.num_guided, *weights.shape)
        if copies == {1}:
            ones = [1] * (1 + len(self.sizes) - (weights.ndim - 1))
            weights = weights.reshape(*weights.shape, *ones) * self.log_parts().detach().softmax(0)
        weights = weights[:, None].repeat(1, self.enumeration.num_summed, *[1] * (weights.ndim - 1))
        return weights.flatten(0, 2)

    def _summed_out(self, log_p: Tensor) -> Tensor:
        """log sum_v exp(log p) over the values that the guide does not draw; a mean where a mask
        takes their site out."""
        if not self.summed_sites:
            return log_p
        assert self.enumeration is not None
        found = by_value(log_p - self.stand_ins, self.enumeration).logsumexp(1)
        return found.flatten(0, 1) - log(self.enumeration.num_summed)

    def _of_guide(self, found: Tensor) -> Tensor:
        """What does not depend on the values that are summed out."""
        if self.enumeration is None:
            return found
        return by_value(found, self.enumeration)[:, 0].flatten(0, 1)

    def _first(self, found: Tensor) -> Tensor:
        """A quantity outside the data plates, as the guide expects it over enumerated values."""
        if self.enumeration is None:
            return found
        if self.outer_sites:
            return expectation(self.log_shares, by_guided(found, self.enumeration))
        return found[: self.enumeration.num_draws]

    def _at_draws(self, name: str, found: Tensor) -> Tensor:
        is_outside = name in self.structure.global_sites and name not in self.enumerated_sites
        return self._first(found) if is_outside else self._of_guide(found)


def by_value(x: Tensor, enumeration: Enumeration) -> Tensor:
    """(num_particles, ...) -> (num_guided, num_summed, num_draws, ...)."""
    e = enumeration
    x = x.expand(e.num_particles, *x.shape[1:])
    return x.reshape(e.num_guided, e.num_summed, e.num_draws, *x.shape[1:])


def by_guided(x: Tensor, enumeration: Enumeration) -> Tensor:
    """(num_guided * num_draws, ...) -> (num_guided, num_draws, ...)."""
    e = enumeration
    x = x.expand(e.num_guided * e.num_draws, *x.shape[1:])
    return x.reshape(e.num_guided, e.num_draws, *x.shape[1:])


def expectation(log_shares: Tensor, x: Tensor) -> Tensor:
    """sum_v exp(log_shares_v) x_v over the leading dimension; a share of zero counts nothing."""
    shares = log_shares.exp()
    return (shares * torch.where(shares > 0, x, torch.zeros_like(x))).sum(0)
