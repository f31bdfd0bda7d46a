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
# # 16. A diffusion, four ways
#
# A diffusion adds noise to a datum, $x_t = \alpha_t x + \sigma_t \epsilon$, until nothing is left
# of it, and a network learns to undo each step. It may be told as a **chain** of latent variables,
# as **denoising**, as a **score** and as an **ordinary differential equation**. In a probabilistic
# program all four are one conditional, `Diffusion`: a density, a prior or a likelihood.

# %%
import os

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from scipy.special import logsumexp

from dgm_core.contexts import Labels
from dgm_core.diffusion import VP
from dgm_core.results import format_table
from numpyro_dgm.conditionals import Diffusion
from numpyro_dgm.losses import ELBO, DenoisingELBO, DenoisingError
from numpyro_dgm.nn import register
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
EPOCHS = 1 if FAST else 150
keys = iter(jax.random.split(jax.random.key(0), 200))

# %% [markdown]
# ## Data with a known density
#
# Eight normal distributions on a circle. Their density is known, so that every likelihood below can
# be compared with the truth. The number of the component is the label.

# %%
rng = np.random.default_rng(0)
angles = np.arange(8) * np.pi / 4
CENTERS, SCALE = 1.5 * np.stack([np.cos(angles), np.sin(angles)], -1), 0.15


def draw(num):
    labels = rng.integers(0, 8, num)
    x = CENTERS[labels] + SCALE * rng.standard_normal((num, 2))
    return x.astype(np.float32), labels.astype(np.int32)


def true_log_density(x):
    squares = ((x[:, None] - CENTERS) ** 2).sum(-1) / SCALE**2
    return logsumexp(-squares / 2, axis=1) - np.log(8 * 2 * np.pi * SCALE**2)


(x, y), (x_test, y_test) = draw(200 if FAST else 4000), draw(500)


def scatter(axis, points, title, color="tab:blue"):
    axis.scatter(*np.asarray(points).T, s=2, color=color)
    axis.set(title=title, xlim=(-3, 3), ylim=(-3, 3), aspect="equal")


# %% [markdown]
# ## A chain of sites
#
# On the board a diffusion is a model and a guide with T latents,
#
# $$x_T \sim N(0, I), \quad x_{t-1} \mid x_t \sim N(\mu(\hat x, x_t), s_t^2 I); \qquad
# q(x_{t-1} \mid x_t, x) = N(\mu(x, x_t), \tilde\beta_t I).$$
#
# `chain(10)` is that pair of ordinary programs. The stock bound works on it; `DenoisingELBO` has
# the same value on average, but calls the network once for each datum and not ten times.

# %%
density = Diffusion(2, hidden=(128, 128), schedule=VP(100), key=next(keys))


def model(x):
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", register("density", density)(), obs=x)


chain, some = density.chain(10), x_test[:100]
pairs = {
    "ELBO() of the chain": (ELBO(), chain.model, chain.guide),
    "DenoisingELBO": (DenoisingELBO("x", num_steps=10), model, lambda x: None),
}
for name, (loss, own, guide) in pairs.items():
    value = jax.jit(lambda key: -loss.loss(key, {}, own, guide, some) / 100)  # noqa: B023
    values = [float(value(next(keys))) for _ in range(20)]
    print(f"{name}: {np.mean(values):.2f} +- {np.std(values) / 20**0.5:.2f} nats")

# %% [markdown]
# ## Denoising
#
# The term of a step is a squared error of the noise that the network finds in $x_t$, and one step
# for each datum is enough. With the weights of the chain this is a bound on the likelihood,
# `DenoisingELBO`; all times alike, `DenoisingError`, it is none, but less noisy, and trains faster.

# %%
run = fit(
    model,
    None,
    x,
    loss=DenoisingError("x"),
    optim=Adam(2e-3),
    num_epochs=EPOCHS,
    batch_size=200,
    average=0.99,
    progress=False,
)
plt.plot(run.history.column("epoch"), run.history.column("loss"))
plt.gca().set(xlabel="epoch", ylabel="error of the noise")
plt.show()
p = eqx.combine(run.params["density$params"], density)()

