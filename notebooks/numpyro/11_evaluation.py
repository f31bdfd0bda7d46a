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
# # 11. How likely are my data?
#
# Tables of generative models are sorted by $\log p(x)$, a number that nobody can compute: it is an
# integral over all codes. What the tables hold are stand-ins. **Which of them can be believed, and
# how would one notice that one cannot?** Here is one model, and all of them on it:
#
# | number | from draws of the guide | side |
# |---|---|---|
# | ELBO | $\mathbb{E} \log w$ | below |
# | IWAE-$K$ | $\mathbb{E} \log \frac1K \sum_k w_k$ | below |
# | JVI | a jackknife of IWAE | neither |
# | AIS | chains from guide to posterior | below |
# | reverse AIS | chains from posterior to guide | above |
#
# with the importance weight $w = p(x, z) / q(z \mid x)$, $\mathbb{E}_q\, w = p(x)$.

# %%
import os
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist

from dgm_core.data import binarize, load
from dgm_core.diagnostics import iwae_bound, summary
from numpyro_dgm.evaluation import ais, bdmc, log_weights
from numpyro_dgm.guides import Guide
from numpyro_dgm.mcmc import HMC
from numpyro_dgm.models import VAE
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests

# %% [markdown]
# ## One model
#
# A VAE with eight latent dimensions on small images of digits, binarized. Its guide is a diagonal
# normal, as everywhere; nothing below depends on that.

# %%
digits = load("digits")
x_train, x_test = (
    binarize(images, "threshold").astype(np.float32) for images in (digits.train, digits.test)
)
x_test = x_test[: 8 if FAST else 60]
vae = VAE(64, 8, key=jax.random.key(0))
run = fit(
    vae.model,
    vae.guide,
    x_train,
    optim=Adam(2e-3),
    num_epochs=2 if FAST else 200,
    batch_size=128,
    seed=0,
    progress=False,
)
log_w = log_weights(run, x_test, num_particles=50 if FAST else 5000)
print(summary(log_w))

# %% [markdown]
# The bounds rise from ELBO to IWAE as they must. The jackknife corrects for what IWAE still lacks,
# but it is an estimate: nothing keeps it below $\log p(x)$. The standard errors are those of the
# mean over images; a difference between two numbers *of the same images* is known far better.
#
# ## Annealing
#
# Importance weights ask that a draw from $q$ lands in the posterior in one step. Annealing takes
# many: chains move through the densities
#
# $$f_\beta(z) = q(z \mid x)^{1 - \beta}\, p(x, z)^\beta, \qquad
# 0 = \beta_0 < \dots < \beta_K = 1,$$
#
# with a few leapfrog steps at each temperature, and collect $\log w = \sum_k (\beta_k -
# \beta_{k-1}) \log \frac{p}{q}(z_{k-1})$. Again $\mathbb{E}\, w = p(x)$, whatever $K$ and however
# badly the chains mix. Chains that run *backwards*, from the posterior to $q$, have $\mathbb{E}\,
# 1/w = 1/p(x)$, and so bound $\log p(x)$ from above.

# %%
chains = 4 if FAST else 16
kernel = HMC(0.1, 2 if FAST else 5)
bounds = ais(run, x_test, steps=10 if FAST else 200, chains=chains, kernel=kernel, progress=False)
print(bounds)

# %% [markdown]
# Whose posterior did the reverse chains start in? Nobody has exact draws for a real image, so they
# started where the forward chains came to, and the table says that the upper bound is as good as
# these. On images that the model makes itself the code that made them *is* an exact draw: this is
# bidirectional Monte Carlo, whose gap bounds the error of either side. How many steps does it take?

# %%
steps = (5,) if FAST else (10, 30, 100, 300)
found = [
    bdmc(run, x_test, steps=num, chains=chains, kernel=kernel, progress=False) for num in steps
]
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
gaps = [one.mean("gap") for one in found]
errors = [2 * one.standard_error("gap") for one in found]
ax.errorbar(steps, gaps, errors, marker="o", capsize=3)
ax.axhline(0.0, color="black", linewidth=1)
ax.set(
    xscale="log",
    xlabel="steps between guide and posterior",
    ylabel="upper - lower bound (nats)",
    title="simulated images, two standard errors",
)
plt.show()

# %% [markdown]
# ## Where ELBO and IWAE mislead: they measure the guide
#
# Take the trained model and replace its guide by the prior: a guide that has never looked at an
# image. The model is the same, so $\log p(x)$ is the same. What do the numbers say?

