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
# # 15. Energies
#
# Any network from data to one number is a density: $p(x) = e^{-E(x)} / Z$, with $Z = \int e^{-E(x)}
# dx$. No invertible layers, no order of the pixels, no encoder. The price is $Z$, which nobody
# knows. **How does one learn a density that cannot be evaluated, and how good is it then?**
#
# The gradient of the log-likelihood does not need $Z$, only draws:
#
# $$\nabla_\theta \log p(x) = -\nabla_\theta E(x) + \mathbb{E}_{p}\left[\nabla_\theta E\right].$$
#
# Data minus model: push the energy down where data are, and up where the model draws. The draws are
# ends of Markov chains. Here they are `Persistent`: they go on from step to step.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch

from dgm_core.data import load
from dgm_core.data.toys import two_moons
from dgm_core.results import format_table
from pyro_dgm import ELBO, VAE, Adam, fit, log_weights
from pyro_dgm.conditionals import StandardNormal, Tilted, UnnormalizedDistribution
from pyro_dgm.evaluation import annealed_log_z, normalized
from pyro_dgm.flows import MAF
from pyro_dgm.losses import ContrastiveDivergence, NoiseContrastive, Persistent
from pyro_dgm.mcmc import MALA, Langevin
from pyro_dgm.nn import MLP, register

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
pyro.set_rng_seed(0)


def density_model():
    density = Tilted(StandardNormal(2), MLP(2, (64, 64), 1, activation="silu"))

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", register("density", density)(), obs=x)

    return model


# %% [markdown]
# ## Data minus model
#
# `Tilted` multiplies a normal distribution by $e^{f(x)}$, which keeps $Z$ finite whatever the
# network $f$ does. The chains take Metropolis-adjusted Langevin steps. After training, annealed
# importance sampling gives an interval of $\ln Z$, from below and from above; with its upper end,
# the careful one, the density is a density, and can be looked at.

# %%
moons, settings = two_moons(2000) / 2, {"num_steps": 30 if FAST else 1500, "batch_size": 200}
settings |= {"optim": Adam(2e-3), "progress": False}
contrastive = ContrastiveDivergence("x", kernel=MALA(0.2), steps=10, chains=Persistent(200))
run = fit(density_model(), None, moons, loss=contrastive, **settings)
chains = run.term_state["ContrastiveDivergence(x)"]["chains"]
annealing = {"steps": 20 if FAST else 200, "chains": 100, "progress": False}
bounds = annealed_log_z(run, moons[:2], site="x", **annealing)
print(f"ln Z is between {bounds.lower[0]:.3f} and {bounds.upper[0]:.3f}.")

axis = np.linspace(-2.2, 2.2, 60, dtype=np.float32)
grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def log_density(run, log_z, x):
    return log_weights(normalized(run, {"x": log_z}), x, num_particles=1)[0]


figure, panels = plt.subplots(1, 3, figsize=(10, 3.4), sharex=True, sharey=True)
image = np.exp(log_density(run, bounds.upper[0], grid)).reshape(60, 60)
panels[0].scatter(*moons[:600].T, s=4)
panels[1].scatter(*np.asarray(chains).T, s=4)
panels[2].contourf(axis, axis, image, 20, cmap="magma")
for panel, title in zip(panels, ("data", "chains", "p(x)")):
    panel.set(title=title, xlim=axis[[0, -1]], ylim=axis[[0, -1]])
held_out = two_moons(2000, seed=1) / 2
print(f"Held-out data: {log_density(run, bounds.upper[0], held_out).mean():.3f} nats.")

# %% [markdown]
# ## What do uncorrected steps converge to?
#
# Many papers leave the Metropolis correction out, and stop the chains after $k$ steps. Take the
# simplest energy, $E(x) = \lambda x^2 / 2$, and data of variance $1.5$: the answer is $\lambda =
# 1 / 1.5 = 0.6667$. A step $x - h \lambda x + \sqrt{2 h} \xi$ is a linear map, so that
# its stationary variance is known, $1 / (\lambda (1 - h \lambda / 2))$: it is too large.
# Contrastive divergence stops where the chain leaves the data as they are, at *every* $k$: at $h =
# 0.1$ that is $\lambda = 0.6905$. A correction mends it; more steps do not.

