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
# # 9. Which guide?
#
# The guide is where variational inference is right or wrong. In the lessons before it was written
# by hand, beside the model. Here **any model** gets one in one line: a guide runs the model's own
# program and answers its latent statements, so that it knows plates, masks, bounds and sizes
# without being told. Which family it answers with is one argument, and what the choice costs is
# one table.

# %%
import os
from functools import partial

import arviz as az
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.infer.autoguide import AutoNormal

from dgm_core.diagnostics import summary
from dgm_core.schedules import linear
from numpyro_dgm.conditionals import DiagonalNormal, FullRankNormal, LowRankNormal
from numpyro_dgm.evaluation import (
    calibrate,
    compare_guides,
    log_weights,
    median,
    nuts,
    predict,
    prior_predictive,
    sample_posterior,
)
from numpyro_dgm.flows import IAF, AutoregressiveNSF
from numpyro_dgm.guides import (
    AmortizedGuide,
    AuxiliaryGuide,
    HamiltonianGuide,
    JointGuide,
    MixtureGuide,
)
from numpyro_dgm.nn import MLP, Pooled, register
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
SHORT = 30 if FAST else None  # that many steps and draws, instead of those at their places
keys = iter(jax.random.split(jax.random.key(0), 100))  # every draw takes the next one

# %% [markdown]
# ## One model, ten guides
#
# Eight schools coached for a test; the effect of each was measured with a known error. Are the
# differences real? If the spread $\tau$ is small, all effects are nearly equal, and the posterior
# has the shape of a funnel, which is why these eight numbers are in every textbook.

# %%
effects = np.array([28, 8, -3, 7, -1, 1, 18, 12], dtype=np.float32)
errors = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, errors), obs=y)


guides = {
    "stock mean field": lambda: AutoNormal(schools),
    "mean field": lambda: JointGuide(schools, DiagonalNormal),
    "low rank": lambda: JointGuide(schools, partial(LowRankNormal, rank=2), key=next(keys)),
    "full rank": lambda: JointGuide(schools),
    "IAF": lambda: JointGuide(schools, partial(IAF, num_layers=2, hidden=(32, 32)), key=next(keys)),
    "spline flow": lambda: JointGuide(
        schools, partial(AutoregressiveNSF, num_layers=2, hidden=(32, 32)), key=next(keys)
    ),
    "mixture": lambda: MixtureGuide(schools, [FullRankNormal, FullRankNormal], key=next(keys)),
    "auxiliary": lambda: AuxiliaryGuide(schools, aux_dim=4, key=next(keys)),
    "Hamiltonian": lambda: HamiltonianGuide(JointGuide(schools), key=next(keys)),
    "amortized": lambda: AmortizedGuide(
        schools,
        MLP(1, (16,), key=next(keys)),
        {"z": FullRankNormal},
        inputs=lambda y: y[:, None],
        key=next(keys),
    ),
}
if FAST:
    guides = {name: guides[name] for name in ("full rank", "mixture", "Hamiltonian", "amortized")}
table = compare_guides(
    schools,
    guides,
    effects,
    num_steps=SHORT or 4000,
    reference=None if FAST else "nuts",
    num_particles=SHORT or 4000,
    num_draws=SHORT or 2000,
    seeds=0,
    progress=False,
)
print(table)
table.plot()

# %% [markdown]
# How to read it. The **ELBO** of no guide exceeds the evidence, $-31.31$; what is missing is the
# Kullback-Leibler divergence between guide and posterior. The importance-weighted bound closes most
# of it, and the **gap** between the two says how much there was to close. **k-hat** above 0.7 says
# that the weights cannot be trusted.
#
# The mean field has the means about right and the standard deviations of $\mu$ and $z$ too, but
# cannot say that they are correlated; full covariances can; the flows also bend, as the funnel
# asks. A mixture bends by having two pieces, an auxiliary variable and Hamiltonian steps by
# marginalizing over something that the guide draws beyond the model, for which a *reverse* model
# is learned beside it. The amortized guide is not made for eight numbers: here it only shows that
# local sites may see the global ones. What no column shows is a mode that a guide never visited;
# for that there is the distance to NUTS.

