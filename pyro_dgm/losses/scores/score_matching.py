"""Score matching: the gradient of log p(x) in x is fitted, which no normalizing constant enters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_choice, check_count, check_name, check_number
from dgm_core.terms import written
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.base import Term
from pyro_dgm.losses.scores.events import Events, check_real, events
from pyro_dgm.nn.attention import all_derivatives

__all__ = ["DenoisingScoreMatching", "ScoreMatching"]

LogDensity = Callable[[Tensor], Tensor]


class ScoreMatching(Term):
    """J = E_data [tr H(x) + |s(x)|^2 / 2],  s and H the gradient and the Hessian of log p in x, per
    datum: the Fisher divergence E |s - s_data|^2 / 2 up to a constant of the data.

    Args:
        site: with real values and a density that is known, perhaps up to a constant; observed, or
            a latent one at the guide's draws, detached. Where it depends on latents, it is the
            density given what the guide drew of these.
        method: "exact"; or "sliced", where random signs v estimate tr H = E v^T H v without bias.
        num_projections: how many v of each datum.

    Logged:
        "ScoreMatching(<site>)", J, which has no zero of its own.

    Cost:
        exact: as many gradients as a value has entries; sliced: num_projections + 1.

    Raises:
        ValueError: for bad arguments, and a site whose values are not all real numbers: where the
            density ends, the boundary would count.
        NoDensityError: for an implicit site.

    References:
        Hyvarinen (2005), Estimation of non-normalized statistical models by score matching, JMLR 6;
        Song et al. (2019), Sliced score matching, arXiv:1905.07088.

    Example:
        >>> ScoreMatching("x", method="sliced")
        ScoreMatching('x', method='sliced')
    """

    guided = False

    def __init__(self, site: str, *, method: str = "exact", num_projections: int = 1) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = (self.site,)
        self.method = check_choice("method", method, ("exact", "sliced"))
        self.num_projections = check_count("num_projections", num_projections)
        if method == "exact" and num_projections != 1:
            raise ValueError(
                "num_projections is of method='sliced', which 'exact' does not need: leave it out, "
                f"got {num_projections}."
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = read(self, joints)
        signs = None
        if self.method == "sliced":
            like = found.value.expand(self.num_projections, *found.value.shape)
            signs = torch.randn_like(like).sign()
        with torch.enable_grad():
            cost = found.per_datum(hyvarinen(found.log_density, found.value, signs))
        return cost if torch.is_grad_enabled() else cost.detach(), {}

    def __repr__(self) -> str:
        return written(self, repr(self.site), method="exact", num_projections=1)


class DenoisingScoreMatching(Term):
    """E |s(x + sd e) + e / sd|^2 / 2,  e ~ Normal(0, I), per datum: the score of the data *with
    this noise* is fitted.

    Its optimum is the density of x + sd e, not of x: a variance of 1.5 is learned as 1.5 + sd^2.

    Args:
        site: as in `ScoreMatching`.
        noise: sd > 0.

    Logged:
        "DenoisingScoreMatching(<site>)".

    Cost:
        two gradients.

    Raises:
        ValueError, NoDensityError: as ScoreMatching.

    References:
        Vincent (2011), A connection between score matching and denoising autoencoders, Neural
        Computation 23.

    Example:
        >>> DenoisingScoreMatching("x", 0.3)
        DenoisingScoreMatching('x', 0.3)
    """

    guided = False

    def __init__(self, site: str, noise: float) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = (self.site,)
        self.noise = check_number("noise", noise, above=0)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = read(self, joints)
        normal = torch.randn_like(found.value)
        with torch.enable_grad():
            cost = denoising(found.log_density, found.value, normal, self.noise)
            total = found.per_datum(cost)
        return total if torch.is_grad_enabled() else total.detach(), {}

    def __repr__(self) -> str:
        return written(self, repr(self.site), repr(self.noise))


def read(term: Any, joints: Joints) -> Events:
    """The values of the site of a term, real numbers."""
    return check_real(type(term).__name__, term.site, events(joints, term.site))


def hyvarinen(log_density: LogDensity, value: Tensor, signs: Tensor | None = None) -> Tensor:
    """tr H + |s|^2 / 2 of each value (*batch, *event): (*batch,); with signs (num, *batch, *event)
    the trace is the mean of v^T H v.
    """
    x = value.detach().requires_grad_()
    score, batch = _score(log_density, x)
    if signs is not None:
        along = [_slope((score * v).sum(), x) * v for v in signs]
        trace = sum(along[1:], along[0]).reshape(*batch, -1).sum(-1) / len(signs)
    else:
        flat = score.reshape(*batch, -1)
        entries = [
            _slope(flat[..., i].sum(), x).reshape(flat.shape)[..., i] for i in range(flat.shape[-1])
        ]
        trace = sum(entries[1:], entries[0])
    return trace + score.reshape(*batch, -1).square().sum(-1) / 2


def denoising(log_density: LogDensity, value: Tensor, normal: Tensor, sd: float) -> Tensor:
    """|s(x + sd e) + e / sd|^2 / 2 of each value (*batch, *event): (*batch,)."""
    score, batch = _score(log_density, (value + sd * normal).detach().requires_grad_())
    return (score + normal / sd).reshape(*batch, -1).square().sum(-1) / 2


def _score(log_density: LogDensity, x: Tensor) -> tuple[Tensor, torch.Size]:
    """The gradient of log p in x, and the batch shape."""
    with all_derivatives():
        found = log_density(x)
    return _slope(found.sum(), x), found.shape


def _slope(total: Tensor, x: Tensor) -> Tensor:
    if not total.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(total, x, create_graph=True, materialize_grads=True)
    return gradient
