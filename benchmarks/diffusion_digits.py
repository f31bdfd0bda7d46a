"""Diffusions of digits (scikit-learn's, 8x8 with 17 levels), beside a VAE, GANs and PixelCNN.

    python benchmarks/diffusion_digits.py [levels] [dequantized] [labels] [transformer]
    [vae] [joint] [afterwards] [--seed 0]

Protocol: the first 1,497 to train and the last 300 to test, NumPyro, moving averages of the weights
(0.999), Adam falling to a hundredth, no selection.
levels: `Diffusion(64, hidden=(256, 256, 256), predict="velocity", variance="learned",
schedule=VP(1000), num_levels=17)`, `DenoisingELBO`, 10,000 batches of 128, Adam 1e-3: bits per
dimension of the bound on the mass.
dequantized: the same network on (16 x + u) / 17, u uniform, without levels, variance="small",
`DenoisingError(weight="velocity")`, 10,000 batches: bits per dimension of the density of the flow
(20 steps of RK4, exact divergence) at test data with such noise.
labels: the same network with levels, given the label, which is left out in a tenth of the cases,
`DenoisingError(weight="velocity")`, 15,000 batches: Frechet distances of 5,000 draws, as many of
each label, to all 1,797 digits in the features of a classifier of the digits, by 1,000 ancestral
steps, by 100, and by DDIM with 50 and 20 calls; "unconditional" is the same network without its
label, by DDIM with 20; with guidance (w) the share of 5,000 such draws by DDIM with 20 calls that
the classifier gives the label they are drawn with. transformer: the same with images as data and
`TimeTransformer((1, 8, 8), 2, width=64)`, 16 tokens, 5,000 batches; without ancestral draws.
Distances to the nearest training digit would tell draws that are copies: those of test digits are
what new digits have.
vae: ConvVAE with 8 latents and DiscretizedLogisticMixture, a standard normal prior, `ELBO`, 60
epochs of batches of 64, Adam 1e-3. joint: the same with a `Diffusion(8, hidden=(128, 128),
predict="velocity", schedule=VP(100))` prior and `DenoisingELBO("z")`. afterwards: such a prior for
the codes of the first, by `fit_prior`, 200 epochs, Adam 1e-3. "bound" is the ELBO of the test data
in nats, the prior scored by its flow, "IWAE" the bound of 16 particles; Frechet distances of 5,000
draws as above. Each run leaves a file in benchmarks/results/diffusion and is not repeated.
"""

import argparse
import json
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from continuous import cosine
from diffusion import trained
from sklearn.datasets import load_digits

from dgm_core.contexts import Labels
from dgm_core.diffusion import VP
from dgm_core.plots import samples_grid
from dgm_core.results import format_table, write_json
from dgm_core.samples.quality import FeatureClassifier, frechet_distance
from numpyro_dgm import fit
from numpyro_dgm.conditionals import Diffusion, DiscretizedLogisticMixture
from numpyro_dgm.evaluation import fit_prior, generate, log_likelihood
from numpyro_dgm.losses import ELBO, DenoisingELBO, DenoisingError
from numpyro_dgm.models import ConvVAE
from numpyro_dgm.nn import TimeTransformer

HERE = Path(__file__).parent / "results" / "diffusion"
X, LABELS = load_digits().data.astype(np.float32) / 16, load_digits().target.astype(np.int32)
TRAIN, TEST = X[:1497], X[1497:]
NETWORK = {
    "hidden": (256, 256, 256),
    "predict": "velocity",
    "schedule": VP(1000),
    "num_levels": 17,
}
BITS = 64 * np.log(2.0)


class Judge:
    """A classifier of the digits."""

    def __init__(self) -> None:
        self.network = FeatureClassifier(X, LABELS)
        self.real = self.network.features(X)

    def distance(self, draws: Any) -> float:
        """The Frechet distance of draws to all digits."""
        draws = np.asarray(draws).reshape(-1, 64)
        return frechet_distance(self.real, self.network.features(draws))

    def agreement(self, draws: Any, labels: np.ndarray) -> float:
        """The share of draws of these labels."""
        return float((self.network.probabilities(np.asarray(draws)).argmax(1) == labels).mean())


