"""The importance-weighted bound with its gradient estimators.

L_K = E log 1/K sum_k w_k, w_k = p(x, z_k) / q(z_k | x): at least the ELBO, not decreasing in K,
tends to log p(x).
"""

from torch import Tensor

from dgm_core.arguments import check_choice, check_count, check_flag, check_flag_or_none
from dgm_core.enumeration import check_names
from dgm_core.matching import warn_estimated
from dgm_core.modalities import check_given, named
from dgm_core.terms import written
from pyro_dgm.joints.by_value import expectation
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.joints import Joints
from pyro_dgm.joints.points import estimated_sites
from pyro_dgm.losses.base import Term
from pyro_dgm.losses.bounds.elbo import drawn_sites
from pyro_dgm.losses.formulas import attach_gradient, iwae_bound, normalized_weights, vimco_signal

__all__ = ["IWAE"]


class WeightBound(Term):
    """A function of importance weights, in nats per datum, that is maximized.

    A subclass writes `bound(log_w)` and `signal(log_w)`, by which the score of a draw is
    multiplied: the bound less something that does not depend on that draw.
    """

    sign = -1
    shares_globals = True
    estimator = "reparam"
    looser = False
    given: tuple[str, ...] = ()

    def bound(self, log_w: Tensor) -> Tensor:
        """(num_particles, *data) -> (*data)."""
        raise NotImplementedError

    def signal(self, log_w: Tensor) -> Tensor:
        """(num_particles, *data) -> the same, a constant."""
        raise NotImplementedError

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        stopped, joints = self.estimator == "vimco", joints.given(self.given)
        joint = joints.inference(stopped=stopped, enumerate=self.enumerate)
        check_subsampling(joint)
        if self.num_particles > 1:
            warn_estimated(self.name, estimated_sites(joint))
        whole = not joint.structure.factorizes and joint.data_scale == 1
        if self.looser:
            return self._by_value(joint, whole), {}
        log_w = weights_of(joint, whole)
        bound = bound_per_datum(joint, self.bound(log_w), whole)
        surrogate = self.surrogate(joints, joint, log_w, bound, whole)
        return attach_gradient(bound, surrogate), {}

    def _by_value(self, joint: InferenceJoint, whole: bool) -> Tensor:
        """The mean of the bounds of enumerated values."""
        if whole:
            raise ValueError(
                "looser=True needs latents in the data plates alone, but the sites "
                f"{joint.structure.global_sites} lie outside of them: leave it out."
            )
        drawn = [name for name in drawn_sites(joint) if not joint.is_reparameterized(name)]
        if drawn:
            raise ValueError(
                f"looser=True needs reparameterized sites beside enumerated ones, got {drawn}: "
                "enumerate them as well, or leave it out."
            )
        log_w = joint.log_parts() - joint.log_shares  # (num_values, num_particles, *sizes)
        each = iwae_bound(log_w.swapaxes(0, 1))
        return bound_per_datum(joint, expectation(joint.log_shares[:, 0], each), whole)

    def surrogate(
        self, joints: Joints, joint: InferenceJoint, log_w: Tensor, bound: Tensor, whole: bool
    ) -> Tensor:
        """What is differentiated in place of the bound: the bound itself, and the score function of
        what is not reparameterized."""
        every_site, signal = self.estimator == "vimco", self.signal(log_w)
        return bound + _score_surrogate(joint, signal, bound, whole, every_site=every_site)


