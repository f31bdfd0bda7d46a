"""Noise contrastive estimation: data are told from noise of known density by an energy."""

import math
from typing import Any

import equinox as eqx
import jax
import optax
from jax import Array
from jax.nn import softplus

from dgm_core.arguments import check_count, check_flag, check_instance, check_name, refuse
from dgm_core.energies import wrong_noise
from dgm_core.terms import written
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.conditionals.energy import UnnormalizedConditional
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.scores.events import Events, events
from numpyro_dgm.nn.optimizers import Adam, build_optimizer, check_optimizer

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
        >>> from numpyro_dgm.conditionals.normal import DiagonalNormal
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
        return self.learn_noise and bool(jax.tree.leaves(_weights(self.noise)))

    def init_state(self, joints: Joints | None, *, key: Array) -> dict[str, Any]:
        weights = _weights(self.noise)
        return {"weights": weights, "optim": build_optimizer(self.optim).init(weights)}

    def update(
        self, state: dict[str, Any], joints: Joints, step: int | Array, *, key: Array
    ) -> dict[str, Any]:
        """One step of maximum likelihood of the noise."""
        found, weights = self._events(joints), state["weights"]

        def cost(weights: Any) -> Array:
            return -found.per_datum(self._noise(weights)().log_prob(found.value))

        value, gradients = jax.value_and_grad(cost)(weights)
        searched = {"value": value, "grad": gradients, "value_fn": cost}
        updates, optim = build_optimizer(self.optim).update(
            gradients, state["optim"], weights, **searched
        )
        return {"weights": optax.apply_updates(weights, updates), "optim": optim}

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        found = self._events(joints)
        weights = joints.state(self)["weights"] if self.has_state else _weights(self.noise)
        noise = self._noise(jax.lax.stop_gradient(weights))()
        drawn = noise.sample(joints.key(self.name), (self.ratio, *found.weights.shape))
        drawn, at_data = jax.lax.stop_gradient((drawn, noise.log_prob(found.value)))
        other = found.log_density(drawn) - noise.log_prob(drawn)
        data = found.log_density(found.value) - at_data
        cost = cross_entropy(data, other, self.ratio)
        num = found.weights.sum() / found.data_size
        details = {
            "data": found.per_datum(data) / num,
            "noise": found.per_datum(other.mean(0)) / num,
        }
        return found.per_datum(cost), details

    def _noise(self, weights: Any) -> Conditional:
        """The noise with these weights."""
        return eqx.combine(weights, self.noise)

    def _events(self, joints: Joints) -> Events:
        found = events(joints, self.site, whole=True)
        own, needed = tuple(self.noise.event_shape), tuple(found.fn.event_shape)
        if own != needed:
            raise ValueError(wrong_noise(self.site, own, needed))
        return found

    def __repr__(self) -> str:
        shown = {"noise": None, "ratio": 1, "learn_noise": True, "optim": _DEFAULT}
        return written(self, repr(self.site), **shown)


def cross_entropy(data: Array, noise: Array, ratio: int) -> Array:
    """-log h at data and the sum of -log(1 - h) at their noise, from log p - log p_noise.

    Shapes:
        data (*batch), noise (ratio, *batch) -> (*batch).
    """
    return softplus(math.log(ratio) - data) + softplus(noise - math.log(ratio)).sum(0)


def _weights(noise: Conditional) -> Any:
    """What is learned of the noise."""
    return eqx.filter(noise, eqx.is_inexact_array)
