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
# # 6. Not an autoencoder
#
# Nothing in the first lesson needed an encoder, or one code for each datum. **What else is a
# latent variable model?** Here is a regression with a *global* latent variable: how does the
# progression of diabetes after one year depend on the body mass index? A network makes features
# $h(x)$ of the index; their weights $w$ are unknown, and shared by 342 patients,
#
# $$w \sim \mathrm{Normal}(0, I), \qquad y_n \mid x_n, w \sim \mathrm{Normal}(h(x_n)^\top w,
# \sigma).$$
#
# The guide is a normal distribution of $w$ with a full covariance matrix: the class that would be a
# prior or an encoder's head elsewhere. The plate says how many patients there are, so minibatches
# count right: the price of $w$ is paid once, not once for each batch.

# %%
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist
from sklearn.datasets import load_diabetes

from numpyro_dgm.conditionals import FullRankNormal, StandardNormal
from numpyro_dgm.losses import ELBO
from numpyro_dgm.nn import MLP, register
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
keys = iter(jax.random.split(jax.random.key(0), 100))  # every draw takes the next one


# %%
diabetes = load_diabetes(scaled=False)
raw = np.stack([diabetes.data[:, 2], diabetes.target], 1)[np.random.default_rng(0).permutation(442)]
bmi, progression = jnp.split(
    jnp.asarray((raw - raw.mean(0)) / raw.std(0), dtype=jnp.float32), 2, axis=1
)
bmi_train, bmi_test, y_train, y_test = (
    bmi[:342],
    bmi[342:],
    progression[:342, 0],
    progression[342:, 0],
)
features, prior, posterior = (
    MLP(1, (32, 16), activation="tanh", key=next(keys)),
    StandardNormal(16),
    FullRankNormal(16),
)


def regression(bmi, progression=None):
    h = register("features", features)(bmi)  # (batch, 16)
    w = numpyro.sample("w", prior())
    noise = numpyro.param("noise", jnp.array(1.0), constraint=dist.constraints.positive)
    with numpyro.plate("patients", 342, subsample_size=len(bmi)):
        return numpyro.sample("progression", dist.Normal((h * w).sum(-1), noise), obs=progression)


def regression_guide(bmi, progression=None):
    return numpyro.sample("w", register("posterior", posterior)())


run = fit(
    regression,
    regression_guide,
    (bmi_train, y_train),
    loss=ELBO(num_particles=8),
    optim=Adam(1e-2),
    num_epochs=20 if FAST else 2000,
    average=0.99,
    seed=0,
    progress=False,
)

# %% [markdown]
# Given the features the posterior of $w$ is normal and known exactly, so here we can check what the
# guide has learned, and how much of the evidence the bound has reached.

# %%
features = eqx.combine(
    run.params["features$params"], features
)  # the network with the weights that were learned
posterior = eqx.combine(run.params["posterior$params"], posterior)
noise, q, h = run.params["noise"], posterior(), features(bmi_train)
covariance = jnp.linalg.inv(jnp.eye(16) + h.T @ h / noise**2)
exact_mean, exact_sd = covariance @ h.T @ y_train / noise**2, jnp.sqrt(jnp.diagonal(covariance))
guide_mean, guide_sd = q.mean, jnp.sqrt(q.variance)
evidence = dist.MultivariateNormal(jnp.zeros(342), h @ h.T + noise**2 * jnp.eye(342)).log_prob(
    y_train
)
bound = -ELBO(num_particles=1000).loss(
    next(keys), run.params, regression, regression_guide, bmi_train, y_train
)
print(f"ELBO / patient {bound / 342:.4f},  log evidence / patient {evidence / 342:.4f}")

grid = jnp.linspace(-3.0, 5.0, 100)[:, None]
w = q.sample(next(keys), (500,))  # (500, 16)
curves, held_out = w @ features(grid).T, w @ features(bmi_test).T  # (500, 100) each
predictions = held_out + noise * jax.random.normal(next(keys), (500, 100))
low, high = np.quantile(predictions, (0.05, 0.95), axis=0)
covered = np.mean((low < y_test) & (y_test < high))
print(f"{covered:.0%} of the held-out patients lie in their 90 % interval")
band = np.quantile(curves + noise * jax.random.normal(next(keys), (500, 100)), (0.05, 0.95), axis=0)

(bmi_mean, y_mean), (bmi_sd, y_sd) = raw.mean(0), raw.std(0)
fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
axis = np.asarray(grid[:, 0]) * bmi_sd + bmi_mean
left.plot(raw[:342, 0], raw[:342, 1], ".", color="gray", markersize=4, label="patients")
left.fill_between(
    axis, *(band * y_sd + y_mean), color="C1", alpha=0.2, label="90 % of new patients"
)
left.plot(axis, np.asarray(curves[:40]).T * y_sd + y_mean, color="C0", linewidth=0.7, alpha=0.5)
left.set(
    xlabel="body mass index",
    ylabel="progression after one year",
    title="40 draws of the regression curve",
)
left.legend(loc="upper left")
place = np.arange(16)
right.errorbar(
    place - 0.12,
    exact_mean,
    exact_sd,
    fmt="o",
    color="black",
    markersize=4,
    label="exact posterior",
)
right.errorbar(place + 0.12, guide_mean, guide_sd, fmt="o", color="C0", markersize=4, label="guide")
right.set(
    xlabel="feature",
    ylabel="weight w: mean and standard deviation",
    ylim=(-2.2, 2.2),
    title="is the guide right?",
)
right.legend(ncols=2)
plt.show()

# %% [markdown]
# The curves agree where there are many patients and spread where there are few; the band adds the
# differences between patients of the same index. The guide is close to the exact posterior, and the
# bound to the evidence. Three things were exchanged against the first model (one latent variable
# for all data, another network, another guide), and the loss did not have to be told.
