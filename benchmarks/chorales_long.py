"""Deep Markov models and a VRNN of the JSB chorales, trained for as long as the clock allows,
several runs at once: the bound on a held-out test set, in nats per time step.

    python benchmarks/chorales_long.py --guide combiner --size published --seconds 350
    --out runs/long --name combiner [--runs seed=0,lr=1e-3,l2=0.1 seed=1]
    python benchmarks/chorales_long.py --report

NumPyro, for an accelerator: the runs of one process differ in seed, learning rate, `l2` (added to
the gradient of the loss per sequence: times 20 it is the weight decay of Pyro's example, 2.0 on a
batch of 20) and `shift` (every training sequence is transposed by up to so many semitones), and
step together. Data, models and bounds are those of `chorales.py`. A batch has 64 sequences, drawn
from those of at most 66 steps or from the longer ones, as often as either are in the data. Adam,
gradients clipped at norm 10, steps left out where one is not finite; the KL part is raised from 0.2
to 1, the learning rate falls to a tenth in the second half, both by the clock: `--seconds` is the
time of training with compilation.
The average of the weights (decay 0.998) is scored on the validation set after every 25 steps, by 4
draws, and the best is kept. Of that ELBO and IWAE of 64 draws of each test sequence, and FIVO of 64
particles (multinomial, resampled below half of the effective sample size), with standard errors
over sequences. Settings are chosen on seed 100, by the validation set. `--report` makes
benchmarks/results/chorales_long.md of the files in the folder of that name.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others may be on the device

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from chorales import KEYS, LENGTH, PUBLISHED, chorales

import numpyro_dgm as library
from dgm_core.diagnostics import per_step
from dgm_core.resampling import check_resampling
from dgm_core.results import format_table, write_json
from numpyro_dgm.conditionals import AffineMarkov, Combiner, Markov
from numpyro_dgm.flows import Autoregressive, Flow
from numpyro_dgm.models import DMM, VRNN
from numpyro_dgm.nn import register, without_padding
from numpyro_dgm.sequences import step_pair, unroll
from numpyro_dgm.sequences.filtering import filtered

HERE = Path(__file__).parent / "results" / "chorales_long"
SIZES = {  # z_dim, hidden, features
    "tiny": (2, 4, 8),
    "small": (32, 64, 128),
    "medium": (64, 128, 256),
    "published": (100, 200, 600),
}
DEFAULTS = {"seed": 0.0, "lr": 1e-3, "l2": 0.0, "shift": 0.0, "warm": 0.3}
SPLIT_AT, BATCH, PARTICLES = 66, 64, 64


def build(guide: str, size: str, seed: int) -> Any:
    """An untrained model."""
    z_dim, hidden, features = SIZES[size]
    keys, sizes = (
        jax.random.split(jax.random.key(seed), 3),
        {"hidden": hidden, "features": features},
    )
    if guide == "vrnn":
        return VRNN(KEYS, z_dim, LENGTH, **sizes, key=keys[0])
    posterior = None
    if guide == "iaf":
        given = (z_dim, (features,))
        base = Combiner(z_dim, features, key=keys[2])
        orders, own = (range(z_dim), range(z_dim)[::-1]), jax.random.split(keys[1])
        layers = [
            Autoregressive(z_dim, hidden=(hidden,), order=order, key=key)
            for order, key in zip(orders, own, strict=True)
        ]
        flow = Flow(z_dim, layers, context_shape=given, base=base)
        posterior = Markov(flow, LENGTH)
    if guide == "affine":
        posterior = AffineMarkov((LENGTH, z_dim), context_shape=(LENGTH, features), key=keys[1])
    return DMM(KEYS, z_dim, LENGTH, **sizes, posterior=posterior, key=keys[0])


def groups_of(x: np.ndarray, lengths: np.ndarray) -> list[tuple[jax.Array, jax.Array]]:
    """Shorter sequences and longer ones, each cut to the longest of them."""
    found = []
    for rows in (lengths <= SPLIT_AT, lengths > SPLIT_AT):
        longest = int(lengths[rows].max())
        found.append((jnp.asarray(x[rows, :longest]), jnp.asarray(lengths[rows])))
    return found


def transposed(x: jax.Array, most: jax.Array, key: jax.Array) -> jax.Array:
    """Piano rolls (batch, T, keys), each moved by up to `most` keys, where all notes stay on it."""
    moves = jnp.round(jax.random.uniform(key, (len(x),), minval=-1.0, maxval=1.0) * most)
    place = jnp.arange(KEYS) - moves[:, None].astype(int)
    moved = jnp.take_along_axis(x, (place % KEYS)[:, None, :], 2)
    fits = (moved * ((place < 0) | (place >= KEYS))[:, None, :]).sum((1, 2)) == 0
    return jnp.where(fits[:, None, None], moved, x)


def training(static: Any, data: dict[str, Any]) -> tuple[Callable, Callable, Any]:
    """Functions of all runs at once: many steps, the validation bound; and the optimizer."""
    groups = groups_of(*data["train"])
    share = len(groups[0][0]) / len(data["train"][0])
    elbo = library.losses.ELBO(beta=lambda beta: beta)
    score = library.losses.ELBO(num_particles=4)
    optim = optax.chain(optax.clip_by_global_norm(10.0), optax.scale_by_adam())

    def bound(loss: Any, params: Any, x: Any, lengths: Any, key: Any, beta: Any) -> Any:
        own = eqx.combine(params, static)
        out = loss.evaluate(key, {}, own.model, own.guide, (x, lengths), step=beta)
        return out.per_datum

    def batch_gradient(group: tuple[Any, Any]) -> Callable:
        x, lengths = group

        def gradient(params: Any, given: Any, beta: Any, key: Any) -> Any:
            rows_key, move_key, key = jax.random.split(key, 3)
            num = min(BATCH, len(x))
            rows = jax.random.permutation(rows_key, len(x))[:num]
            seen, steps = transposed(x[rows], given["shift"], move_key), lengths[rows]
            value, found = jax.value_and_grad(lambda p: bound(elbo, p, seen, steps, key, beta))(
                params
            )
            return value * num / steps.sum(), found

        return gradient

    branches = [batch_gradient(group) for group in groups]

    def update(state: Any, given: Any, key: Any, group: Any, progress: Any) -> Any:
        params, moments, mean, count = state
        beta = jnp.minimum(1.0, 0.2 + 0.8 * progress / given["warm"])
        value, found = jax.lax.switch(group, branches, params, given, beta, key)
        found = jax.tree.map(lambda g, p: g + given["l2"] * p, found, params)
        moves, moments = optim.update(found, moments)
        rate = given["lr"] * jnp.clip(1.0 - 0.9 * (2.0 * progress - 1.0), 0.1, 1.0)
        params = jax.tree.map(lambda p, move: p - rate * move, params, moves)
        keep = jnp.minimum(0.998, (1.0 + count) / (10.0 + count))
        mean = jax.tree.map(lambda m, p: keep * m + (1.0 - keep) * p, mean, params)
        finite = jnp.isfinite(optax.global_norm(found))
        after = params, moments, mean, count + 1.0
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state), value

    @jax.jit
    def steps(states: Any, given: Any, keys: Any, progress: Any) -> Any:
        def body(states: Any, key: Any) -> Any:
            own = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(given["seed"])))
            longer = jax.random.bernoulli(jax.random.fold_in(key, 12345), 1.0 - share)
            return jax.vmap(update, (0, 0, 0, None, None))(
                states, given, own, longer.astype(int), progress
            )

        states, values = jax.lax.scan(body, states, keys)
        return states, jnp.nanmean(values, 0)

    x, lengths = data["validation"]
    longest = int(lengths.max())
    x, lengths = jnp.asarray(x[:, :longest]), jnp.asarray(lengths)

    @jax.jit
    def validate(means: Any, best: Any, scores: Any) -> Any:
        key = jax.random.key(0)
        found = jax.vmap(lambda p: bound(score, p, x, lengths, key, 1.0))(means)
        found = found * len(x) / lengths.sum()
        better = found < scores
        kept = jax.tree.map(
            lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            means,
            best,
        )
        return found, kept, jnp.where(better, found, scores)

    return steps, validate, optim


def train(a: argparse.Namespace, runs: list[dict[str, float]], start: float) -> dict[str, Any]:
    """All runs, until the clock says so: the best weights, their validation bounds, curves."""
    data = chorales()
    modules = [build(a.guide, a.size, int(run["seed"])) for run in runs]
    parts = [eqx.partition(module, eqx.is_inexact_array) for module in modules]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(part for part, _ in parts))
    static = parts[0][1]
    given = {name: jnp.array([run[name] for run in runs]) for name in DEFAULTS}
    steps, validate, optim = training(static, data)
    moments = jax.vmap(optim.init)(params)
    states = (params, moments, params, jnp.zeros(len(runs)))
    best, scores, curve, done = params, jnp.full(len(runs), jnp.inf), [], 0
    key, first = jax.random.key(int(runs[0]["seed"])), None
    while (elapsed := time.time() - start) < a.seconds and done < a.max_steps:
        progress = 0.0 if first is None else (elapsed - first) / (a.seconds - first)
        keys = jax.random.split(jax.random.fold_in(key, done), a.chunk)
        states, values = steps(states, given, keys, jnp.float32(progress))
        found, best, scores = validate(states[2], best, scores)
        done += a.chunk
        row = {"step": done, "progress": round(progress, 4)}
        row |= {"train": values.tolist(), "validation": found.tolist()}
        curve.append(row)
        if first is None:
            first = time.time() - start
            print(f"compiled and {done} steps after {first:.0f} s", flush=True)
        elif len(curve) % 40 == 0:
            print(f"{elapsed:.0f} s, {row}", flush=True)
    for row in curve:
        row["train"] = [round(v, 4) for v in row["train"]]
        row["validation"] = [round(v, 4) for v in row["validation"]]
    thinned = curve[:: max(1, len(curve) // 60)]
    return {
        "best": best,
        "static": static,
        "scores": np.asarray(scores),
        "curve": thinned,
        "steps": done,
        "data": data,
        "compiled after": first,
    }


def steps_of(dmm: Any) -> Any:
    """A deep Markov model as one step, for particle filters."""

    def model(x: Any, lengths: Any) -> None:
        prior, decoder = register("prior", dmm.prior), register("decoder", dmm.decoder)
        likelihood = register("likelihood", dmm.likelihood)

        def step(z: Any, inputs: Any, x_t: Any) -> Any:
            z = numpyro.sample("z", prior.after(z, None))
            numpyro.sample("x", likelihood.conditional(decoder(z)), obs=x_t)
            return z

        with numpyro.plate("data", len(x)):
            unroll(step, prior.start, x, lengths=lengths)

    def guide(x: Any, lengths: Any) -> None:
        encoder, posterior = register("encoder", dmm.encoder), register("posterior", dmm.posterior)

        def step(z: Any, features: Any, x_t: Any) -> Any:
            return numpyro.sample("z", posterior.after(z, features))

        features = encoder(without_padding(x, lengths), lengths)
        with numpyro.plate("data", len(x)):
            unroll(step, posterior.start, x, inputs=features, lengths=lengths)

    return SimpleNamespace(model=model, guide=guide)


def measured(a: argparse.Namespace, trained: dict[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    """Bounds of all trained models of each test sequence (runs, sequences), by name."""
    x, lengths = map(jnp.asarray, trained["data"]["test"])
    some = min(8, a.particles)
    loss, rule = library.losses.ELBO(num_particles=some), check_resampling(0.5, "multinomial")

    def weights(params: Any) -> Any:
        own = eqx.combine(params, trained["static"])

        def drawn(key: Any) -> Any:
            joints = loss.joints(key, {}, own.model, own.guide, (x, lengths))
            return joints.inference().log_w

        keys = jax.random.split(jax.random.key(1), a.particles // some)
        log_w = jax.lax.map(drawn, keys).reshape(-1, len(x))
        return log_w.mean(0), jax.nn.logsumexp(log_w, 0) - np.log(len(log_w))

    def filters(params: Any) -> Any:
        own = eqx.combine(params, trained["static"])
        run = own if a.guide == "vrnn" else steps_of(own)
        with numpyro.handlers.seed(rng_seed=0):
            pair = step_pair(run.model, run.guide, (x, lengths))
        return filtered(pair, a.particles, rule, lambda moment: None, key=jax.random.key(2))[0]

    with jax.default_matmul_precision("highest"):
        elbo, iwae = jax.jit(lambda every: jax.lax.map(weights, every))(trained["best"])
        found = {"ELBO": np.asarray(elbo), "IWAE": np.asarray(iwae)}
        found["IWAE - ELBO"] = found["IWAE"] - found["ELBO"]
        yield found
        if a.guide != "affine":  # its draws are no steps
            found["FIVO"] = jax.jit(lambda every: jax.lax.map(filters, every))(trained["best"])
            found["FIVO"] = np.asarray(found["FIVO"])
            found["FIVO - IWAE"] = found["FIVO"] - found["IWAE"]
            yield found


def run_all(a: argparse.Namespace) -> None:
    """Train, measure, write."""
    start = time.time()
    runs = [
        DEFAULTS | {k: float(v) for k, v in (p.split("=") for p in one.split(","))}
        for one in a.runs
    ]
    trained = train(a, runs, start)
    device = jax.devices()[0]
    print(f"{trained['steps']} steps, {time.time() - start:.0f} s", flush=True)
    rows: list[dict[str, Any]] = [
        {**run, "validation": round(float(score), 4)}
        for run, score in zip(runs, trained["scores"], strict=True)
    ]
    result = {
        "guide": a.guide,
        "size": a.size,
        "steps": trained["steps"],
        "seconds": a.seconds,
        "compiled after": trained["compiled after"],
        "device": device.device_kind,
        "runs": rows,
        "curve": trained["curve"],
    }
    a.out.mkdir(parents=True, exist_ok=True)
    path = a.out / f"{a.name}.json"
    write_json(path, result)
    for bounds in measured(a, trained):
        for index, row in enumerate(rows):
            own = {name: values[index] for name, values in bounds.items()}
            cells = per_step(own, trained["data"]["test"][1]).items()
            row["bounds"] = {name: [float(v), float(error)] for name, (v, error) in cells}
        result["all seconds"] = round(time.time() - start)
        write_json(path, result)
        print(result["all seconds"], rows, flush=True)
    keep(a, trained)


def keep(a: argparse.Namespace, trained: dict[str, Any]) -> None:
    """Draws of the run that is best in validation, and its weights where they are few."""
    index = int(np.argmin(trained["scores"]))
    weights = jax.tree.map(lambda leaf: leaf[index], trained["best"])

    @jax.jit
    def draws(weights: Any) -> Any:
        with numpyro.handlers.seed(rng_seed=0):
            return eqx.combine(weights, trained["static"]).model(size=16)

    arrays = {"draws": np.packbits(np.asarray(draws(weights)) > 0.5, -1)}
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(weights)]
    if sum(leaf.size for leaf in leaves) < 600_000:
        arrays |= {f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
    np.savez_compressed(a.out / f"{a.name}.npz", **arrays)


def write_table() -> None:
    """What is recorded."""
    text = ""
    for path in sorted(HERE.glob("*.json")):
        found = json.loads(path.read_text())
        rows = []
        for run in found["runs"]:
            finite = np.isfinite(run["validation"])
            row = {"seed": int(run["seed"])} | {n: run[n] for n in ("lr", "l2", "shift")}
            row["validation"] = f"{run['validation']:.3f}" if finite else "not finite"
            for name, (value, error) in run.get("bounds", {}).items():
                row[name] = f"{value:.3f} +/- {error:.3f}" if finite else "-"
            rows.append(row)
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = format_table([{name: row.get(name, "-") for name in names} for row in rows])
        text += (
            f"\n## {path.stem}: {found['guide']}, {found['size']}\n\n{found['steps']} steps of all "
            f"runs in {found['seconds']:.0f} s, {found['compiled after']:.0f} s of it to compile, "
            f"on one {found['device']} shared with other jobs.\n\n```\n{table}\n```\n"
        )
    title = "# Sequence models of the JSB chorales, trained longer"
    notes = HERE / "notes.md"
    text += f"\n{notes.read_text()}" if notes.exists() else ""
    (HERE.parent / "chorales_long.md").write_text(f"{title}\n\n{__doc__}{text}\n{PUBLISHED}\n")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--guide", choices=["combiner", "iaf", "affine", "vrnn"])
    parser.add_argument("--size", choices=SIZES, default="published")
    parser.add_argument("--runs", nargs="+", default=["seed=0"])
    parser.add_argument("--seconds", type=float, default=390.0)
    parser.add_argument("--max-steps", type=int, default=10**9)
    parser.add_argument("--chunk", type=int, default=25)
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--name")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT_DIR", "runs/long")))
    parser.add_argument("--report", action="store_true")
    a = parser.parse_args()
    if a.report:
        write_table()
    elif a.guide is None or a.name is None:
        parser.error("--guide and --name say what is trained")
    else:
        run_all(a)


if __name__ == "__main__":
    main()
