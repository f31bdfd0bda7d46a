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
# # 17. Images given images
#
# Noise removed, holes filled, few pixels made many, every pixel given a class: in all of these an
# image $x$ is sought and an image $y$ is given. **One model** does all, a U-Net and a likelihood,
#
# $$x \mid y \sim \text{likelihood}(\text{net}(y)),$$
#
# and what changes is how $y$ was made of $x$, and which likelihood belongs to $x$.

# %%
import os
from functools import partial

import numpy as np
import pyro

from dgm_core.data import load
from dgm_core.plots import restorations, samples_grid
from dgm_core.representation import linear_probe
from dgm_core.restoration import (
    add_noise,
    box_masks,
    coverage,
    downsample,
    hidden_error,
    hide,
    iou,
    linear_restorer,
    psnr,
)
from dgm_core.results import format_table
from pyro_dgm.conditionals import Bernoulli, DiagonalNormal, Normal
from pyro_dgm.evaluation import predict, restore
from pyro_dgm.losses import ELBO, NLL
from pyro_dgm.models import VAE, ImageToImage, MaskedAutoencoder
from pyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
STEPS = 3 if FAST else 300
DRAWS = 39 if FAST else 99
pyro.set_rng_seed(0)

digits = load("digits")
x, x_test = (part.reshape(-1, 1, 8, 8) for part in (digits.train, digits.test))
x_test = x_test[: 20 if FAST else None]
SHAPE, SMALL = (1, 8, 8), {"channels": (8, 16), "pixel_features": 8}


def trained(model, *data, loss=None, steps=STEPS):
    return fit(
        model.model,
        model.guide,
        tuple(part.astype(np.float32) for part in data) if len(data) > 1 else data[0],
        loss=loss or NLL(),
        optim=Adam(3e-3),
        num_steps=steps,
        batch_size=64,
        progress=False,
    )


def drawn(run, y):
    return predict(run, None, y.astype(np.float32), num_draws=DRAWS)["x"]


# %% [markdown]
# ## Noise
#
# Normal noise of 0.3 on digits in $[0, 1]$. With a normal likelihood the net says for every pixel
# what it expects and how sure it is: draws, their mean, their deviation.

# %%
noisy = partial(add_noise, scale=0.3)
denoiser = trained(
    ImageToImage(SHAPE, **SMALL),
    np.concatenate([x] * 4),
    np.concatenate([noisy(x, seed=seed) for seed in range(4)]),
)
y_test = noisy(x_test, seed=99)
draws = drawn(denoiser, y_test)
restorations(y_test[:10], draws[:, :10], x_test[:10])

# %% [markdown]
# Is that good? The best *linear* restoration needs no training: of images with the mean and the
# covariance of the data it is $\mu + C (C + 0.09 I)^{-1} (y - \mu)$, Wiener's filter. And is the
# net as sure as it should be? Of all pixels, 90 % are to lie in intervals that claim 90 %.

# %%
flat = x.reshape(len(x), -1)
wiener = linear_restorer(np.cov(flat.T), np.eye(64), 0.09, mean=flat.mean(0))
restored = {
    "given": y_test,
    "linear": wiener.restore(y_test).reshape(y_test.shape),
    "U-Net": draws.mean(0),
}
print(format_table([{"x": k, "PSNR": psnr(x_test, v).mean()} for k, v in restored.items()]))
print(format_table([row._asdict() for row in coverage(x_test, draws)]))

# %% [markdown]
# ## Holes
#
# A square of 4x4 pixels is hidden, and the mask handed over as a second channel. What was there may
# be one of several things, so pixels are not independent given $y$: a code $z$ says which,
#
# $$z \sim N(0, I), \qquad x \mid y, z \sim \text{likelihood}(\text{net}(y, z)), \qquad
# q(z \mid x, y),$$
#
# and the loss is the ELBO. Pixels that are seen are known: `hidden_only` leaves them as they are,
# and scores the others. A draw of $x$ is now a possible image, the deviation large where draws
# differ.

# %%
masks = box_masks(SHAPE, 4, 4 * len(x), seed=0)
full = np.concatenate([x] * 4)
model = ImageToImage(SHAPE, z_dim=8, hidden_only=True, features=32, **SMALL)
painter = trained(model, full, hide(full, masks), loss=ELBO(), steps=2 * STEPS)
mask_test = box_masks(SHAPE, 4, len(x_test), seed=1)
y_test = hide(x_test, mask_test)
draws = drawn(painter, y_test)
print("error of hidden pixels:", round(hidden_error(x_test, draws.mean(0), mask_test), 4))
restorations(y_test[:10], draws[:, :10], x_test[:10])

