"""Density distillation: a student that draws fast learns from a teacher that scores fast, without
data.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_callable, check_flag, check_name, check_number
from dgm_core.terms import no_entropy, written
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.joints.structure import random_sites
from numpyro_dgm.losses.base import Term

__all__ = ["ContrastiveDistillation", "Distillation"]


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
        analytic_entropy: whether E log q is taken in closed form as far as it can be: of a flow the
            part of its noise (of logistic noise, E sum_t log s_t + 2), of other distributions all.
            The mean is the same. Without it the estimate has no variance where the student is the
            teacher; with it the gradient of the entropy has less at first.

    Logged:
        "Distillation", an estimate of the divergence, at least zero in expectation.

    Cost:
        one run of the model, one scoring by the teacher.

    Raises:
        ValueError: when the model has other sites than the student's, or one through whose draws no
            gradient passes, and for an entropy that has no closed form.

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

    def __init__(
        self, teacher: Callable, site: str = "x", *, analytic_entropy: bool = False
    ) -> None:
        super().__init__()
        self.analytic_entropy = check_flag("analytic_entropy", analytic_entropy)
        what = "a conditional, or a function that returns a distribution"
        check_callable("teacher", teacher, what)
        if getattr(teacher, "context_shape", 0):
            raise ValueError(
                "teacher needs a context: pass a callable of the model's arguments that calls "
                f"it with one, got {teacher!r}."
            )
        self.teacher, self.site = teacher, check_name("site", site)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        value, log_q = self._student(joints)
        log_p = self._teacher(joints).log_prob(value)
        return (log_q - log_p).mean(), {}

    def _student(self, joints: Joints) -> tuple[Array, Array]:
        """A draw of the student, and log q of it or its mean."""
        sites = random_sites(joints.generative())
        if list(sites) != [self.site]:
            raise ValueError(
                f"{type(self).__name__} needs a model with the one sample site '{self.site}', "
                f"whose density it compares; this one has {sorted(sites)}."
            )
        joints.samples((self.site,))  # refuses a site through which no gradient passes
        site = sites[self.site]
        fn, value, left = site["fn"], site["value"], site["intermediates"]
        if not self.analytic_entropy:
            return value, fn.log_prob(value, left) if left else fn.log_prob(value)
        if hasattr(fn, "negative_entropy"):
            return value, fn.negative_entropy(value)
        try:
            return value, -fn.entropy()
        except NotImplementedError:
            raise ValueError(no_entropy(type(fn).__name__)) from None

    def _teacher(self, joints: Joints) -> Any:
        """Its distribution."""
        if hasattr(self.teacher, "context_shape"):
            return self.teacher()
        return self.teacher(*joints.args, **joints.kwargs)

    def __repr__(self) -> str:
        return written(self, repr(self.teacher), site="x", **self._shown())

    def _shown(self) -> dict[str, Any]:
        """The further arguments that `repr` shows where they differ from these defaults."""
        return {"analytic_entropy": False}


class ContrastiveDistillation(Distillation):
    """KL(student(c) || teacher(c)) - weight KL(student(c) || teacher(c')),  c' the context of
    another datum of the batch: the student is likely under its own context only.

    The draws are scored by the teacher of the datum before theirs too, so that no context has to be
    exchanged.

    Args:
        teacher: a callable of the model's arguments that returns a distribution for each datum.
        weight: at least 0 and below 1; 0.3 in the paper.
        site, analytic_entropy: as in `Distillation`.

    Logged:
        "ContrastiveDistillation", the difference, and both divergences, as "own" and "other".

    Cost:
        one run of the model, two scorings by the teacher.

    Raises:
        ValueError: as `Distillation` does, and for a teacher whose batch has a single distribution.

    References:
        van den Oord et al. (2018), arXiv:1711.10433, contrastive loss.

    Example:
        >>> from numpyro_dgm.conditionals.normal import StandardNormal
        >>> ContrastiveDistillation(StandardNormal(2), weight=0.1)
        ContrastiveDistillation(StandardNormal(2), weight=0.1)
    """

    name = "ContrastiveDistillation"
    details = ("own", "other")

    def __init__(
        self,
        teacher: Callable,
        site: str = "x",
        *,
        weight: float = 0.3,
        analytic_entropy: bool = False,
    ) -> None:
        super().__init__(teacher, site, analytic_entropy=analytic_entropy)
        self.weight = check_number("weight", weight, least=0, below=1)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        value, log_q = self._student(joints)
        teacher = self._teacher(joints)
        log_p, log_other = teacher.log_prob(value), teacher.log_prob(_moved(teacher, value))
        own, other = (log_q - log_p).mean(), (log_q - log_other).mean()
        return own - self.weight * other, {"own": own, "other": other}

    def _shown(self) -> dict[str, Any]:
        return {"weight": 0.3, **super()._shown()}


def _moved(teacher: Any, value: Array) -> Array:
    """The values of the data before them, of the last for the first."""
    if prod(teacher.batch_shape) < 2:
        raise ValueError(
            "ContrastiveDistillation needs a teacher with a distribution for each of at least two "
            "data, a callable of the model's arguments, got batch shape "
            f"{tuple(teacher.batch_shape)}."
        )
    axes = tuple(range(value.ndim - teacher.event_dim))
    return jnp.roll(value, (1,) * len(axes), axes)
