"""Linear-Gaussian modules with given numbers, in both libraries."""

from typing import Any

import numpy as np

from tests.sequences.oracle import Model, weights
from tests.twins.copying import leaf_at


def with_weights(module: Any, values: dict[str, np.ndarray]) -> Any:
    """A module with these weights, by their paths."""
    if hasattr(module, "named_parameters"):
        import torch

        with torch.no_grad():
            for path, value in values.items():
                module.get_parameter(path).copy_(torch.as_tensor(value))
        return module
    import equinox as eqx
    import jax.numpy as jnp

    for path, value in values.items():
        module = eqx.tree_at(leaf_at(path), module, jnp.asarray(value))
    return module


def linear(lib: Any, model: Model, length: int) -> Any:
    """LinearGaussian with these numbers; its prior and emission are those of the model."""
    z_dim, x_dim = len(model.F), len(model.H)
    transition = lib.build("conditionals", "LinearNormal", z_dim, context_shape=z_dim)
    first = lib.build("conditionals", "StandardNormal", z_dim)
    prior = lib.build("conditionals", "Markov", transition, length, initial=first)
    emission = lib.build("conditionals", "LinearNormal", x_dim, context_shape=z_dim)
    found = lib.build("conditionals", "LinearGaussian", prior, emission)
    return with_weights(found, weights(model, "prior.transition", "emission"))
