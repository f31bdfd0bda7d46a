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
# # 12. One coordinate after the other
#
# Every density is a product of conditional ones,
#
# $$p(x) = \prod_i p(x_i \mid x_1, \dots, x_{i-1}),$$
#
# in whatever order one likes. An *autoregressive* model is this product with one network for all
# factors. It has no latent variable, so its likelihood is no bound; one pass gives all factors of a
# datum, because all of $x$ is known then. Two questions decide what it is worth: **does factor $i$
# really see everything before $i$, and must a draw take one pass for each coordinate?** A third
# comes at the end: if the density of $x$ is that good without a code, what is a code for?

# %%
import os
import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch

from dgm_core.data import load
from dgm_core.diagnostics import bits_per_dim
from dgm_core.schedules import linear
from pyro_dgm.conditionals import (
    CausalTransformer,
    DiscretizedLogisticMixture,
    GatedPixelCNN,
    ImageTransformer,
    Labels,
    LogisticMixture,
    PixelCNN,
    WaveNet,
)
from pyro_dgm.evaluation import elbo_surgery
from pyro_dgm.flows import ParallelWaveNet
from pyro_dgm.losses import ELBO, NLL, Distillation, PowerLoss
from pyro_dgm.models import ConvVAE
from pyro_dgm.nn import register
from pyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
pyro.set_rng_seed(0)

# %% [markdown]
# ## What a pixel sees
#
# In an image the order is that in which one reads: row by row. A convolution is made causal by a
# mask on its kernel, and many layers are stacked so that a pixel sees far. Whether it does is no
# matter of belief: differentiate what the network says of the pixel in the middle by all pixels.

# %%
shape = (1, 9, 9)
networks = {
    "PixelCNN": PixelCNN(shape, hidden_channels=8, num_layers=5),
    "GatedPixelCNN": GatedPixelCNN(shape, hidden_channels=8, num_layers=5),
    "ImageTransformer, 1 layer": ImageTransformer(
        shape, block=(3, 3), memory=(2, 2), hidden_dim=16, num_layers=1
    ),
    "CausalTransformer": CausalTransformer(shape, hidden_dim=16, num_layers=1),
}


def seen_by_the_middle(network):
    u = torch.full((1, 81, 1), 0.5, requires_grad=True)
    h = network.features(u, None)[0, 40]
    return torch.autograd.grad((h**2).sum(), u)[0].reshape(9, 9).numpy()


fig, axes = plt.subplots(1, 4, figsize=(11, 3.9), layout="constrained")
for ax, (name, network) in zip(axes, networks.items()):
    gradient = seen_by_the_middle(network)
    before = np.arange(81).reshape(9, 9) < 40
    picture = np.where(gradient != 0, 0, np.where(before, 1, 2))
    ax.imshow(picture, cmap=plt.matplotlib.colors.ListedColormap(["C0", "C3", "0.9"]), vmax=2)
    ax.plot(4, 4, "k*", markersize=11)
    ax.set(title=name, xticks=[], yticks=[])
    unseen = int((before & (gradient == 0)).sum())
    ax.set_xlabel(f"{unseen} of 40 earlier pixels unseen")
plt.show()

# %% [markdown]
# Blue is seen, red should be seen and is not, gray comes later and must not be seen. The PixelCNN
# has a *blind spot* at the right, which no depth removes: a kernel reaches one column to the right
# for each row that it goes up. A vertical and a horizontal stack together have none (the gated
# PixelCNN), and attention reaches everything at once. Attention to a neighborhood saves time, and
# its limits can be read off beforehand: `network.receptive_field`.
#
# ## Digits, pixel by pixel
#
# The images of digits have 17 gray levels. The density of a level is a mixture of logistic
# distributions whose mass between two levels counts, with five components for each pixel. The label
# is the context: `context_shape=Labels(10)`.

