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
# # 13. Sequences
#
# A sequence $x_1, \dots, x_T$ with a hidden state that moves:
#
# $$p(x, z) = p(z_1) \prod_{t > 1} p(z_t \mid z_{t-1}) \prod_t p(x_t \mid z_t).$$
#
# Here the whole path $z = (z_1, \dots, z_T)$ is **one** latent variable, with one density, and its
# guide is one conditional distribution of paths. So everything from the lessons before holds as it
# is, and three questions are left: what must a guide of paths know, how do sequences of unequal
# lengths share a batch, and what comes next in the sequence?

# %%
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

from dgm_core.data import elnino, load
from dgm_core.diagnostics import per_step
from dgm_core.forecasting import crps, seasonal_naive
from dgm_core.plots import bands, piano_rolls
from dgm_core.schedules import linear
from numpyro_dgm import evaluation
from numpyro_dgm.conditionals import (
    AffineMarkov,
    DiagonalNormal,
    KalmanSmoother,
    LinearGaussian,
    LinearNormal,
    Markov,
    StandardNormal,
    Steps,
)
from numpyro_dgm.evaluation import forecast, generate, latents, log_likelihood, reconstruct
from numpyro_dgm.losses import ELBO, FIVO, IWAE, NLL
from numpyro_dgm.models import DMM, VRNN
from numpyro_dgm.nn import register
from numpyro_dgm.sequences import unroll
from numpyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
keys = iter(jax.random.split(jax.random.key(0), 100))

# %% [markdown]
# ## The case with an exact answer
#
# Where all is linear and Gaussian, the *Kalman filter* gives $p(z_t \mid x_1, \dots, x_t)$ and the
# evidence $p(x)$, and the *smoother* $p(z_t \mid x_1, \dots, x_T)$. Take $z_t = 0.9 z_{t-1} +$
# noise of variance 0.25, and $x_t = z_t + 0.1 +$ noise of variance 0.49.


# %%
def set_to(module, weight, bias, variance):
    """A LinearNormal with these numbers."""
    raw = np.log(np.expm1(variance**0.5)) - np.log(np.expm1(1))
    shape = module.head.weight.shape
    values = jnp.broadcast_to(jnp.array(weight), shape), jnp.full(1, bias), jnp.full(1, raw)
    return eqx.tree_at(lambda m: (m.head.weight, m.head.bias, m.raw_scale), module, values)


def system(length):
    """Prior and emission."""
    move, emission = (
        LinearNormal(1, context_shape=1, min_scale=0.0, key=next(keys)) for _ in range(2)
    )
    prior = Markov(set_to(move, 0.9, 0.0, 0.25), length, initial=StandardNormal(1))
    return prior, set_to(emission, 1.0, 0.1, 0.49)


rng, length = np.random.default_rng(1), 20 if FAST else 60
states = [rng.standard_normal()]
for _ in range(length - 1):
    states.append(0.9 * states[-1] + 0.5 * rng.standard_normal())
series = np.array(states)[:, None] + 0.1 + 0.7 * rng.standard_normal((length, 1))

prior, emission = system(length)
x = jnp.asarray(series)
filtered = LinearGaussian(prior, emission).filtered(x)
smoothed = KalmanSmoother(prior, emission)(x)
shown = {
    "filter": (filtered.means[:, 0], filtered.covariances[:, 0, 0]),
    "smoother": (smoothed.mean[:, 0], smoothed.variance[:, 0]),
}
fig, ax = plt.subplots(figsize=(9, 3.4), layout="constrained")
for label, (mean, variance) in shown.items():
    mean, spread = (np.asarray(v) for v in (mean, variance))
    (line,) = ax.plot(mean, label=label)
    spread = 1.645 * spread**0.5
    ax.fill_between(
        np.arange(length), mean - spread, mean + spread, alpha=0.2, color=line.get_color()
    )
ax.plot(states, "k", linewidth=0.8, label="true state")
ax.plot(series - 0.1, "k.", markersize=4, label="$x_t - 0.1$")
ax.set(xlabel="step $t$", ylabel="$z_t$")
ax.legend(frameon=False, ncols=4)
plt.show()

