"""Model/guide pairs as users write them, once for both backends, with noise that is given.

The guides draw `Delta(loc + scale * noise, log_density)`, the reparameterized Normal at a noise
that is an argument: every engine then has the same value and the same gradient, at any number of
particles.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

EPS = np.linspace(-1.1, 1.3, 24)
Y = np.sin(np.arange(24.0))


def drawn(b: Any, name: str, loc: Any, scale: Any, eps: Any, **kwargs: Any) -> Any:
    """z = loc + scale * eps at a sample site, with the log-density of Normal(loc, scale)."""
    eps = b.array(eps)
    value = loc + scale * eps
    return b.sample(name, b.dist.Delta(value, b.dist.Normal(loc, scale).log_prob(value)), **kwargs)


def leaves(b: Any) -> SimpleNamespace:
    """Three parameters."""
    return SimpleNamespace(a=b.param("a"), b=b.param("b"), c=b.param("c"))


PARAMS = {"a": 0.3, "b": -0.4, "c": 0.7}


def plain(b: Any) -> tuple[Callable, Callable]:
    """A global and a local latent, deterministic sites inside and outside the plate."""
    d = b.dist

    def model(y: Any) -> None:
        p = leaves(b)
        w = b.sample("w", d.Normal(b.array(0.0), b.array(2.0)))
        b.deterministic("twice", 2.0 * w)
        with b.plate("data", 6):
            z = b.sample("z", d.Normal(w, b.array(1.0)))
            b.deterministic("square", z * z)
            b.sample("y", d.Normal(z + p.a, b.array(0.5)), obs=y)

    def guide(y: Any) -> None:
        p = leaves(b)
        w = drawn(b, "w", p.b, p.c, EPS[0])
        with b.plate("data", 6):
            drawn(b, "z", 0.5 * y + w, p.c, EPS[1:7])

    return model, guide


def factors(b: Any) -> tuple[Callable, Callable]:
    """A factor inside the plate and one outside, as penalties."""
    model_, guide = plain(b)

    def model(y: Any) -> None:
        p = leaves(b)
        model_(y)
        b.factor("outside", -(p.a**2))
        with b.plate("again", 2):
            b.factor("inside", p.b * b.array(np.ones(2)))

    return model, guide


def factor_alone(b: Any) -> tuple[Callable, Callable]:
    """All data enter by a factor (as in a marginalized hidden Markov model)."""
    d = b.dist

    def model(y: Any) -> None:
        with b.plate("data", 6):
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            b.factor("likelihood", d.Normal(z, b.array(0.5)).log_prob(y))

    def guide(y: Any) -> None:
        p = leaves(b)
        with b.plate("data", 6):
            drawn(b, "z", p.a * y, p.c, EPS[:6])

    return model, guide


def crossed(b: Any) -> tuple[Callable, Callable]:
    """Students and items: two crossed plates with latents of their own, every answer observed."""
    d = b.dist

    def model(y: Any) -> None:
        students, items = b.plate("students", 4, dim=-2), b.plate("items", 6, dim=-1)
        with students:
            ability = b.sample("ability", d.Normal(b.array(0.0), b.array(1.0)))
        with items:
            hardness = b.sample("hardness", d.Normal(b.array(0.0), b.array(2.0)))
        with students, items:
            b.sample("y", d.Normal(ability - hardness, b.array(1.0)), obs=y.reshape(4, 6))

    def guide(y: Any) -> None:
        p = leaves(b)
        with b.plate("students", 4, dim=-2):
            drawn(b, "ability", p.a, p.c, EPS[:4, None])
        with b.plate("items", 6, dim=-1):
            drawn(b, "hardness", p.b, p.c, EPS[4:10])

    return model, guide


def nested(b: Any) -> tuple[Callable, Callable]:
    """Groups with a latent, members with another, the members subsampled."""
    d = b.dist

    def model(y: Any) -> None:
        with b.plate("groups", 3, dim=-2):
            u = b.sample("u", d.Normal(b.array(0.0), b.array(1.0)))
            with b.plate("members", 16, subsample_size=8, dim=-1):
                v = b.sample("v", d.Normal(u, b.array(0.7)))
                b.sample("y", d.Normal(v, b.array(0.5)), obs=y.reshape(3, 8))

    def guide(y: Any) -> None:
        p = leaves(b)
        with b.plate("groups", 3, dim=-2):
            drawn(b, "u", p.a, p.c, EPS[:3, None])
            with b.plate("members", 16, subsample_size=8, dim=-1):
                drawn(b, "v", p.b * y.reshape(3, 8), p.c, EPS.reshape(3, 8))

    return model, guide


def two_likelihoods(b: Any) -> tuple[Callable, Callable]:
    """Two observed sites of different sizes that share a global latent; a third without a plate."""
    d = b.dist

    def model(y: Any) -> None:
        w = b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("first", 4):
            b.sample("y1", d.Normal(w, b.array(1.0)), obs=y[:4])
        with b.plate("second", 9, subsample_size=3):
            b.sample("y2", d.Normal(2.0 * w, b.array(1.0)), obs=y[4:7])
        b.sample("y3", d.Normal(w, b.array(0.1)), obs=y[7])

    def guide(y: Any) -> None:
        p = leaves(b)
        drawn(b, "w", p.a, p.c, EPS[0])

    return model, guide


def masked(b: Any) -> tuple[Callable, Callable]:
    """A mask around an observed site and one in the distribution of another."""
    d = b.dist

    def model(y: Any, seen: Any = None) -> None:
        p = leaves(b)
        seen = (y == y) if seen is None else seen > 0
        with b.plate("data", 4):
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            with b.mask(seen[:4]):
                b.sample("x1", d.Gamma(b.np.exp(z + p.a), b.array(1.0)), obs=1.0 + y[:4] ** 2)
            loc = z[..., None] * b.array(np.ones(5)) + p.b
            x2 = d.Normal(loc, b.array(1.0)).mask(seen[4:].reshape(4, 5)).to_event(1)
            b.sample("x2", x2, obs=y[4:].reshape(4, 5))

    def guide(y: Any, seen: Any = None) -> None:
        p = leaves(b)
        with b.plate("data", 4):
            drawn(b, "z", p.a, p.c, EPS[:4])

    return model, guide


def partly_observed(b: Any) -> tuple[Callable, Callable]:
    """`obs_mask`: what is missing of a site is a latent of the guide."""
    d, seen = b.dist, np.arange(6) % 3 > 0

    def model(y: Any) -> None:
        w = b.sample("w", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", 6):
            x = b.sample("x", d.Normal(w, b.array(1.0)), obs=y, obs_mask=b.np.asarray(seen))
            b.sample("t", d.Normal(x, b.array(0.5)), obs=y)

    def guide(y: Any) -> None:
        p = leaves(b)
        drawn(b, "w", p.b, p.c, EPS[0])
        with b.plate("data", 6), b.mask(b.np.asarray(~seen)):
            drawn(b, "x_unobserved", p.a, p.c, EPS[:6])

    return model, guide


def auxiliary(b: Any) -> tuple[Callable, Callable]:
    """The guide has auxiliary sites of its own, inside the plate and outside."""
    d = b.dist

    def model(y: Any) -> None:
        with b.plate("data", 6):
            z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
            b.sample("y", d.Normal(z, b.array(0.5)), obs=y)

    def guide(y: Any) -> None:
        p = leaves(b)
        infer = {"is_auxiliary": True}
        h = drawn(b, "h", p.a, p.c, EPS[0], infer=infer)
        with b.plate("data", 6):
            e = drawn(b, "e", p.b * y, p.c, EPS[1:7], infer=infer)
            drawn(b, "z", e + h, p.c, EPS[7:13])

    return model, guide


MODELS = {
    "deterministic": (plain, Y[:6]),
    "factors": (factors, Y[:6]),
    "factor alone": (factor_alone, Y[:6]),
    "crossed": (crossed, Y),
    "nested": (nested, Y),
    "two likelihoods": (two_likelihoods, Y[:8]),
    "masked": (masked, Y),
    "partly observed": (partly_observed, Y[:6]),
    "auxiliary": (auxiliary, Y[:6]),
}
