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
# # 1. The variational autoencoder
#
# A latent variable model says how an image could have come about: draw a short code $z$, and let a
# network turn the code into an image $x$,
#
# $$z_n \sim \mathrm{Normal}(0, I), \qquad x_n \mid z_n \sim
# \mathrm{Bernoulli}(\mathrm{decoder}(z_n)).$$
#
# To fit it by maximum likelihood we need $\log p(x) = \log \int p(x \mid z)\, p(z)\, dz$, and with
# a network inside nobody can do that integral. **How can a model be fitted whose likelihood cannot
# be computed?** The answer has three parts: a bound that can be computed, a gradient that is not
# too noisy, and a second network that makes the bound tight.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from pyro import distributions as dist

from dgm_core.data import binarize, load
from dgm_core.diagnostics import summary
from pyro_dgm.evaluation import latents, log_weights
from pyro_dgm.losses import ELBO, Reconstruction
from pyro_dgm.models import VAE
from pyro_dgm.training import fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
pyro.set_rng_seed(0)

# %% [markdown]
# ## A bound from scratch
#
# Take any distribution $q(z)$ that we can draw from. Jensen's inequality, or one line of algebra,
# gives
#
# $$\log p(x) = \underbrace{\mathbb{E}_{q(z)}\bigl[\log p(x, z) - \log q(z)\bigr]}_{\mathrm{ELBO}} +
# \mathrm{KL}\bigl(q(z) \,\|\, p(z \mid x)\bigr) \;\ge\; \mathrm{ELBO}.$$
#
# The expectation asks for nothing but draws from $q$ and two densities. The gap is the
# Kullback-Leibler divergence to the posterior: whoever raises the bound over $q$ does inference,
# whoever raises it over the model's parameters does learning.
#
# First a model in which everything is known: $z \sim \mathrm{Normal}(0, 1)$, $x \mid z \sim
# \mathrm{Normal}(z, 1)$ and one observation $x = 1$. Then $p(x) = \mathrm{Normal}(x; 0, \sqrt 2)$,
# and the posterior is $\mathrm{Normal}(1/2, \sqrt{1/2})$.

# %%
x = torch.tensor(1.0)
evidence = dist.Normal(0.0, 2**0.5).log_prob(x)


def log_weight(z, q):
    """log p(x, z) - log q(z), one value for each draw."""
    return dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(x) - q.log_prob(z)


means, noise = torch.linspace(-1.0, 2.0, 31), torch.randn(10_000, 1)
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for scale in (0.35, 0.5**0.5, 1.6):
    elbo = log_weight(means + scale * noise, dist.Normal(means, scale)).mean(
        0
    )  # (draws, means) -> (means,)
    ax.plot(means, elbo, label=f"scale of q = {scale:.2f}")
ax.axhline(evidence, color="black", linestyle="--", label="log p(x)")
ax.set(xlabel="mean of q", ylabel="ELBO (nats)", ylim=(-4.5, -1.3))
ax.legend()
plt.show()

# %% [markdown]
# Every curve stays below the dashed line, and one touches it in one point: where $q$ has the mean
# $1/2$ and the scale $0.71$ of the posterior. There $\log p(x, z) - \log q(z)$ is the same number
# for every $z$, so a single draw would be enough.
#
# The library computes the same expectation from two ordinary programs, the *model* and the *guide*;
# the terms of the loss find the latent variable by its name, `z`.


# %%
def model():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide():
    pyro.sample("z", dist.Normal(0.2, 0.6))


q = dist.Normal(0.2, 0.6)
print(f"from scratch  {log_weight(q.sample((50_000,)), q).mean():.3f}")
print(f"ELBO()        {-ELBO(num_particles=50_000)(model, guide):.3f}")
print(f"log p(x)      {evidence:.3f}")

