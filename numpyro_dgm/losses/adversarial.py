"""Terms with a critic: two players in one loss.

The critic V maximises a bound on a divergence between the two joints at the named sites; model and guide minimise it.  The critic is trained on detached
samples, with an optimiser of its own; model and guide see it frozen: neither ever receives the other's gradient.
P is the inference joint (the data, the draws of the guide), "real"; Q the generative joint, "fake".
"""

from abc import abstractmethod
from collections.abc import Callable
from math import prod
from typing import Any

import equinox as eqx
import jax
import optax
from jax import Array

from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.critics import Critic, Regularizer
from numpyro_dgm.losses.formulas import attach_gradient
from numpyro_dgm.losses.joints import Joints
from numpyro_dgm.nn.optim import Adam, _as_optax

__all__ = ["AdversarialTerm"]

_DEFAULT = Adam(1e-3, betas=(0.5, 0.99))


class AdversarialTerm(Term):
    """A term with a critic of its own.  A subclass writes `bound(real, fake)`, and `surrogate(real, fake)` if model and guide follow another signal.

    Each step runs both joints once; the critic takes its update on their detached samples, and model and guide are then scored by the new critic on the same
    samples.  With `critic_steps` k > 1 the critic takes k - 1 updates before, on fresh draws of model and guide for the same batch.

    Args: sites, a name or a tuple of names that are compared jointly; critic, any module from the values to one number each: those of one site (batch, *event)
        as they are, those of several flattened and side by side (batch, entries); left out, a `Critic` is built on the first batch (in NumPyro by `fit`; the
        stock engine needs one given); optim of the critic, as in `fit` (default Adam(1e-3, betas=(0.5, 0.99))); critic_steps, its updates per step of the
        model; regularizer, a cost added for the critic, such as R1() or GradientPenalty().
    Logged: the bound under the term's name, and the critic's mean output as "<name>/real" and "<name>/fake".
    Cost: one run of the model (and of the guide, if latent sites are compared), and three passes of the critic and two backwards.
    Raises: ValueError for critic_steps below 1, a site that the model has not, or one through which no gradient passes.
    """

    details: tuple[str, ...] = ("real", "fake")
    guided = False

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: eqx.Module | None = None,
        *,
        optim: Any = None,
        critic_steps: int = 1,
        regularizer: Regularizer | None = None,
    ) -> None:
        super().__init__()
        self.sites = (sites,) if isinstance(sites, str) else tuple(sites)
        if not self.sites or not all(isinstance(site, str) for site in self.sites):
            raise ValueError(f"sites must be the name of a sample site or a tuple of names, got {sites!r}.")
        if critic is not None and not isinstance(critic, eqx.Module):
            raise ValueError(f"critic must be a module from the values of the sites to one number, got {critic!r}.")
        if not isinstance(critic_steps, int) or isinstance(critic_steps, bool) or critic_steps < 1:
            raise ValueError(f"critic_steps must be an integer of at least 1, got {critic_steps!r}.")
        self.critic, self.critic_steps, self.regularizer = critic, critic_steps, regularizer
        self.optim = _DEFAULT if optim is None else optim

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the sites."""
        return f"{type(self).__name__}({', '.join(self.sites)})"

    def samples(self, joints: Joints) -> tuple[Array, Array]:
        """What the critic tells apart, "real" and "fake", (num, *event) each."""
        return joints.samples(self.sites)

    @abstractmethod
    def bound(self, real: Array, fake: Array) -> Array:
        """What the critic maximises, from its outputs (num_real,) and (num_fake,)."""

    def surrogate(self, real: Array, fake: Array) -> Array:
        """What model and guide minimise."""
        return self.bound(real, fake)

    def value(self, real: Array, fake: Array) -> Array:
        """The logged quantity, which the bound is unless a subclass says otherwise."""
        return self.bound(real, fake)

    def constrained(self, weight: Array) -> Array:
        """A weight of the critic after an update, brought back to where it may lie; here anywhere."""
        return weight

    def scores(self, joints: Joints) -> tuple[Array, Array]:
        """The outputs of the frozen critic at "real" and "fake" samples, (num,) each."""
        critic = _frozen(self._critic(joints.critics.get(self)))
        real, fake = (_outputs(self.name, critic, x) for x in self.samples(joints))
        return real, fake

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        real, fake = self.scores(joints)
        return attach_gradient(self.value(real, fake), self.surrogate(real, fake)), {"real": real.mean(), "fake": fake.mean()}

    def _init_critic(self) -> dict[str, Any]:
        """The state of the critic before the first step: weights and optimiser."""
        weights = eqx.filter(self._critic(None), eqx.is_inexact_array)
        return {"weights": weights, "optim": _as_optax(self.optim).init(weights)}

    def _train_critic(self, state: dict[str, Any], joints: Joints, key: Array) -> dict[str, Any]:
        """One update of the critic on the detached samples of both joints."""
        real, fake = jax.lax.stop_gradient(self.samples(joints))

        def objective(weights: Any) -> Array:
            critic = self._critic({"weights": weights})
            loss = -self.bound(_outputs(self.name, critic, real), _outputs(self.name, critic, fake))
            return loss if self.regularizer is None else loss + self.regularizer(critic, real, fake, key)

        value, gradients = jax.value_and_grad(objective)(state["weights"])
        updates, optim = _as_optax(self.optim).update(gradients, state["optim"], state["weights"], value=value, grad=gradients, value_fn=objective)
        weights = jax.tree.map(self.constrained, optax.apply_updates(state["weights"], updates))
        return {"weights": weights, "optim": optim}

    def _build_critic(self, joints: Joints, key: Array) -> None:
        if self.critic is None:
            shape = jax.eval_shape(lambda: self.samples(joints)[0]).shape
            self.critic = Critic(prod(shape[1:]), key=key)

    def _critic(self, state: dict[str, Any] | None) -> Any:
        if self.critic is None:
            raise ValueError(f"{self.name} has no critic yet: fit builds one; elsewhere pass critic=Critic(size, key=jax.random.key(0)).")
        return self.critic if state is None else eqx.combine(state["weights"], self.critic)

    def __repr__(self) -> str:
        sites = repr(self.sites[0]) if len(self.sites) == 1 else repr(self.sites)
        steps = f", critic_steps={self.critic_steps}" if self.critic_steps != 1 else ""
        regularizer = f", regularizer={self.regularizer!r}" if self.regularizer is not None else ""
        optim = "" if self.optim == _DEFAULT else f", optim={self.optim!r}"
        return f"{type(self).__name__}({sites}{self._settings()}{optim}{steps}{regularizer})"

    def _settings(self) -> str:
        """What `repr` shows of a subclass."""
        return ""


def _frozen(critic: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, critic)


def _outputs(name: str, critic: Callable[[Array], Array], x: Array) -> Array:
    """The critic's number for each of x, (batch,)."""
    out = critic(x)
    if out.size != len(x):
        raise ValueError(f"The critic of {name} must give one number for each value, shape ({len(x)},), got {out.shape} for {x.shape}.")
    return out.reshape(len(x))
