"""A run keeps its weights, whatever becomes of networks, parameter store and guide; it is written
to a file and read again, and pickled.
"""

import copy
import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgm_core.training.checkpoint import CheckpointError

X = (np.random.default_rng(0).random((24, 4)) < 0.4).astype(float)
Y = np.random.default_rng(1).normal(3.0, 1.0, 24)


def package(name: str) -> Any:
    return importlib.import_module(f"{name}_dgm")


def make_vae(name: str, seed: int = 0, hidden: int = 8) -> Any:
    if name == "pyro":
        import torch

        torch.manual_seed(seed)
        return package(name).VAE(4, 2, hidden=(hidden,))
    import jax

    return package(name).VAE(4, 2, hidden=(hidden,), key=jax.random.key(seed))


def fitted(backend: Any, model: Callable, guide: Callable, x: np.ndarray, **options: Any) -> Any:
    options = {"num_epochs": 2, "progress": False, "seed": 0, **options}
    optim = package(backend.name).training.Adam(0.05)
    return package(backend.name).fit(model, guide, x, optim=optim, **options)


RUNS: dict[str, Any] = {}  # one fit of each backend serves most tests


def vae_run(backend: Any) -> Any:
    """A VAE that was fitted, and nothing else of it."""
    if backend.name not in RUNS:
        vae = make_vae(backend.name)
        RUNS[backend.name] = fitted(backend, vae.model, vae.guide, X)
    return RUNS[backend.name]


def normal_mean(backend: Any) -> tuple[Callable, Callable]:
    """w ~ Normal(0, 10); y_n ~ Normal(w, 1); w ~ Normal(loc, exp(log_scale))."""
    dist, np_ = backend.dist, backend.np

    def model(y: Any) -> None:
        w = backend.sample("w", dist.Normal(backend.array(0.0), backend.array(10.0)))
        with backend.plate("data", 24, subsample_size=len(y)):
            backend.sample("y", dist.Normal(w, backend.array(1.0)), obs=y)

    def guide(y: Any) -> None:
        loc = backend.param("loc", backend.array(0.0))
        log_scale = backend.param("log_scale", backend.array(-1.0))
        backend.sample("w", dist.Normal(loc, np_.exp(log_scale)))

    return model, guide


@pytest.mark.slow("numpyro")
def test_a_later_fit_of_the_same_networks_changes_nothing(backend: Any) -> None:
    run = vae_run(backend)
    before = backend.evaluation.log_weights(run, X, num_particles=3)
    again = fitted(backend, run.model, run.guide, 1 - X, num_epochs=8, seed=1)
    np.testing.assert_array_equal(backend.evaluation.log_weights(run, X, num_particles=3), before)
    assert np.abs(backend.evaluation.log_weights(again, X, num_particles=3) - before).max() > 0.1


def test_another_guide_under_the_same_names_changes_nothing(backend: Any) -> None:
    model, guide = normal_mean(backend)
    run = fitted(backend, model, guide, Y, num_epochs=200)
    before = backend.evaluation.latents(run, Y, num_draws=400)["w"]
    assert before.mean() == pytest.approx(Y.mean(), abs=0.3)
    pyro = backend.name == "pyro"  # which says that it starts afresh
    with pytest.warns(UserWarning, match="holds other values") if pyro else nullcontext():
        fitted(backend, *normal_mean(backend), Y + 40, num_epochs=200)
    np.testing.assert_array_equal(backend.evaluation.latents(run, Y, num_draws=400)["w"], before)
    if backend.name == "pyro":
        backend.pyro.clear_param_store()
    np.testing.assert_array_equal(backend.evaluation.latents(run, Y, num_draws=400)["w"], before)


