"""Terms with a critic: two players in one loss.

The critic V maximizes a bound on a divergence between the two joints at the named sites; model and
guide minimize it.  The critic is trained on detached samples, with an optimizer of its own; model
and guide see it frozen: neither ever receives the other's gradient.
P is the inference joint (the data, the draws of the guide), "real"; Q the generative joint, "fake".
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import Array

from dgm_core.arguments import (
    check_callable,
    check_count,
    check_instance,
    check_names,
    check_weight,
)
from dgm_core.schedules import weight_of
from dgm_core.terms import check_labels_last, sites_written, written
from numpyro_dgm.joints.joints import Joints, is_learned
from numpyro_dgm.joints.structure import random_sites
from numpyro_dgm.joints.values import num_entries
from numpyro_dgm.losses.adversarial.augmenting import PAST, check_augment, mixed, no_past
from numpyro_dgm.losses.adversarial.critics import default_critic
from numpyro_dgm.losses.adversarial.regularizers import Once, Regularizer
from numpyro_dgm.losses.base import Term, Weight
from numpyro_dgm.losses.formulas import attach_gradient
from numpyro_dgm.nn.optimizers import Adam, build_optimizer, check_optimizer
from numpyro_dgm.nn.progressive import follow
from numpyro_dgm.nn.register import initial_states, with_states
from numpyro_dgm.nn.states import repeated
from numpyro_dgm.nn.weights import advance

__all__ = ["AdversarialTerm"]

_DEFAULT = Adam(1e-3, betas=(0.5, 0.99))


class AdversarialTerm(Term):
    """A term with a critic of its own.  A subclass writes `bound(real, fake)`, and
    `surrogate(real, fake)` if model and guide follow another signal.

    Each step runs both joints once; the critic takes its update on their detached samples, and
    model and guide are then scored by the new critic on the same samples.  With `critic_steps` k >
    1 the critic takes k - 1 updates before, on fresh draws of model and guide for the same batch.

    Args:
        sites: a name or a tuple of names that are compared jointly.
        critic: any module from the values to one number each: those of one site (batch, *event) as
            they are, those of several flattened and side by side (batch, entries), those of a
            Categorical as one-hot vectors; left out, an `ImageCritic` for one site with images
            (channels, height, width) and a `Critic` for all else, built on the first batch (in
            NumPyro by `fit`; the stock engine needs one given).
        optim: of the critic, as in `fit` (default Adam(1e-3, betas=(0.5, 0.99))).
        critic_steps: its updates per step of the model.
        regularizer: a cost added for the critic, such as R1() or GradientPenalty().
        instance_noise: the standard deviation of normal noise that "real" and "fake" are given
            before the critic sees them, a number or a schedule: distributions that do not overlap
            are then compared as if they did.
        augment: what changes "real" and "fake" at random before the critic sees them, in its
            updates as for model and guide, such as `DiffAugment()`: more from few data.
        past_fakes: of so many draws of earlier steps that are kept, about half of the "fake" of
            the critic's updates are (0: none); what is logged is then of this mixture.

    Logged:
        the bound under the term's name, and the critic's mean output as "<name>/real" and
        "<name>/fake"; where "real" are data, which give model and guide no gradient, those of the
        critic's update, so that it need not look at them again.

    Cost:
        one run of the model (and of the guide, if latent sites are compared), and three passes of
        the critic (four, if they are) and three backwards.

    Raises:
        ValueError: for critic_steps below 1, negative instance_noise, a site that the model has
            not, or one through which no gradient passes.

    References:
        on instance noise Sonderby et al. (2017), arXiv:1610.04490, and Arjovsky and Bottou (2017),
        arXiv:1701.04862.
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
        instance_noise: Weight = 0.0,
        augment: Callable | None = None,
        past_fakes: int = 0,
    ) -> None:
        super().__init__()
        self.sites = check_names("sites", sites)
        if critic is not None:
            what = "a module from the values of the sites to one number"
            check_instance("critic", critic, eqx.Module, what)
        if regularizer is not None:
            check_callable("regularizer", regularizer, "a cost of the critic such as R1()")
        self.critic, self.critic_steps, self.regularizer = (
            critic,
            check_count("critic_steps", critic_steps),
            regularizer,
        )
        self.instance_noise = check_weight("instance_noise", instance_noise, least=0)
        self.augment = check_augment(augment)
        self.past_fakes = check_count("past_fakes", past_fakes, 0)
        self.optim = _DEFAULT if optim is None else check_optimizer(optim)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the sites."""
        return f"{type(self).__name__}({', '.join(self.sites)})"

    def samples(self, joints: Joints) -> tuple[Array, Array]:
        """What the critic tells apart, "real" and "fake", (num, *event) each."""
        classes = getattr(self.critic, "num_classes", 0)
        if classes:
            last = random_sites(joints.generative())[self.sites[-1]]
            check_labels_last(self.name, classes, num_entries(last["fn"]))
        return joints.samples(self.sites)

    @abstractmethod
    def bound(self, real: Array, fake: Array) -> Array:
        """What the critic maximizes, from its outputs (num_real,) and (num_fake,)."""

    def surrogate(self, real: Array, fake: Array) -> Array:
        """What model and guide minimize."""
        return self.bound(real, fake)

    def value(self, real: Array, fake: Array) -> Array:
        """The logged quantity, which the bound is unless a subclass says otherwise."""
        return self.bound(real, fake)

    def constrained(self, weight: Array) -> Array:
        """A weight of the critic after an update, brought back to where it may lie;
        here anywhere.
        """
        return weight

    def weights(self) -> tuple[Weight, ...]:
        return (self.instance_noise,)

    def scores(self, joints: Joints, step: int | Array = 0) -> tuple[Array, Array]:
        """The outputs of the frozen critic at "real" and "fake" samples, (num,) each."""
        real, fake = self._noisy(
            self.samples(joints), step, lambda: joints.key(f"instance noise of {self.name}")
        )
        return self._score(joints, real), self._score(joints, fake)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        real, fake = self._noisy(
            self.samples(joints), step, lambda: joints.key(f"instance noise of {self.name}")
        )
        before, at_fake = joints.outputs.get(self), self._score(joints, fake)
        if before is None or is_learned(joints, real):
            before = self._score(joints, real), at_fake
        return attach_gradient(self.value(*before), self.surrogate(before[0], at_fake)), {
            "real": before[0].mean(),
            "fake": before[1].mean(),
        }

    def _score(self, joints: Joints, x: Array) -> Array:
        """The outputs of the frozen critic."""
        state = joints.state(self)
        critic = _frozen(self._combined(state["weights"], x.shape[1:], state["kept"]))
        with repeated():  # what the critic keeps moves in its updates
            return _outputs(self.name, critic, x)

    @property
    def has_state(self) -> bool:
        return self.critic_steps > 0

    @property
    def num_updates(self) -> int:  # type: ignore[override]
        return self.critic_steps

    def init_state(self, joints: Joints | None, *, key: Array) -> dict[str, Any]:
        """The critic, as given or the default for samples like these, and its optimizer."""
        if joints is None and self.critic is None:
            raise ValueError(
                f"{self.name} has no critic yet: fit builds one; elsewhere pass "
                "critic=Critic(size, key=jax.random.key(0))."
            )
        shape: tuple[int, ...] = ()
        past: dict[str, Array] = {}
        if joints is not None and (self.critic is None or self.past_fakes):
            real, fake = jax.eval_shape(lambda: self.samples(joints))
            shape = () if self.critic is not None else real.shape[1:]
            past = no_past(fake, self.past_fakes)
        elif self.past_fakes:
            raise ValueError(
                f"past_fakes of {self.name} need the shape of its samples, which fit knows and "
                "the stock engine does not: leave it out, or train by fit."
            )
        critic = default_critic(shape, key) if self.critic is None else self.critic
        weights = eqx.filter(critic, eqx.is_inexact_array)
        return {
            "weights": weights,
            "optim": build_optimizer(self.optim).init(weights),
            "shape": jnp.array(shape, jnp.int32),
            "kept": initial_states(critic),
            **past,
        }

    def critic_in(self, state: Any) -> Any:
        return (
            self.critic
            if state is None
            else self._combined(
                state["weights"], tuple(int(size) for size in state["shape"]), state.get("kept")
            )
        )

    def _combined(self, weights: Any, shape: tuple[int, ...], kept: Any = None) -> Any:
        """The critic of values of this shape with these weights, and with what it keeps."""
        critic = eqx.combine(
            weights,
            default_critic(shape, jax.random.key(0)) if self.critic is None else self.critic,
        )
        return with_states(critic, dict(kept or {}))

    @property
    def _has_noise(self) -> bool:
        return callable(self.instance_noise) or self.instance_noise > 0

    def _noisy(
        self, samples: tuple[Array, Array], step: int | Array, key: Callable[[], Array]
    ) -> tuple[Array, Array]:
        """Real and fake samples, changed at random, with the instance noise of this step."""
        real, fake = samples
        if self.augment is not None:
            one, two = jax.random.split(jax.random.fold_in(key(), 1))
            real, fake = self.augment(real, key=one), self.augment(fake, key=two)
        if self._has_noise:
            sd, keys = weight_of(self.instance_noise, step), jax.random.split(key())
            real, fake = (
                x + sd * jax.random.normal(k, x.shape, x.dtype)
                for x, k in zip((real, fake), keys, strict=True)
            )
        return real, fake

    def update(
        self, state: dict[str, Any], joints: Joints, step: int | Array, *, key: Array
    ) -> dict[str, Any]:
        """One update of the critic on the detached samples of both joints."""
        real, fake = jax.lax.stop_gradient(self.samples(joints))
        if self.past_fakes:
            past = {name: state[name] for name in PAST}
            fake, past = mixed(fake, past, key=jax.random.fold_in(key, 2))
            state = {**state, **past}
        real, fake = jax.lax.stop_gradient(
            self._noisy((real, fake), step, lambda: jax.random.fold_in(key, 1))
        )
        kept = dict(state["kept"])
        if kept:
            follow(with_states(self._combined(state["weights"], real.shape[1:]), kept), step)

        def objective(weights: Any) -> tuple[Array, tuple[Array, Array]]:
            critic = Once(self._combined(weights, real.shape[1:], kept))
            with repeated():
                cost = (
                    0.0 if self.regularizer is None else self.regularizer(critic, real, fake, key)
                )
                outputs = _outputs(self.name, critic, real), _outputs(self.name, critic, fake)
            return cost - self.bound(*outputs), outputs

        (value, outputs), gradients = jax.value_and_grad(objective, has_aux=True)(state["weights"])
        joints.outputs[self] = jax.lax.stop_gradient(outputs)
        searched = {
            "value": value,
            "grad": gradients,
            "value_fn": lambda weights: objective(weights)[0],
        }  # for optimizers that search along a line
        updates, optim = build_optimizer(self.optim).update(
            gradients, state["optim"], state["weights"], **searched
        )
        weights = jax.tree.map(self.constrained, optax.apply_updates(state["weights"], updates))
        if kept:
            advance(with_states(self._combined(weights, real.shape[1:]), kept))
        return {**state, "weights": weights, "optim": optim, "kept": kept}

    def __repr__(self) -> str:
        return written(self, *self._given(), **self._shown())

    def _given(self) -> tuple[str, ...]:
        """The arguments that `repr` always shows."""
        return (sites_written(self.sites),)

    def _shown(self) -> dict[str, Any]:
        """The arguments that `repr` shows where they differ from these defaults."""
        return {
            "optim": _DEFAULT,
            "critic_steps": 1,
            "regularizer": None,
            "instance_noise": 0.0,
            "augment": None,
            "past_fakes": 0,
        }


def _frozen(critic: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, critic
    )


def _outputs(name: str, critic: Callable[[Array], Array], x: Array) -> Array:
    """The critic's number for each of x, (batch,)."""
    out = critic(x)
    if out.size != len(x):
        raise ValueError(
            f"The critic of {name} must give one number for each value, shape ({len(x)},), got "
            f"{out.shape} for {x.shape}."
        )
    return out.reshape(len(x))
