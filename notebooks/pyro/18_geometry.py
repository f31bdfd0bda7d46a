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
# # 18. The geometry of codes
#
# A decoder $f$ lays its codes $z$ out as a surface among the data. How far apart are two codes?
# $|z_a - z_b|$ is an accident of the code: any other network could write the same surface with
# other numbers. What the **surface** says of distances does not depend on that. A small step $dz$
# moves the output by $J\,dz$, with $J$ the Jacobian of $f$, so its length is
#
# $$|J\,dz|^2 = dz^\top M\,dz, \qquad M(z) = J^\top J,$$
#
# the **metric** that the codes get from the data, pulled back through $f$.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch

from dgm_core.data import load
from dgm_core.plots import traversals
from dgm_core.results import format_table
from pyro_dgm.evaluation import latents, pullback, surface
from pyro_dgm.models import VAE
from pyro_dgm.training import fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
EPOCHS = 2 if FAST else 150
PAIRS = 3 if FAST else 20
pyro.set_rng_seed(0)

# %% [markdown]
# ## A surface that is known
#
# The bowl $f(z) = (z_1, z_2, |z|^2 / 2)$ has $M = I + z z^\top$. The singular values of $J$ are the
# axes of the ellipse that a small circle of codes becomes, their number the **rank**: how many
# directions of the code are used. Their product is the **volume**: a density $p(z)$ of codes is
# $p(z) / \sqrt{\det M}$ on the surface.

# %%
bowl = surface(lambda z: torch.cat([z, (z**2).sum(-1, keepdim=True) / 2], -1), 2)
z = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
print(bowl.metric(z)[1])
rows = zip(z, bowl.singular_values(z), bowl.rank(z), np.exp(bowl.log_volume(z)), strict=True)
names = ("z", "singular values", "rank", "volume")
print(format_table([dict(zip(names, map(str, row), strict=True)) for row in rows]))

# %% [markdown]
# The shortest way between two codes, the **geodesic**, is found by letting a chain of codes pull
# itself tight: the sum of squared distances on the surface becomes smaller until it cannot. (To
# shoot from one end and aim at the other fails on pairs that are far apart.) From $(1, 0)$ to
# $(0, 1)$ it passes nearer to the bottom of the bowl than the straight line does, and its length
# is 1.48591 where the line has 1.52450.

# %%
found = bowl.geodesics([1.0, 0.0], [0.0, 1.0])
print(found.lengths.round(5), found.straight.round(5), found.converged)
figure, axis = plt.subplots(figsize=(3.5, 3.5))
axis.plot([1, 0], [0, 1], "k--", label="straight")
axis.plot(*found.curves.T, "tab:red", label="geodesic")
axis.set(xlabel="$z_1$", ylabel="$z_2$", title="On a bowl", aspect="equal")
axis.legend()

# %% [markdown]
# ## The surface of a decoder
#
# A VAE of three digits with codes of two numbers. `pullback` takes $f(z) = \mathrm{E}[x \mid z]$
# from the run. Where is the surface large, where do small steps of the code change much? Between
# the digits: there the decoder turns one into another.

# %%
digits = load("digits")
kept = np.isin(digits.labels["train"], (0, 1, 2))
x = (digits.train[kept] > 0.5).astype(np.float32)
vae = VAE(64, 2, hidden=(100,))
run = fit(vae.model, vae.guide, x, num_epochs=EPOCHS, batch_size=100, progress=False)
codes = latents(run, x, means=True)["z"]
over = pullback(run, x[:1])
print("ranks at the codes:", np.unique(over.rank(codes[:50])))

ends = np.quantile(codes, 0.005, 0) - 0.5, np.quantile(codes, 0.995, 0) + 0.5
axes = [np.linspace(low, high, 30) for low, high in zip(*ends, strict=True)]
volume = over.log_volume(np.stack(np.meshgrid(*axes), -1))
figure, axis = plt.subplots(figsize=(6, 5))
figure.colorbar(axis.pcolormesh(*axes, volume, cmap="Greys"), label="ln volume")
axis.scatter(*codes.T, c=digits.labels["train"][kept], cmap="brg", s=6)
axis.set(xlabel="$z_1$", ylabel="$z_2$", title="Codes of three digits, and the volume")

# %% [markdown]
# ## Ways that stay near the data
#
# Is the geodesic a better way from one digit to another than the straight line? Not by itself: the
# decoder does not know where the data are, and the shortest way goes through what it invents
# between them. `near` adds what is missing, an uncertainty $s(z)$ that grows away from the codes
# of data; the metric is then the expected one, $M + D\, s' s'^\top$, and leaving the data costs
# length.

# %%
near = over.near(codes, num_centers=32, width=2.0)
start, end = np.random.default_rng(1).permutation(len(codes))[: 2 * PAIRS].reshape(2, -1)
steps = 4 if FAST else 16
ways = {"geodesic": over, "near the data": near}
found = {n: on.geodesics(codes[start], codes[end], num_steps=steps) for n, on in ways.items()}
curves = {name: search.curves for name, search in found.items()}
line = np.linspace(0, 1, steps + 1)[:, None]
curves["straight"] = codes[start][:, None] + line * (codes[end] - codes[start])[:, None]

# %% [markdown]
# Closer to the data: the distance of what is decoded on the way from the nearest datum, as the
# decoder reconstructs it.

# %%
known = over(codes)


def distance(curve):
    made = over(curve[:, 1:-1]).reshape(-1, 64)
    return np.sqrt(((made[:, None] - known) ** 2).sum(-1)).min(1).mean()


table = [{"way": name, "distance": distance(curve)} for name, curve in curves.items()]
print(format_table(table))
print("searches that ended:", {name: search.converged.mean() for name, search in found.items()})

# %%
figure, axis = plt.subplots(figsize=(6, 5))
axis.scatter(*codes.T, c=digits.labels["train"][kept], cmap="brg", s=6, alpha=0.3)
looks = {"straight": "black", "geodesic": "tab:blue", "near the data": "tab:red"}
for name, color in looks.items():
    for index, curve in enumerate(curves[name][:6]):
        axis.plot(*curve.T, color=color, lw=1, label=None if index else name)
axis.set(xlabel="$z_1$", ylabel="$z_2$")
axis.legend()

# %% [markdown]
# The three ways between the two codes that lie farthest apart, as images, from top to bottom as in
# the legend:

# %%
far = np.linalg.norm(codes[start] - codes[end], axis=-1).argmax()
traversals(np.stack([over(curves[name][far]) for name in looks]), (1, 8, 8))

# %% [markdown]
# A geodesic is as good as the surface: of ten digits in two numbers there is little empty space to
# go around, and in spaces of many dimensions the codes of data are far from each other everywhere.
# `converged` says whether a search came to its end, and `distances` gives all pairs to clustering
# and neighbors.
