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

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from pyro import distributions as dist
from sklearn.datasets import load_diabetes

from pyro_dgm.conditionals import FullRankNormal, StandardNormal
from pyro_dgm.losses import ELBO
from pyro_dgm.nn import MLP, register
from pyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
pyro.set_rng_seed(0)


# %%
diabetes = load_diabetes(scaled=False)
raw = np.stack([diabetes.data[:, 2], diabetes.target], 1)[np.random.default_rng(0).permutation(442)]
bmi, progression = torch.as_tensor((raw - raw.mean(0)) / raw.std(0), dtype=torch.float32).split(
    1, dim=1
)
bmi_train, bmi_test, y_train, y_test = (
    bmi[:342],
    bmi[342:],
    progression[:342, 0],
    progression[342:, 0],
)
features, prior, posterior = (
    MLP(1, (32, 16), activation="tanh"),
    StandardNormal(16),
    FullRankNormal(16),
)


def regression(bmi, progression=None):
    h = register("features", features)(bmi)  # (batch, 16)
    w = pyro.sample("w", prior())
    noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("patients", 342, subsample_size=len(bmi)):
        return pyro.sample("progression", dist.Normal((h * w).sum(-1), noise), obs=progression)


def regression_guide(bmi, progression=None):
    return pyro.sample("w", register("posterior", posterior)())


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
with torch.no_grad():
    noise, q, h = run.params["noise"], posterior(), features(bmi_train)
    covariance = torch.linalg.inv(torch.eye(16) + h.T @ h / noise**2)
    exact_mean, exact_sd = covariance @ h.T @ y_train / noise**2, covariance.diagonal().sqrt()
    guide_mean, guide_sd = q.mean.detach(), q.variance.sqrt()
    evidence = dist.MultivariateNormal(
        torch.zeros(342), h @ h.T + noise**2 * torch.eye(342)
    ).log_prob(y_train)
    bound = -ELBO(num_particles=1000)(regression, regression_guide, bmi_train, y_train)
    print(f"ELBO / patient {bound / 342:.4f},  log evidence / patient {evidence / 342:.4f}")

    grid = torch.linspace(-3.0, 5.0, 100)[:, None]
    w = q.sample((500,))  # (500, 16)
    curves, held_out = w @ features(grid).T, w @ features(bmi_test).T  # (500, 100) each
    predictions = (held_out + noise * torch.randn(500, 100)).numpy()
    low, high = np.quantile(predictions, (0.05, 0.95), axis=0)
    covered = np.mean((low < y_test.numpy()) & (y_test.numpy() < high))
    print(f"{covered:.0%} of the held-out patients lie in their 90 % interval")
    band = np.quantile((curves + noise * torch.randn(500, 100)).numpy(), (0.05, 0.95), axis=0)

(bmi_mean, y_mean), (bmi_sd, y_sd) = raw.mean(0), raw.std(0)
fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
axis = grid[:, 0].numpy() * bmi_sd + bmi_mean
left.plot(raw[:342, 0], raw[:342, 1], ".", color="gray", markersize=4, label="patients")
left.fill_between(
    axis, *(band * y_sd + y_mean), color="C1", alpha=0.2, label="90 % of new patients"
)
left.plot(axis, curves[:40].numpy().T * y_sd + y_mean, color="C0", linewidth=0.7, alpha=0.5)
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