# %%
standard = StandardNormal(1)
x = np.random.default_rng(0).normal(0, 1, (4000, 1))
x = (x * np.sqrt(1.5) / x.std()).astype(np.float32)


def quadratic(x):
    rate = pyro.param("rate", torch.tensor(1.0))
    energy = UnnormalizedDistribution(lambda x: -rate * x[..., 0] ** 2 / 2, standard(), MALA(0.1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", energy, obs=x)


rows = []
for kernel in (Langevin(0.2**0.5), MALA(0.2**0.5)):
    for k in (1, 5):
        pyro.clear_param_store()
        loss = ContrastiveDivergence("x", kernel=kernel, steps=k, chains=Persistent(40_000))
        path = fit(
            quadratic,
            None,
            x,
            loss=loss,
            optim=Adam(5e-3),
            num_epochs=30 if FAST else 200,
            batch_size=4000,
            average=0.98,
            progress=False,
        )  # an average of the last weights
        rows.append({"kernel": type(kernel).__name__, "k": k, "rate": float(path.params["rate"])})
print(format_table(rows, digits=4))

# %% [markdown]
# ## Noise contrastive estimation with a flow
#
# Tell data from noise of known density by logistic regression, and let the classifier be $\log p(x)
# - \log p_\text{noise}(x)$. If the energy has a free constant, the bias of its last layer, it ends
# up as $-\ln Z$: the density comes out *normalized*. No chain runs. The closer the noise is to the
# data the better, so the noise is a flow that is fitted to the data at the same time.

# %%
pyro.clear_param_store()
contrast = NoiseContrastive("x", noise=MAF(2, num_layers=2), ratio=2)
nce = fit(density_model(), None, moons, loss=contrast, **settings)
nce_bounds = annealed_log_z(nce, moons[:2], site="x", **annealing)
print(f"ln Z is between {nce_bounds.lower[0]:.3f} and {nce_bounds.upper[0]:.3f}; NCE says 0.")
print(f"Held-out data: {log_density(nce, nce_bounds.upper[0], held_out).mean():.3f} nats.")

# %% [markdown]
# ## A tilted prior in a VAE
#
# The codes of a VAE are not normally distributed, whatever the prior says; a tilt can say so. The
# guide's draws are the data of the prior's contrastive divergence, and the bound, beside it, has
# $\log p(z)$ with an estimate of $\ln Z$. That estimate is below $\ln Z$ on average, so that the
# bound that is logged may be too high: what is reported has the upper end of an interval.

# %%
digits = load("digits")
train, test = (
    (images.reshape(-1, 64) > 0.5).astype(np.float32) for images in (digits.train, digits.test)
)
tilt = MLP(6, (64,), 1, activation="silu")
priors = {"standard normal": StandardNormal(6), "tilted": Tilted(StandardNormal(6), tilt)}
rows = []
for name, prior in priors.items():
    pyro.clear_param_store()
    vae = VAE(64, 6, hidden=(128,), prior=prior)
    loss = ELBO()
    if name == "tilted":
        chains = Persistent(256)
        kernel = Langevin(0.2, 10)
        loss += ContrastiveDivergence("z", kernel=kernel, chains=chains, log_z=500)
    trained = fit(
        vae.model,
        vae.guide,
        train,
        loss=loss,
        optim=Adam(2e-3),
        batch_size=128,
        seed=1,
        num_epochs=2 if FAST else 40,
        progress=False,
    )
    interval = (0.0, 0.0)
    if name == "tilted":
        found = annealed_log_z(trained, train[:2], site="z", **annealing)
        interval = found.lower[0], found.upper[0]
        trained = normalized(trained, {"z": interval[1]})
    elbo = log_weights(trained, test, num_particles=16).mean()
    rows.append({"prior": name, "ELBO": elbo, "ln Z from": interval[0], "to": interval[1]})
print(format_table(rows))

# %% [markdown]
# What the table shows is the bound on held-out digits, with everything that is not known on the
# careful side. Whether the tilt is worth it depends on the data; what it may claim does not.
#
# - The gradient of an energy is data minus model, and the model is where the chains are.
# - Without a correction of the steps something else is learned, and no number of steps mends it.
# - $\ln Z$ is an interval, never a number; a bound with it is reported by the upper end.
