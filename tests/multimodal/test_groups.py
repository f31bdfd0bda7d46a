"""C4: content of a group and style of its members, exact values, groups of unequal size."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dgm_core.members import grouped, per_member
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.multimodal.pairs import raw_scale
from tests.multimodal.test_experts import with_head
from tests.multimodal.test_models import scored, terms
from tests.multimodal.toys import log_normal, product
from tests.twins.copying import copy_weights, shake

GROUP = (1.0, 0.4, 1.9)  # c ~ N(0, 1), s_n ~ N(0, .5), x_n = c + s_n + N(0, .2)
SPREAD, NOISE = 0.5, 0.2


def evidence(x: Any, spread: float = SPREAD, noise: float = NOISE) -> float:
    """log p of a group."""
    cov = np.ones((len(x), len(x))) + (spread + noise) * np.eye(len(x))
    gap = np.asarray(x) @ np.linalg.solve(cov, np.asarray(x))
    return -0.5 * (gap + np.linalg.slogdet(2 * np.pi * cov)[1])


def exact(lib: Any, spread: float = SPREAD, noise: float = NOISE) -> Any:
    """An MLVAE of this toy with its exact guide."""
    build = lib.build
    one, floor = np.array([[1.0], [0.0]]), raw_scale
    content = build("conditionals", "DiagonalNormal", 1, context_shape=1)
    content = with_head(lib, content, one, np.array([0.0, floor(math.sqrt(spread + noise))]))
    style = build("conditionals", "DiagonalNormal", 1, context_shape=2)
    weight = np.array([[1.0, -1.0], [0.0, 0.0]])  # of x and the content
    style = with_head(lib, style, weight, np.array([0.0, floor(math.sqrt(noise))]))
    likelihood = build("conditionals", "Normal", 1, context_shape=2, scale=math.sqrt(noise))
    likelihood = with_head(lib, likelihood, np.array([[1.0, 1.0]]), np.zeros(1))
    prior = build("conditionals", "DiagonalNormal", 1)
    free = lib.array(np.array([0.0, floor(math.sqrt(spread))]))
    if hasattr(lib, "torch"):
        prior.free.data = free
    else:
        prior = lib.eqx.tree_at(lambda m: m.free, prior, free)
    parts = {"content": content, "style": style, "likelihood": likelihood, "style_prior": prior}
    return build("models", "MLVAE", 1, 1, 1, hidden=(), style_sees_content=True, **parts)


@pytest.mark.slow("numpyro")
def test_c4(lib: Any, x64: None) -> None:
    """Evidence and content of groups of 1, 2, 3 and no members in one batch, without noise."""
    mlvae, evaluation = exact(lib), lib.package.evaluation
    x = np.full((4, 3, 1), np.nan)
    has = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
    x[has] = np.concatenate([GROUP[:1], GROUP[:2], GROUP])[:, None]
    log_w = np.asarray(evaluation.log_weights(mlvae, {"x": x, "has": has}, num_particles=3))
    wanted = [evidence(GROUP[:n]) for n in (1, 2, 3)] + [0.0]
    np.testing.assert_allclose(log_w, np.tile(wanted, (3, 1)), rtol=1e-9, atol=1e-9)
    assert round(log_w[0, 2], 8) == -4.35913332
    each = sum(log_normal(v, 0.0, 1.0 + SPREAD + NOISE) for v in GROUP)
    assert round(each, 8) == -4.95569915  # a content for each datum: the usual fault
    posteriors = [product(GROUP[:n], [SPREAD + NOISE] * n) for n in (1, 2, 3)]
    assert [tuple(np.round(p, 8)) for p in posteriors] == [
        (0.58823529, 0.41176471),
        (0.51851852, 0.25925926),
        (0.89189189, 0.18918919),
    ]
    found = content_of(lib, mlvae, x, has)
    np.testing.assert_allclose(found[:3], posteriors, rtol=1e-9)
    np.testing.assert_allclose(found[3], (0.0, 1.0), rtol=1e-9)
    singles = [product((v,), (SPREAD + NOISE,)) for v in GROUP]
    precision = sum(1 / v for _, v in singles)  # the product of posteriors as it is printed
    wrong = sum(m / v for m, v in singles) / precision, 1 / precision
    assert tuple(np.round(wrong, 8)) == (0.64705882, 0.13725490) != tuple(np.round(found[2], 8))
    other = exact(lib, 0.8, 0.4)
    one = np.asarray(evaluation.log_weights(other, x[2:3], num_particles=2))
    np.testing.assert_allclose(one, evidence(GROUP, 0.8, 0.4), rtol=1e-9)


@pytest.mark.slow("numpyro")
def test_c4_without_dependence(lib: Any, x64: None) -> None:
    """The best guide in which styles do not see the content: its KL of the content is counted once
    for the group, not for each member.
    """
    build, losses = lib.build, lib.package.losses
    precision = 1 + len(GROUP) / NOISE
    mean = product(GROUP, [SPREAD + NOISE] * len(GROUP))[0]
    lifted = mean * precision * NOISE / sum(GROUP)  # of the members, for that mean of the content
    heads = {
        "content": ([[lifted], [0.0]], [0.0, raw_scale(math.sqrt(NOISE))]),
        "style": ([[1.0], [0.0]], [-mean, raw_scale(math.sqrt(NOISE))]),
    }
    parts = {
        name: with_head(
            lib,
            build("conditionals", "DiagonalNormal", 1, context_shape=1),
            *map(np.array, weights),
        )
        for name, weights in heads.items()
    }
    whole = exact(lib)
    likelihood, prior = whole.likelihood, whole.style.prior
    mlvae = build(
        "models", "MLVAE", 1, 1, 1, hidden=(), likelihood=likelihood, style_prior=prior, **parts
    )
    x = {"x": np.array(GROUP)[None, :, None]}
    found = terms(lib, losses.ELBO(analytic_kl=True), mlvae, x)
    spread = 1 / (1 / SPREAD + 1 / NOISE)  # variance of a style
    gaps = [(x - mean) * spread / NOISE for x in GROUP]
    ratio = spread / SPREAD
    kl = {
        "content": 0.5 * (1 / precision + mean**2 - 1 + math.log(precision)),
        "style": sum(0.5 * (ratio + m**2 / SPREAD - 1 - math.log(ratio)) for m in gaps),
    }
    assert round(kl["content"], 8) == 1.31527993
    np.testing.assert_allclose(found["ELBO/KL"], sum(kl.values()), rtol=1e-10)


def content_of(lib: Any, model: Any, x: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Mean and variance of the content of each group."""

    def run() -> list[Any]:
        fn = lib.trace(model.guide, lib.array(x), lib.array(has))["content"]["fn"]
        base = fn.base_dist
        return [base.loc[:, 0, 0], base.scale[:, 0, 0] ** 2]

    return np.stack([lib.numpy(part) for part in lib.call(run)], -1)


