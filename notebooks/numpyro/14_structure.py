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
# # 14. Latents with a structure
#
# A single code for each datum is the simplest latent structure. Often more is known: several
# **modalities** show the same thing, of which some are missing; data come in **groups** with
# something in common. Both are statements about the model/guide pair, and so a few lines.

# %%
import os

import jax
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression

from dgm_core.data import load
from dgm_core.members import grouped, per_member
from dgm_core.plots import reconstructions, swaps
from dgm_core.representation import linear_probe
from dgm_core.results import format_table
from numpyro_dgm.conditionals import Categorical
from numpyro_dgm.evaluation import (
    class_probabilities,
    collapse,
    fit_prior,
    latents,
    log_likelihood,
    log_weights,
    predict,
    swap,
)
from numpyro_dgm.evaluation import codes as code_maps
from numpyro_dgm.losses import ELBO, NLL, Commitment, sub_sampled
from numpyro_dgm.models import M2, MLVAE, MMVAE, MVAE, VAE, VQVAE, LadderVAE
from numpyro_dgm.training import fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
EPOCHS = 1 if FAST else 150
keys = jax.random.split(jax.random.key(0), 6)

# %% [markdown]
# ## Two views of digits, one missing
#
# The upper and the lower half of a digit are two modalities $x_1, x_2$ with a common code,
# $p(z)\, p(x_1 \mid z)\, p(x_2 \mid z)$. In the guide of the **MVAE** every half that is there
# brings an expert, and the experts are multiplied with each other and with the prior, once:
#
# $$q(z \mid x) \propto p(z) \prod_{m \text{ there}} N(z; \mu_m(x_m), \sigma_m(x_m)^2).$$
#
# A half that is missing is an expert less, and nothing else. The **MMVAE** takes the mean of the
# halves' posteriors in place of the product. A mask `has` says which digits have which half; here a
# third of the halves is lost.

# %%
digits = load("digits")
labels = digits.labels["train"]
x = (digits.train > 0.5).astype(np.float32)
if FAST:
    x, labels = x[:300], labels[:300]
names = ("upper", "lower")
halves = {"upper": x[:, :32], "lower": x[:, 32:]}
rng = np.random.default_rng(0)
has = rng.uniform(size=(len(x), 2)) < 2 / 3
SIZES = {"upper": 32, "lower": 32}
pairs = {
    "MVAE": (MVAE(SIZES, 8, hidden=(100,), key=keys[0]), sub_sampled(names)),
    "MMVAE": (MMVAE(SIZES, 8, hidden=(100,), key=keys[1]), ELBO(enumerate="component")),
}
runs = {}
for name, (model, loss) in pairs.items():
    runs[name] = fit(
        model.model,
        model.guide,
        {**halves, "has": has},
        loss=loss,
        optim=optax.adam(2e-3),
        num_epochs=EPOCHS,
        batch_size=100,
        progress=False,
    )

# %% [markdown]
# How well do the models know digits, and how well one half given the other? `given=` estimates
# $\log p(x_2 \mid x_1) = \log p(x_1, x_2) - \log p(x_1)$, each part with the guide that sees what
# it may. The halves by themselves are worth the difference between the columns.

# %%
test = (digits.test > 0.5).astype(np.float32)[: 20 if FAST else None]
seen = {"upper": test[:, :32], "lower": test[:, 32:]}
K = 10 if FAST else 500


def nats(run, data, **how):
    report = log_likelihood(run, data, num_particles=K, progress=False, **how)
    return f"{report['IWAE'].mean():.2f}"


rows = []
for name, run in runs.items():
    lower = {"lower": seen["lower"]}
    row = {"model": name, "log p(x)": nats(run, seen), "log p(lower)": nats(run, lower)}
    rows.append({**row, "log p(lower | upper)": nats(run, seen, given="upper")})
print(format_table(rows))

# %% [markdown]
# Told the upper half, the model draws the lower one. Digits above, with the lower half as drawn
# below them; the upper half is the datum's.

# %%
few = {"upper": seen["upper"][:10]}
drawn = predict(runs["MVAE"], few, num_draws=2 if FAST else 20)["lower"]
completed = np.concatenate([few["upper"], drawn[0]], -1)
reconstructions(test[:10], completed, (1, 8, 8))

# %% [markdown]
# ## Content and style
#
# Groups of digits of one class share a **content** $c$; every member has a **style** $s_n$ of its
# own. In the **MLVAE** the members' experts for the content are multiplied, with the prior once:
# each member adds evidence. The data are now the groups, so losses are in nats per group;
# `per_member` divides by the number of members. The last groups of a class have fewer, which a mask
# says.

# %%
GROUP = 5
groups, members, of_group = grouped(x, labels, GROUP)
mlvae = MLVAE(64, 8, 4, hidden=(100,), key=keys[2])
run = fit(
    mlvae.model,
    mlvae.guide,
    (groups, members),
    loss=ELBO(),
    optim=optax.adam(2e-3),
    num_epochs=EPOCHS,
    batch_size=20,
    progress=False,
)
bound = log_likelihood(run, groups, members, num_particles=K, progress=False)["IWAE"]
print(f"{bound.mean():.1f} nats per group, {per_member(bound, members):.1f} per digit")

