"""Speed of a diffusion's steps and sampler beside ones written by hand in the same framework.

    python benchmarks/diffusion_step.py [--backends pyro numpyro] [--epochs 9] [--record]
    python benchmarks/diffusion_step.py --device cuda [--out FOLDER]

Protocol: data of 64 numbers, a network of 256-256-256 with 32 features of the time, VP(1000),
batches of 128, 320 an epoch, one thread, float32. "bound" is `fit` with `DenoisingELBO` and Adam,
beside the same weighted error of the noise, prior and constants written down over a plain network;
"error" is `DenoisingError`. "ancestral" and "ddim" are 256 draws by 50 steps, beside a plain loop
with coefficients that were computed before. Milliseconds of processor time for each step, the least
of so many epochs or draws, one of ours and one by hand in turns; what is compiled is compiled
before. Steps of Pyro are compiled, as `fit` does where a run is long enough. Target: 1.05. With
--device cuda times are those of a clock on the wall, with the device waited for, Pyro's steps
compiled and plain.
"""

import argparse
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.diffusion import VP
from dgm_core.diffusion_steps import steps_between
from dgm_core.results import format_table, write_json

RECORD = Path(__file__).parent / "results" / "diffusion_step.md"
DIM, HIDDEN, BATCH, STEPS, DRAWS = 64, (256, 256, 256), 128, 320, 256
SCHEDULE = VP(1000)
FREQUENCIES = np.geomspace(1.0, 100.0, 16).astype(np.float32)


def coefficients(num_steps: int) -> Any:
    """Of the steps of a chain, float32."""
    steps = steps_between(SCHEDULE.times(num_steps), *SCHEDULE.levels(num_steps))
    return type(steps)(*(np.asarray(part, np.float32) for part in steps))


def weights_of(steps: Any) -> tuple[np.ndarray, float]:
    """What the squared errors of the noise count in the bound with variance="large", and what is
    added."""
    weight = (steps.data * steps.sigma / steps.alpha) ** 2 / steps.large / 2
    ratio = steps.small[1:] / steps.large[1:]
    rest = (ratio - np.log(ratio) - 1).sum() + math.log(2 * math.pi) + np.log(steps.large[0])
    return weight.astype(np.float32), float(DIM * rest / 2)


def torch_by_hand(x: np.ndarray) -> dict[str, Callable[[], None]]:
    """Epochs and draws in plain PyTorch."""
    import torch
    from torch import nn

    sizes = (DIM + 32, *HIDDEN)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
    net = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], DIM))
    optim, data = torch.optim.Adam(net.parameters(), 1e-3, fused=True), torch.as_tensor(x)
    steps = type(coefficients(1000))(*map(torch.as_tensor, coefficients(1000)))
    weight, rest = weights_of(coefficients(1000))
    weight, frequencies = torch.as_tensor(weight), torch.as_tensor(FREQUENCIES)
    last_alpha, last_variance = steps.alpha[-1], steps.sigma[-1] ** 2

    def noise(x: Any, t: Any) -> Any:
        angles = t[:, None] * frequencies
        return net(torch.cat((x, angles.sin(), angles.cos()), -1))

    def epoch(bound: bool) -> None:
        for rows in torch.randperm(len(data)).split(BATCH):
            batch = data[rows]
            index = torch.randint(0, 1000, (BATCH,))
            eps = torch.randn_like(batch)
            x_t = steps.alpha[index, None] * batch + steps.sigma[index, None] * eps
            error = (eps - noise(x_t, steps.t[index])) ** 2
            if bound:
                prior = last_variance - 1 + (last_alpha * batch) ** 2 - last_variance.log()
                loss = 1000 * (weight[index] * error.sum(1)).mean() + prior.sum(1).mean() / 2 + rest
            else:
                loss = error.mean()
            optim.zero_grad()
            loss.backward()
            optim.step()
            loss.item()

    few = coefficients(50)
    own = [(*(float(part[i]) for part in few), float(few.floor[i]) ** 0.5) for i in range(50)]

    @torch.no_grad()
    def draw(ddim: bool) -> None:
        x = torch.randn(DRAWS, DIM)
        for i in range(49, -1, -1):
            t, alpha, sigma, alpha_below, sigma_below, to_data, to_noisy, *_, scale = own[i]
            eps = noise(x, torch.full((DRAWS,), t))
            clean = (x - sigma * eps) / alpha
            if ddim:
                x = alpha_below * clean + sigma_below * eps
            else:
                x = to_data * clean + to_noisy * x
                x = x + scale * torch.randn_like(x) if i else x

    return {
        "bound": lambda: epoch(True),
        "error": lambda: epoch(False),
        "ancestral": lambda: draw(False),
        "ddim": lambda: draw(True),
    }


