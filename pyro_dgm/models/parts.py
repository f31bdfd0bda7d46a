"""Checks that the parts of a model, and the data, have the shapes that it needs."""

from typing import Any

import torch
from pyro.distributions import constraints
from torch import Tensor

from dgm_core.arguments import check_count, check_image_shape, check_instance, refuse, shown
from dgm_core.contexts import ContextShape, check_context, check_context_shape, shown_shape
from pyro_dgm.conditionals import Conditional, ImplicitDistribution, StandardNormal, VampPrior
from pyro_dgm.nn import register
from pyro_dgm.nn.contexts import batch_shape_of, visible

__all__ = ["check_fit", "given", "num_data"]


def check_network(role: str, network: Any, in_dim: int | None = None) -> None:
    """Raise a ValueError unless `network`, if given, is one from `in_dim` numbers (None: from
    anything) to features.
    """
    if network is None:
        return
    known = hasattr(network, "out_dim") or hasattr(network, "out_shape")
    if isinstance(network, type) or not callable(network) or not known:
        refuse(role, "a network with an attribute out_dim or, for maps, out_shape", network)
    if in_dim is not None and getattr(network, "in_dim", in_dim) != in_dim:
        raise ValueError(f"The {role} must take {in_dim} numbers, got {network!r}.")


def check_images(generator: Any, image_shape: Any, z_dim: int) -> tuple[int, int, int]:
    """The shape of images, those that a generator gives, if there is one."""
    shape = check_image_shape("image_shape", image_shape)
    check_network("generator", generator, z_dim)
    if generator is not None and features_of(generator) != shape:
        raise ValueError(f"The generator must give images of shape {shape}, got {generator!r}.")
    return shape


def features_of(network: Any) -> ContextShape:
    """What comes out of a network, as the context of a conditional: the size of a vector or the
    shape of a map.
    """
    return getattr(network, "out_shape", None) or network.out_dim


def check_conditionals(**parts: Any) -> None:
    """Raise a ValueError unless each part, if given, is a conditional."""
    for role, part in parts.items():
        if part is not None:
            check_instance(role, part, Conditional, "a conditional such as StandardNormal(2)")


def check_fit(
    role: str, conditional: Conditional, event_shape: tuple[int, ...], *context_shapes: ContextShape
) -> None:
    """Raise a ValueError unless `conditional` gives values of shape `event_shape` from contexts of
    one of the shapes `context_shapes`.
    """
    shapes = [check_context_shape("context_shape", shape) for shape in context_shapes]
    if conditional.event_shape != event_shape or conditional.context_shape not in shapes:
        wanted = " or ".join(f"context_shape={shown_shape(shape)}" for shape in shapes)
        raise ValueError(
            f"The {role} must give values of shape {event_shape} with {wanted}, got "
            f"{conditional!r} "
            f"with values of shape {tuple(conditional.event_shape)} and "
            f"context_shape={shown_shape(conditional.context_shape)}."
        )


def shared_parts(prior: Any, encoder: Any, posterior: Any) -> tuple[Any, Any]:
    """Encoder and posterior of the guide, which are those of a prior that is made of them; a
    ValueError where others are given.
    """
    if getattr(prior, "encoder", None) is None or not isinstance(prior, VampPrior):
        return encoder, posterior
    for role, given in (("encoder", encoder), ("posterior", posterior)):
        if given is not None and given is not getattr(prior, role):
            raise ValueError(
                f"The {role} of a {type(prior).__name__} is that of the guide, one set of "
                "weights, and this model is given another: leave it out."
            )
    return prior.encoder, prior.posterior


def own_prior(prior: Conditional | None, x_shape: tuple[int, ...], z_dim: int) -> Conditional:
    """The prior of a model of codes (z_dim,): the standard normal one where none is given; one
    that is made of encoder and posterior has none of its own.
    """
    if isinstance(prior, VampPrior):
        return prior.sized(x_shape, (z_dim,))
    return prior or StandardNormal(z_dim)


def prior_of(model: Any) -> Any:
    """The distribution of a code in a program: the prior of a model, registered, with the encoder
    and posterior of its guide where it is made of them.
    """
    prior = register("prior", model.prior)
    if not isinstance(prior, VampPrior):
        return prior()
    encoder = register("encoder", model.encoder)
    return prior.given(encoder, register("posterior", model.posterior))


def num_data(x: Tensor | None, shape: tuple[int, ...], size: int) -> int:
    """The number of data in a batch x (batch, *shape), or `size` without one; ValueError for any
    other shape.
    """
    if x is None:
        return check_count("size", size)
    found = tuple(getattr(x, "shape", ()))
    if found[1:] != shape or not found:
        raise ValueError(
            f"x must have shape (batch, {', '.join(map(str, shape))}), got "
            f"{found if hasattr(x, 'shape') else shown(x)}."
        )
    return found[0]


def paired(y: Any, context_shape: tuple[Any, ...], x: Tensor | None, shape: tuple[int, ...]) -> Any:
    """The context y of a model as its networks see it; ValueError unless it is one for each datum
    of x (batch, *shape).
    """
    check_context(None, y, context_shape, name="y")
    y = visible(y, context_shape, name="y")
    batch = tuple(batch_shape_of(y, context_shape))
    if len(batch) != 1:
        raise ValueError(f"y must have one dimension of data, (batch,), got {batch}.")
    number = num_data(x, shape, batch[0])
    if number != batch[0]:
        raise ValueError(f"x and y must have the same number of data, got {number} and {batch[0]}.")
    return y


def given(
    x: Tensor, event_dim: int, entries: constraints.Constraint = constraints.real
) -> ImplicitDistribution:
    """The distribution of a generator's output x (*batch, *event) given all that it was computed
    from: there is one draw, and no density.
    """
    split = x.ndim - event_dim
    shapes = x.shape[:split], x.shape[split:]
    return ImplicitDistribution(
        lambda shape: x.expand(*shape, *x.shape[split:]), *shapes, entries=entries, only=x
    )


def given_image(logits: Tensor) -> ImplicitDistribution:
    """The same of images with values in [0, 1], the sigmoid of what a generator gives (*batch,
    channels, height, width).
    """
    return given(torch.sigmoid(logits), 3, constraints.unit_interval)
