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
# # 3. Divergences and critics
#
# A model that is rich enough fits the data, and every sensible way of measuring misfit agrees on
# it. A model that is too simple must give something up, and what it gives up depends on the
# measure. **Which Gaussian does each divergence pick, and how can a divergence be lowered that
# nobody can compute?** The second question leads to games between two networks, and to the third:
# when does such a game come to rest?

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from pyro import distributions as dist
from scipy.optimize import minimize
from scipy.stats import norm

from dgm_core.results import format_table
from pyro_dgm.losses import R1, Critic, FDivergence, JensenShannon, Wasserstein, divergence
from pyro_dgm.training import Adam, fit

FAST = "DGM_NOTEBOOK_FAST" in os.environ  # a short run for the tests
pyro.set_rng_seed(0)

# %% [markdown]
# ## Which Gaussian does each divergence pick?
#
# An $f$-divergence weighs the ratio $r(x) = p(x) / q(x)$ of two densities by a convex function with
# $f(1) = 0$,
#
# $$D_f(P, Q) = \mathbb{E}_{x \sim Q}\bigl[f(r(x))\bigr] \;\ge\; 0.$$
#
# The data distribution $P$ below has two bumps, a narrow one and a wide one. The model $Q$ is a
# single Gaussian, so it must be wrong somewhere. On a line we can integrate, so for now there is no
# network: we look for the best mean and standard deviation directly. `divergence` gives a row of
# the table of divergences, with its function $f$.

# %%
names = ("pearson", "kl", "jensen_shannon", "jeffrey", "reverse_kl")
grid = np.linspace(-8.0, 11.0, 2001)
log_p = np.logaddexp(
    np.log(0.33) + norm.logpdf(grid, -1.0, 0.255), np.log(0.67) + norm.logpdf(grid, 2.0, 1.415)
)


def on_grid(function, x):
    """A function of the library at points of numpy."""
    return function(torch.as_tensor(x)).numpy()


def exact_divergence(name, mu, sigma):
    """E_Q [f(p / q)], by an integral over the grid."""
    log_q = norm.logpdf(grid, mu, sigma)
    return np.trapezoid(
        np.exp(log_q) * on_grid(divergence(name).generator, np.exp(log_p - log_q)), grid
    )


best = {}
fig, axes = plt.subplots(1, 5, figsize=(14, 2.6), sharey=True, layout="constrained")
for ax, name in zip(axes, names):
    found = minimize(
        lambda theta, name=name: exact_divergence(name, theta[0], np.exp(theta[1])),
        (1.0, 0.5),
        method="Nelder-Mead",
    )
    best[name] = found.x[0], np.exp(found.x[1]), found.fun
    ax.fill_between(grid, np.exp(log_p), color="lightgrey")
    ax.plot(grid, norm.pdf(grid, *best[name][:2]), color="C3")
    ax.axvline(best[name][0], color="C3", linestyle=":", linewidth=1)
    ax.set(
        title=f"{name}\nmean {best[name][0]:.2f}, sd {best[name][1]:.2f}", xlim=(-4, 7), yticks=[]
    )
plt.show()

# %% [markdown]
# Each picture is the answer to the question which mistake is the worst. *Pearson* and *KL* average
# over $P$ and punish a model that has no mass where there are data: their Gaussians are wide, reach
# over the narrow bump, and put mass where there are none. *Reverse KL* averages over $Q$ and
# punishes a model for being where no data are: its Gaussian leaves the narrow bump to itself and
# settles on the wide one. *Jensen-Shannon* and *Jeffrey*, symmetric in $P$ and $Q$, lie in between.
# From the left to the right the mean goes from near the middle of all data towards the wide bump.
#
# ## A divergence that nobody can compute
#
# For images neither $p$ nor $q$ can be written down; all we have are draws of both. A convex
# function is the upper envelope of its tangents, so each function $T(x)$ gives a lower bound,
#
# $$D_f(P, Q) \;\ge\; F(T) = \mathbb{E}_{P}[T(x)] - \mathbb{E}_{Q}[f^*(T(x))],$$
#
# with the conjugate $f^*$, and equality at $T = f'(r)$. Both expectations are averages over draws.
# So a second network, the **critic**, raises $F$ until it is nearly the divergence, while the model
# lowers it: an $f$-GAN. Below the model is $x = \mu + \sigma z$, an ordinary program with a sample
# site `z`; that its density could be written down is not used anywhere. The term
# `FDivergence("x", critic, f=...)` compares the data with the draws of site `x`.


