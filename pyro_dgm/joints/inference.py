"""The inference joint of one step: log-densities and weights, per particle and datum."""

from functools import cached_property
from math import prod

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import biject_to, kl_divergence

from pyro_dgm.conditionals import NoDensityError
from pyro_dgm.joints.structure import Structure, full_size

__all__ = ["InferenceJoint"]


class InferenceJoint:
    """One run of guide and model on the data, read by site name.

    Local quantities (of the observed sites and of the latents inside the data plates) have shape
    (num_particles, *sizes), with the sizes of the data plates and every other dimension summed;
    global ones have (num_particles, 1, ..., 1).  The leading size is 1 where nothing depends on the
    particle.  All masks and scales are applied but one: the N / B of subsampled data plates, which
    `per_datum` accounts for.

    Attributes: structure; sizes, the sizes of the data plates in this run; data_scale, N / B;
    data_size, the number of data N that the plates declare (1 when no plate encloses all the
    observed sites).
    """

    def __init__(self, model_trace: Trace, guide_trace: Trace, structure: Structure) -> None:
        self.model_trace = model_trace
        self.guide_trace = guide_trace
        self.structure = structure
        frames = [
            _data_frames(model_trace.nodes[name], structure)
            for name in structure.observed_sites[:1]
        ]
        self.sizes = tuple(frame.size for frame in frames[0]) if frames else ()
        self.data_size = prod(full_size(frame) for frame in frames[0]) if frames else 1
        self.data_scale = self.data_size / max(1, prod(self.sizes))

    @cached_property
    def log_likelihood(self) -> Tensor:
        """log p(x | z) of the observed sites."""
        return self._sum(self.model_trace, self.structure.observed_sites)

    @cached_property
    def log_prior(self) -> Tensor:
        """log p(z) of the local latents."""
        return self._sum(self.model_trace, self.structure.local_sites)

    @cached_property
    def log_posterior(self) -> Tensor:
        """log q(z | x) of the local latents."""
        return self._sum(self.guide_trace, self.structure.local_sites)

    @cached_property
    def global_log_prior(self) -> Tensor:
        """log p of the global latents."""
        return self._sum(self.model_trace, self.structure.global_sites)

    @cached_property
    def global_log_posterior(self) -> Tensor:
        """log q of the global latents."""
        return self._sum(self.guide_trace, self.structure.global_sites)

    @property
    def num_particles(self) -> int:
        """How many draws of the guide this run holds."""
        return max(self.log_w.shape[0], self.global_log_w.shape[0])

    @property
    def log_w(self) -> Tensor:
        """The local log-weights log p(x, z) - log q(z | x)."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    @property
    def global_log_w(self) -> Tensor:
        """The log-weights of the global latents."""
        return self.global_log_prior - self.global_log_posterior

    def per_datum(self, local: Tensor, global_: Tensor | float = 0.0) -> Tensor:
        """The total over the whole data set, divided by its size: mean over the data of `local` +
        `global_` / N, (num_particles,).
        """
        mean = local.flatten(1).mean(1) if local.ndim > 1 else local
        if isinstance(global_, Tensor):
            return mean + global_.reshape(-1) / self.data_size
        return mean + global_ if global_ else mean

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """The names of the sites that the guide drew."""
        return self.structure.global_sites + self.structure.local_sites

    def log_likelihood_of(self, name: str) -> Tensor:
        """log p of one observed site, (num_particles, *sizes)."""
        return self._log_prob(self.model_trace.nodes[name])

    def score(self, name: str) -> Tensor:
        """log q of one latent site as it was drawn, without scale and mask."""
        return self._log_prob(self.guide_trace.nodes[name], raw=True)

    def distribution_name(self, name: str) -> str:
        """The distribution that the guide drew a site from, by name."""
        return type(self.guide_trace.nodes[name]["fn"]).__name__

    def is_reparameterised(self, name: str) -> bool:
        """Whether gradients pass through the drawn value of a site."""
        return self.guide_trace.nodes[name]["fn"].has_rsample

    def analytic_kl(self, name: str) -> Tensor:
        """KL(q, p) of one latent site in closed form; its log-ratio at the draw where there is
        none.

        A scale that differs between model and guide (a weight put on the model alone, say) is
        honoured: s_p KL + (s_q - s_p) log q.
        """
        q, p = self.guide_trace.nodes[name], self.model_trace.nodes.get(name)
        if p is None:
            return self._log_prob(q)
        try:
            kl = self._reduce(kl_divergence(q["fn"], p["fn"]), p)
        except NotImplementedError:
            return self._log_prob(q) - self._log_prob(p)
        difference = q["scale"] - p["scale"]
        if isinstance(difference, Tensor) or difference != 0:
            kl = kl + self._reduce(q["fn"].log_prob(q["value"]) * (difference / p["scale"]), p)
        return kl

    def entries(self, name: str) -> Tensor:
        """The values of a site, side by side: (num_particles, *sizes, entries) of a local or
        observed one, (num_particles, entries) of a global one.

        The leading size is 1 where nothing depends on the particle.
        """
        site = self.guide_trace.nodes.get(name) or self.model_trace.nodes[name]
        return self._entries(name, site["value"], site["fn"].event_dim)

    def _entries(self, name: str, value: Tensor, event_dim: int) -> Tensor:
        return side_by_particle(
            value,
            event_dim,
            self.structure,
            self.sizes if name not in self.structure.global_sites else None,
        )

    def unconstrained(self, name: str) -> tuple[Tensor, Tensor]:
        """A latent site on the real line, where its support in the model is mapped to: its entries
        u, and log |dz/du| as the local quantities are shaped.

        Raises: ValueError when the support cannot be mapped, as that of a discrete site.
        """
        value = self.guide_trace.nodes[name]["value"]
        fn = self.model_trace.nodes[name]["fn"]
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
        reduced = self._reduce(log_jacobian, self.guide_trace.nodes[name], scaled=False)
        return self._entries(name, u, fn.event_dim), reduced

    def site_orders(self) -> tuple[list[str], list[str]]:
        """The latent sites in the order in which the guide draws them, and the model."""
        model = [name for name in self.model_trace.nodes if name in self.latent_sites]
        return [name for name in self.guide_trace.nodes if name in model], model

    def other_subsampled(self) -> tuple[tuple[str, str], ...]:
        """(plate, site) where a plate is subsampled that is not a data plate."""
        sites = [self.model_trace.nodes[name] for name in self.structure.observed_sites]
        sites += [self.guide_trace.nodes[name] for name in self.latent_sites]
        return tuple(
            (frame.name, site["name"])
            for site in sites
            for frame in site["cond_indep_stack"]
            if frame.name not in self.structure.plates and full_size(frame) != frame.size
        )

    def _sum(self, trace: Trace, names: tuple[str, ...]) -> Tensor:
        terms = [self._log_prob(trace.nodes[name]) for name in names if name in trace.nodes]
        return sum(terms[1:], terms[0]) if terms else torch.zeros((1,) * (1 + len(self.sizes)))

    def _log_prob(self, site: Message, *, raw: bool = False) -> Tensor:
        try:
            log_prob = site["fn"].log_prob(site["value"])
        except NoDensityError as error:
            raise NoDensityError(f"Site '{site['name']}' is implicit. {error}") from error
        return self._reduce(log_prob, site, scaled=not raw)

    def _reduce(self, log_prob: Tensor, site: Message, *, scaled: bool = True) -> Tensor:
        local = site["name"] not in self.structure.global_sites
        if scaled:
            log_prob = scale_and_mask(log_prob, self._scale(site, local), site["mask"])
        ndim = 1 + self.structure.batch_ndim
        if log_prob.ndim > ndim:
            raise ValueError(
                f"Site '{site['name']}' has batch shape {tuple(log_prob.shape)}, deeper than the "
                f"{self.structure.batch_ndim} batch dimensions that "
                "model and guide had when they were first run; declare event dimensions with "
                ".to_event()."
            )
        log_prob = log_prob.reshape((1,) * (ndim - log_prob.ndim) + log_prob.shape)
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
        frames = _data_frames(site, self.structure)
        if len(frames) < len(self.sizes):
            raise ValueError(
                f"Latent site '{site['name']}' lies in the subsampled plate "
                f"{tuple(self.structure.plates)} in the model, but not in the guide, "
                "where its log-density would miss the scale N / B: put the plate into the guide "
                "as well."
            )
        return site["scale"] / self.data_scale


def side_by_particle(
    value: Tensor, event_dim: int, structure: Structure, sizes: tuple[int, ...] | None
) -> Tensor:
    """A value (num_particles, *batch, *event), of which leading batch dimensions may be missing, as
    (num_particles, *sizes, entries); no sizes: global.
    """
    ndim = 1 + structure.batch_ndim
    missing = ndim + event_dim - value.ndim
    value = value.reshape((1,) * missing + value.shape)
    kept = [0, *(ndim + dim for dim in structure.plates.values())] if sizes is not None else [0]
    value = value.permute(*kept, *(dim for dim in range(value.ndim) if dim not in kept))
    value = value.reshape(*value.shape[: len(kept)], -1)
    return value.expand(value.shape[0], *(sizes or ()), -1)


def _data_frames(site: Message, structure: Structure) -> list[CondIndepStackFrame]:
    frames = {frame.name: frame for frame in site["cond_indep_stack"]}
    return [frames[name] for name in structure.plates if name in frames]
