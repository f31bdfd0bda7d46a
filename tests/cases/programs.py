"""Models and guides as users write them, for losses to be evaluated on: once for both backends."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from tests.flows.velocities import velocity
from tests.losses.test_bounds import regression
from tests.losses.test_gradients import chain
from tests.losses.toys import conjugate, conjugate_per_datum, mixture_model

Pair = tuple[Callable[..., None], Callable[..., None]]
RNG = np.random.default_rng(0)
X, ROW = RNG.standard_normal((6, 3)), np.linspace(-1.5, 2.0, 6)


@dataclass(frozen=True)
class Programs:
    """A pair of a model and a guide, made from a backend; `size` is the data size that its plate
    declares beyond the batch, where it takes one.
    """

    make: Callable[[Any], Pair]
    params: dict[str, Any]
    data: np.ndarray
    size: int | None = None

    @property
    def kwargs(self) -> dict[str, int]:
        return {} if self.size is None else {"size": self.size}


def plate(backend: Any, x: Any, size: int | None) -> Any:
    """The data plate, of which `x` are some rows."""
    return backend.plate("data", size or len(x), subsample_size=len(x))


def vectors(backend: Any) -> Pair:
    """z ~ Normal(m, I) in the plane, x | z ~ Normal(z W + b, 0.7) in space; the guide is
    Normal(x A, exp(s)).
    """
    dist, array, param = backend.dist, backend.array, backend.param

    def model(x: Any, size: int | None = None) -> None:
        m, weight, b = param("m"), param("W"), param("b")
        with plate(backend, x, size):
            z = backend.sample("z", dist.Normal(m, array(1.0)).to_event(1))
            backend.sample("x", dist.Normal(z @ weight + b, array(0.7)).to_event(1), obs=x)

    def guide(x: Any, size: int | None = None) -> None:
        weight, s = param("A"), param("s")
        with plate(backend, x, size):
            backend.sample("z", dist.Normal(x @ weight, backend.np.exp(s)).to_event(1))

    return model, guide


def codes(backend: Any) -> Pair:
    """Classes c and noise z, x | c, z ~ Normal(W_c + z, 0.5) in space; the guide scores the class
    as logits x A, and the noise as Normal(s, 1).
    """
    dist, array, param = backend.dist, backend.array, backend.param

    def model(x: Any, size: int | None = None) -> None:
        weight = param("W")
        with plate(backend, x, size):
            c = backend.sample("c", dist.Categorical(logits=array([0.2, -0.3])))
            z = backend.sample("z", dist.Normal(array(np.zeros(3)), array(1.0)).to_event(1))
            backend.sample("x", dist.Normal(weight[c] + z, array(0.5)).to_event(1), obs=x)

    def guide(x: Any, size: int | None = None) -> None:
        weight, s = param("A"), param("s")
        with plate(backend, x, size):
            backend.sample("c", dist.Categorical(logits=x @ weight))
            backend.sample("z", dist.Normal(s, array(1.0)).to_event(1))

    return model, guide


def labels(backend: Any, *, drawn: bool = True) -> Pair:
    """Noise z, c | z in three classes, x | c, z ~ Normal(W_c + z b, 0.5) in space; the guide draws
    z ~ Normal(x s, 0.6), and where `drawn` the class, with logits x A + z.
    """
    dist, array, param = backend.dist, backend.array, backend.param

    def model(x: Any, size: int | None = None) -> None:
        m, weight, b = param("m"), param("W"), param("b")
        with plate(backend, x, size):
            z = backend.sample("z", dist.Normal(m, array(1.0)))
            c = backend.sample("c", dist.Categorical(logits=z[..., None] * array([0.2, -0.3, 0.4])))
            mean = weight[c] + z[..., None] * b
            backend.sample("x", dist.Normal(mean, array(0.5)).to_event(1), obs=x)

    def guide(x: Any, size: int | None = None) -> None:
        with plate(backend, x, size):
            z = backend.sample("z", dist.Normal(x @ param("s"), array(0.6)))
            if drawn:
                backend.sample("c", dist.Categorical(logits=x @ param("A") + z[..., None]))

    return model, guide


def density(backend: Any) -> Pair:
    """x ~ Normal(b, exp(t)) in space, and nothing for a guide to do."""
    dist, param = backend.dist, backend.param

    def model(x: Any, size: int | None = None) -> None:
        b, scale = param("b"), backend.np.exp(param("t"))
        with plate(backend, x, size):
            backend.sample("x", dist.Normal(b, scale).to_event(1), obs=x)

    return model, lambda x, size=None: None


def path(backend: Any) -> Pair:
    """x = x(1) in space of  dx/dt = tanh(x W) t + b,  x(0) ~ Normal(0, I), and nothing to guide."""
    flows = import_module(f"{backend.name}_dgm.flows")

    def model(x: Any, size: int | None = None) -> None:
        weight, b = backend.param("W"), backend.param("b")
        net = velocity(backend, lambda x, t: backend.np.tanh(x @ weight) * t + b)
        with plate(backend, x, size):
            flow = flows.Flow(3, [flows.ContinuousTransform(net, num_steps=2)])
            backend.sample("x", flow(), obs=x)

    return model, lambda x, size=None: None


def near(*shape: int, center: float = 0.0) -> np.ndarray:
    """Numbers of no special value."""
    return center + 0.5 * RNG.standard_normal(shape)


OF_MODEL = {"m": near(2), "W": near(2, 3), "b": near(3)}
OF_LABELS = {"m": near(), "W": near(3, 3), "b": near(3), "s": near(3)}
SHARED = {"loc": 0.4, "log_scale": -0.3}
PROGRAMS: dict[str, Programs] = {
    "vectors": Programs(vectors, {**OF_MODEL, "A": near(3, 2), "s": near(2)}, X, size=60),
    "codes": Programs(codes, {"W": near(2, 3), "A": near(3, 2), "s": near(3)}, X, size=60),
    "labels": Programs(labels, OF_LABELS | {"A": near(3, 3)}, X, size=60),
    "no labels": Programs(lambda backend: labels(backend, drawn=False), OF_LABELS, X, size=60),
    "density": Programs(density, {"b": near(3), "t": near(3)}, X, size=60),
    "path": Programs(path, {"W": near(3, 3), "b": near(3)}, X, size=60),
    "conjugate": Programs(conjugate_per_datum, {"loc": 0.3 * ROW, "log_scale": -0.1 * ROW**2}, ROW),
    "subsampled": Programs(conjugate, SHARED, ROW, size=60),
    "global": Programs(lambda backend: regression(backend, 6), SHARED, ROW),
    "global, subsampled": Programs(lambda backend: regression(backend, 60), SHARED, ROW),
    "chain": Programs(
        chain,
        {
            "slope2": 0.5 + 0.1 * ROW,
            "log_scale2": 0.1 * ROW,
            "slope1": 0.4 - 0.1 * ROW,
            "log_scale1": -0.2 * ROW,
        },
        ROW,
    ),
    "discrete": Programs(mixture_model, {"logits": ROW}, ROW),
}