# %%
def model(x):
    mu = pyro.param("mu", torch.tensor(0.0))
    sigma = pyro.param("sigma", torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Delta(mu + sigma * z), obs=x)


rng = np.random.default_rng(0)
num_data = 1024 * 16
x = np.where(
    rng.random(num_data) < 0.33, rng.normal(-1.0, 0.255, num_data), rng.normal(2.0, 1.415, num_data)
).astype(np.float32)
optim = Adam(0.01, betas=(0.5, 0.99))
runs, outputs, table = {}, {}, []
for name in names:
    pyro.clear_param_store()
    critic = Critic(1, hidden=(64, 64), activation="tanh")
    term = FDivergence("x", critic, f=name, optim=optim)
    epochs = 4 if FAST else 96  # of 16 steps
    runs[name] = fit(
        model,
        None,
        x,
        loss=term,
        optim=optim,
        batch_size=1024,
        num_epochs=epochs,
        average=0.9 if FAST else 0.99,
        compile=False,
        progress=False,
    )
    with torch.no_grad():
        outputs[name] = critic(torch.as_tensor(grid[:, None], dtype=torch.float32)).numpy()
    mu, sigma, exact = best[name]
    learned = {key: runs[name].params[key].item() for key in ("mu", "sigma")}
    table.append(
        {
            "divergence": name,
            "mu": learned["mu"],
            "best mu": mu,
            "sigma": learned["sigma"],
            "best sigma": sigma,
        }
    )
    table[-1] |= {
        "F": runs[name].history.column("FDivergence(x)")[-6:].mean(),
        "divergence at the best": exact,
    }
print(format_table(table))

fig, ax = plt.subplots(figsize=(8, 3.5), layout="constrained")
for i, name in enumerate(names):
    history = runs[name].history
    ax.plot(history.column("step"), history.column("FDivergence(x)"), color=f"C{i}", label=name)
    ax.axhline(best[name][2], color=f"C{i}", linestyle="--", linewidth=1)
ax.set(xlabel="step", ylabel="F (dashed: exact)", ylim=(0, 1.2))
ax.legend(ncols=3)
plt.show()

# %% [markdown]
# The critics, which have seen nothing but draws, find the same Gaussians. The value $F$ that is
# logged along the way is an estimate from below. It falls as the fit gets better, and it is small
# as well where the critic is bad: a small $F$ alone says little about the model.
#
# What has the critic learned? At its best it is a function of the density ratio. The log-ratio can
# be read off the output of each critic, and compared with the truth.

# %%
fig, axes = plt.subplots(1, 5, figsize=(14, 2.8), sharey=True, layout="constrained")
log_ratios = np.linspace(-12.0, 12.0, 4001)
for ax, name, row in zip(axes, names, table):
    outputs_at = on_grid(
        divergence(name).optimal_output, log_ratios
    )  # increases: read backwards, an output gives its log-ratio
    ax.plot(
        grid,
        log_p - norm.logpdf(grid, row["mu"], row["sigma"]),
        color="black",
        linewidth=1,
        label="truth",
    )
    ax.plot(grid, np.interp(outputs[name], outputs_at, log_ratios), color="C0", label="critic")
    ax.fill_between(grid, np.exp(log_p) * 4 - 6, -6, color="lightgrey")
    ax.set(title=name, xlabel="x", xlim=(-6, 9), ylim=(-6, 4))
axes[0].set(ylabel="log p(x) / q(x)")
axes[0].legend(loc="upper right")
plt.show()

