"""Auxiliary variables: the gap that r leaves, gradients, evaluation, data in minibatches."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.guides.test_amortized import Identity, fitted, key, network
from tests.guides.test_joint import EVIDENCE
from tests.losses.test_any_model import eight_schools

ROWS, BATCH = 60, 20


def linear(b: Any, batch: int | None = None) -> Callable:
    """z_n ~ Normal(0, 1);  x_n ~ Normal(1.5 z_n, 0.7), a part of the rows at a time."""
    d = b.dist

    def model(x: Any) -> None:
        with b.plate("data", ROWS, subsample_size=batch or len(x)):
            z = b.sample("z", d.Normal(b.array(np.zeros(1)), b.array(1.0)).to_event(1))
            b.sample("x", d.Normal(1.5 * z[..., 0], b.array(0.7)), obs=x)

    return model


def rows() -> np.ndarray:
    return np.sqrt(2.74) * np.random.default_rng(0).standard_normal(ROWS)


def evidence(x: np.ndarray) -> float:
    variance = 1.5**2 + 0.7**2
    return float(-0.5 * np.sum(x**2 / variance + np.log(2 * np.pi * variance)))


def set_arrays(b: Any, guide: Any, values: dict[str, np.ndarray]) -> None:
    """Puts arrays into the first part of a prepared guide, by their paths."""
    if b.name == "pyro":
        with b.torch.no_grad():
            found = dict(guide.parts[0].named_parameters())
            for path, value in values.items():
                found[path].copy_(b.array(value))
        return
    import equinox as eqx

    from tests.twins.copying import leaf_at

    part = guide.parts[0]
    for path, value in values.items():
        part = eqx.tree_at(leaf_at(path), part, b.array(value))
    guide.parts = [part]


def test_the_gap_is_the_divergence_of_r(backend: Any) -> None:
    """Everything linear and normal: the bound is the ELBO of the marginal q(z) less
    E KL(q(a | z), r(a | z)), both in closed form."""
    b, d = backend, backend.dist
    c = b.conditionals

    def model(x: Any) -> None:
        z = b.sample("z", d.Normal(b.array(0.0), b.array(1.0)))
        with b.plate("data", 1):
            b.sample("x", d.Normal(z, b.array(1.0)), obs=x)

    x = np.array([1.3])
    guide = b.guides.AuxiliaryGuide(
        model, None, c.DiagonalNormal, aux_dim=1, hidden=(), init={"z": 0.2}, **key(b)
    )
    guide.prepare(b.array(x))
    part = guide.parts[0]
    spread = float(part.spread.detach()[0] if b.name == "pyro" else part.spread.value[0])
    # z = 0.2 + spread exp(log_scale) (x + 0.1), x | a ~ Normal(0.9 a - 0.4, s), s = 1 at zero
    scale = spread * np.exp(-0.5)
    values = {
        "shift": np.array([0.1]),
        "log_scale": np.array([-0.5]),
        "family.family.head.weight": np.array([[0.9], [0.0]]),
        "family.family.head.bias": np.array([-0.4, 0.0]),
        "family.reverse.family.head.weight": np.array([[-0.6], [0.0]]),
        "family.reverse.family.head.bias": np.array([0.8, 0.0]),
    }
    set_arrays(b, guide, values)
    bound = -b.evaluate(b.losses.ELBO(num_particles=200_000), model, guide, x)[0]

    def mean_log(variance: float, square: float) -> float:
        return -0.5 * np.log(2 * np.pi * variance) - 0.5 * square / variance

    var_x = 0.9**2 + 1.0
    mean_z, var_z = 0.2 + scale * (0.1 - 0.4), scale**2 * var_x
    marginal = (
        mean_log(1.0, mean_z**2 + var_z)
        + mean_log(1.0, (x[0] - mean_z) ** 2 + var_z)
        - mean_log(var_z, var_z)
    )
    # q(a | x) = Normal(0.9 (x + 0.4) / var_x, 1 / var_x) and r(a | x) = Normal(0.8 - 0.6 x, 1)
    slope, offset = 0.9 / var_x + 0.6, 0.36 / var_x - 0.8
    square = (offset - 0.4 * slope) ** 2 + slope**2 * var_x
    gap = 0.5 * (1 / var_x + square - 1 + np.log(var_x))
    assert gap > 1
    assert bound == pytest.approx(marginal - gap, abs=0.01)


@pytest.mark.parametrize("loss", ["ELBO", "stl", "dreg"])
def test_r_learns_with_every_estimator(backend: Any, loss: str) -> None:
    b = backend
    model, y = eight_schools(b)
    guide = b.guides.AuxiliaryGuide(model, hidden=(3,), **key(b))
    losses = {
        "ELBO": b.losses.ELBO(num_particles=3),
        "stl": b.losses.ELBO(num_particles=3, estimator="stl"),
        "dreg": b.losses.IWAE(num_particles=3, estimator="dreg"),
    }
    for name, gradient in gradients_of(b, losses[loss], model, guide, y).items():
        assert np.isfinite(gradient).all(), name
        if "reverse.family" in name:
            assert gradient.any(), name


def gradients_of(
    b: Any, loss: Any, model: Callable, guide: Any, *data: np.ndarray
) -> dict[str, np.ndarray]:
    """The gradients of a loss in what the last part of a guide learns, by path."""
    data = tuple(b.array(x) for x in data)
    guide.prepare(*data)
    if b.name == "pyro":
        loss.evaluate(model, guide, data).loss.backward()
        found = guide.parts[-1].named_parameters()
        return {n: np.zeros(1) if p.grad is None else p.grad.numpy() for n, p in found}
    import equinox as eqx

    from tests.twins.copying import arrays_of

    def total(part: Any) -> Any:
        guide.parts[-1] = part
        return loss.evaluate(b.jax.random.key(0), {}, model, guide, data).loss

    part = guide.parts[-1]
    found = arrays_of(eqx.filter_jit(eqx.filter_grad(total))(part))
    guide.parts[-1] = part
    return {name: np.asarray(x) for name, x in found.items()}


def test_minibatches_estimate_the_bound_of_all_data(backend: Any) -> None:
    """It is below the evidence, and its mean over batches is that of all data."""
    b = backend
    x = rows()
    guide = b.guides.AuxiliaryGuide(linear(b), Identity(), hidden=(3,), **key(b))
    loss = b.losses.ELBO(num_particles=2000)
    whole = -b.evaluate(loss, linear(b), guide, x)[0]
    part, parts = linear(b, BATCH), []
    for start in range(0, ROWS, BATCH):
        batch = x[start : start + BATCH]
        parts.append(-b.evaluate(loss, part, guide, batch, seed=start)[0])
    assert np.mean(parts) == pytest.approx(whole, rel=0.02)
    assert whole < evidence(x)
    wide = -b.evaluate(b.losses.IWAE(num_particles=10_000), linear(b), guide, x)[0]
    assert wide == pytest.approx(evidence(x), abs=1.0)


def test_an_encoder_with_statistics_moves_them_once(torch_x64: None) -> None:
    import torch

    from pyro_dgm.guides import AuxiliaryGuide
    from pyro_dgm.losses import ELBO
    from pyro_dgm.nn import MLP
    from tests.backends import PyroBackend

    b = PyroBackend()
    encoder = MLP(1, (4,), batch_norm=True)
    guide = AuxiliaryGuide(linear(b), lambda x: encoder(x[..., None]), inputs=lambda x: x)
    ELBO().evaluate(linear(b), guide, (torch.as_tensor(rows()),))
    before = int(encoder.norms[0].num_batches_tracked)
    ELBO().evaluate(linear(b), guide, (torch.as_tensor(rows()),))
    assert int(encoder.norms[0].num_batches_tracked) == before + 1


@pytest.mark.slow
@pytest.mark.long("[pyro")
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "1"))))
def test_eight_schools(backend: Any, seed: int) -> None:
    """Above the best normal, -31.534, and below the evidence."""
    b = backend
    model, y = eight_schools(b)
    if b.name == "pyro":
        b.torch.manual_seed(seed)
    guide = b.guides.AuxiliaryGuide(model, aux_dim=4, **key(b, seed))
    bound = fitted(
        b, model, guide, y, steps=3000, lr=0.01, num_particles=16, draws=40_000, seed=seed
    )
    assert -31.534 < bound < EVIDENCE
    assert bound == pytest.approx(-31.46, abs=0.04)


def test_refusals(backend: Any) -> None:
    b, c, g = backend, backend.conditionals, backend.guides
    model = linear(b)
    for build, match in (
        (lambda: g.AuxiliaryGuide(model, aux_dim=0), "aux_dim must be"),
        (lambda: g.AuxiliaryGuide(model, hidden=(0,)), "hidden must be"),
        (lambda: g.AuxiliaryGuide(model, family={"z": c.FullRankNormal}), "family must be"),
        (lambda: g.AuxiliaryGuide(model, inputs="x"), "inputs: .* no meaning without an encoder"),
        (lambda: g.AuxiliaryGuide(model, network(b, 1, (3,)), sites=["z"]), "sites: .* no meaning"),
        (lambda: g.AuxiliaryGuide(model, network(b, 1, (3,)), sees_globals=1), "sees_globals"),
        (lambda: g.AuxiliaryGuide(model, sees_globals=False), "sees_globals: .* no meaning"),
        (lambda: g.AuxiliaryGuide(model, global_family=c.DiagonalNormal), "global_family: .* no"),
        (lambda: g.AuxiliaryGuide(model, init_scale=0.0), "init_scale must be a positive number"),
    ):
        with pytest.raises(ValueError, match=match):
            build()
    reverse = c.DiagonalNormal(3)
    guide = g.AuxiliaryGuide(model, Identity(), reverse=reverse, **key(b))
    with pytest.raises(ValueError, match="family of reverse must give values"):
        guide.prepare(b.array(rows()))
    guide = g.AuxiliaryGuide(model, Identity(), **key(b))
    with pytest.raises(ValueError, match=r"no closed form for .*'auxiliary\.a'"):
        b.evaluate(b.losses.ELBO(analytic_kl=True), model, guide, rows())
