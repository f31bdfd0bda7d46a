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
# # 2. Normalizing flows
#
# A Gaussian posterior has one hill, a standard normal prior is round. Real ones bend, split and
# lean. **How can a distribution be flexible, easy to draw from, and still have a density that can
# be computed?** Take noise that has a density and push it through a bijection with parameters, $x =
# f(u)$. Volumes change, and densities with them,
#
# $$u \sim p(u), \quad x = f(u) \qquad\Longrightarrow\qquad \log p(x) = \log p(u) - \log \left| \det
# \frac{\partial f}{\partial u} \right|.$$
#
# Bijections can be stacked, their log-determinants add up. Everything then turns on one question:
# for which $f$ are the map, its inverse and its determinant all cheap?

# %%
import os
import time
from itertools import count

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import optax
from numpyro import distributions as dist
from numpyro.infer import SVI

from dgm_core.results import format_table
from dgm_core.schedules import Schedule
from numpyro_dgm.conditionals import StandardNormal
from numpyro_dgm.flows import IAF, MAF, Planar, RealNVP
from numpyro_dgm.losses import ELBO, NLL
from numpyro_dgm.nn import register

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
root = jax.random.key(0, impl="rbg")  # a generator that compiles quickly
keys = (jax.random.fold_in(root, i) for i in count())  # every draw takes the next one

# %% [markdown]
# ## Filling a potential
#
# The first flow of variational inference is the *planar* one. Each layer pushes space along one
# direction $v$, by an amount that depends on one number,
#
# $$u_l = u_{l-1} + v \tanh(w^\top u_{l-1} + b), \qquad \log \det = \log \bigl(1 + w^\top v\, (1 -
# \tanh^2(w^\top u_{l-1} + b))\bigr).$$
#
# **How many layers does it take to fill a shape that is no Gaussian?** The target is known up to
# its constant, $p(z) = e^{-U(z)} / Z$: two crescents on a ring. For the plane we can integrate on a
# grid and find $\log Z = 1.8775$. With the flow as guide the ELBO is $\log Z - \mathrm{KL}(q, p)$,
# so here we can see how much is missing.
#
# The model draws $z$ from a wide normal distribution and takes it back with a *factor*, so that
# what is left is $e^{-U(z)}$. The losses of the library go straight into the stock `SVI`. In the
# first third of the training the KL divergence weighs more, which keeps the flow from settling on
# one crescent.

# %%
LOG_Z = 1.8775


def log_density(z):
    """-U(z), for z (*batch, 2)."""
    ring = ((z**2).sum(-1) ** 0.5 - 2.0) / 0.4
    return -0.5 * ring**2 + jnp.logaddexp(
        -0.5 * ((z[..., 0] - 2.0) / 0.6) ** 2, -0.5 * ((z[..., 0] + 2.0) / 0.6) ** 2
    )


def train(
    model, guide, loss, num_steps, batch=lambda key: (), learning_rate=1e-2, moments=(), watch=None
):
    """num_steps of SVI, each on a new batch: the parameters in the end, and the losses; `watch`
    sees the parameters at some moments.
    """
    svi, key = (
        SVI(
            model,
            loss.attach(guide),
            optax.adam(optax.exponential_decay(learning_rate, num_steps, 0.03)),
            loss,
        ),
        next(keys),
    )
    update = jax.jit(lambda state, step: svi.update(state, *batch(jax.random.fold_in(key, step))))
    state, losses = jax.jit(lambda key: svi.init(key, *batch(key)))(key), []
    for step in range(num_steps):
        if step in moments:
            watch(step, svi.get_params(state))
        state, value = update(state, step)
        losses.append(value)
    return svi.get_params(state), np.array(losses)


def potential():
    wide = dist.Normal(jnp.zeros(2), 2.0).to_event(1)
    z = numpyro.sample("z", wide)
    numpyro.factor("potential", log_density(z) - wide.log_prob(z))