# %% [markdown]
# ## Groups of unequal size
#
# Thirty rats were weighed at five ages (Gelfand et al. 1990, the example of the BUGS manual); as
# there, most of the last weighings are taken away. Each rat has a level and a slope of its own;
# that growth slows down is left to a small network, shared by all,
#
# $$\mathrm{rat}_i \sim \mathrm{Normal}(\mathrm{mean}, \mathrm{spread}), \qquad
# y_{ij} \sim \mathrm{Normal}(\mathrm{level}_i + \mathrm{slope}_i t_j + h(t_j), \sigma).$$
#
# The plate of rats is subsampled: a step sees ten of them. Ten rows of 30 cannot have parameters
# of their own; an encoder reads the weights of a rat and gives the guide of its level and slope.

# %%
WEIGHTS = """
151 199 246 283 320  145 199 249 293 354  147 214 263 312 328  155 200 237 272 297
135 188 230 280 323  159 210 252 298 331  141 189 231 275 305  159 201 248 297 338
177 236 285 350 376  134 182 220 260 296  160 208 261 313 352  143 188 220 273 314
154 200 244 289 325  171 221 270 326 358  163 216 242 281 312  160 207 248 288 324
142 187 234 280 316  156 203 243 283 317  157 212 259 307 336  152 203 246 286 321
154 205 253 298 334  139 190 225 267 302  146 191 229 272 302  157 211 250 285 323
132 185 237 286 331  160 207 257 303 345  169 216 261 295 333  157 205 248 289 316
137 180 219 258 291  153 200 244 286 324
"""
days = np.array([8, 15, 22, 29, 36])
weights = np.array(WEIGHTS.split(), dtype=float).reshape(30, 5)  # gram
num_seen = np.repeat([5, 4, 3, 2, 1], [5, 5, 10, 5, 5])
seen = np.arange(5) < num_seen[:, None]
t = np.tile(((days - 22) / 14).astype(np.float32), (30, 1))
y = np.where(seen, (weights - 200) / 100, np.nan).astype(np.float32)
curve = MLP(1, (8,), 1, activation="tanh", key=next(keys))
encoder = Pooled(MLP(2, (32,), key=next(keys)), MLP(65, (32,), key=next(keys)))


def rats(t, y, seen, mean, spread, sigma, num_rats):
    h = register("curve", curve)(t[..., None])[..., 0]
    with numpyro.plate("rats", num_rats, subsample_size=len(t), dim=-2):
        rat = numpyro.sample("rat", dist.Normal(mean, spread).to_event(1))  # level, slope
        with numpyro.plate("days", t.shape[1], dim=-1), numpyro.handlers.mask(mask=seen):
            numpyro.sample("y", dist.Normal(rat[..., 0] + rat[..., 1] * t + h, sigma), obs=y)


def growth(t, y, seen):
    mean = numpyro.sample("mean", dist.Normal(jnp.array([0.4, 0.9]), 0.5).to_event(1))
    spread = numpyro.sample("spread", dist.HalfNormal(jnp.array([0.3, 0.3])).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.1))
    rats(t, y, seen, mean, spread, sigma, 30)


def rows(t, y, seen):
    return jnp.stack([t, y - 0.5], -1), seen


guide = AmortizedGuide(
    growth, encoder, {"rat": FullRankNormal}, inputs=rows, name="rats", key=next(keys)
)

# %% [markdown]
# What does the model say before it has seen a weight? Curves of rats, not of mice or cats:

# %%
before = prior_predictive(growth, t, None, np.ones_like(seen), num_draws=20, seed=0)["y"]
run = fit(
    growth,
    guide,
    (t, y, seen),
    batch_size=10,
    optim=Adam(5e-3),
    lr_schedule=linear(12_000, 1.0, 0.01),
    num_steps=SHORT or 12_000,
    clip_norm=10.0,
    progress=False,
)
after = predict(run, t, y, seen, num_draws=SHORT or 500, seed=0)["y"]
print(summary(log_weights(run, t, y, seen, num_particles=SHORT or 4000)))

fig, axes = plt.subplots(1, 2, figsize=(12, 4), sharey=True, layout="constrained")
axes[0].plot(days, before[:, 0].T * 100 + 200, color="C0", linewidth=0.7)
axes[0].set(xlabel="age (days)", ylabel="weight (gram)", title="20 rats of the prior")
axes[1].plot(days, weights.T, color="gray", linewidth=0.7)
axes[1].set(xlabel="age (days)", title="the 30 rats")
plt.show()

# %% [markdown]
# The weighings that were taken away are known, so that predictions can be checked: how many lie in
# their intervals? And NUTS, which starts from the guide and takes the network as it is, says what
# the guide should have found.

# %%
low, high = np.quantile(after * 100 + 200, (0.05, 0.95), axis=0)
inside = ((low < weights) & (weights < high))[~seen]
print(f"{inside.mean():.0%} of {inside.size} weighings that nobody saw lie in their 90 % interval")