# %% [markdown]
# ## A score
#
# The noise that is expected in $x_t$ points away from the data: $\nabla \log p_t(x_t) = -
# \mathrm{E}[\epsilon \mid x_t] / \sigma_t$. Early it points to the nearest component, late to the
# middle of all.

# %%
grid = np.stack(np.meshgrid(*[np.linspace(-2.5, 2.5, 13)] * 2), -1).reshape(-1, 2)
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for axis, t in zip(axes, (0.1, 0.6)):
    scatter(axis, x_test, f"score at t = {t}", "lightgray")
    axis.quiver(
        *grid.T, *np.asarray(p.score(grid.astype(np.float32), t)).T, color="tab:red", angles="xy"
    )
plt.show()

# %% [markdown]
# ## An ordinary differential equation
#
# The flow $dx = x\, d\log\alpha + (d\sigma - \sigma\, d\log\alpha)\, \hat\epsilon$ has the
# same marginals as the diffusion, but no noise: it maps data to noise and back, and gives a
# density. Here are the true one, that of the flow and the bound on held-out data, in nats.

# %%
rows = [
    ("the truth", true_log_density(x_test).mean()),
    ("the flow", float(jax.jit(p.log_prob)(x_test).mean())),
    ("the bound", np.mean([p.bound(x_test, key=next(keys)).mean() for _ in range(20)])),
]
noise = p.encode(x_test)
print(format_table([{"log-density": name, "nats": value} for name, value in rows]))
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
scatter(axes[0], x_test, "data")
scatter(axes[1], noise, "where the flow takes them")
plt.show()

# %% [markdown]
# ## Steps against quality
#
# Ancestral draws take all steps of the chain. DDIM follows the flow by first-order steps and may
# leave most of them out; Runge-Kutta steps have four calls each. The mean of the true log-density
# says whether draws lie where data do: draws of the truth have the value in the last row.

# %%
rows, calls = [], {"ancestral": (100, 20), "ddim": (50, 20, 10, 5), "ode": (10, 5)}
for method, numbers in calls.items():
    for num in numbers:
        draws = np.asarray(p.sample(next(keys), (500,), method=method, num_steps=num))
        used = num * (4 if method == "ode" else 1)
        rows.append((method, used, true_log_density(draws).mean()))
rows.append(("the truth", 0, true_log_density(x_test).mean()))
names = ("draws", "calls", "mean log-density")
print(format_table([dict(zip(names, row)) for row in rows]))

# %% [markdown]
# ## Guidance
#
# Training leaves the label out now and then, so that the network knows the noise with (c) and
# without (u) it. Draws with $(1 + w) c - w u$ exaggerate what the label changes: they are more
# typical of their class and less diverse. Guided draws have no density.

# %%
given = Diffusion(
    2,
    hidden=(128, 128),
    schedule=VP(100),
    context_shape=Labels(8),
    drop_context=0.2,
    key=next(keys),
)


def labeled(x, y):
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", register("given", given)(y), obs=x)


run = fit(
    labeled,
    None,
    (x, y),
    loss=DenoisingError("x"),
    optim=Adam(2e-3),
    num_epochs=EPOCHS,
    batch_size=200,
    average=0.99,
    progress=False,
)
given, label = eqx.combine(run.params["given$params"], given), np.array(1)
figure, axes = plt.subplots(1, 4, figsize=(12, 3))
scatter(axes[0], given.unconditional().sample(next(keys), (300,)), "without a label")
for axis, w in zip(axes[1:], (0.0, 1.0, 4.0)):
    scatter(axis, given.guided(label, w).sample(next(keys), (300,)), f"w = {w:g}")
plt.show()

# %% [markdown]
# ## What to remember
#
# One object, four views: `chain(T)` for the lecture and any loss, `DenoisingELBO` to train,
# `score` to look at, `log_prob` along the flow to evaluate. As the prior of a VAE it is latent
# diffusion: `VAE(64, 8, prior=Diffusion(8))` with `DenoisingELBO("z")`.