# %% [markdown]
# ## A gradient that is not too noisy
#
# The bound is an average over draws from $q$, and we want its gradient with respect to the
# parameters of $q$, the distribution that is drawn from. Two ways lead there. The **score
# function** estimator differentiates the density, the **reparameterized** one the draw,
#
# $$\nabla_\mu\, \mathbb{E}_{q}[f(z)] = \mathbb{E}_{q}\bigl[f(z)\, \nabla_\mu \log q(z)\bigr]
# \qquad\text{and}\qquad \nabla_\mu\, \mathbb{E}_{q}[f(z)] =
# \mathbb{E}_{\varepsilon}\bigl[\nabla_\mu f(\mu + \sigma \varepsilon)\bigr].$$
#
# Both are right on average. How far is a single draw from that average? We repeat the toy model in
# $D$ independent copies and look at the first component of the gradient. Taking the average weight
# as a *baseline* off the score function's $f$ changes nothing on average, since
# $\mathbb{E}_q[\nabla \log q] = 0$.


# %%
def gradients(estimator, dim, num_draws=2000 if FAST else 20_000):
    """The gradient of the bound with respect to the first mean of q, estimated num_draws times from
    one draw each.
    """
    mean = torch.zeros(num_draws, dim, requires_grad=True)
    q = dist.Normal(mean, 0.8)
    z = q.rsample()
    if estimator == "reparameterized":
        surrogate = log_weight(z, q).sum(-1)
    else:
        f = log_weight(z, q).sum(-1).detach()
        baseline = f.mean() if estimator == "score function, baseline" else 0.0
        surrogate = (f - baseline) * q.log_prob(z.detach()).sum(-1)
    return torch.autograd.grad(surrogate.sum(), mean)[0][:, 0].numpy()


estimators = ("score function", "score function, baseline", "reparameterized")
dims = (1, 4, 16, 64, 256)
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.5), layout="constrained")
for estimator in estimators:
    left.hist(
        gradients(estimator, 16),
        bins=np.linspace(-100, 100, 101),
        histtype="step",
        linewidth=1.5,
        label=estimator,
    )
    right.loglog(dims, [gradients(estimator, dim).std() for dim in dims], "o-", label=estimator)
left.set(xlabel="gradient from one draw, D = 16", yscale="log")
left.axvline(1.0, color="black", linestyle="--", linewidth=1)
right.set(xlabel="number of latent dimensions D", ylabel="standard deviation of the gradient")
right.legend()
plt.show()

# %% [markdown]
# The true gradient is 1 (dashed). One component of the score function estimator feels the noise of
# all $D$ dimensions, because $f$ is one number for all of them; its error grows like $D$, with a
# baseline like $\sqrt D$. The reparameterized gradient knows which dimension did what, and its
# error does not grow at all. This made variational autoencoders practical; the score function
# remains for latent variables that are discrete.
#
# ## An encoder that makes the bound tight
#
# With a network in the likelihood the posterior differs from image to image. Instead of one $q$ for
# each image we train an *encoder* that maps an image to the mean and the scale of its $q(z \mid
# x)$. Written for one image, the bound splits into two terms,
#
# $$\mathrm{ELBO} = \underbrace{\mathbb{E}_{q(z \mid x)}[\log p(x \mid z)]}_{\text{reconstruction}}
# - \underbrace{\mathrm{KL}(q(z \mid x) \,\|\, p(z))}_{\text{price of the code}}.$$
#
# What does each term do? We train three networks on real handwritten digits with a two-dimensional
# code: with the price alone, with the reconstruction alone, and with both. Losses are sums, so the
# price alone is the negative ELBO with the reconstruction term taken out again.

# %%
digits = load("digits")  # 8x8 images from scikit-learn
x_train, x_test = (
    torch.as_tensor(binarize(images, "threshold"), dtype=torch.float32)
    for images in (digits.train, digits.test)
)
losses = {
    "KL only": ELBO() + (-1.0) * Reconstruction(),
    "reconstruction only": Reconstruction(),
    "ELBO": ELBO(),
}
vaes, runs = {}, {}
for name, loss in losses.items():
    vae = VAE(64, 2)
    vaes[name] = vae
    runs[name] = fit(
        vae.model,
        vae.guide,
        x_train,
        loss=loss,
        num_epochs=3 if FAST else 300,
        batch_size=128,
        seed=0,
        progress=False,
    )