def jax_by_hand(x: np.ndarray) -> dict[str, Callable[[], None]]:
    """Epochs and draws in plain JAX."""
    import jax
    import jax.numpy as jnp
    import optax

    sizes = (DIM + 32, *HIDDEN, DIM)
    keys = jax.random.split(jax.random.key(0), len(sizes))
    first = [
        (jax.random.uniform(key, (b, a), minval=-(a**-0.5), maxval=a**-0.5), jnp.zeros(b))
        for key, a, b in zip(keys, *zip(*pairwise(sizes)))
    ]
    optim, data = optax.adam(1e-3), jax.device_put(x)
    steps = type(coefficients(1000))(*map(jnp.asarray, coefficients(1000)))
    weight, rest = weights_of(coefficients(1000))
    weight = jnp.asarray(weight)
    last_alpha, last_variance = steps.alpha[-1], steps.sigma[-1] ** 2

    def noise(params: Any, x: Any, t: Any) -> Any:
        angles = t[:, None] * FREQUENCIES
        h = jnp.concatenate((x, jnp.sin(angles), jnp.cos(angles)), -1)
        for w, b in params[:-1]:
            h = jax.nn.silu(h @ w.T + b)
        return h @ params[-1][0].T + params[-1][1]

    def loss_of(params: Any, batch: Any, key: Any, bound: bool) -> Any:
        keys = jax.random.split(key)
        index = jax.random.randint(keys[0], (BATCH,), 0, 1000)
        eps = jax.random.normal(keys[1], batch.shape)
        x_t = steps.alpha[index, None] * batch + steps.sigma[index, None] * eps
        error = (eps - noise(params, x_t, steps.t[index])) ** 2
        if not bound:
            return error.mean()
        prior = last_variance - 1 + (last_alpha * batch) ** 2 - jnp.log(last_variance)
        return 1000 * (weight[index] * error.sum(1)).mean() + prior.sum(1).mean() / 2 + rest

    def epoch_of(bound: bool) -> Callable[[], None]:
        @jax.jit
        def epoch(carry: Any, key: Any) -> Any:
            def step(carry: Any, here: Any) -> Any:
                params, state = carry
                loss, slope = jax.value_and_grad(loss_of)(params, data[here[0]], here[1], bound)
                change, state = optim.update(slope, state, params)
                return (optax.apply_updates(params, change), state), loss

            order_key, step_key = jax.random.split(key)
            order = jax.random.permutation(order_key, len(data)).reshape(-1, BATCH)
            return jax.lax.scan(step, carry, (order, jax.random.split(step_key, len(order))))

        state = [(first, optim.init(first))]

        def run() -> None:
            state[0], losses = epoch(state[0], jax.random.key(0))
            losses.block_until_ready()

        return run

    few = type(steps)(*map(jnp.asarray, coefficients(50)))

    def draw_of(ddim: bool) -> Callable[[], None]:
        @jax.jit
        def draw(params: Any, key: Any) -> Any:
            def down(x: Any, here: Any) -> Any:
                own, key, last = here
                eps = noise(params, x, jnp.full(DRAWS, own.t))
                clean = (x - own.sigma * eps) / own.alpha
                if ddim:
                    return own.alpha_below * clean + own.sigma_below * eps, None
                mean = own.data * clean + own.noisy * x
                more = own.floor**0.5 * jax.random.normal(key, x.shape)
                return jnp.where(last, mean, mean + more), None

            start, keys = jax.random.normal(key, (DRAWS, DIM)), jax.random.split(key, 50)
            backwards = jax.tree.map(lambda part: part[::-1], few)
            return jax.lax.scan(down, start, (backwards, keys, jnp.arange(50) == 49))[0]

        return lambda: draw(first, jax.random.key(0)).block_until_ready()

    return {
        "bound": epoch_of(True),
        "error": epoch_of(False),
        "ancestral": draw_of(False),
        "ddim": draw_of(True),
    }


