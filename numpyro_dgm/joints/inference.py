"""The inference joint of one step: log-densities and weights, per particle and datum."""

from functools import cached_property

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from dgm_core.enumeration import Enumeration
from dgm_core.terms import Asked, as_asked
from numpyro_dgm.joints.by_value import ByValue
from numpyro_dgm.joints.enumerated import met_before
from numpyro_dgm.joints.reading import Runs, side_by_particle

__all__ = ["InferenceJoint"]


class InferenceJoint(ByValue):
    """One run of guide and model on the data, read by site name.

    Local quantities (of the observed sites and of the latents and factors inside the data plates)
    have shape (num_particles, *sizes), with the sizes of the data plates and every other dimension
    summed; global ones have (num_particles, 1, ..., 1).  The leading size is 1 where nothing
    depends on the particle.  All masks and scales are applied but one: the N / B of subsampled data
    plates, which `per_datum` accounts for.

    Where sites are enumerated, local quantities are those of each value of the sites that the guide
    draws, value by value (num_values * num_particles, *sizes): `expected` sums over the values with
    their probabilities.  Sites that the guide does not draw are summed out: log p(x | z) and log
    p(z) are those of the model without them.

    Attributes:
        structure: what factorizes.
        enumeration: how enumerated sites are numbered; None where there are none.
        sizes: of the data plates in this run;  data_scale, N / B.
        data_size: the number of data N that the plates declare (1 when no plate encloses all data).
        runs: what is read, in the backend's own form: in Pyro pairs of traces (of model and guide),
            one of them with the particles leading or one per particle; in NumPyro a layout and a
            record of arrays with the particles leading.
    """

    def __init__(self, runs: Runs, enumeration: Enumeration | None = None) -> None:
        self.runs = runs
        self.enumeration = enumeration
        self.structure = runs.layout.structure
        self.sizes = self.structure.sizes
        self.data_size = self.structure.data_size
        self.data_scale = self.structure.data_scale

    @cached_property
    def log_likelihood(self) -> Array:
        """log p(x | z) of the observed sites, and the model's factors inside the data plates."""
        found = self._sum("log_p", (*self.structure.observed_sites, *self.structure.local_factors))
        if not self.summed_sites:
            return found
        ratio = self.log_joint - self.log_drawn
        return self._summed_out(ratio) + self.log_posterior - self.log_prior

    @cached_property
    def global_log_likelihood(self) -> Array:
        """The model's factors outside the data plates."""
        return self._first(self._sum("log_p", self.structure.global_factors))

    @cached_property
    def log_prior(self) -> Array:
        """log p(z) of the local latents."""
        return self._summed_out(self._sum("log_p", self.structure.local_sites))

    @cached_property
    def log_posterior(self) -> Array:
        """log q(z | x) of the local latents, and the guide's factors beside them."""
        return self._of_guide(self.log_drawn)

    @cached_property
    def global_log_prior(self) -> Array:
        """log p of the global latents."""
        return self._first(self._sum("log_p", self.structure.global_sites))

    @cached_property
    def global_log_posterior(self) -> Array:
        """log q of the global latents, and the guide's factors beside them."""
        names = (*self.structure.global_sites, *self.structure.global_factors)
        return self._first(self._sum("log_q", names))

    @property
    def num_particles(self) -> int:
        """How many draws of the guide this run holds."""
        return max(self.log_w.shape[0], self.global_log_w.shape[0])

    @property
    def log_w(self) -> Array:
        """The local log-weights log p(x, z) - log q(z | x), enumerated sites summed out."""
        log_w = self.log_likelihood + self.log_prior - self.log_posterior
        return log_w if self.enumeration is None else logsumexp(self.log_parts(log_w), 0)

    @property
    def global_log_w(self) -> Array:
        """The log-weights of the global latents and factors."""
        return self.global_log_likelihood + self.global_log_prior - self.global_log_posterior

    def per_datum(self, local: Array, global_: Array | float = 0.0) -> Array:
        """The total over the whole data set, divided by its size: mean over the data of `local` +
        `global_` / N, (num_particles,)."""
        mean = local.reshape(local.shape[0], -1).mean(1)
        if isinstance(global_, Array):
            return mean + global_.reshape(-1) / self.data_size
        return mean + global_

    def fits(self) -> Array:
        """The whole log-likelihood, global factors included, per datum: (num_particles,)."""
        shared = self.global_log_likelihood if self.structure.global_factors else 0.0
        return self.per_datum(self.expected(self.log_likelihood), shared)

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """The names of the sites that the guide drew."""
        return self.structure.latent_sites

    @property
    def model_sites(self) -> list[str]:
        """The latent sites of the user's model, in its order."""
        beyond = self.structure.reverse_sites
        return [name for name in self.site_orders()[1] if name not in beyond]

    def log_likelihood_of(self, name: str) -> Array:
        """log p of one observed site, (num_particles, *sizes)."""
        return self._read("log_p", name)

    def log_prior_of(self, name: str) -> Array:
        """log p of one latent site at the guide's draw, (num_particles, *sizes) or (num_particles,
        1, ..., 1); zero for a site that only the guide has.
        """
        return self._sum("log_p", (name,))

    def log_posterior_of(self, name: str) -> Array:
        """log q of one latent site at the guide's draw, shaped as `log_prior_of`."""
        return self._at_draws(name, self._sum("log_q", (name,)))

    def score(self, name: str) -> Array:
        """log q of one latent site as it was drawn, without scale and mask."""
        return self._at_draws(name, self._read("score", name))

    def counts(self, name: str) -> Array:
        """Where log q of a local latent counts: not under a mask, such as that of what is observed
        where `obs_mask` says so; (num_particles, *sizes)."""
        scale = self.runs.record["density_scale"][name]
        found = side_by_particle(scale, 0, self.structure, self.sizes)[..., 0] != 0
        return self._at_draws(name, found)

    def distribution_name(self, name: str) -> str:
        """The distribution that the guide drew a site from, by name."""
        return self.runs.layout.drawn[name].name

    def is_reparameterized(self, name: str) -> bool:
        """Whether gradients pass through the drawn value of a site."""
        return self.runs.layout.drawn[name].is_reparameterized

    def is_determined(self, name: str) -> bool:
        """Whether the guide draws nothing at a site, a Delta or a factor: log q is no density."""
        return self.runs.layout.drawn[name].is_determined

    def analytic_kl(self, name: str) -> Array:
        """KL(q, p) of one latent site in closed form; its log-ratio at the draw where there is
        none.

        Scales and masks that differ between model and guide (a weight put on the model alone, say)
        are honored: s_p KL + (s_q - s_p) log q, with s = 0 under a mask.
        """
        return self._at_draws(name, self._read("kl", name))

    def objectives(self, what: str | Asked) -> dict[str, Array]:
        """What the distributions of a site in model and guide answer, by name and shaped as
        `log_prior_of`: what their method `objective(value)`, or another, returns.
        """
        return dict(self.runs.record["objectives"].get(as_asked(what).key, {}))

    def values(self, name: str) -> Array:
        """The value of a site, (num_particles, *batch, *event) with the batch dimensions that the
        site has itself; the leading size is 1 where nothing depends on the particle."""
        record = self.runs.record
        return record["values"][name] if name in record["values"] else record["observed"][name]

    def entries(self, name: str) -> Array:
        """The values of a site, side by side: (num_particles, *sizes, entries) of a local or
        observed one, (num_particles, entries) of a global one.

        The leading size is 1 where nothing depends on the particle.
        """
        return self._entries(name, self.values(name))

    def unconstrained(self, name: str) -> tuple[Array, Array]:
        """A latent site on the real line, where its support in the model is mapped to: its entries
        u, and log |dz/du| as the local quantities are shaped.

        Raises:
            ValueError: when the support cannot be mapped, as that of a discrete site.
        """
        u, log_jacobian = (self._read(which, name) for which in ("unconstrained", "log_jacobian"))
        return self._entries(name, u), log_jacobian

    def site_orders(self) -> tuple[list[str], list[str]]:
        """The latent sites in the order in which the guide draws them, and the model."""
        return list(self.runs.layout.guide_order), list(self.runs.layout.model_order)

    def is_coupled(self) -> bool:
        """Whether something outside the data plates may depend on local latents: a factor, or a
        global latent that is drawn after one of them."""
        inside = self.structure.local_sites
        late = (
            name not in inside and any(before in inside for before in order[:index])
            for order in self.site_orders()
            for index, name in enumerate(order)
        )
        return bool(self.structure.global_factors) or any(late)

    def other_subsampled(self) -> tuple[tuple[str, str], ...]:
        """(plate, site) where a plate is subsampled that is not a data plate."""
        return self.structure.other_subsampled

    @cached_property
    def met(self) -> dict[str, tuple[str, ...]]:
        """The enumerated sites that the guide draws before each of its sites."""
        assert self.enumeration is not None
        return met_before(self.runs.layout.all_drawn, self.enumeration)

    def with_shares_of(self, joint: "InferenceJoint") -> "InferenceJoint":
        """The same, in which enumerated values have the probabilities of another."""
        if joint.enumeration is not None:
            self.log_shares = joint.log_shares
        return self

    @cached_property
    def log_joint(self) -> Array:
        """log p(x, z) inside the data plates, of every run."""
        local, observed = self.structure.local_sites, self.structure.observed_sites
        return self._sum("log_p", (*observed, *self.structure.local_factors, *local))

    def event_dim(self, name: str) -> int:
        """The event dimensions of a site."""
        return self.runs.layout.event_dims[name]

    @cached_property
    def stand_ins(self) -> Array:
        """log q of what stands in for the sites that are summed out."""
        return self._sum("log_q", self.summed_sites)

    @cached_property
    def log_drawn(self) -> Array:
        """log q of every run, without stand-ins."""
        names = (*self.structure.local_sites, *self.structure.local_factors)
        return self._sum("log_q", tuple(name for name in names if name not in self.summed_sites))

    def _entries(self, name: str, value: Array) -> Array:
        event_dim = self.runs.layout.event_dims[name]
        sizes = self.sizes if name not in self.structure.global_sites else None
        return side_by_particle(value, event_dim, self.structure, sizes)

    def _read(self, which: str, name: str) -> Array:
        unscored = self.runs.layout.unscored
        if (which, name) in unscored:
            raise unscored[which, name]
        return self.runs.record[which][name]

    def _sum(self, which: str, names: tuple[str, ...]) -> Array:
        """The log-densities of the sites that model or guide have among those named."""
        found, unscored = self.runs.record[which], self.runs.layout.unscored
        terms = [self._read(which, n) for n in names if n in found or (which, n) in unscored]
        return sum(terms[1:], terms[0]) if terms else jnp.zeros((1,) * (1 + len(self.sizes)))


def rescaled(joint: InferenceJoint, weights: Array, name: str) -> Array:
    """The value of a site with its gradient multiplied by weights (num_particles, *sizes)."""
    value, event_dim = joint.values(name), joint.runs.layout.event_dims[name]
    shape = [1] * (value.ndim - 1 - event_dim)
    for dim, size in zip(joint.structure.plates.values(), weights.shape[1:], strict=False):
        shape[dim] = size
    factor = weights.reshape(-1, *shape, *[1] * event_dim)
    scale = joint.runs.record["density_scale"][name]
    scale = scale.reshape(len(scale), *[1] * (value.ndim - scale.ndim), *scale.shape[1:])
    fixed = jax.lax.stop_gradient(value)
    return fixed + (1 - scale * (1 - factor)) * (value - fixed)
