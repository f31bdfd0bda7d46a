"""The data of benchmarks/models.py: five posteriors of posteriordb, and eight sets drawn here."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Stats = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> mean, standard deviation


@dataclass(frozen=True)
class Problem:
    """What a model is fitted to and asked for, the same in both backends.

    Attributes:
        data: as `fit` takes it.
        new: the new inputs of `predict`.
        keys: what is compared with the reference: latent or deterministic sites.
        num_steps, rate, batch_size: of the fit.
        reference: means and standard deviations of reference draws; None is for NUTS.
        evidence: the logarithm of the exact evidence, where it is known.
        start: what the guide may start from, or NUTS (by site, to stay with one labeling).
        proper: whether the model can be drawn from.
        ragged: whether the data have different numbers of rows, and are one batch.
    """

    data: Any
    new: Any
    keys: tuple[str, ...]
    num_steps: int = 3000
    rate: float = 0.02
    batch_size: int | None = None
    reference: Stats | None = None
    evidence: float | None = None
    start: Any = None
    proper: bool = True
    ragged: bool = False


def posterior(name: str) -> tuple[dict[str, Any], Stats]:
    """Data and reference draws of posteriordb, where DGM_DATA_DIR has them."""
    folder = Path(os.environ["DGM_DATA_DIR"]) / "posteriordb" / name
    data = json.loads((folder / "data.json").read_text())
    with gzip.open(folder / "reference_draws.json.gz") as file:
        chains = json.load(file)
    draws: dict[str, list[np.ndarray]] = {}
    for parameter in chains[0]:
        values = np.concatenate([chain[parameter] for chain in chains])
        draws.setdefault(parameter.split("[")[0], []).append(values)
    return data, {
        site: (
            np.squeeze([x.mean() for x in columns]),
            np.squeeze([x.std() for x in columns]),
        )
        for site, columns in draws.items()
    }


def floats(*arrays: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(x, np.float32) for x in arrays)


def least_squares(X: np.ndarray, y: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, ...]:
    """The mean under a prior of this precision, the Cholesky factor of its covariance, and the
    noise: a start for a guide."""
    noise = np.std(y - X @ np.linalg.lstsq(X, y, rcond=None)[0])
    covariance = np.linalg.inv(X.T @ X / noise**2 + np.diag(prior))
    return floats(covariance @ X.T @ y / noise**2, np.linalg.cholesky(covariance), noise)


def eight_schools() -> Problem:
    data, reference = posterior("eight_schools-eight_schools_noncentered")
    sigma, y = floats(data["sigma"], data["y"])
    new = (np.float32([5.0, 10.0, 20.0]), None)
    return Problem((sigma, y), new, ("theta", "mu", "tau"), 3000, 0.02, None, reference, -31.3113)


def kidiq() -> Problem:
    data, reference = posterior("kidiq-kidscore_interaction")
    hs, iq, y = (np.asarray(data[n], float) for n in ("mom_hs", "mom_iq", "kid_score"))
    start = least_squares(np.stack([np.ones_like(hs), hs, iq, hs * iq], -1), y, np.zeros(4))
    new = (*floats([data["mom_hs_new"]] * 2, [data["mom_iq_new"], 85]), None)
    return Problem(
        floats(hs, iq, y), new, ("beta", "sigma"), 2000, 0.02, None, reference, None, start, False
    )


def diamonds() -> Problem:
    data, reference = posterior("diamonds-diamonds")
    X, y = np.asarray(data["X"])[:, 1:], np.asarray(data["Y"])
    X = X - X.mean(0)
    start = least_squares(np.column_stack([X, np.ones(len(X))]), y, np.r_[np.ones(24), 0])
    keys = ("b", "Intercept", "sigma")
    return Problem(
        floats(X, y), (*floats(X[:4]), None), keys, 3000, 0.01, None, reference, None, start
    )


def garch() -> Problem:
    data, reference = posterior("garch-garch11")
    (y,) = floats(data["y"])
    keys = ("mu", "alpha0", "alpha1", "beta1")
    return Problem({"y": y}, {"y": y[:50]}, keys, 1500, 0.03, None, reference, proper=False)


def gauss_mix() -> Problem:
    data, reference = posterior("low_dim_gauss_mix-low_dim_gauss_mix")
    (y,) = floats(data["y"])
    new = {"size": 5, "y": None}
    return Problem({"y": y}, new, ("mu", "sigma", "theta"), 6000, 0.02, None, reference)


def students() -> Problem:
    rng = np.random.default_rng(0)
    ability, difficulty = rng.normal(size=(200, 1)), 1.2 * rng.normal(size=12) + 0.3
    y = (rng.random((200, 12)) < 1 / (1 + np.exp(difficulty - ability))).astype(np.float32)
    return Problem(y, y, ("difficulty", "spread"), 4000, 0.02, 40)


def gp_poisson() -> Problem:
    rng = np.random.default_rng(1)
    x = np.linspace(-2, 2, 40)
    y = rng.poisson(np.exp(1 + np.sin(2 * x)))
    x, y = floats(x, y)
    new = {"x": x, "x_new": np.float32([-1.5, 0.0, 1.5, 2.2])}
    return Problem({"x": x, "y": y}, new, ("f", "length"), 3000, 0.02)


def hmm() -> Problem:
    rng = np.random.default_rng(2)
    states = [0]
    for _ in range(149):
        states.append(states[-1] if rng.random() < 0.85 else 1 - states[-1])
    (y,) = floats(np.where(states, 2.0, -1.0) + 0.7 * rng.normal(size=150))
    start = {"mu": np.float32([-1, 2])}
    return Problem(y, y[:20], ("transition", "mu", "sigma"), 5000, 0.03, start=start)


def bayes_net() -> Problem:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 2))
    a = x @ [1.0, -0.5] + 0.3 + 0.5 * rng.normal(size=60)
    c = 0.8 * a + 0.2 * x[:, 0] - 0.4 + 0.5 * rng.normal(size=60)
    evidence, reference = 0.0, {}
    for name, inputs, out in (("a", x, a), ("c", np.column_stack([a, x[:, 0]]), c)):
        X = np.column_stack([inputs, np.ones(60)])
        precision = np.eye(3) + X.T @ X / 0.25
        covariance = np.linalg.inv(precision)
        mean, sd = covariance @ X.T @ out / 0.25, np.sqrt(np.diag(covariance))
        marginal = 0.25 * np.eye(60) + X @ X.T
        quadratic = out @ np.linalg.solve(marginal, out)
        evidence -= 0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * marginal)[1])
        reference |= {f"{name}.weight": (mean[:2], sd[:2]), f"{name}.bias": (mean[2], sd[2])}
    data = dict(zip("xac", floats(x, a, c)))
    new = {"x": floats(x[:5])[0]}
    return Problem(data, new, tuple(reference), 2000, 0.02, None, reference, evidence)


def factorization() -> Problem:
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
    y = u @ v.T + 0.5 * rng.normal(size=(30, 20))
    seen = rng.random((30, 20)) < 0.7
    y, seen = np.where(seen, y, np.nan).astype(np.float32), seen
    return Problem({"y": y, "seen": seen}, {"y": y, "seen": seen}, ("sigma", "mean"), 5000, 0.02)


def vae_missing() -> Problem:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(400, 6))
    seen = rng.random(x.shape) < 0.75
    x = np.where(seen, x, np.nan).astype(np.float32)
    return Problem((x, seen), (x[:7], seen[:7]), (), 6000, 0.005, 100)


def mixture() -> Problem:
    rng = np.random.default_rng(6)
    centers = np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    k = rng.choice(3, size=150, p=[0.5, 0.3, 0.2])
    (x,) = floats(centers[k] + 0.6 * rng.normal(size=(150, 2)))
    start = {"centers": np.float32(centers)}
    return Problem(x, x[:10], ("weights", "centers", "scale"), 2000, 0.02, start=start)


def lkj() -> Problem:
    rng = np.random.default_rng(7)
    tril = np.array([[1.0, 0, 0], [0.7, 0.7, 0], [-0.3, 0.4, 0.8]])
    series = np.zeros((100, 3))
    for t in range(1, 100):
        series[t] = 0.6 * series[t - 1] + tril @ rng.normal(size=3)
    label = rng.choice(4, size=80, p=[0.4, 0.3, 0.2, 0.1])
    data = {"series": series.astype(np.float32), "label": label.astype(np.int32)}
    return Problem(data, data, ("corr", "scale", "rho", "share"), 3000, 0.02, ragged=True)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    f.__name__: f
    for f in (
        eight_schools,
        kidiq,
        garch,
        gauss_mix,
        diamonds,
        students,
        gp_poisson,
        hmm,
        bayes_net,
        factorization,
        vae_missing,
        mixture,
        lkj,
    )
}
