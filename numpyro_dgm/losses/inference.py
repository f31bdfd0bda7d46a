"""The inference joint of one step: log-densities and weights, per particle and datum."""

from functools import cached_property
from math import prod

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import kl_divergence
from numpyro.primitives import CondIndepStackFrame

from numpyro_dgm.losses.structure import Site, Structure, Trace, full_size

__all__ = ["InferenceJoint"]


class InferenceJoint:
    """One run of guide and model on the data, read by site name.

    Local quantities (of the observed sites and of the latents inside the data plates) have shape (num_particles, *sizes), with the sizes of
    the data plates and every other dimension summed; global ones have (num_particles, 1, ..., 1).  The leading size is 1 where nothing
    depends on the particle.  All masks and scales are applied but one: the N / B of subsampled data plates, which `per_datum` accounts for.

    Attributes: model_trace, guide_trace; structure; sizes, the sizes of the data plates in this run; data_scale, N / B;
    data_size, the number of data N that the plates declare (1 when no plate encloses all the observed sites).
    """

    def __init__(self, model_trace: Trace, guide_trace: Trace, structure: Structure) -> None:
        self.model_trace = model_trace
        self.guide_trace = guide_trace
        self.structure = structure
        frames = [_data_frames(model_trace[name], structure) for name in structure.observed_sites[:1]]
        self.sizes = tuple(frame.size for frame in frames[0]) if frames else ()
        self.data_size = prod(full_size(model_trace, frame.name) for frame in frames[0]) if frames else 1
        self.data_scale = self.data_size / max(1, prod(self.sizes))

    @cached_property
    def log_likelihood(self) -> Array:
        """log p(x | z) of the observed sites."""
        return self._sum(self.model_trace, self.structure.observed_sites)

    @cached_property
    def log_prior(self) -> Array:
        """log p(z) of the local latents."""
        return self._sum(self.model_trace, self.structure.local_sites)

    @cached_property
    def log_posterior(self) -> Array:
        """log q(z | x) of the local latents."""
        return self._sum(self.guide_trace, self.structure.local_sites)

    @cached_property
    def global_log_prior(self) -> Array:
        """log p of the global latents."""
        return self._sum(self.model_trace, self.structure.global_sites)

    @cached_property
    def global_log_posterior(self) -> Array:
        """log q of the global latents."""
        return self._sum(self.guide_trace, self.structure.global_sites)

    @property
    def num_particles(self) -> int:
        """How many draws of the guide this run holds."""
        return max(self.log_w.shape[0], self.global_log_w.shape[0])

    @property
    def log_w(self) -> Array:
        """The local log-weights log p(x, z) - log q(z | x)."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    @property
    def global_log_w(self) -> Array:
        """The log-weights of the global latents."""
        return self.global_log_prior - self.global_log_posterior

    def per_datum(self, local: Array, global_: Array | float = 0.0) -> Array:
        """The total over the whole data set, divided by its size: mean over the data of `local` + `global_` / N, (num_particles,)."""
        mean = local.reshape(local.shape[0], -1).mean(1)
        return mean + global_.reshape(-1) / self.data_size if isinstance(global_, Array) else mean + global_

    def latent_sites(self) -> dict[str, Site]:
        """The latent sites as the guide drew them."""
        names = self.structure.global_sites + self.structure.local_sites
        return {name: self.guide_trace[name] for name in names}

    def log_prob(self, site: Site, *, raw: bool = False) -> Array:
        """The log-density of one site; `raw` leaves scale and mask out."""
        log_prob = site["fn"].log_prob(site["value"])
        return self._reduce(log_prob, site, scaled=not raw)

    def analytic_kl(self, name: str) -> Array:
        """KL(q, p) of one latent site in closed form; its log-ratio at the draw where there is none.

        A scale that differs between model and guide (a weight put on the model alone, say) is honoured: s_p KL + (s_q - s_p) log q.
        """
        q, p = self.guide_trace[name], self.model_trace.get(name)
        try:
            kl = kl_divergence(q["fn"], p["fn"]) if p is not None else None
        except NotImplementedError:
            kl = None
        if kl is None:
            return self.log_prob(q) - (self.log_prob(p) if p is not None else 0.0)
        difference = _own_scale(q) - _own_scale(p)
        kl = self._reduce(kl, p)
        if isinstance(difference, Array) or difference != 0:
            kl = kl + self._reduce(q["fn"].log_prob(q["value"]) * (difference / _own_scale(p)), p)
        return kl

    def spread(self, weights: Array, site: Site) -> Array:
        """Weights (num_particles, *sizes), or (num_particles,), shaped to multiply the value of a site."""
        shape = [1] * self.structure.batch_ndim
        for dim, size in zip(self.structure.plates.values(), weights.shape[1:], strict=False):
            shape[dim] = size
        return weights.reshape(-1, *shape, *[1] * site["fn"].event_dim)

    def _sum(self, trace: Trace, names: tuple[str, ...]) -> Array:
        terms = [self.log_prob(trace[name]) for name in names if name in trace]
        return sum(terms[1:], terms[0]) if terms else jnp.zeros((1,) * (1 + len(self.sizes)))

    def _reduce(self, log_prob: Array, site: Site, *, scaled: bool = True) -> Array:
        local = site["name"] not in self.structure.global_sites
        if scaled:
            log_prob = log_prob * self._scale(site, local)
        ndim = 1 + self.structure.batch_ndim
        if log_prob.ndim > ndim:
            raise ValueError(
                f"Site '{site['name']}' has batch shape {tuple(log_prob.shape)}, deeper than the {self.structure.batch_ndim} batch dimensions that "
                "model and guide had when they were first run; declare event dimensions with .to_event()."
            )
        log_prob = log_prob.reshape((1,) * (ndim - log_prob.ndim) + log_prob.shape)
        kept = [ndim + dim for dim in self.structure.plates.values()] if local else []
        if kept:
            shape = list(log_prob.shape)
            for dim, size in zip(kept, self.sizes, strict=True):
                shape[dim] = size
            log_prob = jnp.broadcast_to(log_prob, shape)
        summed = [dim for dim in range(1, ndim) if dim not in kept]
        log_prob = log_prob.sum(tuple(summed)) if summed else log_prob
        return log_prob if local else log_prob.reshape(-1, *[1] * len(self.sizes))

    def _scale(self, site: Site, local: bool) -> float | Array:
        if not local or self.data_scale == 1:
            return _own_scale(site)
        frames = _data_frames(site, self.structure)
        if len(frames) < len(self.sizes):
            raise ValueError(
                f"Latent site '{site['name']}' lies in the subsampled plate {tuple(self.structure.plates)} in the model, but not in the guide, "
                "where its log-density would miss the scale N / B: put the plate into the guide as well."
            )
        return _own_scale(site) / self.data_scale


def _data_frames(site: Site, structure: Structure) -> list[CondIndepStackFrame]:
    frames = {frame.name: frame for frame in site["cond_indep_stack"]}
    return [frames[name] for name in structure.plates if name in frames]


def _own_scale(site: Site) -> float | Array:
    return 1.0 if site["scale"] is None else site["scale"]