def measure(
    backend: str, num_epochs: int, device: str = "cpu", compiled: bool = True
) -> list[dict[str, Any]]:
    """A row for each of the four."""
    clock, finish = time.process_time, lambda: None
    if device == "cuda":
        clock = time.perf_counter
    x = np.random.default_rng(0).standard_normal((STEPS * BATCH, DIM)).astype(np.float32)
    settings: dict[str, Any] = {}
    if backend == "pyro":
        import pyro
        import torch
        from pyro import plate, sample

        import pyro_dgm as package

        torch.set_num_threads(1)
        torch.set_default_device(device)
        if device == "cuda":
            finish = torch.cuda.synchronize  # type: ignore[assignment]
        pyro.enable_validation(False)
        hand, own = torch_by_hand(x), {}
        settings["compile"] = compiled
    else:
        import jax
        from numpyro import plate, sample

        import numpyro_dgm as package  # type: ignore[no-redef]

        hand, own = jax_by_hand(x), {"key": jax.random.key(0)}
    made = package.conditionals.Diffusion
    net = made(DIM, hidden=HIDDEN, schedule=SCHEDULE, variance="large", **own)

    def model(x: Any) -> None:
        with plate("data", len(x)):
            sample("x", package.nn.register("net", net)(), obs=x)

    rows = []
    losses = {"bound": package.losses.DenoisingELBO, "error": package.losses.DenoisingError}
    for name, loss in losses.items():
        times: dict[str, list[float]] = {"ours": [], "by hand": []}
        marks = [clock()]

        def alternate(run: Any, name: str = name, times: Any = times, marks: Any = marks) -> None:
            finish()
            began = clock()
            times["ours"].append(began - marks[0])
            hand[name]()
            finish()
            times["by hand"].append(clock() - began)
            marks[0] = clock()

        package.fit(
            model,
            None,
            x,
            loss=loss("x"),
            batch_size=BATCH,
            num_epochs=num_epochs + 2,
            callbacks=(alternate,),
            progress=False,
            **settings,
        )
        rows.append(row(backend, name, times, 2, STEPS))
    small = made(DIM, hidden=HIDDEN, schedule=SCHEDULE, **own)
    for method in ("ancestral", "ddim"):
        how = {"method": method, "num_steps": 50}
        if backend == "pyro":
            draw: Callable[[], Any] = lambda how=how: small().sample((DRAWS,), **how)  # noqa: E731
        else:
            jitted = jax.jit(lambda net, key, how=how: net().sample(key, (DRAWS,), **how))
            draw = lambda jitted=jitted: jitted(small, own["key"]).block_until_ready()  # noqa: E731
        times = {"ours": [], "by hand": []}
        for _ in range(num_epochs + 2):
            for who, run in (("ours", draw), ("by hand", hand[method])):
                began = clock()
                run()
                finish()
                times[who].append(clock() - began)
        rows.append(row(backend, method, times, 2, 50))
    return rows


def row(backend: str, name: str, times: Any, skip: int, steps: int) -> dict[str, Any]:
    """The least of the times after the first ones, and their ratio."""
    ours, theirs = (1e3 * min(times[who][skip:]) / steps for who in ("ours", "by hand"))
    return {
        "what": name,
        "backend": backend,
        "ours": ours,
        "by hand": theirs,
        "ratio": ours / theirs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", default=["pyro", "numpyro"])
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="a folder for the rows, one by one")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    plain = [("pyro", False)] if arguments.device == "cuda" and "pyro" in arguments.backends else []
    for name, compiled in [(name, True) for name in arguments.backends] + plain:
        for found in measure(name, arguments.epochs, arguments.device, compiled):
            rows.append({**found, "what": found["what"] + ", plain" * (not compiled)})
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            write_json(arguments.out / f"diffusion_step_{arguments.device}.json", {"rows": rows})
    text = format_table(rows)
    print(text)
    if arguments.record:
        protocol = (__doc__ or "").split("Protocol: ")[1].strip()
        head = ["# Steps and draws of a diffusion", "", protocol, "", "2 shared CPU cores.", ""]
        RECORD.write_text("\n".join([*head, "```", text, "```", ""]))


if __name__ == "__main__":
    main()
