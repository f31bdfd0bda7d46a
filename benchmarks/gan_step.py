"""Speed of a step of `fit` on GANs of images with their critics against hand-written steps in the
same framework: 28x28 images, Adam, CPU.

    python benchmarks/gan_step.py [--backends pyro numpyro] [--models DCGAN R1 SNGAN SAGAN BigGAN
    CycleGAN] [--batch-size 64] [--epochs 11] [--steps 12] [--threads 1] [--device cuda]
    [--record] [--out FILE]

The hand-written step is what a careful user would write: one draw of the generator; the critic's
update on data and detached draws, with the gradient of R1 taken on the way through the critic; then
the generator's update, differentiated for the generator's weights alone;
`torch.optim.Adam(fused=True)`, or one jitted `lax.scan` over shuffled minibatches with
`optax.adam`. Networks and losses are the same; those of SNGAN to CycleGAN are in gan_networks.py.
Each epoch of `fit` is followed by a hand-written epoch, from a callback. What is compared is the
processor time of both, the least of all epochs but the first two, so that other work on the machine
counts little; with `--device cuda` (which JAX takes by itself) it is the wall clock. Each case runs
in a process of its own. Exit status 1 when a ratio is above its limit: 1.05, and 1.0 for CycleGAN
in Pyro.
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

import gan_networks
import numpy as np
from gan_networks import CLASSES, CYCLE, WIDE

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


def in_pairs(package: Any, name: str, seed: int = 0) -> tuple[Any, Any, Any]:
    """The model of a name with its loss, and its data from images x and labels y."""
    settings: dict[str, Any] = {}
    keys = iter([{}] * 9)
    if package.__name__ == "numpyro_dgm":
        import jax

        keys = iter([{"key": key} for key in jax.random.split(jax.random.key(seed), 9)])
    models, losses = package.models, package.losses
    if name in ("DCGAN", "R1"):
        loss = losses.JensenShannon("x", regularizer=losses.R1() if name == "R1" else None)
        return models.DCGAN(SHAPE, Z_DIM, **next(keys)), loss, lambda x, y: x
    if name == "CycleGAN":
        nets = [
            package.nn.UNet(SHAPE, out_channels=1, channels=WIDE[::-1], **next(keys))
            for _ in range(2)
        ]
        gan = models.CycleGAN(SHAPE, to_y=nets[0], to_x=nets[1], **next(keys))
        loss = CYCLE * losses.Cycle(("x", "y"))
        for site in ("x", "y"):
            loss += losses.JensenShannon(site, losses.ImageCritic(SHAPE, **next(keys)))
        return gan, loss, lambda x, y: package.Unpaired(x, 1 - x)
    classes = (CLASSES,) if name == "BigGAN" else ()
    gan = getattr(models, name)(SHAPE, Z_DIM, *classes, hidden_channels=WIDE, **next(keys))
    settings = {"hidden_channels": WIDE[::-1], "attention": name != "SNGAN"}
    if classes:
        settings["num_classes"] = CLASSES
    critic = losses.ResidualCritic(SHAPE, **settings, **next(keys))
    loss = losses.Hinge(("x", "y") if classes else "x", critic)
    return gan, loss, lambda x, y: (x, y) if classes else x


def measure(
    backend: str, name: str, batch_size: int, epochs: int, steps: int, device: str | None
) -> dict[str, Any]:
    """One row: milliseconds per step of both, and their ratio."""
    clock = time.perf_counter if device else time.process_time
    rng = np.random.default_rng(0)
    x = rng.random((steps * batch_size, *SHAPE)).astype(np.float32)
    y = rng.integers(0, CLASSES, len(x))
    settings: dict[str, Any] = {}
    if backend == "pyro":
        import pyro
        import torch

        import pyro_dgm as package

        if device:
            torch.set_default_device(device)
            torch.set_float32_matmul_precision("high")
        pyro.enable_validation(False)
        torch.manual_seed(0)
        settings["compile"] = False
    else:
        import numpyro_dgm as package  # type: ignore[no-redef]
    gan, loss, data = in_pairs(package, name)
    hand: Any = {"pyro": in_torch, "numpyro": in_jax}[backend]
    if name in gan_networks.NAMES:
        epoch = getattr(gan_networks, hand.__name__)(name, x, y, batch_size)
    else:
        epoch = hand(x, batch_size, float(name == "R1"))
    pairs: list[tuple[float, float]] = []
    ended = [clock()]

    def alternate(run: Any) -> None:
        began = clock()
        epoch()
        now = clock()
        pairs.append((began - ended[0], now - began))
        ended[0] = now

    package.fit(
        gan.model,
        None,
        data(x, y),
        loss=loss,
        batch_size=batch_size,
        num_epochs=epochs + 2,
        callbacks=(alternate,),
        **settings,
    )
    ours, theirs = np.min(pairs[2:], axis=0)  # the first ones compile and warm up
    return {
        "backend": backend,
        "model": name,
        "fit_ms": 1e3 * ours / steps,
        "hand_ms": 1e3 * theirs / steps,
        "ratio": ours / theirs,
    }


def limit_of(row: dict[str, Any]) -> float:
    """The largest ratio that is allowed."""
    return 1.0 if (row["backend"], row["model"]) == ("pyro", "CycleGAN") else LIMIT


def main() -> int:
    """Print the table; exit status 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["DCGAN", "R1", *gan_networks.NAMES]
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=11)
    parser.add_argument("--steps", type=int, default=12, help="in an epoch")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--device", help="cuda: for both backends, by the wall clock")
    parser.add_argument("--out", type=Path, help="a file for the rows")
    parser.add_argument("--record", action="store_true", help=f"write the table to {RECORD.name}")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is imported
    sizes = {name: getattr(arguments, name) for name in ("batch_size", "epochs", "steps")}
    if arguments.one:
        one = arguments.backends[0], arguments.models[0]
        print(json.dumps(measure(*one, **sizes, device=arguments.device)))
        return 0
    rows = []
    for backend in arguments.backends:
        for name in arguments.models:
            given = [
                part for k, v in sizes.items() for part in (f"--{k.replace('_', '-')}", str(v))
            ]
            if arguments.device:
                given += ["--device", arguments.device]
            command = [sys.executable, __file__, "--one", "--backends", backend, "--models", name]
            done = subprocess.run(command + given, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1]), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(rows, indent=1))
    table, kept = format_table(rows), all(row["ratio"] <= limit_of(row) for row in rows)
    limits = f"Ratios at most {LIMIT}, of CycleGAN in Pyro 1.0: {'kept' if kept else 'MISSED'}."
    print(f"{table}\n{limits}")
    if arguments.record:
        machine = (
            f"{os.cpu_count()} CPU cores, {platform.machine()}, batches of {arguments.batch_size}"
        )
        RECORD.write_text(
            "# A step of a GAN\n\nMilliseconds of processor time per step of `fit` and of a "
            f"hand-written loop, the least of {arguments.epochs} epochs of {arguments.steps} "
            f"steps; {machine}.\n\n```\n{table}\n```\n\n{limits}\n"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
