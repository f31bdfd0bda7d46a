"""The inference joint of one step: log-densities and weights, per particle and datum."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import biject_to

from dgm_core.enumeration import Enumeration
from dgm_core.terms import Asked, as_asked
from pyro_dgm.joints.by_value import ByValue
from pyro_dgm.joints.enumerated import met_before
from pyro_dgm.joints.reading import (
    costs_of,
    density_scale,
    kl_parts,
    log_prob_of,
    side_by_particle,
)
from pyro_dgm.joints.structure import (
    Structure,
    Trace,
    draws_nothing,
    plates_of,
    random_sites,
)
from pyro_dgm.joints.values import base_of

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

    def __init__(
        self,
        runs: Sequence[tuple[Trace, Trace]],
        structure: Structure,
        enumeration: Enumeration | None = None,
    ) -> None:
        self.runs = tuple(runs)
        self.structure = structure
        self.enumeration = enumeration
        self.sizes = structure.sizes
        self.data_size = structure.data_size
        self.data_scale = structure.data_scale

    @cached_property
    def log_likelihood(self) -> Tensor:
        """log p(x | z) of the observed sites, and the model's factors inside the data plates."""
        found = self._sum(0, (*self.structure.observed_sites, *self.structure.local_factors))
        if not self.summed_sites:
            return found
        ratio = self.log_joint - self.log_drawn
        return self._summed_out(ratio) + self.log_posterior - self.log_prior

    @cached_property
    def global_log_likelihood(self) -> Tensor:
        """The model's factors outside the data plates."""
        return self._first(self._sum(0, self.structure.global_factors))

    @cached_property
    def log_prior(self) -> Tensor:
        """log p(z) of the local latents."""
        return self._summed_out(self._sum(0, self.structure.local_sites))

    @cached_property
    def log_posterior(self) -> Tensor:
        """log q(z | x) of the local latents, and the guide's factors beside them."""
        return self._of_guide(self.log_drawn)

    @cached_property
    def global_log_prior(self) -> Tensor:
        """log p of the global latents."""
        return self._first(self._sum(0, self.structure.global_sites))

    @cached_property
    def global_log_posterior(self) -> Tensor:
        """log q of the global latents, and the guide's factors beside them."""
        names = (*self.structure.global_sites, *self.structure.global_factors)
        return self._first(self._sum(1, names))

    @property
    def num_particles(self) -> int:
        """How many draws of the guide this run holds."""
        return max(self.log_w.shape[0], self.global_log_w.shape[0])

    @property
    def log_w(self) -> Tensor:
        """The local log-weights log p(x, z) - log q(z | x), enumerated sites summed out."""
        log_w = self.log_likelihood + self.log_prior - self.log_posterior
        return log_w if self.enumeration is None else self.log_parts(log_w).logsumexp(0)

    @property
    def global_log_w(self) -> Tensor:
        """The log-weights of the global latents and factors."""
        return self.global_log_likelihood + self.global_log_prior - self.global_log_posterior

    def per_datum(self, local: Tensor, global_: Tensor | float = 0.0) -> Tensor:
        """The total over the whole data set, divided by its size: mean over the data of `local` +
        `global_` / N, (num_particles,)."""
        mean = local.flatten(1).mean(1) if local.ndim > 1 else local
        if isinstance(global_, Tensor):
            return mean + global_.reshape(-1) / self.data_size
        return mean + global_ if global_ else mean

    def fits(self) -> Tensor:
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

    def log_likelihood_of(self, name: str) -> Tensor:
        """log p of one observed site, (num_particles, *sizes)."""
        return self._each(lambda run: self._log_prob(run[0].nodes[name]))

    def log_prior_of(self, name: str) -> Tensor:
        """log p of one latent site at the guide's draw, (num_particles, *sizes) or (num_particles,
        1, ..., 1); zero for a site that only the guide has.
        """
        return self._sum(0, (name,))

    def log_posterior_of(self, name: str) -> Tensor:
        """log q of one latent site at the guide's draw, shaped as `log_prior_of`."""
        return self._at_draws(name, self._sum(1, (name,)))

    def score(self, name: str) -> Tensor:
        """log q of one latent site as it was drawn, without scale and mask."""
        found = self._each(lambda run: self._log_prob(run[1].nodes[name], raw=True, drawn=True))
        return self._at_draws(name, found)

    def counts(self, name: str) -> Tensor:
        """Where log q of a local latent counts: not under a mask, such as that of what is observed
        where `obs_mask` says so; (num_particles, *sizes)."""

        def read(run: tuple[Trace, Trace]) -> Tensor:
            site = run[1].nodes[name]
            scale = torch.as_tensor(density_scale(site, self._scale(site, True)))
            return side_by_particle(scale, 0, self.structure, self.sizes)[..., 0] != 0

        return self._at_draws(name, self._each(read))

    def distribution_name(self, name: str) -> str:
        """The distribution that the guide drew a site from, by name."""
        return type(base_of(self._drawn(name)["fn"])).__name__

    def is_reparameterized(self, name: str) -> bool:
        """Whether gradients pass through the drawn value of a site."""
        return self._drawn(name)["fn"].has_rsample

    def is_determined(self, name: str) -> bool:
        """Whether the guide draws nothing at a site, a Delta or a factor: log q is no density."""
        return draws_nothing(self._drawn(name)["fn"])

    def analytic_kl(self, name: str) -> Tensor:
        """KL(q, p) of one latent site in closed form; its log-ratio at the draw where there is
        none.

        Scales and masks that differ between model and guide (a weight put on the model alone, say)
        are honored: s_p KL + (s_q - s_p) log q, with s = 0 under a mask.
        """
        found = self._each(
            lambda run: self._analytic_kl(run[1].nodes[name], run[0].nodes.get(name))
        )
        return self._at_draws(name, found)

    def objectives(self, what: str | Asked) -> dict[str, Tensor]:
        """What the distributions of a site in model and guide answer, by name and shaped as
        `log_prior_of`: what their method `objective(value)`, or another, returns.
        """
        asked = as_asked(what)
        sites = [[t.nodes[asked.site] for t in run if asked.site in t.nodes] for run in self.runs]
        found = [[(site, costs_of(site, asked)) for site in own] for own in sites]
        parts = [
            {part: self._reduce(cost, site) for site, costs in own for part, cost in costs.items()}
            for own in found
        ]
        return {part: torch.cat([own[part] for own in parts]) for part in parts[0]}

    def values(self, name: str) -> Tensor:
        """The value of a site, (num_particles, *batch, *event) with the batch dimensions that the
        site has itself; the leading size is 1 where nothing depends on the particle."""

        def read(run: tuple[Trace, Trace]) -> Tensor:
            site = self._site(run, name)
            value, event_dim = site["value"], site["fn"].event_dim
            value = value.reshape(self._leading(value, event_dim) + value.shape)
            depth = max((-dim for dim in plates_of(site).values()), default=0)
            while value.ndim > 1 + depth + event_dim and value.shape[1] == 1:
                value = value[:, 0]
            return value

        return self._each(read)

    def entries(self, name: str) -> Tensor:
        """The values of a site, side by side: (num_particles, *sizes, entries) of a local or
        observed one, (num_particles, entries) of a global one.

        The leading size is 1 where nothing depends on the particle.
        """

        def read(run: tuple[Trace, Trace]) -> Tensor:
            site = self._site(run, name)
            return self._entries(name, site["value"], site["fn"].event_dim)

        return self._each(read)

    def unconstrained(self, name: str) -> tuple[Tensor, Tensor]:
        """A latent site on the real line, where its support in the model is mapped to: its entries
        u, and log |dz/du| as the local quantities are shaped.

        Raises:
            ValueError: when the support cannot be mapped, as that of a discrete site.
        """
        parts = [self._unconstrained(name, run) for run in self.runs]
        entries, log_jacobians = zip(*parts, strict=True)
        return torch.cat(entries), torch.cat(log_jacobians)

    def site_orders(self) -> tuple[list[str], list[str]]:
        """The latent sites in the order in which the guide draws them, and the model."""
        model_trace, guide_trace = self.runs[0]
        model = [name for name in model_trace.nodes if name in self.latent_sites]
        return [name for name in guide_trace.nodes if name in model], model

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
        return met_before(random_sites(self.runs[0][1]), self.enumeration)

    def with_shares_of(self, joint: "InferenceJoint") -> "InferenceJoint":
        """The same, in which enumerated values have the probabilities of another."""
        if joint.enumeration is not None:
            self.log_shares = joint.log_shares
        return self

    @cached_property
    def log_joint(self) -> Tensor:
        """log p(x, z) inside the data plates, of every run."""
        local, observed = self.structure.local_sites, self.structure.observed_sites
        return self._sum(0, (*observed, *self.structure.local_factors, *local))

    def event_dim(self, name: str) -> int:
        """The event dimensions of a site."""
        return self._site(self.runs[0], name)["fn"].event_dim

    @cached_property
    def stand_ins(self) -> Tensor:
        """log q of what stands in for the sites that are summed out."""
        return self._sum(1, self.summed_sites)

    @cached_property
    def log_drawn(self) -> Tensor:
        """log q of every run, without stand-ins."""
        names = (*self.structure.local_sites, *self.structure.local_factors)
        return self._sum(1, tuple(name for name in names if name not in self.summed_sites))

    def _each(self, read: Callable[[tuple[Trace, Trace]], Tensor]) -> Tensor:
        parts = [read(run) for run in self.runs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _site(self, run: tuple[Trace, Trace], name: str) -> Message:
        return run[1 if name in self.latent_sites else 0].nodes[name]

    def _drawn(self, name: str) -> Message:
        return self.runs[0][1].nodes[name]

    def _leading(self, value: Tensor, event_dim: int) -> tuple[int, ...]:
        return (1,) * (1 + self.structure.batch_ndim + event_dim - value.ndim)

    def _entries(self, name: str, value: Tensor, event_dim: int) -> Tensor:
        sizes = self.sizes if name not in self.structure.global_sites else None
        return side_by_particle(value, event_dim, self.structure, sizes)

    def _unconstrained(self, name: str, run: tuple[Trace, Trace]) -> tuple[Tensor, Tensor]:
        value, fn = run[1].nodes[name]["value"], run[0].nodes[name]["fn"]
        try:
            transform = biject_to(fn.support)
            u = transform.inv(value)
        except NotImplementedError as error:
            raise ValueError(
                f"Site '{name}' has the support {fn.support}, which is not mapped to the real line."
            ) from error
        log_jacobian = transform.log_abs_det_jacobian(u, value)
        extra = log_jacobian.ndim - (value.ndim - fn.event_dim)
        log_jacobian = log_jacobian.flatten(-extra).sum(-1) if extra > 0 else log_jacobian
        reduced = self._reduce(log_jacobian, run[1].nodes[name], scaled=False)
        return self._entries(name, u, fn.event_dim), reduced

    def _analytic_kl(self, q: Message, p: Message | None) -> Tensor:
        if p is None:
            return self._log_prob(q, drawn=True)
        if draws_nothing(q["fn"]):  # its density is that of what was drawn before
            return self._log_prob(q, drawn=True) - self._log_prob(p)
        try:
            kl, *log_q = kl_parts(q, p)
        except NotImplementedError:
            return self._log_prob(q, drawn=True) - self._log_prob(p)
        kl = self._reduce(kl, p)
        if log_q:
            kl = kl + self._reduce(log_q[0], q) - self._reduce(log_q[1], p)
        return kl

    def _sum(self, side: int, names: tuple[str, ...]) -> Tensor:
        """The log-densities of the sites that model (0) or guide (1) have among those named."""

        def read(run: tuple[Trace, Trace]) -> Tensor:
            nodes = run[side].nodes
            found = [nodes[name] for name in names if name in nodes]
            terms = [self._log_prob(site, drawn=side == 1) for site in found]
            return sum(terms[1:], terms[0]) if terms else torch.zeros((1,) * (1 + len(self.sizes)))

        return self._each(read)

    def _log_prob(self, site: Message, *, raw: bool = False, drawn: bool = False) -> Tensor:
        return self._reduce(log_prob_of(site, raw=raw, drawn=drawn), site, scaled=not raw)

    def _reduce(self, log_prob: Tensor, site: Message, *, scaled: bool = True) -> Tensor:
        outside = self.structure.global_sites + self.structure.global_factors
        local = site["name"] not in outside
        if scaled:
            log_prob = scale_and_mask(log_prob, self._scale(site, local), site["mask"])
        ndim = 1 + self.structure.batch_ndim
        log_prob = log_prob.reshape(self._leading(log_prob, 0) + log_prob.shape)
        kept = [ndim + dim for dim in self.structure.plates.values()] if local else []
        for dim, size in zip(kept, self.sizes, strict=local):
            if log_prob.shape[dim] != size:
                log_prob = log_prob.expand(*log_prob.shape[:dim], size, *log_prob.shape[dim + 1 :])
        summed = [dim for dim in range(1, ndim) if dim not in kept]
        log_prob = log_prob.sum(summed) if summed else log_prob
        return log_prob if local else log_prob.reshape(-1, *[1] * len(self.sizes))

    def _scale(self, site: Message, local: bool) -> float | Tensor:
        if not local or self.data_scale == 1:
            return site["scale"]
        inside = self.structure.plates.keys() <= plates_of(site).keys()
        if not inside and not draws_nothing(site["fn"]):  # those say themselves how they count
            raise ValueError(self.structure.missing_scale(site["name"]))
        return site["scale"] / self.data_scale


def rescaled(site: Message, weights: Tensor, joint: InferenceJoint) -> Tensor:
    """The value of a site with its gradient multiplied by weights (num_particles, *sizes)."""
    shape = [1] * joint.structure.batch_ndim
    for dim, size in zip(joint.structure.plates.values(), weights.shape[1:], strict=False):
        shape[dim] = size
    factor = weights.reshape(-1, *shape, *[1] * site["fn"].event_dim)
    scale = joint._scale(site, site["name"] not in joint.structure.global_sites)
    factor = 1 - density_scale(site, scale) * (1 - factor)
    value = site["value"]
    return value.detach() + (factor * (value - value.detach())).reshape(value.shape)
