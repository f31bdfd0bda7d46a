"""Terms with a critic: two players in one loss.

The critic V maximizes a bound on a divergence between the two joints at the named sites; model and
guide minimize it.  The critic is trained on detached samples, with an optimizer of its own; model
and guide see it frozen: neither ever receives the other's gradient.
P is the inference joint (the data, the draws of the guide), "real"; Q the generative joint, "fake".
"""

from abc import abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import (
    check_callable,
    check_count,
    check_instance,
    check_names,
    check_weight,
)
from dgm_core.schedules import weight_of
from dgm_core.terms import check_labels_last, sites_written, written
from pyro_dgm.joints.joints import Joints
from pyro_dgm.joints.structure import random_sites
from pyro_dgm.joints.values import num_entries
from pyro_dgm.losses.adversarial.augmenting import PAST, check_augment, mixed, no_past
from pyro_dgm.losses.adversarial.critics import default_critic
from pyro_dgm.losses.adversarial.regularizers import Once, Regularizer
from pyro_dgm.losses.base import Term, Weight
from pyro_dgm.losses.formulas import attach_gradient
from pyro_dgm.nn.optimizers import Adam, build_optimizer, check_optimizer
from pyro_dgm.nn.progressive import follow
from pyro_dgm.nn.states import averaged, repeated
from pyro_dgm.nn.weights import advance

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
        critic: nn.Module | None = None,
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
            check_instance("critic", critic, nn.Module, what)
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

    def samples(self, joints: Joints) -> tuple[Tensor, Tensor]:
        """What the critic tells apart, "real" and "fake", (num, *event) each."""
        classes = getattr(self.critic, "num_classes", 0)
        if classes:
            last = random_sites(joints.generative())[self.sites[-1]]
            check_labels_last(self.name, classes, num_entries(last["fn"]))
        return joints.samples(self.sites)

    @abstractmethod
    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic maximizes, from its outputs (num_real,) and (num_fake,)."""

    def surrogate(self, real: Tensor, fake: Tensor) -> Tensor:
        """What model and guide minimize."""
        return self.bound(real, fake)

    def value(self, real: Tensor, fake: Tensor) -> Tensor:
        """The logged quantity, which the bound is unless a subclass says otherwise."""
        return self.bound(real, fake)

    def constrained(self, weight: Tensor) -> Tensor:
        """A weight of the critic after an update, brought back to where it may lie;
        here anywhere.
        """
        return weight

    def weights(self) -> tuple[Weight, ...]:
        return (self.instance_noise,)

    def scores(self, joints: Joints, step: int | Tensor = 0) -> tuple[Tensor, Tensor]:
        """The outputs of the frozen critic at "real" and "fake" samples, (num,) each."""
        real, fake = self._noisy(self.samples(joints), step)
        return self._score(joints, real), self._score(joints, fake)

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        real, fake = self._noisy(self.samples(joints), step)
        before, at_fake = joints.outputs.get(self), self._score(joints, fake)
        if before is None or real.requires_grad:
            before = self._score(joints, real), at_fake
        return attach_gradient(self.value(*before), self.surrogate(before[0], at_fake)), {
            "real": before[0].mean(),
            "fake": before[1].mean(),
        }

    def _score(self, joints: Joints, x: Tensor) -> Tensor:
        """The outputs of the frozen critic."""
        critic = joints.state(self)["critic"]
        trained = [parameter for parameter in critic.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)  # while model and guide are scored
        try:
            with repeated():  # what the critic keeps moves in its updates
                return _outputs(self.name, critic, x)
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    @property
    def has_state(self) -> bool:
        return self.critic_steps > 0

    @property
    def num_updates(self) -> int:  # type: ignore[override]
        return self.critic_steps

    def init_state(self, joints: Joints) -> dict[str, Any]:
        """The critic, as given or the default for samples like these, and its optimizer."""
        real, fake = self.samples(joints)
        critic = (
            default_critic(tuple(real.shape[1:])).to(real)
            if self.critic is None
            else self.critic.to(real.device)
        )
        parameters = dict(critic.named_parameters())
        optim = build_optimizer(self.optim, parameters) if parameters else None
        return {
            "critic": critic,
            "optim": optim,
            "shape": torch.tensor(real.shape[1:], dtype=torch.int64),
            **no_past(fake, self.past_fakes),
        }

    def critic_in(self, state: Any) -> nn.Module | None:
        if state is None or (self.critic is not None and state["critic"] is self.critic):
            return self.critic
        if isinstance(state["critic"], nn.Module):
            return state["critic"]
        critic = (
            default_critic(tuple(state["shape"].tolist()))
            if self.critic is None
            else deepcopy(self.critic)
        )
        critic.load_state_dict(
            {name: torch.as_tensor(value) for name, value in state["critic"].items()}
        )
        return critic

    @property
    def _has_noise(self) -> bool:
        return callable(self.instance_noise) or self.instance_noise > 0

    def _noisy(self, samples: tuple[Tensor, Tensor], step: int | Tensor) -> tuple[Tensor, Tensor]:
        """Real and fake samples, changed at random, with the instance noise of this step."""
        real, fake = samples
        if self.augment is not None:
            real, fake = self.augment(real), self.augment(fake)
        if self._has_noise:
            sd = weight_of(self.instance_noise, step)
            real, fake = (x + sd * torch.randn_like(x) for x in (real, fake))
        return real, fake

    def update(self, state: dict[str, Any], joints: Joints, step: int | Tensor) -> dict[str, Any]:
        """One update of the critic on the detached samples of both joints."""
        real, fake = (x.detach() for x in self.samples(joints))
        if self.past_fakes:
            fake, new = mixed(fake, {name: state[name] for name in PAST})
            state = {**state, **new}
        real, fake = (x.detach() for x in self._noisy((real, fake), step))
        critic, optimizer = state["critic"], state["optim"]
        follow(critic, step)
        once = Once(critic)
        with torch.enable_grad(), repeated():
            cost = 0.0 if self.regularizer is None else self.regularizer(once, real, fake)
            outputs = _outputs(self.name, once, real), _outputs(self.name, once, fake)
            loss = cost - self.bound(*outputs)
            parameters = [parameter for parameter in critic.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        joints.outputs[self] = outputs[0].detach(), outputs[1].detach()
        for parameter, gradient in zip(parameters, averaged(gradients)):
            parameter.grad = gradient
        if optimizer is not None:
            optimizer.step()
        with torch.no_grad():
            for parameter in parameters:
                parameter.grad = None
                if (moved := self.constrained(parameter)) is not parameter:
                    parameter.copy_(moved)
        advance(critic)
        return state

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


def _outputs(name: str, critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The critic's number for each of x, (batch,)."""
    out = critic(x)
    if out.numel() != len(x):
        raise ValueError(
            f"The critic of {name} must give one number for each value, shape ({len(x)},), got "
            f"{tuple(out.shape)} for {tuple(x.shape)}."
        )
    return out.reshape(len(x))
