"""Means of default guides against NUTS: constrained sites, crossed effects seen in minibatches."""

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend
from tests.guides.test_amortized import key
from tests.losses.training import package

RNG = np.random.default_rng(11)
ROWS, COLUMNS = 6, 5
EFFECTS = 1.0 + RNG.normal(0, 1.0, (ROWS, 1)) + RNG.normal(0, 0.7, (1, COLUMNS))
CELLS = (EFFECTS + RNG.normal(0, 0.5, (ROWS, COLUMNS))).ravel()
CLASSES = np.repeat([0.0, 1.0, 2.0], [4, 9, 2])
SUMS = 0.9 + 0.2 * RNG.normal(size=12)
LEVELS = np.array([-1.0, 0.5, 1.2]) + RNG.normal(size=(10, 3))
FACTOR = np.linalg.cholesky([[1.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 1.0]])
VECTORS = RNG.normal(size=(15, 3)) @ FACTOR.T


def constrained(b: Any, part: int | None = None) -> tuple[Callable, np.ndarray]:
    """A simplex, an interval whose bound is another site, an ordered vector, correlations."""
    d = b.dist

    def model(levels: Any) -> None:
        p = b.sample("p", d.Dirichlet(b.array([2.0, 1.0, 3.0])))
        a = b.sample("a", d.Beta(b.array(2.0), b.array(3.0)))
        c = b.sample("c", d.Uniform(b.array(0.0), 1.0 - a))
        normal = d.Normal(b.array(np.zeros(3)), b.array(2.0)).to_event(1)
        ordered = d.TransformedDistribution(normal, d.transforms.OrderedTransform())
        cuts = b.sample("cuts", ordered)
        tril = b.sample("tril", d.LKJCholesky(3, b.array(2.0)))
        with b.plate("classes", len(CLASSES)):
            b.sample("k", d.Categorical(probs=p), obs=b.np.asarray(CLASSES.astype(int)))
        with b.plate("sums", len(SUMS)):
            b.sample("s", d.Normal(a + 2 * c, b.array(0.2)), obs=b.array(SUMS))
        with b.plate("levels", len(LEVELS)):
            b.sample("y", d.Normal(cuts, b.array(1.0)).to_event(1), obs=levels)
        with b.plate("vectors", len(VECTORS)):
            zero = b.array(np.zeros(3))
            b.sample("v", d.MultivariateNormal(zero, scale_tril=tril), obs=b.array(VECTORS))

    return model, LEVELS


def crossed(b: Any, part: int | None = None) -> tuple[Callable, np.ndarray]:
    """Effects of rows and of columns, of which `part` cells are seen at a time."""
    d = b.dist
    row, column = (b.np.asarray(x.ravel()) for x in np.indices((ROWS, COLUMNS)))

    def model(y: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(3.0)))
        tau = b.sample("tau", d.Gamma(b.array(3.0), b.array(3.0)))
        with b.plate("rows", ROWS):
            alpha = b.sample("alpha", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("columns", COLUMNS):
            beta = b.sample("beta", d.Normal(b.array(0.0), tau))
        with b.plate("cells", len(CELLS), subsample_size=part) as cells:
            mean = mu + alpha[..., row[cells]] + beta[..., column[cells]]
            b.sample("y", d.Normal(mean, b.array(0.5)), obs=y[cells])

    return model, CELLS


PROGRAMS = {"constrained": constrained, "crossed": crossed}


@cache
def reference(name: str) -> dict[str, np.ndarray]:
    """Draws of NUTS from all data."""
    b = NumPyroBackend()
    with b.double_precision():
        model, y = PROGRAMS[name](b)
        nuts = b.evaluation.nuts
        return nuts(model, y, num_warmup=1000, num_draws=2000, num_chains=2, seed=1).flat()


FAMILIES = ["full rank", "IAF"] if "SEEDS" in os.environ else ["full rank"]


@pytest.mark.slow
@pytest.mark.long("[pyro", "[numpyro-constrained")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_means_of_default_guides(backend: Any, name: str, family: str) -> None:
    """Within 0.15 standard deviations, of every entry."""
    b, p = backend, package(backend)
    model, y = PROGRAMS[name](b, 10)
    if b.name == "pyro":
        b.pyro.clear_param_store()
        b.torch.manual_seed(0)
    flow = partial(p.flows.IAF, num_layers=2)
    families = {"full rank": b.conditionals.FullRankNormal, "IAF": flow}
    guide = b.guides.JointGuide(model, families[family], **key(b))
    longer = {"num_steps": 12_000} if name == "crossed" else {}  # the noise of minibatches
    run = p.fit(model, guide, y, progress=False, **longer)
    whole = type(run)(**{**vars(run), "model": PROGRAMS[name](b)[0]})
    draws = b.evaluation.sample_posterior(whole, y, num_draws=6000)
    for site, expected in reference(name).items():
        sd = expected.std(0)
        off = np.abs(draws[site].mean(0) - expected.mean(0)) / np.where(sd > 1e-9, sd, 1.0)
        assert off.max() < 0.15, (site, off)