def test_evaluation_leaves_networks_and_store_as_they_were() -> None:
    """Also where it fails, and where the networks have other weights than the run by then."""
    import pyro
    import torch

    from pyro_dgm import evaluation, fit

    vae = make_vae("pyro")
    run = fit(vae.model, vae.guide, X, progress=False)
    before = evaluation.log_weights(run, X, num_particles=3)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
    pyro.clear_param_store()
    kept = pyro.param(
        "kept", torch.tensor(2.0), constraint=torch.distributions.constraints.positive
    )
    places = {name: id(parameter) for name, parameter in vae.named_parameters()}
    np.testing.assert_array_equal(evaluation.log_weights(run, X, num_particles=3), before)
    with pytest.raises(Exception, match="must have shape"):
        evaluation.log_weights(run, np.ones((3, 5)))
    assert {name: id(parameter) for name, parameter in vae.named_parameters()} == places
    assert all((parameter == 0).all() for parameter in vae.parameters())
    assert list(pyro.get_param_store().keys()) == ["kept"] and vae.training
    assert kept.unconstrained().exp().item() == pytest.approx(2.0)


def test_networks_of_another_form_are_refused() -> None:
    import torch

    from pyro_dgm import evaluation, fit

    vae = make_vae("pyro")
    run = fit(vae.model, vae.guide, X, progress=False)
    vae.decoder = torch.nn.Linear(2, 8)
    with pytest.raises(ValueError, match="networks of the model or guide have changed"):
        evaluation.log_weights(run, X)


def test_a_file_gives_the_run_back(backend: Any, tmp_path: Path) -> None:
    run = vae_run(backend)
    run.save(tmp_path / "vae.run")
    other = make_vae(backend.name, seed=1)
    if backend.name == "pyro":
        backend.pyro.clear_param_store()
    read = package(backend.name).load_run(tmp_path / "vae.run", other.model, other.guide)
    for found in (read, copy.deepcopy(read), pickle.loads(pickle.dumps(run))):
        np.testing.assert_array_equal(
            backend.evaluation.log_weights(found, X, num_particles=3),
            backend.evaluation.log_weights(run, X, num_particles=3),
        )
    assert (read.epoch, read.best_epoch, read.data_size) == (2, 2, 24)
    assert read.history == run.history and read.config["num_epochs"] == 2
    assert repr(read) == repr(run)


@pytest.mark.slow("numpyro")
def test_critics_are_read_back(backend: Any, tmp_path: Path) -> None:
    """As trained, with their optimizers; by the loss of the fit alone."""
    losses = package(backend.name).losses

    def loss(width: int = 4) -> Any:
        key = {} if backend.name == "pyro" else {"key": backend.jax.random.key(0)}
        critic = losses.Critic(2, hidden=(width,), **key)
        return losses.ELBO() + 0.1 * losses.JensenShannon("z", critic)

    vae = make_vae(backend.name)
    run = fitted(backend, vae.model, vae.guide, X, loss=loss())
    run.save(tmp_path / "vae.run")
    load_run, path = package(backend.name).load_run, tmp_path / "vae.run"
    assert load_run(path, vae.model, vae.guide).term_state == {}
    read = load_run(path, vae.model, vae.guide, loss=loss())
    read.save(tmp_path / "again.run")
    again = load_run(tmp_path / "again.run", vae.model, vae.guide, loss=loss())
    z = backend.array(np.random.default_rng(0).normal(size=(5, 2)))

    def scores(critics: dict[str, Any]) -> np.ndarray:
        (out,) = (critic(z) for critic in critics.values())
        return np.asarray(out.detach() if backend.name == "pyro" else out)

    start = loss()
    before = scores(start.critics() or {"JensenShannon(z)": start.terms[1][1].critic})
    ours, theirs, third = (scores(loss().critics(r.term_state)) for r in (run, read, again))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours, third)
    assert np.abs(ours - before).max() > 1e-4
    for wrong in (losses.ELBO(), loss() + losses.Wasserstein("x"), loss(width=5)):
        with pytest.raises(CheckpointError, match="does not hold what the terms of this loss keep"):
            load_run(path, vae.model, vae.guide, loss=wrong)
    with pytest.raises(ValueError, match="loss must be that of the fit, or None, got 'ELBO'"):
        load_run(path, vae.model, vae.guide, loss="ELBO")


def automatic(name: str, family: str, model: Callable) -> Any:
    infer = "pyro.infer.autoguide" if name == "pyro" else "numpyro.infer.autoguide"
    return getattr(importlib.import_module(infer), family)(model)


