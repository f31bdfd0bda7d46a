"""Energies: a step of contrastive divergence beside a hand-written one, densities in the plane with
an interval of ln Z, and a tilted prior of digits.

    python benchmarks/energy.py speed [--backends pyro numpyro] [--epochs 9] [--record]
    python benchmarks/energy.py plane [--backends pyro] [--steps 4000] [--record]
    python benchmarks/energy.py prior [--backends pyro] [--epochs 300] [--seeds 3] [--record]

speed: CD-20 (20 Langevin steps from the data) of an MLP 64-128-128-1 on batches of 128. The
hand-written step is eager PyTorch, or one jitted `lax.scan` over shuffled minibatches with the
chain scanned within; same network, chains, optimizer. Each epoch of `fit` is paired with a
hand-written epoch run right after it, from a callback; the median of the ratios is reported, so
that a busy machine slows both. Limits: 1.1 in JAX, 1.0 in PyTorch.

plane: a tilted normal density, persistent MALA chains; mean log p of held-out data by both ends of
the interval of ln Z, of the truth, the mass on a grid of [-2.5, 2.5]^2 (1 where ln Z is right), and
a picture; with constant rates, and with rates falling to a fiftieth and a moving average of the
weights.

prior: VAE of binarized digits with 8 codes and a standard normal or a tilted prior, all else equal;
the held-out bound (IWAE of 200 draws), of the tilted one by the upper end of the interval of ln Z.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from density import TRUE

from dgm_core.data import load
from dgm_core.data.toys import TOYS
from dgm_core.diagnostics import iwae_bound
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule

RECORD = Path(__file__).parent / "results" / "energy.md"
STEP_SIZE, NUM_STEPS, BATCH, NUM_BATCHES = 0.1, 20, 128, 256


class Library:
    """The names of one backend; networks get a key in NumPyro."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name, self.count = name, seed
        self.package = import_module(f"{name}_dgm")
        for part in ("conditionals", "losses", "mcmc", "nn", "evaluation"):
            setattr(self, part, import_module(f"{name}_dgm.{part}"))
        if name == "pyro":
            import pyro

            pyro.clear_param_store()
            pyro.set_rng_seed(seed)
        self.statements: Any = import_module(name)

    def build(self, made: Callable, *args: Any, **kwargs: Any) -> Any:
        if self.name == "numpyro":
            import jax

            self.count += 1
            kwargs["key"] = jax.random.key(self.count)
        return made(*args, **kwargs)

    def density(self, made: Any) -> Callable:
        """The model of a density."""

        def model(x: Any) -> None:
            with self.statements.plate("data", len(x)):
                self.statements.sample("x", self.nn.register("density", made)(), obs=x)

        return model


def by_hand_in_torch(x: np.ndarray) -> Callable[[], None]:
    """An epoch in plain PyTorch."""
    import torch
    from torch import nn

    act = nn.SiLU()
    net = nn.Sequential(nn.Linear(64, 128), act, nn.Linear(128, 128), act, nn.Linear(128, 1))
    optim = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    data = torch.as_tensor(x)

    def epoch() -> None:
        for rows in torch.randperm(len(data)).split(BATCH):
            real = data[rows]
            chain = real.clone()
            for _ in range(NUM_STEPS):
                chain.requires_grad_()
                (slope,) = torch.autograd.grad(net(chain).sum(), chain)
                noise = STEP_SIZE * torch.randn_like(chain)
                chain = chain.detach() - 0.5 * STEP_SIZE**2 * slope + noise
            optim.zero_grad()
            (net(real).mean() - net(chain).mean()).backward()
            optim.step()

    return epoch


