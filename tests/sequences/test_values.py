"""Values of paths: whole sequences, or refused; controls of the padding are unseen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import numpyro_dgm.conditionals as N
import pyro_dgm.conditionals as P

TWINS = [(P, {}, torch.as_tensor), (N, {"key": jax.random.key(0)}, jnp.asarray)]


@pytest.mark.parametrize(("lib", "key", "array"), TWINS, ids=["pyro", "numpyro"])
def test_values_are_whole_sequences(lib: Any, key: Any, array: Any) -> None:
    move = lib.LinearNormal(2, context_shape=2, **key)
    paths = [
        lib.Markov(move, 4),
        lib.AffineMarkov((4, 2)),
        lib.Steps(lib.DiagonalNormal(2), 4),
        lib.HiddenMarkov(lib.DiagonalNormal(2, context_shape=lib.Labels(3), **key), 4),
        lib.LinearGaussian(lib.Markov(move, 4), move),
    ]
    for path in paths:
        for shape in [(5, 3, 2), (5, 5, 2), (5, 1, 2), (5, 4, 1), (2,)]:
            with pytest.raises(ValueError, match=r"shape \(\*batch, 4, 2\), got"):
                path().log_prob(array(np.zeros(shape, np.float32)))
        with pytest.raises((ValueError, RuntimeError)):  # of the engine, or ours
            path().expand((2, 5)).expand((1,))


@pytest.mark.parametrize(("lib", "key", "array"), TWINS, ids=["pyro", "numpyro"])
def test_controls_in_the_padding_do_not_count(lib: Any, key: Any, array: Any) -> None:
    move = lib.LinearNormal(2, context_shape=((2,), (3,)), **key)
    path = lib.LinearGaussian(lib.Markov(move, 4), lib.LinearNormal(1, context_shape=2, **key))
    rng = np.random.default_rng(0)
    x, u = (rng.standard_normal((2, 4, n)).astype(np.float32) for n in (1, 3))
    lengths = array(np.array([4, 2]))
    exact = path(array(u), lengths).log_prob(array(x))
    u[1, 2:] = x[1, 2:] = np.nan
    found = path(array(u), lengths).log_prob(array(x))
    assert np.array_equal(np.asarray(exact.tolist()), np.asarray(found.tolist()))