@pytest.mark.parametrize("family", ["AutoNormal", "AutoMultivariateNormal"])
@pytest.mark.slow("numpyro")
def test_automatic_guides_are_read_back(backend: Any, family: str, tmp_path: Path) -> None:
    model, _ = normal_mean(backend)
    run = fitted(backend, model, automatic(backend.name, family, model), Y, num_epochs=40)
    run.save(tmp_path / "auto.run")
    draws = backend.evaluation.latents(run, Y, num_draws=50)["w"]
    if backend.name == "pyro":
        backend.pyro.clear_param_store()
    guide = automatic(backend.name, family, model)
    read = package(backend.name).load_run(tmp_path / "auto.run", model, guide)
    np.testing.assert_array_equal(backend.evaluation.latents(read, Y, num_draws=50)["w"], draws)


def test_what_is_no_file_of_this_run_is_refused(backend: Any, tmp_path: Path) -> None:
    load_run, path = package(backend.name).load_run, tmp_path / "vae.run"
    vae = vae_run(backend)
    vae.save(path)
    vae.save(path)  # an older file is no substitute for a damaged one
    assert [file.name for file in tmp_path.iterdir()] == ["vae.run"]
    wider = make_vae(backend.name, hidden=9)
    with pytest.raises(CheckpointError, match=r"another model or guide .*there and .* here.*more"):
        load_run(path, wider.model, wider.guide)
    with pytest.raises(CheckpointError, match=r"another model or guide|fail"):
        load_run(path, *normal_mean(backend))
    with pytest.raises(CheckpointError, match="no such file"):
        load_run(tmp_path / "none.run", vae.model, vae.guide)
    contents = bytearray(path.read_bytes())
    for index in range(len(contents) // 2, len(contents) // 2 + 200):
        contents[index] ^= 255
    (tmp_path / "damaged.run").write_bytes(contents)
    with pytest.raises(CheckpointError, match="damaged"):
        load_run(tmp_path / "damaged.run", vae.model, vae.guide)
    (tmp_path / "short.run").write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="damaged"):
        load_run(tmp_path / "short.run", vae.model, vae.guide)
    other = package({"pyro": "numpyro", "numpyro": "pyro"}[backend.name])
    with pytest.raises(CheckpointError, match=f"written by {backend.name}_dgm"):
        other.load_run(path, vae.model, vae.guide)


def test_models_that_need_more_than_numbers_say_so(backend: Any, tmp_path: Path) -> None:
    model, guide = normal_mean(backend)

    def picky(y: Any) -> None:
        if float(y[0]) == 0.5:
            raise RuntimeError("no such datum")
        model(y)

    run = fitted(backend, model, guide, Y)
    run.save(tmp_path / "picky.run")
    load_run = package(backend.name).load_run
    with pytest.raises(CheckpointError, match=r"fail \(RuntimeError: no such datum\).*data="):
        load_run(tmp_path / "picky.run", model, lambda y: (picky(y), guide(y)))
    run.config["seen"] = {"call": {}}
    run.save(tmp_path / "unknown.run")
    with pytest.raises(CheckpointError, match="does not say how model and guide are called"):
        load_run(tmp_path / "unknown.run", model, guide)
    assert load_run(tmp_path / "unknown.run", model, guide, data=Y).epoch == 2


@pytest.mark.slow
def test_another_process_reads_the_file(backend: Any, tmp_path: Path) -> None:
    """In single precision, with other random numbers: what is compared is not drawn."""
    run = vae_run(backend)
    run.save(tmp_path / "vae.run")
    program = f"""
import numpy as np
from tests.evaluation.test_runs import X, make_vae, package
package, vae = package({backend.name!r}), make_vae({backend.name!r}, seed=3)
run = package.load_run({str(tmp_path / "vae.run")!r}, vae.model, vae.guide)
np.save({str(tmp_path / "z.npy")!r}, package.latents(run, X, means=True)["z"])
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    expected = backend.evaluation.latents(run, X, means=True)["z"]
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), expected, atol=1e-5)
