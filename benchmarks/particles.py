"""FIVO against IWAE and ELBO as sequences get longer, where log p(x) is known; and what a step of
training by FIVO takes beside one written by hand.

    python benchmarks/particles.py bounds | times | show

z_1 ~ Normal(0, 1), z_t = 0.9 z_{t-1} + Normal(0, 0.25), x_t = z_t + 0.1 + Normal(0, 0.49), with
the bootstrap proposal.  `bounds` records each length as it is done and goes on from there; `show`
writes the table and the picture.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax

from dgm_core.results import format_table
from numpyro_dgm.losses import ELBO, FIVO, IWAE
from numpyro_dgm.sequences import unroll

RESULTS = Path(__file__).parent / "results"
LENGTHS, SERIES, K = (5, 10, 20, 40, 80, 160, 320), 200, 16
A, Q, R, SHIFT = 0.9, 0.25, 0.49, 0.1
LOSSES = {
    "ELBO": ELBO(num_particles=K),
    f"IWAE, K = {K}": IWAE(K),
    f"IWAE, K = {16 * K}": IWAE(16 * K),
    f"FIVO, K = {K}, always": FIVO(K, resample="always"),
    f"FIVO, K = {K}, ESS < K / 2": FIVO(K, resample=0.5),
    f"FIVO, K = {K}, ESS < K / 2, systematic": FIVO(K, resample=0.5, scheme="systematic"),
    f"FIVO, K = {16 * K}, ESS < K / 2": FIVO(16 * K, resample=0.5),
}


def programs(gain: Any = A) -> tuple[Callable, Callable]:
    """The model, and the same transition as guide."""

    def step(last: Any, first: Any, x_t: Any, *, model: bool) -> Any:
        scale = jnp.where(first > 0, 1.0, Q**0.5)
        z = numpyro.sample("z", dist.Normal(gain * last, scale).to_event(1))
        if model:
            numpyro.sample("x", dist.Normal(z + SHIFT, R**0.5).to_event(1), obs=x_t)
        return z

    def program(x: Any, model: bool) -> None:
        first = (jnp.arange(x.shape[1]) == 0)[:, None].astype(float)
        with numpyro.plate("data", len(x)):
            unroll(lambda *now: step(*now, model=model), jnp.zeros(1), x, inputs=first)

    return lambda x: program(x, True), lambda x: program(x, False)


def series(length: int) -> np.ndarray:
    """Data of the model (SERIES, length, 1); the shorter are the beginnings of the longer."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((max(LENGTHS), 2, SERIES))
    z, x = noise[0, 0], []
    for t in range(length):
        z = z if t == 0 else A * z + Q**0.5 * noise[t, 0]
        x.append(z + SHIFT + R**0.5 * noise[t, 1])
    return np.stack(x, 1)[..., None]


def evidence(x: np.ndarray) -> np.ndarray:
    """log p of each series, by the Kalman filter."""
    mean, variance, total = np.zeros(len(x)), 1.0, np.zeros(len(x))
    for t in range(x.shape[1]):
        if t:
            mean, variance = A * mean, A**2 * variance + Q
        spread = variance + R
        rest = x[:, t, 0] - mean - SHIFT
        total -= 0.5 * (np.log(2 * np.pi * spread) + rest**2 / spread)
        mean, variance = mean + variance / spread * rest, variance * R / spread
    return total


def bounds(repeats: int = 20) -> None:
    """The gap of each bound to log p(x) per step, over the series and repeats."""
    place = RESULTS / "particles.json"
    known = json.loads(place.read_text()) if place.exists() else {}
    model, guide = programs()
    for length in LENGTHS:
        x = series(length)
        exact = evidence(x).mean()
        for name, loss in LOSSES.items():
            if f"{name} @ {length}" in known:
                continue

            def value(key: Any, loss: Any = loss, x: Any = x) -> Any:
                return -loss.evaluate(key, {}, model, guide, (jnp.asarray(x),)).per_datum

            run = jax.jit(value)
            found = [float(run(jax.random.key(seed))) for seed in range(repeats)]
            gap = (exact - np.array(found)) / length
            error = gap.std(ddof=1) / repeats**0.5
            known[f"{name} @ {length}"] = [gap.mean(), error]
            place.write_text(json.dumps(known, indent=1))
            print(length, name, gap.mean(), error, flush=True)


