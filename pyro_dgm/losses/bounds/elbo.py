"""The evidence lower bound with its gradient estimators.

ELBO = E_q(z|x) [log p(x | z) - beta (log q(z | x) - log p(z))] <= log p(x) for beta = 1, with
equality when q is the posterior.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from dgm_core.arguments import (
    check_choice,
    check_count,
    check_flag,
    check_flag_or_none,
)
from dgm_core.enumeration import check_names, mixture_prior, no_score
from dgm_core.modalities import check_given, named
from dgm_core.schedules import weight_of
from dgm_core.site_weights import (
    check_site_weights,
    flat_weights,
    is_named,
    named_sites,
)
from dgm_core.terms import written
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.base import Term, Weight
from pyro_dgm.losses.bounds.site_kl import SiteKL
from pyro_dgm.losses.formulas import attach_gradient, leave_one_out_mean

__all__ = ["ELBO"]


class ELBO(Term):
    """The evidence lower bound E_q [log p(x | z)] - beta KL(q(z | x), p(z)), in nats per datum.

    With global latents w it is E [log p(x, z, w) - log q(z, w)] / N; under subsampling the local
    part counts N / B times, as the plates declare.

    Args:
        beta: weight of the KL part (Higgins et al. 2017), a number or a schedule (KL warm-up); 1 is
            the bound. Or {site: weight}, for the parts of these sites alone.
        num_particles: draws of the guide per datum, averaged.
        estimator: of the gradient with respect to the guide.
            "reparam": through the sampled value where the site is reparameterized, by the score
            function elsewhere; "stl": only along the path through z, with log q's own parameters
            held (zero variance at q = p(z | x)); "score": the score function at every site
            (REINFORCE), for comparison and for teaching.
            Score-function parts use the mean of the other particles, or with one particle of the
            other data, as a baseline.
        analytic_kl: the KL part of each site in closed form where one is known (guide and model
            must then draw their sites in the same order).
        vectorize: whether the particles run at once (True) or one after the other (False); None
            chooses.
        enumerate: the names of discrete latents of each datum whose values all become particles:
            sum_c q(c | x) [...] where the guide draws c, without the noise of draws; where it does
            not, c is summed out, log sum_c p(c) p(x | z, c).  Or of sites outside all plates that
            the guide draws.
        given: the names of observed sites: the bound on log p of these alone, of the pair run on
            them, which neither guide nor likelihood see the others of. The guide must know how: the
            multimodal models do, others by an attribute `given(names, args, kwargs)` that returns
            the arguments without the others.
        free_bits: nats per datum below which the KL part of a site, its mean over the batch, is not
            pushed (Kingma et al. 2016): for every local site, or {site: nats}. Gradients are those
            of fit - sum_l beta_l max(KL_l, free_bits_l), which is no bound; the value stays the
            bound.

    Factors count with the likelihood: the bound is then one on the unnormalized evidence.

    Logged:
        "ELBO", "ELBO/log_likelihood" and "ELBO/KL" (without beta); "ELBO given image";
        "ELBO/KL(z)" of each site that beta or free_bits name, and with the latter "ELBO/free_bits",
        the KL part in which each site counts at least these.

    Cost:
        one run of guide and model; "stl" runs the guide twice.  Enumerated sites of C_1, ..., C_m
        values run both C_1 ... C_m times.

    Raises:
        ValueError: for bad arguments, for "stl" together with analytic_kl, and for sites that guide
            and model do not share; for beta or free_bits of sites without a KL part of their own;
            for enumerated sites that lie elsewhere than in the data plates, that something outside
            these may depend on, whose values cannot be listed or are too many.

    References:
        Kingma and Welling (2014), arXiv:1312.6114; Roeder, Wu and Duvenaud (2017),
        arXiv:1703.09194; Mnih and Gregor (2014), arXiv:1402.0030; Kingma et al. (2016),
        arXiv:1606.04934 (free bits).

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> optim = pyro.optim.Adam({"lr": 1e-3})
        >>> svi = pyro.infer.SVI(vae.model, vae.guide, optim, ELBO(beta=0.5))
        >>> svi.step(torch.ones(3, 4)) > 0
        True
    """

    name = "ELBO"
    details = ("log_likelihood", "KL")
    sign = -1

    def __init__(
        self,
        beta: Weight | Mapping[str, Weight] = 1.0,
        num_particles: int = 1,
        estimator: str = "reparam",
        analytic_kl: bool = False,
        vectorize: bool | None = None,
        *,
        enumerate: str | tuple[str, ...] = (),
        given: str | tuple[str, ...] = (),
        free_bits: Weight | Mapping[str, Weight] = 0.0,
    ) -> None:
        super().__init__()
        self.enumerate = check_names(enumerate)
        self.given = check_given(given)
        self.name = named(type(self).name, self.given)
        check_flag("analytic_kl", analytic_kl)
        self.beta = check_site_weights("beta", beta)
        self.free_bits = check_site_weights("free_bits", free_bits)
        self.told_apart = named_sites(self.beta, self.free_bits)
        self.freed = is_named(self.free_bits) or callable(free_bits) or free_bits != 0
        self.details = (
            *type(self).details,
            *(f"KL({name})" for name in self.told_apart),
            *(("free_bits",) if self.freed else ()),
        )
        self.vectorize = check_flag_or_none("vectorize", vectorize)
        self.num_particles = check_count("num_particles", num_particles)
        self.estimator = check_choice("estimator", estimator, ("reparam", "stl", "score"))
        if analytic_kl and estimator == "stl":
            raise ValueError(
                'estimator="stl" differentiates log q at the drawn value, which '
                "analytic_kl=True "
                "integrates out: choose one of them."
            )
        self.analytic_kl = analytic_kl

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        joints = joints.given(self.given)
        joint = joints.inference(stopped=self.estimator == "score", enumerate=self.enumerate)
        scored = joints.with_frozen_guide(joint) if self.estimator == "stl" else joint
        local_kl, global_kl = closed_kl(joint) if self.analytic_kl else sampled_kl(scored)
        fits = joint.fits()
        kls = joint.per_datum(joint.expected(local_kl), global_kl)  # (num_particles,) each
        fit, kl = over_particles(fits), over_particles(kls)
        found = {"log_likelihood": fit.detach(), "KL": kl.detach()}
        if self.told_apart or self.freed:
            kl_of = joint.analytic_kl if self.analytic_kl else partial(sampled_kl_of, scored)
            sites = SiteKL(joint, kl_of, self.beta, self.free_bits, step)
            value = sites.per_datum(*sites.weighed(local_kl, global_kl))
            local_kl, global_kl = sites.freed(local_kl, global_kl)
            bound = fits - sites.per_datum(local_kl, global_kl)
            quantity = attach_gradient((fits - value).mean(), bound.mean())
            found.update({f"KL({name})": sites.means[name] for name in self.told_apart})
            found.update({"free_bits": sites.counted(kl)} if self.freed else {})
        else:
            beta = weight_of(self.beta, step)
            quantity = fit - (kl if beta is self.beta and beta == 1 else beta * kl)
            local_kl, bound = beta * local_kl, fits - beta * kls
        if self.estimator == "score" or not all(map(joint.is_reparameterized, drawn_sites(joint))):
            objective = joint.log_likelihood - local_kl  # (num_particles, *sizes)
            score = score_surrogate(joint, objective, bound, every_site=self.estimator == "score")
            quantity = attach_gradient(quantity, (bound + score).mean())
        return quantity, found

    def weights(self) -> tuple[Weight, ...]:
        return flat_weights(self.beta, self.free_bits)

    def __repr__(self) -> str:
        return written(
            self,
            beta=1.0,
            num_particles=1,
            estimator="reparam",
            analytic_kl=False,
            vectorize=None,
            enumerate=(),
            given=(),
            free_bits=0.0,
        )


def over_particles(x: Tensor) -> Tensor:
    """The mean of (num_particles,); of one alone the number itself, whose gradient is cheaper."""
    return x.mean() if len(x) > 1 else x.squeeze(0)


def drawn_sites(joint: InferenceJoint) -> tuple[str, ...]:
    """The latent sites whose values are drawn, not enumerated."""
    enumerated = joint.enumerated_sites
    return tuple(name for name in joint.latent_sites if name not in enumerated)


def sampled_kl(joint: InferenceJoint) -> tuple[Tensor, Tensor | float]:
    if joint.structure.factorizes:  # nothing is global
        return joint.log_posterior - joint.log_prior, 0.0
    shared = joint.global_log_posterior - joint.global_log_prior
    return joint.log_posterior - joint.log_prior, shared


def sampled_kl_of(joint: InferenceJoint, name: str) -> Tensor:
    return joint.log_posterior_of(name) - joint.log_prior_of(name)


def closed_kl(joint: InferenceJoint) -> tuple[Tensor, Tensor]:
    structure, summed = joint.structure, joint.summed_sites
    drawn, ordered = joint.site_orders()
    if structure.reverse_sites:
        raise ValueError(structure.no_closed_form())
    if after := [n for n in ordered if n in structure.local_sites and n not in summed]:
        before = [name for name in summed if ordered.index(name) < ordered.index(after[-1])]
        if before:
            raise ValueError(mixture_prior(before[0], after[-1]))
    if [name for name in drawn if name not in summed] != [n for n in ordered if n not in summed]:
        raise ValueError(
            "analytic_kl=True needs guide and model to draw their latent sites in the same "
            f"order, but the guide draws {drawn} and the model {ordered}: "
            "reorder the guide or use analytic_kl=False."
        )
    local = [joint.analytic_kl(name) for name in structure.local_sites if name not in summed]
    shared = [joint.analytic_kl(name) for name in structure.global_sites]
    zero = torch.zeros_like(joint.log_likelihood)
    return sum(local, zero), sum(shared, zero.reshape(-1)[:1].reshape(1, *[1] * len(joint.sizes)))


def score_surrogate(
    joint: InferenceJoint, objective: Tensor, bound: Tensor, *, every_site: bool
) -> Tensor | float:
    """sum_sites log q(site) stop(signal - baseline) per particle, for the sites without a pathwise
    gradient (or every site).

    A local site is credited with the objective of its own datum (and with what lies outside the
    data plates, where that may depend on it), a global one with the whole bound.
    """
    surrogate: Tensor | float = 0.0
    expected = joint.expected(objective)  # (num_particles, *sizes)
    outside = joint.data_size * (bound - joint.per_datum(expected))  # (num_particles,)
    baseline = joint.each_value(expected - centered(expected))
    local = (objective - baseline).detach()
    for name in drawn_sites(joint):
        if joint.is_determined(name) or (joint.is_reparameterized(name) and not every_site):
            continue
        if joint.outer_sites and name not in joint.structure.local_sites:
            raise ValueError(no_score(name, joint.outer_sites[0]))
        log_q = joint.score(name)
        if name in joint.structure.local_sites:
            score = joint.expected(log_q * local, held=True)
            surrogate = surrogate + joint.per_datum(score)
            if joint.is_coupled():
                signal = outside - leave_one_out_mean(outside)
                surrogate = surrogate + joint.per_datum(log_q) * signal.detach()
        else:
            signal = bound - leave_one_out_mean(bound)
            log_q = log_q.reshape(log_q.shape[0], -1).sum(1)
            surrogate = surrogate + log_q * signal.detach()
    return surrogate


def centered(signal: Tensor) -> Tensor:
    """The signal minus the mean of the other particles; with a single particle, of the
    other data.
    """
    if signal.shape[0] > 1:
        return signal - leave_one_out_mean(signal)
    return (signal.reshape(-1) - leave_one_out_mean(signal.reshape(-1))).reshape(signal.shape)
