"""A diffusion of eight normal distributions on a circle: how far its densities and draws are from
the truth, which is known.

    python benchmarks/diffusion.py --predict velocity --steps 20000

Prints a line for each tenth of the training, then the log-likelihood of held-out data under the
truth, the flow and the bound, in nats, and the mean true log-density of draws. Recorded in
`benchmarks/results/diffusion.md`.
"""

import argparse
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import logsumexp

from dgm_core.diffusion import VP
from numpyro_dgm.conditionals import Diffusion

ANGLES, SCALE, BATCH = np.arange(8) * np.pi / 4, 0.15, 200
CENTERS = 1.5 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)


def draw(rng: np.random.Generator, num: int) -> np.ndarray:
    """Data of the truth."""
    noise = SCALE * rng.standard_normal((num, 2))
    return (CENTERS[rng.integers(0, 8, num)] + noise).astype(np.float32)


def log_density(x: np.ndarray) -> np.ndarray:
    """log p(x) of the truth."""
    squares = ((x[:, None] - CENTERS) ** 2).sum(-1) / SCALE**2
    return logsumexp(-squares / 2, axis=1) - np.log(8 * 2 * np.pi * SCALE**2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objective", default="simple", help="a weight, or elbo")
    parser.add_argument("--predict", default="velocity")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--levels", type=int, default=100)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    x, held_out = jnp.asarray(draw(rng, 4000)), draw(rng, 1000)
    net = Diffusion(
        2,
        hidden=(128, 128, 128),
        predict=given.predict,
        schedule=VP(given.levels),
        key=jax.random.key(0),
    )
    optim = optax.adam(optax.cosine_decay_schedule(2e-3, given.steps))
    params, static = eqx.partition(net, eqx.is_inexact_array)
    state = optim.init(params)

    def loss(params, batch, key):
        p = eqx.combine(params, static)()
        if given.objective == "elbo":
            return -p.bound(batch, key=key).mean()
        return p.denoising(batch, weight=given.objective, key=key).mean()

    @jax.jit
    def tenth(params, state, key):
        def step(carry, key):
            params, state = carry
            keys = jax.random.split(key)
            batch = x[jax.random.randint(keys[0], (BATCH,), 0, len(x))]
            value, slope = jax.value_and_grad(loss)(params, batch, keys[1])
            change, state = optim.update(slope, state)
            return (optax.apply_updates(params, change), state), value

        return jax.lax.scan(step, (params, state), jax.random.split(key, given.steps // 10))

    start = time.process_time()
    for index in range(10):
        (params, state), values = tenth(params, state, jax.random.key(index))
        seconds = time.process_time() - start
        print(f"{index + 1:3d} tenths: {float(values.mean()):.4f}, {seconds:.0f} CPU s", flush=True)
    p = eqx.combine(params, static)()
    keys = jax.random.split(jax.random.key(1), 20)
    bound = np.mean([float(p.bound(held_out, key=key).mean()) for key in keys])
    flow = float(jax.jit(p.log_prob)(held_out).mean())
    print(f"truth {log_density(held_out).mean():.3f}, flow {flow:.3f}, bound {bound:.3f}")
    for method, num in (("ancestral", given.levels), ("ddim", 20), ("ddim", 10), ("ode", 10)):
        draws = np.asarray(p.sample(keys[0], (1000,), method=method, num_steps=num))
        print(f"{method} {num}: {log_density(draws).mean():.3f}")


if __name__ == "__main__":
    main()