# %%
digits = load("digits")
x_train, x_test = (x.reshape(-1, 1, 8, 8) for x in (digits.train, digits.test))
y_train, y_test = digits.labels["train"], digits.labels["test"]
levels = partial(DiscretizedLogisticMixture, num_components=5, num_levels=17)
given = {"context_shape": Labels(10)}
small = {"hidden_channels": 8 if FAST else 16, "num_layers": 2 if FAST else 3}
members = {"GatedPixelCNN": GatedPixelCNN((1, 8, 8), levels, **small, **given)}
if not FAST:
    members |= {
        "PixelCNN": PixelCNN((1, 8, 8), levels, **small, **given),
        "CausalTransformer": CausalTransformer(
            (1, 8, 8), levels, hidden_dim=32, num_layers=2, **given
        ),
    }


def train(pixels, num_epochs):
    """The network by maximum likelihood."""

    def model(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("x", register("pixels", pixels)(y), obs=x)

    def no_guide(x, y):
        pass

    fit(
        model,
        no_guide,
        (x_train, y_train),
        loss=NLL(),
        optim=Adam(5e-3),
        num_epochs=num_epochs,
        batch_size=128,
        seed=0,
        progress=False,
    )
    return pixels


def log_likelihood(pixels):
    with torch.no_grad():
        return pixels(torch.as_tensor(y_test)).log_prob(torch.as_tensor(x_test)).numpy()


for name, pixels in members.items():
    members[name] = pixels = train(pixels, 1 if FAST else 40)
    bits = bits_per_dim(log_likelihood(pixels).mean(), 64, levels=1)
    print(f"{name:20} {bits:.3f} bits per dimension on test images")

# %% [markdown]
# These are exact, and of *levels*: the number of bits that a lossless code would need for each
# pixel, where 17 levels that are equally likely need 4.09. Now draw. Each row is a label; the last
# columns are drawn at lower temperatures, which divides the scales of the mixtures and their
# logits.

# %%
pixels = members["GatedPixelCNN"]
columns, temperatures = (2, (1.0,)) if FAST else (6, (1.0, 0.8, 0.5))
labels = torch.arange(10).repeat_interleave(columns)
draws = [
    pixels(labels).sample(temperature=t).reshape(10, columns, 8, 8).numpy() for t in temperatures
]
fig, axes = plt.subplots(1, len(draws), figsize=(3.6 * len(draws), 5.6), layout="constrained")
for ax, images, t in zip(np.atleast_1d(axes), draws, temperatures):
    tiles = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.3)
    ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(100, -1), cmap="gray", vmin=0, vmax=1)
    ax.set(title=f"temperature {t}", xticks=[], yticks=np.arange(10) * 10 + 4.5)
    ax.set_yticklabels(range(10))
plt.show()

# %% [markdown]
# The order can be seen at work: hand over the upper rows of a test image, `prefix=`, and the model
# goes on from there, each time in another way. This is all that it can fill in. The lower half
# given the upper is one factor after the other; the upper half given the lower is not a factor of
# the product, and would need a sum over all images.

# %%
count = 2 if FAST else 8
chosen, told = np.arange(count) * 7, (0, 2, 4, 6)
y = torch.as_tensor(y_test[chosen])
fig, axes = plt.subplots(1, len(told), figsize=(11, 5.4), layout="constrained")
for ax, rows in zip(axes, told):
    prefix = torch.as_tensor(x_test[chosen, :, :rows])
    others = [pixels(y).sample(prefix=prefix)[:, 0].numpy() for _ in range(1 if FAST else 3)]
    images = np.stack([x_test[chosen, 0], *others], 1)
    tiles = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.3)
    ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(10 * count, -1), cmap="gray", vmin=0, vmax=1)
    for image in range(count) if rows else ():
        ax.plot([10.5, tiles.shape[1] * 10 - 1], [10 * image + rows + 0.5] * 2, "C1", linewidth=1)
    ax.set(title=f"{rows} rows told", xticks=[4.5], yticks=[], xticklabels=["test"])
