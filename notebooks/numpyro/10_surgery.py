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
# # 10. What is a bound made of?
#
# A model with a poor ELBO may have a poor guide, a poor prior or a poor decoder: the number does
# not say which. **Surgery** takes it apart (Hoffman & Johnson 2016). With the aggregate posterior
# $q(z) = \frac1N \sum_n q(z \mid x_n)$,
#
# $$\mathrm{ELBO} = \mathbb{E}_q[\log p(x \mid z)] - I_q(x; z) - \mathrm{KL}(q(z), p(z)):$$
#
# what the decoder makes of the codes, what the codes say of the data, and how far the codes of all
# data together lie from the prior. The last term buys nothing, and a better prior takes it away.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist
from sklearn.cluster import KMeans

from dgm_core.data import load
from dgm_core.plots import traversals
from dgm_core.representation import clustering_accuracy, linear_probe
from dgm_core.results import format_table
from numpyro_dgm.conditionals import MixturePrior, StandardNormal, VampPrior
from numpyro_dgm.evaluation import (
    collapse,
    elbo_surgery,
    generate,
    interpolate,
    latents,
    rate_distortion,
    traverse,
)
from numpyro_dgm.flows import MADE, MAF
from numpyro_dgm.losses import ELBO
from numpyro_dgm.models import VAE
from numpyro_dgm.nn import register
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
EPOCHS = 1 if FAST else 200
keys = iter(jax.random.split(jax.random.key(0), 100))  # every network takes the next one

# %% [markdown]
# ## One decoder, four priors
#
# The data are the handwritten digits of scikit-learn, 8 x 8 pixels, here black or white. Codes have
# two entries, so that they can be looked at. Only the prior differs: a standard normal
# distribution, a mixture of 30 normal ones, a masked autoregressive flow, and a VampPrior, which is
# the mixture of the guide's own posteriors at 30 made-up digits; all but the first are learned with
# the rest.

# %%
digits = load("digits")
labels = digits.labels["train"]
x = (digits.train > 0.5).astype(np.float32)
if FAST:
    x, labels = x[:200], labels[:200]


def trained(model, guide, loss):
    return fit(
        model,
        guide,
        x,
        loss=loss,
        optim=Adam(2e-3),
        num_epochs=EPOCHS,
        batch_size=100,
        seed=0,
        progress=False,
    )


priors = {
    "standard": lambda: StandardNormal(2),
    "mixture": lambda: MixturePrior(2, 30, key=next(keys)),
    "MAF": lambda: MAF(2, num_layers=4, hidden=(32, 32), key=next(keys)),
    "Vamp": lambda: VampPrior(num_components=30, key=next(keys)),
}
if FAST:
    priors = {"standard": priors["standard"]}
runs = {}
for name, prior in priors.items():
    vae = VAE(64, 2, prior=prior(), key=next(keys))
    runs[name] = trained(vae.model, vae.guide, ELBO())

# %%
parts = {name: elbo_surgery(run, x) for name, run in runs.items()}
columns = ("reconstruction", "mutual_information", "marginal_kl", "elbo")
rows = [
    {"prior": name, **{column: getattr(part, column) for column in columns}}
    for name, part in parts.items()
]
print(f"log N = {np.log(len(x)):.2f}")
print(format_table(rows, digits=2))
print(parts["standard"])

# %%
size = (4 * len(runs), 7)
fig, axes = plt.subplots(2, len(runs), figsize=size, squeeze=False, layout="constrained")
for (above, below), (name, run) in zip(axes.T, runs.items()):
    codes = latents(run, x)["z"][0]  # a draw for each datum: together, draws of q(z)
    prior = generate(run, size=2000)["z"]
    above.scatter(*prior.T, s=2, color="lightgray", label="prior")
    above.scatter(*codes.T, s=4, c=labels, cmap="tab10")
    above.set(title=f"{name}: KL(q(z), p(z)) = {parts[name].marginal_kl:.2f}", aspect="equal")
    drawn = generate(run, size=64, means=True)["x"].reshape(8, 8, 8, 8)
    drawn = np.pad(drawn, ((0, 0), (0, 0), (0, 1), (0, 1)))
    below.imshow(drawn.transpose(0, 2, 1, 3).reshape(72, 72), cmap="gray_r", vmin=0, vmax=1)
    below.set(title="new digits", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The gray points are draws of the prior, the colored ones codes of the data. Under the standard
# normal prior the codes leave gaps, from which new digits are drawn all the same; the learned
# priors lie where the codes lie. Their mismatch is smaller, and the codes may spread, so that they
# say more of the data: the mutual information grows and the reconstruction with it. The gain is
# some tenths of a nat: with two entries the mismatch was small to begin with. The information could
# not exceed $\log N$, and is far from it.
#
# ## What the estimate costs
#
# The aggregate posterior at one draw is a mean over all data. With many data it is estimated from
# minibatches. Both estimators below are biased, and one of them grossly:

# %%
run = runs["standard"]
options = {
    "exact": {},
    "stratified, 100": {"aggregate": "stratified", "batch_size": 100},
    "stratified, 20": {"aggregate": "stratified", "batch_size": 20},
    "weighted, 100": {"aggregate": "weighted", "batch_size": 100},
}
columns = ("mutual_information", "marginal_kl", "total_correlation", "dimension_wise_kl")
rows = []
for name, option in list(options.items())[: 1 if FAST else None]:
    found = elbo_surgery(run, x, **option)
    rows.append({"q(z)": name, **{column: getattr(found, column) for column in columns}})
print(format_table(rows, digits=2))

# %% [markdown]
# The mean KL, which is the sum of the first two, hardly depends on the estimator; how it is shared
# does. The fewer data a draw is compared with, the less likely it seems to be another datum's. The
# stratified estimator then says that a divergence is negative, by which it can be caught; the
# weighted one, that of the $\beta$-TCVAE's loss, is off by several nats wherever codes overlap,
# which its gradient does not feel.
#
# ## Rate and distortion
#
# A weight $\beta$ on the KL trades the rate, its mean, for distortion, the negative reconstruction
# (Alemi et al. 2018). Runs on one dotted line have the same ELBO. Codes have eight entries now.

# %%
first = runs["standard"]
runs = {1.0: first} if FAST else {}
for beta in () if FAST else (0.1, 0.3, 0.6, 1.0, 1.5, 3.0):
    vae = VAE(64, 8, key=next(keys))
    runs[beta] = trained(vae.model, vae.guide, ELBO(beta=beta))
curve = rate_distortion(runs, x)
print(curve)
curve.plot()

# %% [markdown]
# No point of the curve is *the* right one. A model with $\beta$ near zero is an autoencoder, whose
# codes are as good as numbers of the data: the mutual information is all of $\log N$, and whatever
# rate lies beyond it is mismatch. With a large $\beta$ the codes say nothing.
#
# ## Collapse
#
# Which entries of the codes are used? And is it only $\beta$ that turns them off? A decoder that
# predicts each pixel from the code *and* from the pixels before it, by a masked network (MADE),
# needs the code less. It is a program of its own, with the guide of a VAE.

# %%
made = MADE(64, 1, hidden=(200,), context_shape=8, key=next(keys))


def pixel_by_pixel(x):
    net = register("made", made)
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(8), 1.0).to_event(1))
        logits = net(x, z)[..., 0]
        numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


