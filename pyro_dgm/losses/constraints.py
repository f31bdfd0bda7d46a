"""The Lagrangian view: minimize one term while another keeps to a target, with the multiplier
learned by gradient ascent.

`KL() + Constraint(Reconstruction(), at_most=80.0)` asks for the smallest rate that reconstructs as
well as that, in place of a guess at beta.
"""

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_flag, check_number
from dgm_core.modalities import check_given, named
from dgm_core.terms import written
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.adversarial.term import AdversarialTerm
from pyro_dgm.losses.base import Term
from pyro_dgm.losses.bounds.elbo import closed_kl, sampled_kl, score_surrogate
from pyro_dgm.losses.formulas import attach_gradient
from pyro_dgm.nn.optimizers import Adam

__all__ = ["KL", "Constraint", "Multiplier"]

_DEFAULT = Adam(1e-2)


class KL(Term):
    """The rate KL(q(z | x), p(z)), in nats per datum: the ELBO's other half, beside Reconstruction.

    Args:
        num_particles: draws of the guide per datum, averaged.
        analytic_kl: in closed form where one is known (guide and model must then draw their sites
            in the same order).
        given: the names of observed sites: KL(q(z | x), q(z | these)) in place of the prior, from
            the guide to itself given these sites alone, as ELBO has it.

    Logged:
        "KL"; "KL given image".

    Cost:
        one run of guide and model.  Sites that are not reparameterized take the score function, as
        in ELBO.

    Example:
        >>> KL(analytic_kl=True)
        KL(analytic_kl=True)
    """

    name = "KL"

    def __init__(
        self,
        num_particles: int = 1,
        analytic_kl: bool = False,
        *,
        given: str | tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.given = check_given(given)
        self.name = named("KL", self.given)
        self.num_particles = check_count("num_particles", num_particles)
        self.analytic_kl = check_flag("analytic_kl", analytic_kl)

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        joint = joints.toward(self.given).inference()
        local, shared = closed_kl(joint) if self.analytic_kl else sampled_kl(joint)
        rate = joint.per_datum(local, shared)  # (num_particles,)
        surrogate = rate + score_surrogate(joint, local, rate, every_site=False)
        return attach_gradient(rate.mean(), surrogate.mean()), {}

    def __repr__(self) -> str:
        return written(self, num_particles=1, analytic_kl=False, given=())


class Multiplier(nn.Module):
    """A Lagrange multiplier: violations v (batch,) -> multiplier * v.

    Args:
        initial: the multiplier's first value.
        signed: whether it may be negative (of an equality); otherwise it is the exponential of the
            parameter, and stays positive.

    Raises:
        ValueError: for an initial multiplier that is not positive unless signed.

    Example:
        >>> float(Multiplier(2.0)().detach())
        2.0
    """

    def __init__(self, initial: float = 1.0, *, signed: bool = False) -> None:
        super().__init__()
        limit = None if check_flag("signed", signed) else 0
        initial = check_number("initial", initial, above=limit)
        self.signed, self.initial = signed, float(initial)
        self.raw = nn.Parameter(torch.tensor(float(initial) if signed else log(initial)))

    def __repr__(self) -> str:
        return written(self, repr(self.initial), signed=False)

    def forward(self, violation: Tensor | float = 1.0) -> Tensor:
        """multiplier * violation."""
        return (self.raw if self.signed else self.raw.exp()) * violation


class Constraint(AdversarialTerm):
    """lambda (term - target) with a multiplier lambda that gradient ascent learns: at the saddle
    point the term keeps to its target.

    The multiplier is a player like a critic: it has its own optimizer, is saved, resumed and logged
    with the run, and takes a step before each of the model's. Of an inequality lambda = exp(raw) >
    0, which falls towards zero where the constraint is met without it; of an equality it may have
    any sign.

    Args:
        term: the quantity that is constrained, under the sign it is logged with; one of at_most,
            at_least and equal, the target in nats per datum.
        initial: the multiplier to start from.
        optim: of the multiplier's parameter (default Adam(1e-2)).

    Logged:
        "Constraint(<term>)", lambda (term - target), "/value" of the term, and "/multiplier".

    Cost:
        the term's, twice where it is not part of a compiled step.

    Raises:
        ValueError: unless there is one target, and for a term that has a critic or a schedule of
            its own.

    References:
        Rezende and Viola (2018), arXiv:1810.00597 (GECO: a target for the reconstruction); Alemi et
        al. (2018), arXiv:1711.00464 (for the rate).

    Example:
        >>> from pyro_dgm.losses import Reconstruction
        >>> KL() + Constraint(Reconstruction(), at_most=80.0)
        KL() + Constraint(Reconstruction(), at_most=80.0)
        >>> Reconstruction() + Constraint(KL(), equal=10.0)
        Reconstruction() + Constraint(KL(), equal=10.0)
    """

    details = ("value", "multiplier")

    def __init__(
        self,
        term: Term,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        equal: float | None = None,
        initial: float = 1.0,
        optim: Any = None,
    ) -> None:
        targets = {"at_most": at_most, "at_least": at_least, "equal": equal}
        given = {name: target for name, target in targets.items() if target is not None}
        if len(given) != 1:
            raise ValueError(
                f"Constraint needs one of at_most, at_least and equal, got {given or 'none'}."
            )
        if not isinstance(term, Term) or term.has_state or any(map(callable, term.weights())):
            raise ValueError(
                "term must be a single term without critic and schedule, such as "
                f"Reconstruction(), got {term!r}."
            )
        ((self.kind, target),) = given.items()
        self.target = check_number(self.kind, target)
        super().__init__(
            (term.name,),
            Multiplier(initial, signed=self.kind == "equal"),
            optim=_DEFAULT if optim is None else optim,
        )
        self.term, self.initial, self.objectives = term, float(initial), term.objectives
        self.num_particles, self.shares_globals, self.analytic_kl, self.guided = (
            term.num_particles,
            term.shares_globals,
            term.analytic_kl,
            term.guided,
        )

    def samples(self, joints: Joints) -> tuple[Tensor, Tensor]:
        """By how much the constraint is violated, (1,), for both arguments of `bound`."""
        excess = self.term.estimate(joints, 0)[0] - self.target
        violation = (-excess if self.kind == "at_least" else excess).reshape(1)
        return violation, violation

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """lambda times the violation, which the multiplier maximizes and the model minimizes."""
        return real.mean()

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        penalty, _ = self.scores(joints)
        quantity, _ = self.term.estimate(joints, step)
        return penalty.mean(), {"value": quantity, "multiplier": joints.state(self)["critic"]()}

    def __repr__(self) -> str:
        target = f"{self.kind}={self.target!r}"
        return written(self, repr(self.term), target, initial=1.0, optim=_DEFAULT)
