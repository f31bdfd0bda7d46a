"""The bound of a particle filter (filtering variational objective).

L = E log Zhat, Zhat = prod_r 1/K sum_k w_rk with the weights of step t
p(x_t, z_t | z_<t, x_<t) / q(z_t | z_<t, x), multiplied up between resamplings r: E Zhat = p(x), so
L <= log p(x).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import handlers

from dgm_core.arguments import check_count
from dgm_core.resampling import check_all_at_once, check_estimator, check_resampling
from dgm_core.terms import written
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.formulas import attach_gradient, vimco_signal
from numpyro_dgm.sequences.ancestors import effective_size
from numpyro_dgm.sequences.filtering import Moment, filtered
from numpyro_dgm.sequences.pairs import step_pair

__all__ = ["FIVO"]


class FIVO(Term):
    """The particle filter's bound E log Zhat on log p(x), in nats per datum, of a model and a guide
    that are written as steps (`sequences.unroll`).

    Particles run through the steps side by side; those of small weight die and those of large
    weight multiply at a resampling, so that the variance of log Zhat grows with T, and not
    exponentially. It need not be above IWAE; without resampling it is IWAE. Each sequence decides
    for itself, and one that has ended is neither weighed nor resampled.

    Args:
        num_particles: K.
        resample: "always", after each step but the last; "never"; or a share of K, below which
            the effective sample size asks for it.
        scheme: of resampling: "multinomial", K independent draws; "systematic", "stratified",
            "residual", with less noise.
        estimator: of the gradient. "biased": through the draws, and the score function at those
            that are not reparameterized, with VIMCO's baseline; the score of the ancestors is
            dropped, as in the paper: less noise, and the gradient of no function. "unbiased": with
            the score of the ancestors, for "multinomial" and a rule that is not adaptive.

    Logged:
        "FIVO", "FIVO/ESS" (the effective sample size, the mean over steps) and "FIVO/resampled"
        (how often a sequence was).

    Cost:
        K draws of guide and model, one step after the other.

    Raises:
        ValueError: for bad arguments, a model or a guide that is no `unroll`, and latents outside.

    References:
        Maddison et al. (2017), arXiv:1705.09279; Le et al. (2018), arXiv:1705.10306; Naesseth et
        al. (2018), arXiv:1705.11140.

    Example:
        >>> FIVO(16, resample=0.5)
        FIVO(num_particles=16)
    """

    name = "FIVO"
    sign = -1
    details = ("ESS", "resampled")

    def __init__(
        self,
        num_particles: int = 10,
        resample: str | float = 0.5,
        scheme: str = "multinomial",
        estimator: str = "biased",
    ) -> None:
        super().__init__()
        self.num_particles = check_count("num_particles", num_particles)
        self.rule = check_resampling(resample, scheme)
        self.resample, self.scheme = self.rule
        self.estimator = check_estimator(estimator, self.rule)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        check_all_at_once(joints.vectorize)
        seed_key, key = jax.random.split(joints.key(self.name))
        data = {**joints.params, **joints.mutable_state}
        with handlers.seed(rng_seed=seed_key), handlers.substitute(data=data):
            pair: Any = step_pair(joints.model, joints.guide, joints.args, joints.kwargs)
        joints.known_size = pair.structure.data_size
        log_evidence, kept = filtered(pair, self.num_particles, self.rule, self._kept, key=key)
        share = pair.scale / joints.known_size  # of a sequence
        bound = (share * log_evidence).sum()
        surrogate = (share * self._surrogate(log_evidence, kept)).sum()
        details = {"ESS": over_time(kept["ESS"], pair), "resampled": kept["chosen"].sum(0).mean()}
        return bound + attach_gradient(jnp.zeros_like(bound), surrogate), details

    def _surrogate(self, log_evidence: Array, kept: dict[str, Array]) -> Array:
        """(*batch), whose gradient is that of the draws and of the ancestors: their scores, times
        the bound less what was known before them, and less a baseline; none of sequences without
        weight.
        """
        later = log_evidence - kept["so far"]  # (time, *batch)
        later = jax.lax.stop_gradient(jnp.where(log_evidence > -math.inf, later, 0.0))
        surrogate = jnp.zeros_like(log_evidence)
        if "score" in kept:
            signal = jax.lax.stop_gradient(jnp.where(log_evidence > -math.inf, kept["signal"], 0.0))
            surrogate = surrogate + (kept["score"] * (later[:, None] + signal)).sum((0, 1))
        if "ancestry" in kept:
            surrogate = surrogate + (kept["ancestry"] * later).sum(0)
        return surrogate

    def _kept(self, now: Moment) -> dict[str, Array]:
        """What the gradient and the log need of a step."""
        kept = {
            "ESS": effective_size(now.log_w),
            "chosen": now.chosen.astype(now.log_w.dtype),
            "so far": now.log_evidence,
        }
        if now.step.score is not None:
            kept |= {"score": now.step.score, "signal": vimco_signal(now.log_w)}
        if self.estimator == "unbiased":
            shares = jnp.take_along_axis(jax.nn.log_softmax(now.log_w, 0), now.ancestors, 0).sum(0)
            kept["ancestry"] = jnp.where(now.chosen, shares, 0.0)
        return kept

    def __repr__(self) -> str:
        defaults = {"scheme": "multinomial", "estimator": "biased"}
        return written(self, num_particles=10, resample=0.5, **defaults)


def over_time(values: Array, pair: Any) -> Array:
    """The mean over the steps of all sequences (time, *batch)."""
    if pair.lengths is None:
        return values.mean()
    steps = jnp.arange(len(values))
    own = steps.reshape(-1, *[1] * (values.ndim - 1)) < pair.lengths
    return jnp.where(own, values, 0.0).sum() / own.sum().clip(min=1)
