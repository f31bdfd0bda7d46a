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
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

from dgm_core.data import dequantize, load
from dgm_core.plots import traversals
from dgm_core.representation import clustering_accuracy, linear_probe
from dgm_core.results import format_table
from numpyro_dgm.conditionals import MixturePrior, StandardNormal
from numpyro_dgm.evaluation import (
    collapse,
    elbo_surgery,
    generate,
    interpolate,
    latents,
    rate_distortion,
    traverse,
)
from numpyro_dgm.flows import MAF
from numpyro_dgm.losses import ELBO
from numpyro_dgm.models import VAE
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
EPOCHS = 1 if FAST else 200
keys = iter(jax.random.split(jax.random.key(0), 100))  # every network takes the next one

# %% [markdown]
# ## One decoder, three priors
#
# The data are the handwritten digits of scikit-learn, 8 x 8 pixels, here black or white. Codes have
# two entries, so that they can be looked at. Only the prior differs: a standard normal
# distribution, a mixture of 30 normal ones, and a masked autoregressive flow, both learned with the
# rest.

# %%
digits = load("digits")
labels = digits.labels["train"]
x = (digits.train > 0.5).astype(np.float32)
if FAST:
    x, labels = x[:200], labels[:200]


def trained(vae, loss, data=x):
    return fit(
        vae.model,
        vae.guide,
        data,
        loss=loss,
        optim=Adam(2e-3),
        num_epochs=EPOCHS,
        batch_size=100,
        seed=0,
        progress=False,
    )


priors = {
    "standard": StandardNormal(2),
    "mixture": MixturePrior(2, 30, key=next(keys)),
    "MAF": MAF(2, num_layers=4, hidden=(32, 32), key=next(keys)),
}
if FAST:
    del priors["MAF"]
runs = {
    name: trained(VAE(64, 2, prior=prior, key=next(keys)), ELBO()) for name, prior in priors.items()
}

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
fig, axes = plt.subplots(2, len(runs), figsize=(4 * len(runs), 7), layout="constrained")
for (above, below), (name, run) in zip(axes.T, runs.items()):
    codes = latents(run, x)["z"][0]  # a draw for each datum: together, draws of q(z)
    prior = generate(run, size=2000)["z"]
    above.scatter(*prior.T, s=2, color="lightgray", label="prior")
    above.scatter(*codes.T, s=4, c=labels, cmap="tab10")
    above.set(title=f"{name}: KL(q(z), p(z)) = {parts[name].marginal_kl:.2f}", aspect="equal")
    drawn = generate(run, size=64, means=True)["x"].reshape(8, 8, 8, 8)
    below.imshow(drawn.transpose(0, 2, 1, 3).reshape(64, 64), cmap="gray_r", vmin=0, vmax=1)
    below.set(title="new digits", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The gray points are draws of the prior, the colored ones codes of the data. Under the standard
# normal prior the codes leave gaps, from which new digits are drawn all the same; the learned
# priors lie where the codes lie. Their mismatch is smaller, and the codes may spread, so that they
# say more of the data: the mutual information grows and the reconstruction with it. It cannot grow
# beyond $\log N$, and here it comes near: of more data it would be larger.
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
for name, option in options.items():
    found = elbo_surgery(run, x, **option)
    rows.append({"q(z)": name, **{column: getattr(found, column) for column in columns}})
print(format_table(rows, digits=2))

# %% [markdown]
# The mean KL, which is the sum of the first two, hardly depends on the estimator; how it is shared
# does. The fewer data a draw is compared with, the less likely it seems to be another datum's. The
# weighted estimator, that of the $\beta$-TCVAE's loss, is off by several nats wherever codes
# overlap, which its gradient does not feel.
#
# ## Rate and distortion
#
# A weight $\beta$ on the KL trades the rate, its mean, for distortion, the negative reconstruction
# (Alemi et al. 2018). Runs on one dotted line have the same ELBO. Codes have eight entries now.

# %%
betas = (1.0, 20.0) if FAST else (0.1, 0.3, 1.0, 3.0, 8.0, 20.0)
runs = {beta: trained(VAE(64, 8, key=next(keys)), ELBO(beta=beta)) for beta in betas}
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
# predicts each pixel from those before it, here a masked autoregressive one, needs no code either.
# (It has a density of gray levels, so that its data are the gray digits with a little noise.)

# %%
gray = dequantize(digits.train[: len(x)], levels=17, seed=0).astype(np.float32)
decoder = MAF(64, context_shape=200, num_layers=1, hidden=(200,), key=next(keys))
strong = VAE(64, 8, likelihood=decoder, key=next(keys))
strong_run = trained(strong, ELBO(), gray)
tables = {f"beta {beta:g}": collapse(run, x) for beta, run in runs.items()}
tables["strong decoder"] = collapse(strong_run, gray)
print(format_table([{"run": name, **table.rows[0]} for name, table in tables.items()]))

# %%
fig, axes = plt.subplots(1, len(tables), figsize=(2.2 * len(tables), 2.4), sharey=True)
for axis, (name, table) in zip(axes, tables.items()):
    axis.bar(range(1, 9), sorted([unit["KL"] for unit in table.units], reverse=True))
    axis.set(title=name, xlabel="entry", yscale="symlog")
axes[0].set_ylabel("KL (nats)")
plt.show()

# %% [markdown]
# A collapsed entry is the prior whatever the datum: its KL is zero for all of them, and its mean
# does not move. The strong decoder has collapsed at $\beta = 1$, with a bound that looks fine: the
# rate is what gives it away.
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
# another the two paths differ little: with eight entries the straight one does not come near to the
# middle, where no codes are; with hundreds it would.
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
# More information is not more meaning. Codes of very small and of moderate rates are read about
# equally well, until they have said all that distinguishes digits and then fall to chance. What a
# number in this lesson says depends on what stands beside it: the marginal KL on the information,
# the bound on the rate, the rate on the decoder.