def nearest(x: np.ndarray) -> float:
    """The mean distance of images to the training digit that is nearest to each."""
    squares = (x**2).sum(1)[:, None] - 2 * x @ TRAIN.T + (TRAIN**2).sum(1)
    return float(np.sqrt(squares.min(1).clip(0)).mean())


def levels(seed: int) -> dict[str, Any]:
    """Bits per dimension."""
    net = Diffusion(64, variance="learned", **NETWORK, key=jax.random.key(seed))
    start = time.process_time()
    net = trained(net, TRAIN, DenoisingELBO("x"), 10_000, 128, 1e-3, seed)
    seconds = time.process_time() - start
    bound = jax.jit(lambda x, key: net().bound(x, num_times=50, key=key))
    keys = jax.random.split(jax.random.key(1), 20)
    nats, seen = (
        np.mean([np.asarray(bound(jnp.asarray(x), key)) for key in keys], 0)
        for x in (TEST, TRAIN[:300])
    )
    error = float(nats.std() / len(nats) ** 0.5 / BITS)
    return {
        "bits/dim": float(-nats.mean() / BITS),
        "s.e.": error,
        "bits/dim of training data": float(-seen.mean() / BITS),
        "CPU minutes": seconds / 60,
    }


def dequantized(seed: int) -> dict[str, Any]:
    """Bits per dimension of a density."""
    noise = np.random.default_rng(seed).random((2, *X.shape)).astype(np.float32)
    network = {name: value for name, value in NETWORK.items() if name != "num_levels"}
    x = 2 * (16 * X + noise[0]) / 17 - 1
    net = Diffusion(64, **network, data_variance=0.5, key=jax.random.key(seed))
    start = time.process_time()
    loss = DenoisingError("x", weight="velocity")
    net = trained(net, x[:1497], loss, 10_000, 128, 1e-3, seed)
    seconds = time.process_time() - start
    test = 2 * (16 * TEST + noise[1, 1497:]) / 17 - 1
    score = jax.jit(lambda net, x: net().log_prob(x))
    nats = -np.concatenate([np.asarray(score(net, part)) for part in test.reshape(6, 50, 64)])
    nats = nats + 64 * np.log(17 / 2)  # for one level
    error = float(nats.std() / len(nats) ** 0.5 / BITS)
    return {"bits/dim": float(nats.mean() / BITS), "s.e.": error, "CPU minutes": seconds / 60}