@pytest.mark.parametrize("kind", ["evidence", "pooled"])
def test_masks_and_twins(kind: str, x64: None, rng: np.random.Generator) -> None:
    """Log-weights and gradients: equal twins; a batch of groups is its groups one by one without
    what stands beneath the mask."""
    libs = PyroLibrary(), NumPyroLibrary()
    made = []
    for lib in libs:
        parts: dict[str, Any] = {}
        if kind == "pooled":
            nets = [lib.build("nn", "MLP", *s) for s in ((3, (4,)), (9, (5,)))]
            parts = {"group_encoder": lib.build("nn", "Pooled", *nets), "group_features": 5}
        made.append(lib.build("models", "MLVAE", 3, 2, 1, hidden=(4,), **parts))
    ours, theirs = made
    theirs = copy_weights(shake(ours), theirs)
    has = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0]], bool)
    x = rng.integers(0, 2, (3, 3, 3)).astype(float)
    c, s = rng.standard_normal((3, 1, 2)), rng.standard_normal((3, 3, 1))

    def both(lib: Any, model: Any, x: Any, has: Any, rows: Any, members: Any) -> Any:
        data = lib.array(x), None if has is None else lib.array(has)
        given = {"content": lib.array(c[rows]), "style": lib.array(s[rows][:, members])}

        def run(model: Any) -> Any:
            programs = ((1, model.model), (-1, model.guide))
            found = [(g, lib.trace(p, *data, substituted=given)) for g, p in programs]
            parts = [g * site["log_prob"] for g, sites in found for site in scored(sites)]
            return sum(part.sum(-1) for part in parts)

        return lib.values_and_gradients(run, model)[:2]

    every = slice(None)
    values, slopes = both(libs[0], ours, x, has, every, every)
    hidden = np.where(has[..., None], x, np.nan)
    for lib, model in zip(libs, (ours, theirs), strict=True):
        other = both(lib, model, hidden, has, every, every)
        np.testing.assert_allclose(other[0], values, rtol=1e-10, atol=1e-10)
        for path, slope in slopes.items():
            np.testing.assert_allclose(other[1][path], slope, rtol=1e-10, atol=1e-10)
    total = dict.fromkeys(slopes, 0.0)
    for row in range(3):
        kept, own = np.flatnonzero(has[row]), slice(row, row + 1)
        one = both(libs[0], ours, x[own][:, kept], None, own, kept)
        np.testing.assert_allclose(one[0][0], values[row], rtol=1e-10, atol=1e-10)
        total = {path: total[path] + slope for path, slope in one[1].items()}
    for path, slope in slopes.items():
        np.testing.assert_allclose(total[path], slope, rtol=1e-10, atol=1e-10)