# %% [markdown]
# Where there are draws of both distributions the critics know the ratio well. In the tails they
# have seen nothing and say anything; a divergence that cares for the tails (reverse KL on the left
# side, Pearson on the right) has to trust them nevertheless.
#
# ## When does the game come to rest?
#
# The smallest GAN of all has data at the point 0, a model at the point $\theta$, and a critic $V(x)
# = \psi x$ that can only tell left from right. The equilibrium is $\theta = \psi = 0$. Its two
# players follow their gradients at once. We draw the direction in which they move, and a path of
# 200 steps of length 0.1 (dot: the start), for three games: the GAN, the Wasserstein GAN without
# any constraint on its critic, and the GAN with the penalty `R1`, $\tfrac{\gamma}{2} \mathbb{E}_P
# |\nabla V|^2$ with $\gamma = 1$. The field is differentiated out of the terms of the library.


# %%
class Linear(torch.nn.Module):
    """V(x) = psi x."""

    def __init__(self, psi):
        super().__init__()
        self.psi = psi

    def forward(self, x):
        return self.psi * x


def field(theta, psi, term, regularizer=None):
    """The direction in which simultaneous gradient descent moves the two players."""
    theta, psi = (torch.tensor(float(number), requires_grad=True) for number in (theta, psi))
    critic, real, fake = Linear(psi), torch.zeros(1), theta[None]
    for_model = term.surrogate(critic(real), critic(fake))
    for_critic = -term.bound(critic(real), critic(fake))
    if regularizer is not None:
        for_critic = for_critic + regularizer(critic, real, fake)
    (d_theta,) = torch.autograd.grad(for_model, theta, retain_graph=True)
    (d_psi,) = torch.autograd.grad(for_critic, psi)
    return np.array([-d_theta.item(), -d_psi.item()])


gan = JensenShannon("x", generator="saturating")
games = {
    "GAN": (gan, None),
    "Wasserstein GAN": (Wasserstein("x"), None),
    "GAN with R1": (gan, R1(1.0)),
}
axis = np.linspace(-2.0, 2.0, 9)
fig, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
for ax, (name, game) in zip(axes, games.items()):
    arrows = np.array(
        [[field(theta, psi, *game) for theta in axis] for psi in axis]
    )  # (psi, theta, 2)
    ax.quiver(axis, axis, arrows[..., 0], arrows[..., 1], color="gray", width=0.004)
    path = [np.array([1.0, 0.0])]
    for _ in range(50 if FAST else 200):
        path.append(path[-1] + 0.1 * field(*path[-1], *game))
    ax.plot(*np.array(path).T, color="C3")
    ax.plot(*path[0], "o", color="C3")
    ax.plot(0, 0, "+", color="black", markersize=12)
    h = 1e-2
    jacobian = np.stack(
        [(field(*at, *game) - field(*-at, *game)) / (2 * h) for at in h * np.eye(2)], 1
    )
    eigenvalues = ", ".join(f"{value:.2f}" for value in np.linalg.eigvals(jacobian).astype(complex))
    ax.set(
        title=f"{name}\neigenvalues {eigenvalues}",
        xlabel="theta (model)",
        xlim=(-2.2, 2.2),
        ylim=(-2.2, 2.2),
        aspect="equal",
    )
axes[0].set(ylabel="psi (critic)")
plt.show()

# %% [markdown]
# Near the equilibrium the field of the GAN is a rotation: its Jacobian has the eigenvalues $\pm
# \tfrac12 i$, nothing pulls inwards, and each step of finite length leads a little further out. The
# Wasserstein GAN spirals out faster (eigenvalues $\pm i$). The game with `R1` comes to rest: with
# $\gamma = 1$ both eigenvalues are $-\tfrac12$, the quickest return without overshooting.
#
# It matters in practice that the penalty leaves the place of the equilibrium where it was. It costs
# a second derivative of the critic, and is the reason why `JensenShannon("x", regularizer=R1(1.0))`
# is the first thing to try.
