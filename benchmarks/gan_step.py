"""Speed of a step of `fit` on a DCGAN with its critic against hand-written steps in the same
framework: 28x28 images, batches of 64, Adam, CPU.

    python benchmarks/gan_step.py [--backends pyro numpyro] [--batch-size 64] [--epochs 11] [--steps
    12] [--threads 2] [--record]

The hand-written step is what a careful user would write: one draw of the generator; the critic's
update on data and detached draws, with the gradient of R1 taken on the way through the critic; then
the generator's update, differentiated for the generator's weights alone;
`torch.optim.Adam(fused=True)`, or one jitted `lax.scan` over shuffled minibatches with
`optax.adam`. Networks and losses are the same.
Each epoch of `fit` (progress bar on) is paired with a hand-written epoch run right after it, from a
callback; the median of the ratios is reported, so that a machine that is busy with other things
slows both. Each case runs in a process of its own. Exit status 1 when a ratio is above 1.05.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table

LIMIT = 1.05
RECORD = Path(__file__).parent / "results" / "gan_step.md"
SHAPE, Z_DIM = (1, 28, 28), 64


def in_torch(x: np.ndarray, batch_size: int, r1: float) -> Callable[[], None]:
    """An epoch in plain PyTorch."""
    import torch
    from torch import nn
    from torch.nn.functional import softplus

    act, leaky = nn.ReLU(), nn.LeakyReLU(0.01)
    generator = nn.Sequential(
        *(nn.Linear(Z_DIM, 64 * 49), act, nn.Unflatten(1, (64, 7, 7))),
        *(
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            act,
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            act,
            nn.Conv2d(16, 1, 1),
            nn.Sigmoid(),
        ),
    )
    critic = nn.Sequential(
        *(nn.Conv2d(1, 32, 4, 2, 1), leaky, nn.Conv2d(32, 64, 4, 2, 1), leaky, nn.Flatten()),
        *(nn.Linear(64 * 49, 256), leaky, nn.Linear(256, 1)),
    )
    data = torch.as_tensor(x)
    optim = torch.optim.Adam(generator.parameters(), 1e-3, fused=True)
    critic_optim = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.99), fused=True)

    def epoch() -> None:
        for rows in torch.randperm(len(data)).split(batch_size):
            real, fake = data[rows], generator(torch.randn(batch_size, Z_DIM))
            critic_optim.zero_grad()
            real.requires_grad_(r1 > 0)
            at_real = critic(real)
            loss = softplus(-at_real).mean() + softplus(critic(fake.detach())).mean()
            if r1:
                (slope,) = torch.autograd.grad(at_real.sum(), real, create_graph=True)
                loss = loss + r1 / 2 * slope.square().flatten(1).sum(1).mean()
            loss.backward()
            critic_optim.step()
            optim.zero_grad()
            critic.requires_grad_(False)
            at_fake = critic(fake)
            softplus(-at_fake).mean().backward()
            critic.requires_grad_(True)
            optim.step()
            loss.item()

    return epoch


def in_jax(x: np.ndarray, batch_size: int, r1: float) -> Callable[[], None]:
    """An epoch in plain JAX, with the networks of the package: its convolutions are products of
    matrices, others would be slower.
    """
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax
    from jax.nn import softplus

    from numpyro_dgm.losses import ImageCritic
    from numpyro_dgm.nn import ConvDecoder, Linear

    keys = jax.random.split(jax.random.key(0), 3)
    modules = (
        (ConvDecoder(Z_DIM, SHAPE, key=keys[0]), Linear(16, 1, key=keys[1])),
        ImageCritic(SHAPE, key=keys[2]),
    )
    (generator, rest), (critic, critic_rest) = (
        eqx.partition(module, eqx.is_inexact_array) for module in modules
    )
    data = jax.device_put(x)

    def generate(weights: Any, z: Any) -> Any:
        network, pixel = eqx.combine(weights, rest)
        return jax.nn.sigmoid(
            pixel.weight @ network(z).reshape(-1, 16, 784) + pixel.bias[:, None]
        ).reshape(-1, *SHAPE)

    def score(weights: Any, x: Any) -> Any:
        return eqx.combine(weights, critic_rest)(x)

    def critic_loss(weights: Any, real: Any, fake: Any) -> Any:
        if not r1:
            return softplus(-score(weights, real)).mean() + softplus(score(weights, fake)).mean()
        at_real, pull = jax.vjp(lambda x: score(weights, x), real)
        (slope,) = pull(jnp.ones_like(at_real))
        return (
            softplus(-at_real).mean()
            + softplus(score(weights, fake)).mean()
            + r1 / 2 * (slope**2).sum((1, 2, 3)).mean()
        )

    optim, critic_optim = optax.adam(1e-3), optax.adam(1e-3, b1=0.5, b2=0.99)

    @jax.jit
    def epoch(carry: tuple, key: Any) -> tuple:
        def step(carry: tuple, batch: tuple) -> tuple:
            (g, g_state, d, d_state), (rows, key) = carry, batch
            real = data[rows]
            fake, pull = jax.vjp(
                lambda g: generate(g, jax.random.normal(key, (batch_size, Z_DIM))), g
            )
            loss, grads = jax.value_and_grad(critic_loss)(d, real, fake)
            updates, d_state = critic_optim.update(grads, d_state, d)
            d = optax.apply_updates(d, updates)
            (grads,) = pull(jax.grad(lambda fake: softplus(-score(d, fake)).mean())(fake))
            updates, g_state = optim.update(grads, g_state, g)
            return (optax.apply_updates(g, updates), g_state, d, d_state), loss

        order_key, step_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(data)).reshape(-1, batch_size)
        return jax.lax.scan(step, carry, (order, jax.random.split(step_key, len(order))))

    state = [(generator, optim.init(generator), critic, critic_optim.init(critic))]

    def run() -> None:
        state[0], losses = epoch(state[0], jax.random.key(0))
        losses.block_until_ready()

    return run


def measure(backend: str, batch_size: int, epochs: int, steps: int, r1: float) -> dict[str, Any]:
    """One row: milliseconds per step of both, and the median of the paired ratios."""
    x = np.random.default_rng(0).random((steps * batch_size, *SHAPE)).astype(np.float32)
    settings: dict[str, Any] = {}
    if backend == "pyro":
        import pyro
        import torch

        import pyro_dgm as package

        pyro.enable_validation(False)
        torch.manual_seed(0)
        gan, settings["compile"] = package.models.DCGAN(SHAPE, Z_DIM), False
    else:
        import jax

        import numpyro_dgm as package  # type: ignore[no-redef]

        gan = package.models.DCGAN(SHAPE, Z_DIM, key=jax.random.key(0))  # type: ignore[call-arg]
    losses = package.losses
    epoch = {"pyro": in_torch, "numpyro": in_jax}[backend](x, batch_size, r1)
    pairs: list[tuple[float, float]] = []

    def alternate(run: Any) -> None:
        began = time.perf_counter()
        epoch()
        pairs.append((run.history.last["seconds"], time.perf_counter() - began))

    loss = losses.JensenShannon("x", regularizer=losses.R1(r1) if r1 else None)
    package.fit(
        gan.model,
        None,
        x,
        loss=loss,
        batch_size=batch_size,
        num_epochs=epochs + 2,
        callbacks=(alternate,),
        **settings,
    )
    ours, theirs = np.array(pairs[2:]).T  # the first ones compile and warm up
    ms = 1e3 * np.median([ours, theirs], axis=1) / steps
    return {
        "backend": backend,
        "regularizer": f"R1({r1})" if r1 else "none",
        "fit_ms": ms[0],
        "hand_ms": ms[1],
        "ratio": float(np.median(ours / theirs)),
    }


def main() -> int:
    """Print the table; exit status 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=11)
    parser.add_argument("--steps", type=int, default=12, help="in an epoch")
    parser.add_argument("--threads", type=int, help="of torch; left out, its default")
    parser.add_argument("--record", action="store_true", help=f"write the table to {RECORD.name}")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is imported
    if arguments.one is not None:
        print(
            json.dumps(
                measure(
                    arguments.backends[0],
                    arguments.batch_size,
                    arguments.epochs,
                    arguments.steps,
                    arguments.one,
                )
            )
        )
        return 0
    rows = []
    for backend in arguments.backends:
        for r1 in ("0", "1"):
            sizes = [
                "--batch-size",
                str(arguments.batch_size),
                "--epochs",
                str(arguments.epochs),
                "--steps",
                str(arguments.steps),
            ]
            command = [sys.executable, __file__, "--one", r1, "--backends", backend, *sizes]
            rows.append(
                json.loads(
                    subprocess.run(
                        command, check=True, stdout=subprocess.PIPE, text=True
                    ).stdout.splitlines()[-1]
                )
            )
    table, kept = format_table(rows), all(row["ratio"] <= LIMIT for row in rows)
    verdict = f"Ratios at most {LIMIT}: {'kept' if kept else 'MISSED'}."
    print(f"{table}\n{verdict}")
    if arguments.record:
        machine = (
            f"{os.cpu_count()} CPU cores, {platform.machine()}, batches of {arguments.batch_size}"
        )
        RECORD.write_text(
            "# A step of a DCGAN\n\nMilliseconds per step of `fit` and of a hand-written loop; "
            f"{machine}.\n\n```\n{table}\n```\n\n{verdict}\n"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