chains = nuts(
    run,
    t,
    y,
    seen,
    start=run,
    num_chains=1 if SHORT else 2,
    num_draws=SHORT or 500,
    num_warmup=SHORT or 300,
)
draws = sample_posterior(run, t, y, seen, num_draws=SHORT or 1000)
idata = {
    "guide": az.from_dict(posterior={name: draws[name][None] for name in draws}),
    "NUTS": az.from_dict(posterior={name: chains[name] for name in draws}),
}
axes = az.plot_forest(
    list(idata.values()),
    model_names=list(idata),
    var_names=["mean", "spread", "sigma"],
    combined=True,
    figsize=(8, 4),
)
plt.show()

fig, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
reference = {name: chains[name].reshape(-1, *chains[name].shape[2:]) for name in draws}
for axis, statistic, title in ((axes[0], np.mean, "posterior means"), (axes[1], np.std, "and sds")):
    for column, label in enumerate(("level", "slope")):
        ours = statistic(draws["rat"].reshape(-1, 30, 2), axis=0)[:, column]
        theirs = statistic(reference["rat"].reshape(-1, 30, 2), axis=0)[:, column]
        axis.plot(theirs, ours, "o", markersize=4, label=label)
    ends = np.array(axis.get_xlim())
    axis.plot(ends, ends, color="gray", linewidth=0.7)
    axis.set(xlabel="NUTS", ylabel="guide", title=f"30 rats: {title}")
axes[0].legend()
plt.show()

# %% [markdown]
# Each point is a rat: those with one weighing have the large standard deviations. The guide has a
# parameter for none of them. A rat that was not there when it was trained gets its posterior as
# well, from one call of the encoder:

# %%
new = np.array([[162, 215, np.nan, np.nan, np.nan]])
new_seen = np.isfinite(new)
forecast = predict(
    run,
    t[:1],
    ((new - 200) / 100).astype(np.float32),
    new_seen,
    num_draws=SHORT or 1000,
)["y"]
print("expected weights:", np.round(forecast.mean(0)[0] * 100 + 200))

# %% [markdown]
# ## Is the encoder right on other data?
#
# One data set cannot say. Simulation-based calibration draws rats and weights from the model and
# asks in which place the true level lies among the draws of the guide: any place is equally likely
# if the guide is right. With mean, spread and noise known, the encoder is all there is to check.
# One is trained on the thirty rats, another on 3000 that the model has drawn.

# %%
found = median(run, t, y, seen)
mean, spread, sigma = (jnp.asarray(found[name]) for name in ("mean", "spread", "sigma"))


def known(t, y, seen):
    rats(t, y, seen, mean, spread, sigma, len(t))


num_sets = 4 if FAST else 100
drawn = prior_predictive(known, t, None, seen, num_draws=num_sets, seed=1)["y"]
simulated = (
    np.tile(t, (num_sets, 1)),
    drawn.reshape(-1, 5).astype(np.float32),
    np.tile(seen, (num_sets, 1)),
)
for name, data in {"thirty": (t, y, seen), "simulated": simulated}.items():
    encoder = Pooled(MLP(2, (32,), key=next(keys)), MLP(65, (32,), key=next(keys)))
    guide = AmortizedGuide(
        known, encoder, {"rat": FullRankNormal}, inputs=rows, name=name, key=next(keys)
    )
    encoder_run = fit(
        known,
        guide,
        data,
        batch_size=10 if name == "thirty" else 100,
        optim=Adam(5e-3),
        lr_schedule=linear(6000, 1.0, 0.01),
        num_steps=SHORT or 6000,
        progress=False,
    )
    num_simulations = 2 if FAST else 20
    found = calibrate(
        encoder_run, encoder_run, t, y, seen, num_simulations=num_simulations, progress=False
    )
    print(f"{name}: {found}")
found.plot_ecdf()

# %% [markdown]
# The encoder of thirty rats is wrong on others, and calibration says so beyond any doubt: it has
# learned these thirty by heart, which is all that was asked of it. Trained on what the model can
# draw it is right wherever the model is: the curves hardly touch the band, and 600 ranks find no
# fault. A hump on one side would say shifted, an S too narrow or too wide.
#
# Nothing in this lesson was written for a particular guide. The models are ordinary programs of
# sample statements, each guide is one line, and every question was put to a run: what does it
# predict, how good are its weights, where would NUTS be, is it calibrated?
