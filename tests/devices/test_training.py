"""Training and evaluation on a GPU: data come from wherever they lie, runs and checkpoints go from
one device to another.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.optim import Adam

from pyro_dgm import evaluation, fit, load_run, losses
from pyro_dgm.__main__ import main
from pyro_dgm.conditionals import VampPrior
from pyro_dgm.flows import MAF
from pyro_dgm.models import VAE
from tests.cases import GANS, PAIRS
from tests.contracts.libraries import PyroLibrary
from tests.kinds import Model

RNG = np.random.default_rng(0)
# Nine copies of one bit, some of them wrong.
X = ((RNG.random((40, 1)) < 0.5) ^ (RNG.random((40, 9)) < 0.1)).astype(np.float32)
FAST: dict[str, Any] = {"batch_size": 16, "progress": False}


def numpy(x: torch.Tensor) -> np.ndarray:
    return x.numpy(force=True)


def assert_same_bounds(here: np.ndarray, there: np.ndarray) -> None:
    """Of weights (num_data, num_particles) drawn twice: within five standard errors."""
    error = np.sqrt((here.var(-1) + there.var(-1)) / here.shape[-1])
    assert (abs(here.mean(-1) - there.mean(-1)) < 5 * error).all()


def vae(**parts: Any) -> VAE:
    torch.manual_seed(0)
    return VAE(9, 2, hidden=(7,), **parts)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("kind", ["numpy", "cpu", "gpu"])
def test_fit_takes_data_from_anywhere(gpu: torch.device, compile: bool, kind: str) -> None:
    x = X if kind == "numpy" else torch.as_tensor(X, device=gpu if kind == "gpu" else kind)
    pair = vae().to(gpu)
    run = fit(pair.model, pair.guide, x, num_epochs=30, compile=compile, validation=X[:8], **FAST)
    assert {p.device for p in pair.parameters()} == {gpu}
    assert run.history.last["loss"] < run.history[0]["loss"]


def test_default_device(gpu: torch.device) -> None:
    """With torch's default device, nothing is moved by hand."""
    torch.set_default_device(gpu)
    try:
        pair = vae(prior=MAF(2))
        run = fit(pair.model, pair.guide, X, num_epochs=2, **FAST)
        assert {p.device for p in pair.parameters()} == {gpu}
        assert np.isfinite(evaluation.log_weights(run, X, num_particles=3)).all()
    finally:
        torch.set_default_device(None)


def test_checkpoints_resume_on_a_gpu_to_the_bit(gpu: torch.device, tmp_path: Path) -> None:
    whole = vae().to(gpu)
    fit(whole.model, whole.guide, X, num_epochs=6, compile=False, seed=3, **FAST)
    part = vae().to(gpu)
    settings: dict[str, Any] = {"compile": False, "seed": 3, "checkpoint": tmp_path / "run", **FAST}
    fit(part.model, part.guide, X, num_epochs=3, **settings)
    rest = vae().to(gpu)
    fit(rest.model, rest.guide, X, num_epochs=6, resume=True, **settings)
    for one, other in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(one, other)


def test_runs_go_between_devices(gpu: torch.device, tmp_path: Path) -> None:
    for first, second in ((gpu, torch.device("cpu")), (torch.device("cpu"), gpu)):
        pair, other = vae().to(first), vae().to(second)
        run = fit(pair.model, pair.guide, X, num_epochs=2, **FAST)
        run.save(tmp_path / first.type)
        loaded = load_run(tmp_path / first.type, other.model, other.guide)
        assert loaded.params.keys() == run.params.keys()
        for name, value in loaded.params.items():
            assert value.device == second
            np.testing.assert_array_equal(numpy(value), numpy(run.params[name]))
        here, there = (evaluation.log_weights(r, X, num_particles=2000) for r in (run, loaded))
        assert_same_bounds(here, there)