# %%
blind = replace(run, guide=Guide(run.model))
log_v = log_w if FAST else log_weights(blind, x_test, num_particles=len(log_w))
options = {"chains": chains, "kernel": kernel, "schedule": "power", "progress": False}
annealed = bounds if FAST else ais(blind, x_test, steps=500, **options)
numbers = np.unique(np.geomspace(1, len(log_w), 25).astype(int))
fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
curves = {}
for name, weights, color in (("encoder", log_w, "C0"), ("prior", log_v, "C1")):
    curves[name] = [
        iwae_bound(weights[: len(weights) // num * num].reshape(num, -1, len(x_test))).mean()
        for num in numbers
    ]
    ax.plot(numbers, curves[name], color=color, label=f"IWAE-K, guide: {name}")
for name, one, color in (("encoder", bounds, "C0"), ("prior", annealed, "C1")):
    ax.axhline(one.mean("AIS"), color=color, linestyle="--", label=f"AIS from the {name}")
ax.set(
    xscale="log",
    xlabel="particles K (1 is the ELBO)",
    ylabel="nats per image",
    ylim=(min(bounds.mean("AIS") - 30, curves["encoder"][0] - 5), bounds.mean("AIS") + 4),
)
ax.legend(loc="lower right")
plt.show()
for name, weights, one in (("encoder", log_w, bounds), ("prior", log_v, annealed)):
    print(
        f"guide: {name:8}  ELBO {weights.mean():8.2f}  IWAE-{len(weights)} "
        f"{iwae_bound(weights).mean():7.2f}  AIS {one.mean('AIS'):7.2f}"
    )

# %% [markdown]
# One and the same model, and its ELBO falls by more than thirty nats; the prior needs hundreds of
# particles to reach what the encoder has with one. Thousands of them nearly make up for it here, in
# eight dimensions; in fifty they never would. A comparison of two *models* by their ELBO, or by
# IWAE with few particles, compares their guides first. Annealing from either end finds the same
# number, because its chains walk to the posterior instead of having to hit it.
#
# ## Where annealing misleads: modes that no chain enters
#
# A latent $z \sim \mathrm{Normal}(0, 3)$ is seen through its square, $x \mid z \sim
# \mathrm{Normal}(z^2, 1)$, and $x = 9$. The posterior has two modes, $\pm 3$, and a guide that
# knows one of them is as good a fit as can be wished for, there.

# %%


def square(x):
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 3.0))
        numpyro.sample("x", dist.Normal(z**2, 1.0), obs=x)


def one_mode(x):
    with numpyro.plate("data", len(x)):
        numpyro.sample("z", dist.Normal(jnp.sqrt(x), 0.2))


x = np.array([9.0], np.float32)
grid = np.linspace(-8, 8, 20_001)
density = np.exp(-0.5 * (grid / 3) ** 2 - 0.5 * (x - grid**2) ** 2) / (2 * np.pi * 3)
exact = np.log(np.trapezoid(density, grid))
pair = SimpleNamespace(model=square, guide=one_mode)
options = {"steps": 20 if FAST else 300, "chains": 50, "kernel": HMC(0.1, 5), "progress": False}
print(f"log p(x)                 {exact:.3f}")
for start in ("guide",) if FAST else ("guide", "prior"):
    one = ais(pair, x, start=start, **options)
    print(
        f"AIS from the {start}:      {one.lower[0]:.3f} to {one.upper[0]:.3f}  "
        f"(errors {one['AIS error'][0]:.3f}, {one['reverse AIS error'][0]:.3f})"
    )
print(f"missing: log 2           {np.log(2):.3f}")

# %% [markdown]
# From the guide both bounds agree to a hundredth of a nat, as their errors say, and both are too
# low by $\log 2$: no chain ever saw the other mode, and the approximate upper bound starts where
# the chains have been. From the prior, which covers both, the number is right within its error.
# This is the limit of all numbers here, IWAE and JVI included: **a mode that nobody visits is in no
# average**. On data that the model makes, half of the true codes lie in the mode that the guide
# does not know, and there the upper bound of `bdmc` stays far above the lower one, which is what it
# is for:

# %%
seen = np.full(40, 9.0, np.float32)  # only their number counts


def near_one_mode(x):
    with numpyro.plate("data", len(x)):
        numpyro.sample("z", dist.Normal(jnp.sqrt(x.clip(0.01)), 0.3))


for name, guide in (("one mode", near_one_mode), ("the prior", Guide(square)))[2 * FAST :]:
    both = bdmc(SimpleNamespace(model=square, guide=guide), seen, **options)
    print(f"from {name:10} the gap is {both.mean('gap'):9.3f} nats per datum")

# %% [markdown]
# So, before a number goes into a table: `bdmc` on the model's own data, until the gap is as small
# as the differences that are to be reported; then `ais` with these settings on the test data; and
# the importance-weighted bound beside it, with its $\hat k$, for comparison with the literature.
