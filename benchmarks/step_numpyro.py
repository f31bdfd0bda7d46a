"""Speed of the NumPyro `fit` against a hand-written JAX step: VAE 784-400-20, Adam, CPU.

    python benchmarks/step_numpyro.py [--batch-sizes 32 128 512] [--epochs 11] [--rows 30000]
    [--json]

The hand-written epoch is what a careful user would write: one jitted `lax.scan` over shuffled
minibatches gathered on the device, plain dictionaries of arrays, `optax.adam`, the same bound.
Each epoch of `fit` (progress bar on) is paired with one hand-written epoch run right after it, from
a callback; what is reported is the median of the ratios, so a machine that is busy with other
things slows both.  Each batch size has a process of its own, for its memory peak.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dgm_core.results import format_table

LIMIT, SECONDS_TO_FIRST_STEP = 1.05, 15.0


def hand_written(num_data: int, batch_size: int) -> tuple[Callable, Any]:
    """The epoch (state, x, key) -> (state, losses) and its first state."""
    import jax
    import jax.numpy as jnp
    import optax

    def layer(key: Any, inputs: int, outputs: int) -> tuple:
        return jax.random.uniform(
            key, (outputs, inputs), minval=-(inputs**-0.5), maxval=inputs**-0.5
        ), jnp.zeros(outputs)

    sizes = {
        "encoder": (784, 400),
        "posterior": (400, 40),
        "decoder": (20, 400),
        "likelihood": (400, 784),
    }
    params = {
        name: layer(key, *size)
        for (name, size), key in zip(
            sizes.items(), jax.random.split(jax.random.key(0), 4), strict=True
        )
    }
    optim = optax.adam(1e-3)

    def affine(params: tuple, x: Any) -> Any:
        return x @ params[0].T + params[1]

    def loss_of(params: dict, x: Any, key: Any) -> Any:
        loc, raw = jnp.split(
            affine(params["posterior"], jax.nn.relu(affine(params["encoder"], x))), 2, axis=-1
        )
        scale = jax.nn.softplus(raw) + 1e-4
        noise = jax.random.normal(key, loc.shape)
        z = loc + scale * noise
        logits = affine(params["likelihood"], jax.nn.relu(affine(params["decoder"], z)))
        log_likelihood = (x * logits - jax.nn.softplus(logits)).sum(-1)
        kl = (0.5 * z**2 - 0.5 * noise**2 - jnp.log(scale)).sum(-1)
        return (kl - log_likelihood).mean()

    @jax.jit
    def epoch(carry: tuple, x: Any, key: Any) -> tuple:
        def step(carry: tuple, batch: tuple) -> tuple:
            (params, state), (rows, key) = carry, batch
            loss, grads = jax.value_and_grad(loss_of)(params, x[rows], key)
            updates, state = optim.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        order_key, step_key = jax.random.split(key)
        num_batches = num_data // batch_size
        order = jax.random.permutation(order_key, num_data)[: num_batches * batch_size].reshape(
            num_batches, batch_size
        )
        return jax.lax.scan(step, carry, (order, jax.random.split(step_key, num_batches)))

    return epoch, (params, optim.init(params))


def measure(batch_size: int, epochs: int, rows: int) -> list[dict[str, Any]]:
    """The rows of the table at one batch size."""
    import jax

    from numpyro_dgm import VAE
    from numpyro_dgm.losses import ELBO
    from numpyro_dgm.training import Adam, fit

    rng = np.random.default_rng(0)
    x = (rng.random((rows // batch_size * batch_size, 784)) < rng.random(784) ** 3).astype(
        np.float32
    )
    pairs: list[tuple[float, float]] = []
    vae = VAE(784, 20, hidden=(400,), key=jax.random.key(0))

    began = time.perf_counter()
    fit(
        vae.model,
        vae.guide,
        x[:batch_size],
        loss=ELBO(),
        batch_size=batch_size,
        num_epochs=1,
        progress=False,
    )
    first_step = time.perf_counter() - began

    peaks: dict[str, float] = {}
    on_device = jax.device_put(x)
    epoch, carry = None, None

    def alternate(run: Any) -> None:
        nonlocal epoch, carry
        if epoch is None:
            peaks["fit"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            epoch, carry = hand_written(len(x), batch_size)
        began = time.perf_counter()
        carry, losses = epoch(carry, on_device, jax.random.key(run.epoch))
        losses.block_until_ready()
        seconds = time.perf_counter() - began
        if run.epoch > 1:  # the first ones compile
            pairs.append((run.history.last["seconds"], seconds))

    fit(
        vae.model,
        vae.guide,
        x,
        loss=ELBO(),
        optim=Adam(1e-3),
        batch_size=batch_size,
        num_epochs=epochs,
        progress=True,
        callbacks=[alternate],
    )
    ours, theirs = np.array(pairs).T
    num_batches = len(x) // batch_size
    common = {"backend": "numpyro", "batch": batch_size}
    own = {
        "ms": 1e3 * float(np.median(ours)) / num_batches,
        "ratio": 1.0,
        "peak_mb": peaks["fit"],
        "first_step_s": first_step,
        "target": None,
    }
    reference = {
        "ms": 1e3 * float(np.median(theirs)) / num_batches,
        "ratio": float(np.median(ours / theirs)),
        "target": LIMIT,
    }
    return [
        {**common, "system": "fit", **own},
        {**common, "system": "hand-written scan", **reference},
    ]


def main() -> int:
    """Print the table, or JSON; exit status 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--epochs", type=int, default=11)
    parser.add_argument("--rows", type=int, default=30000)
    parser.add_argument("--json", action="store_true", help="print the rows as one JSON line")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.epochs, arguments.rows)))
        return 0

    rows = []
    for batch_size in arguments.batch_sizes:
        command = [
            sys.executable,
            __file__,
            "--one",
            str(batch_size),
            "--epochs",
            str(arguments.epochs),
            "--rows",
            str(arguments.rows),
        ]
        rows += json.loads(
            subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            ).stdout.splitlines()[-1]
        )
    kept = all(
        row["ratio"] <= LIMIT and row.get("first_step_s", 0.0) <= SECONDS_TO_FIRST_STEP
        for row in rows
    )
    print(format_table(rows))
    print(
        f"Limits (ratio {LIMIT}, first step within {SECONDS_TO_FIRST_STEP:g} s): "
        f"{'kept' if kept else 'MISSED'}."
    )
    if arguments.json:
        print(json.dumps(rows))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
