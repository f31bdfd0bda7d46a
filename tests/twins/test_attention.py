"""Masked attention: one pass and a step at a time, in both libraries, in float64 at 1e-10."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_core.attention import (
    block_attention,
    causal_attention,
    local_attention,
    strided_attention,
    summary_attention,
)
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.twins.copying import copy_weights, shake
from tests.twins.test_conditionals import close, compare

N, DIM, MEMORY, NUM = 7, 4, 3, 2
PATTERNS = (
    causal_attention(N),
    causal_attention(N, strict=True),
    local_attention(N, 3),
    strided_attention(N, 3),
    summary_attention(N, 3, count=2),
    block_attention(N, 3, memory=2),
)
PLAIN = (0, 1, 4)  # patterns that are tried without memory and prefix, too
PYRO, NUMPYRO = PyroLibrary(), NumPyroLibrary()


def layers(lib: Any) -> list[Any]:
    """Layers with a memory and a prefix, layers without, a transformer with a prefix."""

    def attention(pattern: Any, seed: int, **settings: Any) -> Any:
        return lib.build("nn", "MaskedAttention", DIM, pattern, seed=seed, num_heads=2, **settings)

    made = [attention(p, i, memory_dim=MEMORY) for i, p in enumerate(PATTERNS)]
    made += [attention(PATTERNS[i], 10 + i) for i in PLAIN]
    return [*made, lib.build("nn", "Transformer", DIM, PATTERNS[3:5], num_heads=2, seed=20)]


def one_pass(made: Any, x: Any, memory: Any, prefix: Any, wide: Any) -> list[Any]:
    """What each gives for all positions."""
    num = len(PATTERNS)
    outs = [layer(x, memory, prefix=prefix) for layer in list(made)[:num]]
    outs += [layer(x) for layer in list(made)[num:-1]]
    return [*outs, made[-1](x, prefix=wide)]


def step_by_step(scan: Any, made: Any, x: Any, memory: Any, prefix: Any, wide: Any) -> list[Any]:
    """The same, a position at a time."""
    num, outs = len(PATTERNS), []
    for layer in list(made)[:num]:
        outs.append(scan(layer, layer.begin(NUM, prefix), x, memory))
    for layer in list(made)[num:-1]:
        outs.append(scan(layer, layer.begin(NUM), x))
    return [*outs, scan(made[-1], made[-1].begin(NUM, wide), x)]


def loop(layer: Any, state: Any, *given: Any) -> Any:
    outs = []
    for index in range(N):
        out, state = layer.advance(state, index, *(a[:, index] for a in given))
        outs.append(out)
    return PYRO.stack(outs, 1)


def scan(layer: Any, state: Any, *given: Any) -> Any:
    def step(state: Any, at: Any) -> Any:
        index, *rows = at
        out, state = layer.advance(state, index, *rows)
        return state, out

    rows = [jnp.swapaxes(a, 0, 1) for a in given]
    return jnp.swapaxes(jax.lax.scan(step, state, (jnp.arange(N), *rows))[1], 0, 1)


def test_one_pass_and_steps_in_both_libraries(x64: None) -> None:
    """Values and gradients of one pass are equal in both, and a step at a time gives the same."""
    rng = np.random.default_rng(0)
    ours = shake(PYRO.torch.nn.ModuleList(layers(PYRO)))
    theirs = copy_weights(ours, layers(NUMPYRO))
    shapes = (NUM, N, DIM), (NUM, N, MEMORY), (NUM, 2, MEMORY), (NUM, 2, DIM)
    arrays = [rng.standard_normal(shape) for shape in shapes]

    def squares(made: Any, *arrays: Any) -> list[Any]:
        outs = one_pass(made, *arrays)
        return [sum((out**2).sum() for out in outs), *outs]

    gradients, by_array = compare((PYRO, NUMPYRO), squares, (ours, theirs), *arrays)
    for path, gradient in [*gradients.items(), *(("array", gradient) for gradient in by_array)]:
        assert np.any(gradient != 0), path
    given, theirs_given = ([lib.array(a) for a in arrays] for lib in (PYRO, NUMPYRO))
    with PYRO.torch.no_grad():
        expected = [PYRO.numpy(out) for out in one_pass(ours, *given)]
        steps = step_by_step(loop, ours, *given)
    jax_steps = NUMPYRO.call(lambda *arrays: step_by_step(scan, theirs, *arrays), *theirs_given)
    for one, mine, other in zip(expected, steps, jax_steps, strict=True):
        close(one, PYRO.numpy(mine))
        close(one, NUMPYRO.numpy(other))


@pytest.mark.parametrize("lib", [PYRO, NUMPYRO], ids=["pyro", "numpyro"])
def test_bad_arguments_are_refused(lib: Any) -> None:
    pattern = causal_attention(3)
    for name, sizes, settings, message in (
        ("MaskedAttention", (0, pattern), {}, "dim must be an integer of at least 1, got 0"),
        ("MaskedAttention", (4, 3), {}, "pattern must be a pattern of attention, got 3"),
        ("MaskedAttention", (4, pattern), {"num_heads": 3}, "num_heads must divide dim=4, got 3"),
        ("MaskedAttention", (4, pattern), {"num_heads": 0}, "num_heads must be .* got 0"),
        ("MaskedAttention", (4, pattern), {"head_dim": 0}, "head_dim must be .* got 0"),
        ("MaskedAttention", (4, pattern), {"memory_dim": 0}, "memory_dim must be .* got 0"),
        ("Transformer", (4, []), {}, "patterns must be a sequence of patterns"),
        ("Positions", ((2, 0), 4), {}, "shape must be an integer of at least 1"),
        ("LayerNorm", (0,), {}, "dim must be an integer of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            lib.build("nn", name, *sizes, **settings)
    layer = lib.build("nn", "MaskedAttention", 4, pattern, memory_dim=2)
    with pytest.raises(
        ValueError, match=r"expects memory of shape \(\*batch, 3, 2\), got \(3, 4\)"
    ):
        layer(lib.array(np.zeros((3, 4))), lib.array(np.zeros((3, 4))))
