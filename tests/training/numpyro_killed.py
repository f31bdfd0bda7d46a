"""A run with everything on that can have a state, for the tests that kill it:
`python -m tests.training.numpyro_killed FOLDER EPOCHS`.
"""

import sys
import time

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax

from dgm_core.schedules import cyclical, linear
from numpyro_dgm.losses import ELBO, R1, GradientPenalty, JensenShannon
from numpyro_dgm.nn import MLP, register
from numpyro_dgm.training import Run, binarize, fit

GREY = np.random.default_rng(0).random((48, 6)).astype(np.float32)


class NoisyVAE:
    """A VAE whose encoder has drop-out and batch normalisation."""

    def __init__(self) -> None:
        keys = jax.random.split(jax.random.key(0))
        self.encoder = MLP(6, (8,), 4, batch_norm=True, dropout=0.2, key=keys[0])
        self.decoder = MLP(2, (8,), 6, key=keys[1])

    def model(self, x):
        decoder = register("decoder", self.decoder)
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        encoder = register("encoder", self.encoder)
        with numpyro.plate("data", len(x)):
            h = encoder(x)
            numpyro.sample("z", dist.Normal(h[..., :2], jax.nn.softplus(h[..., 2:])).to_event(1))


def train(folder, num_epochs: int, **changes) -> Run:
    """The run; in the folder if one is given."""
    vae = NoisyVAE()
    arguments = {
        "loss": ELBO(beta=cyclical(20))
        + 0.3 * JensenShannon("z", critic_steps=2, regularizer=R1(0.1))
        + JensenShannon(("z",), regularizer=GradientPenalty()),
        "optim": optax.chain(optax.add_noise(0.01, 0.5, jax.random.key(3)), optax.adamw(3e-3)),
        "batch_size": 16,
        "validation": (GREY > 0.5).astype(np.float32),
        "patience": 100,
        "clip_norm": 1.0,
        "lr_schedule": linear(40, 1.0, 0.1),
        "average": 0.9,
        "transform": binarize,
        "num_epochs": num_epochs,
        "checkpoint": folder,
        "seed": 4,
        "progress": False,
        **changes,
    }
    return fit(vae.model, vae.guide, GREY, **arguments)


if __name__ == "__main__":
    train(
        sys.argv[1],
        int(sys.argv[2]),
        callbacks=[lambda run: (print(run.epoch, flush=True), time.sleep(0.1))],
    )
