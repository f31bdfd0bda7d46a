"""Runs that are killed again and again and end in the same numbers as runs left alone, to the bit.

    python benchmarks/kills.py {pyro,numpyro} [--kills 100] [--scenarios gan flow ...]

Every scenario is run once undisturbed.  Then it is run in a folder of its own, killed (SIGKILL) at
a random moment, begun again in a new process, killed again, until it ends; its checkpoint (weights,
running statistics, critics, optimizers, averages, best weights, history) is compared with the
undisturbed one.  Repeated until there are enough kills.  What is done is kept in
`results/kills/<backend>.json`, from which a second call goes on; exit status 1 where a bit differs.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.results import format_table
from dgm_core.schedules import linear
from dgm_core.training import checkpoint

RESULTS = Path(__file__).parent / "results" / "kills"
BITS = (np.random.default_rng(0).random((48, 6)) < 0.4).astype(np.float32)
ROLLS, ENDS = BITS.reshape(24, 4, 3), np.random.default_rng(2).integers(0, 5, 24)
REALS = np.random.default_rng(1).normal(size=(48, 3)).astype(np.float32)
CLEAN, SEEN = np.random.default_rng(3).random((2, 48, 1, 4, 4)).astype(np.float32)
SCENARIOS = ("vae", "gan", "bigan", "flow", "compiled", "stream", "lbfgs", "constraints", "steps")
SCENARIOS += ("state", "dmm", "energy", "diffusion", "images")


class Pyro:
    """What differs between the backends, here in torch."""

    def __init__(self) -> None:
        import functools

        import pyro
        import torch
        import torch._dynamo  # what a first step would import, once for all processes

        import pyro_dgm
        from pyro_dgm import flows, losses, models, training
        from pyro_dgm.nn import Linear

        self.engine, self.np, self.dist = pyro, torch, pyro.distributions
        self.training, self.losses, self.flows, self.models = training, losses, flows, models
        self.package, self.linear = pyro_dgm, Linear
        self.search = functools.partial(torch.optim.LBFGS, lr=0.3, max_iter=4)

    def make(self, cls: Any, *args: Any, **options: Any) -> Any:
        self.np.manual_seed(0)
        return cls(*args, **options)


class NumPyro:
    """What differs between the backends, here in JAX."""

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp
        import numpyro
        import optax

        import numpyro_dgm
        from numpyro_dgm import flows, losses, models, training
        from numpyro_dgm.nn import Linear

        self.engine, self.np, self.dist = numpyro, jnp, numpyro.distributions
        self.training, self.losses, self.flows, self.models = training, losses, flows, models
        self.package, self.linear = numpyro_dgm, Linear
        self.search = optax.lbfgs(memory_size=4)
        self.compiled = tempfile.TemporaryDirectory()  # once, not in each process
        jax.config.update("jax_compilation_cache_dir", self.compiled.name)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    def make(self, cls: Any, *args: Any, **options: Any) -> Any:
        import jax

        return cls(*args, **options, key=jax.random.key(0))


def running_mean(backend: Any) -> Any:
    """The squared distance of the model's mean draw from a running mean of the data, a term with a
    state of its own."""

    class RunningMean(backend.losses.Term):
        name, guided = "RunningMean", False

        def init_state(self, joints: Any, **key: Any) -> dict[str, Any]:
            return {"mean": backend.np.zeros(3)}

        def update(
            self, state: dict[str, Any], joints: Any, step: Any, **key: Any
        ) -> dict[str, Any]:
            return {"mean": 0.9 * state["mean"] + 0.1 * joints.samples(("x",))[0].mean(0)}

        def estimate(self, joints: Any, step: Any) -> tuple[Any, dict[str, Any]]:
            drawn = joints.samples(("x",))[1].mean(0)
            return ((drawn - joints.state(self)["mean"]) ** 2).sum(), {}

    return RunningMean()


def arguments(backend: Any, scenario: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Model, guide, data and options of `fit`."""
    adam, losses, models = backend.training.Adam(3e-3), backend.losses, backend.models
    options: dict[str, Any] = {"optim": adam, "num_epochs": 12, "batch_size": 10, "seed": 3}
    usual = {"average": 0.9, "clip_norm": 1.0, "lr_schedule": linear(60, 1.0, 0.1)}
    if scenario in ("vae", "compiled", "stream", "steps"):
        vae = backend.make(models.VAE, 6, 2, hidden=(8,))
        options |= {**usual, "validation": BITS[:20], "patience": 50}
        data: Any = BITS
        if scenario == "stream":
            data, options["batch_size"] = [BITS[i : i + 8] for i in range(0, 48, 8)], None
        if scenario == "steps":
            options |= {"num_epochs": None, "num_steps": 57}
        if scenario == "compiled":
            options |= {"compile": True}
        return vae.model, vae.guide, data, options
    if scenario == "dmm":
        dmm = backend.make(models.DMM, 3, 2, 4, hidden=4, features=4)
        options |= {**usual, "validation": (ROLLS[:9], ENDS[:9]), "patience": 50}
        return dmm.model, dmm.guide, (ROLLS, ENDS), options
    if scenario == "gan":
        gan = backend.make(models.GAN, 3, 2, hidden=(8,))
        critic = backend.make(losses.Critic, 3, hidden=(8,))
        loss = losses.JensenShannon("x", critic, critic_steps=2, regularizer=losses.R1(0.1))
        return gan.model, None, REALS, {**options, "loss": loss, "average": 0.9}
    if scenario == "bigan":
        bigan = backend.make(models.BiGAN, 3, 2, hidden=(8,))
        critic = backend.make(losses.Critic, 5, hidden=(8,))
        loss = losses.JensenShannon(("x", "z"), critic)
        return bigan.model, bigan.guide, REALS, {**options, "loss": loss}
    if scenario == "images":  # with a code, and a critic that keeps what its norms have found
        sizes = {"z_dim": 2, "channels": (3,), "pixel_features": 2, "features": 3}
        restorer = backend.make(models.ImageToImage, (1, 4, 4), **sizes)
        pairs = backend.make(losses.Critic, 32, hidden=(8,), spectral_norm=True)
        loss = losses.ELBO() + losses.Hinge(("x", "y"), pairs, critic_steps=2)
        usual |= {"validation": (CLEAN[:9], SEEN[:9]), "patience": 50}
        return restorer.model, restorer.guide, (CLEAN, SEEN), {**options, **usual, "loss": loss}
    if scenario in ("flow", "energy", "diffusion"):
        nn, made = backend.package.nn, backend.package.conditionals
        if scenario == "flow":
            flow = backend.make(backend.flows.MAF, 3, num_layers=2, hidden=(8,))
            loss = losses.NLL()
        elif scenario == "energy":  # chains, some of which start anew
            net = backend.make(nn.MLP, 3, (8,), 1, activation="silu")
            flow = made.Tilted(made.StandardNormal(3), net)
            chains = losses.Persistent(30, per_step=10, restart=0.1)
            loss = losses.ContrastiveDivergence("x", steps=2, chains=chains)
        else:
            flow = backend.make(made.Diffusion, 3, hidden=(8,))
            loss = losses.DenoisingELBO("x")
            usual |= {"validation": REALS[:9], "validation_loss": loss}

        def density(x: Any) -> None:
            with backend.engine.plate("data", len(x)):
                backend.engine.sample("x", nn.register("flow", flow)(), obs=x)

        return density, None, REALS, {**options, **usual, "loss": loss}

    def constrained(x: Any) -> None:
        constraints = backend.dist.constraints
        mean = backend.engine.param("mean", backend.np.zeros(3))
        one = backend.np.ones(3)
        scale = backend.engine.param("scale", one, constraint=constraints.positive)
        part = backend.engine.param("part", one / 3, constraint=constraints.simplex)
        with backend.engine.plate("data", len(x)):
            law = backend.dist.Normal(mean + part, scale).to_event(1)
            backend.engine.sample("x", law, obs=x)

    options |= {"loss": losses.NLL(), "validation_loss": losses.NLL(), "validation": REALS[:9]}
    if scenario == "state":
        options |= {"loss": losses.NLL() + 0.5 * running_mean(backend)}
    if scenario == "lbfgs":
        options |= {"optim": backend.search, "batch_size": None}
    return constrained, None, REALS, options