def labels(seed: int, transformer: bool = False) -> dict[str, Any]:
    """Draws, with and without labels."""
    key, shape, steps, net = jax.random.key(seed), (64,), 15_000, None
    if transformer:
        shape, steps = (1, 8, 8), 5_000
        net = TimeTransformer(shape, 2, width=64, context_shape=10, key=key)
    net = Diffusion(shape, net, **NETWORK, context_shape=Labels(10), drop_context=0.1, key=key)
    start = time.process_time()
    loss = DenoisingError("x", weight="velocity")
    data = TRAIN.reshape(-1, *shape), LABELS[:1497]
    net = trained(net, data, loss, steps, 128, 1e-3, seed)
    seconds, judge = time.process_time() - start, Judge()
    found: dict[str, Any] = {"CPU minutes": seconds / 60}
    wanted = np.arange(5_000) % 10
    given = jnp.asarray(wanted)
    fast: dict[str, Any] = {"method": "ddim", "num_steps": 20}
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "ancestral 1000": (lambda net: net(given), {"method": "ancestral"}),
        "ancestral 100": (lambda net: net(given), {"method": "ancestral", "num_steps": 100}),
        "DDIM 50": (lambda net: net(given), {"method": "ddim", "num_steps": 50}),
        "DDIM 20": (lambda net: net(given), fast),
        "w=1": (lambda net: net.guided(given, 1.0), fast),
        "w=3": (lambda net: net.guided(given, 3.0), fast),
        "unconditional": (lambda net: net.unconditional().expand((5_000,)), fast),
    }
    for name, (law, how) in ways.items():
        if transformer and "ancestral" in name:
            continue
        draw = jax.jit(lambda net, key, law=law, how=how: law(net).sample(key, (), **how))
        draws = np.asarray(draw(net, jax.random.key(2))).reshape(-1, 64)
        found[f"Frechet, {name}"] = judge.distance(draws)
        if name != "unconditional":
            found[f"accuracy, {name}"] = judge.agreement(draws, wanted)
        if name == "DDIM 20":
            kind = "transformer" if transformer else "labels"
            picture(HERE / f"{kind}-{seed}.png", draws[:64])
            found["to the nearest training digit, DDIM 20"] = nearest(draws)
            found["to the nearest training digit, test digits"] = nearest(TEST)
    half = np.random.default_rng(0).permutation(len(X))[: len(X) // 2]
    others = np.setdiff1d(np.arange(len(X)), half)
    found["Frechet, halves of the data"] = frechet_distance(judge.real[half], judge.real[others])
    return found


def autoencoder(seed: int, prior: Any = None) -> Any:
    """A run of a VAE with one of the priors."""
    keys, images = jax.random.split(jax.random.key(seed)), TRAIN.reshape(-1, 1, 8, 8)
    likelihood = DiscretizedLogisticMixture(
        (1, 8, 8), num_levels=17, context_shape=(16, 8, 8), key=keys[0]
    )
    own = {} if prior is None else {"prior": prior}
    vae = ConvVAE((1, 8, 8), 8, likelihood=likelihood, **own, key=keys[1])
    return fit(
        vae.model,
        vae.guide,
        images,
        loss=ELBO() if prior is None else DenoisingELBO("z"),
        optim=optax.adam(1e-3),
        num_steps=60 * 23,
        batch_size=64,
        drop_last=True,
        lr_schedule=cosine(60 * 23),
        seed=seed,
        progress=False,
    )


def prior_of(seed: int) -> Any:
    """The diffusion of the codes."""
    settings = {"hidden": (128, 128), "predict": "velocity", "schedule": VP(100)}
    return Diffusion(8, **settings, key=jax.random.key(seed + 7))


def latent(name: str, seed: int) -> dict[str, Any]:
    """A VAE and its prior."""
    start = time.process_time()
    run = autoencoder(seed, prior_of(seed) if name == "joint" else None)
    if name == "afterwards":
        run = fit_prior(
            run,
            TRAIN.reshape(-1, 1, 8, 8),
            prior_of(seed),
            num_epochs=200,
            optim=optax.adam(1e-3),
            lr_schedule=cosine(200 * 6),
            seed=seed,
            progress=False,
        )
    seconds = time.process_time() - start
    report = log_likelihood(run, TEST.reshape(-1, 1, 8, 8), num_particles=16, progress=False)
    draws = np.asarray(generate(run, size=5_000)["x"])
    picture(HERE / f"{name}-{seed}.png", draws[:64])
    return {
        "bound": float(report["ELBO"].mean()),
        "s.e.": float(report["ELBO"].std() / len(TEST) ** 0.5),
        "IWAE": float(report["IWAE"].mean()),
        "KL": float(report["KL z"].mean()),
        "bits/dim": float(-report["IWAE"].mean() / BITS),
        "Frechet": Judge().distance(draws),
        "CPU minutes": seconds / 60,
    }


def picture(path: Path, draws: np.ndarray) -> None:
    """Some draws, 8 by 8."""
    samples_grid(draws.reshape(-1, 64), (1, 8, 8)).savefig(path, dpi=60)


TASKS = {
    "levels": levels,
    "dequantized": dequantized,
    "labels": labels,
    "transformer": partial(labels, transformer=True),
    **{name: partial(latent, name) for name in ("vae", "joint", "afterwards")},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks:
        path = HERE / f"digits-{task}-{arguments.seed}.json"
        if not path.exists():
            found = TASKS[task](arguments.seed)
            found["hardware"] = f"{os.cpu_count()} CPU cores, {platform.machine()}"
            write_json(path, found)
    protocol = (__doc__ or "").split("Protocol: ")[1].split("Each run leaves")[0].strip()
    parts = [f"Protocol: {protocol}"]
    for task in TASKS:
        for path in sorted(HERE.glob(f"digits-{task}-*.json")):
            found = json.loads(path.read_text())
            del found["hardware"]
            rows = [{"what": what, "number": number} for what, number in found.items()]
            parts += [f"## {path.stem[7:]}", "```\n" + format_table(rows) + "\n```"]
    parts.append((HERE.parent / "diffusion_digits_notes.md").read_text())
    text = "\n\n".join(["# Diffusions of digits", *parts])
    (HERE.parent / "diffusion_digits.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
