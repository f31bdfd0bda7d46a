"""Models of several modalities: exact values, missing modalities, the twins, what is refused."""

from typing import Any

import numpy as np
import pytest

from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.multimodal.pairs import KINDS, data_of, exact, mixed, mixed_data
from tests.multimodal.toys import C2, OTHER, kl_normal
from tests.twins.copying import copy_weights, shake

HAS = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)


def arrays(lib: Any, data: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: lib.array(x) for name, x in data.items()}


def terms(lib: Any, loss: Any, model: Any, data: dict[str, np.ndarray]) -> dict[str, float]:
    """The terms of a loss on data."""
    pair, found = (model.model, model.guide), arrays(lib, data)
    if hasattr(lib, "torch"):
        out = loss.evaluate(*pair, (), found).terms
        return {name: value.item() for name, value in out.items()}
    handlers = lib.numpyro.handlers

    def run(data: dict[str, Any]) -> dict[str, Any]:
        sites: dict[str, Any] = {}
        for program in pair:
            sites |= handlers.trace(handlers.seed(program, 0)).get_trace(**data)
        params = {n: site["value"] for n, site in sites.items() if site["type"] == "param"}
        return loss.evaluate(lib.jax.random.key(0), params, *pair, (), data).terms

    return {name: float(value) for name, value in lib.jax.jit(run)(found).items()}


@pytest.mark.slow("numpyro-other")
@pytest.mark.parametrize("toy", [C2, OTHER], ids=["C2", "other"])
def test_exact_values(lib: Any, toy: Any, x64: None) -> None:
    """MVAE with exact experts: the bound is log p of what is there, whatever is there, without
    noise; the sub-sampled sum and JMVAE-kl come out of `given`."""
    losses = lib.package.losses
    mvae, jmvae = exact(lib, "MVAE", toy), exact(lib, "JMVAE", toy)
    found = terms(lib, losses.sub_sampled(("a", "b")), mvae, data_of(toy))
    bounds = [found[name] for name in ("ELBO", "ELBO given a", "ELBO given b")]
    np.testing.assert_allclose(
        bounds, [toy.evidence(seen) for seen in ((0, 1), (0,), (1,))], rtol=1e-12
    )
    patterns = {name: np.repeat(x, 4, 0) for name, x in data_of(toy).items()}
    patterns["has"] = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
    patterns["a"][2:] = patterns["b"][1] = np.nan
    mixed_mean = np.mean([toy.evidence(seen) for seen in ((0, 1), (0,), (1,))] + [0.0])
    np.testing.assert_allclose(
        terms(lib, losses.ELBO(), mvae, patterns)["ELBO"], mixed_mean, rtol=1e-12
    )
    kl = terms(lib, losses.jmvae(("a", "b"), 0.1), jmvae, data_of(toy))
    joint = toy.posterior((0, 1))
    for name, m in (("a", 0), ("b", 1)):
        exact_kl = kl_normal(*joint, *toy.posterior((m,)))
        np.testing.assert_allclose(kl[f"KL given {name}"], exact_kl, rtol=1e-10)
    jmvae_kl = kl["ELBO"] - 0.1 * (kl["KL given a"] + kl["KL given b"])
    if toy is C2:
        assert [round(bound, 8) for bound in bounds] == [-3.47130348, -1.60167109, -0.93236494]
        assert round(sum(bounds), 8) == -6.00533951
        assert round(jmvae_kl, 8) == -3.60134494
    # posteriors in place of experts count the prior once more for each modality
    means, variances = zip(*(toy.posterior((m,)) for m in (0, 1)), strict=True)
    if toy is C2:
        precision = 1 + sum(1 / v for v in variances)
        wrong = sum(m / v for m, v in zip(means, variances, strict=True)) / precision
        bound = toy.evidence((0, 1)) - kl_normal(wrong, 1 / precision, *joint)
        assert (round(wrong, 8), round(1 / precision, 8)) == (0.2, 0.16666667)
        assert round(bound, 8) == -3.52736936


@pytest.mark.slow("numpyro")
def test_mixture_bounds(lib: Any, x64: None) -> None:
    """C3 through the losses: each bound is its exact value within five standard errors, and in
    their order; draws are stratified, or drawn."""
    losses, mmvae, data = lib.package.losses, exact(lib, "MMVAE"), data_of(C2, 20000)
    exact_values = {
        losses.ELBO(enumerate="component"): -4.24247105,
        losses.IWAE(2, enumerate="component", looser=True): -3.77803294,
        losses.IWAE(1, enumerate="component"): -3.67839836,
        losses.IWAE(2): -3.72821565,
    }
    for loss, value in exact_values.items():
        found = next(iter(terms(lib, loss, mmvae, data).values()))
        assert abs(found - value) < 0.02, loss  # five standard errors of 20,000 data


def log_joint(lib: Any, z: Any, w: Any, component: Any) -> Any:
    """log p - log q of each datum at given latents, as a function of model and data."""

    def run(model: Any, data: dict[str, Any]) -> Any:
        given = {"z": z, "private_image": w, "component": component}
        sites = [
            lib.trace(lambda: model.model(**data), substituted=given),
            lib.trace(lambda: model.guide(**data), substituted=given),
        ]
        signs = zip((1, -1), sites, strict=True)
        return sum(s * site["log_prob"] for s, found in signs for site in scored(found))

    return run