def test_groups_of_data() -> None:
    x, labels = np.arange(7.0)[:, None], np.array([1, 0, 1, 1, 0, 1, 1])
    groups, has, of = grouped(x, labels, 2, seed=3)
    assert of.tolist() == [0, 1, 1, 1] and has.sum(1).tolist() == [2, 2, 2, 1]
    assert sorted(groups[has][:, 0]) == list(range(7))
    assert (labels[groups[has][:, 0].astype(int)] == np.repeat(of, has.sum(1))).all()
    assert per_member([-4.0, -2.0, -1.0, -7.0], has) == -2.0
    with pytest.raises(ValueError, match="labels must be one for each of the 7 data"):
        grouped(x, labels[:3], 2)
    for wrong, message in ((np.zeros((4, 2), bool), "no member"), (has[:2], "has must be")):
        with pytest.raises(ValueError, match=message):
            per_member(np.zeros(4), wrong)


@pytest.mark.slow("numpyro")
def test_subsampled_groups_train(lib: Any) -> None:
    """Minibatches of groups; the data are the groups."""
    x = np.random.default_rng(0).integers(0, 2, (6, 3, 4)).astype(np.float32)
    has = np.ones((6, 3), bool)
    model = lib.build("models", "MLVAE", 4, 2, 1, hidden=(5,))
    how = {"compile": False} if hasattr(lib, "torch") else {}
    run = lib.package.fit(
        model.model,
        model.guide,
        (x, has),
        loss=lib.package.losses.ELBO(),
        batch_size=2,
        num_epochs=2,
        progress=False,
        **how,
    )
    assert run.data_size == 6 and np.isfinite(run.history.last["loss"])
    pair = SimpleNamespace(model=model.model, guide=model.guide)
    with pytest.raises(ValueError, match=r"x must have shape \(groups, members, 4\), got \(6, 4\)"):
        lib.trace(pair.model, lib.array(x[:, 0]))
    with pytest.raises(ValueError, match=r"has must be booleans of shape \(6, 3\)"):
        lib.trace(pair.model, lib.array(x), lib.array(has[:2]))
    with pytest.raises(ValueError, match="infers content and style from data"):
        lib.trace(pair.guide)


@pytest.mark.slow("numpyro")
def test_swap(lib: Any, x64: None) -> None:
    """Row i and column j: the content of group i with the styles of group j, by hand; the diagonal
    is the reconstruction; all else is refused."""
    mlvae, evaluation = exact(lib), lib.package.evaluation
    x = np.random.default_rng(0).standard_normal((3, 2, 1))
    codes = evaluation.latents(mlvae, x, means=True, num_draws=4)
    grid = evaluation.swap(mlvae, x, sites="content", num_draws=4)["x"]
    wanted = codes["content"][:, None] + codes["style"][None]
    np.testing.assert_allclose(grid, wanted, rtol=1e-10)
    assert grid.shape == (3, 3, 2, 1) and len(np.unique(grid.round(9))) == grid.size
    for sites, message in (
        ("z", r"sites names \['z'\], but the local latents are \['content', 'style'\]"),
        (("content", "style"), "Some of the local latents"),
        ((), "Some of the local latents"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.swap(mlvae, x, sites=sites, num_draws=4)