plt.show()

# %% [markdown]
# ## A draw is not slow
#
# It seems that a draw takes as many passes as there are pixels, and so it does in most libraries.
# But a pass for pixel $i$ computes again what the one for $i - 1$ has computed. Here every network
# is written twice: once for all positions, once for the next one, with what is needed of the past
# kept: hidden rows in convolutions, keys and values in attention. Given the same uniform numbers,
# both make the same image.

# %%
some = pixels(torch.arange(4))
uniforms = torch.rand(4, 64, 1, 2)
found = {}
for name, cached in (("a pass for each pixel", False), ("kept from the past", True)):
    start = time.perf_counter()
    found[name] = some.sample_from(uniforms, cached=cached)
    print(f"{name:24} {time.perf_counter() - start:8.3f} s for four images of 64 pixels")
one, other = found.values()
print(f"largest difference: {(one - other).abs().max():.1e}")

# %% [markdown]
# On longer sequences the difference grows with their length: it is the length.
#
# ## Sound: a teacher and a student
#
# A WaveNet does the same over time, with holes in its kernels that double from layer to layer, so
# that ten layers reach a thousand samples back. The data are short synthetic notes of eight
# pitches, and the pitch is the context.

# %%
tones = load("tones")
pitches, length = 8, tones.train.shape[1]
dilations = (1, 2) if FAST else (1, 2, 4, 8, 16, 32, 64)
sizes = {"channels": 4 if FAST else 16, "dilations": dilations, "context_shape": Labels(pitches)}
teacher = WaveNet(length, partial(LogisticMixture, num_components=3), **sizes)
waves, pitch = tones.train[:64] if FAST else tones.train, tones.labels["train"]


def notes(x, y):
    with pyro.plate("data", len(x)):
        pyro.sample("x", register("teacher", teacher)(y), obs=x)


def no_guide(x, y):
    pass


run = fit(
    notes,
    no_guide,
    (waves, pitch[: len(waves)]),
    loss=NLL(),
    optim=Adam(3e-3),
    num_epochs=1 if FAST else 4,
    batch_size=32,
    seed=0,
    progress=False,
)

# %% [markdown]
# A step of the teacher waits for the one before, and no cache changes that. An *inverse*
# autoregressive flow has it the other way round: from noise to sound in one pass. Its likelihood on
# data is the slow direction then, but it need not look at data: it is trained to make what the
# teacher finds likely, KL(student, teacher), where all that is asked of either is one pass. This is
# Parallel WaveNet. The divergence alone makes students that whisper, for silence is likely, too; a
# second term compares the power at each frequency with that of the data: its logarithm, for the
# gradient of a power vanishes with the sound, and a whisper would feel nothing.

# %%
student = ParallelWaveNet(length, num_layers=1 if FAST else 2, **sizes)


def student_notes(x, y):
    with pyro.plate("data", len(x)):
        pyro.sample("x", register("student", student)(y), obs=x)


taught = fit(
    student_notes,
    no_guide,
    (waves, pitch[: len(waves)]),
    loss=Distillation(lambda x, y: teacher(y), analytic_entropy=True)
    + 1000.0 * PowerLoss("x", frame=64, scale="log"),
    optim=Adam(5e-3),
    num_epochs=1 if FAST else 3,
    batch_size=32,
    seed=0,
    progress=False,
)
y = torch.arange(pitches)


def timed(draw):
    draw()
    start = time.perf_counter()
    sound = draw()
    return sound.detach().numpy(), time.perf_counter() - start


uniforms = torch.rand(pitches, length, 1, 2)
heard = {"teacher, a step at a time": timed(lambda: teacher(y).sample())}
heard["student, one pass"] = timed(lambda: student(y).sample())
if not FAST:
    naive = timed(lambda: teacher(y).sample_from(uniforms, cached=False))
    print(f"{'teacher, a pass for each':28} {1e3 * naive[1]:8.1f} ms for eight notes")