def by_hand_in_jax(x: np.ndarray) -> Callable[[], None]:
    """An epoch in plain JAX."""
    import jax
    import jax.numpy as jnp
    import optax

    key = jax.random.key(0)
    sizes = (64, 128, 128, 1)
    keys = jax.random.split(key, 3)
    params = [
        (jax.random.uniform(k, (a, b), minval=-(a**-0.5), maxval=a**-0.5), jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    optim, data = optax.adam(1e-3), jnp.asarray(x)

    def net(params: Any, x: Any) -> Any:
        for weight, bias in params[:-1]:
            x = jax.nn.silu(x @ weight + bias)
        return (x @ params[-1][0] + params[-1][1])[:, 0]

    def step(carry: Any, inputs: Any) -> Any:
        params, state = carry
        rows, key = inputs
        real = data[rows]
        slope = jax.grad(lambda x: net(params, x).sum())

        def move(x: Any, noise: Any) -> Any:
            return x - 0.5 * STEP_SIZE**2 * slope(x) + STEP_SIZE * noise, None

        noise = jax.random.normal(key, (NUM_STEPS, *real.shape))
        chain, _ = jax.lax.scan(move, real, noise)
        cost = jax.grad(lambda params: net(params, real).mean() - net(params, chain).mean())
        updates, state = optim.update(cost(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(carry: Any, key: Any) -> Any:
        order, noise = jax.random.split(key)
        rows = jax.random.permutation(order, len(data))
        rows = rows[: len(data) // BATCH * BATCH].reshape(-1, BATCH)
        return jax.lax.scan(step, carry, (rows, jax.random.split(noise, len(rows))))[0]

    held = [(params, optim.init(params)), key]

    def epoch() -> None:
        held[1] = jax.random.fold_in(held[1], 1)
        held[0] = run(*held)
        jax.block_until_ready(held[0])

    return epoch


def speed(name: str, epochs: int) -> dict[str, Any]:
    """The median ratio of paired epochs."""
    lib = Library(name)
    x = np.random.default_rng(0).standard_normal((NUM_BATCHES * BATCH, 64)).astype(np.float32)
    net = lib.build(lib.nn.MLP, 64, (128, 128), 1, activation="silu")
    kernel = lib.mcmc.Langevin(STEP_SIZE, NUM_STEPS)
    by_hand = (by_hand_in_torch if name == "pyro" else by_hand_in_jax)(x)
    by_hand()
    times: list[tuple[float, float]] = []
    last = [time.perf_counter()]

    def paired(run: Any) -> None:
        ours = time.perf_counter() - last[0]
        begin = time.perf_counter()
        by_hand()
        times.append((ours, time.perf_counter() - begin))
        last[0] = time.perf_counter()

    lib.package.fit(
        lib.density(lib.conditionals.Energy(64, net)),
        None,
        x,
        loss=lib.losses.ContrastiveDivergence("x", kernel=kernel),
        optim=lib.package.Adam(1e-3),
        num_epochs=epochs,
        batch_size=BATCH,
        callbacks=[paired],
        progress=False,
    )
    kept = times[2:]
    ratio = statistics.median(ours / theirs for ours, theirs in kept)
    ours, theirs = (statistics.median(pair[i] for pair in kept) / NUM_BATCHES * 1e3 for i in (0, 1))
    limit = 1.0 if name == "pyro" else 1.1
    return {"backend": name, "fit, ms": ours, "by hand, ms": theirs, "ratio": ratio, "limit": limit}


def plane(name: str, toy: str, steps: int, average: bool, folder: Path) -> dict[str, Any]:
    """Held-out log p of a density in the plane, by both ends of ln Z."""
    lib = Library(name)
    train, test = (TOYS[toy](5000, seed) / 2 for seed in (0, 1))
    net = lib.build(lib.nn.MLP, 2, (128, 128), 1, activation="silu")
    density = lib.conditionals.Tilted(lib.conditionals.StandardNormal(2), net)
    chains = lib.losses.Persistent(1000, per_step=250, restart=0.02)
    loss = lib.losses.ContrastiveDivergence(
        "x", kernel=lib.mcmc.MALA(0.15), steps=20, chains=chains
    )
    settings = {"optim": lib.package.Adam(1e-3), "num_steps": steps, "batch_size": 250}
    if average:
        settings |= {"average": 0.999, "lr_schedule": Schedule((0, steps), (1.0, 0.02))}
    begin = time.perf_counter()
    run = lib.package.fit(lib.density(density), None, train, loss=loss, progress=False, **settings)
    seconds = time.perf_counter() - begin
    bounds = lib.evaluation.annealed_log_z(
        run, train[:2], site="x", steps=500, chains=2_000, progress=False
    )
    row: dict[str, Any] = {"backend": name, "data": toy, "steps": steps, "average": average}
    row["seconds"] = seconds
    for end, log_z in (("lower", bounds.lower[0]), ("upper", bounds.upper[0])):
        stated = lib.evaluation.normalized(run, {"x": float(log_z)})
        row[f"ln Z, {end}"] = float(log_z)
        row[f"log p, {end} ln Z"] = float(
            lib.evaluation.log_weights(stated, test, num_particles=1).mean()
        )
    true = np.asarray(TRUE[toy](2 * test)) + np.log(4.0) if toy in TRUE else np.array(np.nan)
    row["log p, true"] = float(true.mean())
    axis = np.linspace(-2.5, 2.5, 120).astype(np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    values = lib.evaluation.log_weights(stated, grid, num_particles=1)[0]
    row["mass on the grid"] = float(np.exp(values).sum() * (axis[1] - axis[0]) ** 2)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), sharex=True, sharey=True)
    left.scatter(*test.T, s=2, alpha=0.4)
    left.set_title("held-out data")
    right.pcolormesh(axis, axis, np.exp(values).reshape(120, 120))
    right.set_title("density of the energy")
    for axes in (left, right):
        axes.set_aspect("equal")
    figure.tight_layout()
    figure.savefig(folder / f"energy_{toy}_{steps}{'_average' * average}.png", dpi=80)
    return row


def prior(name: str, kind: str, seed: int, epochs: int) -> dict[str, Any]:
    """The held-out bound of a VAE of digits."""
    lib = Library(name, seed)
    digits = load("digits")
    train, test = (
        (images.reshape(-1, 64) > 0.5).astype(np.float32) for images in (digits.train, digits.test)
    )
    normal = lib.conditionals.StandardNormal(8)
    loss = lib.losses.ELBO()
    chosen = normal
    if kind == "tilted":
        net = lib.build(lib.nn.MLP, 8, (128, 128), 1, activation="silu")
        chosen = lib.conditionals.Tilted(normal, net)
        loss += lib.losses.ContrastiveDivergence(
            "z",
            kernel=lib.mcmc.MALA(0.4),
            steps=20,
            chains=lib.losses.Persistent(256),
            log_z=500,
        )
    vae = lib.build(lib.package.VAE, 64, 8, hidden=(200,), prior=chosen)
    settings = {"optim": lib.package.Adam(1e-3), "num_epochs": epochs, "batch_size": 128}
    begin = time.perf_counter()
    run = lib.package.fit(
        vae.model, vae.guide, train, loss=loss, seed=seed, progress=False, **settings
    )
    row: dict[str, Any] = {"backend": name, "prior": kind, "seed": seed}
    row["seconds"] = time.perf_counter() - begin
    if kind == "tilted":
        bounds = lib.evaluation.annealed_log_z(
            run, train[:2], site="z", steps=500, chains=200, progress=False
        )
        row |= {"ln Z, lower": float(bounds.lower[0]), "ln Z, upper": float(bounds.upper[0])}
        run = lib.evaluation.normalized(run, {"z": row["ln Z, upper"]})
    log_w = lib.evaluation.log_weights(run, test, num_particles=200)
    row |= {"ELBO": float(log_w.mean()), "IWAE-200": float(iwae_bound(log_w).mean())}
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("speed", "plane", "prior"))
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--steps", type=int, nargs="+", default=[4000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--toys", nargs="+", default=["two_moons", "eight_gaussians"])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--out", type=Path, help="a folder for rows, one by one, and pictures")
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in options.backends:
        if options.what == "speed":
            rows.append(speed(name, options.epochs))
        elif options.what == "plane":
            for toy, steps, average in product(options.toys, options.steps, (False, True)):
                rows.append(plane(name, toy, steps, average, options.out or RECORD.parent))
                print(rows[-1], flush=True)
                if options.out:
                    write_json(options.out / "energy_plane.json", {"rows": rows})
        else:
            for seed in range(options.seeds):
                for kind in ("standard normal", "tilted"):
                    rows.append(prior(name, kind, seed, options.epochs))
                    print(rows[-1], flush=True)
                    if options.out:
                        write_json(options.out / "energy_prior.json", {"rows": rows})
    table = format_table(rows)
    print(table)
    if options.record:
        text = RECORD.read_text() if RECORD.exists() else "# Energies\n"
        RECORD.write_text(f"{text}\n## {options.what}\n\n```\n{table}\n```\n")
    late = [row for row in rows if row.get("ratio", 0) > row.get("limit", 1)]
    return int(bool(late))


if __name__ == "__main__":
    raise SystemExit(main())