compared = {f"beta {beta:g}": run for beta, run in runs.items()}
if not FAST:
    vae = VAE(64, 8, key=next(keys))
    compared["strong decoder"] = trained(pixel_by_pixel, vae.guide, ELBO())
tables = {name: collapse(run, x) for name, run in compared.items()}
parts = {name: elbo_surgery(run, x) for name, run in compared.items()}
rows = [{"run": name, **table.rows[0], "ELBO": parts[name].elbo} for name, table in tables.items()]
print(format_table(rows))

# %%
fig, axes = plt.subplots(
    1, len(tables), figsize=(2.2 * len(tables), 2.4), sharey=True, squeeze=False
)
for axis, (name, table) in zip(axes[0], tables.items()):
    kl = sorted([unit["KL"] for unit in table.units], reverse=True)
    axis.bar(range(1, 1 + len(kl)), kl)
    axis.set(title=name, xlabel="entry", xticks=range(1, 9))
axes[0, 0].set_ylabel("KL (nats)")
plt.show()

# %% [markdown]
# A collapsed entry is the prior whatever the datum: its KL is zero for all of them, and its mean
# does not move. At $\beta = 3$ no entry is left, at $\beta = 1$ about half of them are active. The
# strong decoder has a better bound than the plain one, at the same $\beta = 1$ and with less than
# half of its rate: most of what there is to say of a digit, it says itself. The bound looks fine,
# and only the rate gives away that the codes are nearly empty.
#
# ## What the entries do
#
# A traversal moves one entry of the code of a datum and leaves the others where they are.

# %%
run = runs[1.0]
kl = np.array([unit["KL"] for unit in collapse(run, x).units])
most = np.argsort(-kl)
moved = traverse(run, x[:1], dims=most, num_steps=9)["x"][0]
names = [f"$z_{{{entry + 1}}}$, KL {kl[entry]:.1f}" for entry in most]
traversals(moved, (1, 8, 8), names=names, ticks=np.linspace(-3, 3, 9))

# %%
ends = [int(np.flatnonzero(labels == digit)[0]) for digit in (0, 1, 3, 8)]
a, b = x[ends], x[ends[::-1]]
ways = [interpolate(run, a, b, path=path)["x"] for path in ("linear", "spherical")]
traversals(np.concatenate(ways), (1, 8, 8), names=["linear"] * 4 + ["spherical"] * 4)

# %% [markdown]
# Entries with a KL change the digit, those without change nothing. On the way from one datum to
# another the two paths differ little, since few entries matter; with hundreds of them the straight
# path would lead through the middle, where there are no codes.
#
# ## What the codes know
#
# The labels were never seen. How much of them can be read off the codes?

# %%
rows = []
for beta, run in runs.items():
    means = latents(run, x, means=True)["z"]
    clusters = KMeans(10, n_init=1 if FAST else 10, random_state=0).fit_predict(means)
    rows.append(
        {
            "beta": beta,
            "MI": curve.column("MI")[list(runs).index(beta)],
            "linear probe": linear_probe(means, labels).accuracy,
            "clustering accuracy": clustering_accuracy(labels, clusters),
        }
    )
print(format_table(rows, digits=2))

# %% [markdown]
# More information is not more meaning: codes of twenty nats are not read better than those of six,
# and what they say beyond is which picture it was. Empty ones are read by chance. What a number in
# this lesson says depends on what stands beside it: the marginal KL on the information, the bound
# on the rate, the rate on the decoder.
