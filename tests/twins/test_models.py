"""The models' twins in float64: log-joint of model and guide, and gradients in every parameter, at
1e-10, for shared weights and latents.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.cases import GANS, MODELS, PAIRS
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary
from tests.contracts.test_gans import run
from tests.contracts.writing import given_numbers
from tests.kinds import Model
from tests.twins.copying import arrays_of, copy_weights, shake
from tests.twins.test_conditionals import close

PLAYERS = {**GANS, **PAIRS}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in MODELS.items()])
@pytest.mark.parametrize("particles", [(), (3,)], ids=["one", "particles"])
def test_log_joint(x64: None, case: Model, particles: tuple[int, ...]) -> None:
    libs = PyroLibrary(), NumPyroLibrary()
    torch_module = shake(libs[0].model(case))
    module = copy_weights(torch_module, libs[1].model(case, seed=1))
    assert repr(torch_module) == repr(module)
    rng = np.random.default_rng(1)
    data = case.data(rng, 5)
    z = rng.standard_normal((*particles, 5, 2))

    def log_joint(lib: Any, vae: Any) -> tuple[Any, dict[str, Any]]:
        """log p(x, z) + 3 log q(z | x), summed, and the sites' log-densities."""
        inputs, latent = [lib.array(d) for d in data], {"z": lib.array(z)}

        def repeated(program: Any) -> Any:
            if not particles:
                return program

            def run(*args: Any) -> None:
                with lib.plate("particles", particles[0], dim=-2):
                    program(*args)

            return run

        p = lib.trace(repeated(vae.model), *inputs, substituted=latent)
        q = lib.trace(repeated(vae.guide), *inputs, substituted=latent)
        sites = {"z": p["z"]["log_prob"], "x": p["x"]["log_prob"], "q": q["z"]["log_prob"]}
        return sites["z"].sum() + sites["x"].sum() + 3 * sites["q"].sum(), sites

    ours, our_sites = log_joint(libs[0], torch_module)
    ours.backward()
    total = eqx.filter_jit(
        eqx.filter_value_and_grad(lambda vae: log_joint(libs[1], vae), has_aux=True)
    )
    (theirs, their_sites), gradients = total(module)
    close(ours.detach(), theirs)
    for name, site in our_sites.items():
        assert site.shape == (*particles, 5)
        close(site.detach(), their_sites[name], name)
    their_gradients = arrays_of(gradients)
    for path, parameter in torch_module.named_parameters():
        close(parameter.grad, their_gradients[path], path)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in PLAYERS.items()])
def test_all_that_players_draw_and_score(x64: None, case: Model) -> None:
    """Of models and guides with implicit sites: log-densities where there are any, else the draws,
    with all gradients, at the same latents and noise.
    """
    libs = PyroLibrary(), NumPyroLibrary()
    ours = shake(libs[0].model(case))
    theirs = copy_weights(ours, libs[1].model(case, seed=1))
    assert repr(ours) == repr(theirs)
    rng = np.random.default_rng(1)
    latents = {
        name: rng.integers(0, 4, (6, *shape))
        if name in ("c", "y")
        else rng.uniform(0.1, 0.9, (6, *shape))
        if name == "v"  # the breaks of a stick
        else rng.standard_normal((6, *shape))
        for name, shape in getattr(case, "latents", {"z": (2,)}).items()
    }
    if case.labels is not None:
        latents["y"] = np.arange(6) % 4
    given = {"data"} | ({"y"} if case.labels is not None else set())
    data = case.data(rng, 6)
    numbers: dict[tuple[int, ...], np.ndarray] = {}

    def weighted(lib: Any, piece: Any) -> Any:
        shape = tuple(piece.shape)
        if shape not in numbers:
            numbers[shape] = rng.standard_normal(shape)  # so that no gradient cancels in the sum
        return (lib.array(numbers[shape]) * piece).reshape(6, -1).sum(1)

    def everything(module: Any) -> Any:
        lib = libs[module is not ours]
        arrays = tuple(map(lib.array, data))
        drawn = run(lib, module.model, substituted=latents, size=6)
        seen = run(lib, module.model, *arrays, substituted=latents)
        guided = run(lib, module.guide, *arrays, substituted=latents)
        free = run(lib, module.guide, *arrays)
        pieces = []
        for sites, values in ((seen, drawn), (guided, free)):
            for name in sorted(set(sites) - given):
                try:
                    pieces.append(sites[name]["fn"].log_prob(sites[name]["value"]))
                except lib.package.conditionals.NoDensityError:
                    pieces.append(values[name]["value"])
        return sum(weighted(lib, piece) for piece in pieces)

    with given_numbers():
        (values, gradients, _), (twin_values, twin_gradients, _) = (
            lib.values_and_gradients(everything, module)
            for lib, module in zip(libs, (ours, theirs))
        )
    close(values, twin_values)
    assert gradients.keys() == twin_gradients.keys()
    for path, gradient in gradients.items():
        close(gradient, twin_gradients[path], path)
        assert np.abs(gradient).max() > 1e-6, path


