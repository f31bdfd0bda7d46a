"""A WaveNet of waveforms and students that draw in one pass: notes of the set `tones`, or the wave
files of a folder.

    python benchmarks/audio.py [--folder FOLDER] [--steps 1500] [--weights 0 100 10000]
    [--log-weights 1000] [--seed 0] [--flows 2] [--rate 2e-3]

Protocol: chunks of 256 samples, labels as contexts (the pitch, or the file); teacher and students
have seven layers of 24 channels, dilations 1, ..., 64. The teacher, a mixture of five logistic
distributions per sample, learns by maximum likelihood, the students (inverse autoregressive layers,
two or `--flows`) by `Distillation` with the entropy in closed form plus the weight times
`PowerLoss`, of powers or (`--log-weights`) of their logarithms; Adam 2e-3, decaying to a hundredth,
batches of 32, each for the same number of steps.
Compared are the mean power spectra of 64 draws for each label with those of the test chunks (of the
teacher's draws, for the students): the root of the mean squared difference in dB over the
frequencies of a frame of 64 samples; and the mean squared difference of the mean powers themselves.
"KL": of a student to the teacher, nats per sample, over the same draws.
NumPyro. Each stage leaves its weights in runs/audio and one JSON file in benchmarks/results/audio
and is not repeated; the table goes to benchmarks/results/audio.md, the spectra to audio.png (all to
the folder OUT_DIR instead, if that is set).
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro

from dgm_core.contexts import Labels
from dgm_core.data import load, wave_folder
from dgm_core.results import format_table, write_json
from dgm_core.schedules import Schedule
from numpyro_dgm import Adam, fit
from numpyro_dgm.conditionals import WaveNet
from numpyro_dgm.flows import ParallelWaveNet
from numpyro_dgm.losses import NLL, Distillation, PowerLoss
from numpyro_dgm.losses.samples.spectra import mean_power
from numpyro_dgm.nn import register

HERE = Path(os.environ.get("OUT_DIR") or Path(__file__).parent / "results")
RUNS = Path("runs") / "audio"
NET = {"channels": 24, "dilations": tuple(2**i for i in range(7))}
FRAME, LENGTH, DRAWS = 64, 256, 64


def trained(
    module: Any, data: Any, loss: Any, steps: int, seed: int, rate: float
) -> tuple[Any, float, float]:
    """The module after so many steps, its last loss per sample, and seconds."""

    def model(x: Any, y: Any) -> None:
        with numpyro.plate("data", len(x)):
            numpyro.sample("x", register("net", module)(y), obs=x)

    began = time.perf_counter()
    run = fit(
        model,
        None,
        (data.train, data.labels["train"]),
        loss=loss,
        optim=Adam(rate),
        lr_schedule=Schedule((0, steps // 2, steps), (1.0, 1.0, 0.01)),
        batch_size=32,
        num_steps=steps,
        seed=seed,
    )
    module = eqx.combine(run.params["net$params"], module)
    return module, run.history.last["loss"] / data.x_dim, time.perf_counter() - began


def spectra(x: Any, labels: np.ndarray, num: int) -> np.ndarray:
    """The mean power spectrum of each label in dB, (labels, frequencies)."""
    powers = np.asarray(mean_power(jnp.asarray(x), FRAME))[:, 0]
    return 10 * np.log10(np.stack([powers[labels == k].mean(0) for k in range(num)]))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.square(one - other).mean()))


def main() -> None:
    """Train what is not there yet, compare, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="with wave files; left out, the set tones")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 100.0, 10_000.0])
    parser.add_argument("--log-weights", type=float, nargs="*", default=[1000.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flows", type=int, default=2, help="layers of a student")
    parser.add_argument("--rate", type=float, default=2e-3, help="of Adam")
    arguments = parser.parse_args()
    data = wave_folder(arguments.folder, LENGTH, hop=64) if arguments.folder else load("tones")
    num, context = data.num_classes, Labels(data.num_classes)
    key = jax.random.key(arguments.seed)
    teacher = WaveNet(LENGTH, **NET, context_shape=context, key=key)
    student = ParallelWaveNet(
        LENGTH, num_layers=arguments.flows, **NET, context_shape=context, key=key
    )
    labels = np.repeat(np.arange(num), DRAWS)
    truth = spectra(data.test, data.labels["test"], num)
    found, rows = {"test data": truth}, []

    def divergence(drawn: Any, x: Any) -> float:
        """KL(student || teacher) per sample, by these draws."""
        taught = teacher(jnp.asarray(labels)).log_prob(x)
        return float((drawn.log_prob(x) - taught).mean()) / data.x_dim

    def stage(name: str, module: Any, loss: Any) -> Any:
        """The module, trained or as it was left; its spectra and its row."""
        of_students = f"-{arguments.flows}-layers" if arguments.flows != 2 else ""
        tag = f"{data.name}-{name}-{arguments.steps}-{arguments.seed}".replace(" ", "_")
        tag += of_students if "student" in name else ""
        weights, result = RUNS / f"{tag}.eqx", HERE / "audio" / f"{tag}.json"
        if not (weights.exists() and result.exists()):
            module, last, seconds = trained(
                module, data, loss, arguments.steps, arguments.seed, arguments.rate
            )
            drawn = module(jnp.asarray(labels))
            x = drawn.sample(jax.random.key(1))
            dB = spectra(np.asarray(x), labels, num)
            row = {
                "stage": name,
                "loss per sample": last,
                **({"KL": divergence(drawn, x)} if "student" in name else {}),
                "draws to data, dB": distance(dB, truth),
                "seconds": seconds,
            }
            weights.parent.mkdir(parents=True, exist_ok=True)
            result.parent.mkdir(parents=True, exist_ok=True)
            eqx.tree_serialise_leaves(weights, module)
            write_json(
                result, {"row": row, "spectra": dB.tolist(), "draw": np.asarray(x[0]).tolist()}
            )
        left = json.loads(result.read_text())
        found[name] = np.array(left["spectra"])
        to_teacher = distance(found[name], found["teacher"])
        power = float(np.square(10 ** (found[name] / 10) - 10 ** (truth / 10)).mean())
        rows.append({**left["row"], "to the teacher's, dB": to_teacher, "power to data": power})
        return eqx.tree_deserialise_leaves(weights, module)

    teacher = stage("teacher", teacher, NLL())
    scales = [("power", weight) for weight in arguments.weights]
    for scale, weight in [*scales, *(("log power", weight) for weight in arguments.log_weights)]:
        loss = Distillation(lambda x, y: teacher(y), analytic_entropy=True)
        if weight:
            loss = loss + weight * PowerLoss("x", frame=FRAME, scale=scale.split()[0])
        stage(f"student, {scale} {weight:g}" if weight else "student", student, loss)
    rows.append({"stage": "test data", "draws to data, dB": 0.0})
    table = format_table(rows)
    print(table)
    name = "audio" if not arguments.folder else "audio_folder"
    (HERE / f"{name}.md").write_text(
        f"# WaveNet and its students on waveforms\n\n{__doc__.split('Protocol: ')[1]}\n"
        f"Data: {data.name}; {arguments.steps} steps of rate {arguments.rate:g}, seed "
        f"{arguments.seed}, students of {arguments.flows} layers.\n\n```\n{table}\n```\n"
    )
    draw_picture(found, HERE / f"{name}.png")


def draw_picture(found: dict[str, np.ndarray], path: Path) -> None:
    """The spectra of two labels."""
    import matplotlib.pyplot as plt

    num = len(found["test data"])
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), sharey=True, layout="constrained")
    for axis, label in zip(axes, (0, num - 1)):
        for name, dB in found.items():
            axis.plot(np.arange(FRAME // 2 + 1) / FRAME, dB[label], label=name)
        axis.set(title=f"label {label}", xlabel="cycles per sample")
    axes[0].set_ylabel("mean power, dB")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