def child(backend: Any, scenario: str, folder: Path, told: int) -> None:
    """The run, in a process of its own, which says when its first epoch has ended."""

    def slowly(run: Any) -> None:
        os.write(told, b".")
        time.sleep(0.03)

    model, guide, data, options = arguments(backend, scenario)
    options |= {"checkpoint": folder, "callbacks": [slowly], "progress": False}
    backend.training.fit(model, guide, data, **options)


def attempt(backend: Any, scenario: str, folder: Path, *, kill: bool) -> bool:
    """Whether the run ended by itself, in a new process, before it was killed."""
    heard, told = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            child(backend, scenario, folder, told)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(told)
    if kill and os.read(heard, 1):
        time.sleep(random.uniform(0.0, 0.25))
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(heard)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"The run {scenario!r} failed; its traceback is above.")
    return os.WIFEXITED(status)


def differs(folder: Path, expected: Path) -> list[str]:
    """The names of what is not equal to the bit in two checkpoints."""
    (ours, header), (theirs, right) = (checkpoint.load(f / "last.npz") for f in (folder, expected))
    found = sorted(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        a, b = np.asarray(ours[name]), np.asarray(theirs[name])
        if a.dtype != b.dtype or a.tobytes() != b.tobytes():
            found.append(name)
    for meta in (header, right):
        for row in meta["history"]:
            row.pop("seconds")
    return found + [
        name for name in ("history", "patience", "epoch") if header[name] != right[name]
    ]


def kill(
    backend: Any, scenario: str, count: int, note: Callable[[int, int, list[str]], None]
) -> None:
    """Runs of a scenario with at least `count` kills; `note` hears of each that ended."""
    with tempfile.TemporaryDirectory() as place:
        undisturbed, kills, runs = Path(place) / "undisturbed", 0, 0
        attempt(backend, scenario, undisturbed, kill=False)
        while kills < count:
            folder, runs, here = Path(place) / f"run {runs}", runs + 1, 0
            while not attempt(backend, scenario, folder, kill=here < 8):
                here += 1
            kills += here
            note(here, 1, differs(folder, undisturbed))


def main() -> int:
    """Print the table; exit status 1 where a run ended in other numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backend", choices=["pyro", "numpyro"])
    parser.add_argument("--kills", type=int, default=100, help="in all scenarios together")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    backend = {"pyro": Pyro, "numpyro": NumPyro}[options.backend]()
    path = options.results / f"{options.backend}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for scenario in options.scenarios:
        row = done.setdefault(scenario, {"kills": 0, "runs": 0, "different": []})

        def note(kills: int, runs: int, different: list[str], row: dict[str, Any] = row) -> None:
            row["kills"] += kills
            row["runs"] += runs
            row["different"] += different
            path.write_text(json.dumps(done, indent=1) + "\n")

        wanted = -(-options.kills // len(options.scenarios)) - row["kills"]
        if wanted > 0:
            kill(backend, scenario, wanted, note)
    rows = [
        {"scenario": name, **row, "different": len(row["different"])} for name, row in done.items()
    ]
    print(format_table(rows))
    print(f"{sum(row['kills'] for row in rows)} kills in {sum(row['runs'] for row in rows)} runs.")
    return int(any(row["different"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
