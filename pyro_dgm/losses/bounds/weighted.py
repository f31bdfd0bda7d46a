"""Objectives that are other functions of the importance weights w_k = p(x, z_k) / q(z_k | x):
Renyi's bound, the jackknife, tail-adaptive weights.
"""

from torch import Tensor

from dgm_core.arguments import check_count, check_flag_or_none, check_number
from dgm_core.enumeration import check_names
from dgm_core.terms import written
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.base import Term
from pyro_dgm.losses.bounds.iwae import (
    WeightBound,
    bound_per_datum,
    check_subsampling,
    weights_of,
)
from pyro_dgm.losses.formulas import (
    attach_gradient,
    iwae_bound,
    jackknife_bound,
    leave_one_out_mean,
    renyi_bound,
    tail_weights,
    vimco_signal,
)

__all__ = ["JVI", "Renyi", "TailAdaptive"]


class Renyi(WeightBound):
    """The variational Renyi bound 1 / (1 - alpha) log 1/K sum_k w_k^(1 - alpha), in nats per datum.

    As K grows it tends to log p(x) - D_alpha(q || p(z | x)): at alpha = 1 the ELBO, at alpha = 0
    the evidence.  It falls with alpha: the guide covers more than the posterior for alpha < 0, and
    seeks a mode for alpha > 1.  With finite K it is biased towards the ELBO, and a bound on the
    evidence for alpha >= 0.

    Args:
        alpha: the order, any number.
        num_particles: K.
        vectorize: as in ELBO.
        enumerate: as in IWAE.

    Logged:
        "Renyi".

    Cost:
        K draws of guide and model.  The gradient is that of the bound, through the sampled values,
        and by the score function where sites are not reparameterized.

    Raises:
        ValueError: for bad arguments, and as IWAE.

    References:
        Li and Turner (2016), arXiv:1602.02311.

    Example:
        >>> Renyi(0.5, num_particles=5)
        Renyi(0.5, num_particles=5)
    """

    name = "Renyi"

    def __init__(
        self,
        alpha: float = 0.5,
        num_particles: int = 10,
        vectorize: bool | None = None,
        *,
        enumerate: str | tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha)
        self.num_particles = check_count("num_particles", num_particles)
        self.vectorize = check_flag_or_none("vectorize", vectorize)
        self.enumerate = check_names(enumerate)

    def bound(self, log_w: Tensor) -> Tensor:
        """As `renyi_bound`."""
        return renyi_bound(log_w, self.alpha)

    def signal(self, log_w: Tensor) -> Tensor:
        """That of VIMCO, of the weights to the power of 1 - alpha."""
        if self.alpha == 1:
            log_w = log_w.detach()
            return (log_w - leave_one_out_mean(log_w)) / len(log_w)
        return vimco_signal((1 - self.alpha) * log_w) / (1 - self.alpha)

    def __repr__(self) -> str:
        first = repr(self.alpha)
        return written(self, first, num_particles=10, vectorize=None, enumerate=())


class JVI(WeightBound):
    """The jackknife estimate of log p(x) of order m, sum_j c(K, m, j) L_{K-j}, in nats per datum:
    the IWAE bound with the first m terms of its bias in 1 / K taken out.

    It is *no bound*: its bias, of order K^-(m + 1), may have either sign.  Maximized over a guide,
    it rewards weights of which it is too large; take it where the weights are good already, and
    look at the IWAE bound beside it.

    Args:
        order: m, 1 or 2 (0 is IWAE).
        num_particles: K, more than m.
        vectorize: as in ELBO.
        enumerate: as in IWAE.

    Logged:
        "JVI".

    Cost:
        K draws of guide and model; order 2 takes memory for K^2 weights.  The gradient is as that
        of IWAE.

    Raises:
        ValueError: for bad arguments, and as IWAE.

    References:
        Nowozin (2018), Debiasing evidence approximations, ICLR.

    Example:
        >>> JVI(order=2)
        JVI(order=2)
    """

    name = "JVI"

    def __init__(
        self,
        order: int = 1,
        num_particles: int = 10,
        vectorize: bool | None = None,
        *,
        enumerate: str | tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.order = check_count("order", order)
        self.num_particles = check_count("num_particles", num_particles)
        if order > 2 or num_particles <= order:
            raise ValueError(
                f"order must be 1 or 2 and num_particles more than it, got order={order} and "
                f"num_particles={num_particles}."
            )
        self.vectorize = check_flag_or_none("vectorize", vectorize)
        self.enumerate = check_names(enumerate)

    def bound(self, log_w: Tensor) -> Tensor:
        """As `jackknife_bound`."""
        return jackknife_bound(log_w, self.order)

    def signal(self, log_w: Tensor) -> Tensor:
        """The estimate less the IWAE bound without the particle."""
        log_w = log_w.detach()
        return self.bound(log_w) - iwae_bound(log_w) + vimco_signal(log_w)

    def __repr__(self) -> str:
        return written(self, order=1, num_particles=10, vectorize=None, enumerate=())


class TailAdaptive(Term):
    """Descent on a tail-adaptive f-divergence: the gradient sum_k r_k d log w_k along the path of
    the draws, with r_k ~ F(w_k)^beta for the share F(w) of the particles whose weights are at
    least w.

    The largest weight counts most whatever its size, so that the guide covers the posterior and the
    variance stays finite.  beta = 0 is the ELBO with the estimator "stl".  What is logged is the
    mean of log w_k, the ELBO; the divergence itself depends on the draws and has no value.

    Args:
        beta: of the weights, at most 0.
        num_particles: K.
        vectorize: as in ELBO.

    Logged:
        "TailAdaptive", the ELBO.

    Cost:
        K draws of guide and model, and the guide a second time.  The model's parameters follow the
        gradient with the same weights.

    Raises:
        ValueError: for bad arguments, for a site that is not reparameterized, and as IWAE.

    References:
        Wang, Liu and Liu (2018), arXiv:1810.11943.

    Example:
        >>> TailAdaptive(num_particles=20)
        TailAdaptive(num_particles=20)
    """

    name = "TailAdaptive"
    sign = -1
    shares_globals = True

    def __init__(
        self, beta: float = -1.0, num_particles: int = 10, vectorize: bool | None = None
    ) -> None:
        super().__init__()
        self.beta = check_number("beta", beta, most=0)
        self.num_particles = check_count("num_particles", num_particles)
        self.vectorize = check_flag_or_none("vectorize", vectorize)

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        joint = joints.inference()
        check_subsampling(joint)
        for name in joint.latent_sites:
            if not joint.is_reparameterized(name):
                raise ValueError(
                    f"TailAdaptive differentiates through every latent site, but site '{name}' "
                    f"({joint.distribution_name(name)}) is not reparameterized: use a relaxed "
                    "distribution, or Renyi, which takes the score function there."
                )
        whole = not joint.structure.factorizes and joint.data_scale == 1
        log_w = weights_of(joint, whole)
        scored = weights_of(joints.with_frozen_guide(joint), whole)
        surrogate = (tail_weights(log_w, self.beta) * scored).sum(0)
        found = (bound_per_datum(joint, x, whole) for x in (log_w.mean(0), surrogate))
        return attach_gradient(*found), {}

    def __repr__(self) -> str:
        return written(self, beta=-1.0, num_particles=10, vectorize=None)