for name, (_, seconds) in heard.items():
    print(f"{name:28} {1e3 * seconds:8.1f} ms for eight notes")

# %%
heard = {"data": (np.stack([waves[pitch[: len(waves)] == k][0] for k in range(3)]), 0), **heard}
fig, axes = plt.subplots(3, 3, figsize=(11, 6), layout="constrained", sharex="col", sharey=True)
for column, (name, (sound, _)) in enumerate(heard.items()):
    axes[0, column].set_title(name)
    for row in range(3):
        axes[row, column].plot(sound[row], linewidth=1, color=f"C{column}")
        axes[row, 0].set_ylabel(f"pitch {row}")
plt.show()

# %% [markdown]
# The teacher has the notes; its student, after a training this short, has something of their pitch
# and loudness, and not how they fade. Distillation needs many more steps than the teacher did,
# which is its price: after 3,000 of a larger one the spectra are within 2 dB of the teacher's. What
# it buys is the one pass above, and the factor to be looked at is that against the teacher *with*
# its cache.
#
# ## What is a code for?
#
# Put an autoregressive likelihood on top of a decoder, `ConvVAE(..., likelihood=GatedPixelCNN(...,
# context_shape=map))`, and it is a PixelVAE: a code for what is global, pixels that see each other
# for what is local. But who does which part is nobody's decision. The bound charges KL$(q, p)$ for
# every nat that the code carries, and a likelihood that can say the same for nothing will: **the
# information goes where it is cheapest.** How much is left in the code as the pixels see farther?

# %%
image_shape, features = (1, 8, 8), 16


def pixel_vae(num_layers, loss, num_epochs):
    likelihood = None
    if num_layers:
        likelihood = GatedPixelCNN(
            image_shape,
            levels,
            hidden_channels=12,
            num_layers=num_layers,
            context_shape=(features, 8, 8),
        )
    else:
        likelihood = levels(image_shape, context_shape=(features, 8, 8))
    vae = ConvVAE(image_shape, 8, hidden_channels=(16,), likelihood=likelihood)
    return fit(
        vae.model,
        vae.guide,
        x_train,
        loss=loss,
        optim=Adam(5e-3),
        num_epochs=num_epochs,
        batch_size=128,
        seed=0,
        progress=False,
    )


epochs = 1 if FAST else 30
settings = {"pixels alone": (0, ELBO()), "2 layers": (2, ELBO())}
if not FAST:
    settings |= {
        "4 layers": (4, ELBO()),
        "4 layers, warm-up": (4, ELBO(beta=linear(400))),
        "4 layers, beta 0.25": (4, ELBO(beta=0.25)),
        "4 layers, free bits 4": (4, ELBO(free_bits=4.0)),
    }
print(f"{'likelihood':20} {'bound':>8} {'KL':>7} {'I(x; z)':>8}  nats per image")
for name, (num_layers, loss) in settings.items():
    run = pixel_vae(num_layers, loss, epochs)
    parts = elbo_surgery(run, x_test[:100] if FAST else x_test)
    bound, kl = parts.elbo, parts.mean_kl
    print(f"{name:20} {bound:8.2f} {kl:7.2f} {parts.mutual_information:8.2f}")

# %% [markdown]
# Pixels that see each other reach a higher bound than pixels alone, in every row. Without help
# their code is nearly empty, even where two layers leave most of the image unseen: the pixels
# learn first, and by then the code costs more than it is worth. A warm-up lets the code be
# learned before it is charged for, and here has a bound as good as any *and* a code in use. A
# smaller weight of the KL keeps more in the code, at a price in the bound. To *draw* digits it is
# the bound that counts, to *use* the codes the mutual information. What to begin with, then: free
# bits or a small weight, which on binary digits kept codes in use with both seeds, where a
# warm-up did not.
