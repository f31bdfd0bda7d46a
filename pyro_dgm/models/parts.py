"""Checks that the parts of a model, and the data, have the shapes that it needs."""

from torch import Tensor

from pyro_dgm.conditionals import Conditional, ImplicitDistribution

__all__ = ["check_fit", "given", "num_data"]


def check_fit(
    role: str, conditional: Conditional, event_shape: tuple[int, ...], *context_dims: int
) -> None:
    """Raise a ValueError unless `conditional` gives values of shape `event_shape` from contexts of
    one of the sizes `context_dims`.
    """
    if tuple(conditional.event_shape) != event_shape or conditional.context_dim not in context_dims:
        wanted = " or ".join(f"context_dim={dim}" for dim in context_dims)
        raise ValueError(
            f"The {role} must give values of shape {event_shape} with {wanted}, got "
            f"{conditional!r} "
            f"with values of shape {tuple(conditional.event_shape)} and "
            f"context_dim={conditional.context_dim}."
        )


def num_data(x: Tensor | None, shape: tuple[int, ...], size: int) -> int:
    """The number of data in a batch x (batch, *shape), or `size` without one; ValueError for any
    other shape.
    """
    if x is not None and tuple(x.shape[1:]) != shape:
        raise ValueError(
            f"x must have shape (batch, {', '.join(map(str, shape))}), got {tuple(x.shape)}."
        )
    if x is None and size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
    return size if x is None else len(x)


def given(x: Tensor, event_dim: int) -> ImplicitDistribution:
    """The distribution of a generator's output x (*batch, *event) given all that it was computed
    from: there is one draw, and no density.
    """
    split = x.ndim - event_dim
    return ImplicitDistribution(
        lambda shape: x.expand(*shape, *x.shape[split:]), x.shape[:split], x.shape[split:]
    )
