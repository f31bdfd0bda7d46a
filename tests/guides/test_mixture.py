"""Mixtures of joint guides: their bound is that of the mixture, and they find both modes."""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.training import fit

EVIDENCE = -2.7932  # z ~ Normal(0, 2), x | z ~ Normal(z^2, 0.5), x = 4, by quadrature
X = np.array([4.0])


def bimodal(backend: Any) -> Callable[..., None]:
    dist = backend.dist

    def model(x: Any) -> None:
        z = backend.sample("z", dist.Normal(0.0 * x[0], 2.0 + 0.0 * x[0]))
        with backend.plate("data", len(x)):
            backend.sample("x", dist.Normal(z**2, 0.5 + 0.0 * x), obs=x)

    return model


def halves(backend: Any) -> Callable[..., None]:
    """Sites on the real line, on the positive line and in a plate."""
    dist, array = backend.dist, backend.array

    def model(x: Any) -> None:
        m = backend.sample("m", dist.Normal(array([0.3, -0.2]), array(1.0)).to_event(1))
        tau = backend.sample("tau", dist.LogNormal(array(0.1), array(0.7)))
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(m[..., 0], tau))
            backend.sample("x", dist.Normal(z + m[..., 1], array(0.8)), obs=x)

    return model


def guide_of(backend: Any, model: Any, families: list[Any], **how: Any) -> Any:
    how = how if backend.name == "pyro" else {**how, "key": backend.jax.random.key(1)}
    return backend.guides.MixtureGuide(model, families, **how)


def evaluated(backend: Any, loss: Any, model: Any, guide: Any, x: np.ndarray, read: Any) -> Any:
    """What is read from the joints of a loss and the part of a guide whose parameters were changed,
    in numpy."""
    data, name = backend.array(x), f"{guide.name}.vector"
    if backend.name == "pyro":
        torch = backend.torch
        part = guide.prepare(data).parts[0]
        with torch.no_grad():
            for index, p in enumerate(part.parameters()):
                p += 0.3 * torch.sin(torch.arange(p.numel()) + index + 1.0).reshape(p.shape)
        found = read(loss.joints(model, guide, (data,)), part, part.start, part.spread)
        return {name: value.detach().numpy() for name, value in found.items()}
    jax, handlers = backend.jax, backend.numpyro.handlers

    def changed(p: Any) -> Any:
        return p + 0.3 * jax.numpy.sin(jax.numpy.arange(p.size) + 1.0).reshape(p.shape)

    def run(x: Any) -> Any:
        trace = handlers.trace(handlers.seed(guide, 0)).get_trace(x)
        params = {n: s["value"] for n, s in trace.items() if s["type"] == "param"}
        params = jax.tree.map(changed, params)
        (part,) = params[f"{guide.name}$params"]
        place = (trace[f"{name}.{what}$constant"]["value"] for what in ("start", "spread"))
        joints = loss.joints(jax.random.key(0), params, model, guide, (x,))
        return read(joints, part, *place)

    return jax.tree.map(np.asarray, jax.jit(run)(data))


def log_normal(x: np.ndarray, loc: Any, scale: Any) -> np.ndarray:
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)


@pytest.mark.parametrize("enumerated", [False, True])
def test_bound_is_that_of_the_mixture(backend: Any, enumerated: bool) -> None:
    """By hand, from the numbers of three normal components."""
    normal, model = backend.conditionals.DiagonalNormal, bimodal(backend)
    name = f"by_hand_{backend.name}_{enumerated}"
    guide = guide_of(backend, model, [normal] * 3, name=name)
    site = f"{name}.vector.component"
    loss = backend.losses.ELBO(num_particles=4, enumerate=site if enumerated else ())

    def read(joints: Any, part: Any, start: Any, spread: Any) -> dict[str, Any]:
        joint = joints.inference(enumerate=loss.enumerate)
        fns = [family() for family in part.family]
        own = {
            f"{what}{k}": getattr(fn, what)
            for k, fn in enumerate(fns)
            for what in ("mean", "variance")
        }
        numbers = ("components", "log_scales", "logits", "shift", "log_scale")
        own |= {number: getattr(part, number) for number in numbers}
        found = {"start": start, "spread": spread, "z": joint.values("z"), "k": joint.values(site)}
        return {**own, **found, "bound": loss.estimate(joints, 0)[0]}

    found = evaluated(backend, loss, model, guide, X, read)
    z, k = found["z"].reshape(-1, 1), found["k"].reshape(-1)
    weights = np.exp(found["logits"]) / np.exp(found["logits"]).sum()
    assert np.ptp(weights) > 0.05 and len(z) == (12 if enumerated else 4)
    x = (z - found["start"]) / found["spread"] * np.exp(-found["log_scale"]) - found["shift"]
    log_mix = (
        np.logaddexp.reduce(
            [
                np.log(weights[j])
                + log_normal(
                    x,
                    found["components"][j] + np.exp(found["log_scales"][j]) * found[f"mean{j}"],
                    np.exp(found["log_scales"][j]) * np.sqrt(found[f"variance{j}"]),
                )
                for j in range(3)
            ]
        )
        - np.log(found["spread"])
        - found["log_scale"]
    )
    bound = log_normal(z, 0.0, 2.0) + log_normal(X[0], z**2, 0.5) - log_mix
    expected = bound.mean()
    if enumerated:
        assert np.array_equal(k.reshape(3, 4)[:, 0], np.arange(3))
        expected = (weights @ bound.reshape(3, 4)).mean()
    assert found["bound"] == pytest.approx(expected, abs=1e-10)


