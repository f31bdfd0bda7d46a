"""Linear-Gaussian parts of recurrent models, set by hand, in both libraries:

z_1 ~ Normal(0, 1),  z_t = a z_{t-1} + Normal(0, q),  x_t = z_t + d + Normal(0, r).
"""

from collections.abc import Callable
from math import expm1, log, sqrt
from typing import Any

import numpy as np

from tests.sequences.building import with_weights

FLOOR = 1e-4


def raw(variance: float) -> float:
    """What `positive` maps to the standard deviation."""
    return log(expm1(sqrt(variance) - FLOOR)) - log(expm1(1 - FLOOR))


def part(lib: Any, base: Any, **members: Any) -> Any:
    """A module of a library with these functions and numbers."""
    name = "forward" if is_pyro(lib) else "__call__"
    members[name] = members.pop("call", lambda self: None)
    return type("Part", (base,), members)()


def module_of(lib: Any) -> Any:
    """The class of modules of a library."""
    if is_pyro(lib):
        return lib.torch.nn.Module
    import equinox as eqx

    return eqx.Module


def is_pyro(lib: Any) -> bool:
    return hasattr(lib, "torch")


def arrays(lib: Any) -> Any:
    """torch, or jax.numpy."""
    if is_pyro(lib):
        return lib.torch
    import jax.numpy as jnp

    return jnp


def cat(lib: Any, *parts: Any) -> Any:
    """Features side by side."""
    xp = arrays(lib)
    batch = xp.broadcast_shapes(*(part.shape[:-1] for part in parts))
    parts = [xp.broadcast_to(part, (*batch, part.shape[-1])) for part in parts]
    return xp.concatenate(parts, -1)


def normal(lib: Any, weight: list[list[float]], bias: list[float]) -> Any:
    """DiagonalNormal(1) whose mean and raw scale are linear in the context."""
    found = lib.build("conditionals", "DiagonalNormal", 1, context_shape=len(weight[0]))
    return with_weights(
        found, {"head.weight": np.array(weight), "head.bias": np.array(bias, dtype=float)}
    )


def own_prior(lib: Any, a: float, q: float) -> Any:
    """Of z_t given (z_{t-1}, whether there is one, ...)."""
    change = raw(q) - raw(1.0)
    return normal(lib, [[a, 0.0, 0.0][:2], [0.0, change, 0.0][:2]], [0.0, raw(1.0)])


def filtering(a: float, q: float, r: float) -> list[tuple[float, float, float]]:
    """Gain of x, gain of z and variance of p(z_t | z_{t-1}, x_t), at first and later."""
    found = []
    for prior in (1.0, q):
        variance = 1 / (1 / prior + 1 / r)
        found.append((variance / r, variance * a / prior, variance))
    return found


def smoothing(length: int, a: float, q: float, r: float) -> tuple[np.ndarray, ...]:
    """Of p(z_t | z_{t-1}, x_t, ..., x_T): weights of x - d (T, T), gains and variances (T,)."""
    weights, gains, variances = np.zeros((length, length)), np.zeros(length), np.zeros(length)
    precision, shift = 0.0, np.zeros(length)
    for t in reversed(range(length)):
        kept = 1 / (1 + q * precision)
        precision, shift = 1 / r + a**2 * precision * kept, a * kept * shift
        shift[t] += 1 / r
        prior = q if t else 1.0
        variances[t] = 1 / (1 / prior + precision)
        weights[t], gains[t] = variances[t] * shift, variances[t] * a / prior * (t > 0)
    return weights, gains, variances


def vrnn(lib: Any, length: int, a: float, q: float, r: float, d: float) -> Any:
    """A VRNN that is this model, with its exact filter as guide; h = (z, whether there is one)."""
    module = module_of(lib)
    ones: Callable = arrays(lib).ones_like
    cell = part(
        lib,
        module,
        in_dim=2,
        out_dim=2,
        step=lambda self, f, h: cat(lib, f[..., 1:], ones(f[..., 1:])),
    )

    def encode(self: Any, f: Any) -> Any:
        x, z, later = f[..., :1] - d, f[..., 1:2], f[..., 2:]
        return cat(lib, x * (1 - later), x * later, z, later)

    encoder = part(lib, module, in_dim=3, out_dim=4, call=encode)
    first, later = filtering(a, q, r)
    posterior = normal(
        lib,
        [[first[0], later[0], later[1], 0.0], [0.0, 0.0, 0.0, raw(later[2]) - raw(first[2])]],
        [0.0, raw(first[2])],
    )
    same = lambda dim: lib.build("nn", "MLP", dim, ())  # noqa: E731
    return lib.build(
        "models",
        "VRNN",
        1,
        1,
        length,
        embed_x=same(1),
        embed_z=same(1),
        transition=same(2),
        encoder=encoder,
        decoder=same(3),
        cell=cell,
        prior=own_prior(lib, a, q),
        posterior=posterior,
        likelihood=normal(lib, [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [d, raw(r)]),
    )


def gain(lib: Any, less: Any) -> Any:
    """Of z given (z_{t-1}, (offset, gain, variance)), less a number times z_{t-1}."""
    base = lib.package.conditionals.Conditional

    def condition(self: Any, context: Any) -> Any:
        last, told = context
        offset, slope, variance = told[..., :1], told[..., 1:2], told[..., 2:]
        return lib.dist.Normal(offset + (slope - less) * last, variance**0.5).to_event(1)

    return type("Gain", (base,), {"condition": condition})(1, context_shape=(1, (3,)))


def srnn(
    lib: Any, length: int, a: float, q: float, r: float, d: float, *, residual: bool = True
) -> Any:
    """An SRNN that is this model, with its exact smoother; d_t = (whether z_{t-1} is there, 1)."""
    module = module_of(lib)
    ones: Callable = arrays(lib).ones_like
    weights, gains, variances = (lib.array(part) for part in smoothing(length, a, q, r))
    later = lib.array(np.stack([np.arange(length) > 0, np.ones(length)], -1).astype(float))
    cell = part(
        lib,
        module,
        in_dim=1,
        out_dim=2,
        step=lambda self, x, h: cat(lib, h[..., 1:], ones(h[..., 1:])),
        call=lambda self, x, lengths=None: later + 0 * x,
    )

    def encode(self: Any, f: Any, lengths: Any = None) -> Any:
        offset = (f[..., 2] - d) @ weights.T
        zero = 0 * offset
        return arrays(lib).stack([offset, zero + gains, zero + variances], -1)

    return lib.build(
        "models",
        "SRNN",
        1,
        1,
        length,
        cell=cell,
        transition=lib.build("nn", "MLP", 3, ()),
        encoder=part(lib, module, in_dim=3, out_dim=3, call=encode),
        decoder=lib.build("nn", "MLP", 3, ()),
        prior=normal(lib, [[a, 0.0, 0.0], [0.0, raw(q) - raw(1.0), 0.0]], [0.0, raw(1.0)]),
        posterior=gain(lib, a if residual else 0.0),
        likelihood=normal(lib, [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [d, raw(r)]),
        residual=residual,
    )