num_steps = 30 if FAST else 500
flows, gaps = {}, {}
for num_layers in (2, 4) if FAST else (2, 8, 24):
    flow = Planar(2, num_layers=num_layers, key=next(keys))

    def guide(flow=flow):
        numpyro.sample("z", register("flow", flow)())

    loss = ELBO(num_particles=256, beta=Schedule((0, num_steps // 3), (3.0, 1.0)))
    params, losses = train(potential, guide, loss, num_steps, learning_rate=2e-2)
    flows[num_layers] = eqx.combine(
        params["flow$params"], flow
    )  # the flow with the weights that were learned
    gaps[num_layers] = LOG_Z + losses[-num_steps // 10 :].mean()  # a loss is minus the bound

# %%
axis = np.linspace(-4.0, 4.0, 200, dtype=np.float32)
plane = jnp.stack(jnp.meshgrid(axis, axis), -1)  # (200, 200, 2)


@eqx.filter_jit
def score(flow, x):
    """log p(x)."""
    return flow().log_prob(x)


@eqx.filter_jit
def draw(flow, key, num):
    """Draws (num, D) and their log-densities."""
    return flow().rsample_and_log_prob(key, (num,))


def show(ax, log_p, title):
    """A density on the plane."""
    ax.imshow(np.exp(np.asarray(log_p)), extent=(-4, 4, -4, 4), origin="lower", cmap="magma")
    ax.set(title=title, xticks=(-2, 0, 2), yticks=(-2, 0, 2))


fig, axes = plt.subplots(1, 1 + len(flows), figsize=(13, 3.6), layout="constrained", sharey=True)
show(axes[0], log_density(plane), "target")
for ax, (num_layers, flow) in zip(axes[1:], flows.items()):
    show(ax, score(flow, plane), f"{num_layers} planar layers: {gaps[num_layers]:.2f} nat short")
plt.show()

# %% [markdown]
# Two layers cannot make two crescents, eight come close, twenty-four nearly fill the shape: the
# missing nats shrink again and again, and the bound never passes $\log Z$. But a planar layer is a
# weak one, since it sees space through a single number, and needs a numerical search to be
# inverted.
#
# ## Which direction is fast, and why
#
# An *autoregressive* layer is richer. Entry $i$ is scaled and shifted by numbers that a network
# computes from the entries before it. The Jacobian is triangular, so the log-determinant is a sum,
# and one masked network (MADE) computes all scales and shifts at once. There are two ways to point
# it,
#
# $$\text{MAF:}\quad u_i = m_i(x_{<i}) + e^{a_i(x_{<i})} x_i, \qquad\qquad \text{IAF:}\quad x_i =
# m_i(u_{<i}) + e^{a_i(u_{<i})} u_i .$$
#
# A MAF turns *given data* into noise in one pass: fast to score, which is what maximum likelihood
# and priors need. An IAF turns *given noise* into data in one pass: fast to draw, with the density
# of what was drawn, which is what guides need. Pointed the wrong way the entries must be found one
# after the other: whoever calls the network once for each pays $D$ passes. **How slow is the slow
# direction?**


# %%
def milliseconds(function, *args):
    """The time of the quickest of seven calls, after a first one."""
    times = []
    jax.block_until_ready(function(*args))
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


@eqx.filter_jit
def draw_one_by_one(maf, u):
    """The data of the noise u (batch, D) under a MAF, by D passes of each layer: after pass i the
    first i entries are right.
    """
    for layer in (inverse.transform for inverse in maf.transforms):
        u = jax.lax.fori_loop(
            0,
            u.shape[1],
            lambda _, x, layer=layer, u=u: layer.scalar.invert(u, layer.made(x))[0],
            jnp.zeros_like(u),
        )
    return u


dim = 8 if FAST else 64
maf, iaf, realnvp = (
    Flow(dim, num_layers=1, hidden=(256, 256), key=next(keys)) for Flow in (MAF, IAF, RealNVP)
)
noise = jax.random.normal(next(keys), (1000, dim))
times = {
    "MAF log_prob": milliseconds(score, maf, noise),
    "MAF draw": milliseconds(draw, maf, next(keys), 1000),
    "IAF draw": milliseconds(draw, iaf, next(keys), 1000),
    "IAF log_prob": milliseconds(score, iaf, noise),
    "RealNVP log_prob": milliseconds(score, realnvp, noise),
    "RealNVP draw": milliseconds(draw, realnvp, next(keys), 1000),
    "MAF draw, one by one": milliseconds(draw_one_by_one, maf, noise),
}
print(maf, iaf, realnvp, sep="\n")
naive, ours, fast = times["MAF draw, one by one"], times["MAF draw"], times["MAF log_prob"]
print(
    f"drawing one by one takes {naive / fast:.0f} x as long as scoring, drawing here "
    f"{ours / fast:.1f} x: {naive / ours:.0f} times as fast"
)

fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
bars = ax.barh(list(times), list(times.values()), color=("C0", "C0", "C1", "C1", "C2", "C2", "C3"))
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.set(
    xscale="log",
    xlabel="milliseconds for 1000 data",
    title=f"one layer in {dim} dimensions",
    xlim=(min(times.values()) / 3, 4 * max(times.values())),
)
ax.invert_yaxis()
plt.show()

# %% [markdown]
# One by one the cost is $D$ times that of a pass (red). The slow directions of this library do
# better: in a masked network every hidden unit needs only some of the entries, so it can be
# computed *once*, as soon as those are known. Together that is about the arithmetic of a single
# pass, cut into $D$ small steps. The steps still come one after the other, and each has its
# overhead, so directions matter most where they always did: on hardware that would rather do
# everything at once. `repr` says what each direction costs.
#
# The green bars are those of a **RealNVP**, which is fast both ways. Its layers are autoregressive
# ones as well, with two blocks in place of $D$ single entries: the first block is kept, $x_a =
# u_a$, the second scaled and shifted by numbers that are read off the first. The network reads the
# same numbers on both sides, so it is a MAF *and* an IAF at once. What it gives up can be seen in
# the Jacobian $\partial u / \partial x$ of one layer: half of the entries never change, and those
# that do cannot see each other.

# %%
x = jax.random.normal(next(keys), (8,))
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
for ax, Flow in zip(axes, (MAF, RealNVP)):
    flow = Flow(8, num_layers=1, key=next(keys))
    jacobian = jax.jit(jax.jacobian(lambda x, flow=flow: flow().inverse_and_log_det(x)[0]))(x)
    ax.imshow(np.abs(jacobian) > 1e-12, cmap="Blues", vmax=1.5)
    title = f"{Flow.__name__}: entries of ∂u/∂x"
    ax.set(title=title, xlabel="x", ylabel="u", xticks=[], yticks=[])
plt.show()

# %%
(coupling,) = flow.transforms
u, _ = coupling.inverse_and_log_det(x)
print(
    "what the network of a coupling says on both sides differs by",
    jnp.abs(coupling.network(x[:4]) - coupling.network(u[:4])).max(),
)

# %% [markdown]
# ## Maximum likelihood is variational inference
#
# MAF and IAF are one network read in two directions, and so are the two ways to learn. Let $\pi(x)$
# be the distribution of the data and $p(x)$ the MAF. Run the data through the inverse: $u =
# f^{-1}(x)$ has some distribution $q(u)$, and a perfect MAF would make it the noise $p(u)$. A
# divergence does not change under a bijection, so
#
# $$\mathrm{KL}\bigl(\pi(x) \,\|\, p(x)\bigr) = \mathrm{KL}\bigl(q(u) \,\|\, p(u)\bigr).$$
#
# The left side is what maximum likelihood minimizes. The right side is the negative ELBO of a model
# whose posterior is the noise, with a guide that starts from $\pi(x)$ and takes one pass to draw:
# the *implicit IAF*. **Are the two really the same number?** We train a MAF by maximum likelihood
# on draws of a planar flow of eight layers, which plays $\pi(x)$, and stop now and then to estimate
# both sides from the same network: once as a density that scores data, once as a guide that draws.

# %%
data, noise = flows[4 if FAST else 8], StandardNormal(2)
start = MAF(2, num_layers=3, hidden=(32, 32), activation="tanh", key=next(keys))


def density(x, log_pi):
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", register("maf", start)(), obs=x)
        numpyro.factor(
            "entropy", -log_pi
        )  # no parameters in it, but it makes the loss a divergence


def no_guide(x, log_pi):
    pass


def noise_model():
    numpyro.sample("u", noise())


def implicit_iaf():
    numpyro.sample("u", register("maf", start).inverse(base=data)())


def by_likelihood(params, key):
    return NLL().loss(key, params, density, no_guide, *draw(data, key, 1000)) / 1000


def by_inference(params, key):
    return ELBO(num_particles=1000).loss(key, params, noise_model, implicit_iaf)


def both_sides(step, params):
    """Notes the mean of 20 estimates of each side, and its standard error."""
    estimates = [[side(params, next(keys)) for _ in range(20)] for side in sides]
    noted.append(
        [step + 1, *np.ravel([(np.mean(values), np.std(values) / 20**0.5) for values in estimates])]
    )


num_steps, noted, sides = (
    30 if FAST else 600,
    [],
    [jax.jit(side) for side in (by_likelihood, by_inference)],
)
moments = set(np.geomspace(1, num_steps, 7).astype(int) - 1)
learned, nll = train(
    density,
    no_guide,
    NLL(),
    num_steps,
    batch=lambda key: draw(data, key, 256),
    moments=moments,
    watch=both_sides,
)
maf = eqx.combine(learned["maf$params"], start)
names = ("step", "KL(data, MAF)", "± error", "KL(implicit IAF, noise)", "±  error")
print(format_table([dict(zip(names, row)) for row in noted]))

# %%
x, _ = draw(data, next(keys), 3000)
fig, axes = plt.subplots(1, 4, figsize=(14, 3.5), width_ratios=(1.4, 1, 1, 1), layout="constrained")
axes[0].loglog(
    np.arange(num_steps) + 1,
    np.maximum(nll / 256, 1e-3),
    color="lightgrey",
    label="loss of each step",
)
steps, left, left_error, right, right_error = np.transpose(noted)
axes[0].errorbar(
    steps,
    left,
    2 * left_error,
    fmt="o",
    fillstyle="none",
    markersize=9,
    label="maximum likelihood of the MAF",
)
axes[0].errorbar(
    steps, right, 2 * right_error, fmt="+", markersize=9, label="SVI with the implicit IAF"
)
axes[0].set(xlabel="step", ylabel="divergence in nats", ylim=(0.02, None))
axes[0].legend()
for ax, points, title in (
    (axes[1], x, "data x"),
    (axes[2], start().inverse_and_log_det(x)[0], "u = f⁻¹(x), at the start"),
    (axes[3], maf().inverse_and_log_det(x)[0], "u = f⁻¹(x), learned"),
):
    ax.scatter(*np.asarray(points).T, c=np.arctan2(x[:, 1], x[:, 0]), cmap="twilight", s=3)
    ax.set(
        title=title,
        xlim=(-4, 4),
        ylim=(-4, 4),
        xticks=(-2, 0, 2),
        yticks=(-2, 0, 2),
        aspect="equal",
    )
plt.show()

# %% [markdown]
# The same number all the way down, up to the noise of the draws. At the start the inverse hardly
# does anything and the data look like data; at the end the ring has been opened and smoothed into a
# normal cloud (colors mark the angle in the data, so one can see what went where). What remains is
# the thin gap between the crescents, which no smooth bijection can remove.