def times(rounds: int = 9, batch: int = 20, length: int = 32) -> None:
    """Processor time of a step: forward, backward, Adam; K particles, systematic, always."""
    x, optim = jnp.asarray(series(length)[:batch]), optax.adam(1e-3)
    loss = FIVO(K, resample="always", scheme="systematic")

    def ours(params: Any, key: Any) -> Any:
        return loss.evaluate(key, {}, *programs(params["gain"]), (x,)).per_datum

    def by_hand(params: Any, key: Any) -> Any:
        def step(carry: Any, now: Any) -> Any:
            z, first, (x_t, key) = carry[0], carry[1], now
            keys = jax.random.split(key)
            scale = jnp.where(first, 1.0, Q**0.5)
            z = params["gain"] * z + scale * jax.random.normal(keys[0], z.shape)
            log_w = dist.Normal(z + SHIFT, R**0.5).log_prob(x_t)
            weights = jax.nn.softmax(jax.lax.stop_gradient(log_w), 0).cumsum(0)
            points = (jnp.arange(K)[:, None] + jax.random.uniform(keys[1], (batch,))) / K
            search = jax.vmap(lambda w, u: jnp.searchsorted(w, u, side="right"), (1, 1), 1)
            index = search(weights, points).clip(max=K - 1)
            total = jax.nn.logsumexp(log_w, 0) - np.log(K)
            return (jnp.take_along_axis(z, index, 0), False), total

        keys = jax.random.split(key, length)
        start = jnp.zeros((K, batch)), True
        return -jax.lax.scan(step, start, (x[..., 0].T, keys))[1].sum(0).mean()

    def stepper(function: Callable) -> Callable:
        def step(params: Any, state: Any, key: Any) -> Any:
            value, slope = jax.value_and_grad(function)(params, key)
            change, state = optim.update(slope, state)
            return optax.apply_updates(params, change), state, value

        return jax.jit(step)

    steps = {"FIVO": stepper(ours), "scan by hand": stepper(by_hand)}
    params = {"gain": jnp.asarray(A)}
    found: dict[str, list[float]] = {name: [] for name in steps}
    values = {}
    for _ in range(rounds):
        for name, step in steps.items():
            state = optim.init(params)
            out = step(params, state, jax.random.key(0))
            jax.block_until_ready(out)
            start = time.process_time()
            for seed in range(50):
                out = step(params, state, jax.random.key(seed))
                jax.block_until_ready(out)
            found[name].append((time.process_time() - start) / 50 * 1e3)
            values[name] = float(out[2])
    ratio = np.median(np.array(found["FIVO"]) / np.array(found["scan by hand"]))
    rows = [
        {"step": n, "ms": round(float(np.median(t)), 2), "bound": -values[n]}
        for n, t in found.items()
    ]
    text = f"{format_table(rows)}\n\nratio {ratio:.2f}, K = {K}, batch {batch}, T = {length}"
    (RESULTS / "particles_times.txt").write_text(text + "\n")
    print(text)


def show() -> None:
    """The table and the picture."""
    known = json.loads((RESULTS / "particles.json").read_text())
    fig, ax = plt.subplots(figsize=(6.4, 5.0), layout="constrained")
    rows = []
    for name in LOSSES:
        lengths = [length for length in LENGTHS if f"{name} @ {length}" in known]
        gaps, errors = np.array([known[f"{name} @ {length}"] for length in lengths]).T
        style = "--" if name.startswith("IWAE") else ":" if name == "ELBO" else "-"
        ax.errorbar(lengths, gaps, 2 * errors, fmt=style, marker="o", ms=3, label=name)
        cells = {f"T = {t}": f"{g:.4f}" for t, g in zip(lengths, gaps, strict=True)}
        rows.append({"bound": name, **cells})
    ax.set(xscale="log", yscale="log", xlabel="length T")
    ax.set_ylabel("nats per step below log p(x)")
    ax.set_xticks(LENGTHS, [str(length) for length in LENGTHS], minor=False)
    ax.minorticks_off()
    fig.legend(loc="outside upper center", ncols=2, fontsize=8)
    fig.savefig(RESULTS / "particles.png", dpi=150)
    text = Path(__file__).read_text().split('"""')[1].strip().split("\n\n")
    speed = RESULTS / "particles_times.txt"
    parts = [
        "# Particle bounds as sequences get longer",
        text[2].split("  `bounds`")[0],
        f"{SERIES} series, 20 repeats; what each bound is below the mean of log p(x), in nats per\n"
        "step (NumPyro; in the picture with two standard errors).",
        f"```\n{format_table(rows)}\n```",
        "![nats per step below the evidence](particles.png)",
        "A step of training by FIVO, processor time (medians of 9 rounds in turn, one thread):",
        f"```\n{speed.read_text().strip()}\n```" if speed.exists() else "",
    ]
    (RESULTS / "particles.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("bounds", "times", "show"))
    {"bounds": bounds, "times": times, "show": show}[parser.parse_args().what]()
