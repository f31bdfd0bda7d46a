"""Diffusions of MNIST and Fashion-MNIST, 28x28 with 256 gray levels, at a stated budget.

    python benchmarks/diffusion_images.py train unet [--data mnist] [--seconds 300] [--until 480]
    python benchmarks/diffusion_images.py train transformer
    python benchmarks/diffusion_images.py train bound
    python benchmarks/diffusion_images.py train vae
    python benchmarks/diffusion_images.py train small --seconds 1500 --until 3600
    python benchmarks/diffusion_images.py judge FOLDER ...

Protocol: NumPyro; the 60,000 images of the official training split, batches of 256, Adam
after 500 steps of warming up, no decay, moving averages of the weights (0.999), no selection, so
many seconds after the start of the program (with compilation).
unet: `Diffusion((1, 28, 28), UNet(channels=(64, 128, 128), num_blocks=2, num_heads=4),
schedule=VP(1000), predict="velocity", num_levels=256)`, given the label, which is left out in a
tenth of the cases, `DenoisingError(weight="velocity")`, Adam 1e-3. transformer: the same with
`TimeTransformer(patch_size=4, width=192, num_layers=6, num_heads=6)`, Adam 5e-4. bound: the U-Net
without labels, variance="learned", `DenoisingELBO`. vae: `ConvVAE` with 16 latents and
`DiscretizedLogisticMixture` of 256 levels, `ELBO`, Adam 1e-3; then a `Diffusion(16, hidden=(256,
256), schedule=VP(100))` for its codes by `fit_prior`, 60 epochs.
small: for processors, in Pyro, one thread and seconds of the processor: the first with
`UNet(channels=(16, 32, 32), num_blocks=1)` and batches of 64; it goes on from its last pass when it
is started again; 5,000 draws by DDIM with 20 calls and with guidance, 500 by 1,000 ancestral steps.
Bits per dimension of the bound on the mass of the levels of 2,000 test images (`bound` with 200
times; of a diffusion with labels given the label, and without it), of a VAE the importance-weighted
bound of 64 draws. Draws, 5,000 of each way (500 of each label; fewer thousands where the time
ends), rounded to the levels, are kept.
`judge` trains a classifier on 20,000 images, and gives of the draws of each way the Frechet
distance of its features to those of the test images, the share of draws that have their label, and
the mean distance to the nearest training image, beside that of test images: copies would be nearer.
"""

import argparse
import json
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.data import load
from dgm_core.plots import samples_grid
from dgm_core.results import format_table, write_json
from dgm_core.samples.quality import FeatureClassifier, frechet_distance

HERE = Path(__file__).parent / "results" / "diffusion"
START = time.perf_counter()
SHAPE, BATCH = (1, 28, 28), 256
BITS = 784 * np.log(2.0)


