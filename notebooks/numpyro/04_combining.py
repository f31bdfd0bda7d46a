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
# # 4. Combining objectives
#
# A model and a guide define two joint distributions, $p(x, z) = p(z)\,p(x \mid z)$ and $q(x, z) =
# p_{\text{data}}(x)\,q(z \mid x)$. Most published objectives are sums of a few terms that compare
# the two at some of their sites. **What does each term add, and what does it cost?** Every model
# below is an ordinary model/guide pair; only the argument `loss` of `fit` changes.

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

from dgm_core.data import load
from dgm_core.results import format_table
from dgm_core.samples.quality import mode_counts
from dgm_core.surgery import ratio_kl
from numpyro_dgm.conditionals import Normal
from numpyro_dgm.evaluation import elbo_surgery, generate, latents, log_weights, reconstruct
from numpyro_dgm.flows import RealNVP
from numpyro_dgm.losses import (
    ELBO,
    NLL,
    R1,
    JensenShannon,
    MutualInformation,
    aae,
    info_vae,
    vae_gan,
)
from numpyro_dgm.models import DCGAN, VAE, FlowGAN, InfoGAN
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
keys = iter(jax.random.split(jax.random.key(0), 100))  # every network takes the next one

# %% [markdown]
# ## One autoencoder, five objectives
#
# The data are the handwritten digits of scikit-learn, 8 x 8 pixels between 0 and 1, under a normal
# likelihood with standard deviation 0.2 and two latents.
#
# | | objective, minimized |
# |---|---|
# | VAE | $-\mathbb{E}_q[\log p(x \mid z)] + \mathrm{KL}(q(z \mid x), p(z))$ |
# | $\beta$-VAE | the same with $\beta\,\mathrm{KL}(q(z \mid x), p(z))$ |
# | InfoVAE | $\ldots + (1 - \alpha)\,\mathrm{KL} + (\alpha + \lambda - 1)\,\mathrm{MMD}$ |
# | AAE | $-\mathbb{E}_q[\log p(x \mid z)] + \lambda\,\mathrm{JS}(q(z), p(z))$, by a critic of $z$ |
# | VAE + GAN | the VAE's $+\,\lambda\,\mathrm{JS}(p_{\text{data}}(x), p(x))$, by a critic of $x$ |
#
# Two of them compare the *aggregate* posterior $q(z) = \mathbb{E}_{p_{\text{data}}(x)}[q(z \mid
# x)]$ with the prior, instead of each posterior. That is what new data need: they come from codes
# of the prior, which must lie where the decoder has seen codes.

# %%
digits = load("digits")
x_train, x_test = digits.train, digits.test
objectives = {
    "VAE": ELBO(),
    "beta-VAE": ELBO(beta=4.0),
    "InfoVAE": info_vae(0.9, 50.0),
    "AAE": aae(20.0, JensenShannon("z", regularizer=R1(0.1))),
    "VAE + GAN": vae_gan(5.0, JensenShannon("x", regularizer=R1(10.0))),
}
for name, loss in objectives.items():
    print(f"{name:10s} {loss}")
if FAST:
    objectives = {name: objectives[name] for name in ("VAE", "AAE")}

# %%
runs = {}
for name, loss in objectives.items():
    vae = VAE(
        64, 2, likelihood=Normal(64, context_shape=200, scale=0.2, key=next(keys)), key=next(keys)
    )
    runs[name] = fit(
        vae.model,
        vae.guide,
        x_train,
        loss=loss,
        num_epochs=2 if FAST else 200,
        batch_size=128,
        seed=0,
        progress=False,
    )

# %% [markdown]
# The KL part of a bound is the sum of two things that we value differently (Hoffman & Johnson
# 2016),
#
# $$\mathbb{E}_{p_{\text{data}}}[\mathrm{KL}(q(z \mid x), p(z))] = I_q(x; z) + \mathrm{KL}(q(z),
# p(z)):$$
#
# the information that codes carry about data, and the mismatch of aggregate posterior and prior.
# `elbo_surgery` splits them, with an estimate of the information that cannot exceed $\log N$, the
# logarithm of the number of data. Where posteriors are so narrow that it is used up, the mismatch
# is better estimated from draws alone: `ratio_kl` trains a classifier to tell codes from draws of
# the prior.