# %% [markdown]
# The smoother knows what comes later: its band of 90 % is narrower, and it has no delay. Both end
# in the same place, where there is no future.
#
# ## What a guide must know
#
# Five steps of this model, $\log p(x) = -6.7726$. For each guide the bound
# $\mathbb E_q \log p(x, z) - \log q(z)$; what is missing to $\log p(x)$ is
# $\mathrm{KL}(q, p(z \mid x))$, what the guide cannot say. Two guides are trained; the others are
# put together from the exact filter and smoother.

# %%
five = np.array([0.5, -0.3, 1.2, 0.8, 2.0])[:, None]
prior, emission = system(5)
x = jnp.asarray(five)
likelihood, exact = Steps(emission, 5), LinearGaussian(prior, emission)


def model(x):
    with numpyro.plate("data", 1):
        z = numpyro.sample("z", prior())
        numpyro.sample("x", likelihood(z), obs=x)


def trained(path, context=None):
    """A guide of free parameters."""

    def guide(x):
        with numpyro.plate("data", 1):
            numpyro.sample("z", register("path", path)(context))

    loss, steps = ELBO(num_particles=16), 20 if FAST else 1500
    run = fit(
        model, guide, x[None], loss=loss, optim=Adam(1e-2), num_steps=steps, seed=0, progress=False
    )
    return run.params["path$params"](context)


def bound(q):
    """The bound of a guide on log p(x), and what one draw of it varies."""
    z = q.sample(next(keys), (20_000,))
    log_w = prior().log_prob(z) + likelihood(z).log_prob(x) - q.log_prob(z)
    return log_w.mean().item(), log_w.std().item()


filtered, smoother = exact.filtered(x), KalmanSmoother(prior, emission)(x)
move, first = (
    LinearNormal(1, context_shape=c, min_scale=0.0, key=next(keys)) for c in ((1, (1,)), 1)
)
gain, late = 1 / (1 + 0.49), 0.25 / (0.25 + 0.49)
first = set_to(first, gain, -0.1 * gain, 0.49 * gain)
move = set_to(move, [[0.9 * (1 - late), late]], -0.1 * late, 1 / (1 / 0.25 + 1 / 0.49))
proposal = Markov(move, 5, initial=first)
alone = Steps(DiagonalNormal(1, context_shape=5, key=next(keys)), 5)
guides = {
    "exact smoother": smoother,
    "AffineMarkov, trained": trained(AffineMarkov((5, 1))),
    "mean field, trained": trained(alone, jnp.eye(5)),
    "no future: p(z_t | z_{t-1}, x_t)": proposal(x),
    "smoothing marginals": dist.Normal(smoother.mean, smoother.variance**0.5).to_event(2),
    "filtering marginals": dist.Normal(
        filtered.means, filtered.covariances[..., 0] ** 0.5
    ).to_event(2),
}
evidence = exact().log_prob(x).item()
print(f"log p(x) = {evidence:.4f}")
for name, q in guides.items():
    value, spread = bound(q)
    print(f"{name:34s} bound {value:8.4f}  loses {evidence - value:6.4f}  spread {spread:.4f}")

# %% [markdown]
# The exact values are -6.7726, -6.7726, -7.2763, -7.4942, -7.5797 and -8.9007. An affine chain
# contains the posterior, so it loses nothing, and then every draw has the same weight. A guide
# without the future loses more than the best one without any dependence over time. And exact
# marginals are not what a mean field should have: the best product has narrower ones.
#
# ## As sequences grow
#
# Many draws make up for what a guide does not know: IWAE. But the weight of a path is a product
# over time, so that of 16 paths soon one has all the weight. A particle filter resamples on the
# way, and its bound is FIVO. It takes model and guide written as steps; this guide has no future.


# %%
def variance_of(is_first):
    return is_first + (1 - is_first) * 0.25


def model_step(last, is_first, x_t):
    z = numpyro.sample("z", dist.Normal(0.9 * last, variance_of(is_first) ** 0.5).to_event(1))
    numpyro.sample("x", dist.Normal(z + 0.1, 0.7).to_event(1), obs=x_t)
    return z


def guide_step(last, is_first, x_t):
    variance = variance_of(is_first)
    gain = variance / (variance + 0.49)
    mean = 0.9 * last + gain * (x_t - 0.1 - 0.9 * last)
    return numpyro.sample("z", dist.Normal(mean, (gain * 0.49) ** 0.5).to_event(1))