# %% [markdown]
# Does the content know the class, and the style not? A linear probe tells, for contents that were
# inferred from groups of one digit and more: the more members, the better the content is known.

# %%
rows = []
for size in (1, 2, GROUP):
    probed, mask, classes = grouped(x, labels, size, seed=1)
    codes = latents(run, probed, mask, means=True)
    whole = mask.all(1)
    content = linear_probe(codes["content"][whole, 0], classes[whole], num_folds=2)
    style = linear_probe(codes["style"][whole, 0], classes[whole], num_folds=2)
    accuracy = {name: f"{p.accuracy:.3f}" for name, p in (("content", content), ("style", style))}
    rows.append({"members": size, **accuracy})
print(format_table(rows))

# %% [markdown]
# The picture: row by row the content of the digits on the left, column by column the style of the
# digits above.

# %%
chosen = [int(np.flatnonzero(of_group == label)[0]) for label in np.unique(of_group)][:8]
grid = swap(run, groups[chosen], sites="content")["x"][:, :, 0]
swaps(groups[chosen][:, 0], grid, (1, 8, 8))

# %% [markdown]
# ## A ladder
#
# A **ladder** has layers of codes, $p(z_2)\, p(z_1 \mid z_2)\, p(x \mid z_1)$. Its guide runs up,
# and then down beside the model: what the data say of $z_1$ is merged with what $z_2$ expects, a
# product of two normals. **Free bits** keep a layer alive: below half a nat its KL is not pushed. A
# flat VAE stands beside it, and `collapse` says what each layer is used for.

# %%
layered = {
    "flat": VAE(64, 10, hidden=(100, 100), key=keys[3]),
    "ladder": LadderVAE(64, (8, 2), hidden=(100,), key=keys[4]),
}
layers = []
for name, model in layered.items():
    run = fit(
        model.model,
        model.guide,
        x,
        loss=ELBO(analytic_kl=True, free_bits=0.5),
        optim=optax.adam(2e-3),
        num_epochs=EPOCHS,
        batch_size=100,
        progress=False,
    )
    bound = log_likelihood(run, test, num_particles=K, progress=False)["IWAE"].mean()
    for row in collapse(run, test, num_draws=4).rows:
        shown = {"KL": f"{row['KL']:.2f}", "active": f"{row['active']} of {row['entries']}"}
        layers.append({"model": name, "log p(x)": f"{bound:.2f}", "site": row["site"], **shown})
print(format_table(layers))

# %% [markdown]
# ## A hundred labels
#
# In **M2** the label is a latent that is sometimes observed, $p(y)\, p(z)\, p(x \mid y, z)$: -1
# says that it is missing. `enumerate="y"` sums over the labels that are missing, `NLL("y")` teaches
# the guide's classifier $q(y \mid x)$ those that are known. Ten digits of each class are labeled,
# and these rows are repeated, so that every batch has some.

# %%
known = np.concatenate([np.flatnonzero(labels == k)[:10] for k in range(10)])
again = np.resize(known, len(x) // 4)
data = np.concatenate([x, x[again]])
partly = np.concatenate([np.full(len(x), -1), labels[again]])
m2 = M2(64, 8, 10, hidden=(100,), key=keys[5])
run = fit(
    m2.model,
    m2.guide,
    (data, partly),
    loss=ELBO(enumerate="y") + 10.0 * NLL("y"),
    optim=optax.adam(2e-3),
    num_epochs=1 if FAST else 60,
    batch_size=100,
    progress=False,
)
truth = digits.labels["test"][: len(test)]
alone = LogisticRegression(max_iter=1000).fit(x[known], labels[known])
rows = [
    {"classifier": "of the labels alone", "error": f"{(alone.predict(test) != truth).mean():.3f}"}
]
for by, name in (("guide", "q(y | x)"), ("bayes", "p(y | x) by Bayes' rule")):
    p = class_probabilities(run, test, by=by, num_draws=2 if FAST else 20)
    rows.append({"classifier": name, "error": f"{(p.argmax(1) != truth).mean():.3f}"})
print(format_table(rows))

# %% [markdown]
# ## A codebook
#
# The **VQ-VAE** puts a code, one of $K$ vectors, in the place of each vector of the encoder. The
# bound is $\log p(x \mid z)$ less $\ln K$ for each position: a uniform prior does not know which
# codes are used. A prior over their numbers is fitted afterwards, by one call, and the bound gains
# what it knows. **Perplexity** says how many codes are in use.

# %%
vq = VQVAE(64, 8, 32, positions=4, hidden=(100,), key=jax.random.key(1))
run = fit(
    vq.model,
    vq.guide,
    x,
    loss=ELBO() + 64.0 * Commitment("z", 0.25),
    optim=optax.adam(2e-3),
    num_epochs=EPOCHS,
    batch_size=100,
    progress=False,
)
prior = Categorical(4, 32)
better = fit_prior(run, x, prior, num_epochs=EPOCHS, optim=optax.adam(1e-2), progress=False)
rows = [
    {"prior": name, "bound": f"{log_weights(own, test, num_particles=1).mean():.2f}"}
    for name, own in (("uniform", run), ("learned", better))
]
print(format_table(rows))
print(code_maps(run, x)["z"].use)
