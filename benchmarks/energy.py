"""Energies: a step of contrastive divergence beside a hand-written one, densities in the plane with
an interval of ln Z, and a tilted prior of digits.

    python benchmarks/energy.py speed [--backends pyro numpyro] [--epochs 9] [--record]
    python benchmarks/energy.py plane [--backends pyro] [--steps 4000] [--seeds 0 1 2] [--record]
    python benchmarks/energy.py prior [--backends pyro] [--epochs 300] [--seeds 0 1 2] [--record]

speed: CD-20 (20 Langevin steps from the data) of an MLP 64-128-128-1 on batches of 128. The
hand-written step is eager PyTorch, or one jitted `lax.scan` over shuffled minibatches with the
chain scanned within; same network, chains, optimizer. Each epoch of `fit` is paired with a
hand-written epoch run right after it, from a callback; the median of the ratios of processor times
is reported. Limits: 1.1 in JAX, 1.0 in PyTorch.

plane: a tilted normal density, 500 persistent chains of 10 steps of MALA(0.2), batches of 500, Adam
3e-3 falling to 3e-5, a moving average of the weights; mean log p of held-out data and of the truth
there, with the standard error of the difference; ln Z from both sides with the errors of its 2,000
chains of 200 temperatures, and by the mass on a grid of [-2.5, 2.5]^2; and a picture. With
--constant the rate stays and weights are not averaged.

prior: VAE of binarized digits with 8 codes and a standard normal or a tilted prior, all else equal
(the second half of the training with a falling rate, averaged weights); the held-out bound (IWAE
of 200 draws), of the tilted one by the upper end of the interval of ln Z, and what it gains over
the normal one with the standard error of the paired difference.
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
            import torch

            torch.set_num_threads(1)
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
    last = [time.process_time()]

    def paired(run: Any) -> None:
        ours = time.process_time() - last[0]
        begin = time.process_time()
        by_hand()
        times.append((ours, time.process_time() - begin))
        last[0] = time.process_time()

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


def plane(
    name: str, toy: str, seed: int, steps: int, constant: bool, folder: Path
) -> dict[str, Any]:
    """Held-out log p of a density in the plane, and ln Z from both sides."""
    lib = Library(name, seed)
    train, test = (TOYS[toy](5000, seed + part) / 2 for part in (0, 1))
    net = lib.build(lib.nn.MLP, 2, (128, 128), 1, activation="silu")
    density = lib.conditionals.Tilted(lib.conditionals.StandardNormal(2), net)
    loss = lib.losses.ContrastiveDivergence(
        "x", kernel=lib.mcmc.MALA(0.2), steps=10, chains=lib.losses.Persistent(500)
    )
    settings = {"optim": lib.package.Adam(3e-3), "num_steps": steps, "batch_size": 500}
    if not constant:
        settings |= {"average": 0.999, "lr_schedule": Schedule((0, steps), (1.0, 0.01))}
    begin = time.process_time()
    run = lib.package.fit(
        lib.density(density), None, train, loss=loss, seed=seed, progress=False, **settings
    )
    row: dict[str, Any] = {"backend": name, "data": toy, "seed": seed, "constant": constant}
    row["processor, s"] = time.process_time() - begin
    bounds = interval(lib, run, train, "x")
    stated = lib.evaluation.normalized(run, {"x": float(bounds.lower[0])})
    axis = np.linspace(-2.5, 2.5, 200).astype(np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    values, log_p = (
        lib.evaluation.log_weights(stated, x, num_particles=1)[0] for x in (grid, test)
    )
    off = float(np.log(np.exp(values).sum() * (axis[1] - axis[0]) ** 2))
    row |= stated_interval(bounds) | {"by the grid": float(bounds.lower[0]) + off}
    true = np.asarray(TRUE[toy](2 * test)) + np.log(4.0)
    below = true - (np.asarray(log_p) - off)
    row |= {"log p": float(log_p.mean()) - off, "log p, true": float(true.mean())}
    row |= {"below": float(below.mean()), "error": float(below.std() / len(below) ** 0.5)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), sharex=True, sharey=True)
    left.scatter(*test.T, s=2, alpha=0.4)
    left.set_title("held-out data")
    right.pcolormesh(axis, axis, np.exp(values).reshape(200, 200))
    right.set_title("density of the energy")
    for axes in (left, right):
        axes.set_aspect("equal")
    figure.tight_layout()
    figure.savefig(folder / f"energy_{toy}{'_constant' * constant}.png", dpi=80)
    plt.close(figure)
    return row


def interval(lib: Library, run: Any, data: np.ndarray, site: str) -> Any:
    """ln Z of a site from both sides."""
    return lib.evaluation.annealed_log_z(
        run, data[:2], site=site, steps=200, chains=2_000, progress=False
    )


def stated_interval(bounds: Any) -> dict[str, float]:
    """Columns of an interval of ln Z."""
    names = {"ln Z, lower": "AIS", "its error": "AIS error"}
    names |= {"ln Z, upper": "reverse AIS", "its error ": "reverse AIS error"}
    return {column: float(np.ravel(bounds[name])[0]) for column, name in names.items()}


def prior(name: str, kind: str, seed: int, epochs: int) -> tuple[dict[str, Any], np.ndarray]:
    """The held-out bound of a VAE of digits, and that of each of them."""
    lib = Library(name, seed)
    digits = load("digits")
    train, test = (
        (images.reshape(-1, 64) > 0.5).astype(np.float32) for images in (digits.train, digits.test)
    )
    normal = lib.conditionals.StandardNormal(8)
    loss, chosen = lib.losses.ELBO(), normal
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
    lib.count = 1000 * seed  # the same networks beside either prior
    vae = lib.build(lib.package.VAE, 64, 8, hidden=(200,), prior=chosen)
    steps = epochs * -(-len(train) // 128)
    settings = {"optim": lib.package.Adam(1e-3), "num_epochs": epochs, "batch_size": 128}
    settings |= {"average": 0.999, "lr_schedule": Schedule((0, steps // 2, steps), (1, 1, 0.02))}
    begin = time.process_time()
    run = lib.package.fit(
        vae.model, vae.guide, train, loss=loss, seed=seed, progress=False, **settings
    )
    row: dict[str, Any] = {"backend": name, "prior": kind, "seed": seed}
    row["processor, s"] = time.process_time() - begin
    if kind == "tilted":
        row |= stated_interval(interval(lib, run, train, "z"))
        run = lib.evaluation.normalized(run, {"z": row["ln Z, upper"]})
    log_w = lib.evaluation.log_weights(run, test, num_particles=200)
    found = np.asarray(iwae_bound(log_w))
    row |= {"ELBO": float(log_w.mean()), "IWAE-200": float(found.mean())}
    return row, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("speed", "plane", "prior"))
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--epochs", type=int, help="9 of speed, 300 of prior when left out")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--constant", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--toys", nargs="+", default=["two_moons", "eight_gaussians"])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--out", type=Path, help="a folder for rows, one by one, and pictures")
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in options.backends:
        if options.what == "speed":
            rows.append(speed(name, options.epochs or 9))
        elif options.what == "plane":
            folder = options.out or RECORD.parent
            for toy, seed in product(options.toys, options.seeds):
                rows.append(plane(name, toy, seed, options.steps, options.constant, folder))
                print(rows[-1], flush=True)
                if options.out:
                    write_json(options.out / "energy_plane.json", {"rows": rows})
        else:
            for seed in options.seeds:
                bounds = {}
                for kind in ("standard normal", "tilted"):
                    row, bounds[kind] = prior(name, kind, seed, options.epochs or 300)
                    rows.append(row)
                    gain = bounds[kind] - bounds["standard normal"]
                    row |= {
                        "gain": float(gain.mean()),
                        "error": float(gain.std()) / len(gain) ** 0.5,
                    }
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
