# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. A model that can only be simulated
#
# In the fifth lesson the guide had no density, but the model had one. Take that away as well. A
# simulator turns parameters $z$ into an outcome $x$ by running a program with random numbers
# inside,
#
# $$z \sim \mathrm{Normal}(0, I), \qquad x = \begin{pmatrix} r \cos a - |z_1 + z_2| / \sqrt 2 \\ r
# \sin a + (z_2 - z_1) / \sqrt 2 \end{pmatrix}, \qquad a \sim \mathrm{Uniform}(-\tfrac\pi2,
# \tfrac\pi2), \quad r \sim \mathrm{Normal}(1, 0.15) .$$
#
# We see an outcome and ask for the parameters. **Can they be inferred when all that one can do is
# to run the program?** The contrast `"joint"` of `RatioELBO` needs nothing else: the critic tells
# pairs $(x, z)$ of data with draws of the guide from pairs that the simulator has made. At its
# best it knows $T = \log q(z \mid x) - \log p(z \mid x)$ (plus a function of $x$ that does not
# matter to the guide), and the guide lowers it. There is no likelihood in the program below, and a
# loss that asked for one would be refused.

# %%
import os
from itertools import count

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro import handlers
from scipy.stats import norm

from numpyro_dgm.conditionals import Generator, ImplicitDistribution
from numpyro_dgm.evaluation import latents
from numpyro_dgm.losses import Critic, RatioELBO
from numpyro_dgm.nn import MLP, register
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
root = jax.random.key(0, impl="rbg")  # a generator that compiles quickly
keys = (jax.random.fold_in(root, i) for i in count())  # every draw takes the next one
adam = Adam(1e-3, betas=(0.5, 0.99))


# %%
def simulate(z, angle, radius):
    """The outcome (*batch, 2) of parameters (*batch, 2) and of the random numbers of the simulator,
    (*batch,).
    """
    first = radius * jnp.cos(angle) - jnp.abs(z[..., 0] + z[..., 1]) / 2**0.5
    return jnp.stack([first, radius * jnp.sin(angle) + (z[..., 1] - z[..., 0]) / 2**0.5], -1)


def simulator(x):
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))

        def run(shape, key):
            angle_key, radius_key = jax.random.split(key)
            return simulate(
                z,
                jax.random.uniform(angle_key, shape, minval=-jnp.pi / 2, maxval=jnp.pi / 2),
                1 + 0.15 * jax.random.normal(radius_key, shape),
            )

        numpyro.sample("x", ImplicitDistribution(run, z.shape[:-1], (2,)), obs=x)


def outcomes(num):
    """What the simulator gives; the parameters are forgotten."""
    program = handlers.seed(handlers.uncondition(simulator), next(keys))
    return handlers.trace(program).get_trace(jnp.zeros((num, 2)))["x"]["value"]


features = MLP(2, (64, 64), activation="elu", key=next(keys))
posterior = Generator(
    2, noise_dim=8, hidden=(128, 128), activation="elu", context_shape=64, key=next(keys)
)


def guide(x):
    h = register("features", features)(x)
    with numpyro.plate("data", len(x)):
        numpyro.sample("z", register("posterior", posterior)(h))


critic = Critic(4, hidden=(128, 128, 128), activation="elu", key=next(keys))
loss = RatioELBO(critic, contrast="joint", critic_steps=2, optim=adam)
run = fit(
    simulator,
    guide,
    outcomes(1024 if FAST else 20_000),
    loss=loss,
    optim=adam,
    num_epochs=2 if FAST else 45,
    batch_size=512,
    drop_last=True,
    average=0.99,
    lr_schedule=lambda step: 1 / (1 + step / 800),
    progress=False,
)

# %% [markdown]
# The program was chosen so that its posterior is known: $x + (|z_1 + z_2|, z_1 - z_2) / \sqrt 2$ is
# a point on half a ring, with a density in polar coordinates. We compare four outcomes on a grid,
# and the means and standard deviations of 300 others.