# %%
print(f"log N = {np.log(len(x_train)):.2f}")
table, codes = [], {}
prior = np.random.default_rng(0).standard_normal((5000, 2))
for name, run in runs.items():
    codes[name] = latents(run, x_train)["z"][0]  # one draw of the guide for each datum
    error = np.mean(np.sum((reconstruct(run, x_test)["x"] - x_test) ** 2, 1))
    parts = elbo_surgery(run, x_train)
    table.append({"objective": name, "squared error": error, "mean KL": parts.mean_kl})
    table[-1] |= {
        "information": parts.mutual_information,
        "KL(q(z), p(z))": ratio_kl(codes[name], prior),
    }
print(format_table(table))


# %%
def tile(images, columns):
    """Images (num, 64) side by side as one picture."""
    rows = images.reshape(-1, columns, 8, 8)
    return (
        np.pad(rows, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.5)
        .transpose(0, 2, 1, 3)
        .reshape(9 * len(rows), -1)
    )


fig, axes = plt.subplots(2, 5, figsize=(15, 5), height_ratios=(3, 2), layout="constrained")
for column, (name, run) in zip(axes.T, runs.items()):
    z, drawn = codes[name], generate(run, size=50, means=True)["x"]
    points = column[0].scatter(z[:, 0], z[:, 1], c=digits.labels["train"], cmap="tab10", s=4)
    column[0].add_patch(plt.Circle((0, 0), 2, fill=False, color="black", linestyle="--"))
    column[0].set(title=name, aspect="equal", xlim=(-5, 5), ylim=(-5, 5))
    column[1].imshow(tile(drawn, 10), cmap="gray_r", vmin=0, vmax=1)
    column[1].set(title="decoded codes of the prior", xticks=[], yticks=[])
fig.colorbar(points, ax=axes[0, :], label="digit", ticks=range(10))
plt.show()

# %% [markdown]
# The beta-VAE buys a smaller KL with information: its codes tell less, its reconstructions are
# worse. The InfoVAE and the adversarial autoencoder leave each posterior nearly free, so that it
# shrinks towards a point and carries all the information it can, and yet the codes of all data
# together fill the prior (last column). For the bound this is a catastrophe, the mean KL being
# large; whoever wants codes, and new data from codes, may prefer it. The critic of $x$ changes
# little here: it sees the noise of the likelihood in every draw, which no weight of the decoder can
# take away. Where a critic of $x$ is to do the work, the generator should have no noise of its own,
# as below.
#
# ## A generator with a density: the Flow-GAN trade-off
#
# A flow can be trained by likelihood and by a critic, and judged by both. The data are eight
# Gaussians on a circle. Under the critic alone nothing stops the flow from giving data a vanishing
# density; under likelihood alone it puts some mass between the modes, because not covering data
# costs much more than that.

# %%
x = load("eight_gaussians").train[:8192]
held_out = load("eight_gaussians").test[:2000]
terms = {
    "likelihood": NLL(),
    "critic": JensenShannon("x", regularizer=R1(0.1)),
    "both": NLL() + JensenShannon("x", regularizer=R1(0.1)),
}
angles = 2 * np.pi * np.arange(8) / 8
modes = 4 / np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], 1)
flows, table = {}, []
for name, loss in terms.items():
    gan = FlowGAN(
        2,
        flow=RealNVP(2, num_layers=2 if FAST else 8, hidden=(64, 64), key=next(keys)),
        key=next(keys),
    )
    flows[name] = fit(
        gan.model,
        None,
        x,
        loss=loss,
        optim=Adam(5e-4, betas=(0.5, 0.99)),
        batch_size=256,
        num_epochs=1 if FAST else 60,
        average=0.99,
        progress=False,
    )
    drawn = generate(flows[name], size=2000)["x"]
    counts = mode_counts(drawn, modes, 0.5 / np.sqrt(2))
    nll = -log_weights(flows[name], held_out, num_particles=1).mean()
    table.append(
        {
            "trained by": name,
            "NLL (test)": nll,
            "modes": counts.found,
            "share near modes": counts.share,
        }
    )
print(format_table(table))

# %%
fig, axes = plt.subplots(1, 4, figsize=(14, 3.6), sharex=True, sharey=True, layout="constrained")
axes[0].scatter(*held_out.T, s=2, color="gray")
axes[0].set(title="data", aspect="equal", xlim=(-4.5, 4.5), ylim=(-4.5, 4.5))
for ax, row, run in zip(axes[1:], table, flows.values()):
    ax.scatter(*generate(run, size=2000)["x"].T, s=2, color="C3")
    ax.set(title=f"{row['trained by']}: NLL {row['NLL (test)']:.3g}", aspect="equal")