def scored(sites: dict[str, Any]) -> list[Any]:
    return [site for site in sites.values() if "log_prob" in site]


@pytest.mark.parametrize("name", KINDS)
def test_missing_modalities_and_twins(name: str, x64: None, rng: np.random.Generator) -> None:
    """Three likelihoods. Log-weights and gradients at given latents: the twins are equal; a batch
    of mixed patterns is its data one by one, without what they lack; NaN there changes nothing."""
    libs = PyroLibrary(), NumPyroLibrary()
    ours, theirs = (mixed(lib, name) for lib in libs)
    theirs = copy_weights(shake(ours), theirs)
    data, z, w = mixed_data(rng, 4), rng.standard_normal((4, 2)), rng.standard_normal((4, 1))
    hidden = dict(data)
    for m, key in enumerate(("image", "row")):
        column = HAS[:, 2 * m].reshape(-1, *[1] * (data[key].ndim - 1))
        hidden[key] = np.where(column, data[key], np.nan)
    component = np.zeros(4, int)

    def both(lib: Any, module: Any, data: dict[str, np.ndarray], rows: Any, has: Any) -> Any:
        found = arrays(lib, data) | ({} if has is None else {"has": lib.array(has)})
        run = log_joint(lib, lib.array(z[rows]), lib.array(w[rows]), lib.array(component[rows]))
        return lib.values_and_gradients(lambda module: run(module, found), module)[:2]

    rows = slice(None)
    values, slopes = both(libs[0], ours, data, rows, HAS)
    for other in (both(libs[0], ours, hidden, rows, HAS), both(libs[1], theirs, hidden, rows, HAS)):
        np.testing.assert_allclose(other[0], values, rtol=1e-10, atol=1e-10)
        assert slopes.keys() == other[1].keys()
        for path, slope in slopes.items():
            np.testing.assert_allclose(other[1][path], slope, rtol=1e-10, atol=1e-10)
    total = dict.fromkeys(slopes, 0.0)
    for row in range(4):
        there = {k: x[row : row + 1] for m, (k, x) in enumerate(data.items()) if HAS[row, m]}
        if not there:
            value = 0.0 if name != "JMVAE" else values[row]  # the private code and z of the prior
            np.testing.assert_allclose(values[row], value, atol=1e-12)
            continue
        one = both(libs[0], ours, there, slice(row, row + 1), None)
        if name in ("MVAE", "JMVAE"):
            np.testing.assert_allclose(one[0][0], values[row], rtol=1e-10, atol=1e-10)
        total = {path: total[path] + slope for path, slope in one[1].items()}
    for path, slope in slopes.items():
        np.testing.assert_allclose(total[path], slope, rtol=1e-10, atol=1e-10)
        assert np.any(slope != 0) or path.startswith(("posterior.prior", "joint")), path


def test_what_is_refused(lib: Any, rng: np.random.Generator) -> None:
    model, data = mixed(lib, "MVAE"), arrays(lib, mixed_data(rng, 4))
    for change, message in (
        ({"image": data["image"][:, 0]}, r"image must have shape \(batch, 1, 3, 3\), got"),
        ({"row": data["row"][:2]}, "same number of data, got"),
        ({"sound": data["row"]}, r"The data name \['sound'\], but the modalities are"),
        ({"has": lib.array(np.ones((4, 3)))}, r"has must be booleans of shape \(4, 3\)"),
        ({"has": lib.array(np.ones((4, 2), bool))}, r"has must be booleans of shape \(4, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            lib.trace(lambda change=change: model.model(**{**data, **change}))
    with pytest.raises(ValueError, match=r"call it with one of \['image', 'label', 'row'\]"):
        lib.trace(lambda: model.guide())
    build = lib.build
    for wrong in ({}, {"z": 3}, {"a b": 3}, [3], {"a": 0}):
        with pytest.raises(ValueError, match="modalities"):
            build("models", "MVAE", wrong, 2)
    with pytest.raises(ValueError, match=r"likelihoods names \['c'\], but the modalities are"):
        build("models", "MVAE", {"a": 2}, 2, likelihoods={"c": None})
    with pytest.raises(ValueError, match="weights must name all modalities"):
        build("models", "MMVAE", {"a": 2, "b": 2}, 2, weights={"a": 1})
    with pytest.raises(ValueError, match="subsets must be"):
        build("models", "MoPoE", {"a": 2, "b": 2}, 2, subsets=[("c",)])
    losses = lib.package.losses
    with pytest.raises(ValueError, match="given must be the name of an observed site"):
        losses.ELBO(given=3)
    with pytest.raises(ValueError, match="looser=True takes the mean of the bounds of enumerated"):
        losses.IWAE(3, looser=True)
    vae, x = build("models", "VAE", 3, 2, hidden=(4,)), lib.array(np.ones((2, 3)))
    start = () if hasattr(lib, "torch") else (lib.key(0), {})
    with pytest.raises(ValueError, match="asks for a guide that sees these sites alone"):
        losses.ELBO(given="x").evaluate(*start, vae.model, vae.guide, (x,))
    with pytest.raises(ValueError, match=r"given names \['sound'\], but the modalities are"):
        model.given(("sound",), (), data)
