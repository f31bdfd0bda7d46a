"""Density distillation: a student that draws fast learns from a teacher that scores fast, without
data.
"""

from collections.abc import Callable

from jax import Array

from dgm_core.arguments import check_callable, check_name
from dgm_core.terms import written
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.joints.structure import random_sites
from numpyro_dgm.losses.base import Term

__all__ = ["Distillation"]


class Distillation(Term):
    """KL(student || teacher) = E_student [log q(x) - log p_teacher(x)], in nats per datum: the
    model is the student, its own draws are the data.

    An IAF student of a MAF teacher draws and is scored in one pass each, and so is the teacher: no
    slow direction is used.  Probability density distillation is the idea behind Parallel WaveNet.
    The values observed at the site are ignored, only their number counts.

    Args:
        teacher: a conditional without context, or a callable of the model's arguments that returns
            a distribution; its parameters stay as they are.
        site: the sample site of the student, the only one of its model.

    Logged:
        "Distillation", an estimate of the divergence, at least zero in expectation.

    Cost:
        one run of the model, one scoring by the teacher.

    Raises:
        ValueError: when the model has other sites than the student's, or one through whose draws no
            gradient passes.

    References:
        van den Oord et al. (2018), arXiv:1711.10433, eq. (5).

    Example:
        >>> from numpyro_dgm.conditionals.normal import DiagonalNormal, StandardNormal
        >>> from numpyro_dgm.nn import register
        >>> student = DiagonalNormal(2)
        >>> def model(x):
        ...     with numpyro.plate("data", len(x)):
        ...         numpyro.sample("x", register("student", student)(), obs=x)
        >>> params = {"student$params": student}
        >>> loss, x = Distillation(StandardNormal(2)), jnp.zeros((5, 2))
        >>> loss.loss(jax.random.key(0), params, model, lambda x: None, x).item()
        0.0
    """

    name = "Distillation"
    guided = False

    def __init__(self, teacher: Callable, site: str = "x") -> None:
        super().__init__()
        what = "a conditional, or a function that returns a distribution"
        check_callable("teacher", teacher, what)
        if getattr(teacher, "context_shape", 0):
            raise ValueError(
                "teacher needs a context: pass a callable of the model's arguments that calls "
                f"it with one, got {teacher!r}."
            )
        self.teacher, self.site = teacher, check_name("site", site)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        sites = random_sites(joints.generative())
        if list(sites) != [self.site]:
            raise ValueError(
                f"Distillation needs a model with the one sample site '{self.site}', whose "
                f"density it compares; this one has {sorted(sites)}."
            )
        joints.samples((self.site,))  # refuses a site through which no gradient passes
        site = sites[self.site]
        left = site["intermediates"]
        log_q = (
            site["fn"].log_prob(site["value"], left) if left else site["fn"].log_prob(site["value"])
        )
        teacher = (
            self.teacher()
            if hasattr(self.teacher, "context_shape")
            else self.teacher(*joints.args, **joints.kwargs)
        )
        log_p = teacher.log_prob(site["value"])
        return (log_q - log_p).mean(), {}

    def __repr__(self) -> str:
        return written(self, repr(self.teacher), site="x")
