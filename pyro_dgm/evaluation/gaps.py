"""The gaps of an amortized guide: of its family, and of its amortization."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.distributions import transform_to

from dgm_core.arguments import check_counts, check_number
from dgm_core.evaluation import check_densities, same_draws
from dgm_core.studies.gaps import (
    InferenceGaps,
    check_amortized,
    check_tunable,
    gaps_of,
    reads_the_same,
)
from dgm_core.training.threads import one_at_a_time
from pyro_dgm.evaluation.calls import Call, as_numpy, calling, learned_in
from pyro_dgm.evaluation.weights import log_densities

__all__ = ["inference_gaps"]

_PARTICLES = 8  # of a step of tuning


@one_at_a_time
def inference_gaps(
    run: Any,
    *data: Any,
    num_steps: int = 500,
    learning_rate: float = 0.01,
    num_particles: int = 1000,
    seed: int = 0,
) -> InferenceGaps:
    """What an amortized guide loses by its family, and what by its encoder.

    For each datum a copy of the guide is trained on this datum alone, with the model as it is, so
    that it becomes the best member of its family there; the run and its networks stay as they are.

    Args:
        run, seed: as `log_weights` takes them.
        data: in any form that `fit` takes; some twenty data say enough.
        num_steps: of Adam, for each datum, with a rate that falls to zero.
        learning_rate: the first one.
        num_particles: of the bounds.

    Returns:
        `InferenceGaps`: approximation and amortization, (num_data,).

    Cost:
        num_steps steps of eight particles for each datum; one after the other.

    Raises:
        ValueError: for bad arguments; for models with latents outside the plate of the data, guides
            with parameters of each datum or none, draws without a gradient, and weights that are
            NaN.

    References:
        Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders,
        arXiv:1801.03558.

    Example:
        >>> from pyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,))
        >>> gaps = inference_gaps(vae, np.ones((2, 4)), num_steps=2, num_particles=10)
        >>> gaps.amortization.shape
        (2,)
    """
    num_steps, num_particles = check_counts(num_steps=num_steps, num_particles=num_particles)
    learning_rate = check_number("learning_rate", learning_rate, above=0)
    before, after = [], []
    with calling(run, data, seed=seed) as call:
        first = call.sketch()
        drawn = {n: first.is_reparameterized(n) for n in first.latent_sites}
        determined = {n: first.is_determined(n) for n in first.latent_sites}
        passes = {n: drawn[n] or determined[n] for n in drawn}
        draws = (call.guide_draws(call.rows, rolled=rolled) for rolled in (False, True))
        looks = reads_the_same(call.args, call.kwargs) or not same_draws(*draws)
        check_amortized(first.structure, first.model_sites, looks, passes)
        call.rows = None  # every row is as good as any
        check_tunable(len(_own_parameters(call)[0]) + len(_own_parameters(call)[1]))
        for row in range(first.sizes[0]):
            here = np.array([row])
            before.append(_weights(call, num_particles, here))
            with _tuned(call, here, num_steps, learning_rate):
                after.append(_weights(call, num_particles, here))
    return gaps_of(np.concatenate(before, 1), np.concatenate(after, 1))


def _weights(call: Call, num_particles: int, row: np.ndarray) -> np.ndarray:
    log_w = as_numpy(call.joint(num_particles, row).log_w).reshape(-1, 1).astype(np.float64)
    check_densities(log_w, lambda: log_densities(call.joint(num_particles, row)))
    return np.broadcast_to(log_w, (num_particles, 1))


@contextmanager
def _tuned(call: Call, row: np.ndarray, num_steps: int, learning_rate: float) -> Iterator[None]:
    """Inside this block the guide is trained on one row."""
    modules, free = _own_parameters(call)
    kept = [parameter.data for parameter in modules]
    leaves = {
        name: transform_to(constraint).inv(value.detach()).clone().requires_grad_()
        for name, (value, constraint) in free.items()
    }
    constraints = {name: constraint for name, (_, constraint) in free.items()}
    try:
        for parameter in modules:
            parameter.data = parameter.data.clone()
        learned = [*modules, *leaves.values()]
        optimizer = torch.optim.Adam(learned, learning_rate)
        with _Free(leaves, constraints):
            for step in range(num_steps):
                optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / num_steps)
                with torch.enable_grad():
                    loss = -call.joint(_PARTICLES, row).log_w.mean()
                    found = torch.autograd.grad(loss, learned, allow_unused=True)
                for leaf, gradient in zip(learned, found, strict=True):
                    leaf.grad = gradient
                optimizer.step()
            yield
    finally:
        for parameter, data in zip(modules, kept, strict=True):
            parameter.data, parameter.grad = data, None


def _own_parameters(call: Call) -> tuple[list[nn.Parameter], dict[str, tuple[Tensor, Any]]]:
    """What the guide learns and the model does not: of networks, and stated by name."""
    found = []
    for program in (call.guide, call.model):
        networks, sites = learned_in(program)
        stated = {s["name"]: (s["value"], s["kwargs"].get("constraint")) for s in sites}
        found.append((networks, stated))
    (networks, stated), (others, also) = found
    return (
        [p for key, p in networks.items() if key not in others],
        {
            name: (value, constraint or torch.distributions.constraints.real)
            for name, (value, constraint) in stated.items()
            if name not in also
        },
    )


class _Free(Messenger):
    """Hands out parameters that are being tuned."""

    def __init__(self, leaves: dict[str, Tensor], constraints: dict[str, Any]) -> None:
        super().__init__()
        self.leaves, self.constraints = leaves, constraints

    def _pyro_param(self, msg: Message) -> None:
        if msg["name"] in self.leaves and not msg["done"]:
            leaf = self.leaves[msg["name"]]
            msg["value"] = transform_to(self.constraints[msg["name"]])(leaf)
            msg["done"] = True
