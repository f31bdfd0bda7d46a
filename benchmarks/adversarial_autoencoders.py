"""The experiments of `adversarial.py` in which a guide infers latents: autoencoders and BiGAN."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from dgm_core.data import load
from dgm_core.schedules import Schedule
from dgm_core.surgery import ratio_kl


def imq_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased MMD^2 with the kernel C / (C + |x - y|^2), C = 2 d: that of WAE-MMD, for a
    standard normal prior.
    """
    c, n, m = 2 * x.shape[1], len(x), len(y)
    xx, yy, xy = (c / (c + cdist(a, b, "sqeuclidean")) for a, b in ((x, x), (y, y), (x, y)))
    return float((xx.sum() - n) / (n * (n - 1)) + (yy.sum() - m) / (m * (m - 1)) - 2 * xy.mean())


AUTOENCODERS: dict[str, Callable[[Any, Callable[[], Any], Any], Any]] = {
    "VAE": lambda l, critic, adam: l.ELBO(),
    "AAE": lambda l, critic, adam: l.aae(
        10.0, l.JensenShannon("z", critic(), optim=adam, regularizer=l.R1(0.1))
    ),
    "WAE": lambda l, critic, adam: l.wae(45.0),
    "InfoVAE": lambda l, critic, adam: l.info_vae(0.8, 40.0, l.MMD("z", l.IMQ())),
}


def autoencoders(backend: Any, cell: str, num_steps: int = 4000) -> dict[str, Any]:
    """Protocol: a VAE of digits, 64 numbers in [0, 1] (64-128-128-2 ReLU units, likelihood
    Normal(m(z), 0.2), Gaussian guide, two latents to look at) under each objective: 4,000 steps of
    batches of 512 with Adam 2e-3, a linear decay to a tenth, and the average of the weights with
    decay 0.99. AAE: weight 10, critic 2-128-128 with R1(0.1), Adam 1e-3; WAE: 45 MMD (IMQ);
    InfoVAE: alpha = 0.8, lambda = 40 (MMD, IMQ). Reported: the squared error |x - m(z)|^2 at the
    mean of the guide; the unbiased MMD^2 (IMQ) between four draws of q(z | x) for each of all 1,797
    digits and 8,000 draws of the prior; and KL(q(z), p(z)) by a quadratic density ratio.
    """
    losses, adam = backend.package.losses, backend.package.Adam(1e-3, betas=(0.5, 0.99))
    data = load("digits")
    x = np.concatenate([data.train, data.validation])
    likelihood = backend.build("conditionals", "Normal", 64, context_shape=128, scale=0.2)
    vae = backend.build("models", "VAE", 64, 2, hidden=(128, 128), likelihood=likelihood)
    loss = AUTOENCODERS[cell](losses, lambda: backend.build("losses", "Critic", 2), adam)
    epochs = num_steps // -(-len(x) // 512)
    settings = {
        "batch_size": 512,
        "num_epochs": epochs,
        "lr_schedule": decay(num_steps),
        "average": 0.99,
    }
    run = backend.fit(
        vae.model, vae.guide, x, loss=loss, optim=backend.package.Adam(2e-3), **settings
    )
    parts = {"train": x, "test": data.test}
    found = {
        f"error ({name})": float(
            ((backend.package.reconstruct(run, part)["x"] - part) ** 2).sum(1).mean()
        )
        for name, part in parts.items()
    }
    z = (
        backend.package.latents(run, np.concatenate([x, data.test]), num_draws=4)["z"]
        .reshape(-1, 2)
        .astype(float)
    )
    prior = np.random.default_rng(0).standard_normal((8000, 2))
    return {**found, "1000 MMD^2": 1000 * imq_mmd2(z, prior), "KL(q(z), p(z))": ratio_kl(z, prior)}


def decay(num_steps: int) -> Callable[[Any], Any]:
    """A learning rate that falls linearly to a tenth."""
    return Schedule((0, num_steps), (1.0, 0.1))


# BiGAN


def bigan(backend: Any, cell: str, num_epochs: int = 80) -> dict[str, Any]:
    """Protocol: x = 1 + 1.2 z + 0.9 e, 8,192 data; generator Normal(w z + b, 0.9) and posterior
    Normal(a x + c, t), all by JensenShannon(("x", "z")) with a critic of 64-64 tanh units and
    R1(0.02), batches of 512, Adam 1e-2 (betas 0.5, 0.99) decaying as 1 / (1 + step / 200), average
    of the weights 0.99. The guide against the exact posterior of the learned generator: the largest
    error of its mean at x = -2, 1 and 4, in posterior standard deviations; its slope and its
    standard deviation over the exact ones.
    """
    package = backend.package
    adam = package.Adam(1e-2, betas=(0.5, 0.99))
    rng = np.random.default_rng(backend.seed)
    x = (1 + 1.2 * rng.standard_normal((8192, 1)) + 0.9 * rng.standard_normal((8192, 1))).astype(
        np.float32
    )
    generator = backend.build("conditionals", "Normal", 1, context_shape=1, scale=0.9)
    posterior = backend.build("conditionals", "DiagonalNormal", 1, context_shape=1)
    pair = backend.build("models", "BiGAN", 1, 1, generator=generator, posterior=posterior)
    critic = backend.build("losses", "Critic", 2, hidden=(64, 64), activation="tanh")
    loss = package.losses.JensenShannon(
        ("x", "z"), critic, optim=adam, regularizer=package.losses.R1(0.02)
    )
    schedule = lambda step: 1 / (1 + step / 200)  # noqa: E731
    run = backend.fit(
        pair.model,
        pair.guide,
        x,
        loss=loss,
        optim=adam,
        batch_size=512,
        num_epochs=num_epochs,
        average=0.99,
        lr_schedule=schedule,
    )
    return posterior_errors(backend, run)


def posterior_errors(backend: Any, run: Any) -> dict[str, float]:
    """How far the guide of a linear-Gaussian pair is from the posterior of its generator, both read
    from their draws' exact moments.
    """

    grid = np.array([[-2.0], [1.0], [4.0]], np.float32)
    draws = backend.package.latents(run, grid, num_draws=4000)["z"][..., 0]
    mean, sd = draws.mean(0), draws.std(0)
    slope, offset = np.polyfit(grid[:, 0], mean, 1)
    x = backend.package.generate(run, size=200_000)
    z, x = x["z"][:, 0].astype(float), x["x"][:, 0].astype(float)
    w, b = np.polyfit(z, x, 1)
    s = np.std(x - w * z - b)
    exact_sd = s / math.sqrt(w**2 + s**2)
    exact = w * (grid[:, 0] - b) / (w**2 + s**2)
    return {
        "w": float(w),
        "b": float(b),
        "s": float(s),
        "posterior mean error": float(np.abs(offset + slope * grid[:, 0] - exact).max() / exact_sd),
        "posterior slope ratio": float(slope * (w**2 + s**2) / w),
        "posterior sd ratio": float(sd.mean() / exact_sd),
    }
