"""Terms of diffusions: the bound on the likelihood at single times, weighted errors, and the
distillation of many steps into few.
"""

from typing import Any

from jax import Array

from dgm_core.arguments import check_choice, check_count, check_names
from dgm_core.diffusion_steps import WEIGHTS, check_is_teacher
from dgm_core.terms import Asked, check_sites, sites_written, written
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Weight
from numpyro_dgm.losses.bounds.elbo import ELBO
from numpyro_dgm.losses.objectives import Objective

__all__ = ["DenoisingELBO", "DenoisingError", "ProgressiveDistillation"]


class DenoisingELBO(ELBO):
    """The evidence lower bound in which diffusions are scored by their own bound, at one time for
    each datum:  log p(x) >= -KL(q(x_T | x), p(x_T)) - T E_t KL(q(x_s | x_t, x), p(x_s | x_t)).

    At any site of any model: a density, E log p(x) from below; a likelihood or the prior of a
    latent, E_q [log p(x | z) + bound(z) - log q(z | x)], also a bound on log p(x). Its expectation
    is that of `ELBO()` on the chain of T sites, at a call of the network instead of T. The times of
    a batch are evenly spread, the noisy ones as often as they change the log ratio of noise and
    datum. Where a diffusion leaves its context out in training, it is then a bound on log p(x).

    Args:
        site: of a Diffusion, or several.
        beta, num_particles, vectorize: as in ELBO.
        num_steps: T (default: all of the schedule, or continuous time).
        num_times: for each datum; None: all T, of which the log-ratios (kl="sampled") are along
            one path, without variance at the best variances.
        kl: "closed" for each step, or "sampled", its log-ratio at a draw.

    Logged:
        "DenoisingELBO(<site>)" in nats per datum, with "/log_likelihood" and "/KL" as in ELBO.
        `dgm_core.diagnostics.bits_per_dim` makes bits per dimension of it: of a density with levels
        (data with noise as wide as a level), of a mass (num_levels=K) without.

    Cost:
        one run of guide and model, with num_times calls of the network.

    Raises:
        ValueError: for a site that no diffusion is at, unknown options, and more steps than the
            schedule has.

    References:
        Ho, Jain & Abbeel (2020), arXiv:2006.11239; Kingma et al. (2021), arXiv:2107.00630.

    Example:
        >>> from numpyro_dgm import VAE
        >>> from numpyro_dgm.conditionals import Diffusion
        >>> key = jax.random.key(0)
        >>> vae = VAE(4, 2, hidden=(8,), prior=Diffusion(2, hidden=(8,), key=key), key=key)
        >>> x = jax.numpy.ones((3, 4))
        >>> DenoisingELBO("z").loss(key, {}, vae.model, vae.guide, x).shape
        ()
    """

    def __init__(
        self,
        site: str | tuple[str, ...],
        beta: Weight = 1.0,
        num_particles: int = 1,
        vectorize: bool | None = None,
        *,
        num_steps: int | None = None,
        num_times: int | None = 1,
        kl: str = "closed",
    ) -> None:
        super().__init__(beta, num_particles, vectorize=vectorize)
        self.sites = check_names("site", site)
        self.num_steps = None if num_steps is None else check_count("num_steps", num_steps)
        self.num_times = None if num_times is None else check_count("num_times", num_times)
        self.kl = check_choice("kl", kl, ("closed", "sampled"))
        self.name = f"DenoisingELBO({', '.join(self.sites)})"

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        how = {"num_steps": self.num_steps, "num_times": self.num_times, "kl": self.kl}
        joints = joints.bounded(self.sites, **how)
        joint = joints.inference()
        check_sites(self.sites, (*joint.latent_sites, *joint.structure.observed_sites))
        return super().estimate(joints, step)

    def __repr__(self) -> str:
        return written(
            self,
            sites_written(self.sites),
            beta=1.0,
            num_particles=1,
            vectorize=None,
            num_steps=None,
            num_times=1,
            kl="closed",
        )


