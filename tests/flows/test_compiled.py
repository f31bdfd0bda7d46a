"""Compiled as a whole, a flow gives on large batches what it gives step by step.

A sum of products compiled into the subtraction that follows it was wrong by whole units there (XLA
for CPUs, jaxlib 0.10.2): 64 particles of 300 data and more.
"""

import jax
import numpy as np
import pytest

from numpyro_dgm import flows

AS_USERS_COMPILE = True
# What the flags of tests/conftest.py switch off.
FUSED = {"xla_cpu_use_fusion_emitters": True, "xla_cpu_parallel_codegen_split_count": 32}


@pytest.mark.parametrize("name", ["Householder", "Planar", "Radial", "Sylvester"])
def test_large_batches(name: str) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    flow = getattr(flows, name)(8, context_shape=5, num_layers=2, key=keys[0])
    context, u = jax.random.normal(keys[1], (300, 5)), jax.random.normal(keys[2], (64, 300, 8))
    expected = flow(context).forward_and_log_det(u)
    compiled = jax.jit(lambda u: flow(context).forward_and_log_det(u), compiler_options=FUSED)
    for a, b in zip(expected, compiled(u)):
        np.testing.assert_allclose(b, a, atol=1e-4)
