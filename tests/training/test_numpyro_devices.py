"""Several devices share every batch, and the numbers are those of one device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import jax, numpy as np
from numpyro_dgm import VAE
from numpyro_dgm.losses import ELBO, KL, Constraint, Term
from numpyro_dgm.training import Adam, fit

assert len(jax.devices()) == 2
x = (np.random.default_rng(0).random((42, 6)) < 0.5).astype(np.float32)

class RunningMean(Term):
    name, details, guided = "RunningMean", ("mean",), True

    def init_state(self, joints, *, key):
        return {"mean": jax.numpy.zeros(())}

    def update(self, state, joints, step, *, key):
        return {"mean": 0.9 * state["mean"] + 0.1 * joints.inference().values("x").mean()}

    def estimate(self, joints, step):
        mean = joints.state(self)["mean"]
        return mean * joints.inference().log_prior.mean(), {"mean": mean}

def run(**kwargs):
    vae = VAE(6, 2, hidden=(8,), key=jax.random.key(0))
    loss = ELBO() + 0.1 * RunningMean() + Constraint(KL(), at_most=0.1)
    kwargs |= {'average': 0.9, 'clip_norm': 1.0, 'progress': False, 'validation': x[:9]}
    kwargs['loss'] = loss
    return fit(vae.model, vae.guide, x, batch_size=8, num_epochs=3, optim=Adam(1e-2), **kwargs)

one, two = run(), run(device="all")
shared = run(device=jax.devices()[1])
for a, b, c in zip(*(jax.tree.leaves(r.params) for r in (one, two, shared)), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(a, c, rtol=2e-4, atol=2e-6)
    assert c.devices() == {jax.devices()[1]} and len(b.devices()) == 1
states = [jax.tree.leaves(jax.tree.map(np.asarray, r.term_state)) for r in (one, two)]
assert len(states[0]) > 2 and any((leaf != 0).any() for leaf in states[0])
for a, b in zip(*states, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)
np.testing.assert_allclose(one.history.column("loss"), two.history.column("loss"), rtol=1e-5)
scores = [r.history.column("validation") for r in (one, two)]
np.testing.assert_allclose(*scores, rtol=1e-5)
try:
    vae = VAE(6, 2, hidden=(8,), key=jax.random.key(0))
    fit(vae.model, vae.guide, x, batch_size=7, device=["cpu:0", "cpu:1"], progress=False)
except ValueError as error:
    assert "multiple of the 2 devices" in str(error), error
else:
    raise AssertionError("an odd batch size was taken")

# Sequences of unequal lengths, a model that is one step.
from numpyro_dgm.models import RNN
rolls, lengths = x[:8].reshape(8, 3, 2).copy(), np.array([3, 1, 0, 2, 3, 3, 1, 2])
rolls[np.arange(3) >= lengths[:, None]] = np.nan
rnn = RNN(2, 3, hidden=4, features=5, key=jax.random.key(0))
kwargs = {"batch_size": 4, "num_epochs": 2, "progress": False}
runs = [fit(rnn.model, rnn.guide, (rolls, lengths), device=d, **kwargs) for d in (None, "all")]
for a, b in zip(*(jax.tree.leaves(r.params) for r in runs), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)
columns = [r.history.column("loss") for r in runs]
assert np.isfinite(columns).all()
np.testing.assert_allclose(*columns, rtol=1e-5)

# What is compiled really computes on both halves of a batch.
from numpyro_dgm.training import compiling
seen = []
original = compiling.ArrayEpochs.run
def spy(self, state, start, stop):
    lowered = self._loop.lower(state, self.data.arrays, self._order, self._key, start, stop)
    text = lowered.compile().as_text()
    seen.append(("all-reduce" in text, "[4,6]" in text.replace("f32", "")))
    return original(self, state, start, stop)
compiling.ArrayEpochs.run = spy
fit(vae.model, vae.guide, x, batch_size=8, device="all", progress=False)
assert seen[0] == (True, True), seen
print("equal")
"""


def test_two_devices_give_the_numbers_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "equal"