class DenoisingError(Objective):
    """The mean squared error of a diffusion's network, weighted over time; no bound on the
    likelihood, but what makes the best pictures.

    E w(t) |eps - eps^|^2 / D  at t uniform in 1, ..., T (or in time), evenly spread over the batch.
    Variances that are learned get no gradient from it: add 0.001 DenoisingELBO, as Nichol &
    Dhariwal do.

    Args:
        site: of a Diffusion.
        weight: "simple", w = 1; "data", the squared error of the datum; "velocity", that of alpha
            eps - sigma x; "min_snr", w = min(1, 5 / SNR).
        num_times: for each datum.

    Logged:
        "DenoisingError(<site>, <weight>)".

    Cost:
        one run of guide and model, with num_times calls of the network.

    Raises:
        ValueError: for an unknown weight, and a site that no diffusion is at.

    References:
        Ho, Jain & Abbeel (2020), arXiv:2006.11239, equation 14; Salimans & Ho (2022),
        arXiv:2202.00512; Hang et al. (2023), arXiv:2303.09556.

    Example:
        >>> DenoisingError("x") + 0.001 * DenoisingELBO("x")
        DenoisingError('x') + 0.001 * DenoisingELBO('x')
    """

    def __init__(self, site: str, weight: str = "simple", *, num_times: int = 1) -> None:
        super().__init__(site)
        self.weight = check_choice("weight", weight, WEIGHTS)
        self.num_times = check_count("num_times", num_times)
        options = (("weight", self.weight), ("num_times", self.num_times))
        self.objectives = (Asked(self.site, "denoising", options),)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class, the site and the weight."""
        return f"DenoisingError({self.site}, {self.weight})"

    def __repr__(self) -> str:
        return written(self, repr(self.site), weight="simple", num_times=1)


class ProgressiveDistillation(Objective):
    """The error of a diffusion that shall draw in N steps of DDIM what its teacher draws in 2 N:

    E w(t) |eps^(x_t) - eps~|^2 / D  at t uniform among its N levels, where one step from x_t with
    the noise eps~ ends where two steps of the teacher do.

    The student begins as a copy of the teacher; in the next round it is the teacher of one with
    half the steps. Draw with `sample(method="ddim", num_steps=N)`. Since few steps begin where
    hardly anything is left of a datum, let networks predict "velocity" or "data", not "noise". A
    student is no longer a model of scores: its bound and density say nothing.

    Args:
        site: of the student, a Diffusion.
        teacher: a Diffusion with the same schedule, shapes and levels, which stays as it is; given
            the student's context.
        num_steps: N; 2 N at most T of the schedule.
        weight: as in `DenoisingError`; "velocity" is 1 + SNR of the squared error of the datum.
        num_times: for each datum.

    Logged:
        "ProgressiveDistillation(<site>, <N>)".

    Cost:
        one run of guide and model, with 3 num_times calls of the network, two without gradient.

    Raises:
        ValueError: for a teacher that is no such diffusion or the student itself, a learned
            schedule, too many steps, and a site that no diffusion is at.

    References:
        Salimans & Ho (2022), Progressive Distillation for Fast Sampling of Diffusion Models,
        arXiv:2202.00512.

    Example:
        >>> import jax
        >>> from numpyro_dgm.conditionals import Diffusion
        >>> teacher = Diffusion(2, hidden=(8,), key=jax.random.key(0))
        >>> ProgressiveDistillation("x", teacher, num_steps=8).name
        'ProgressiveDistillation(x, 8)'
    """

    def __init__(
        self,
        site: str,
        teacher: Any,
        *,
        num_steps: int,
        weight: str = "velocity",
        num_times: int = 1,
    ) -> None:
        super().__init__(site)
        self.teacher = check_is_teacher(teacher)
        self.num_steps = check_count("num_steps", num_steps)
        self.weight = check_choice("weight", weight, WEIGHTS)
        self.num_times = check_count("num_times", num_times)
        options = {
            "teacher": teacher,
            "num_steps": self.num_steps,
            "weight": self.weight,
            "num_times": self.num_times,
        }
        self.objectives = (Asked(self.site, "distillation", tuple(options.items())),)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class, the site and the steps."""
        return f"ProgressiveDistillation({self.site}, {self.num_steps})"

    def __repr__(self) -> str:
        steps = f"num_steps={self.num_steps}"
        return written(
            self,
            *(repr(self.site), repr(self.teacher), steps),
            weight="velocity",
            num_times=1,
        )