def images_of(data: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to train and to test."""
    found = load(data)
    sets = {name: getattr(found, name) for name in ("train", "validation", "test")}
    images = {name: x.reshape(-1, *SHAPE).astype(np.float32) for name, x in sets.items()}
    labels = {name: found.labels[name].astype(np.int32) for name in sets}
    parts = ("train", "validation")
    both = (np.concatenate([kind[part] for part in parts]) for kind in (images, labels))
    return (*both, images["test"], labels["test"])


class Clock:
    """Ends a run so many seconds after the start of the program."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.losses = seconds, []

    def __call__(self, run: Any) -> bool:
        """Whether it is time."""
        self.losses.append(float(run.history.column("loss")[-1]))
        return time.perf_counter() - START > self.seconds


def fitted(
    model: Any, guide: Any, data: Any, loss: Any, rate: float, clock: Clock, seed: int
) -> Any:
    """A run."""
    import optax

    from dgm_core.schedules import Schedule
    from numpyro_dgm import fit

    return fit(
        model,
        guide,
        data,
        loss=loss,
        optim=optax.adam(rate),
        num_epochs=100_000,
        batch_size=BATCH,
        drop_last=True,
        lr_schedule=Schedule((0, 500), (0.01, 1.0)),
        average=0.999,
        callbacks=[clock],
        seed=seed,
        progress=False,
    )


class Results:
    """What has been found, written after every entry."""

    def __init__(self, folder: Path, name: str, until: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self.until = folder, name, until
        self.found: dict[str, Any] = {"name": name}
        self.ways: dict[str, np.ndarray] = {}

    def add(self, **found: Any) -> None:
        """Keep numbers."""
        self.found |= found | {"seconds in all": time.perf_counter() - START}
        write_json(self.folder / f"{self.name}.json", self.found)

    def draws(self, way: str, draws: Any, seconds: float) -> None:
        """Keep draws, and a sheet of 100 of them."""
        levels = np.round(np.clip(np.asarray(draws), 0, 1) * 255).astype(np.uint8)
        self.ways[way] = levels.reshape(-1, 784)
        file = self.folder / f"{self.name}-{way.replace(' ', '_')}.npz"
        np.savez_compressed(file, draws=self.ways[way])
        sheet = self.ways[way][:100].astype(np.float32) / 255
        samples_grid(sheet, SHAPE).savefig(file.with_suffix(".png"), dpi=60)
        self.add(**{f"seconds, {way}": seconds})

    def left(self) -> float:
        """Seconds."""
        return START + self.until - time.perf_counter()


def diffusion(kind: str, a: argparse.Namespace, out: Results) -> None:
    """Train a diffusion, bound the test images, and draw."""
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.handlers import substitute

    from dgm_core.contexts import Labels
    from dgm_core.diffusion import VP
    from numpyro_dgm.conditionals import Diffusion
    from numpyro_dgm.losses import DenoisingELBO, DenoisingError
    from numpyro_dgm.nn import TimeFeatures, TimeTransformer, UNet, register

    x, labels, test, test_labels = images_of(a.data)
    x, labels, test = x[: a.images], labels[: a.images], test[: min(a.images, 2_000)]
    key, given, chunk = jax.random.key(a.seed), kind != "bound", a.num // 5
    seen: dict[str, Any] = {"context_shape": 10} if given else {}
    if kind == "transformer":
        sizes = {"width": 192, "num_layers": 6, "num_heads": 6}
        net: Any = TimeTransformer(SHAPE, 4, **sizes, **seen, key=key)
    else:
        sizes = {"channels": (64, 128, 128), "num_blocks": 2, "num_heads": 4}
        more = {} if given else {"out_channels": 2}
        net = UNet(SHAPE, time=TimeFeatures(64), **sizes, **more, **seen, key=key)
    own: dict[str, Any] = {"variance": "learned"}
    if given:
        own = {"context_shape": Labels(10), "drop_context": 0.1}
    chosen = {"predict": "velocity", "schedule": VP(1000), "num_levels": 256}
    density = Diffusion(SHAPE, net, **chosen, **own)

    def model(x: Any, context: Any = None) -> None:
        with numpyro.plate("data", len(x)):
            numpyro.sample("x", register("net", density)(context), obs=x)

    clock = Clock(a.seconds)
    loss = DenoisingError("x", weight="velocity") if given else DenoisingELBO("x")
    rate = 5e-4 if kind == "transformer" else 1e-3
    table = (x, labels) if given else x
    run = fitted(model, None, table, loss, rate, clock, a.seed)
    density = substitute(lambda: register("net", density), data=run.params)()
    out.add(
        steps=int(run.history.column("step")[-1]),
        losses=clock.losses,
        device=str(jax.devices()[0].device_kind),
        **{"seconds, training": time.perf_counter() - START},
    )
    wanted = jnp.arange(chunk) % 10

    def kept(way: str, law: Any, calls: int, how: dict[str, Any]) -> None:
        each = calls * out.found.get("seconds, DDIM 20", 0.0) / 20 / 5  # of a fifth of the draws
        fifths = min(5, int((out.left() - 30) / each) if each else 5)
        if law is None or fifths < 1:
            return
        draw = jax.jit(lambda net, key: law(net).sample(key, **how))
        first, *keys = jax.random.split(jax.random.key(a.seed + 1), 5)[:fifths]
        draws, begin = [np.asarray(draw(density, first))], time.perf_counter()
        draws += [np.asarray(draw(density, key)) for key in keys]
        seconds = time.perf_counter() - begin
        out.draws(way, np.concatenate(draws), seconds * 5 / max(len(keys), 1))

    def bounded(name: str, law: Any) -> None:
        if out.left() < 40:
            return
        bound = jax.jit(lambda net, x, y, key: law(net, y).bound(x, num_times=10, key=key))
        keys, nats = jax.random.split(jax.random.key(a.seed + 2), 20), []
        for start in range(0, len(test), 500):
            one = test[start : start + 500]
            y = test_labels[start : start + len(one)]
            nats.append(np.mean([bound(density, one, y, key) for key in keys], 0))
        bits = -np.concatenate(nats) / BITS
        error = float(bits.std() / len(bits) ** 0.5)
        out.add(**{f"bits/dim{name}": float(bits.mean()), f"s.e.{name}": error})

    alone = (lambda net: net.unconditional().expand((chunk,))) if given else None
    free = alone or (lambda net: net().expand((chunk,)))
    with_label = (lambda net: net(wanted)) if given else free
    few = {"method": "ddim", "num_steps": 20}
    kept("DDIM 20", with_label, 20, few)
    bounded("", (lambda net, y: net(y)) if given else (lambda net, y: net()))
    if given:
        kept("w=1", lambda net: net.guided(wanted, 1.0), 40, few)
    kept("ancestral 1000", with_label, 1000, {"method": "ancestral"})
    kept("unconditional", alone, 20, few)
    if given:
        bounded(", without label", lambda net, y: net.unconditional())
        kept("w=3", lambda net: net.guided(wanted, 3.0), 40, few)
    kept("DDIM 50", with_label, 50, {"method": "ddim", "num_steps": 50})
    kept("ancestral 100", with_label, 100, {"method": "ancestral", "num_steps": 100})


def small(a: argparse.Namespace, out: Results) -> None:
    """Train a small diffusion in Pyro, on processors, and draw."""
    import pyro
    import torch

    from dgm_core.contexts import Labels
    from dgm_core.diffusion import VP
    from dgm_core.schedules import Schedule
    from pyro_dgm import Adam, fit
    from pyro_dgm.conditionals import Diffusion
    from pyro_dgm.losses import DenoisingError
    from pyro_dgm.nn import TimeFeatures, UNet, register

    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    sizes: dict[str, Any] = {"channels": (16, 32, 32), "num_blocks": 1}
    net = UNet(SHAPE, time=TimeFeatures(32), **sizes, context_shape=10)
    given: dict[str, Any] = {"context_shape": Labels(10), "drop_context": 0.1}
    chosen: dict[str, Any] = {"predict": "velocity", "schedule": VP(1000), "num_levels": 256}
    density = Diffusion(SHAPE, net, **chosen, **given)

    def model(x: Any, context: Any = None) -> None:
        law = register("net", density)
        with pyro.plate("data", len(x)):
            pyro.sample("x", law(context), obs=x)

    x, labels, _, _ = images_of(a.data)
    begin = time.process_time()
    run = fit(
        model,
        None,
        (x[: a.images], labels[: a.images]),
        loss=DenoisingError("x", weight="velocity"),
        optim=Adam(1e-3),
        num_epochs=1000,
        batch_size=64,
        drop_last=True,
        lr_schedule=Schedule((0, 500), (0.01, 1.0)),
        average=0.999,
        callbacks=[lambda run: time.process_time() - begin > a.seconds],
        checkpoint=a.out / f"{out.name}-run",
        compile=False,
        seed=a.seed,
        progress=False,
    )
    out.add(
        steps=int(run.history.column("step")[-1]),
        losses=[float(loss) for loss in run.history.column("loss")],
        **{"seconds, training": float(run.history.column("seconds").sum())},
    )
    for way, num, law, how in (
        ("DDIM 20", a.num, density, {"method": "ddim", "num_steps": 20}),
        ("w=1", a.num, partial(density.guided, w=1.0), {"method": "ddim", "num_steps": 20}),
        ("ancestral 1000", a.num // 10, density, {"method": "ancestral"}),
    ):
        start, parts = time.process_time(), []
        for _ in range(0, num, 100):
            parts.append(law(torch.arange(100) % 10).sample(**how).numpy())
        out.draws(way, np.concatenate(parts), time.process_time() - start)


def autoencoder(a: argparse.Namespace, out: Results) -> None:
    """Train a VAE, then a diffusion of its codes."""
    import jax
    import optax

    from dgm_core.diffusion import VP
    from numpyro_dgm.conditionals import Diffusion, DiscretizedLogisticMixture
    from numpyro_dgm.evaluation import fit_prior, generate, log_likelihood
    from numpyro_dgm.losses import ELBO
    from numpyro_dgm.models import ConvVAE

    x, _, test, _ = images_of(a.data)
    x, test = x[: a.images], test[: min(a.images, 2_000)]
    keys, clock = jax.random.split(jax.random.key(a.seed)), Clock(a.seconds)
    mixture = partial(DiscretizedLogisticMixture, num_levels=256, context_shape=(16, 28, 28))
    vae = ConvVAE(SHAPE, 16, likelihood=mixture(SHAPE, key=keys[0]), key=keys[1])
    run = fitted(vae.model, vae.guide, x, ELBO(), 1e-3, clock, a.seed)
    out.add(
        steps=int(run.history.column("step")[-1]),
        losses=clock.losses,
        device=str(jax.devices()[0].device_kind),
    )

    def judged(name: str, run: Any) -> None:
        begin = time.perf_counter()
        report = log_likelihood(run, test, num_particles=64, chunk_size=8_192, progress=False)
        for what in ("ELBO", "IWAE"):
            out.add(**{f"{what}, {name}": float(report[what].mean())})
        out.add(**{f"bits/dim, {name}": float(-report["IWAE"].mean() / BITS)})
        draws = [generate(run, size=a.num // 5, seed=i)["x"] for i in range(5)]
        out.draws(name, np.concatenate(draws), time.perf_counter() - begin)

    judged("VAE", run)
    prior = Diffusion(16, predict="velocity", schedule=VP(100), hidden=(256, 256), key=keys[0])
    settings = {"num_epochs": a.prior_epochs, "optim": optax.adam(1e-3), "seed": a.seed}
    run = fit_prior(run, x, prior, **settings, progress=False)
    out.add(**{"seconds, fitted": time.perf_counter() - START})
    judged("VAE, diffusion prior", run)


def judge(folders: list[Path]) -> None:
    """Distances, labels and nearness of the draws in the folders."""
    networks: dict[str, Any] = {}
    for path in sorted(path for folder in folders for path in folder.glob("*mnist-*.json")):
        found = json.loads(path.read_text())
        data, net, _ = found["name"].split("-")
        files = sorted(path.parent.glob(f"{path.stem}-*.npz"))
        ways = {file.stem.removeprefix(f"{path.stem}-").replace("_", " "): file for file in files}
        if data not in networks:
            networks[data] = Features(data)
        known = networks[data]
        found |= known.base
        draws = {way: np.load(file)["draws"].astype(np.float32) / 255 for way, file in ways.items()}
        few = min(map(len, draws.values()), default=0)
        for way, fake in draws.items():
            features = known.network.features(fake)
            found[f"Frechet, {way}"] = frechet_distance(known.real, features)
            if few < max(map(len, draws.values())):
                part = frechet_distance(known.real, features[:few])
                found[f"Frechet of {few} draws, {way}"] = part
            found[f"nearest, {way}"] = nearest(fake[:1_000], known.rows)
            if way != "unconditional" and net in NETS[:3]:
                right = known.network.probabilities(fake).argmax(1) == np.arange(len(fake)) % 10
                found[f"accuracy, {way}"] = float(right.mean())
        HERE.mkdir(parents=True, exist_ok=True)
        kept = HERE / f"images-{found['name']}.json"
        if kept.exists() and json.loads(kept.read_text())["steps"] != found["steps"]:
            raise SystemExit(f"{kept} holds another run: move it away, or train another --seed.")
        write_json(kept, found)
        shown = [{"what": k, "number": v} for k, v in found.items() if isinstance(v, int | float)]
        print(found["name"], format_table(shown), sep="\n")


class Features:
    """A classifier, and what it and distances say of data."""

    def __init__(self, data: str) -> None:
        x, labels, test, _ = images_of(data)
        self.rows, others = x.reshape(len(x), -1), test.reshape(len(test), -1)
        self.network = FeatureClassifier(self.rows[:20_000], labels[:20_000])
        self.real = self.network.features(others)
        order = np.random.default_rng(0).permutation(len(others))  # the set is sorted by writers
        self.base = {
            "accuracy of the classifier": self.network.held_out_accuracy,
            "Frechet, halves of the test images": frechet_distance(
                self.real[order[:5_000]], self.real[order[5_000:]]
            ),
            "Frechet, 5,000 training images": frechet_distance(
                self.real, self.network.features(self.rows[-5_000:])
            ),
            "nearest, test images": nearest(others[:1_000], self.rows),
        }


def nearest(x: np.ndarray, rows: np.ndarray) -> float:
    """The mean distance of images to the training image that is nearest to each."""
    squares = (x**2).sum(1)[:, None] - 2 * x @ rows.T + (rows**2).sum(1)
    return float(np.sqrt(squares.min(1).clip(0)).mean())


NETS = ("unet", "transformer", "small", "bound", "vae")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="what", required=True)
    training = parts.add_parser("train")
    training.add_argument("net", choices=NETS)
    training.add_argument("--data", default="mnist", choices=["mnist", "fashion_mnist"])
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--seconds", type=float, default=300)
    training.add_argument("--until", type=float, default=480)
    training.add_argument("--num", type=int, default=5_000, help="draws of each way")
    training.add_argument("--images", type=int, default=60_000, help="to train on")
    training.add_argument("--prior-epochs", type=int, default=60)
    training.add_argument("--hardware", default=f"{os.cpu_count()} cores, {platform.machine()}")
    training.add_argument("--out", type=Path, default=Path(os.environ.get("OUT_DIR", ".")))
    judging = parts.add_parser("judge")
    judging.add_argument("folders", nargs="+", type=Path)
    a = parser.parse_args()
    if a.what == "judge":
        judge(a.folders)
        return
    out = Results(a.out, f"{a.data}-{a.net}-{a.seed}", a.until)
    out.add(hardware=a.hardware)
    if a.net == "vae":
        autoencoder(a, out)
    elif a.net == "small":
        small(a, out)
    else:
        diffusion(a.net, a, out)


if __name__ == "__main__":
    main()
