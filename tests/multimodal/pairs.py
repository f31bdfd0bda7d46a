"""Multimodal models whose guides are exact, and small ones with networks, in both libraries."""

import math
from typing import Any

import numpy as np

from dgm_core.contexts import Labels
from tests.multimodal.test_experts import with_head
from tests.multimodal.toys import C2, Toy

MIXED = {"image": (1, 3, 3), "label": Labels(3), "row": 2}
NAMES = tuple(MIXED)
KINDS = ("MVAE", "MMVAE", "MoPoE", "JMVAE")


def raw_scale(scale: float, floor: float = 1e-4) -> float:
    """What `positive` makes this scale of."""
    return math.log(math.expm1(scale - floor)) - math.log(math.expm1(1 - floor))


def exact(lib: Any, name: str, toy: Toy = C2, **settings: Any) -> Any:
    """A model of the modalities a and b of a toy, with its exact experts, and of a JMVAE with its
    exact joint posterior."""
    experts, likelihoods = {}, {}
    for m, modality in enumerate("ab"):
        expert = lib.build("conditionals", "DiagonalNormal", 1, context_shape=1)
        weight, bias = np.array([[1 / toy.a[m]], [0.0]]), -toy.b[m] / toy.a[m]
        raw = raw_scale(math.sqrt(toy.expert(m)[1]))
        experts[modality] = with_head(lib, expert, weight, np.array([bias, raw]))
        how = {"context_shape": 1, "scale": math.sqrt(toy.v[m])}
        likelihood = lib.build("conditionals", "Normal", 1, **how)
        slope = np.array([[toy.a[m]]])
        likelihoods[modality] = with_head(lib, likelihood, slope, np.array([toy.b[m]]))
    if name == "JMVAE":
        joint = lib.build("conditionals", "DiagonalNormal", 1, context_shape=2)
        variance = toy.posterior((0, 1))[1]
        slopes = [variance * toy.a[m] / toy.v[m] for m in (0, 1)]
        bias = -sum(slope * b for slope, b in zip(slopes, toy.b, strict=True))
        weight, raw = np.array([slopes, [0.0, 0.0]]), raw_scale(math.sqrt(variance))
        settings["joint"] = with_head(lib, joint, weight, np.array([bias, raw]))
    settings |= {"experts": experts, "likelihoods": likelihoods, "hidden": ()}
    return lib.build("models", name, {"a": 1, "b": 1}, 1, **settings)


def data_of(toy: Toy, number: int = 1) -> dict[str, np.ndarray]:
    """What was seen of a toy, so many times."""
    return {name: np.full((number, 1), x) for name, x in zip("ab", toy.x, strict=True)}


def mixed(lib: Any, name: str, seed: int = 0, **settings: Any) -> Any:
    """A model of an image, a label and a row of a table, each with its own likelihood."""
    row = lib.build("conditionals", "DiagonalNormal", 2, context_shape=5, seed=seed)
    settings |= {"hidden": (5,), "likelihoods": {"row": row}, "private": {"image": 1}}
    return lib.build("models", name, MIXED, 2, seed=seed, **settings)


def mixed_data(rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    """Data of all modalities."""
    return {
        "image": rng.integers(0, 2, (number, 1, 3, 3)).astype(float),
        "label": rng.integers(0, 3, (number, 1)),
        "row": rng.standard_normal((number, 2)),
    }