def decode(vae, z):
    """The probability that each pixel is on, given codes (num, z_dim): the mean of the site x of
    the model at z.
    """
    with torch.no_grad():
        trace = pyro.poutine.trace(pyro.condition(vae.model, data={"z": z})).get_trace(size=len(z))
        return trace.nodes["x"]["fn"].mean.reshape(-1, 8, 8).numpy()


def tile(images, columns):
    """Images (num, 8, 8) side by side as one picture."""
    rows = images.reshape(-1, columns, 8, 8)
    return (
        np.pad(rows, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.5)
        .transpose(0, 2, 1, 3)
        .reshape(9 * len(rows), -1)
    )


codes = torch.randn(30, 2)  # from the prior
fig, axes = plt.subplots(3, 3, figsize=(12, 8), height_ratios=(3.2, 0.8, 1.2), layout="constrained")
for column, (name, vae) in zip(axes.T, vaes.items()):
    z = latents(runs[name], x_test)["z"][0]  # one draw of the guide for each image
    points = column[0].scatter(z[:, 0], z[:, 1], c=digits.labels["test"], cmap="tab10", s=8)
    column[0].set(title=name, xlabel="z[0]", ylabel="z[1]")
    column[1].imshow(
        tile(
            np.concatenate([x_test[:10].reshape(-1, 8, 8), decode(vae, torch.as_tensor(z[:10]))]),
            10,
        ),
        cmap="gray_r",
        vmin=0,
        vmax=1,
    )
    column[1].set(title="images and their reconstructions", xticks=[], yticks=[])
    column[2].imshow(tile(decode(vae, codes), 10), cmap="gray_r", vmin=0, vmax=1)
    column[2].set(title="codes from the prior, decoded", xticks=[], yticks=[])
fig.colorbar(points, ax=axes[0, :], label="digit", ticks=range(10))
plt.show()

# %% [markdown]
# - **KL only**: the codes are a perfect standard normal cloud, and know nothing about the images.
#   The digits are mixed, and the decoder was never asked for anything.
# - **Reconstruction only**: the codes spread over a large area (look at the axes) and give the best
#   reconstructions of the three. A code drawn from the prior falls into the middle of that area, so
#   only a few kinds of digits are ever drawn: an autoencoder is not a generative model.
# - **ELBO**: both at once. Digits form clusters *and* together fill the prior, so what is drawn
#   from the prior looks like digits.
#
# ## The latent space
#
# Two dimensions can be looked at whole. We cut the prior into pieces of equal probability and
# decode the middle of each.

# %%
vae, run = vaes["ELBO"], runs["ELBO"]
side = 16
quantiles = dist.Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
grid = torch.cartesian_prod(quantiles.flip(0), quantiles).flip(
    -1
)  # rows from top to bottom: z[1] falls, z[0] grows along a row
fig, ax = plt.subplots(figsize=(7, 7), layout="constrained")
ax.imshow(tile(decode(vae, grid), side), cmap="gray_r", vmin=0, vmax=1)
ax.set(
    xlabel="z[0], from the 3 % to the 97 % quantile of the prior",
    ylabel="z[1]",
    xticks=[],
    yticks=[],
)
plt.show()

# %% [markdown]
# One digit turns into the next without a break: neighboring codes give similar images. How good is
# the model in nats? Draws from the guide are importance weights, and averaging $K$ of them *inside*
# the logarithm gives a tighter bound (IWAE), corrected for its bias a still better estimate (JVI).
# The statistic $\hat k$ says for each image whether the weights can be trusted; above 0.7 they
# cannot.

# %%
print(summary(log_weights(run, x_test, num_particles=64 if FAST else 512)))
