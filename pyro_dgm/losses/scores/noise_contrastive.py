"""Noise contrastive estimation: data are told from noise of known density by an energy."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm_core.arguments import check_count, check_flag, check_instance, check_name, refuse
from dgm_core.energies import wrong_noise
from dgm_core.terms import written
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.energy import UnnormalizedConditional
from pyro_dgm.joints.handlers import frozen_parameters
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.base import Term
from pyro_dgm.losses.scores.events import Events, events
from pyro_dgm.nn.optimizers import Adam, build_optimizer, check_optimizer
from pyro_dgm.nn.states import averaged

__all__ = ["NoiseContrastive"]

_DEFAULT = Adam(1e-3)


class NoiseContrastive(Term):
    """E_data [-log h(x)] + ratio E_noise [-log (1 - h(y))],  per datum, with
    h = p / (p + ratio p_noise): the cross entropy of telling data from noise.

    The density p needs a constant of its own that is free, such as the bias of an energy's last
    layer: at the optimum it is -ln Z, and exp(-E) *is* normalized. That holds at every ratio; the
    closer the noise is to the data, and the more there is of it, the less it varies.

    Args:
        site: observed (or a latent one, at the guide's draws, detached).
        noise: a conditional without context that can be drawn from and scored: a flow.
        ratio: draws of noise for each datum.
        learn_noise: whether the noise is fitted to the data by maximum likelihood, one step of its
            own optimizer before each step of the model; it never sees the model.
        optim: of the noise, as in `fit` (default Adam(1e-3)).

    Logged:
        "NoiseContrastive(<site>)", the cross entropy, ratio log(1 + 1 / ratio) + log(1 + ratio)
        where the noise is the data; "<name>/data" and "<name>/noise", the mean of
        log p - log p_noise there.

    Cost:
        1 + ratio passes of the energy, without gradients in x; and the noise.

    Raises:
        ValueError: for bad arguments, a noise of another shape or with a context.

    References:
        Gutmann and Hyvarinen (2012), JMLR 13; Gao et al. (2020), Flow contrastive estimation of
        energy-based models, arXiv:1912.00589.

    Example:
        >>> from pyro_dgm.conditionals.normal import DiagonalNormal
        >>> NoiseContrastive("x", noise=DiagonalNormal(2), ratio=5)
        NoiseContrastive('x', noise=DiagonalNormal(2), ratio=5)
    """

    details = ("data", "noise")
    guided = False

    def __init__(
        self,
        site: str,
        noise: Conditional,
        *,
        ratio: int = 1,
        learn_noise: bool = True,
        optim: Any = None,
    ) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = (self.site,)
        what = "a conditional without context such as MAF(2)"
        self.noise = check_instance("noise", noise, Conditional, what)
        if noise.context_shape or isinstance(noise, UnnormalizedConditional):
            refuse("noise", f"{what}, whose density is known", noise)
        self.ratio = check_count("ratio", ratio)
        self.learn_noise = check_flag("learn_noise", learn_noise)
        self.optim = _DEFAULT if optim is None else check_optimizer(optim)
        if optim is not None and not learn_noise:
            raise ValueError("optim trains the noise: leave it out, or learn_noise=False.")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    @property
    def has_state(self) -> bool:
        return self.learn_noise and any(p.requires_grad for p in self.noise.parameters())

    def init_state(self, joints: Joints) -> dict[str, Any]:
        noise = self.noise.to(self._events(joints).value.device)
        optim = build_optimizer(self.optim, dict(noise.named_parameters()))
        return {"noise": noise, "optim": optim}

    def update(self, state: dict[str, Any], joints: Joints, step: int | Tensor) -> dict[str, Any]:
        """One step of maximum likelihood of the noise."""
        noise, found = state["noise"], self._events(joints)
        parameters = [p for p in noise.parameters() if p.requires_grad]
        with torch.enable_grad():
            cost = -found.per_datum(noise().log_prob(found.value))
            gradients = torch.autograd.grad(cost, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, averaged(gradients)):
            parameter.grad = gradient
        state["optim"].step()
        for parameter in parameters:
            parameter.grad = None
        return state

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = self._events(joints)
        module: nn.Module = joints.state(self)["noise"] if self.has_state else self.noise
        with frozen_parameters(), torch.no_grad():
            noise = module()
            drawn = noise.sample((self.ratio, *found.weights.shape))
            at_data, at_noise = noise.log_prob(found.value), noise.log_prob(drawn)
        other = found.log_density(drawn) - at_noise
        data = found.log_density(found.value) - at_data
        cost = cross_entropy(data, other, self.ratio)
        num = found.weights.sum() / found.data_size
        details = {
            "data": found.per_datum(data) / num,
            "noise": found.per_datum(other.mean(0)) / num,
        }
        return found.per_datum(cost), details

    def _events(self, joints: Joints) -> Events:
        found = events(joints, self.site, whole=True)
        own, needed = tuple(self.noise.event_shape), tuple(found.fn.event_shape)
        if own != needed:
            raise ValueError(wrong_noise(self.site, own, needed))
        return found

    def __repr__(self) -> str:
        shown = {"noise": None, "ratio": 1, "learn_noise": True, "optim": _DEFAULT}
        return written(self, repr(self.site), **shown)


def cross_entropy(data: Tensor, noise: Tensor, ratio: int) -> Tensor:
    """-log h at data and the sum of -log(1 - h) at their noise, from log p - log p_noise.

    Shapes:
        data (*batch), noise (ratio, *batch) -> (*batch).
    """
    return softplus(math.log(ratio) - data) + softplus(noise - math.log(ratio)).sum(0)