# %%
def log_exact(x, z):
    """log p(z | x), but for a constant, by the density of the half ring that the loss has never
    seen.
    """
    first, second = (
        x[0] + np.abs(z[..., 0] + z[..., 1]) / 2**0.5,
        x[1] - (z[..., 1] - z[..., 0]) / 2**0.5,
    )
    radius = np.hypot(first, second) + 1e-9
    log_ring = np.where(first > 0, norm.logpdf(radius, 1.0, 0.15) - np.log(radius), -np.inf)
    return log_ring + norm.logpdf(z).sum(-1)


def summaries(z, weights):
    """Mean and standard deviation of |z_1 + z_2| and of z_2 - z_1 (both over sqrt 2), and the
    probability that z_1 + z_2 > 0.
    """
    values = np.stack([np.abs(z[..., 0] + z[..., 1]), z[..., 1] - z[..., 0]], -1) / 2**0.5
    mean = np.einsum("...p,...pk->...k", weights, values)
    sd = np.sqrt(np.einsum("...p,...pk->...k", weights, values**2) - mean**2)
    return mean, sd, (weights * (z.sum(-1) > 0)).sum(-1)


axis = np.linspace(-4.0, 4.0, 161)
plane = np.stack(np.meshgrid(axis, axis), -1)
others = np.asarray(outcomes(300))
exact = np.exp([log_exact(x, plane.reshape(-1, 2)) for x in others])
exact /= exact.sum(1, keepdims=True)
draws = np.moveaxis(latents(run, others, num_draws=1000)["z"], 0, 1)  # (300, 1000, 2)
exact_mean, exact_sd, exact_side = summaries(plane.reshape(-1, 2), exact)
mean, sd, on_side = summaries(draws, np.full((300, 1000), 1e-3))
off, ratio = (
    np.sqrt((((mean - exact_mean) / exact_sd) ** 2).mean()),
    np.exp(np.log(sd / exact_sd).mean()),
)
print(
    f"means are off by {off:.2f} posterior standard deviations (rms); standard deviations are "
    f"{ratio:.2f} x the exact ones (geometric mean)"
)
print(
    f"probability of z_1 + z_2 > 0: between {np.quantile(on_side, 0.05):.2f} and "
    f"{np.quantile(on_side, 0.95):.2f} for 90 % of the outcomes; exact 0.50"
)

examples = np.array([[-1.5, 0.0], [-0.5, 1.0], [0.3, -0.5], [0.9, 0.0]], dtype=np.float32)
fig, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained", sharey=True)
for ax, x, z in zip(axes, examples, np.moveaxis(latents(run, examples, num_draws=1000)["z"], 0, 1)):
    log_p = log_exact(x, plane)
    ax.contourf(axis, axis, np.exp(log_p - log_p.max()), levels=(0.02, 0.2, 0.5, 1.0), cmap="Greys")
    ax.plot(*z.T, ".", color="C1", markersize=2)
    ax.set(
        title=f"x = ({x[0]:.1f}, {x[1]:.1f})",
        xlabel="z[0]",
        xlim=(-3, 3),
        ylim=(-3, 3),
        aspect="equal",
    )
axes[0].set(ylabel="z[1]")
plt.show()

# %% [markdown]
# The shapes are right: thin crescents, rings, and what lies between, drawn in one pass for any
# outcome by a guide that has never seen a likelihood, and that has no density itself. What it does
# miss is in the first picture: where the two halves of the posterior are far apart it takes one of
# them, which is what the second line of numbers says. That is what $\mathrm{KL}(q \,\|\, p)$ asks
# for, rather than a failure of the critic: a guide that forgets one of two equal hills loses $\log
# 2 = 0.7$ nats, and no gradient leads from one hill to the other. The same divergence with a
# density would do the same; where all hills matter, start wide, or train several guides.