def chain(step):
    def program(x):
        is_first = jnp.asarray(np.eye(x.shape[1], 1, dtype=np.float32))
        with numpyro.plate("data", len(x)):
            unroll(step, jnp.asarray(np.zeros(1, np.float32)), x, inputs=is_first)

    return program


def bound_of(loss, x):
    """A bound, for each sequence."""
    pair = chain(model_step), chain(guide_step)
    found = jax.jit(lambda key: loss.evaluate(key, {}, *pair, (x,)).loss)(next(keys))
    return -found.item() / len(x)


lengths = (3, 6) if FAST else (5, 10, 20, 40, 80)
losses = {"ELBO": ELBO(), "IWAE, 16 paths": IWAE(16), "FIVO, 16 particles": FIVO(16)}
gaps = {name: [] for name in losses}
for length in lengths:
    exact = LinearGaussian(*system(length))()
    x = exact.sample(next(keys), (50,))
    evidence = exact.log_prob(x).mean().item()
    for name, loss in losses.items():
        gaps[name].append(evidence - bound_of(loss, x))

fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, values in gaps.items():
    ax.loglog(lengths, values, "o-", label=name)
ax.set_xticks(lengths, lengths)
ax.minorticks_off()
ax.set(xlabel="length $T$", ylabel=r"nats below $\log p(x)$")
ax.legend(frameon=False)
plt.show()
print({name: np.round(values, 2).tolist() for name, values in gaps.items()})

# %% [markdown]
# The bound with one path loses about 0.17 nats with every step. Sixteen paths help a short sequence
# and hardly a long one: their loss grows as fast in the end. FIVO's loss grows with the length
# too, but stays a fraction of the others. (On short sequences it need not be above IWAE.)
#
# ## Chorales
#
# A *deep Markov model* has networks for the transition and the emission. Its encoder reads the
# music from the end, so that the guide of $z_t$ knows the future, and the guide's path is one
# argument.
# The chorales have unequal lengths: they are padded, the lengths go into the model, and what stands
# in the padding enters nothing. Results are per time step: the sum over all chorales by the sum of
# their lengths.
#
# A *variational recurrent network* (VRNN) has a state besides, which reads each chord as it is
# played, so that the next one is drawn given all of the music so far. It is written as one step,
# which serves the loss, the particle filter and the draws, where it reads its own chords. It gets a
# sixth of the epochs.

# %%
if FAST:
    steps = 8
    rolls = (rng.random((40, steps, 88)) < 0.05).astype(np.float32)
    ends = rng.integers(3, steps + 1, 40)
    music = {"train": (rolls[:20], ends[:20]), "test": (rolls[20:], ends[20:])}
else:
    steps, data = 64, load("jsb_chorales")
    music = {
        name: (getattr(data, name)[:, :steps], np.minimum(data.lengths[name], steps))
        for name in ("train", "test")
    }
sizes = {"hidden": 8, "features": 8} if FAST else {"hidden": 48, "features": 64}
z_dim = 2 if FAST else 16
affine = AffineMarkov((steps, z_dim), context_shape=(steps, sizes["features"]), key=next(keys))
members = {"combiner": DMM(88, z_dim, steps, **sizes, key=next(keys))}
if not FAST:
    members["AffineMarkov"] = DMM(88, z_dim, steps, **sizes, posterior=affine, key=next(keys))