@pytest.mark.parametrize("case", [pytest.param(c, id=n) for n, c in (GANS | PAIRS).items()])
def test_players_train(gpu: torch.device, case: Model) -> None:
    lib = PyroLibrary()
    pair = lib.model(case).to(gpu)
    data = case.data(np.random.default_rng(0), 12)
    loss = case.loss(losses) if hasattr(case, "loss") else losses.JensenShannon("x")
    x = data if len(data) > 1 else data[0]
    settings: dict[str, Any] = {"batch_size": 6, "num_epochs": 2, "compile": False}
    run = fit(pair.model, pair.guide, x, loss=loss, progress=False, **settings)
    assert all(np.isfinite(v) for v in run.history.last.values() if v is not None)


def conjugate() -> tuple[Any, Any]:
    """Of a user who puts all on the GPU: mu ~ Normal(0, 2), 3 data ~ Normal(mu, 1)."""

    def model(x: torch.Tensor) -> None:
        mu = pyro.sample("mu", pyro.distributions.Normal(x.new_zeros(()), 2.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", pyro.distributions.Normal(mu, 1.0), obs=x)

    def guide(x: torch.Tensor) -> None:
        loc = pyro.param("loc", x.new_zeros(()))
        scale = pyro.param("scale", x.new_ones(()), pyro.distributions.constraints.positive)
        pyro.sample("mu", pyro.distributions.Normal(loc, scale))

    return model, guide


def test_evaluation_of_a_users_model(gpu: torch.device) -> None:
    model, guide = conjugate()
    x = torch.tensor([1.0, 2.5, 3.0], device=gpu)
    run = fit(
        model, guide, x, batch_size=None, num_epochs=3000, optim=Adam({"lr": 1e-2}), progress=False
    )
    variance = 1 / (1 / 4 + 3)
    np.testing.assert_allclose(run.params["loc"].item(), variance * 6.5, atol=0.05)
    data, cov = numpy(x), np.eye(3) + 4.0
    quadratic = data @ np.linalg.solve(cov, data)
    evidence = -0.5 * (quadratic + np.log(np.linalg.det(2 * np.pi * cov)))
    found = evaluation.log_likelihood(run, x, num_particles=2000, progress=False)
    np.testing.assert_allclose(found["IWAE"][0], evidence, atol=0.02)
    ladder = evaluation.ais(run, x, steps=100, chains=64, progress=False)
    np.testing.assert_allclose(ladder.lower[0], evidence, atol=0.1)
    chains = evaluation.nuts(model, x, num_draws=300, num_warmup=200, num_chains=1)
    np.testing.assert_allclose(chains["mu"].mean(), variance * 6.5, atol=0.15)


@pytest.mark.parametrize(
    "name",
    ["latents", "reconstruct", "elbo_surgery", "collapse", "predict", "to_arviz",
     "log_likelihood", "sample_posterior", "resample"],
)  # fmt: skip
def test_evaluation_of_a_vae(gpu: torch.device, name: str) -> None:
    """Data on the CPU, as they are before they are trained on."""
    pair = vae(prior=VampPrior(num_components=3)).to(gpu)
    run = fit(pair.model, pair.guide, X, num_epochs=1, **FAST)
    assert getattr(evaluation, name)(run, X) is not None


def test_generation(gpu: torch.device) -> None:
    pair = vae().to(gpu)
    run = fit(pair.model, pair.guide, X, num_epochs=1, **FAST)
    assert evaluation.generate(run, size=3)["x"].shape == (3, 9)


def test_command_line(gpu: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A run that was trained on a GPU is evaluated, sampled from and reported on."""
    run = str(tmp_path / "run")
    fit_it = f"fit vae --data digits --z-dim 2 --epochs 2 --device {gpu.type} --output {run}"
    for command in (fit_it, f"evaluate {run}", f"sample {run}", f"report {run}", f"compare {run}"):
        assert main(command.split()) in (0, None), command
    assert "ELBO" in capsys.readouterr().out