def sites_of(lib: Any, program: Callable[..., Any], data: list[Any]) -> dict[str, Any]:
    """The sites of a program, none of which is computed."""
    sites: dict[str, Any] = {}
    lib.shapes(lambda: sites.update(lib.trace(program, *data)))
    return sites


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in MODELS.items()])
def test_parameters_are_registered_under_the_same_names(case: Model) -> None:
    libs = PyroLibrary(), NumPyroLibrary()
    rng = np.random.default_rng(1)
    names: list[set[str]] = []
    for lib in libs:
        vae, data = lib.model(case), [lib.array(d) for d in case.data(rng, 5)]
        found = set()
        for program in (vae.model, vae.guide):
            sites = sites_of(lib, program, data)
            found |= {name for name in sites if "param" not in sites[name]}
            for name, site in sites.items():
                if "param" in site and lib is libs[0]:
                    found.add(name.replace("$$$", "."))
                elif "param" in site:
                    found |= {
                        f"{name.removesuffix('$params')}.{path}"
                        for path in arrays_of(site["param"])
                    }
        names.append(found)
    assert names[0] == names[1]
    assert {"x", "z"} <= names[0]


def test_labels_are_one_hot_in_both(x64: None) -> None:
    case = MODELS["ConditionalVAE"]
    libs = PyroLibrary(), NumPyroLibrary()
    y = np.array([3, 0, 1])
    contexts = [lib.numpy(lib.model(case).context(lib.array(y))) for lib in libs]
    np.testing.assert_array_equal(contexts[0], np.eye(4)[y])
    np.testing.assert_array_equal(contexts[1], np.eye(4)[y])
    assert contexts[0].dtype == contexts[1].dtype == np.float64
    assert jax.dtypes.canonicalize_dtype(float) == jnp.float64
    assert torch.get_default_dtype() == torch.float64


def test_a_model_with_another_prior(x64: None) -> None:
    """Its density at the codes, and every gradient of the prior that was put in."""
    libs = PyroLibrary(), NumPyroLibrary()
    model = MODELS["VAE"]
    ours = shake(libs[0].build("conditionals", "MixturePrior", 2, 3))
    theirs = copy_weights(ours, libs[1].build("conditionals", "MixturePrior", 2, 3, seed=1))
    rng = np.random.default_rng(1)
    (x,), z = model.data(rng, 5), rng.standard_normal((5, 2))

    def scored(lib: Any, prior: Any) -> Any:
        vae, latent = lib.model(model), {"z": lib.array(z)}
        program = lib.package.evaluation.with_prior(vae.model, "z", prior)
        return lib.trace(program, lib.array(x), substituted=latent)["z"]["log_prob"]

    (values, gradients, _), (twin_values, twin_gradients, _) = (
        lib.values_and_gradients(lambda prior, lib=lib: scored(lib, prior), prior)
        for lib, prior in zip(libs, (ours, theirs))
    )
    close(values, twin_values)
    close(values, libs[0].numpy(ours().log_prob(libs[0].array(z))))
    assert gradients.keys() == twin_gradients.keys()
    for path, gradient in gradients.items():
        assert np.any(gradient != 0)
        close(gradient, twin_gradients[path], path)


def test_a_model_with_a_prior_given_another_site(x64: None) -> None:
    """The upper latent given the lower one, which comes before it in a model of two."""
    libs = PyroLibrary(), NumPyroLibrary()
    ours = shake(libs[0].build("conditionals", "DiagonalNormal", 2, context_shape=3))
    theirs = copy_weights(
        ours, libs[1].build("conditionals", "DiagonalNormal", 2, context_shape=3, seed=1)
    )
    values = np.random.default_rng(1).standard_normal((2, 5, 3))
    z, w = values[0], values[1, :, :2]

    def scored(lib: Any, prior: Any) -> Any:
        unit = lib.package.conditionals.StandardNormal

        def model() -> None:
            with lib.plate("data", 5):
                lib.sample("z", unit(3)())
                lib.sample("w", unit(2)())

        program = lib.package.evaluation.with_prior(model, "w", prior, given="z")
        latent = {"z": lib.array(z), "w": lib.array(w)}
        return lib.trace(program, substituted=latent)["w"]["log_prob"]

    first, second = (
        lib.values_and_gradients(lambda prior, lib=lib: scored(lib, prior), prior)
        for lib, prior in zip(libs, (ours, theirs))
    )
    close(first[0], second[0])
    close(first[0], libs[0].numpy(ours(libs[0].array(z)).log_prob(libs[0].array(w))))
    for path, gradient in first[1].items():
        assert np.any(gradient != 0)
        close(gradient, second[1][path], path)
