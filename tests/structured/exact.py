"""Linear models with exact guides, built in both libraries with the same weights, and evaluated."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def built(backend: Any, name: str, *sizes: Any, weights: Mapping[str, Any], **parts: Any) -> Any:
    """A model with these weights, by path; all others are zero. A part is (conditional, size,
    context_shape), or a value.
    """
    if backend.name == "pyro":
        from pyro_dgm import conditionals, models

        extra: dict[str, Any] = {}
    else:
        from numpyro_dgm import conditionals, models

        extra = {"key": backend.jax.random.key(0)}
    settings = {
        role: getattr(conditionals, part[0])(part[1], context_shape=part[2], **extra)
        if isinstance(part, tuple) and part and isinstance(part[0], str)
        else part
        for role, part in parts.items()
    }
    model = getattr(models, name)(*sizes, **settings, **extra)
    return with_weights(backend, model, weights)


def with_weights(backend: Any, model: Any, weights: Mapping[str, Any]) -> Any:
    """The model with these weights, by path, and zeros."""
    left = dict(weights)
    if backend.name == "pyro":
        for path, parameter in model.named_parameters():
            value = left.pop(path, 0.0)
            parameter.data = backend.array(np.zeros(parameter.shape) + value)
    else:
        import equinox as eqx

        from tests.twins.copying import arrays_of, leaf_at

        for path, array in arrays_of(model).items():
            value = backend.array(np.zeros(array.shape) + left.pop(path, 0.0))
            model = eqx.tree_at(leaf_at(path), model, value)
    assert not left, f"no such weights: {sorted(left)}"
    return model


def raw(scale: float, floor: float = 1e-4) -> float:
    """The real number of which `positive` makes a scale."""
    return float(np.log(np.expm1(scale - floor)) - np.log(np.expm1(1 - floor)))


def evaluated(
    backend: Any, function: Callable[[Any], Any], module: Any
) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """The values of `function(module)`, a list of numbers, and the gradients of each by path."""
    if backend.name == "pyro":
        values = function(module)
        names, leaves = zip(*module.named_parameters(), strict=True)
        gradients = []
        for value in values:
            found = backend.torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
            gradients.append(
                {
                    name: np.zeros(leaf.shape) if new is None else new.numpy()
                    for name, leaf, new in zip(names, leaves, found, strict=True)
                }
            )
        return np.array([value.item() for value in values]), gradients
    import equinox as eqx
    import jax

    from tests.twins.copying import arrays_of

    params, static = eqx.partition(module, eqx.is_inexact_array)

    def both(params: Any) -> tuple[Any, Any]:
        def stacked(params: Any) -> Any:
            return backend.np.stack(function(eqx.combine(params, static)))

        return stacked(params), jax.jacrev(stacked)(params)

    values, slopes = jax.jit(both)(params)
    parts = [
        arrays_of(jax.tree.map(lambda x, i=i: x[i], slopes)) for i in range(len(np.asarray(values)))
    ]
    return np.asarray(values), [{n: np.asarray(x) for n, x in part.items()} for part in parts]


def bound(backend: Any, loss: Any, pair: Any, *data: Any, seed: int = 0, **options: Any) -> Any:
    """The loss of a pair per datum, differentiable."""
    data = tuple(
        backend.array(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in data
    )
    if backend.name == "pyro":
        data = tuple(backend.torch.as_tensor(x) for x in data)
        backend.torch.manual_seed(seed)
        return loss.evaluate(pair.model, pair.guide, data, **options).per_datum
    key = backend.jax.random.key(seed)
    return loss.evaluate(key, {}, pair.model, pair.guide, data, **options).per_datum


def traced(backend: Any, program: Callable[..., Any], *args: Any) -> Any:
    """A run of a program by itself."""
    if backend.name == "pyro":
        return backend.pyro.poutine.trace(program).get_trace(*args)
    handlers = backend.numpyro.handlers
    return handlers.trace(handlers.seed(program, 0)).get_trace(*args)