# %% [markdown]
# The same holes without a net for holes: a **VAE** of whole digits says which images there are, and
# what was done to one is known, $y = A x + e$. Chains of codes lead from the prior to the posterior
# (annealed importance sampling); how many draws they are worth is said for each image.

# %%
likelihood = DiagonalNormal(64, context_shape=128)
vae = VAE(64, 8, hidden=(128,), likelihood=likelihood)
prior = trained(vae, flat.astype(np.float32), loss=ELBO(), steps=4 * STEPS)
masks = np.stack([np.diag(mask.ravel()) for mask in mask_test[:10]])
seen = y_test[:10, :1].reshape(10, 64)
found = restore(prior, seen, masks, 0.05, size=10, num_draws=DRAWS, steps=STEPS // 3)
print("effective draws:", found.ess.round())
draws = found["x"].reshape(-1, 10, 1, 8, 8)
print("error of hidden pixels:", round(hidden_error(x_test[:10], draws.mean(0), mask_test[:10]), 4))
restorations(y_test[:10], draws, x_test[:10])

# %% [markdown]
# ## More pixels
#
# The means of 2x2 pixels are given, $4 \times 4$ numbers; the model repeats and sharpens them. A
# restoration can be checked here without the truth: its own means are to be what was given.

# %%
y, y_test = downsample(x, 2), downsample(x_test, 2)
sharpener = trained(ImageToImage(SHAPE, (1, 4, 4), **SMALL), x, y)
draws = drawn(sharpener, y_test)
repeated = y_test.repeat(2, -1).repeat(2, -2)
print("PSNR:", psnr(x_test, repeated).mean().round(2), psnr(x_test, draws.mean(0)).mean().round(2))
print("off the given means:", abs(downsample(draws.mean(0), 2) - y_test).mean().round(3))
restorations(y_test[:10], draws[:, :10], x_test[:10])

# %% [markdown]
# ## A class for every pixel
#
# Ink or paper, seen through noise of 0.5? The likelihood of a binary $x$ is Bernoulli; a threshold
# at $1/2$ looks at a pixel alone, the net at what is around it. Intersection over union of the ink:

# %%
ink, ink_test = x > 0.5, x_test > 0.5
coarse = partial(add_noise, scale=0.5)
likelihood = Bernoulli(SHAPE, context_shape=(8, 8, 8))
segmenter = trained(
    ImageToImage(SHAPE, likelihood=likelihood, **SMALL),
    np.concatenate([ink] * 4),
    np.concatenate([coarse(x, seed=seed) for seed in range(4)]),
)
y_test = coarse(x_test, seed=99)
share = drawn(segmenter, y_test).mean(0)
print("threshold:", iou(ink_test, y_test > 0.5, 2)[1].round(3))
print("U-Net:    ", iou(ink_test, share > 0.5, 2)[1].round(3))
samples_grid(np.concatenate([y_test[:10], share[:10], ink_test[:10]]), SHAPE, num_columns=10)

# %% [markdown]
# ## Hidden patches
#
# A **masked autoencoder** hides three quarters of the patches and restores them from the others: an
# encoder sees the visible ones only, and the likelihood counts the hidden ones only, here by
# squared errors: a normal distribution with a fixed scale. No label was seen; what do the codes
# know of them? On 64 pixels, which are easy to tell apart, no more than the pixels do.

# %%
likelihood = Normal(4, context_shape=16, scale=0.3)
masked = MaskedAutoencoder(SHAPE, patch_size=2, dim=32, decoder_dim=16, likelihood=likelihood)
run = trained(masked, x.astype(np.float32), steps=3 * STEPS)
every = masked.every(len(x))
codes = predict(run, x.astype(np.float32), every, num_draws=1)["h"][0]
for name, features in (("pixels", flat), ("codes", codes.reshape(len(x), -1))):
    print(name, linear_probe(features, digits.labels["train"]))

# %%
visible = np.tile([1, 6, 9, 15], (10, 1))
patches = predict(run, x_test[:10].astype(np.float32), visible, num_draws=20)["x"].mean(0)
shown = np.isin(np.arange(16), visible[0]).reshape(4, 4).repeat(2, 0).repeat(2, 1)
blocks = patches.reshape(10, 1, 4, 4, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(10, 1, 8, 8)
filled = np.where(shown, x_test[:10], blocks)
samples_grid(np.concatenate([x_test[:10] * shown, filled, x_test[:10]]), SHAPE, num_columns=10)