members["VRNN"] = VRNN(88, z_dim, steps, **sizes, key=next(keys))
epochs, runs, many = 1 if FAST else 120, {}, 4 if FAST else 32
settings = {"clip_norm": 10.0, "batch_size": 20, "seed": 0, "progress": False}
for name, member in members.items():
    num_epochs = max(1, epochs // 6) if name == "VRNN" else epochs
    loss = ELBO(beta=linear(6 * num_epochs, start=0.2))
    settings |= {"optim": Adam(2e-3), "num_epochs": num_epochs}
    runs[name] = fit(member.model, member.guide, music["train"], loss=loss, **settings)
    report = log_likelihood(runs[name], music["test"], num_particles=many, progress=False)
    found = per_step(report, music["test"][1])
    print(f"{name:14s}", {k: f"{v:.2f} +/- {e:.2f}" for k, (v, e) in found.items()})

# %%
run, few = runs["combiner"], tuple(part[:3] for part in music["test"])
silent = np.zeros_like(few[0])
pictures = {
    "data": few[0],
    "reconstruction": reconstruct(run, few)["x"],
    "draws": generate(run, silent, few[1], seed=1)["x"],
    "draws of the VRNN": generate(runs["VRNN"], silent, few[1], seed=1)["x"],
}
piano_rolls(pictures, lengths=few[1])

# %%
particles = evaluation.particle_filter(runs["VRNN"], music["test"], num_particles=many)
found = per_step({"FIVO": particles.log_likelihood}, music["test"][1])
print("VRNN", {k: f"{v:.2f} +/- {e:.2f}" for k, (v, e) in found.items()})

# %%
paths = latents(run, few, num_draws=50)["z"][:, 0, : few[1][0]]
moving = paths.mean(0).std(0).argsort()[-2:]
bands(paths[..., moving], names=[f"$z_{{t,{i + 1}}}$" for i in moving], title="entries that move")

# %% [markdown]
# Above what was written, then what the deep Markov model keeps of it in its path and what it writes
# itself: chords that hold for a few steps, mostly without a tune. Last what the VRNN writes, after
# its short training. Its guide has no future, so resampling on the way helps a little: FIVO. The
# bands are those of the two entries of the first chorale's path that move most over time: how sure
# the guide of the deep Markov model is of each state, given all of the music. Entries that hardly
# move are unused: there the guide says what the prior says.
#
# ## What comes next
#
# The temperature of the sea off Peru, month by month since 1950. The state is small and linear, its
# transition is told the month, and it is summed out: training is maximum likelihood. A forecast
# draws the last state given all that is known, and lets the model run on.

# %%
window, horizon, season = (30, 6, 12) if FAST else (120, 24, 12)
if FAST:
    year = np.arange(732)[:, None] / 12 * 2 * np.pi
    temperature = 23 + 3 * np.sin(year) + rng.normal(size=(732, 1))
else:
    temperature = elnino()
level = temperature[:480].mean()


def windows(starts):
    """Temperatures about their mean, the months one-hot."""
    steps = np.asarray(starts)[:, None] + np.arange(window)
    months = np.eye(season)[steps % season]
    return (temperature[steps] - level).astype(np.float32), months.astype(np.float32)


z_dim = 1 if FAST else 2
move = LinearNormal(z_dim, context_shape=(z_dim, (season,)), key=next(keys))
prior = Markov(move, window, initial=LinearNormal(z_dim, key=next(keys)))
sea = LinearGaussian(prior, LinearNormal(1, context_shape=z_dim, key=next(keys)))


def sea_model(x, months, lengths):
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", register("sea", sea)(months, lengths), obs=x)


def no_guide(x, months, lengths):
    pass


x, months = windows(np.arange(0, 480 - window, 60 if FAST else 12))
settings = {"optim": Adam(1e-2), "num_steps": 5 if FAST else 300, "seed": 0, "progress": False}
run = fit(sea_model, no_guide, (x, months, np.full(len(x), window)), loss=NLL(), **settings)

x, months = windows(np.arange(600 - window + horizon, 732 - window + 1, 12))
known = np.full(len(x), window - horizon)
found = forecast(run, x, months, known, horizon=horizon, num_draws=100 if FAST else 1000)
truth, naive = x[:, -horizon:], seasonal_naive(x[:, :-horizon], horizon, season)
print({name: round(score, 3) for name, score in found.scores(truth).items()})
print(f"CRPS of the last season, repeated: {crps(naive, truth).mean():.3f}")
bands(
    found.of("x")[:, -1] + level,
    x=x[-1] + level,
    start=window - horizon,
    names=["degrees Celsius"],
    title="the last two years, forecast",
)

# %% [markdown]
# The bands are honest where about 90 % of what came lies inside (`coverage`), and the forecast is
# worth its name where its score, the CRPS in degrees, is below that of the last season, repeated.
# Farther ahead the band widens to what the month alone tells.
#
# **To try.** Hide every third month from the model (`observed=`) and forecast again. Give the
# chorales a guide without the future: `encoder=GRU(88, 64)`. Put
# `Markov(IAF(16, context_shape=(16, (64,))), 64)` in the place of the combiner.