class IWAE(WeightBound):
    """The importance-weighted bound log 1/K sum_k p(x, z_k) / q(z_k | x), in nats per datum.

    The logarithm is taken datum by datum, and the scale N / B of a subsampled plate stays outside
    it, so the bound holds under subsampling.  With global latents the weights are those of the
    whole joint; under subsampling, where those do not exist, global latents are drawn once for all
    particles and enter as in the ELBO.

    Args:
        num_particles: K.
        estimator: of the gradient with respect to the guide.
            "reparam": through the sampled values; sites that are not reparameterized take the score
            function with the VIMCO baseline; "dreg": doubly reparameterized, whose signal-to-noise
            ratio does not fall with K; every site must be reparameterized; "vimco": the score
            function at every site.
        vectorize: as in ELBO.
        enumerate: the names of discrete latents of each datum that are summed out of the weights,
            w_k = sum_c p(x, z_k, c) / q(z_k | x). Where the guide draws c, this is sum_c q(c) w_kc,
            in which q(c | x) cancels and learns nothing: train it by ELBO, or leave it out.
        looser: the logarithm for each enumerated value that the guide draws, sum_c q(c) log 1/K
            sum_k w_kc: at most the tight bound, which has the sum over c inside. Published of
            mixtures as the looser one.
        given: as in ELBO.

    Logged:
        "IWAE".

    Cost:
        K draws of guide and model in one vectorized pass; "dreg" adds one more pass of each.

    Raises:
        ValueError: for bad arguments, for "dreg" with a site that is not reparameterized, and when
            a plate is subsampled that is not a data plate.

    References:
        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519; Tucker et al. (2019),
        arXiv:1810.04152; Mnih and Rezende (2016), arXiv:1602.06725.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> loss = IWAE(num_particles=16, estimator="dreg")
        >>> svi = pyro.infer.SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss)
        >>> svi.step(torch.ones(3, 4)) > 0
        True
    """

    name = "IWAE"

    def __init__(
        self,
        num_particles: int = 10,
        estimator: str = "reparam",
        vectorize: bool | None = None,
        *,
        enumerate: str | tuple[str, ...] = (),
        looser: bool = False,
        given: str | tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.enumerate = check_names(enumerate)
        self.given = check_given(given)
        self.looser = check_flag("looser", looser)
        self.name = named("IWAE (looser)" if looser else "IWAE", self.given)
        self.vectorize = check_flag_or_none("vectorize", vectorize)
        self.num_particles = check_count("num_particles", num_particles)
        self.estimator = check_choice("estimator", estimator, ("reparam", "dreg", "vimco"))
        if looser and (not self.enumerate or estimator != "reparam"):
            raise ValueError(
                "looser=True takes the mean of the bounds of enumerated values: name their site in "
                f"enumerate, with estimator='reparam', got {self.enumerate} and {estimator!r}."
            )

    def bound(self, log_w: Tensor) -> Tensor:
        """log 1/K sum_k w_k."""
        return iwae_bound(log_w)

    def signal(self, log_w: Tensor) -> Tensor:
        """As VIMCO has it."""
        return vimco_signal(log_w)

    def surrogate(
        self, joints: Joints, joint: InferenceJoint, log_w: Tensor, bound: Tensor, whole: bool
    ) -> Tensor:
        """What is differentiated in place of the bound."""
        if self.estimator == "dreg":
            return self._doubly_reparameterized(joints, joint, log_w, whole)
        return super().surrogate(joints, joint, log_w, bound, whole)

    def _doubly_reparameterized(
        self, joints: Joints, joint: InferenceJoint, log_w: Tensor, whole: bool
    ) -> Tensor:
        """sum_k stop(w_k) log w_k at draws whose gradient is scaled by stop(w_k): the model sees
        weights w_k, the guide w_k^2.
        """
        weights = normalized_weights(log_w)
        for name in drawn_sites(joint):
            if not joint.is_reparameterized(name):
                raise ValueError(
                    "estimator='dreg' differentiates through every latent site, but site "
                    f"'{name}' ({joint.distribution_name(name)}) is not "
                    "reparameterized: use estimator='reparam', which takes the score function "
                    "there, or a relaxed distribution."
                )
        local = joint.structure.local_sites
        sites = tuple(name for name in drawn_sites(joint) if whole or name in local)
        scored = joints.rescored(joint, weights, sites)
        return bound_per_datum(scored, (weights * weights_of(scored, whole)).sum(0), whole)

    def __repr__(self) -> str:
        return written(
            self,
            num_particles=10,
            estimator="reparam",
            vectorize=None,
            enumerate=(),
            looser=False,
            given=(),
        )


def weights_of(joint: InferenceJoint, whole: bool) -> Tensor:
    """Per datum, (num_particles, *sizes); or of the whole joint, (num_particles,)."""
    if not whole:
        return joint.log_w
    return joint.log_w.reshape(joint.log_w.shape[0], -1).sum(1) + joint.global_log_w.reshape(-1)


def bound_per_datum(joint: InferenceJoint, bound: Tensor, whole: bool) -> Tensor:
    """The mean over the data of a local bound, plus what the shared global latents add; a bound of
    the whole joint is divided by N.
    """
    return (
        bound / joint.data_size
        if whole
        else joint.per_datum(bound[None], joint.global_log_w).mean()
    )


def _score_surrogate(
    joint: InferenceJoint, signal: Tensor, bound: Tensor, whole: bool, *, every_site: bool
) -> Tensor | float:
    surrogate: Tensor | float = 0.0
    for name in drawn_sites(joint):
        if joint.is_determined(name) or (joint.is_reparameterized(name) and not every_site):
            continue
        log_q = joint.score(name)
        if name in joint.structure.local_sites:
            log_q = joint.each_draw(name, log_q)
        if whole:
            log_q = log_q.reshape(log_q.shape[0], -1).sum(1)
            surrogate = surrogate + (log_q * signal).sum() / joint.data_size
        elif name in joint.structure.local_sites:
            surrogate = surrogate + joint.per_datum((log_q * signal).sum(0)[None]).mean()
        else:
            surrogate = surrogate + log_q.sum() * bound.detach()
    return surrogate


def check_subsampling(joint: InferenceJoint) -> None:
    for plate, site in joint.other_subsampled():
        raise ValueError(
            "The importance-weighted bound needs every subsampled plate to enclose all observed "
            f"and all local latent sites, but plate '{plate}' "
            f"(at site '{site}') does not, and its scale would sit inside the logarithm: use "
            "ELBO, or give that plate all its data."
        )