plt.show()

# %% [markdown]
# The critic alone is far worse in likelihood, as the paper found on images. Its flow has laid a
# thin line through all modes: the draws pass a count of them, but beside the line the density is
# next to nothing, and nearly all data lie beside it. The likelihood's flow covers the data and has
# draws between the modes. With both terms the likelihood is about as good as with the first alone.
# Whether fewer draws lie between the modes differs from run to run: in two dimensions likelihood
# alone leaves little to gain.
#
# ## Codes that mean something: InfoGAN
#
# The generator of a GAN gets noise $z$ and may use it as it likes. InfoGAN adds a code $c$ of eight
# classes and asks that it can be read off the result: the guide infers $q(c \mid x)$, and model and
# guide raise the bound $I(c; x) \ge \mathbb{E}[\log q(c \mid x)] + H(c)$ together. No label is ever
# seen.

# %%
gan = InfoGAN(2, 4, 8, hidden=(128, 128), key=next(keys))
loss = JensenShannon("x", regularizer=R1(0.1)) + MutualInformation("c")
adam = Adam(1e-3, betas=(0.5, 0.99))
run = fit(
    gan.model,
    gan.guide,
    x,
    loss=loss,
    optim=adam,
    batch_size=256,
    num_epochs=1 if FAST else 100,
    average=0.99,
    progress=False,
)
drawn = generate(run, size=2000)
print(
    f"{loss}: the bound on I(c; x) is {run.history.last['MutualInformation(c)']:.2f} of at "
    "most "
    f"log 8 = {np.log(8):.2f} nats"
)

# %%
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
left.scatter(*drawn["x"].T, c=drawn["c"][:, 0], cmap="tab10", vmax=9, s=3)
left.set(title="draws, by their code", aspect="equal")
inferred = latents(run, held_out)["c"][0][:, 0]
middle.scatter(*held_out.T, c=inferred, cmap="tab10", vmax=9, s=3)
middle.set(title="data, by the code inferred", aspect="equal")
right.plot(run.history.column("MutualInformation(c)"))
right.axhline(np.log(8), color="black", linestyle="--", linewidth=1)
right.set(title="bound on I(c; x)", xlabel="epoch", ylabel="nats")
plt.show()

# %% [markdown]
# Each code has taken a mode for itself, and the bound has reached $\log 8$: the code can be read
# off without error. The guide has never seen a datum, only draws of the model, and sorts the data
# all the same. How well codes agree with labels on digits is recorded in
# `benchmarks/results/adversarial.md`.
#
# ## Images: a convolutional GAN
#
# The same two lines for images: `DCGAN` is a model whose generator is convolutional, and
# `JensenShannon("x")` takes a convolutional critic for a site of images. `R1` keeps the game from
# spiralling, as in notebook 3. The data are MNIST, downloaded once (11 MB) or read from the folder
# that `DGM_DATA_DIR` names; four epochs of 20,000 images are some 1,250 steps, a few minutes of two
# cores.

# %%
if FAST:
    images, epochs = digits.train[:128].reshape(-1, 1, 8, 8), 1
else:
    images, epochs = load("mnist").train[:20000].reshape(-1, 1, 28, 28), 4
gan = DCGAN(images.shape[1:], 32, key=next(keys))
loss = JensenShannon("x", regularizer=R1(1.0))
run = fit(
    gan.model, None, images, loss=loss, optim=adam, batch_size=64, num_epochs=epochs, average=0.99
)

# %%
drawn = np.asarray(generate(run, size=64)["x"])
fig, axes = plt.subplots(1, 2, figsize=(10, 5.2), layout="constrained")
for axis, title, shown in ((axes[0], "data", images[:64]), (axes[1], "draws", drawn)):
    rows = np.pad(shown[:, 0], ((0, 0), (1, 1), (1, 1)), constant_values=0.5).reshape(
        8, 8, images.shape[2] + 2, images.shape[3] + 2
    )
    axis.imshow(
        rows.transpose(0, 2, 1, 3).reshape(8 * rows.shape[2], -1), cmap="gray_r", vmin=0, vmax=1
    )
    axis.set(title=title, xticks=[], yticks=[])
plt.show()