@pytest.mark.slow
@pytest.mark.long("[pyro")
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "1"))))
def test_both_modes_are_found(backend: Any, seed: int) -> None:
    """Where one normal finds one of them, and loses ln 2 at least."""
    losses, model = backend.losses, bimodal(backend)
    normal = backend.conditionals.FullRankNormal
    guide = guide_of(backend, model, [normal] * 2, name=f"two_{backend.name}_{seed}")
    how = {"num_steps": 1500, "seed": seed}
    run = fit(backend, model, guide, X, loss=losses.ELBO(num_particles=8), **how)
    log_w = backend.evaluation.log_weights(run, X, num_particles=20_000, seed=seed)
    z = backend.evaluation.sample_posterior(run, X, num_draws=4000, seed=seed)["z"]
    assert -2.81 < log_w.mean() < EVIDENCE + 0.003
    assert (z > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(np.abs(z).mean() - 1.98) < 0.03
    if seed:
        return
    extra = {} if backend.name == "pyro" else {"key": backend.jax.random.key(2)}
    start = {"init": {"z": 1.5}, "name": f"one_{backend.name}"}
    single = backend.guides.JointGuide(model, normal, **start, **extra)
    run = fit(backend, model, single, X, loss=losses.ELBO(num_particles=8), **how)
    log_w = backend.evaluation.log_weights(run, X, num_particles=20_000)
    assert log_w.mean() < EVIDENCE - 0.68  # ln 2 below at best


@pytest.mark.slow("numpyro")
@pytest.mark.parametrize("estimator", ["reparam", "stl"])
def test_components_drawn_or_enumerated(backend: Any, estimator: str) -> None:
    """One bound, of sites on any support."""
    model, x = halves(backend), np.array([0.4, -1.1, 2.0])
    families = [backend.conditionals.DiagonalNormal, backend.conditionals.FullRankNormal]
    name = f"any_{backend.name}_{estimator}"
    guide = guide_of(backend, model, families, name=name)
    how = {"num_particles": 500, "estimator": estimator}
    drawn = backend.losses.ELBO(**how)
    other = backend.losses.ELBO(**how, enumerate=f"{name}.vector.component")

    def read(joints: Any, *_: Any) -> dict[str, Any]:
        joint, (of_drawn, of_other) = (
            joints.inference(),
            (loss.estimate(joints, 0)[0] for loss in (drawn, other)),
        )
        log_w = joint.log_w.sum(1) + joint.global_log_w.reshape(-1)
        return {"drawn": of_drawn, "other": of_other, "log_w": log_w}

    found = evaluated(backend, drawn, model, guide, x, read)
    error = found["log_w"].std() / math.sqrt(500) / len(x)
    assert abs(found["drawn"] - found["other"]) < 5 * error


def test_refusals(backend: Any) -> None:
    normal, losses = backend.conditionals.DiagonalNormal, backend.losses
    model, name = bimodal(backend), f"refused_{backend.name}"
    for families, starts, sentence in (
        ([normal], None, "a family for each of two or more components"),
        (normal, None, "families must be a list"),
        ([normal] * 2, [{"z": 1.0}], "starts must be 2 dictionaries"),
    ):
        with pytest.raises(ValueError, match=sentence):
            guide_of(backend, model, families, starts=starts, name=name)
    guide = guide_of(backend, model, [normal] * 2, starts=[{"w": 1.0}, {"z": 1.0}], name=name)
    with pytest.raises(ValueError, match=r"names \['w'\]"):
        guide.prepare(backend.array(X))
    site = f"{name}.vector.component"

    def read(joints: Any, *_: Any) -> dict[str, Any]:
        return {"bound": losses.IWAE(3, enumerate=site).estimate(joints, 0)[0]}

    guide = guide_of(backend, model, [normal] * 2, name=name)
    with pytest.raises(ValueError, match="lies outside all plates: ELBO takes the expectation"):
        evaluated(backend, losses.ELBO(num_particles=3), model, guide, X, read)
